"""Rules that observe one value of many rows, as SQL expressions over a partition's rows."""

from __future__ import annotations

from dataops_platform.contracts.model import Rule, RuleKind, Table
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.names import quote

ROW_COUNT = "row_count"
_FUNCTIONS = {"avg": "AVG", "min": "MIN", "max": "MAX", "sum": "SUM", "stddev": "STDDEV_SAMP"}
MEDIAN = 0.5
NOT_A_NUMBER = "CAST('NaN' AS {})"
_ORDERING = ("min", "median", "quantile")
"""Functions that DuckDB only sorts NaN for; of the others it makes NaN anyway."""


def decided_by_count(rule: Rule) -> bool:
    """Whether the number of rows, which every scan tells, is all that a rule needs of them."""
    if rule.kind is RuleKind.RECONCILE:
        return rule.args["table"] is None
    return rule.kind is RuleKind.ROW_COUNT or (rule.kind is RuleKind.ANOMALY and rule.args["function"] == ROW_COUNT)


def aggregated(rule: Rule) -> bool:
    """Whether a rule observes what an aggregate function says of a partition."""
    if rule.kind is RuleKind.ANOMALY:
        return not decided_by_count(rule)
    return rule.kind in (RuleKind.AGGREGATE, RuleKind.EVENT_LATENCY, RuleKind.FRESHNESS)


def quantile(rule: Rule) -> float | None:
    """The share of values below what a rule observes, if it observes a quantile."""
    if not aggregated(rule) or "function" not in rule.args:
        return None
    share: float | None = {"median": MEDIAN, "quantile": rule.args.get("quantile")}.get(rule.args["function"])
    return share


def aggregate_sql(table: Table, rule: Rule, dialect: str) -> str:
    """What a rule observes, in double precision; quantiles on DuckDB only (BigQuery has no exact ones as aggregates).

    Freshness is the newest moment, in seconds since 1970: how long ago that was is up to who asks.
    """
    double = "FLOAT64" if dialect == "bigquery" else "DOUBLE"
    if rule.kind is RuleKind.FRESHNESS:
        # The moment of the greatest value, not the greatest of all moments: DuckDB's statistics know that value.
        return seconds(table, rule.columns[0], dialect, f"MAX({quote(rule.columns[0], dialect)})")
    if rule.kind is RuleKind.EVENT_LATENCY:
        delivered = "UNIX_MICROS(_created_at) / 1e6" if dialect == "bigquery" else "epoch(_created_at)"
        return f"MAX({delivered} - {seconds(table, rule.columns[0], dialect)}) / 3600"
    column, function = quote(rule.columns[0], dialect), rule.args["function"]
    if function == "distinct":
        return f"CAST(COUNT(DISTINCT {column}) AS {double})"
    if table.column(rule.columns[0]).type.kind is not Kind.NUMBER:
        return _of(rule, column, double)
    # NaN anywhere makes NaN; left to the engines, it may be the least or the greatest of numbers.
    if dialect == "bigquery":
        others = _of(rule, f"CASE WHEN IS_NAN({column}) THEN NULL ELSE {column} END", double)
        return f"CASE WHEN LOGICAL_OR(IS_NAN({column})) THEN {NOT_A_NUMBER.format(double)} ELSE {others} END"
    if function not in _ORDERING:
        return _of(rule, column, double)
    # To DuckDB it is the greatest: its own maximum tells at a fraction of the cost of a look at each value.
    return f"CASE WHEN isnan(max({column})) THEN {NOT_A_NUMBER.format(double)} ELSE {_of(rule, column, double)} END"


def _of(rule: Rule, values: str, double: str) -> str:
    share = quantile(rule)
    if share is not None:
        return f"quantile_cont(CAST({values} AS DOUBLE), {share!r})"
    return f"CAST({_FUNCTIONS[rule.args['function']]}({values}) AS {double})"


def seconds(table: Table, name: str, dialect: str, value: str | None = None) -> str:
    """A column's moment in seconds since 1970. A date stands for its end, a time without a zone is in the table's.

    Args:
        value: an expression of the column's type, in place of its value in each row.
    """
    zone = table.by_time.timezone if table.by_time else "UTC"
    column, kind = value or quote(name, dialect), table.column(name).type.kind
    if dialect == "bigquery":
        if kind is Kind.DATE:
            column = f"TIMESTAMP(DATE_ADD({column}, INTERVAL 1 DAY), '{zone}')"
        elif kind is Kind.DATETIME:
            column = f"TIMESTAMP({column}, '{zone}')"
        return f"UNIX_MICROS({column}) / 1e6"
    if kind is Kind.DATE:
        column = f"timezone('{zone}', CAST({column} + 1 AS TIMESTAMP))"
    elif kind is Kind.DATETIME:
        column = f"timezone('{zone}', {column})"
    return f"epoch({column})"
