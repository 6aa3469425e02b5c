"""Small results from Python on BigQuery: loaded as parquet, under a schema that is never inferred."""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.google_errors import ONCE
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import Names, Share
from dataops_platform.warehouse.bigquery.jobs import JobFailed, Jobs, job_name
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.bigquery.tables import quarantine_schema
from dataops_platform.warehouse.held import HeldRows, reasons_sql
from dataops_platform.warehouse.names import LEDGER, REASONS, Relation, quarantine, quote
from dataops_platform.warehouse.partition_sql import in_window

DIALECT = "bigquery"
STAGE_HOURS = 1
"""After this a table of rows about to be written is dropped by BigQuery, whatever became of the write."""
_EXAMPLE_LENGTH = 200
_NUMERIC_DIGITS, _NUMERIC_SCALE = 29, 9
"""Digits before and after the point that a NUMERIC holds; see BigQuery's documentation of data types."""


def schema_of(schema: pa.Schema) -> list[bigquery.SchemaField]:
    """The columns of an Arrow schema on BigQuery, names as they are.

    Raises:
        ConfigError: a column's type has no counterpart.
    """
    return [_field(field.name, field.type) for field in schema]


def _field(name: str, kind: pa.DataType) -> bigquery.SchemaField:
    if pa.types.is_dictionary(kind):
        return _field(name, kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _field(name, kind.value_type)
        if item.mode == "REPEATED":
            raise ConfigError(f"column {name}: BigQuery has no lists of lists; wrap the inner list in a struct")
        return bigquery.SchemaField(name, item.field_type, "REPEATED", fields=item.fields)
    if pa.types.is_struct(kind):
        inner = [_field(kind.field(i).name, kind.field(i).type) for i in range(kind.num_fields)]
        return bigquery.SchemaField(name, "RECORD", fields=inner)
    found = _scalar(kind)
    if found is None:
        raise ConfigError(f"column {name}: BigQuery has no type for {kind}; convert it to text or a number first")
    return bigquery.SchemaField(name, found)


def _scalar(kind: pa.DataType) -> str | None:
    if pa.types.is_decimal(kind):
        fits = kind.scale <= _NUMERIC_SCALE and kind.precision - kind.scale <= _NUMERIC_DIGITS
        return "NUMERIC" if fits else "BIGNUMERIC"
    if pa.types.is_timestamp(kind):
        return "DATETIME" if kind.tz is None else "TIMESTAMP"
    if pa.types.is_uint64(kind):
        return "NUMERIC"  # half of its values are no INT64
    for belongs, name in _SCALARS:
        if belongs(kind):
            return name
    return None


_SCALARS = (
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_integer, "INTEGER"),
    (pa.types.is_floating, "FLOAT"),
    (pa.types.is_string, "STRING"),
    (pa.types.is_large_string, "STRING"),
    (pa.types.is_null, "STRING"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_time, "TIME"),
    (pa.types.is_binary, "BYTES"),
    (pa.types.is_large_binary, "BYTES"),
)


class Rows:
    """Writes small results into tables of a project."""

    def __init__(self, jobs: Jobs, naming: Naming) -> None:
        self._jobs = jobs
        self._naming = naming

    def load(
        self, reference: bigquery.TableReference, rows: pa.Table, disposition: str, schema: list[bigquery.SchemaField]
    ) -> None:
        """Load rows by one job, which is all or nothing; the table is created if need be.

        Args:
            disposition: a `WriteDisposition`.
        """
        content = io.BytesIO()
        pq.write_table(_parquet(rows), content)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=disposition,
            schema=schema,
            labels=self._jobs.labels(),
        )
        config.parquet_options = bigquery.ParquetOptions.from_api_repr({"enableListInference": True})

        def start(job_id: str) -> bigquery.LoadJob:
            content.seek(0)
            return self._jobs.client.load_table_from_file(
                content, reference, job_id=job_id, location=self._jobs.location, job_config=config
            )

        self._jobs.run(job_name("rows", reference, uuid.uuid4()), start)

    def insert(self, relation: Relation, rows: pa.Table, schema: Sequence[bigquery.SchemaField]) -> None:
        """Append rows of plain columns by one statement, which has them as a parameter."""
        names = [field.name for field in schema if field.name in rows.column_names]
        kinds = {field.name: _SQL_TYPES.get(field.field_type, field.field_type) for field in schema}
        values = ", ".join(f"CAST(JSON_VALUE(r, '$.{name}') AS {kinds[name]})" for name in names)
        columns = ", ".join(quote(name, DIALECT) for name in names)
        sql = (
            f"INSERT INTO {self._naming.sql(relation)} ({columns})"
            f" SELECT {values} FROM UNNEST(JSON_QUERY_ARRAY(@rows)) AS r"
        )
        text = json.dumps([{k: _plain(v) for k, v in row.items() if v is not None} for row in rows.to_pylist()])
        config = self._jobs.query_config(query_parameters=[bigquery.ScalarQueryParameter("rows", "STRING", text)])
        self._jobs.run(
            job_name("append", relation, uuid.uuid4()),
            lambda job_id: self._jobs.client.query(
                sql, job_config=config, job_id=job_id, location=self._jobs.location, retry=ONCE, job_retry=None
            ),
        )

    def replace(self, relation: Relation, rows: pa.Table, window: Share | None, held: HeldRows | None) -> None:
        """See `Warehouse.replace_rows`."""
        schema = schema_of(rows.schema)
        reference = self._naming.reference(relation)
        self._ensure_dataset(relation)
        try:
            if window is None and (held is None or self._changed(reference, schema)):
                if held is not None:
                    with self._held(held, None) as statements:
                        self._together(relation, statements)
                # One job: whoever reads the table sees the rows of before, or these.
                self.load(reference, rows, bigquery.WriteDisposition.WRITE_TRUNCATE, schema)
                return
            where = in_window(relation, rows.schema, window, DIALECT) if window is not None else None
            with self._staged(rows, schema) as stage, self._held(held, where) as statements:
                if where is not None:
                    self._refuse_others(relation, stage, where, rows.num_rows)
                existing = self._table(relation, schema, window)
                self._refuse_another_schema(relation, schema, existing.schema)
                names = [field.name for field in schema]
                self._together(relation, [*self._swap(relation, stage, where or "TRUE", names), *statements])
        except JobFailed as error:
            raise ConfigError(f"{relation} can't be written: {error.text}") from error

    def _changed(self, reference: bigquery.TableReference, schema: Sequence[bigquery.SchemaField]) -> bool:
        """Whether there is a table that has other columns."""
        with self._jobs.words("read a table in"):
            try:
                existing = self._jobs.client.get_table(reference, retry=self._jobs.retry)
            except api.NotFound:
                return False
        return {f.name: (f.field_type, f.mode) for f in existing.schema} != {
            f.name: (f.field_type, f.mode) for f in schema
        }

    @contextmanager
    def _held(self, held: HeldRows | None, where: str | None) -> Iterator[list[str]]:
        """The statements that replace what quarantine has of an asset."""
        if held is None:
            yield []
            return
        target = self._naming.sql(quarantine(held.table.name))
        delete = f"DELETE FROM {target} WHERE {held.replaced(where, DIALECT)}"
        if not held.rows.num_rows:
            yield [delete]
            return
        wanted = quarantine_schema(held.table, {})
        # A load job makes text of JSON, a statement makes JSON of it.
        schema = [_staged_field(field) for field in wanted]
        made = {f.name: f"PARSE_JSON({quote(f.name, DIALECT)})" for f in wanted if f.field_type == "JSON"}
        made[REASONS] = reasons_sql(where, DIALECT)
        columns = [quote(field.name, DIALECT) for field in wanted]
        values = [made.get(field.name, column) for field, column in zip(wanted, columns, strict=True)]
        with self._staged(held.quarantined(ledger.now()), schema) as stage:
            insert = (
                f"INSERT INTO {target} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {self._naming.sql(stage)}"
            )
            yield [delete, insert]

    def _ensure_dataset(self, relation: Relation) -> None:
        made = bigquery.Dataset(self._naming.dataset(relation.schema))
        if self._jobs.location:
            made.location = self._jobs.location
        with self._jobs.words("create a dataset in"):
            try:
                # Asked first: who may not create datasets isn't told that one is there already.
                self._jobs.client.get_dataset(made.reference, retry=self._jobs.retry)
            except api.NotFound:
                self._jobs.client.create_dataset(made, exists_ok=True, retry=self._jobs.retry)

    @contextmanager
    def _staged(self, rows: pa.Table, schema: list[bigquery.SchemaField]) -> Iterator[Relation]:
        """The rows in a table of their own, which expires."""
        relation = Relation(LEDGER, f"_stage_{uuid.uuid4().hex}")
        table = bigquery.Table(self._naming.reference(relation), schema=schema)
        table.expires = ledger.now() + timedelta(hours=STAGE_HOURS)
        with self._jobs.words("create a table in"):
            self._jobs.client.create_table(table, exists_ok=True, retry=self._jobs.retry)
        try:
            self.load(table.reference, rows, bigquery.WriteDisposition.WRITE_TRUNCATE, schema)
            yield relation
        finally:
            with self._jobs.words("drop a table in"):
                self._jobs.client.delete_table(table.reference, not_found_ok=True, retry=self._jobs.retry)

    def _table(self, relation: Relation, schema: list[bigquery.SchemaField], window: Share | None) -> bigquery.Table:
        """The table as it is; made, cut or clustered by the window's field, where there is none."""
        made = bigquery.Table(self._naming.reference(relation), schema=schema)
        if window is not None:
            field = next(field.name for field in schema if field.name.lower() == window.field.lower())
        if isinstance(window, Names):  # BigQuery has no partitions by name
            made.clustering_fields = [field]
        elif window is not None:
            hourly = (window.end - window.start) < timedelta(days=1)
            unit = bigquery.TimePartitioningType.HOUR if hourly else bigquery.TimePartitioningType.DAY
            made.time_partitioning = bigquery.TimePartitioning(type_=unit, field=field)
        with self._jobs.words("create a table in"):
            try:
                return self._jobs.client.get_table(made.reference, retry=self._jobs.retry)
            except api.NotFound:
                return self._jobs.client.create_table(made, exists_ok=True, retry=self._jobs.retry)

    def _query(self, sql: str) -> Sequence[bigquery.Row]:
        return self._jobs.select(sql, self._jobs.query_config())

    def _refuse_others(self, relation: Relation, stage: Relation, where: str, total: int) -> None:
        """Refuse rows outside the window: no later write of the same would delete them, so they'd multiply."""
        (row,) = self._query(
            f"SELECT COUNT(*) AS n, ANY_VALUE(TO_JSON_STRING(r)) AS example FROM {self._naming.sql(stage)} AS r"
            f" WHERE ({where}) IS NOT TRUE"
        )
        if row["n"]:
            raise DataRefused(
                f"{relation}: {row['n']} of {total} rows are outside the partitions of this run ({where}),"
                f" like {row['example'][:_EXAMPLE_LENGTH]}; nothing was written"
            )

    def _refuse_another_schema(
        self, relation: Relation, schema: Sequence[bigquery.SchemaField], existing: Sequence[bigquery.SchemaField]
    ) -> None:
        """Refuse rows whose columns aren't those of the table; an integer may be one where the table has decimals."""
        found = {field.name: field for field in schema}
        known = {field.name: field for field in existing}
        lines = [f"column {name} is new" for name in found if name not in known]
        lines += [f"column {name} is missing" for name in known if name not in found]
        lines += [
            f"column {name} is {_spelled(found[name])}, the table has {_spelled(field)}"
            for name, field in known.items()
            if name in found and not _holds(field, found[name])
        ]
        if lines:
            raise ConfigError(
                f"{relation}: the rows don't fit the table, which holds other partitions too: {'; '.join(lines)}."
                " Nothing was written. Return the same columns and types as before, or drop the table and materialise"
                " all its partitions anew."
            )

    def _swap(self, relation: Relation, stage: Relation, where: str, names: Sequence[str]) -> list[str]:
        target = self._naming.sql(relation)
        columns = ", ".join(quote(name, DIALECT) for name in names)
        return [
            f"DELETE FROM {target} WHERE {where}",
            f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {self._naming.sql(stage)}",
        ]

    def _together(self, relation: Relation, statements: Sequence[str]) -> None:
        """Run statements in one transaction."""
        sql = "\n".join(f"{line};" for line in ("BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"))
        config = self._jobs.query_config(self._jobs.labels(dataops_step="write"))
        self._jobs.run(
            job_name("write", relation, uuid.uuid4()),
            lambda job_id: self._jobs.client.query(
                sql, job_config=config, job_id=job_id, location=self._jobs.location, job_retry=None
            ),
        )


def _staged_field(field: bigquery.SchemaField) -> bigquery.SchemaField:
    """A column of a quarantine table as a load job can fill it: parquet's columns may all be null, and JSON is text."""
    if field.field_type == "JSON":
        return bigquery.SchemaField(field.name, "STRING")
    mode = "NULLABLE" if field.mode == "REQUIRED" else field.mode
    return bigquery.SchemaField.from_api_repr(field.to_api_repr() | {"mode": mode})


_SQL_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def _plain(value: object) -> object:
    """A value as JSON has it, so that its text can be cast back."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(rows: pa.Table) -> pa.Table:
    """Rows with the types that a load job reads as `schema_of` says."""
    columns = []
    for column in rows.columns:
        if pa.types.is_null(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_uint64(column.type):
            column = column.cast(pa.decimal128(20, 0))
        elif pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        columns.append(column)
    return pa.Table.from_arrays(columns, names=rows.column_names)


_WIDER = {"FLOAT": {"INTEGER"}, "NUMERIC": {"INTEGER"}, "BIGNUMERIC": {"INTEGER", "NUMERIC"}}


def _holds(field: bigquery.SchemaField, other: bigquery.SchemaField) -> bool:
    """Whether a column takes every value of another."""
    if (field.field_type, field.mode == "REPEATED") == (other.field_type, other.mode == "REPEATED"):
        return [f.to_api_repr() for f in field.fields] == [f.to_api_repr() for f in other.fields]
    return other.mode != "REPEATED" and other.field_type in _WIDER.get(field.field_type, set())


def _spelled(field: bigquery.SchemaField) -> str:
    return f"{field.field_type} REPEATED" if field.mode == "REPEATED" else str(field.field_type)
