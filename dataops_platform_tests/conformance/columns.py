"""Data of definition files as tables of ours: types from the file's schemas, or from the values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

ROW = "row_of_the_file"
"""A column of our own: the number of the row, from 0."""

SCHEMAS = ("postgresql", "sqlite", "mysql", "spark", "bigquery", "redshift", "trino", "snowflake", "mssql", "pandas")
"""Whose types count, the first that a file has."""

TYPES = {
    "integer": {
        "INTEGER", "INT", "BIGINT", "SMALLINT", "INT64", "INTEGERTYPE", "LONGTYPE", "SHORTTYPE", "BYTETYPE", "TINYINT",
        "INT_", "INT32", "INT16", "INT8", "LONG", "DECIMALINT", "NUMBERINT",
    },
    "number": {
        "FLOAT", "DOUBLE", "REAL", "DOUBLE_PRECISION", "DOUBLE PRECISION", "FLOAT64", "FLOATTYPE", "DOUBLETYPE",
        "NUMERIC", "DECIMAL", "NUMBER", "FLOAT_", "FLOAT32", "DECIMALTYPE",
    },
    "string": {
        "TEXT", "VARCHAR", "STRING", "STRINGTYPE", "CHAR", "NVARCHAR", "STR", "STR_", "OBJECT", "NULL", "NULLTYPE",
        "UUID",
    },
    "boolean": {"BOOLEAN", "BOOL", "BOOLEANTYPE", "BIT", "BOOL_", "TINYINT"},
    "date": {"DATE", "DATETYPE"},
    "timestamp": {
        "TIMESTAMP", "DATETIME", "TIMESTAMPTYPE", "DATETIME2", "DATETIME64", "TIMESTAMPTZ",
        "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "DATETIMEOFFSET", "DATETIME_TZ", "TIMESTAMP WITH TIME ZONE",
    },
}  # fmt: skip
"""Our logical types → what engines call them, in upper case, without parameters."""


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Mixed(Exception):
    """A column that no table can have; the message says why."""


def logical(name: str) -> list[str]:
    """Our logical types for an engine's type: none, one, or two where it stands for both."""
    plain = name.upper().split("(")[0].strip()
    return [ours for ours, theirs in TYPES.items() if plain in theirs]


@dataclass(frozen=True)
class Typed:
    """A data set that a table can hold.

    Attributes:
        types: logical type of each column.
        values: of each column, as Python has them.
        without: columns that no table can hold, and why.
    """

    types: Mapping[str, str]
    values: Mapping[str, list[Any]]
    without: Mapping[str, str]


def typed(data: Mapping[str, Sequence[Any]], schemas: Mapping[str, Mapping[str, str]]) -> Typed:
    """The columns of some data with their types."""
    declared: Mapping[str, str] = next((schemas[name] for name in SCHEMAS if schemas.get(name)), {})
    types: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    without: dict[str, str] = {}
    for name, values in data.items():
        wanted = logical(str(declared[name])) if name in declared else []
        try:
            if not _NAME.fullmatch(name) or name == ROW:
                raise Mixed(f"{name!r} can't be a column's name here")
            types[name], columns[name] = _column(name, list(values), wanted)
        except Mixed as reason:
            without[name] = str(reason)
    return Typed(types, columns, without)


def _column(name: str, values: Sequence[Any], wanted: Sequence[str]) -> tuple[str, list[Any]]:
    for kind in (*wanted, _inferred(name, values)):
        try:
            return kind, [None if value is None else _value(value, kind) for value in values]
        except (ValueError, TypeError):
            continue
    raise Mixed(f"column {name} has no common type")


def _inferred(name: str, values: Sequence[Any]) -> str:
    found = {type(value) for value in values if value is not None}
    if not found or found == {str}:
        return "string"
    if found == {bool}:
        return "boolean"
    if found == {int}:
        return "integer"
    if found <= {int, float}:
        return "number"
    raise Mixed(f"column {name} mixes {', '.join(sorted(kind.__name__ for kind in found))}")


def _value(value: Any, kind: str) -> Any:
    match kind:
        case "string" if isinstance(value, str):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "integer" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "date" if isinstance(value, str):
            return date.fromisoformat(value[:10])
        case "timestamp" if isinstance(value, str):
            return moment(value)
    raise TypeError(value)


_FORMS = (
    "%b %d %Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y",
    "%b %d %Y",
    "%m/%d/%y",
    "%Y/%m/%d",
    "%Y-%m-%d %H:%M:%S.%f %z",
    "%Y-%m-%d %H:%M:%S %z",
)


def moment(text: str) -> datetime:
    """An instant as files write it; without a zone it is in UTC.

    Raises:
        ValueError: it isn't one.
    """
    for form in (None, *_FORMS):
        try:
            found = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)
        except ValueError:
            continue
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    raise ValueError(text)
