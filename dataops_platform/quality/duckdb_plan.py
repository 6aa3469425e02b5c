"""The plan for DuckDB: the fastest mix of few statements, by measurement (see docs/performance.md).

One big fused aggregate is slower than one query per rule. What is fast is to let each simple rule be its own filtered
count, so that the engine can skip row groups by their minimum and maximum, and to look at sets and patterns over
distinct values only. All of these share one statement; keys and references, which hash the whole column, get one each.
Keys mostly arrive in order, or lie close together: either can be seen for a fraction of the cost of hashing, and proves
that none repeats.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from dataops_platform.contracts.model import Rule, RuleKind, Scope, Table
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.aggregates import aggregate_sql, aggregated, decided_by_count
from dataops_platform.quality.duckdb_proofs import close_together, in_order
from dataops_platform.quality.reconciliation import reconcile_sql
from dataops_platform.quality.statements import (
    ROW_COUNT_INDEX,
    Proof,
    Statement,
    query_tree,
    render_bad,
    with_object,
)
from dataops_platform.warehouse.names import quote, staging
from dataops_platform.warehouse.partition_sql import in_partitions, partition_start, partition_start_literal

DIALECT = "duckdb"
_TEXT_RULES = (RuleKind.PATTERN, RuleKind.FORMAT)


class DuckDBPlan:
    """Statements for rules of one table and one scope."""

    # Names of our own begin with an underscore, which no contract column does: a column may be called `n` or `part`.
    def __init__(self, table: Table, partitions: Collection[str] | None, scope: Scope) -> None:
        self._table = table
        self._partitions = partitions
        self._scope = scope
        self._relation = staging(table.name).sql
        if scope is Scope.PARTITION:
            self._part = partition_start(table)
            self._where = in_partitions(table, partitions)
        else:
            self._part, self._where = "NULL", "TRUE"

    def statements(self, rules: Sequence[Rule]) -> list[Statement]:
        """One scan, and one statement for each key, reference and custom query."""
        # Distinct values pay where few are expected: allowed sets by nature, patterns when the contract says the
        # column is no key. Everything else is a filtered count.
        builders = {
            RuleKind.DUPLICATES: self._duplicates,
            RuleKind.ORPHANS: self._orphans,
            RuleKind.QUERY: self._query,
            RuleKind.RECONCILE: self._reconcile,
        }
        own = [rule for rule in rules if rule.kind in builders and not decided_by_count(rule)]
        by_value = [
            r
            for r in rules
            if r.kind in (RuleKind.IN_SET, RuleKind.NOT_IN_SET) or (r.kind in _TEXT_RULES and self._repeats(r))
        ]
        scan = [rule for rule in rules if rule not in own and rule not in by_value]
        suffix = "" if self._scope is Scope.PARTITION or not self._table.partitioning else ".table"
        statements = [
            self._statement(
                f"scan{suffix}",
                [*scan, *by_value],
                [self._count(), *self._scan(scan), *self._values(by_value, len(scan))],
            )
        ]
        for rule in own:
            made = self._statement(f"{rule.id}{suffix}", [rule], [builders[rule.kind](rule)])
            statements.append(replace(made, proofs=self._proofs(rule)) if rule.kind is RuleKind.DUPLICATES else made)
        return statements

    def _statement(self, name: str, rules: Sequence[Rule], selects: Sequence[str]) -> Statement:
        return Statement(f"{self._table.name}.{name}", tuple(rules), "\nUNION ALL ".join(selects), self._scope)

    def _repeats(self, rule: Rule) -> bool:
        column = rule.columns[0]
        keys = [r.columns for r in self._table.rules if r.kind is RuleKind.DUPLICATES]
        return (column,) not in keys and self._table.column(column).type.kind is Kind.STRING

    def _bad(self, rule: Rule) -> str:
        return render_bad(self._table, rule, DIALECT)

    def _group(self) -> str:
        return "" if self._part == "NULL" else " GROUP BY ALL"

    def _count(self) -> str:
        return (
            f"SELECT {ROW_COUNT_INDEX} AS rule, {self._part} AS part, count(*) AS failed,"
            " CAST(NULL AS DOUBLE) AS observed"
            f" FROM {self._relation} WHERE {self._where}{self._group()}"
        )

    def _scan(self, rules: Sequence[Rule]) -> list[str]:
        selects = []
        for index, rule in enumerate(rules):
            if decided_by_count(rule):
                continue  # by the count that every scan has
            if aggregated(rule):
                selects.append(
                    f"SELECT {index}, {self._part} AS part, NULL, {aggregate_sql(self._table, rule, DIALECT)}"
                    f" FROM {self._relation} WHERE {self._where}{self._group()}"
                )
            else:
                selects.append(
                    f"SELECT {index}, {self._part} AS part, count(*), NULL FROM {self._relation}"
                    f" WHERE {self._bad(rule)} AND {self._where}{self._group()}"
                )
        return selects

    def _values(self, rules: Sequence[Rule], first: int) -> list[str]:
        """Rules judged by distinct value.

        Cut by partition, bad values are looked for in all partitions together first: where there is none, which is the
        rule, no row has to be counted.
        """
        selects = []
        for index, rule in enumerate(rules, start=first):
            column = quote(rule.columns[0])
            if self._part == "NULL":
                selects.append(
                    f"SELECT {index}, NULL AS part, CAST(sum(_n) AS BIGINT), NULL FROM (SELECT {column}, count(*) AS _n"
                    f" FROM {self._relation} WHERE {self._where} GROUP BY ALL) WHERE {self._bad(rule)}"
                )
                continue
            # Counted, though nobody asks how often: the engine would judge each row, not each value, of mere DISTINCT.
            values = f"SELECT {column}, count(*) AS _n FROM {self._relation} WHERE {self._where} GROUP BY ALL"
            bad = f"SELECT {column} FROM ({values}) WHERE {self._bad(rule)} AND _n > 0"
            selects.append(
                f"SELECT {index}, {self._part} AS part, count(*), NULL FROM {self._relation} AS t"
                f" SEMI JOIN ({bad}) AS o ON t.{column} = o.{column} WHERE {self._where} GROUP BY ALL"
            )
        return selects

    def _duplicates(self, rule: Rule) -> str:
        """Rows − distinct keys; rows with a null in the key are left out."""
        keys = ", ".join(map(quote, rule.columns))
        present = " AND ".join(f"{quote(name)} IS NOT NULL" for name in rule.columns)
        part = "" if self._part == "NULL" else f"{self._part} AS _part, "
        outer = "NULL AS part" if self._part == "NULL" else "_part AS part"
        return (
            f"SELECT 0 AS rule, {outer}, CAST(sum(_n - 1) AS BIGINT) AS failed, CAST(NULL AS DOUBLE) AS observed"
            f" FROM (SELECT {part}{keys}, count(*) AS _n FROM {self._relation} WHERE {present} AND {self._where}"
            f" GROUP BY ALL HAVING count(*) > 1){self._group()}"
        )

    def _proofs(self, rule: Rule) -> tuple[Proof, ...]:
        columns = [self._table.column(name) for name in rule.columns]
        made = (proof(columns, self._relation, self._where) for proof in (in_order, close_together))
        return tuple(filter(None, made))

    def _orphans(self, rule: Rule) -> str:
        """Rows whose key has no parent; distinct child keys are looked up, not every row.

        Cut by partition, keys without a parent are looked for in all partitions together first: where there is none,
        which is the rule, no row has to be counted.
        """
        keys = ", ".join(map(quote, rule.columns))
        present = " AND ".join(f"{quote(name)} IS NOT NULL" for name in rule.columns)
        match = " AND ".join(
            f"c.{quote(child)} = r.{quote(parent)}"
            for child, parent in zip(rule.columns, rule.args["columns"], strict=True)
        )
        parent = f"ANTI JOIN {staging(rule.args['table']).sql} AS r ON {match}"
        head = "CAST(NULL AS DOUBLE) AS observed FROM"
        if self._part == "NULL":
            return (
                f"SELECT 0 AS rule, NULL AS part, CAST(sum(c._n) AS BIGINT) AS failed, {head} (SELECT {keys},"
                f" count(*) AS _n FROM {self._relation} WHERE {present} AND {self._where} GROUP BY ALL) AS c {parent}"
            )
        same = " AND ".join(f"t.{quote(name)} = o.{quote(name)}" for name in rule.columns)
        orphans = (
            f"SELECT c.* FROM (SELECT DISTINCT {keys} FROM {self._relation} WHERE {present} AND {self._where}) AS c"
            f" {parent}"
        )
        return (
            f"SELECT 0 AS rule, {self._part} AS part, count(*) AS failed, {head} {self._relation} AS t"
            f" SEMI JOIN ({orphans}) AS o ON {same} WHERE {self._where} GROUP BY ALL"
        )

    def _reconcile(self, rule: Rule) -> str:
        return reconcile_sql(self._table, rule, self._partitions, self._scope, DIALECT)

    def _query(self, rule: Rule) -> str:
        """A contract's own scalar query, once per partition: the table it names holds that partition's rows only."""
        tree = query_tree(rule)
        columns = "*"
        if self._part == "NULL":
            body = with_object(tree, f"(SELECT {columns} FROM {self._relation} WHERE {self._where})", DIALECT)
            return f"SELECT 0 AS rule, NULL AS part, NULL AS failed, CAST(({body}) AS DOUBLE) AS observed"
        inside = f"(SELECT {columns} FROM {self._relation} WHERE {self._part} = _parts._part AND {self._where})"
        body = with_object(tree, inside, DIALECT)
        return (
            f"SELECT 0 AS rule, _parts._part AS part, NULL AS failed, CAST(({body}) AS DOUBLE) AS observed"
            f" FROM ({self._parts()}) AS _parts"
        )

    def _parts(self) -> str:
        """The partitions asked, those without rows too: a query has a value there as well, like a count of 0."""
        if self._partitions is None:
            return f"SELECT DISTINCT {self._part} AS _part FROM {self._relation} WHERE {self._where}"
        starts = ", ".join(partition_start_literal(self._table, key) for key in sorted(self._partitions))
        return f"SELECT unnest([{starts}]) AS _part"
