"""What expectations have in common: how they are written as rules, and what they say of values and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataops_platform_tests.conformance.columns import Typed, moment


class Unsupported(Exception):
    """The catalogue has no such rule; the message says why."""


@dataclass(frozen=True)
class Translation:
    """What to write into the contract, and how to read the outcome.

    Attributes:
        columns: column → fields of its property.
        rules: quality entries of the table.
        mostly: the share of values that must not break a row rule; of those that aren't null in `of`.
        of: the columns whose nulls don't count for `mostly`; None: all rows count.
        shows: the column whose failing values `unexpected_list` names; None: it isn't compared.
        observes: whether `observed_value` is what the only rule observed.
        declared: columns that the contract declares instead of those of the data, for rules about the schema.
        only_missing: of the schema's differences, only columns that aren't there count.
        where: rows that the rule is about, in SQL; None: all.
    """

    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: Sequence[Mapping[str, Any]] = ()
    mostly: float = 1.0
    of: tuple[str, ...] | None = None
    shows: str | None = None
    observes: bool = False
    declared: Mapping[str, str] | None = None
    only_missing: bool = False
    where: str | None = None


def column_of(arguments: Mapping[str, Any], table: Typed) -> str:
    name = arguments.get("column")
    if name not in table.types:
        raise Unsupported(f"the data has no column {name!r}")
    return str(name)


def mostly_of(arguments: Mapping[str, Any]) -> float:
    value = arguments.get("mostly")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unsupported("`mostly` isn't a number")
    if not 0 <= value <= 1:
        raise Unsupported("`mostly` isn't a share")
    return float(value)


def about_values(
    arguments: Mapping[str, Any], column: str, entry: Mapping[str, Any], of_all: bool = False
) -> Translation:
    """A rule about single values of a column."""
    return Translation(
        {column: {"quality": [{"id": "rule", "mustBe": 0, **entry}]}},
        mostly=mostly_of(arguments),
        of=None if of_all else (column,),
        shows=column,
    )


def invalid_values(arguments: Mapping[str, Any], table: Typed, **what: Any) -> Translation:
    return about_values(arguments, column_of(arguments, table), {"metric": "invalidValues", "arguments": what})


def about_rows(
    arguments: Mapping[str, Any], condition: str, of: Sequence[str], shows: str | None = None
) -> Translation:
    """A rule about rows, in SQL: the condition is true for a bad row."""
    entry = {"id": "rule", "type": "sql", "dimension": "conformity", "mustBe": 0}
    return Translation(
        rules=[entry | {"query": f"SELECT COUNT(*) FROM {{object}} WHERE {condition}"}],
        mostly=mostly_of(arguments), of=tuple(of), shows=shows,
    )  # fmt: skip


def about_value(query: str, **threshold: Any) -> Translation:
    """A rule about one value, in SQL."""
    return Translation(
        rules=[{"id": "rule", "type": "sql", "dimension": "conformity", "query": query, **(threshold or {"mustBe": 0})}]
    )


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def literal(value: Any, kind: str) -> str:
    """A value as SQL of a column's type."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float) and kind in ("integer", "number"):
        return repr(value)
    if not isinstance(value, str):
        raise Unsupported(f"{value!r} isn't of the column's type, {kind}")
    if kind == "string":
        return text(value)
    try:
        found = moment(value)
    except ValueError as error:
        raise Unsupported(f"{value!r} isn't of the column's type, {kind}") from error
    if kind == "date":
        return f"CAST('{found:%Y-%m-%d}' AS DATE)"
    if kind == "timestamp":
        return f"CAST('{found.isoformat()}' AS TIMESTAMPTZ)"
    raise Unsupported(f"{value!r} isn't of the column's type, {kind}")


def written(value: Any, kind: str) -> Any:
    """A value as a contract has it, for a column's type."""
    literal(value, kind)
    if kind == "date":
        return f"{moment(value):%Y-%m-%d}"
    return moment(value).isoformat() if kind == "timestamp" else value


def bounds_of(arguments: Mapping[str, Any], name: str = "min_value", other: str = "max_value") -> tuple[Any, Any]:
    low, high = arguments.get(name), arguments.get(other)
    if isinstance(low, dict) or isinstance(high, dict):
        raise Unsupported("bounds that are computed elsewhere")
    if low is None and high is None:
        raise Unsupported("no bound at all")
    return low, high


def thresholds(low: Any, high: Any, strict_low: Any = False, strict_high: Any = False) -> list[dict[str, Any]]:
    """Operators for a value within bounds; one for each where they aren't both there, or are strict."""
    for value in (low, high):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Unsupported(f"bound {value!r} isn't a number")
    if low is not None and low == high and not strict_low and not strict_high:
        return [{"mustBe": low}]
    if low is not None and high is not None and not strict_low and not strict_high:
        return [{"mustBeBetween": [low, high]}]
    found = []
    if low is not None:
        found.append({"mustBeGreaterThan" if strict_low else "mustBeGreaterOrEqualTo": low})
    if high is not None:
        found.append({"mustBeLessThan" if strict_high else "mustBeLessOrEqualTo": high})
    return found


def strict_ends(arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    return arguments.get("strict_min", False), arguments.get("strict_max", False)


def numbers_of(arguments: Mapping[str, Any], table: Typed) -> str:
    column = column_of(arguments, table)
    if table.types[column] not in ("integer", "number"):
        raise Unsupported(f"an aggregate of numbers, and {column} is {table.types[column]}")
    return column
