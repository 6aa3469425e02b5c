"""Names in the warehouse: schemas, lineage columns and the ledger's tables, spelled once."""

from __future__ import annotations

from dataclasses import dataclass

from dataops_platform.contracts.file_formats import UNCAST as UNCAST
from dataops_platform.contracts.model import Table

STAGING = "staging"
QUARANTINE = "quarantine"
PRODUCTION = "production"
LEDGER = "dataops"

CREATED_AT = "_created_at"
UPDATED_AT = "_updated_at"
SOURCE_OBJECT = "_source_object"
LOAD_ID = "_load_id"

LINEAGE: dict[str, str] = {
    CREATED_AT: "When the source made the delivery.",
    UPDATED_AT: "When the row was loaded.",
    SOURCE_OBJECT: "Key of the lake object the row came from.",
    LOAD_ID: "The load in dataops.loads.",
}
"""Lineage columns of every staging table, in order, with their meaning."""

REASONS = "_reasons"
SOURCE_ROW = "_source_row"

CAST = "cast_"
"""What the reason of such a row begins with; its column follows."""

QUARANTINE_COLUMNS: dict[str, str] = {
    REASONS: "Ids of the rules the row breaks.",
    SOURCE_ROW: "0-based position of the row in its object.",
    "_delivered_partition": "Partition of the delivery.",
    "_contract_version": "Contract version the row was judged by.",
    "_run_id": "Run that refused the row.",
    "_quarantined_at": "When the row was refused.",
    UNCAST: "Column to text of the values that are not of their column's type, as JSON.",
}
"""What quarantine tables hold besides the contract's and the lineage columns."""


def addable(table: Table) -> list[str]:
    """Columns that a table may get later: rows that are there already have no value for them, and needn't."""
    return [*(column.name for column in table.columns if not column.required), UNCAST]


def quote(name: str, dialect: str = "duckdb") -> str:
    """A quoted identifier."""
    if dialect == "bigquery":
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
    return '"' + name.replace('"', '""') + '"'


def literal(text: str, dialect: str = "duckdb") -> str:
    """A quoted string. The names that the ledger holds need no escaping and are the same for every engine."""
    if dialect == "bigquery":
        escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
        return f"'{escaped}'"
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view by schema and name."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """Quoted for DuckDB."""
        return self.quoted("duckdb")

    def quoted(self, dialect: str) -> str:
        """Quoted for an engine. On BigQuery a schema is a dataset of the warehouse's project."""
        return f"{quote(self.schema, dialect)}.{quote(self.name, dialect)}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def staging(table: str) -> Relation:
    """A contract table's staging table."""
    return Relation(STAGING, table)


def quarantine(table: str) -> Relation:
    """A contract table's quarantine."""
    return Relation(QUARANTINE, table)


def production(model: str) -> Relation:
    """A model's production table."""
    return Relation(PRODUCTION, model)
