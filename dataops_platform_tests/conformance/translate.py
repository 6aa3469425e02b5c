"""Expectations as rules of a contract, as a user of ours would write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dataops_platform_tests.conformance.columns import Typed, logical, moment


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


def translate(expectation: str, arguments: Mapping[str, Any], table: Typed) -> Translation:
    """The expectation as rules.

    Raises:
        Unsupported: there are none that say the same.
    """
    if expectation in WITHOUT:
        raise Unsupported(WITHOUT[expectation])
    if expectation not in RULES:
        raise Unsupported("no rule of this kind")
    used = [arguments.get(name) for name in ("column", "column_A", "column_B")] + list(
        arguments.get("column_list") or ()
    )
    for name in filter(None, used):
        if name in table.without:
            raise Unsupported(f"no table can hold it: {table.without[name]}")
    made = RULES[expectation](dict(arguments), table)
    condition = arguments.get("row_condition")
    if condition and arguments.get("condition_parser") not in _PARSERS:
        raise Unsupported(f"condition_parser {arguments.get('condition_parser')!r}")
    return made if not condition else _conditional(made, str(condition), table)


# -- what expectations have in common ----------------------------------------------------------------------------------


def _column(arguments: Mapping[str, Any], table: Typed) -> str:
    name = arguments.get("column")
    if name not in table.types:
        raise Unsupported(f"the data has no column {name!r}")
    return str(name)


def _mostly(arguments: Mapping[str, Any]) -> float:
    value = arguments.get("mostly")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unsupported("`mostly` isn't a number")
    if not 0 <= value <= 1:
        raise Unsupported("`mostly` isn't a share")
    return float(value)


def _rows(arguments: Mapping[str, Any], column: str, entry: Mapping[str, Any], of_all: bool = False) -> Translation:
    """A rule about single values of a column."""
    return Translation(
        {column: {"quality": [{"id": "rule", "mustBe": 0, **entry}]}},
        mostly=_mostly(arguments),
        of=None if of_all else (column,),
        shows=column,
    )


def _invalid(arguments: Mapping[str, Any], table: Typed, **what: Any) -> Translation:
    return _rows(arguments, _column(arguments, table), {"metric": "invalidValues", "arguments": what})


def _sql(arguments: Mapping[str, Any], condition: str, of: Sequence[str], shows: str | None = None) -> Translation:
    """A rule about rows, in SQL: the condition is true for a bad row."""
    entry = {"id": "rule", "type": "sql", "dimension": "conformity", "mustBe": 0}
    return Translation(
        rules=[entry | {"query": f"SELECT COUNT(*) FROM {{object}} WHERE {condition}"}],
        mostly=_mostly(arguments), of=tuple(of), shows=shows,
    )  # fmt: skip


def _value(query: str, **threshold: Any) -> Translation:
    """A rule about one value, in SQL."""
    return Translation(
        rules=[{"id": "rule", "type": "sql", "dimension": "conformity", "query": query, **(threshold or {"mustBe": 0})}]
    )


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _literal(value: Any, kind: str) -> str:
    """A value as SQL of a column's type."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float) and kind in ("integer", "number"):
        return repr(value)
    if not isinstance(value, str):
        raise Unsupported(f"{value!r} isn't of the column's type, {kind}")
    if kind == "string":
        return _text(value)
    try:
        found = moment(value)
    except ValueError as error:
        raise Unsupported(f"{value!r} isn't of the column's type, {kind}") from error
    if kind == "date":
        return f"CAST('{found:%Y-%m-%d}' AS DATE)"
    if kind == "timestamp":
        return f"CAST('{found.isoformat()}' AS TIMESTAMPTZ)"
    raise Unsupported(f"{value!r} isn't of the column's type, {kind}")


def _written(value: Any, kind: str) -> Any:
    """A value as a contract has it, for a column's type."""
    _literal(value, kind)
    if kind == "date":
        return f"{moment(value):%Y-%m-%d}"
    return moment(value).isoformat() if kind == "timestamp" else value


def _bounds(arguments: Mapping[str, Any], name: str = "min_value", other: str = "max_value") -> tuple[Any, Any]:
    low, high = arguments.get(name), arguments.get(other)
    if isinstance(low, dict) or isinstance(high, dict):
        raise Unsupported("bounds that are computed elsewhere")
    if low is None and high is None:
        raise Unsupported("no bound at all")
    return low, high


def _thresholds(low: Any, high: Any, strict_low: Any = False, strict_high: Any = False) -> list[dict[str, Any]]:
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


def _strict(arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    return arguments.get("strict_min", False), arguments.get("strict_max", False)


# -- values of a column ------------------------------------------------------------------------------------------------


def _not_null(arguments: dict[str, Any], table: Typed) -> Translation:
    return _rows(arguments, _column(arguments, table), {"metric": "nullValues"}, of_all=True)


def _null(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _column(arguments, table)
    made = _sql(arguments, f"{column} IS NOT NULL", (), column)
    return Translation(rules=made.rules, mostly=made.mostly, of=None, shows=column)


def _unique(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _column(arguments, table)
    if _mostly(arguments) < 1:  # every row of a key that repeats counts, not only those that are too many
        share = (
            f"SELECT COALESCE((SELECT SUM(n) FROM (SELECT COUNT(*) AS n FROM {{object}} WHERE {column} IS NOT NULL"
            f" GROUP BY {column}) AS g WHERE n > 1), 0) * 1.0 / COUNT({column}) FROM {{object}}"
        )
        return _value(share, mustBeLessOrEqualTo=round(1 - _mostly(arguments), 12))
    return Translation({column: {"quality": [{"id": "rule", "metric": "duplicateValues", "mustBe": 0}]}})


def _in_set(arguments: dict[str, Any], table: Typed, key: str = "validValues") -> Translation:
    column = _column(arguments, table)
    kind, values = table.types[column], arguments.get("value_set")
    if not isinstance(values, list):
        raise Unsupported("no set of values")
    found = [_written(value, kind) for value in values if value is not None]
    if not found:
        condition = f"{column} IS NOT NULL" if key == "validValues" else f"{column} IS NULL AND {column} IS NOT NULL"
        return _sql(arguments, condition, [column], column)
    return _invalid(arguments, table, **{key: list(dict.fromkeys(found))})


def _between(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _column(arguments, table)
    low, high = _bounds(arguments)
    kind = table.types[column]
    names = [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")]
    given = [
        (strict if is_strict else loose, value)
        for (strict, loose), value, is_strict in zip(names, (low, high), _strict(arguments), strict=True)
        if value is not None
    ]
    if kind in ("string", "boolean"):
        if not all(isinstance(value, str) for _, value in given):
            raise Unsupported(f"bounds that aren't of the column's type, {kind}")
        operators = {"minimum": "<", "exclusiveMinimum": "<=", "maximum": ">", "exclusiveMaximum": ">="}
        return _sql(
            arguments, " OR ".join(f"{column} {operators[n]} {_text(v)}" for n, v in given), [column], column
        )  # fmt: skip
    return _invalid(arguments, table, **{name: _written(value, kind) for name, value in given})


def _lengths(arguments: dict[str, Any], table: Typed) -> Translation:
    low, high = _bounds(arguments)
    if any(value is not None and (isinstance(value, bool) or value != int(value)) for value in (low, high)):
        raise Unsupported("a length that isn't a whole number")
    given = {name: int(value) for name, value in (("minLength", low), ("maxLength", high)) if value is not None}
    return _invalid(arguments, table, **given)


def _length(arguments: dict[str, Any], table: Typed) -> Translation:
    value = arguments.get("value")
    return _lengths(arguments | {"min_value": value, "max_value": value}, table)


def _regex(arguments: dict[str, Any], table: Typed) -> Translation:
    return _invalid(arguments, table, pattern=arguments["regex"])


def _texts(arguments: Mapping[str, Any], table: Typed) -> str:
    column = _column(arguments, table)
    if table.types[column] != "string":
        raise Unsupported(f"patterns are for texts, and {column} is {table.types[column]}")
    return column


def _no_regex(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _texts(arguments, table)
    return _sql(arguments, f"REGEXP_LIKE({column}, {_text(arguments['regex'])})", [column], column)


def _patterns(
    arguments: Mapping[str, Any], table: Typed, key: str, form: Callable[[str, str], str], negated: bool
) -> Translation:
    column = _texts(arguments, table)
    found = [form(column, pattern) for pattern in arguments[key]]
    if negated:
        condition = " OR ".join(found)
    elif arguments.get("match_on", "any") == "all":
        condition = " OR ".join(f"NOT {one}" for one in found)
    else:
        condition = " AND ".join(f"NOT {one}" for one in found)
    return _sql(arguments, condition, [column], column)


def _as_regex(column: str, pattern: str) -> str:
    return f"REGEXP_LIKE({column}, {_text(pattern)})"


def _as_like(column: str, pattern: str) -> str:
    if "[" in pattern:
        raise Unsupported("LIKE with classes of characters, which is one engine's own")
    return f"({column} LIKE {_text(pattern)})"


def _like(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _texts(arguments, table)
    return _sql(arguments, f"NOT {_as_like(column, arguments['like_pattern'])}", [column], column)


def _no_like(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _texts(arguments, table)
    return _sql(arguments, _as_like(column, arguments["like_pattern"]), [column], column)


def _date_format(arguments: dict[str, Any], table: Typed) -> Translation:
    if arguments.get("strftime_format") != "%Y-%m-%d":
        raise Unsupported("formats of dates other than YYYY-MM-DD")
    return _invalid(arguments, table, format="date")


def _z_scores(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _numbers(arguments, table)
    score = f"({column} - (SELECT AVG({column}) FROM {{object}})) / (SELECT STDDEV_POP({column}) FROM {{object}})"
    value = f"ABS({score})" if arguments.get("double_sided") else score
    return _value(
        f"SELECT SUM(CASE WHEN {value} > {arguments['threshold']!r} THEN 1 ELSE 0 END) * 1.0 / COUNT({column})"
        " FROM {object}",
        mustBeLessOrEqualTo=round(1 - _mostly(arguments), 12),
    )


# -- aggregates --------------------------------------------------------------------------------------------------------


def _numbers(arguments: Mapping[str, Any], table: Typed) -> str:
    column = _column(arguments, table)
    if table.types[column] not in ("integer", "number"):
        raise Unsupported(f"an aggregate of numbers, and {column} is {table.types[column]}")
    return column


def _aggregate(function: str) -> Callable[[dict[str, Any], Typed], Translation]:
    def made(arguments: dict[str, Any], table: Typed) -> Translation:
        low, high = _bounds(arguments)
        column = _column(arguments, table)
        if table.types[column] not in ("integer", "number") and function in ("min", "max"):
            return _extreme(function, column, table.types[column], low, high, _strict(arguments))
        column = _numbers(arguments, table) if function != "distinct" else column
        entries = [
            {"id": f"rule_{number}", "type": "custom", "engine": "dataops",
             "implementation": {"rule": "aggregate", "function": function, "column": column, **threshold}}
            for number, threshold in enumerate(_thresholds(low, high, *_strict(arguments)))
        ]  # fmt: skip
        return Translation(rules=entries, observes=True)

    return made


def _extreme(function: str, column: str, kind: str, low: Any, high: Any, strict: tuple[Any, Any]) -> Translation:
    """The least or greatest of texts or times: rules observe numbers, so SQL compares."""
    value = f"{function.upper()}({column})"
    terms = []
    if low is not None:
        terms.append(f"{value} {'>' if strict[0] else '>='} {_literal(low, kind)}")
    if high is not None:
        terms.append(f"{value} {'<' if strict[1] else '<='} {_literal(high, kind)}")
    return _value(f"SELECT CASE WHEN {' AND '.join(terms)} THEN 0 ELSE 1 END FROM {{object}}")


def _quantiles(arguments: dict[str, Any], table: Typed) -> Translation:
    column, ranges = _numbers(arguments, table), arguments["quantile_ranges"]
    entries = []
    for number, (share, (low, high)) in enumerate(zip(ranges["quantiles"], ranges["value_ranges"], strict=True)):
        for side, threshold in enumerate(_thresholds(low, high)):
            implementation = {"rule": "aggregate", "function": "quantile", "quantile": share, "column": column}
            entries.append(
                {"id": f"rule_{number}_{side}", "type": "custom", "engine": "dataops",
                 "implementation": implementation | threshold}
            )  # fmt: skip
    return Translation(rules=entries)


def _proportion(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _column(arguments, table)
    (threshold, *more) = _thresholds(*_bounds(arguments), *_strict(arguments))
    query = f"SELECT COUNT(DISTINCT {column}) * 1.0 / COUNT({column}) FROM {{object}}"
    made = _value(query, **threshold)
    others = [dict(made.rules[0]) | {"id": f"rule_{n}"} for n, _ in enumerate(more)]
    for other, extra in zip(others, more, strict=True):
        for name in threshold:
            del other[name]
        other |= extra
    return Translation(rules=[*made.rules, *others], observes=True)


def _distinct(relation: str) -> Callable[[dict[str, Any], Typed], Translation]:
    """The set of a column's values against a given one."""

    def made(arguments: dict[str, Any], table: Typed) -> Translation:
        column = _column(arguments, table)
        kind, given = table.types[column], arguments.get("value_set")
        if not isinstance(given, list):
            raise Unsupported("no set of values")
        if not given:
            if relation == "contains":
                return _value("SELECT COUNT(*) - COUNT(*) FROM {object}")
            return _value(f"SELECT COUNT({column}) FROM {{object}}")
        values = ", ".join(dict.fromkeys(_literal(value, kind) for value in given if value is not None))
        count = len(dict.fromkeys(_literal(value, kind) for value in given if value is not None))
        inside = f"COUNT(DISTINCT CASE WHEN {column} IN ({values}) THEN {column} END)"
        if relation == "contains":
            return _value(f"SELECT {count} - {inside} FROM {{object}}")
        if relation == "within":
            return _value(f"SELECT COUNT(DISTINCT {column}) - {inside} FROM {{object}}")
        return _value(f"SELECT {count} - {inside} + COUNT(DISTINCT {column}) - {inside} FROM {{object}}")

    return made


def _most_common(arguments: dict[str, Any], table: Typed) -> Translation:
    column = _column(arguments, table)
    kind = table.types[column]
    values = ", ".join(_literal(value, kind) for value in arguments["value_set"])
    counts = f"(SELECT {column} AS v, COUNT(*) AS n FROM {{object}} WHERE {column} IS NOT NULL GROUP BY {column}) AS c"
    most = f"(SELECT MAX(n) FROM {counts})"
    inside = f"SUM(CASE WHEN n = {most} AND v IN ({values}) THEN 1 ELSE 0 END)"
    modes = f"SUM(CASE WHEN n = {most} THEN 1 ELSE 0 END)"
    good = f"{inside} >= 1" if arguments.get("ties_okay") else f"{inside} = {modes} AND {modes} = 1"
    return _value(f"SELECT CASE WHEN {good} THEN 0 ELSE 1 END FROM {counts}")


# -- several columns ---------------------------------------------------------------------------------------------------


def _pair(arguments: Mapping[str, Any], table: Typed) -> tuple[str, str, str]:
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


def _pair_rule(condition: str, counts: str, arguments: Mapping[str, Any]) -> Translation:
    if _mostly(arguments) == 1:
        return _sql(arguments, f"({counts}) AND ({condition})", ())
    share = (
        f"SELECT SUM(CASE WHEN ({counts}) AND ({condition}) THEN 1 ELSE 0 END) * 1.0"
        f" / SUM(CASE WHEN {counts} THEN 1 ELSE 0 END) FROM {{object}}"
    )
    return _value(share, mustBeLessOrEqualTo=round(1 - _mostly(arguments), 12))


def _pair_equal(arguments: dict[str, Any], table: Typed) -> Translation:
    one, other, counts = _pair(arguments, table)
    if arguments.get("ignore_row_if") == "either_value_is_missing" and _mostly(arguments) == 1 and one != other:
        implementation = {"rule": "compare", "left": one, "operator": "=", "right": other, "mustBe": 0}
        return Translation(
            rules=[{"id": "rule", "type": "custom", "engine": "dataops", "implementation": implementation}]
        )
    return _pair_rule(f"COALESCE({one} = {other}, FALSE) = FALSE", counts, arguments)


def _pair_greater(arguments: dict[str, Any], table: Typed) -> Translation:
    one, other, counts = _pair(arguments, table)
    operator = ">=" if arguments.get("or_equal") else ">"
    return _pair_rule(f"COALESCE({one} {operator} {other}, FALSE) = FALSE", counts, arguments)


def _pair_in_set(arguments: dict[str, Any], table: Typed) -> Translation:
    one, other, counts = _pair(arguments, table)

    def same(column: str, value: Any) -> str:
        return f"{column} IS NULL" if value is None else f"{column} = {_literal(value, table.types[column])}"

    allowed = " OR ".join(f"({same(one, a)} AND {same(other, b)})" for a, b in arguments["value_pairs_set"] or ())
    return _pair_rule(f"COALESCE({allowed or 'FALSE'}, FALSE) = FALSE", counts, arguments)


def _several(arguments: Mapping[str, Any], table: Typed) -> tuple[list[str], str]:
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


def _sum_of_columns(arguments: dict[str, Any], table: Typed) -> Translation:
    names, counts = _several(arguments, table)
    if any(table.types[name] not in ("integer", "number") for name in names):
        raise Unsupported("a sum of columns that aren't numbers")
    total = " + ".join(names)
    return _pair_rule(f"COALESCE({total} = {arguments['sum_total']!r}, FALSE) = FALSE", counts, arguments)


def _within_record(arguments: dict[str, Any], table: Typed) -> Translation:
    names, counts = _several(arguments, table)
    if len({table.types[name] for name in names} - {"integer", "number"}) > 1:
        raise Unsupported("columns of different types can't be compared")
    same = " OR ".join(
        f"COALESCE({one} = {other}, {one} IS NULL AND {other} IS NULL)"
        for place, one in enumerate(names) for other in names[place + 1 :]
    )  # fmt: skip
    return _pair_rule(same, counts, arguments)


def _compound(arguments: dict[str, Any], table: Typed) -> Translation:
    names, counts = _several(arguments, table)
    nulls = any(value is None for name in names for value in table.values[name])
    if not nulls and _mostly(arguments) == 1:
        entry = {"id": "rule", "metric": "duplicateValues", "arguments": {"properties": names}, "mustBe": 0}
        return Translation(rules=[entry])
    repeated = (
        f"SELECT COALESCE(SUM(CASE WHEN n > 1 THEN n ELSE 0 END), 0) * 1.0 / SUM(n) FROM (SELECT COUNT(*) AS n"
        f" FROM {{object}} WHERE {counts} GROUP BY {', '.join(names)}) AS g"
    )
    return _value(repeated, mustBeLessOrEqualTo=round(1 - _mostly(arguments), 12))


# -- tables ------------------------------------------------------------------------------------------------------------


def _row_count(arguments: dict[str, Any], table: Typed) -> Translation:
    if "value" in arguments:
        low = high = arguments["value"]
    else:
        low, high = _bounds(arguments)
    entries = [
        {"id": f"rule_{number}", "metric": "rowCount", **threshold}
        for number, threshold in enumerate(_thresholds(low, high))
    ]
    return Translation(rules=entries, observes=True)


def _same_count(arguments: dict[str, Any], table: Typed) -> Translation:
    implementation = {"rule": "reconcile", "function": "rowCount", "with": arguments["other_table_name"], "mustBe": 0}
    return Translation(rules=[{"id": "rule", "type": "custom", "engine": "dataops", "implementation": implementation}])


def _schema(declared: Mapping[str, str], only_missing: bool) -> Translation:
    implementation = {"rule": "schema", "mustBe": 0}
    return Translation(
        rules=[{"id": "rule", "type": "custom", "engine": "dataops", "implementation": implementation}],
        declared=declared, only_missing=only_missing,
    )  # fmt: skip


def _exists(arguments: dict[str, Any], table: Typed) -> Translation:
    if arguments.get("column_index") is not None:
        raise Unsupported("the order of columns: they are found by name")
    name = str(arguments.get("column"))
    return _schema({name: table.types.get(name, "string")}, True)


def _column_set(arguments: dict[str, Any], table: Typed) -> Translation:
    names = arguments.get("column_set")
    if names is None:
        raise Unsupported("no set of columns")
    return _schema({name: table.types.get(name, "string") for name in names}, arguments.get("exact_match") is False)


def _of_type(arguments: dict[str, Any], table: Typed) -> Translation:
    return _of_types(arguments | {"type_list": [arguments.get("type_")]}, table)


def _of_types(arguments: dict[str, Any], table: Typed) -> Translation:
    """A contract declares one type: of those given the column's own, if it is among them."""
    column, given = _column(arguments, table), arguments.get("type_list")
    if not isinstance(given, list):
        raise Unsupported("no list of types")
    kinds = {kind for name in given for kind in logical(str(name))}
    if not kinds:
        raise Unsupported(f"types {', '.join(map(str, given))} are one engine's own")
    kind = table.types[column] if table.types[column] in kinds else min(kinds)
    return _schema(dict(table.types) | {column: kind}, False)


WITHOUT = {
    name: reason
    for names, reason in {
        (
            "expect_column_kl_divergence_to_be_less_than",
        ): "KL divergence has no bound where a bin is empty: drift is judged by PSI or Jensen-Shannon",
        (
            "expect_column_chisquare_test_p_value_to_be_greater_than",
            "expect_column_bootstrapped_ks_test_p_value_to_be_greater_than",
            "expect_column_parameterized_distribution_ks_test_p_value_to_be_greater_than",
            "expect_column_pair_cramers_phi_value_to_be_less_than",
            "expect_column_pair_values_to_be_independent",
        ): "p-values fall with the number of rows: drift is judged by PSI or Jensen-Shannon",
        (
            "expect_column_values_to_be_increasing",
            "expect_column_values_to_be_decreasing",
        ): "rows of a table have no order",
        (
            "expect_column_values_to_be_json_parseable",
            "expect_column_values_to_match_json_schema",
        ): "JSON in texts: declare the column as an object",
        ("expect_column_values_to_be_dateutil_parseable",): "what a Python library guesses to be a date",
        ("expect_table_columns_to_match_ordered_list",): "the order of columns: they are found by name",
        (
            "expect_table_column_count_to_be_between",
            "expect_table_column_count_to_equal",
        ): "the number of columns without their names: a contract names them",
        ("unexpected_rows_expectation",): "a query over another tool's batch: written as a rule of type sql",
    }.items()
    for name in names
}
"""Expectations that the catalogue leaves out on purpose."""

RULES: Mapping[str, Callable[[dict[str, Any], Typed], Translation]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_be_unique": _unique,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": lambda a, t: _in_set(a, t, "invalidValues"),
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _length,
    "expect_column_values_to_match_regex": _regex,
    "expect_column_values_to_not_match_regex": _no_regex,
    "expect_column_values_to_match_regex_list": lambda a, t: _patterns(a, t, "regex_list", _as_regex, False),
    "expect_column_values_to_not_match_regex_list": lambda a, t: _patterns(a, t, "regex_list", _as_regex, True),
    "expect_column_values_to_match_like_pattern": _like,
    "expect_column_values_to_not_match_like_pattern": _no_like,
    "expect_column_values_to_match_like_pattern_list": lambda a, t: _patterns(
        a, t, "like_pattern_list", _as_like, False
    ),
    "expect_column_values_to_not_match_like_pattern_list": lambda a, t: _patterns(
        a, t, "like_pattern_list", _as_like, True
    ),
    "expect_column_values_to_match_strftime_format": _date_format,
    "expect_column_value_z_scores_to_be_less_than": _z_scores,
    "expect_column_mean_to_be_between": _aggregate("avg"),
    "expect_column_median_to_be_between": _aggregate("median"),
    "expect_column_min_to_be_between": _aggregate("min"),
    "expect_column_max_to_be_between": _aggregate("max"),
    "expect_column_sum_to_be_between": _aggregate("sum"),
    "expect_column_stdev_to_be_between": _aggregate("stddev"),
    "expect_column_unique_value_count_to_be_between": _aggregate("distinct"),
    "expect_column_quantile_values_to_be_between": _quantiles,
    "expect_column_proportion_of_unique_values_to_be_between": _proportion,
    "expect_column_distinct_values_to_be_in_set": _distinct("within"),
    "expect_column_distinct_values_to_contain_set": _distinct("contains"),
    "expect_column_distinct_values_to_equal_set": _distinct("equal"),
    "expect_column_most_common_value_to_be_in_set": _most_common,
    "expect_column_pair_values_to_be_equal": _pair_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair_greater,
    "expect_column_pair_values_A_to_be_greater_than_B": _pair_greater,
    "expect_column_pair_values_to_be_in_set": _pair_in_set,
    "expect_multicolumn_sum_to_equal": _sum_of_columns,
    "expect_select_column_values_to_be_unique_within_record": _within_record,
    "expect_multicolumn_values_to_be_unique": _within_record,
    "expect_compound_columns_to_be_unique": _compound,
    "expect_table_row_count_to_be_between": _row_count,
    "expect_table_row_count_to_equal": _row_count,
    "expect_table_row_count_to_equal_other_table": _same_count,
    "expect_column_to_exist": _exists,
    "expect_table_columns_to_match_set": _column_set,
    "expect_column_values_to_be_of_type": _of_type,
    "expect_column_values_to_be_in_type_list": _of_types,
}
"""Expectation → how it is written in a contract."""

_PARSERS = ("pandas", "great_expectations", "great_expectations__experimental__", "python", "spark", None)
_CONDITION = re.compile(r"""^\s*(?:col\(["'](\w+)["']\)|(\w+))\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*$""")


def _conditional(made: Translation, condition: str, table: Typed) -> Translation:
    """Only rows that meet a condition count: the rule's own condition and this one, in SQL.

    Raises:
        Unsupported: the condition is more than comparisons with values, or the rule isn't about rows.
    """
    terms = []
    for part in condition.split("&"):
        match = _CONDITION.match(part.strip().removeprefix("(").removesuffix(")") if "col(" not in part else part)
        column = match and (match[1] or match[2])
        if match is None or column not in table.types or made.shows is None:
            raise Unsupported(f"row_condition {condition!r}: write the rule as an SQL condition")
        try:
            value = json.loads(match[4].replace("'", '"'))
        except ValueError as error:
            raise Unsupported(f"row_condition {condition!r}: write the rule as an SQL condition") from error
        operator = {"==": "=", "!=": "<>"}.get(match[3], match[3])
        terms.append(f"{column} {operator} {_literal(value, table.types[str(column)])}")
    return replace(made, where=" AND ".join(terms))
