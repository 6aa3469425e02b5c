"""Tables on BigQuery: schemas, partitioning, clustering and descriptions follow from contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.model import Column, RuleKind, Table
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.lake.deliveries import INT96
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.bigquery.jobs import Jobs, label
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.names import LEDGER, LINEAGE, QUARANTINE_COLUMNS, UNCAST, Relation, quarantine, staging
from dataops_platform.warehouse.shapes import REQUIRED, Shape

LOCK_SCHEMA = [bigquery.SchemaField("taken", "INTEGER")]


def lock_of(table: str) -> Relation:
    """A table of one row, which each load of a contract table updates: loads of that table follow each other.

    One for each: BigQuery aborts transactions that change the same table, whichever its rows.
    """
    return Relation(LEDGER, f"_lock_{table}")


_LINEAGE_TYPES = {
    "_created_at": "TIMESTAMP",
    "_updated_at": "TIMESTAMP",
    "_source_object": "STRING",
    "_load_id": "STRING",
}
_QUARANTINE_TYPES = {
    "_reasons": "STRING",
    "_source_row": "INT64",
    "_delivered_partition": "STRING",
    "_contract_version": "STRING",
    "_run_id": "STRING",
    "_quarantined_at": "TIMESTAMP",
    UNCAST: "STRING",
}
_LEDGER_TYPES = {pa.string(): "STRING", pa.int64(): "INT64", pa.float64(): "FLOAT64", pa.bool_(): "BOOL"}
_CANONICAL = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}


_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_DAY_MS = 24 * 60 * 60 * 1000


def canonical(kind: str) -> str:
    """A type's name as the API reports it."""
    return _CANONICAL.get(kind, kind)


def _field(
    name: str, type_: FieldType, description: str, required: bool, tag: str | None = None
) -> bigquery.SchemaField:
    mode = "REQUIRED" if required else "NULLABLE"
    more: dict[str, Any] = {"policy_tags": bigquery.PolicyTagList([tag])} if tag else {}
    kind = canonical(type_.bigquery)
    if type_.kind is Kind.DECIMAL:
        kind = type_.bigquery.split("(")[0]
        more["precision"] = type_.precision or 38
        if type_.scale:
            more["scale"] = type_.scale
    return bigquery.SchemaField(name, kind, mode, description=description, **more)


def _never_null(table: Table, column: Column) -> bool:
    """Whether the load itself keeps nulls out: a blocking rule sends such rows to quarantine."""
    kept_out = {rule.columns for rule in table.splitting_rules if rule.kind is RuleKind.NOT_NULL}
    return column.required and (column.name,) in kept_out


def _lineage(mode: str = "REQUIRED") -> list[bigquery.SchemaField]:
    return [bigquery.SchemaField(name, kind, mode, description=LINEAGE[name]) for name, kind in _LINEAGE_TYPES.items()]


def staging_schema(table: Table, tags: Mapping[str, str]) -> list[bigquery.SchemaField]:
    """Columns of a staging table: the contract's, then lineage.

    Args:
        tags: classification → policy tag.
    """
    columns = [
        _field(c.name, c.type, c.description, _never_null(table, c), tags.get(c.classification or ""))
        for c in table.columns
    ]
    return columns + _lineage()


def quarantine_schema(table: Table, tags: Mapping[str, str]) -> list[bigquery.SchemaField]:
    """Columns of a quarantine table. All of the contract's may be null: that may be why a row is there.

    Args:
        tags: classification → policy tag.
    """
    columns = [_field(c.name, c.type, c.description, False, tags.get(c.classification or "")) for c in table.columns]
    modes = {"_reasons": "REPEATED"}
    more = [
        bigquery.SchemaField(name, canonical(kind), modes.get(name, "NULLABLE"), description=QUARANTINE_COLUMNS[name])
        for name, kind in _QUARANTINE_TYPES.items()
        if name != UNCAST
    ]
    # It holds texts of any column: whoever may not read the first one with a tag may not read them.
    tag = next((tag for c in table.columns if (tag := tags.get(c.classification or ""))), None)
    texts = _field(UNCAST, FieldType(Kind.STRING), QUARANTINE_COLUMNS[UNCAST], False, tag)
    return columns + _lineage() + more + [texts]


def stage_schema(table: Table, delivered: Mapping[str, str], uncast: bool) -> list[bigquery.SchemaField]:
    """Columns of the table that a delivered object is loaded into: as the file has them.

    JSON is text there, integers are integers where the contract has floating point numbers, and INT96 is an instant
    where it has wall-clock times: a load job converts none of them, a statement does.

    Args:
        delivered: column → Arrow type of the file.
        uncast: whether the file has the texts of values that can't be cast.
    """
    more = [bigquery.SchemaField(UNCAST, "STRING")] if uncast else []
    columns = [c for c in table.columns if c.name in delivered]
    return [_field(c.name, _as_delivered(c.type, delivered[c.name]), "", False) for c in columns] + more


def _as_delivered(wanted: FieldType, actual: str) -> FieldType:
    if wanted.kind is Kind.JSON:
        return FieldType(Kind.STRING)
    if wanted.kind is Kind.NUMBER and actual.startswith(("int", "uint")):
        return FieldType(Kind.INTEGER)
    if actual == INT96:
        return FieldType(Kind.TIMESTAMP)
    return wanted


def ledger_schema(name: str) -> list[bigquery.SchemaField]:
    """Columns of a ledger table."""
    return [
        bigquery.SchemaField(column, canonical(_LEDGER_TYPES.get(kind, "TIMESTAMP")))
        for column, kind in ledger.TABLES[name].items()
    ]


def staging_table(
    reference: bigquery.TableReference, table: Table, tags: Mapping[str, str] = _NO_TAGS
) -> bigquery.Table:
    """The staging table as the contract wants it.

    Args:
        tags: classification → policy tag.
    """
    made = bigquery.Table(reference, schema=staging_schema(table, tags))
    key = f" Key: {', '.join(table.primary_key)}." if table.primary_key else ""
    made.description = f"{table.description}{key} Contract {table.contract_id} {table.contract_version}.".strip()
    made.labels = {"dataops_table": label(table.name), **{f"tag_{label(tag)}": "true" for tag in table.tags}}
    partitioning = table.by_time
    if partitioning is not None:
        made.time_partitioning = bigquery.TimePartitioning(
            type_=_UNITS[partitioning.granularity],
            field=partitioning.field,
            expiration_ms=table.expiration_days * _DAY_MS if table.expiration_days else None,
        )
        made.require_partition_filter = table.partition_filter
    clustering = clustered_by(table)
    if clustering:
        made.clustering_fields = list(clustering)
    return made


CLUSTERING_COLUMNS = 4
"""How many columns BigQuery clusters a table by."""


def clustered_by(table: Table) -> Sequence[str]:
    """The columns that a table is clustered by: the contract's; before them, the one that cuts it by name.

    BigQuery has no partitions by name. Clustered by it, a query for some names reads little more than their rows.
    """
    first = [] if table.partitioning is None or table.by_time else [table.partitioning.field]
    return list(dict.fromkeys([*first, *table.clustering]))[:CLUSTERING_COLUMNS]


def quarantine_table(
    reference: bigquery.TableReference, table: Table, tags: Mapping[str, str] = _NO_TAGS
) -> bigquery.Table:
    """The quarantine table, cut by the day of the refusal.

    Args:
        tags: classification → policy tag.
    """
    made = bigquery.Table(reference, schema=quarantine_schema(table, tags))
    made.description = f"Rows of {staging(table.name)} that broke a blocking rule."
    made.labels = {"dataops_table": label(table.name)}
    made.time_partitioning = bigquery.TimePartitioning(field="_quarantined_at")
    return made


_UNITS = {
    Granularity.HOUR: bigquery.TimePartitioningType.HOUR,
    Granularity.DAY: bigquery.TimePartitioningType.DAY,
    Granularity.WEEK: bigquery.TimePartitioningType.DAY,  # it has no weeks; seven of its partitions are one of ours
    Granularity.MONTH: bigquery.TimePartitioningType.MONTH,
}


def as_sql(table: bigquery.Table) -> str:
    """A table as a statement that would make it, for people to read; the platform makes it through the API."""
    columns = ", ".join(f"`{field.name}` {_sql_type(field)}" for field in table.schema)
    text = f"CREATE TABLE `{table.project}`.`{table.dataset_id}`.`{table.table_id}` ({columns})"
    cut = table.time_partitioning
    if cut is not None and cut.field is not None:
        kinds = {field.name: field.field_type for field in table.schema}
        kind, by = kinds[cut.field], f"`{cut.field}`"
        text += f" PARTITION BY {by if (kind, cut.type_) == ('DATE', 'DAY') else f'{kind}_TRUNC({by}, {cut.type_})'}"
    if table.clustering_fields:
        text += f" CLUSTER BY {', '.join(f'`{name}`' for name in table.clustering_fields)}"
    options = []
    if table.require_partition_filter:
        options.append("require_partition_filter = TRUE")
    if cut is not None and cut.expiration_ms:
        options.append(f"partition_expiration_days = {cut.expiration_ms // _DAY_MS}")
    return text + (f" OPTIONS ({', '.join(options)})" if options else "")


_SQL_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def _sql_type(field: bigquery.SchemaField) -> str:
    kind = _SQL_TYPES.get(field.field_type, field.field_type)
    if field.precision:
        kind += f"({field.precision}, {field.scale or 0})"
    if field.mode == "REPEATED":
        return f"ARRAY<{kind}>"
    return f"{kind} NOT NULL" if field.mode == "REQUIRED" else kind


def shape_of(table: bigquery.Table) -> Shape:
    """A table's shape, wanted or found."""
    return Shape({field.name: _spelled(field) for field in table.schema}, _cut(table), table.table_type or "TABLE")


_KINDS = {
    "STRING": Kind.STRING,
    "INTEGER": Kind.INTEGER,
    "FLOAT": Kind.NUMBER,
    "BOOLEAN": Kind.BOOLEAN,
    "DATE": Kind.DATE,
    "TIMESTAMP": Kind.TIMESTAMP,
    "DATETIME": Kind.DATETIME,
    "TIME": Kind.TIME,
    "JSON": Kind.JSON,
}


def types_of(schema: Sequence[bigquery.SchemaField]) -> dict[str, FieldType | None]:
    """Column → its type; None where no contract has such."""
    found: dict[str, FieldType | None] = {}
    for field in schema:
        kind = _KINDS.get(canonical(field.field_type))
        found[field.name] = None if kind is None or field.mode == "REPEATED" else FieldType(kind)
        if field.field_type in ("NUMERIC", "BIGNUMERIC"):
            found[field.name] = FieldType(Kind.DECIMAL, field.precision or 38, field.scale or 0)
    return found


def add_columns(jobs: Jobs, naming: Naming, table: Table, columns: Sequence[Column]) -> None:
    """Add columns that deliveries brought to staging and quarantine, where they aren't there yet."""
    for relation in (staging(table.name), quarantine(table.name)) if columns else ():
        while True:
            with jobs.words("change a table in"):
                found = jobs.client.get_table(naming.reference(relation), retry=jobs.retry)
                there = {field.name for field in found.schema}
                new = [_field(c.name, c.type, BROUGHT, False) for c in columns if c.name not in there]
                if new:
                    found.schema = [*found.schema, *new]
                    try:
                        jobs.client.update_table(found, ["schema"], retry=jobs.retry)
                    except api.PreconditionFailed:  # somebody else changes the table, too
                        continue
            break


BROUGHT = "Not in the contract: a delivery brought it."


def refreshed(wanted: bigquery.Table, actual: bigquery.Table) -> list[str]:
    """Set on `actual` what may follow the contract without touching data; the names of the fields that changed."""
    changed: list[str] = []
    if (actual.description or "") != (wanted.description or ""):
        actual.description = wanted.description
        changed.append("description")
    if dict(actual.labels) != dict(wanted.labels):
        actual.labels = wanted.labels
        changed.append("labels")
    if list(actual.clustering_fields or []) != list(wanted.clustering_fields or []):
        actual.clustering_fields = wanted.clustering_fields
        changed.append("clustering_fields")
    asked = {field.name: field for field in wanted.schema}
    there = {field.name: field for field in actual.schema}
    schema = [
        *(_followed(asked.get(name, field), field) for name, field in there.items()),
        *(field for name, field in asked.items() if name not in there),
    ]
    if [_notes(f) for f in actual.schema] != [_notes(f) for f in schema]:
        # What is left out of an update stays as it is: that a column has no tags any more must be said.
        none = bigquery.PolicyTagList([])
        had = {field.name for field in actual.schema if field.policy_tags}
        actual.schema = [
            bigquery.SchemaField.from_api_repr(field.to_api_repr() | {"policyTags": none.to_api_repr()})
            if field.name in had and not field.policy_tags
            else field
            for field in schema
        ]
        changed.append("schema")
    if bool(actual.require_partition_filter) != bool(wanted.require_partition_filter):
        actual.require_partition_filter = wanted.require_partition_filter
        changed.append("require_partition_filter")
    cut, is_cut = wanted.time_partitioning, actual.time_partitioning
    if cut is not None and is_cut is not None and cut.expiration_ms != is_cut.expiration_ms:
        # What is left out of an update stays as it is: no expiration must be said.
        actual.time_partitioning = bigquery.TimePartitioning.from_api_repr({"expirationMs": None} | cut.to_api_repr())
        changed.append("time_partitioning")
    return changed


def _followed(wanted: bigquery.SchemaField, actual: bigquery.SchemaField) -> bigquery.SchemaField:
    """A column as the contract says, but that it goes on to hold nulls where it does: BigQuery can't forbid them."""
    if (wanted.mode, actual.mode) != ("REQUIRED", "NULLABLE"):
        return wanted
    return bigquery.SchemaField.from_api_repr(wanted.to_api_repr() | {"mode": "NULLABLE"})


def _notes(field: bigquery.SchemaField) -> tuple[str | None, tuple[str, ...], str]:
    """What of a column may change without touching data: its description, its policy tags, and that it is required."""
    return field.description or None, field.policy_tags.names if field.policy_tags else (), field.mode


def sql_type(spelled: str) -> str:
    """A type of a `Shape` as SQL has it."""
    name, bracket, size = spelled.removesuffix(REQUIRED).partition("(")
    return f"{_SQL_TYPES.get(name, name)}{bracket}{size}"


def _spelled(field: bigquery.SchemaField) -> str:
    kind = canonical(field.field_type)
    size = f"({field.precision},{field.scale or 0})" if field.precision else ""
    if field.mode == "REQUIRED":
        return f"{kind}{size}{REQUIRED}"
    return f"{kind}{size}{'' if field.mode == 'NULLABLE' else ' ' + field.mode}"


def _cut(table: bigquery.Table) -> str:
    if table.range_partitioning is not None:  # never by us
        return f"RANGE of {table.range_partitioning.field}"
    cut = table.time_partitioning
    return f"{cut.type_} of {cut.field or 'arrival'}" if cut is not None else ""


def column_names(schema: Sequence[bigquery.SchemaField]) -> list[str]:
    """The columns' names, in order."""
    return [field.name for field in schema]
