"""Models in the embedded warehouse: their fingerprint, their export, and their publication."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from dataops_platform.contracts.partitions import UNPARTITIONED, Granularity
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import EMPTY, ModelSlice, ModelVersion, NoSuchTable, PublicationItem
from dataops_platform.warehouse.duckdb.connection import transaction
from dataops_platform.warehouse.duckdb.tables import append_rows, columns_of
from dataops_platform.warehouse.names import Relation, literal, production, quote
from dataops_platform.warehouse.partition_sql import in_slice

_FORMATS = {Granularity.DAY: "%Y-%m-%d", Granularity.MONTH: "%Y-%m-01", Granularity.HOUR: "%Y-%m-%d-%H:00"}


def _key(model: ModelSlice) -> str:
    if model.field is None:
        return literal(UNPARTITIONED)
    if model.by_name:
        return quote(model.field)
    return f"strftime({quote(model.field)}, '{_FORMATS[model.granularity]}')"


def versions(
    connection: duckdb.DuckDBPyConnection, model: ModelSlice, partitions: Collection[str] | None
) -> dict[str, ModelVersion]:
    """Fingerprint per partition: row count, XOR and sum of the rows' hashes (so order doesn't matter), and columns.

    Equal rows give equal fingerprints; a changed, added or missing row gives another one (64-bit hashes), and so does
    a column of another name or type.
    """
    columns = columns_of(connection, model.relation)
    if not columns:
        raise NoSuchTable(f"{model.relation} doesn't exist; build the model {model.model} first")
    rows = connection.execute(
        # The alias is no column's name: it would stand for that column, not for the row.
        f"SELECT {_key(model)}, count(*), bit_xor(hash(__row)),"
        " sum(CAST(hash(__row) AS HUGEINT)) % 18446744073709551557"
        f" FROM {model.relation.sql} AS __row WHERE {in_slice(model, partitions)} GROUP BY ALL"
    ).fetchall()
    if model.field is not None:
        ((homeless,),) = connection.execute(
            f"SELECT count(*) FROM {model.relation.sql} WHERE {quote(model.field)} IS NULL"
        ).fetchall()
        if homeless:
            raise DataRefused(
                f"{homeless} row(s) of {model.model} belong to no partition, because {model.field} is null:"
                " leave such rows out of the model, and test it for not_null"
            )
    shape = hashlib.sha256(json.dumps(list(columns.items())).encode()).hexdigest()[:8]
    found = {
        key: ModelVersion(f"{count}-{xor:016x}-{int(total):016x}-{shape}", count)
        for key, count, xor, total in rows
        if key is not None and count  # of a constant key there is a group even where there is no row
    }
    asked = [UNPARTITIONED] if model.field is None else (partitions or [])
    return {key: ModelVersion(EMPTY, 0) for key in asked} | found


def export(
    connection: duckdb.DuckDBPyConnection, model: ModelSlice, partitions: Collection[str], folder: Path
) -> dict[str, Path]:
    """One parquet file per partition that has rows. One thread and a fixed order: equal rows give equal bytes."""
    if not columns_of(connection, model.relation):
        raise NoSuchTable(f"{model.relation} doesn't exist; build the model {model.model} first")
    select = f"SELECT * FROM {model.relation.sql} WHERE {in_slice(model, partitions)}"
    if model.field is None:
        path = folder / "all.parquet"
        connection.execute(f"COPY ({select}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        return {UNPARTITIONED: path}
    connection.execute("SET threads = 1; SET partitioned_write_max_open_files = 4")
    target = folder / "partitions"
    connection.execute(
        f"COPY (SELECT *, {_key(model)} AS __partition FROM ({select}) ORDER BY {quote(model.field)})"
        f" TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (__partition))"
    )
    connection.execute("RESET threads")
    result = {}
    for path in sorted(target.glob("__partition=*/*.parquet")) if target.exists() else []:
        key = path.parent.name.removeprefix("__partition=").replace("%3A", ":")
        if key in result:
            raise AssertionError(f"two files for partition {key} of {model.model}")
        result[key] = path
    return result


def publish(
    connection: duckdb.DuckDBPyConnection,
    model: ModelSlice,
    items: Sequence[PublicationItem],
    publication_id: str,
    run_id: str,
) -> None:
    """See `Warehouse.publish`. The rows are fingerprinted again inside the transaction that copies them."""
    partitions = [item.partition_key for item in items]
    target = production(model.model)
    with transaction(connection):
        found = versions(connection, model, partitions)
        other = [i.partition_key for i in items if found[i.partition_key].data_version != i.data_version]
        if other:
            raise changed(model, other)
        _shape(connection, model, target, partitions)
        where = in_slice(model, partitions)
        connection.execute(f"DELETE FROM {target.sql} WHERE {where}")
        connection.execute(f"INSERT INTO {target.sql} BY NAME SELECT * FROM {model.relation.sql} WHERE {where}")
        published_at = ledger.now()
        rows = [
            {
                "publication_id": publication_id,
                "model": model.model,
                "partition_key": item.partition_key,
                "data_version": item.data_version,
                "row_count": found[item.partition_key].row_count,
                "object_prefix": item.object_prefix,
                "run_id": run_id,
                "published_at": published_at,
            }
            for item in items
        ]
        append_rows(connection, "publications", pa.Table.from_pylist(rows, schema=ledger.schema("publications")))


def changed(model: ModelSlice, partitions: Sequence[str]) -> DataRefused:
    """The error for partitions whose rows are not those that were asked for."""
    return DataRefused(
        f"{model.model}: the rows of {_some(partitions)} changed after they were checked; build the model again"
    )


def _shape(
    connection: duckdb.DuckDBPyConnection, model: ModelSlice, target: Relation, partitions: Collection[str]
) -> None:
    """Create the production table, or recreate it where the model's columns changed and everything is published."""
    wanted, actual = columns_of(connection, model.relation), columns_of(connection, target)
    if actual == wanted:
        return
    if actual and model.field is not None:
        rows = connection.execute(f"SELECT DISTINCT {_key(model)} FROM {target.sql}").fetchall()
        missing = sorted({row[0] for row in rows} - set(partitions))
        if missing:
            raise DataRefused(
                f"the columns of {model.model} changed: {target} can only be published with all its partitions,"
                f" {_some(missing)} not asked for. Build and publish the full range."
            )
    connection.execute(f"CREATE OR REPLACE TABLE {target.sql} AS SELECT * FROM {model.relation.sql} LIMIT 0")
    comments = connection.execute(
        "SELECT column_name, comment FROM duckdb_columns()"
        " WHERE schema_name = ? AND table_name = ? AND comment IS NOT NULL",
        [model.relation.schema, model.relation.name],
    ).fetchall()
    for name, comment in comments:
        connection.execute(f"COMMENT ON COLUMN {target.sql}.{quote(name)} IS {literal(comment)}")


def _some(partitions: Sequence[str]) -> str:
    shown = ", ".join(partitions[:3])
    return f"{shown} and {len(partitions) - 3} more" if len(partitions) > 3 else shown
