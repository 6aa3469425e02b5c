"""Which of several rows of one key stays when they came in the same object: the greatest, the same on every engine."""

from __future__ import annotations

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.names import quote


def tie_break(table: Table, prefix: str, dialect: str) -> list[str]:
    """Terms of an ORDER BY that put the row that stays first.

    Rows are compared column by column, in the contract's order, the key aside: nulls are lowest, NaN is highest.
    Position in the file can't decide: BigQuery doesn't tell it. Rows that are equal in all columns are the same row.

    Args:
        prefix: goes before each column, like `p.`.
        dialect: the engine's.
    """
    terms = []
    for column in table.columns:
        if column.name in table.primary_key:
            continue
        name = prefix + quote(column.name, dialect)
        if column.type.kind is Kind.NUMBER:
            terms.append(f"{'IS_NAN' if dialect == 'bigquery' else 'isnan'}({name}) DESC NULLS LAST")
        elif column.type.kind is Kind.JSON:
            name = f"TO_JSON_STRING({name})" if dialect == "bigquery" else f"CAST({name} AS VARCHAR)"
        terms.append(f"{name} DESC NULLS LAST")
    return terms
