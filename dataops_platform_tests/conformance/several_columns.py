"""Expectations about several columns of a row, or of a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataops_platform_tests.conformance.columns import Typed
from dataops_platform_tests.conformance.rules import (
    Translation,
    Unsupported,
    about_rows,
    about_value,
    literal,
    mostly_of,
)


def pair(arguments: Mapping[str, Any], table: Typed) -> tuple[str, str, str]:
    """Both columns, and the condition for rows that count."""
    one, other = str(arguments["column_A"]), str(arguments["column_B"])
    for name in (one, other):
        if name not in table.types:
            raise Unsupported(f"the data has no column {name!r}")
    ignored = arguments.get("ignore_row_if", "both_values_are_missing")
    counts = {
        "both_values_are_missing": f"NOT ({one} IS NULL AND {other} IS NULL)",
        "either_value_is_missing": f"{one} IS NOT NULL AND {other} IS NOT NULL",
        "neither": "1 = 1", "never": "1 = 1",
    }  # fmt: skip
    if ignored not in counts:
        raise Unsupported(f"ignore_row_if {ignored!r}")
    kinds = {table.types[one], table.types[other]}
    if len(kinds) > 1 and not kinds <= {"integer", "number"}:
        raise Unsupported(f"columns of types {' and '.join(sorted(kinds))} can't be compared")
    return one, other, counts[ignored]


def pair_rule(condition: str, counts: str, arguments: Mapping[str, Any]) -> Translation:
    if mostly_of(arguments) == 1:
        return about_rows(arguments, f"({counts}) AND ({condition})", ())
    share = (
        f"SELECT SUM(CASE WHEN ({counts}) AND ({condition}) THEN 1 ELSE 0 END) * 1.0"
        f" / SUM(CASE WHEN {counts} THEN 1 ELSE 0 END) FROM {{object}}"
    )
    return about_value(share, mustBeLessOrEqualTo=round(1 - mostly_of(arguments), 12))


def pair_equal(arguments: dict[str, Any], table: Typed) -> Translation:
    one, other, counts = pair(arguments, table)
    if arguments.get("ignore_row_if") == "either_value_is_missing" and mostly_of(arguments) == 1 and one != other:
        implementation = {"rule": "compare", "left": one, "operator": "=", "right": other, "mustBe": 0}
        return Translation(
            rules=[{"id": "rule", "type": "custom", "engine": "dataops", "implementation": implementation}]
        )
    return pair_rule(f"COALESCE({one} = {other}, FALSE) = FALSE", counts, arguments)


def pair_greater(arguments: dict[str, Any], table: Typed) -> Translation:
    one, other, counts = pair(arguments, table)
    operator = ">=" if arguments.get("or_equal") else ">"
    return pair_rule(f"COALESCE({one} {operator} {other}, FALSE) = FALSE", counts, arguments)


def pair_in_set(arguments: dict[str, Any], table: Typed) -> Translation:
    one, other, counts = pair(arguments, table)

    def same(column: str, value: Any) -> str:
        return f"{column} IS NULL" if value is None else f"{column} = {literal(value, table.types[column])}"

    allowed = " OR ".join(f"({same(one, a)} AND {same(other, b)})" for a, b in arguments["value_pairs_set"] or ())
    return pair_rule(f"COALESCE({allowed or 'FALSE'}, FALSE) = FALSE", counts, arguments)


def several(arguments: Mapping[str, Any], table: Typed) -> tuple[list[str], str]:
    """The columns, and the condition for rows that count."""
    names = [str(name) for name in arguments["column_list"]]
    for name in names:
        if name not in table.types:
            raise Unsupported(f"the data has no column {name!r}")
    ignored = arguments.get("ignore_row_if", "all_values_are_missing")
    nulls = [f"{name} IS NULL" for name in names]
    counts = {
        "all_values_are_missing": f"NOT ({' AND '.join(nulls)})",
        "any_value_is_missing": f"NOT ({' OR '.join(nulls)})",
        "never": "1 = 1",
    }
    if ignored not in counts:
        raise Unsupported(f"ignore_row_if {ignored!r}")
    return names, counts[ignored]


def sum_of_columns(arguments: dict[str, Any], table: Typed) -> Translation:
    names, counts = several(arguments, table)
    if any(table.types[name] not in ("integer", "number") for name in names):
        raise Unsupported("a sum of columns that aren't numbers")
    total = " + ".join(names)
    return pair_rule(f"COALESCE({total} = {arguments['sum_total']!r}, FALSE) = FALSE", counts, arguments)


def within_record(arguments: dict[str, Any], table: Typed) -> Translation:
    names, counts = several(arguments, table)
    if len({table.types[name] for name in names} - {"integer", "number"}) > 1:
        raise Unsupported("columns of different types can't be compared")
    same = " OR ".join(
        f"COALESCE({one} = {other}, {one} IS NULL AND {other} IS NULL)"
        for place, one in enumerate(names) for other in names[place + 1 :]
    )  # fmt: skip
    return pair_rule(same, counts, arguments)


def compound(arguments: dict[str, Any], table: Typed) -> Translation:
    names, counts = several(arguments, table)
    nulls = any(value is None for name in names for value in table.values[name])
    if not nulls and mostly_of(arguments) == 1:
        entry = {"id": "rule", "metric": "duplicateValues", "arguments": {"properties": names}, "mustBe": 0}
        return Translation(rules=[entry])
    repeated = (
        f"SELECT COALESCE(SUM(CASE WHEN n > 1 THEN n ELSE 0 END), 0) * 1.0 / SUM(n) FROM (SELECT COUNT(*) AS n"
        f" FROM {{object}} WHERE {counts} GROUP BY {', '.join(names)}) AS g"
    )
    return about_value(repeated, mustBeLessOrEqualTo=round(1 - mostly_of(arguments), 12))
