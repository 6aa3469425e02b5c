"""Reconciliation: does a table hold as many rows, or the same sum, as another one?"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dataops_platform.contracts.model import Column, Rule, Scope, Table, Unit
from dataops_platform.contracts.types import FieldType
from dataops_platform.quality.aggregates import ROW_COUNT
from dataops_platform.warehouse.names import quote, staging
from dataops_platform.warehouse.partition_sql import in_partitions, partition_start


def reconcile_sql(table: Table, rule: Rule, partitions: Collection[str] | None, scope: Scope, dialect: str) -> str:
    """A query of this table's value minus the other's, or of their distance in percent of the other's, per partition.

    A side without rows counts as 0. Where both are 0 there is no distance; where only the other is, it is 100 %.
    """
    by_partition = scope is Scope.PARTITION and table.partitioning is not None
    mine = _side(table, rule, rule.columns[0] if rule.columns else None, partitions, by_partition, dialect)
    theirs = _side(_other(rule), rule, rule.args["column"], partitions, by_partition, dialect)
    double, integer = ("FLOAT64", "INT64") if dialect == "bigquery" else ("DOUBLE", "BIGINT")
    one, two = "IFNULL(a._v, 0)", "IFNULL(b._v, 0)"
    value = f"{one} - {two}"
    if rule.threshold.unit is Unit.PERCENT:
        # Equal values are 0 apart, unless they are NaN, which DuckDB holds for equal to itself.
        value = (
            f"CASE WHEN {one} = {two} THEN CAST({one} - {two} AS {double}) WHEN {two} = 0 THEN 100"
            f" ELSE 100 * ABS(CAST({one} AS {double}) - {two}) / ABS({two}) END"
        )
    part = "IFNULL(a._part, b._part)" if by_partition else "a._part"
    # As a whole, each side is exactly one row.
    join = f"FULL JOIN ({theirs}) AS b ON a._part = b._part" if by_partition else f"CROSS JOIN ({theirs}) AS b"
    return (
        f"SELECT 0 AS rule, {part} AS part, CAST(NULL AS {integer}) AS failed, CAST({value} AS {double}) AS observed"
        f" FROM ({mine}) AS a {join}"
    )


def _side(
    table: Table, rule: Rule, column: str | None, partitions: Collection[str] | None, by_partition: bool, dialect: str
) -> str:
    value = "COUNT(*)" if rule.args["function"] == ROW_COUNT else f"SUM({quote(column or '', dialect)})"
    none = "CAST(NULL AS DATE)" if dialect == "bigquery" else "NULL"
    part = none
    if by_partition:
        part = partition_start(table, "", dialect)
        if table.by_time:  # both sides as times: a date and a time are compared by some engines only
            part = f"CAST({part} AS {'DATETIME' if dialect == 'bigquery' else 'TIMESTAMP'})"
    where = in_partitions(table, partitions if by_partition else None, "", dialect)
    group = " GROUP BY _part" if by_partition else ""
    return f"SELECT {part} AS _part, {value} AS _v FROM {staging(table.name).quoted(dialect)} WHERE {where}{group}"


def _other(rule: Rule) -> Table:
    """As much of the other table as its rows of a partition need."""
    args: Any = rule.args
    cut = args["cut"]
    columns = (Column(cut.field, FieldType(args["field_kind"])),) if cut is not None else ()
    # Whether it asks for a predicate on its partitions isn't known here: one that is always true does no harm.
    return Table(args["table"], columns, partitioning=cut, partition_filter=cut is not None)
