"""Not a gap but its speed: what the server asks DuckDB's catalog about a table is asked of that table's project alone.

`duckdb_tables()`, `duckdb_columns()` and `duckdb_schemas()` walk all that is in all projects, several times for each
request: with a few dozen tables that is most of the server's work. DuckLake's own metadata answer the same in a
fraction of the time. A question is known by its text: if the server asks in other words, it is answered as before.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import duckdb
from local_bigquery.catalog import tables
from local_bigquery.engine import database, results
from local_bigquery.engine.database import quote
from local_bigquery.jobs import query
from local_bigquery.models import TableFieldSchema

from bigquery_server import remembered

Objects = list[tuple[str, str, int]]
Rows = list[tuple[Any, ...]]

REQUIRED = (
    "SELECT column_name FROM duckdb_columns() WHERE database_name = ? "
    "AND schema_name = ? AND table_name = ? AND NOT is_nullable"
)
COLUMN = (
    "SELECT 1 FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ? AND column_name = ?"
)
SCHEMA = "SELECT 1 FROM duckdb_schemas() WHERE database_name = ? AND schema_name = ?"
DDL = ("CREATE ", "ALTER ", "DROP ")
TEMPORARY = "SELECT table_name FROM duckdb_tables() WHERE temporary"


def apply() -> None:
    original, fetch = database.objects, database.fetch

    def objects(project_id: str, dataset_id: str, table_id: str | None = None) -> Objects:
        if project_id in database._attached:
            return _of_project(project_id, dataset_id, table_id)
        if (project_id, dataset_id) == ("emulator", tables.RESULTS) and table_id is not None:
            return _of_result(table_id)
        return original(project_id, dataset_id, table_id)

    def quick(sql: str, params: Sequence[Any] | None = None) -> Rows:
        answer = QUESTIONS.get(sql)
        if answer is not None and params and params[0] in database._attached:
            return remembered.fetch(params[0], answer(params[0]), params[1:])
        if sql == REQUIRED and params and list(params[:2]) == ["emulator", tables.RESULTS]:
            return []  # a query's results are made by queries, whose columns have no constraints
        return fetch(sql, params)

    database.objects, database.fetch = objects, quick
    _note_results()
    _one_thread()
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type] # DuckDB looks for it at every parameter, in vain
    _columns_once()
    _without_temporary()
    _one_after_the_other()


def _columns(project: str) -> str:
    meta = _meta(project)
    return (
        f"FROM {meta}.ducklake_column AS f JOIN {meta}.ducklake_table AS t USING (table_id)"
        f" JOIN {meta}.ducklake_schema AS c USING (schema_id)"
        " WHERE f.end_snapshot IS NULL AND t.end_snapshot IS NULL AND c.end_snapshot IS NULL"
        " AND f.parent_column IS NULL AND c.schema_name = ? AND t.table_name = ?"
    )


QUESTIONS: dict[str, Callable[[str], str]] = {
    REQUIRED: lambda project: f"SELECT f.column_name {_columns(project)} AND NOT f.nulls_allowed",
    COLUMN: lambda project: f"SELECT 1 {_columns(project)} AND f.column_name = ?",
    SCHEMA: lambda project: (
        f"SELECT 1 FROM {_meta(project)}.ducklake_schema WHERE end_snapshot IS NULL AND schema_name = ?"
    ),
}


def _meta(project: str) -> str:
    return quote(f"__ducklake_metadata_{project}")


def _of_project(project_id: str, dataset_id: str, table_id: str | None) -> Objects:
    meta = _meta(project_id)
    return remembered.fetch(
        project_id,
        f"SELECT t.table_name, 'TABLE', coalesce(s.record_count, 0) FROM {meta}.ducklake_table AS t"
        f" JOIN {meta}.ducklake_schema AS c USING (schema_id)"
        f" LEFT JOIN {meta}.ducklake_table_stats AS s USING (table_id)"
        " WHERE t.end_snapshot IS NULL AND c.end_snapshot IS NULL AND c.schema_name = $1"
        " AND t.table_name = coalesce($2, t.table_name)"
        f" UNION ALL SELECT v.view_name, 'VIEW', 0 FROM {meta}.ducklake_view AS v"
        f" JOIN {meta}.ducklake_schema AS c USING (schema_id)"
        " WHERE v.end_snapshot IS NULL AND c.end_snapshot IS NULL AND c.schema_name = $1"
        " AND v.view_name = coalesce($2, v.view_name) ORDER BY 1",
        [dataset_id, table_id],
    )


_results: set[str] = set()
"""Of queries: those that were ever made. To say that a table isn't there DuckDB looks through all that are."""


def _note_results() -> None:
    original = results.materialise

    def materialise(cur: Any, query: str, name: str, *args: Any, **options: Any) -> None:
        original(cur, query, name, *args, **options)
        _results.add(name)

    results.materialise = materialise


def _of_result(table_id: str) -> Objects:
    name = quote("emulator", tables.RESULTS, table_id)
    if name not in _results:
        return []
    try:
        (rows,) = database.fetch(f"SELECT count(*) FROM {name}")[0]
    except duckdb.CatalogException:
        return []
    return [(table_id, "TABLE", rows)]


def _one_thread() -> None:
    """Of the engine, whose tables are small here: several only wait for each other."""
    original = database._connect

    @functools.cache
    def connect() -> duckdb.DuckDBPyConnection:
        made = original()
        made.execute("SET threads = 1")
        return made

    database._connect = connect


def _columns_once() -> None:
    """A table's columns are looked at again when anything in its project was made, altered or dropped."""
    original = tables.columns
    known: dict[tuple[str, str, str], tuple[int, list[TableFieldSchema]]] = {}

    def columns(project_id: str, dataset_id: str, table_id: str) -> list[TableFieldSchema]:
        key = project_id, dataset_id, table_id
        if dataset_id == tables.RESULTS or project_id not in database._attached:
            return original(*key)
        snapshots = f"{_meta(project_id)}.ducklake_snapshot"
        newest = f"SELECT schema_version FROM {snapshots} ORDER BY snapshot_id DESC LIMIT 1"
        ((version,),) = remembered.fetch(project_id, newest)
        if key not in known or known[key][0] != version:
            known[key] = version, original(*key)
        return list(known[key][1])

    tables.columns = columns


class _NothingTemporary:
    """A cursor that has no temporary tables yet."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def sql(self, statement: str, **options: Any) -> Any:
        if statement == TEMPORARY:
            statement = "SELECT '' WHERE false"
        return self._cursor.sql(statement, **options)


def _without_temporary() -> None:
    """A query outside of a session has a cursor of its own."""
    original = query.execute

    def execute(cur: Any, *args: Any, session: Any = None, **options: Any) -> Any:
        return original(cur if session else _NothingTemporary(cur), *args, session=session, **options)

    query.execute = execute


def _one_after_the_other() -> None:
    """Tables that are made at once: DuckLake lets one of them win, and begins the others again, and again."""
    original, lock = database.execute, threading.Lock()

    def execute(sql: str, params: Sequence[Any] | None = None) -> None:
        with lock if sql.startswith(DDL) else nullcontext():
            original(sql, params)

    database.execute = execute
