"""Partition predicates and keys in SQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import UNPARTITIONED, Granularity, NamedPartitioning, Partitioning
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.base import ModelSlice, Names, Share
from dataops_platform.warehouse.names import Relation, literal, quote


def boundary(partitioning: Partitioning, kind: Kind, moment: datetime, dialect: str = "duckdb") -> str:
    """A local time as a literal of the partition column's kind.

    Raises:
        ValueError: such a column can't partition a table.
    """
    match kind:
        case Kind.DATE:
            return f"DATE '{moment:%Y-%m-%d}'"
        case Kind.DATETIME:
            return f"{_TYPES[dialect][kind]} '{moment:%Y-%m-%d %H:%M:%S}'"
        case Kind.TIMESTAMP:
            instant = moment.replace(tzinfo=ZoneInfo(partitioning.timezone)).astimezone(UTC)
            return f"{_TYPES[dialect][kind]} '{instant:%Y-%m-%d %H:%M:%S}+00'"
        case _:
            raise ValueError(f"a {kind} column can't partition a table")


_TYPES = {
    "duckdb": {Kind.DATETIME: "TIMESTAMP", Kind.TIMESTAMP: "TIMESTAMPTZ"},
    "bigquery": {Kind.DATETIME: "DATETIME", Kind.TIMESTAMP: "TIMESTAMP"},
}


def runs(partitioning: Partitioning, keys: Collection[str]) -> list[tuple[datetime, datetime]]:
    """Partition keys as few half-open intervals of local time: neighbours are joined."""
    intervals: list[tuple[datetime, datetime]] = []
    for key in sorted(keys):
        start = partitioning.parse(key)
        end = partitioning.next(start)
        if intervals and intervals[-1][1] == start:
            intervals[-1] = (intervals[-1][0], end)
        else:
            intervals.append((start, end))
    return intervals


def any_partition(field: str, prefix: str = "", dialect: str = "duckdb") -> str:
    """A predicate that is true for all rows, for tables that require that a query says which partitions it wants."""
    column = prefix + quote(field, dialect)
    return f"({column} IS NULL OR {column} IS NOT NULL)"


def is_one_of(column: str, names: Collection[str], dialect: str = "duckdb") -> str:
    """A predicate that a column's text is one of some names."""
    return f"{column} IN ({', '.join(literal(name, dialect) for name in sorted(names))})" if names else "FALSE"


def in_partitions(table: Table, keys: Collection[str] | None, prefix: str = "", dialect: str = "duckdb") -> str:
    """An SQL predicate that holds for the rows of the given partitions (None: all rows)."""
    partitioning = table.partitioning
    if partitioning is None:
        return "TRUE"
    column = prefix + quote(partitioning.field, dialect)
    if keys is None:
        return any_partition(partitioning.field, prefix, dialect) if table.partition_filter else "TRUE"
    if isinstance(partitioning, NamedPartitioning):
        return is_one_of(column, keys, dialect)
    kind = table.column(partitioning.field).type.kind
    terms = [
        f"({column} >= {boundary(partitioning, kind, start, dialect)}"
        f" AND {column} < {boundary(partitioning, kind, end, dialect)})"
        for start, end in runs(partitioning, keys)
    ]
    return f"({' OR '.join(terms)})" if terms else "FALSE"


def in_slice(model: ModelSlice, keys: Collection[str] | None, dialect: str = "duckdb") -> str:
    """An SQL predicate that holds for a model's rows of the given partitions (None: all rows)."""
    if model.field is None or keys is None:
        return "TRUE"
    if model.by_name:
        return is_one_of(quote(model.field, dialect), keys, dialect)
    cut = Partitioning(model.field, model.granularity, date.min)
    kind = Kind.DATE if dialect == "bigquery" else Kind.DATETIME  # BigQuery compares a date with dates only
    column = quote(model.field, dialect)
    terms = [
        f"({column} >= {boundary(cut, kind, low, dialect)} AND {column} < {boundary(cut, kind, high, dialect)})"
        for low, high in runs(cut, keys)
    ]
    return f"({' OR '.join(terms)})" if terms else "FALSE"


def in_window(relation: Relation, schema: pa.Schema, window: Share, dialect: str = "duckdb") -> str:
    """An SQL predicate that holds for the rows of a time window, or of names, by the partition column's type.

    Args:
        schema: of the relation's rows.

    Dates and times without a zone are in the zone of the partition definition, as the window is.

    Raises:
        ConfigError: there is no such column, or its type can't tell the window's rows from others.
    """
    field = window.field
    kind = next((column.type for column in schema if column.name.lower() == field.lower()), None)
    if kind is None:
        raise ConfigError(f"{relation} has no column {field!r}, which the metadata 'partition_field' names")
    if isinstance(window, Names):
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise ConfigError(f"{relation}: column {field} is {kind}; partitions by name need a text")
        return is_one_of(quote(field, dialect), window.names, dialect)
    start, end = window.start, window.end
    local = start.replace(tzinfo=None), end.replace(tzinfo=None)
    if pa.types.is_date(kind):
        if local[0].time() != local[1].time():
            raise ConfigError(
                f"{relation}: the date column {field} can't tell parts of a day from each other;"
                " partition by whole days, or by a column with a time"
            )
        low, high = (f"DATE '{moment:%Y-%m-%d}'" for moment in local)
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        word = _TYPES[dialect][Kind.TIMESTAMP]
        low, high = (f"{word} '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00'" for moment in (start, end))
    elif pa.types.is_timestamp(kind):
        if local[0] >= local[1]:
            raise ConfigError(
                f"{relation}: {start:%Y-%m-%d %H:%M} comes twice where clocks are put back, and column {field} has no"
                " zone to tell which; use a column with a time zone"
            )
        word = _TYPES[dialect][Kind.DATETIME]
        low, high = (f"{word} '{moment:%Y-%m-%d %H:%M:%S}'" for moment in local)
    else:
        raise ConfigError(f"{relation}: column {field} is {kind}; partitions need a date or a timestamp")
    column = quote(field, dialect)
    return f"{column} >= {low} AND {column} < {high}"


_BIGQUERY_UNITS = {Granularity.WEEK: "ISOWEEK"}
"""Where BigQuery's word means something else: its WEEK begins on Sundays."""


def partition_start(table: Table, prefix: str = "", dialect: str = "duckdb") -> str:
    """An SQL expression for what tells a row's partition: the local start, a DATE for days of a date column, else a
    wall-clock time; of a table that is cut by name, the name.

    The expression is the bare column where it can be, so that grouping by it costs nothing extra.
    """
    partitioning = table.partitioning
    if partitioning is None:
        return "NULL"
    column = prefix + quote(partitioning.field, dialect)
    if isinstance(partitioning, NamedPartitioning):
        return column
    kind = table.column(partitioning.field).type.kind
    if kind is Kind.DATE and partitioning.granularity is Granularity.DAY:
        return column
    if dialect == "bigquery":
        unit = _BIGQUERY_UNITS.get(partitioning.granularity, partitioning.granularity.upper())
        if kind is Kind.DATE:
            return f"DATETIME(DATE_TRUNC({column}, {unit}))"
        local = f"DATETIME({column}, '{partitioning.timezone}')" if kind is Kind.TIMESTAMP else column
        return f"DATETIME_TRUNC({local}, {unit})"
    if kind is Kind.TIMESTAMP:
        column = f"timezone('{partitioning.timezone}', {column})"
    return f"date_trunc('{partitioning.granularity}', {column})"


def partition_start_literal(table: Table, key: str, dialect: str = "duckdb") -> str:
    """A partition's start as a literal that compares equal to `partition_start` of its rows."""
    partitioning = table.partitioning
    assert partitioning is not None, table.name
    if isinstance(partitioning, NamedPartitioning):
        return literal(key, dialect)
    kind = table.column(partitioning.field).type.kind
    local = Kind.DATE if kind is Kind.DATE and partitioning.granularity is Granularity.DAY else Kind.DATETIME
    return boundary(partitioning, local, partitioning.parse(key), dialect)


def key_of(table: Table, value: object) -> str | None:
    """The partition key of what `partition_start` returned; None for a row without one."""
    if table.partitioning is None:
        return UNPARTITIONED
    if value is None:
        return None
    if isinstance(table.partitioning, NamedPartitioning):
        return str(value)
    return table.partitioning.key(datetime.fromisoformat(str(value)))


def key_sql(table: Table, prefix: str = "", dialect: str = "duckdb") -> str:
    """An SQL expression for the partition key as text."""
    partitioning = table.partitioning
    if partitioning is None:
        return literal(UNPARTITIONED, dialect)
    start = partition_start(table, prefix, dialect)
    if isinstance(partitioning, NamedPartitioning):
        return start
    form = literal(partitioning.key_format, dialect)
    if dialect == "bigquery":
        return f"FORMAT_DATETIME({form}, CAST({start} AS DATETIME))"
    return f"strftime({start}, {form})"
