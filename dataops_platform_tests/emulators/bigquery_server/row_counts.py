"""Gap: a table's number of rows is DuckLake's estimate, which ignores deleted rows.

After a DELETE, an UPDATE or a MERGE `numRows` says too much, and so do the bytes derived from it. The project compares
rows loaded with rows in the table, and dbt logs the number.
"""

from __future__ import annotations

from local_bigquery.catalog import tables
from local_bigquery.engine.database import quote
from local_bigquery.models import Table

from bigquery_server import remembered


def apply() -> None:
    original = tables.load

    def load(project_id: str, dataset_id: str, table_id: str) -> Table:
        table = original(project_id, dataset_id, table_id)
        if dataset_id != tables.RESULTS and table.type in ("TABLE", "SNAPSHOT"):
            found = remembered.fetch(project_id, _counted(project_id), [dataset_id, table_id])
            return with_rows(table, int(found[0][0])) if found else table
        return table

    tables.load = load


def _counted(project_id: str) -> str:
    """Rows written less rows deleted, as DuckLake notes them of each file: the table itself needn't be read."""
    meta = quote(f"__ducklake_metadata_{project_id}")
    return (
        "SELECT coalesce(sum(d.record_count - coalesce(x.delete_count, 0)), 0)"
        f" FROM {meta}.ducklake_table AS t JOIN {meta}.ducklake_schema AS c USING (schema_id)"
        f" LEFT JOIN {meta}.ducklake_data_file AS d ON d.table_id = t.table_id AND d.end_snapshot IS NULL"
        f" LEFT JOIN {meta}.ducklake_delete_file AS x ON x.data_file_id = d.data_file_id AND x.end_snapshot IS NULL"
        " WHERE t.end_snapshot IS NULL AND c.end_snapshot IS NULL AND c.schema_name = ? AND t.table_name = ?"
        " GROUP BY t.table_id"
    )


def with_rows(table: Table, rows: int) -> Table:
    """The table's statistics for this number of rows."""
    size = str(tables.logical_bytes(rows, len(tables.fields(table))))
    return table.replace(numRows=str(rows), numBytes=size, numTotalLogicalBytes=size, numActiveLogicalBytes=size)
