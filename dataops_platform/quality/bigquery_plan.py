"""The plan for BigQuery, where bytes scanned decide: one aggregate scan for everything that one scan can tell.

Keys are counted in the same scan. A reference reads another table, so it has a statement of its own, and so have a
contract's own queries and medians, which BigQuery computes over windows only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from dataops_platform.contracts.model import Rule, RuleKind, Scope, Table
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.aggregates import NOT_A_NUMBER, aggregate_sql, aggregated, decided_by_count, quantile
from dataops_platform.quality.reconciliation import reconcile_sql
from dataops_platform.quality.statements import ROW_COUNT_INDEX, Statement, query_tree, render_bad, with_object
from dataops_platform.warehouse.names import quote as _quote
from dataops_platform.warehouse.names import staging
from dataops_platform.warehouse.partition_sql import (
    any_partition,
    in_partitions,
    partition_start,
    partition_start_literal,
)

DIALECT = "bigquery"
BRANCHES = 400
"""Partitions that one statement of a contract's own query is for: BigQuery takes a megabyte of SQL at most."""


def quote(name: str) -> str:
    """A quoted identifier."""
    return _quote(name, DIALECT)


class BigQueryPlan:
    """Statements for rules of one table and one scope."""

    # Names of our own begin with an underscore, which no contract column does: a column may be called `n` or `part`.
    def __init__(self, table: Table, partitions: Collection[str] | None, scope: Scope) -> None:
        self._table = table
        self._partitions = partitions
        self._scope = scope
        self._by_partition = scope is Scope.PARTITION and table.partitioning is not None
        self._relation = staging(table.name).quoted(DIALECT)
        self._part = partition_start(table, "", DIALECT) if self._by_partition else "CAST(NULL AS DATE)"
        self._where = in_partitions(table, partitions if self._by_partition else None, "", DIALECT)
        self._group = " GROUP BY _part" if self._by_partition else ""

    def statements(self, rules: Sequence[Rule]) -> list[Statement]:
        """One scan, and one statement for each reference, quantile and custom query."""
        own = [rule for rule in rules if self._alone(rule)]
        suffix = "" if self._scope is Scope.PARTITION or not self._table.partitioning else ".table"
        scan = [rule for rule in rules if rule not in own]
        made = [Statement(f"{self._table.name}.scan{suffix}", tuple(scan), self._scan(scan), self._scope)]
        for rule in own:
            build = _BUILDERS.get(rule.kind, BigQueryPlan._quantile)
            name = f"{self._table.name}.{rule.id}{suffix}"
            if rule.kind is not RuleKind.QUERY:
                made.append(Statement(name, (rule,), build(self, rule), self._scope))
                continue
            for number, part in enumerate(self._queries(rule)):
                made.append(Statement(name if number == 0 else f"{name}.{number}", (rule,), part, self._scope))
        return made

    def _alone(self, rule: Rule) -> bool:
        return not decided_by_count(rule) and (
            rule.kind is RuleKind.QUERY or rule.kind in _BUILDERS or quantile(rule) is not None
        )

    def _scan(self, rules: Sequence[Rule]) -> str:
        """One row per partition with a column for each rule, turned into a row for each."""
        columns = [f"{self._part} AS _part", "COUNT(*) AS _n"]
        rows = [f"STRUCT({ROW_COUNT_INDEX} AS rule, s._n AS failed, CAST(NULL AS FLOAT64) AS observed)"]
        for index, rule in enumerate(rules):
            if decided_by_count(rule):
                continue  # by the count that every scan has
            if aggregated(rule):
                columns.append(f"{aggregate_sql(self._table, rule, DIALECT)} AS _r{index}")
                rows.append(f"STRUCT({index}, CAST(NULL AS INT64), s._r{index})")
                continue
            if rule.kind is RuleKind.DUPLICATES:
                value = self._surplus(rule)
            else:
                value = f"COUNTIF({render_bad(self._table, rule, DIALECT)})"
            columns.append(f"{value} AS _r{index}")
            rows.append(f"STRUCT({index}, s._r{index}, CAST(NULL AS FLOAT64))")
        inner = f"SELECT {', '.join(columns)} FROM {self._relation} WHERE {self._where}{self._group}"
        return (
            f"SELECT r.rule, s._part AS part, r.failed, r.observed FROM ({inner}) AS s,"
            f" UNNEST([{', '.join(rows)}]) AS r"
        )

    def _surplus(self, rule: Rule) -> str:
        """Rows − distinct keys; rows with a null in the key are left out."""
        present = " AND ".join(f"{quote(name)} IS NOT NULL" for name in rule.columns)
        parts = [self._exact(name) for name in rule.columns]
        key = parts[0] if len(parts) == 1 else f"TO_JSON_STRING(STRUCT({', '.join(parts)}))"
        return f"COUNTIF({present}) - COUNT(DISTINCT IF({present}, {key}, NULL))"

    def _exact(self, name: str) -> str:
        """A key column; zero has one spelling."""
        column = quote(name)
        number = self._table.column(name).type.kind is Kind.NUMBER
        return f"IF({column} = 0, 0.0, {column})" if number else column

    def _orphans(self, rule: Rule) -> str:
        """Rows whose key has no parent; distinct child keys are looked up, not every row."""
        names = [quote(name) for name in rule.columns]
        present = " AND ".join(f"{name} IS NOT NULL" for name in names)
        match = " AND ".join(
            f"c.{child} = r.{quote(parent)}" for child, parent in zip(names, rule.args["columns"], strict=True)
        )
        keys = ", ".join(names)
        grouped = ", ".join(["_part", *names] if self._by_partition else names)
        part, group = ("c._part", " GROUP BY part") if self._by_partition else ("CAST(NULL AS DATE)", "")
        parent = staging(rule.args["table"]).quoted(DIALECT)
        if "partition_field" in rule.args:
            match += f" AND {any_partition(rule.args['partition_field'], 'r.', DIALECT)}"
        return (
            f"SELECT 0 AS rule, {part} AS part, SUM(c._n) AS failed, CAST(NULL AS FLOAT64) AS observed"
            f" FROM (SELECT {self._part} AS _part, {keys}, COUNT(*) AS _n FROM {self._relation}"
            f" WHERE {present} AND {self._where} GROUP BY {grouped}) AS c"
            f" WHERE NOT EXISTS (SELECT 1 FROM {parent} AS r WHERE {match}){group}"
        )

    def _reconcile(self, rule: Rule) -> str:
        return reconcile_sql(self._table, rule, self._partitions, self._scope, DIALECT)

    def _quantile(self, rule: Rule) -> str:
        window = "PARTITION BY _part" if self._by_partition else ""
        value = f"CAST({quote(rule.columns[0])} AS FLOAT64)"
        part, group = ("_part", " GROUP BY part") if self._by_partition else ("CAST(NULL AS DATE)", "")
        return (
            f"SELECT 0 AS rule, {part} AS part, CAST(NULL AS INT64) AS failed,"
            f" IF(LOGICAL_OR(IS_NAN(_v)), {NOT_A_NUMBER.format('FLOAT64')}, ANY_VALUE(_m)) AS observed"
            f" FROM (SELECT _part, _v, PERCENTILE_CONT(_v, {quantile(rule)!r}) OVER ({window}) AS _m FROM"
            f" (SELECT {self._part} AS _part, {value} AS _v FROM {self._relation} WHERE {self._where})){group}"
        )

    def _queries(self, rule: Rule) -> list[str]:
        """A contract's own scalar query, once per partition: the table it names holds that partition's rows only.

        Each partition has a predicate of constants, so that BigQuery reads it once, for its own query. What a statement
        may be long is limited: one is for `BRANCHES` partitions at most.
        """
        tree, table = query_tree(rule), self._table
        if not self._by_partition:
            rows = f"(SELECT * FROM {self._relation} WHERE {self._where})"
            return [self._observed(with_object(tree, rows, DIALECT), self._part)]
        keys = sorted(self._partitions or ([table.partitioning.example] if table.partitioning else []))
        selects = []
        for key in keys:
            rows = f"(SELECT * FROM {self._relation} WHERE {in_partitions(table, [key], '', DIALECT)})"
            selects.append(
                self._observed(with_object(tree, rows, DIALECT), partition_start_literal(table, key, DIALECT))
            )
        return ["\nUNION ALL ".join(selects[start : start + BRANCHES]) for start in range(0, len(selects), BRANCHES)]

    def _observed(self, query: str, part: str) -> str:
        return (
            f"SELECT 0 AS rule, {part} AS part, CAST(NULL AS INT64) AS failed, CAST(({query}) AS FLOAT64) AS observed"
        )


_BUILDERS: dict[RuleKind, Callable[[BigQueryPlan, Rule], str]] = {
    RuleKind.ORPHANS: BigQueryPlan._orphans,
    RuleKind.RECONCILE: BigQueryPlan._reconcile,
}
"""How kinds of rules that read more than the partitions' rows are asked for."""
