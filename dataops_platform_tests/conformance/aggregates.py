"""Expectations about a column as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataops_platform_tests.conformance.columns import Typed
from dataops_platform_tests.conformance.rules import (
    Translation,
    Unsupported,
    about_value,
    bounds_of,
    column_of,
    literal,
    numbers_of,
    strict_ends,
    thresholds,
)


def aggregate(function: str) -> Callable[[dict[str, Any], Typed], Translation]:
    def made(arguments: dict[str, Any], table: Typed) -> Translation:
        low, high = bounds_of(arguments)
        column = column_of(arguments, table)
        if table.types[column] not in ("integer", "number") and function in ("min", "max"):
            return extreme(function, column, table.types[column], low, high, strict_ends(arguments))
        column = numbers_of(arguments, table) if function != "distinct" else column
        entries = [
            {"id": f"rule_{number}", "type": "custom", "engine": "dataops",
             "implementation": {"rule": "aggregate", "function": function, "column": column, **threshold}}
            for number, threshold in enumerate(thresholds(low, high, *strict_ends(arguments)))
        ]  # fmt: skip
        return Translation(rules=entries, observes=True)

    return made


def extreme(function: str, column: str, kind: str, low: Any, high: Any, strict: tuple[Any, Any]) -> Translation:
    """The least or greatest of texts or times: rules observe numbers, so SQL compares."""
    value = f"{function.upper()}({column})"
    terms = []
    if low is not None:
        terms.append(f"{value} {'>' if strict[0] else '>='} {literal(low, kind)}")
    if high is not None:
        terms.append(f"{value} {'<' if strict[1] else '<='} {literal(high, kind)}")
    return about_value(f"SELECT CASE WHEN {' AND '.join(terms)} THEN 0 ELSE 1 END FROM {{object}}")


def quantiles(arguments: dict[str, Any], table: Typed) -> Translation:
    column, ranges = numbers_of(arguments, table), arguments["quantile_ranges"]
    entries = []
    for number, (share, (low, high)) in enumerate(zip(ranges["quantiles"], ranges["value_ranges"], strict=True)):
        for side, threshold in enumerate(thresholds(low, high)):
            implementation = {"rule": "aggregate", "function": "quantile", "quantile": share, "column": column}
            entries.append(
                {"id": f"rule_{number}_{side}", "type": "custom", "engine": "dataops",
                 "implementation": implementation | threshold}
            )  # fmt: skip
    return Translation(rules=entries)


def proportion(arguments: dict[str, Any], table: Typed) -> Translation:
    column = column_of(arguments, table)
    (threshold, *more) = thresholds(*bounds_of(arguments), *strict_ends(arguments))
    query = f"SELECT COUNT(DISTINCT {column}) * 1.0 / COUNT({column}) FROM {{object}}"
    made = about_value(query, **threshold)
    others = [dict(made.rules[0]) | {"id": f"rule_{n}"} for n, _ in enumerate(more)]
    for other, extra in zip(others, more, strict=True):
        for name in threshold:
            del other[name]
        other |= extra
    return Translation(rules=[*made.rules, *others], observes=True)


def distinct(relation: str) -> Callable[[dict[str, Any], Typed], Translation]:
    """The set of a column's values against a given one."""

    def made(arguments: dict[str, Any], table: Typed) -> Translation:
        column = column_of(arguments, table)
        kind, given = table.types[column], arguments.get("value_set")
        if not isinstance(given, list):
            raise Unsupported("no set of values")
        if not given:
            if relation == "contains":
                return about_value("SELECT COUNT(*) - COUNT(*) FROM {object}")
            return about_value(f"SELECT COUNT({column}) FROM {{object}}")
        values = ", ".join(dict.fromkeys(literal(value, kind) for value in given if value is not None))
        count = len(dict.fromkeys(literal(value, kind) for value in given if value is not None))
        inside = f"COUNT(DISTINCT CASE WHEN {column} IN ({values}) THEN {column} END)"
        if relation == "contains":
            return about_value(f"SELECT {count} - {inside} FROM {{object}}")
        if relation == "within":
            return about_value(f"SELECT COUNT(DISTINCT {column}) - {inside} FROM {{object}}")
        return about_value(f"SELECT {count} - {inside} + COUNT(DISTINCT {column}) - {inside} FROM {{object}}")

    return made


def most_common(arguments: dict[str, Any], table: Typed) -> Translation:
    column = column_of(arguments, table)
    kind = table.types[column]
    values = ", ".join(literal(value, kind) for value in arguments["value_set"])
    counts = f"(SELECT {column} AS v, COUNT(*) AS n FROM {{object}} WHERE {column} IS NOT NULL GROUP BY {column}) AS c"
    most = f"(SELECT MAX(n) FROM {counts})"
    inside = f"SUM(CASE WHEN n = {most} AND v IN ({values}) THEN 1 ELSE 0 END)"
    modes = f"SUM(CASE WHEN n = {most} THEN 1 ELSE 0 END)"
    good = f"{inside} >= 1" if arguments.get("ties_okay") else f"{inside} = {modes} AND {modes} = 1"
    return about_value(f"SELECT CASE WHEN {good} THEN 0 ELSE 1 END FROM {counts}")
