"""Gap: partition decorators, `table$20240101`, aren't understood.

Unpatched, a load job or a query with such a destination writes to a table of that very name and reports success, and a
copy, an extract or a delete doesn't find the partition. The project replaces, copies, exports and deletes single
partitions this way: it is what makes a replaced day one step, and cheap.

Understood are years, months, days and hours, by column or by ingestion time, and `$__NULL__`, in: destinations of load
jobs, queries and copies; sources of copies and extracts; `tables.get`, `tables.delete` and `tabledata.list`. As in the
real service, rows outside the partition are refused, and an overwrite is one transaction (not so within a session).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
from local_bigquery.catalog import metadata, names, tabledata, tables
from local_bigquery.engine import database, results
from local_bigquery.engine.database import quote
from local_bigquery.errors import BigQueryError
from local_bigquery.jobs import copy, runner
from local_bigquery.models import JobConfigurationExtract, JobStatistics4, Table, TableFieldSchema

from bigquery_server.extracts import extract_query
from bigquery_server.row_counts import with_rows

UNITS = {"YEAR": "%Y", "MONTH": "%Y%m", "DAY": "%Y%m%d", "HOUR": "%Y%m%d%H"}
NULLS = "__NULL__"
LITERALS = {"DATE": "DATE '{:%Y-%m-%d}'", "DATETIME": "TIMESTAMP '{}'", "TIMESTAMP": "TIMESTAMPTZ '{}+00'"}

Reference = tuple[str, str, str]

_load = tables.load
"""As it is before this patch."""


@dataclass(frozen=True)
class Partition:
    """A partition of a table; `field` is None where rows belong to the time they came in."""

    table: Reference
    id: str
    unit: str
    field: str | None
    type: str

    @property
    def label(self) -> str:
        return f"{names.label(*self.table)}${self.id}"

    @property
    def start(self) -> str:
        return LITERALS[self.type].format(datetime.strptime(self.id, UNITS[self.unit]))

    @property
    def predicate(self) -> str:
        column = quote(self.field or tables.INGESTION_TIME)
        if self.id == NULLS:
            return f"({column} IS NULL)"
        return f"({column} >= {self.start} AND {column} < {self.start} + INTERVAL 1 {self.unit})"

    @property
    def rows(self) -> str:
        """A relation of its rows, without hidden columns."""
        hidden = "" if self.field else f" EXCLUDE ({quote(tables.INGESTION_TIME)})"
        return f"(SELECT *{hidden} FROM {tables.name(*self.table)} WHERE {self.predicate})"

    def count(self) -> int:
        (count,) = database.fetch(f"SELECT count(*) FROM {self.rows}")[0]
        return int(count)


def apply() -> None:
    global _load
    _load = tables.load
    _lock_reentrantly()
    _load_partitions()
    _write_partitions()
    _delete_partitions()
    _copy_partitions()
    _extract_partitions()
    _list_partitions()
    _describe_tables()


def split(reference: Reference) -> tuple[Reference, str | None]:
    """The table, and the partition if the name is decorated."""
    name, dollar, partition = reference[2].partition("$")
    return (*reference[:2], name), partition if dollar else None


def find(reference: Reference) -> Partition | None:
    """The partition that a decorated name means; None for a name without a decorator."""
    table, partition_id = split(reference)
    if partition_id is None or table[1] == tables.RESULTS:
        return None
    resource = _load(*table)
    partitioning = (metadata.load(Table, *table) or Table()).timePartitioning
    if partitioning is None:
        raise BigQueryError("invalid", f"Table {names.label(*table)} isn't partitioned by time: {partition_id}")
    unit, field = (partitioning.type or "DAY").upper(), partitioning.field
    if partition_id != NULLS:
        _check(table, partition_id, unit)
    declared = {column.name.casefold(): column.type for column in tables.fields(resource)}
    kind = declared.get(field.casefold(), "TIMESTAMP") if field else "TIMESTAMP"
    return Partition(table, partition_id, unit, field, kind)


def _check(table: Reference, partition_id: str, unit: str) -> None:
    """Whether the decorator is of the table's granularity. `strptime` alone would also take shorter ones."""
    try:
        if datetime.strptime(partition_id, UNITS[unit]).strftime(UNITS[unit]) == partition_id:
            return
    except ValueError:
        pass
    raise BigQueryError("invalid", f"Invalid partition of {names.label(*table)} by {unit}: {partition_id}")


def _lock_reentrantly() -> None:
    """A write takes the lock of its table; the overwrite of a partition holds it around a delete and a write."""
    guard = threading.Lock()
    locks: dict[tuple[str, ...], threading.RLock] = {}

    @contextmanager
    def writing(*table: str) -> Iterator[None]:
        with guard:
            lock = locks.setdefault(tuple(part.casefold() for part in table), threading.RLock())
        with lock:
            yield

    database.writing = writing


def _load_partitions() -> None:
    def load(project_id: str, dataset_id: str, table_id: str) -> Table:
        partition = find((project_id, dataset_id, table_id))
        if partition is None:
            return _load(project_id, dataset_id, table_id)
        return with_rows(_load(*partition.table), partition.count())

    tables.load = load


def _write_partitions() -> None:
    original = tables.write

    def write(
        cur: duckdb.DuckDBPyConnection,
        query: str,
        params: dict[str, Any] | None,
        reference: Reference,
        config: tables.Destination,
        default: str = "WRITE_EMPTY",
        prefix: str = "Invalid schema update. ",
        isolated: bool = False,
    ) -> bool:
        table, partition_id = split(reference)
        if partition_id is None or table[1] == tables.RESULTS:
            return original(cur, query, params, reference, config, default, prefix, isolated)
        created = not tables.exists(*table)
        if created:
            if not getattr(config, "timePartitioning", None):
                raise BigQueryError("invalid", f"{names.label(*table)} doesn't exist and no partitioning is given")
            original(cur, f"SELECT * FROM ({query}) LIMIT 0", params, table, config, default, prefix, isolated)
        try:
            partition = find(reference)
            append = config.replace(writeDisposition="WRITE_APPEND")
            with _set_aside(cur, query, params, partition) as rows, database.writing(*table):
                disposition = config.writeDisposition or default
                if disposition == "WRITE_EMPTY" and partition.count():
                    raise tables.already_exists("Table", partition.label)
                with _transaction(cur, isolated) as writer:
                    if disposition == "WRITE_TRUNCATE":
                        writer.execute(f"DELETE FROM {tables.name(*table)} WHERE {partition.predicate}")
                    original(cur, f"SELECT * FROM {rows}", None, table, append, default, prefix, isolated)
        except Exception:
            if created:
                tables.delete(*table)
            raise
        return created

    tables.write = write


@contextmanager
def _set_aside(
    cur: duckdb.DuckDBPyConnection, query: str, params: dict[str, Any] | None, partition: Partition
) -> Iterator[str]:
    """The query's rows in a temporary table: it may read the very partition that it is to replace."""
    name = f'temp.main."__partition_{uuid.uuid4().hex}"'
    if not partition.field:
        query = f"SELECT *, {partition.start} AS {quote(tables.INGESTION_TIME)} FROM ({query})"
    cur.execute(f"CREATE TEMP TABLE {name} AS {query}", params)
    try:
        outside = f"SELECT count(*) FROM {name} WHERE NOT coalesce({partition.predicate}, false)"
        if partition.field and cur.execute(outside).fetchone()[0]:
            raise BigQueryError("invalid", f"Some rows belong to other partitions than {partition.label}")
        yield name
    finally:
        cur.execute(f"DROP TABLE {name}")


@contextmanager
def _transaction(cur: duckdb.DuckDBPyConnection, isolated: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    if isolated:  # in a session, which may have a transaction of its own, `write` uses another connection as well
        with database.cursor() as writer:
            yield writer
        return
    cur.execute("BEGIN")
    try:
        yield cur
        cur.execute("COMMIT")
    except Exception:
        cur.execute("ROLLBACK")
        raise


def _delete_partitions() -> None:
    original = tables.delete

    def delete(project_id: str, dataset_id: str, table_id: str) -> None:
        partition = find((project_id, dataset_id, table_id))
        if partition is None:
            original(project_id, dataset_id, table_id)
            return
        with database.writing(*partition.table):
            database.execute(f"DELETE FROM {tables.name(*partition.table)} WHERE {partition.predicate}")

    tables.delete = delete


def _copy_partitions() -> None:
    original = copy._source

    def source(reference: Reference) -> str:
        partition = find(reference)
        return partition.rows if partition else original(reference)

    copy._source = source


def _extract_partitions() -> None:
    original = runner.HANDLERS["extract"]

    def run(cur: duckdb.DuckDBPyConnection, config: JobConfigurationExtract, upload: str | None) -> JobStatistics4:
        partition = find(tables.reference(config.sourceTable))
        if partition is None:
            return original(cur, config, upload)
        return extract_query(cur, f"SELECT * FROM {partition.rows}", config)

    runner.HANDLERS["extract"] = run


def _list_partitions() -> None:
    """Also the results of a query whose destination is a partition."""
    original = tabledata.list_rows

    def list_rows(
        project_id: str,
        dataset_id: str,
        table_id: str,
        max_results: int | None,
        start: int,
        selected_fields: str | None,
        int64_timestamps: bool,
    ) -> tuple[results.Page, list[TableFieldSchema]]:
        page = (max_results, start)
        partition = find((project_id, dataset_id, table_id))
        if partition is None:
            return original(project_id, dataset_id, table_id, *page, selected_fields, int64_timestamps)
        visible = tables.columns(*partition.table)
        chosen = [name.strip().casefold() for name in selected_fields.split(",")] if selected_fields else None
        fields = [field for field in visible if chosen is None or field.name.casefold() in chosen]
        source = f"(SELECT rowid, * FROM {tables.name(*partition.table)} WHERE {partition.predicate})"
        with database.cursor() as cur:
            found = results.page(cur, source, *page, [field.name.casefold() for field in fields], int64_timestamps)
        return found, fields

    tabledata.list_rows = list_rows


def _describe_tables() -> None:
    """The rest of a load job asks for the columns of its destination and notes its schema: those of the table."""
    columns, annotate = tables.columns, tables.annotate

    def columns_of(project_id: str, dataset_id: str, table_id: str) -> list[TableFieldSchema]:
        table, _ = split((project_id, dataset_id, table_id))
        return columns(*table)

    def annotate_table(reference: Reference, changes: Table) -> None:
        annotate(split(reference)[0], changes)

    tables.columns = columns_of
    tables.annotate = annotate_table
