"""Expectations about the values of one column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dataops_platform_tests.conformance.columns import Typed
from dataops_platform_tests.conformance.rules import (
    Translation,
    Unsupported,
    about_rows,
    about_value,
    about_values,
    bounds_of,
    column_of,
    invalid_values,
    mostly_of,
    numbers_of,
    strict_ends,
    text,
    written,
)


def not_null(arguments: dict[str, Any], table: Typed) -> Translation:
    return about_values(arguments, column_of(arguments, table), {"metric": "nullValues"}, of_all=True)


def null(arguments: dict[str, Any], table: Typed) -> Translation:
    column = column_of(arguments, table)
    made = about_rows(arguments, f"{column} IS NOT NULL", (), column)
    return Translation(rules=made.rules, mostly=made.mostly, of=None, shows=column)


def unique(arguments: dict[str, Any], table: Typed) -> Translation:
    column = column_of(arguments, table)
    if mostly_of(arguments) < 1:  # every row of a key that repeats counts, not only those that are too many
        share = (
            f"SELECT COALESCE((SELECT SUM(n) FROM (SELECT COUNT(*) AS n FROM {{object}} WHERE {column} IS NOT NULL"
            f" GROUP BY {column}) AS g WHERE n > 1), 0) * 1.0 / COUNT({column}) FROM {{object}}"
        )
        return about_value(share, mustBeLessOrEqualTo=round(1 - mostly_of(arguments), 12))
    return Translation({column: {"quality": [{"id": "rule", "metric": "duplicateValues", "mustBe": 0}]}})


def in_set(arguments: dict[str, Any], table: Typed, key: str = "validValues") -> Translation:
    column = column_of(arguments, table)
    kind, values = table.types[column], arguments.get("value_set")
    if not isinstance(values, list):
        raise Unsupported("no set of values")
    found = [written(value, kind) for value in values if value is not None]
    if not found:
        condition = f"{column} IS NOT NULL" if key == "validValues" else f"{column} IS NULL AND {column} IS NOT NULL"
        return about_rows(arguments, condition, [column], column)
    return invalid_values(arguments, table, **{key: list(dict.fromkeys(found))})


def between(arguments: dict[str, Any], table: Typed) -> Translation:
    column = column_of(arguments, table)
    low, high = bounds_of(arguments)
    kind = table.types[column]
    names = [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")]
    given = [
        (strict if is_strict else loose, value)
        for (strict, loose), value, is_strict in zip(names, (low, high), strict_ends(arguments), strict=True)
        if value is not None
    ]
    if kind in ("string", "boolean"):
        if not all(isinstance(value, str) for _, value in given):
            raise Unsupported(f"bounds that aren't of the column's type, {kind}")
        operators = {"minimum": "<", "exclusiveMinimum": "<=", "maximum": ">", "exclusiveMaximum": ">="}
        return about_rows(
            arguments, " OR ".join(f"{column} {operators[n]} {text(v)}" for n, v in given), [column], column
        )  # fmt: skip
    return invalid_values(arguments, table, **{name: written(value, kind) for name, value in given})


def lengths(arguments: dict[str, Any], table: Typed) -> Translation:
    low, high = bounds_of(arguments)
    if any(value is not None and (isinstance(value, bool) or value != int(value)) for value in (low, high)):
        raise Unsupported("a length that isn't a whole number")
    given = {name: int(value) for name, value in (("minLength", low), ("maxLength", high)) if value is not None}
    return invalid_values(arguments, table, **given)


def length(arguments: dict[str, Any], table: Typed) -> Translation:
    value = arguments.get("value")
    return lengths(arguments | {"min_value": value, "max_value": value}, table)


def regex(arguments: dict[str, Any], table: Typed) -> Translation:
    return invalid_values(arguments, table, pattern=arguments["regex"])


def texts(arguments: Mapping[str, Any], table: Typed) -> str:
    column = column_of(arguments, table)
    if table.types[column] != "string":
        raise Unsupported(f"patterns are for texts, and {column} is {table.types[column]}")
    return column


def no_regex(arguments: dict[str, Any], table: Typed) -> Translation:
    column = texts(arguments, table)
    return about_rows(arguments, f"REGEXP_LIKE({column}, {text(arguments['regex'])})", [column], column)


def patterns(
    arguments: Mapping[str, Any], table: Typed, key: str, form: Callable[[str, str], str], negated: bool
) -> Translation:
    column = texts(arguments, table)
    found = [form(column, pattern) for pattern in arguments[key]]
    if negated:
        condition = " OR ".join(found)
    elif arguments.get("match_on", "any") == "all":
        condition = " OR ".join(f"NOT {one}" for one in found)
    else:
        condition = " AND ".join(f"NOT {one}" for one in found)
    return about_rows(arguments, condition, [column], column)


def as_regex(column: str, pattern: str) -> str:
    return f"REGEXP_LIKE({column}, {text(pattern)})"


def as_like(column: str, pattern: str) -> str:
    if "[" in pattern:
        raise Unsupported("LIKE with classes of characters, which is one engine's own")
    return f"({column} LIKE {text(pattern)})"


def like(arguments: dict[str, Any], table: Typed) -> Translation:
    column = texts(arguments, table)
    return about_rows(arguments, f"NOT {as_like(column, arguments['like_pattern'])}", [column], column)


def no_like(arguments: dict[str, Any], table: Typed) -> Translation:
    column = texts(arguments, table)
    return about_rows(arguments, as_like(column, arguments["like_pattern"]), [column], column)


def date_format(arguments: dict[str, Any], table: Typed) -> Translation:
    if arguments.get("strftime_format") != "%Y-%m-%d":
        raise Unsupported("formats of dates other than YYYY-MM-DD")
    return invalid_values(arguments, table, format="date")


def z_scores(arguments: dict[str, Any], table: Typed) -> Translation:
    column = numbers_of(arguments, table)
    score = f"({column} - (SELECT AVG({column}) FROM {{object}})) / (SELECT STDDEV_POP({column}) FROM {{object}})"
    value = f"ABS({score})" if arguments.get("double_sided") else score
    return about_value(
        f"SELECT SUM(CASE WHEN {value} > {arguments['threshold']!r} THEN 1 ELSE 0 END) * 1.0 / COUNT({column})"
        " FROM {object}",
        mustBeLessOrEqualTo=round(1 - mostly_of(arguments), 12),
    )
