"""Queries that decide rules, and the SQL of a contract in an engine's dialect.

Every statement returns the same four columns: `rule` (index into the statement's rules; -1: the row count),
`part` (start of the partition, null for tables without), `failed` (rows that break the rule) and `observed`
(the value of rules that observe one). A partition without a row in the result has 0 failed and no value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from dataops_platform.contracts.model import Rule, Scope, Table
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.quality.predicates import CONTRACT_DIALECT, bad_row

ROW_COUNT_INDEX = -1


@dataclass(frozen=True, slots=True)
class Proof:
    """A cheaper way to see that no row breaks a statement's rules. Where it fails, that says nothing.

    Attributes:
        sql: a query of one row. Its single value is the answer, unless there is `then`.
        then: makes of that row the query whose single value is the answer; None where that wouldn't be cheaper.
    """

    sql: str
    then: Callable[[Sequence[Any]], str | None] | None = None

    def holds(self, query: Callable[[str], pa.Table]) -> bool:
        """Whether no row breaks the rules, asked of a warehouse."""
        sql: str | None = self.sql
        if self.then is not None:
            (row,) = query(self.sql).to_pylist()
            sql = self.then(list(row.values()))
        return sql is not None and query(sql).column(0)[0].as_py() is True


@dataclass(frozen=True, slots=True)
class Statement:
    """One query that decides some rules of a table.

    Attributes:
        id: names it in verdicts and in `dataops contract show`, like `flights.scan`.
        rules: the rules it decides; the result's `rule` column counts from 0 in this order.
        sql: the query, in the engine's dialect.
        scope: whether its rows are per partition or for the whole table.
        proofs: cheaper ways to see that no row breaks its rules, to be tried in order before `sql` is run.
    """

    id: str
    rules: tuple[Rule, ...]
    sql: str
    scope: Scope
    proofs: tuple[Proof, ...] = ()


def render_bad(table: Table, rule: Rule, dialect: str) -> str:
    """A row rule's condition in an engine's dialect."""
    tree = bad_row(table, rule)
    if dialect == "duckdb":
        # DuckDB orders NaN above every number and prunes on comparisons, not on isnan().
        tree = tree.transform(
            lambda node: (
                exp.EQ(this=node.this, expression=exp.cast(exp.Literal.string("NaN"), "DOUBLE"))
                if isinstance(node, exp.IsNan)
                else node
            )
        )
    if dialect == "bigquery":
        tree = tree.transform(_bigquery_decimal)
    return f"({tree.sql(dialect=dialect)})"


def _bigquery_decimal(node: exp.Expr) -> exp.Expr:
    """A decimal type by the name that BigQuery has for its size."""
    if not isinstance(node, exp.DataType) or node.this is not exp.DataType.Type.DECIMAL or len(node.expressions) != 2:
        return node
    precision, scale = (int(size.name) for size in node.expressions)
    return exp.DataType.build(FieldType(Kind.DECIMAL, precision, scale).bigquery, dialect="bigquery")


OBJECT_PLACEHOLDER = "__object__"
"""Stands for the contract's `{object}` while a query is a tree."""


def query_tree(rule: Rule) -> exp.Expr:
    """A contract's own query, with a placeholder for its table."""
    return sqlglot.parse_one(rule.args["query"].replace("{object}", OBJECT_PLACEHOLDER), dialect=CONTRACT_DIALECT)


def with_object(tree: exp.Expr, subquery: str, dialect: str) -> str:
    """A contract's own query over a subquery, both in an engine's dialect."""
    replaced = tree.copy()
    for node in list(replaced.find_all(exp.Table)):
        if node.name == OBJECT_PLACEHOLDER:
            alias = node.alias or "object"
            parsed = sqlglot.parse_one(f"SELECT * FROM {subquery} AS {alias}", dialect=dialect).find(exp.Subquery)
            assert parsed is not None
            node.replace(parsed)
    return replaced.sql(dialect=dialect)
