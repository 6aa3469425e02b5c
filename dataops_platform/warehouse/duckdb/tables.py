"""DDL of the embedded warehouse: tables follow from contracts."""

from __future__ import annotations

import json
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from dataops_platform.contracts.model import Column, Table
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.changes import TableChanges, compare, same_but_for_case
from dataops_platform.warehouse.definitions import Definition, History, ledger_row
from dataops_platform.warehouse.delivered import with_brought
from dataops_platform.warehouse.duckdb.files import type_of
from dataops_platform.warehouse.names import (
    LEDGER,
    LINEAGE,
    PRODUCTION,
    QUARANTINE,
    QUARANTINE_COLUMNS,
    STAGING,
    UNCAST,
    Relation,
    literal,
    quarantine,
    quote,
    staging,
)
from dataops_platform.warehouse.shapes import Remedy, Shape

LINEAGE_TYPES = {
    "_created_at": "TIMESTAMPTZ",
    "_updated_at": "TIMESTAMPTZ",
    "_source_object": "VARCHAR",
    "_load_id": "UUID",
}
_QUARANTINE_TYPES = {
    "_reasons": "VARCHAR[]",
    "_source_row": "BIGINT",
    "_delivered_partition": "VARCHAR",
    "_contract_version": "VARCHAR",
    "_run_id": "VARCHAR",
    "_quarantined_at": "TIMESTAMPTZ",
    UNCAST: "VARCHAR",
}
_ARROW = {pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN"}


def staging_columns(table: Table) -> dict[str, str]:
    """Column → DuckDB type of a staging table, in order: the contract's columns, then lineage."""
    return {column.name: column.type.duckdb for column in table.columns} | LINEAGE_TYPES


def quarantine_columns(table: Table) -> dict[str, str]:
    """Column → DuckDB type of a quarantine table, in order."""
    return staging_columns(table) | _QUARANTINE_TYPES


def _create(relation: Relation, columns: dict[str, str]) -> str:
    body = ", ".join(f"{quote(name)} {kind}" for name, kind in columns.items())
    return f"CREATE TABLE IF NOT EXISTS {relation.sql} ({body})"


def table_ddl(table: Table) -> list[str]:
    """Statements that create a table's staging and quarantine tables, with comments.

    Keys are written in the comment, not as a constraint: DuckDB would build an index for it, which makes loads
    several times slower, and the load itself keeps keys unique.
    """
    target, held = staging(table.name), quarantine(table.name)
    key = f" Key: {', '.join(table.primary_key)}." if table.primary_key else ""
    text = f"{table.description}{key} Contract {table.contract_id} {table.contract_version}.".strip()
    statements = [
        _create(target, staging_columns(table)),
        _create(held, quarantine_columns(table)),
        f"COMMENT ON TABLE {target.sql} IS {literal(text)}",
        f"COMMENT ON TABLE {held.sql} IS {literal(f'Rows of {target} that broke a blocking rule.')}",
    ]
    described = {column.name: column.description for column in table.columns} | LINEAGE
    for relation, comments in ((target, described), (held, described | QUARANTINE_COLUMNS)):
        for name, comment in comments.items():
            if comment:
                statements.append(f"COMMENT ON COLUMN {relation.sql}.{quote(name)} IS {literal(comment)}")
    return statements


def ledger_ddl() -> list[str]:
    """Statements that create the schemas and the ledger."""
    statements = [f"CREATE SCHEMA IF NOT EXISTS {quote(name)}" for name in (LEDGER, STAGING, QUARANTINE, PRODUCTION)]
    for name, columns in ledger.TABLES.items():
        types = {column: _ARROW.get(kind, "TIMESTAMPTZ") for column, kind in columns.items()}
        if name == "loads":
            types["load_id"] = "VARCHAR PRIMARY KEY"  # a second load of the same delivery can't commit
        body = ", ".join(f"{quote(column)} {kind}" for column, kind in types.items())
        statements.append(f"CREATE TABLE IF NOT EXISTS {LEDGER}.{quote(name)} ({body})")
    return statements


def ensure_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the schemas and the ledger; add the columns that a ledger of an older version doesn't have."""
    for statement in ledger_ddl():
        connection.execute(statement)
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = current_database()"
        f" AND schema_name = {literal(LEDGER)}"
    ).fetchall()
    for name, columns in ledger.TABLES.items():
        for column, kind in columns.items():
            if (name, column) not in rows:
                added = f"{quote(column)} {_ARROW.get(kind, 'TIMESTAMPTZ')}"
                connection.execute(f"ALTER TABLE {LEDGER}.{quote(name)} ADD COLUMN {added}")


def columns_of(connection: duckdb.DuckDBPyConnection, relation: Relation) -> dict[str, str]:
    """Column → type of an existing table or view; empty when there is none."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ? ORDER BY column_index",
        [relation.schema, relation.name],
    ).fetchall()
    return dict(rows)


_SPELLINGS = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


def shape_of(connection: duckdb.DuckDBPyConnection, relation: Relation) -> Shape | None:
    """The shape of an existing table or view; None when there is none."""
    columns = columns_of(connection, relation)
    if not columns:
        return None
    views = connection.execute(
        "SELECT 1 FROM duckdb_views() WHERE database_name = current_database() AND schema_name = ? AND view_name = ?",
        [relation.schema, relation.name],
    ).fetchall()
    spelled = {name: _SPELLINGS.get(kind, kind) for name, kind in columns.items()}
    return Shape(spelled, kind="VIEW" if views else "TABLE")


def changes(connection: duckdb.DuckDBPyConnection, table: Table, history: History) -> TableChanges:
    """How a contract's tables differ from it."""
    relations = (staging(table.name), quarantine(table.name))
    actual = tuple(shape_of(connection, relation) for relation in relations)
    if actual[0] is None:
        like = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = ?"
            " AND lower(table_name) = lower(?)",
            [relations[0].schema, relations[0].name],
        ).fetchall()
        if like:
            return same_but_for_case(table, like[0][0], history)
    there = [relation for relation, shape in zip(relations, actual, strict=True) if shape is not None]
    filled = not history.loaded and any(
        connection.execute(f"SELECT 1 FROM {relation.sql} LIMIT 1").fetchall() for relation in there
    )
    wanted = (Shape(staging_columns(table)), Shape(quarantine_columns(table)))
    return compare(table, history, wanted, (actual[0], actual[1]), filled)


def definition(table: Table) -> str:
    """Everything that the tables of a contract depend on, as text: equal text, nothing to do."""
    return json.dumps([table_ddl(table), Definition.of(table).to_json()])


_STATEMENTS = {
    Remedy.ADD: "ALTER TABLE {relation} ADD COLUMN IF NOT EXISTS {column} {kind}",
    Remedy.WIDEN: "ALTER TABLE {relation} ALTER COLUMN {column} TYPE {kind}",
    Remedy.DROP: "ALTER TABLE {relation} DROP COLUMN {column}",
}


def mend(connection: duckdb.DuckDBPyConnection, found: TableChanges) -> None:
    """Make tables that exist what the contract says, as far as statements do it."""
    for item in found.differences:
        if item.remedy in _STATEMENTS:
            connection.execute(
                _STATEMENTS[item.remedy].format(relation=item.relation.sql, column=quote(item.column), kind=item.wanted)
            )


def add_columns(connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]) -> None:
    """Add columns that deliveries brought to staging and quarantine."""
    for column in columns:
        for relation in (staging(table.name), quarantine(table.name)):
            statement = _STATEMENTS[Remedy.ADD]
            kind = column.type.duckdb
            connection.execute(statement.format(relation=relation.sql, column=quote(column.name), kind=kind))


def ensure_table(
    connection: duckdb.DuckDBPyConnection, table: Table, history: History, breaking: bool = False
) -> TableChanges:
    """Create a contract's tables, or mend what differs from it, refresh their comments, and record what applies.

    Returns what differed.

    Args:
        breaking: do what breaks, too, as far as the table needn't be built anew.

    Raises:
        ConfigError: a table exists and differs in what would break; every difference is listed.
    """
    if "_partition" in columns_of(connection, quarantine(table.name)):  # as it was called before
        held = quarantine(table.name).sql
        connection.execute(f"ALTER TABLE {held} RENAME COLUMN _partition TO _delivered_partition")
    found = changes(connection, table, history)
    if not breaking and (refusal := found.refusal()) is not None:
        raise refusal
    if found.gone:
        forget(connection, table)
    mend(connection, found)
    # A quarantine that is made anew has the columns that deliveries brought, as staging has.
    brought = {name: type_of(kind) for name, kind in found.found} if found.unheld else {}
    for statement in table_ddl(with_brought(table, brought)):
        connection.execute(statement)
    if not found.recorded:
        append_rows(connection, "definitions", ledger_row(table, ledger.now()))
    return found


def forget(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Drop a contract's tables and forget its loads, inside the open transaction.

    What was replayed or given up is loaded and judged anew with all the rest; the ledger keeps that it was done once.
    """
    connection.execute(f"DROP TABLE IF EXISTS {staging(table.name).sql}")
    connection.execute(f"DROP TABLE IF EXISTS {quarantine(table.name).sql}")
    mine = f"table_name = {literal(table.name)}"
    connection.execute(f"DELETE FROM {LEDGER}.loads WHERE {mine}")
    connection.execute(f"UPDATE {LEDGER}.replays SET undone_at = now() WHERE {mine} AND undone_at IS NULL")


def append_rows(connection: duckdb.DuckDBPyConnection, ledger_table: str, rows: pa.Table) -> None:
    """Append Arrow rows to a ledger table by column name."""
    connection.register("_rows_view", rows)
    try:
        connection.execute(f"INSERT INTO {LEDGER}.{quote(ledger_table)} BY NAME SELECT * FROM _rows_view")
    finally:
        connection.unregister("_rows_view")
