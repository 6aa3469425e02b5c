"""SQL in contracts: is it one harmless SELECT, and does it decide row by row?

Queries are written in portable SQL (what sqlglot reads as its own dialect) and translated for the engine later.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dataops_platform.contracts.suggest import one_of

_OBJECT = "__dataops_object__"
_TABLE_PLACEHOLDER = re.compile(r"\$?\{\s*(?:object|table)\s*\}")
_COLUMN_PLACEHOLDER = re.compile(r"\$?\{\s*(?:column|property)\s*\}")
_OTHER_PLACEHOLDER = re.compile(r"\$?\{\s*(\w*)\s*\}")
_WRITES = (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Drop, exp.Alter, exp.TruncateTable, exp.Use, exp.Set)
_NOT_A_CONDITION = (
    "with_",
    "with",
    "joins",
    "laterals",
    "group",
    "having",
    "qualify",
    "windows",
    "distinct",
    "limit",
    "offset",
    "order",
    "sample",
    "match",
    "pivots",
)


class SqlProblem(Exception):
    """A query can't be used: what is wrong, what to do, and whether it may be for want of a broken column."""

    def __init__(self, message: str, suggestion: str, *, may_be_left_out: bool = False) -> None:
        super().__init__(message)
        self.may_be_left_out = may_be_left_out
        self.message = message
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Query:
    """A checked query.

    Attributes:
        text: the query with `{object}` for the table and the column's name filled in.
        condition: for a count of rows that meet a condition: that condition, in canonical SQL.
        columns: the table's columns that the condition (or a query of the table alone) reads.
    """

    text: str
    condition: str | None
    columns: tuple[str, ...]


def read_query(text: str, table: str, columns: Collection[str], column: str | None) -> Query:
    """Checks a query of a contract.

    Args:
        text: the query, with placeholders.
        table: name of the table it is about.
        columns: the table's columns.
        column: the column it is about, when it stands at a property.

    Raises:
        SqlProblem: it doesn't parse, isn't one SELECT of one value, writes, doesn't read the table, or (when it
            reads nothing but the table) names a column that isn't there.
    """
    filled = _fill(text, table, column)
    query = _parse(filled.replace("{object}", _OBJECT))
    if not any(found.name == _OBJECT for found in query.find_all(exp.Table)):
        raise SqlProblem("the query doesn't read the table it is about", "write `FROM {object}`")
    if len(query.selects) != 1 or isinstance(query.selects[0], exp.Star):
        raise SqlProblem("the query must return one value", "select one expression, like `SELECT COUNT(*) FROM …`")
    read: tuple[str, ...] = ()
    if _reads_the_table_alone(query):
        read = _columns(query, columns)
    condition = _condition(query)
    if condition is None:
        return Query(filled.strip().rstrip(";").strip(), None, read)
    return Query(filled.strip().rstrip(";").strip(), condition.sql(copy=False), read)


def _fill(text: str, table: str, column: str | None) -> str:
    filled = _TABLE_PLACEHOLDER.sub("{object}", text)
    if column is not None:
        filled = _COLUMN_PLACEHOLDER.sub(column, filled)
    elif _COLUMN_PLACEHOLDER.search(filled):
        raise SqlProblem("the query stands for a column, but isn't at one", "name the column, or move the rule to it")
    for other in _OTHER_PLACEHOLDER.finditer(filled):
        if other[1] != "object":
            known = one_of(other[1], ("object", "column"))
            raise SqlProblem(f"unknown placeholder `{other[0]}` in the query", known)
    return filled


def _parse(text: str) -> exp.Query:
    try:
        statements = [statement for statement in sqlglot.parse(text) if statement is not None]
    except SqlglotError as error:
        found = getattr(error, "errors", None)
        reason = found[0]["description"] if found else str(error)
        near = f" near `{found[0]['highlight']}`" if found and found[0].get("highlight") else ""
        reason = reason.replace(_OBJECT, "{object}").rstrip(".")
        raise SqlProblem(
            f"the query isn't valid SQL: {reason}{near}", "write it as `SELECT COUNT(*) FROM {object} WHERE …`"
        ) from None
    if len(statements) != 1:
        raise SqlProblem(f"the query has {len(statements)} statements", "keep one SELECT")
    statement = statements[0]
    if statement.find(*_WRITES) is not None:
        raise SqlProblem("the query does more than read", "write one SELECT that changes nothing")
    if not isinstance(statement, exp.Query):
        raise SqlProblem("the query isn't a SELECT", "write one SELECT that returns one value")
    return statement


def _reads_the_table_alone(query: exp.Query) -> bool:
    if not isinstance(query, exp.Select) or len(list(query.find_all(exp.Select, exp.SetOperation))) != 1:
        return False
    tables = list(query.find_all(exp.Table))
    return (
        len(tables) == 1
        and not any(query.args.get(key) for key in ("joins", "laterals"))
        and not query.find(exp.Unnest)
    )


def _columns(query: exp.Query, known: Collection[str]) -> tuple[str, ...]:
    """The table's columns that an expression reads, spelled as declared."""
    by_lower: Mapping[str, str] = {name.lower(): name for name in known}
    aliases = {found.alias_or_name.lower() for found in query.find_all(exp.Table)} | {_OBJECT}
    outputs = {found.alias.lower() for found in query.find_all(exp.Alias)}
    read: dict[str, None] = {}
    for column in query.find_all(exp.Column, bfs=False):
        if isinstance(column.this, exp.Star):
            continue
        qualifier, name = column.table.lower(), column.name.lower()
        if qualifier and qualifier not in aliases:
            name = qualifier if qualifier in by_lower else name  # a field of a JSON column
        if name in by_lower:
            read[by_lower[name]] = None
        elif name not in outputs:
            message = f"the query reads `{column.name}`, which is no column of the table"
            raise SqlProblem(message, one_of(column.name, known), may_be_left_out=True)
    return tuple(read)


def _condition(query: exp.Query) -> exp.Expr | None:
    """The condition of `SELECT COUNT(*) FROM {object} WHERE …`; None for any other query.

    Only such a query tells bad rows from good ones. Anything that looks beyond the row (a subquery, an
    aggregate, a window) doesn't.
    """
    if not _reads_the_table_alone(query) or any(query.args.get(key) for key in _NOT_A_CONDITION):
        return None
    selected, where = query.selects[0].unalias(), query.args.get("where")
    if not isinstance(selected, exp.Count) or not isinstance(selected.this, exp.Star) or where is None:
        return None
    if selected.args.get("expressions") or selected.args.get("distinct"):
        return None
    condition: exp.Expr = where.this
    if condition.find(exp.AggFunc, exp.Window, exp.Query, exp.Placeholder, exp.Parameter) is not None:
        return None
    source = query.find(exp.Table)
    assert source is not None  # `_reads_the_table_alone` found it
    if any(source.args.get(key) for key in ("joins", "pivots", "sample", "hints", "when", "version")):
        return None
    alias = source.alias_or_name.lower()
    for column in condition.find_all(exp.Column):
        if column.table.lower() == alias:
            column.set("table", None)
    return condition
