"""From rules to few statements, grouped by partition, planned by what each kind costs on the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dataops_platform.contracts.model import Rule, RuleKind, Scope, Table
from dataops_platform.quality.bigquery_plan import BigQueryPlan
from dataops_platform.quality.drift import Baseline, cuts_sql, histogram_sql, reference_window
from dataops_platform.quality.duckdb_plan import DuckDBPlan
from dataops_platform.quality.statements import ROW_COUNT_INDEX, Statement, render_bad
from dataops_platform.warehouse.names import quote, staging
from dataops_platform.warehouse.partition_sql import any_partition, in_partitions, partition_start

__all__ = ["ROW_COUNT_INDEX", "WITHOUT_STATEMENT", "Statement", "plan", "render_bad", "sample_sql"]

_ENGINES: dict[str, type[DuckDBPlan] | type[BigQueryPlan]] = {"duckdb": DuckDBPlan, "bigquery": BigQueryPlan}


WITHOUT_STATEMENT = frozenset({RuleKind.LATENCY, RuleKind.ARRIVAL, RuleKind.SCHEMA})
"""What is decided from the ledger and the tables' definitions, without reading rows."""


def plan(
    table: Table,
    partitions: Collection[str] | None,
    dialect: str = "duckdb",
    rules: Iterable[Rule] | None = None,
    baselines: Mapping[str, Baseline] | None = None,
) -> list[Statement]:
    """The statements that decide a table's rules for some partitions (None: all that have rows).

    The number of statements doesn't depend on the number of partitions. Rules of `WITHOUT_STATEMENT` need none.

    Args:
        rules: those to decide; all of the table's by default.
        baselines: the references of drift rules by rule id. Where one isn't known yet, the statement is the one that
            finds its bins.
    """
    chosen = [rule for rule in (table.rules if rules is None else rules) if rule.kind not in WITHOUT_STATEMENT]
    statements = []
    for scope in Scope:
        scoped = [rule for rule in chosen if _scope(table, rule) is scope]
        scanned = [rule for rule in scoped if rule.kind is not RuleKind.DRIFT]
        if scanned:
            statements += _ENGINES[dialect](table, partitions, scope).statements(scanned)
        for rule in scoped:
            if rule.kind is RuleKind.DRIFT:
                statements.append(_drift(table, rule, partitions, scope, dialect, (baselines or {}).get(rule.id)))
    return statements


def _drift(
    table: Table,
    rule: Rule,
    partitions: Collection[str] | None,
    scope: Scope,
    dialect: str,
    baseline: Baseline | None,
) -> Statement:
    suffix = "" if scope is Scope.PARTITION or not table.partitioning else ".table"
    if baseline is None:
        sql = cuts_sql(table, rule, reference_window(table, rule), dialect)
        return Statement(f"{table.name}.{rule.id}{suffix}.bins", (rule,), sql, scope)
    sql = histogram_sql(table, rule, baseline, partitions, scope, dialect)
    return Statement(f"{table.name}.{rule.id}{suffix}", (rule,), sql, scope)


def _scope(table: Table, rule: Rule) -> Scope:
    return rule.scope if table.partitioning else Scope.TABLE


def sample_sql(table: Table, rule: Rule, partitions: Collection[str] | None, dialect: str, limit: int) -> str | None:
    """A query for a few rows that break a rule: key columns and the judged ones. None where rows can't be told."""
    where = in_partitions(table, partitions if _scope(table, rule) is Scope.PARTITION else None, "", dialect)
    part_field = (table.partitioning.field,) if table.partitioning else ()
    shown = list(dict.fromkeys([*part_field, *table.primary_key, *rule.columns]))

    def name_of(column: str) -> str:
        return quote(column, dialect)

    columns = ", ".join(map(name_of, shown)) or "*"
    relation = staging(table.name).quoted(dialect)
    if rule.kind.row_level:
        return f"SELECT {columns} FROM {relation} WHERE {render_bad(table, rule, dialect)} AND {where} LIMIT {limit}"
    keys = ", ".join(map(name_of, rule.columns))
    present = " AND ".join(f"{name_of(name)} IS NOT NULL" for name in rule.columns)
    if rule.kind is RuleKind.DUPLICATES:
        part = (
            f"{partition_start(table, '', dialect)} AS _part, "
            if table.partitioning and _scope(table, rule) is Scope.PARTITION
            else ""
        )
        return (
            f"SELECT {part}{keys}, count(*) AS _rows FROM {relation} WHERE {present} AND {where}"
            f" GROUP BY ALL HAVING count(*) > 1 LIMIT {limit}"
        )
    if rule.kind is RuleKind.ORPHANS:
        match = " AND ".join(
            f"c.{name_of(child)} = r.{name_of(parent)}"
            for child, parent in zip(rule.columns, rule.args["columns"], strict=True)
        )
        if "partition_field" in rule.args:
            match += f" AND {any_partition(rule.args['partition_field'], 'r.', dialect)}"
        return (
            f"SELECT * FROM (SELECT {keys}, count(*) AS _rows FROM {relation} WHERE {present} AND {where}"
            " GROUP BY ALL) AS c"
            f" WHERE NOT EXISTS (SELECT 1 FROM {staging(rule.args['table']).quoted(dialect)} AS r WHERE {match})"
            f" ORDER BY _rows DESC LIMIT {limit}"
        )
    return None
