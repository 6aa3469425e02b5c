"""DDL of the embedded warehouse: tables follow from contracts."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.names import (
    LEDGER,
    LINEAGE,
    PRODUCTION,
    QUARANTINE,
    QUARANTINE_COLUMNS,
    STAGING,
    UNCAST,
    Relation,
    addable,
    literal,
    quarantine,
    quote,
    staging,
)

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


def differences(relation: Relation, wanted: dict[str, str], actual: dict[str, str]) -> list[str]:
    """How the columns of an existing table differ from those wanted, as sentences."""
    lines = []
    for name, kind in wanted.items():
        if name not in actual:
            lines.append(f"{relation} has no column {name} ({kind})")
        elif _SPELLINGS.get(actual[name], actual[name]) != kind:
            lines.append(f"{relation}.{name} is {actual[name]}, the contract says {kind}")
    lines += [f"{relation}.{name} is not in the contract" for name in actual if name not in wanted]
    return lines


def definition(table: Table) -> str:
    """Everything the DDL of a table depends on, as text: equal text, nothing to do."""
    return json.dumps(table_ddl(table))


def ensure_table(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Create a contract's tables, or add what is new in the contract, and refresh their comments.

    Raises:
        ConfigError: a table exists and differs from the contract; every difference is listed.
    """
    statements = table_ddl(table)
    if "_partition" in columns_of(connection, quarantine(table.name)):  # as it was called before
        held = quarantine(table.name).sql
        connection.execute(f"ALTER TABLE {held} RENAME COLUMN _partition TO _delivered_partition")
    lines: list[str] = []
    added: list[str] = []
    for relation, wanted in (
        (staging(table.name), staging_columns(table)),
        (quarantine(table.name), quarantine_columns(table)),
    ):
        actual = columns_of(connection, relation)
        if actual:
            new = {name: wanted[name] for name in addable(table) if name in wanted and name not in actual}
            added += [f"ALTER TABLE {relation.sql} ADD COLUMN {quote(name)} {kind}" for name, kind in new.items()]
            lines += differences(relation, wanted, actual | new)
    if lines:
        raise ConfigError(
            f"{table.file}:{table.line}: the warehouse differs from the contract: {'; '.join(lines)}."
            f" Undo the change in the contract, or run `dataops reload {table.name}`:"
            " the table is then built anew from the lake."
        )
    for statement in [*added, *statements]:
        connection.execute(statement)
