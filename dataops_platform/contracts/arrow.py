"""A table as an Arrow schema: what batches and Parquet files of it look like."""

from __future__ import annotations

import pyarrow as pa

from dataops_platform.contracts.model import Column, Table
from dataops_platform.contracts.types import FieldType, Kind

_TYPES: dict[Kind, pa.DataType] = {
    Kind.STRING: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.DATETIME: pa.timestamp("us"),
    Kind.TIME: pa.time64("us"),
    Kind.JSON: pa.string(),  # as text: the engines parse it
}


def arrow_type(field_type: FieldType) -> pa.DataType:
    """The Arrow type of a column; times have microseconds, as BigQuery's do, and JSON is text."""
    if field_type.kind is Kind.DECIMAL:
        return pa.decimal128(field_type.precision or 38, field_type.scale or 0)
    return _TYPES[field_type.kind]


def arrow_schema(table: Table, *, enforce_required: bool = True) -> pa.Schema:
    """The Arrow schema of a table, in the order of its columns.

    Field metadata holds the `description`; schema metadata holds `table`, `contract_id` and `contract_version`.

    Args:
        table: the table.
        enforce_required: make required columns not nullable. Without it every column is nullable, for data that
            is yet to be checked: Arrow refuses a batch for its first null, and names no row.
    """
    metadata = {"table": table.name, "contract_id": table.contract_id, "contract_version": table.contract_version}
    return pa.schema([_field(column, enforce_required) for column in table.columns], metadata=metadata)


def _field(column: Column, enforce_required: bool) -> pa.Field:
    metadata = {"description": column.description} if column.description else None
    nullable = not (column.required and enforce_required)
    return pa.field(column.name, arrow_type(column.type), nullable=nullable, metadata=metadata)
