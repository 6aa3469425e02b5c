"""Gap: a table's number of rows is DuckLake's estimate, which ignores deleted rows.

After a DELETE, an UPDATE or a MERGE `numRows` says too much, and so do the bytes derived from it. The project compares
rows loaded with rows in the table, and dbt logs the number.
"""

from __future__ import annotations

from local_bigquery.catalog import tables
from local_bigquery.engine import database
from local_bigquery.models import Table


def apply() -> None:
    original = tables.load

    def load(project_id: str, dataset_id: str, table_id: str) -> Table:
        table = original(project_id, dataset_id, table_id)
        physical = dataset_id != tables.RESULTS and table.type in ("TABLE", "SNAPSHOT")
        if physical and database.objects(project_id, dataset_id, table_id):
            name = tables.name(project_id, dataset_id, table_id)
            (rows,) = database.fetch(f"SELECT count(*) FROM {name}")[0]
            return with_rows(table, rows)
        return table

    tables.load = load


def with_rows(table: Table, rows: int) -> Table:
    """The table's statistics for this number of rows."""
    size = str(tables.logical_bytes(rows, len(tables.fields(table))))
    return table.replace(numRows=str(rows), numBytes=size, numTotalLogicalBytes=size, numActiveLogicalBytes=size)
