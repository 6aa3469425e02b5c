"""Row rules as SQL: an expression that is true for a row that breaks the rule, null or false for any other.

Expressions are built once, as sqlglot trees, and rendered for each engine. Value rules ignore nulls: completeness
rules see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import sqlglot
from sqlglot import exp

from dataops_platform.contracts.formats import DATE, FORMATS
from dataops_platform.contracts.model import Rule, RuleKind, Table
from dataops_platform.contracts.types import FieldType, Kind

_MOST_DIGITS = 38
"""Of a decimal, on DuckDB."""
_DIGITS = Context(prec=400)  # a float has no more before the point than 309


def bad_row(table: Table, rule: Rule) -> exp.Expr:
    """The condition under which a row breaks a row-level rule.

    Raises:
        KeyError: the rule doesn't judge single rows.
    """
    return _BUILDERS[rule.kind](table, rule)


def literal(type_: FieldType, value: Any) -> exp.Expr:
    """A contract's value as an SQL literal of the column's type."""
    match type_.kind:
        case Kind.NUMBER if abs(value) >= 2**63:  # an integer to BigQuery, which has none as large
            return exp.Literal.number(repr(float(value)))
        case Kind.INTEGER | Kind.NUMBER:
            return exp.Literal.number(str(value))
        case Kind.DECIMAL:
            return _exact(Decimal(str(value)), type_)
        case Kind.BOOLEAN:
            return exp.true() if value else exp.false()
        case Kind.DATE:
            return exp.cast(exp.Literal.string(str(value)), "DATE")
        case Kind.TIMESTAMP:
            return exp.cast(exp.Literal.string(str(value)), "TIMESTAMPTZ")
        case Kind.DATETIME:
            return exp.cast(exp.Literal.string(str(value)), "TIMESTAMP")
        case Kind.TIME:
            return exp.cast(exp.Literal.string(str(value)), "TIME")
        case _:
            return exp.Literal.string(str(value))


def _exact(value: Decimal, type_: FieldType) -> exp.Expr:
    """A number as it is written. To BigQuery a bare number with a point is binary floating point, which it isn't."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), value  # contracts have finite numbers
    scale = max(0, -exponent)
    whole = max(len(digits) + exponent, (type_.precision or 19) - (type_.scale or 0))
    if scale == 0 and len(digits) + exponent < 19:
        return exp.Literal.number(f"{value:f}")
    if whole + scale > _MOST_DIGITS:
        return exp.Literal.number(str(value))
    return exp.cast(exp.Literal.string(f"{value:f}"), f"DECIMAL({whole + scale}, {scale})")


def _column(rule: Rule) -> exp.Column:
    return exp.column(rule.columns[0], quoted=True)


def _not_null(_: Table, rule: Rule) -> exp.Expr:
    return exp.Is(this=_column(rule), expression=exp.null())


def _missing(table: Table, rule: Rule) -> exp.Expr:
    sentinels = [value for value in rule.args["sentinels"] if value is not None]
    condition = _not_null(table, rule)
    inside = _among(table, rule, sentinels)
    return condition if inside is None else exp.or_(condition, inside)


def _range(table: Table, rule: Rule) -> exp.Expr:
    type_ = table.column(rule.columns[0]).type
    comparisons: dict[str, type[exp.Binary]] = {
        "minimum": exp.LT,
        "exclusiveMinimum": exp.LTE,
        "maximum": exp.GT,
        "exclusiveMaximum": exp.GTE,
    }
    terms: list[exp.Expr] = [
        operator(this=_column(rule), expression=literal(type_, _nearest(rule.args[name], type_, _ROUNDING[operator])))
        for name, operator in comparisons.items()
        if name in rule.args
    ]
    if "multipleOf" in rule.args:
        terms.append(_no_multiple(rule, type_))
    if type_.kind is Kind.NUMBER:
        # NaN lies within no bounds. Engines order it differently, so it is asked for by name.
        terms.append(exp.IsNan(this=_column(rule)))
    return exp.or_(*terms)


_ROUNDING = {exp.LT: ROUND_CEILING, exp.GTE: ROUND_CEILING, exp.LTE: ROUND_FLOOR, exp.GT: ROUND_FLOOR}


def _nearest(bound: Any, type_: FieldType, rounding: str) -> Any:
    """The bound among the values of an exact type that the same of them satisfy; engines compare those exactly."""
    if type_.kind not in (Kind.INTEGER, Kind.DECIMAL):
        return bound
    found = Decimal(str(bound)).quantize(Decimal(1).scaleb(-(type_.scale or 0)), rounding, _DIGITS)
    return int(found) if type_.kind is Kind.INTEGER else found.normalize(_DIGITS)


def _no_multiple(rule: Rule, type_: FieldType) -> exp.Expr:
    """Exact for integers and decimals; for floats the quotient is within 1e-9 of a whole number, as in frame rules."""
    factor = rule.args["multipleOf"]
    if type_.kind is not Kind.NUMBER:
        remainder = exp.Mod(this=_column(rule), expression=_exact(Decimal(str(factor)), type_))
        return exp.NEQ(this=remainder, expression=exp.Literal.number(0))
    # The factor is cast from text: a bare 0.1 is a decimal in SQL, and dividing by that may round otherwise.
    divisor = exp.cast(exp.Literal.string(repr(float(factor))), "DOUBLE")
    quotient = exp.paren(exp.Div(this=_column(rule), expression=divisor))
    distance = exp.Abs(this=exp.Sub(this=quotient, expression=exp.Round(this=quotient.this.copy())))
    # Not `> 1e-9`: the distance is NaN where the quotient is infinite, and engines order NaN differently.
    return exp.Not(this=exp.paren(exp.LTE(this=distance, expression=exp.Literal.number("1e-9"))))


def _length(_: Table, rule: Rule) -> exp.Expr:
    length = exp.Length(this=_column(rule))
    terms: list[exp.Expr] = []
    if "minLength" in rule.args:
        terms.append(exp.LT(this=length.copy(), expression=exp.Literal.number(rule.args["minLength"])))
    if "maxLength" in rule.args:
        terms.append(exp.GT(this=length.copy(), expression=exp.Literal.number(rule.args["maxLength"])))
    return exp.or_(*terms)


def _pattern(_: Table, rule: Rule) -> exp.Expr:
    return exp.Not(this=exp.RegexpLike(this=_column(rule), expression=exp.Literal.string(rule.args["pattern"])))


def _format(_: Table, rule: Rule) -> exp.Expr:
    """Not of the format's pattern; or a day that isn't in the calendar."""
    pattern = exp.Literal.string(FORMATS[rule.args["format"]])
    wrong: exp.Expr = exp.Not(this=exp.RegexpLike(this=_column(rule), expression=pattern))
    if rule.args["format"] == DATE:
        day = exp.TryCast(this=_column(rule), to=exp.DataType.build("DATE"))
        absent = exp.and_(
            exp.Is(this=day, expression=exp.null()), exp.Not(this=exp.Is(this=_column(rule), expression=exp.null()))
        )
        wrong = exp.or_(wrong, absent)
    return wrong


def _among(table: Table, rule: Rule, values: Iterable[Any]) -> exp.Expr | None:
    """Whether the column has one of some values; None where its type can hold none of them."""
    type_ = table.column(rule.columns[0]).type
    held = [
        value
        for value in values
        if type_.kind is not Kind.DECIMAL or _nearest(value, type_, ROUND_FLOOR) == Decimal(str(value))
    ]
    return exp.In(this=_column(rule), expressions=[literal(type_, value) for value in held]) if held else None


def _listed(table: Table, rule: Rule) -> exp.Expr:
    return _among(table, rule, rule.args["values"]) or exp.false()


def _in_set(table: Table, rule: Rule) -> exp.Expr:
    inside = _among(table, rule, rule.args["values"])
    return exp.Not(this=_not_null(table, rule) if inside is None else inside)


_COMPARISONS: dict[str, type[exp.Binary]] = {
    "=": exp.EQ,
    "!=": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
}


def _compare(table: Table, rule: Rule) -> exp.Expr:
    """Passes over rows where either side is null. NaN satisfies no comparison: engines order it differently."""
    left, right = (exp.column(name, quoted=True) for name in rule.columns)
    terms: list[exp.Expr] = [
        exp.Not(this=exp.paren(_COMPARISONS[rule.args["operator"]](this=left.copy(), expression=right.copy())))
    ]
    for name, one, other in ((rule.columns[0], left, right), (rule.columns[1], right, left)):
        if table.column(name).type.kind is Kind.NUMBER:
            there = exp.Not(this=exp.Is(this=other.copy(), expression=exp.null()))
            terms.append(exp.paren(exp.and_(exp.IsNan(this=one.copy()), there)))
    return exp.or_(*terms)


def _condition(table: Table, rule: Rule) -> exp.Expr:
    tree = sqlglot.parse_one(rule.args["condition"], dialect=CONTRACT_DIALECT)
    names = {column.name.lower(): column.name for column in table.columns}
    for column in tree.find_all(exp.Column):
        if column.name.lower() in names:
            column.set("this", exp.to_identifier(names[column.name.lower()], quoted=True))
    return exp.paren(tree)


CONTRACT_DIALECT = None
"""SQL in contracts is portable (sqlglot's own dialect) and is translated for each engine."""

_BUILDERS: dict[RuleKind, Callable[[Table, Rule], exp.Expr]] = {
    RuleKind.NOT_NULL: _not_null,
    RuleKind.MISSING: _missing,
    RuleKind.RANGE: _range,
    RuleKind.LENGTH: _length,
    RuleKind.PATTERN: _pattern,
    RuleKind.FORMAT: _format,
    RuleKind.IN_SET: _in_set,
    RuleKind.NOT_IN_SET: _listed,
    RuleKind.COMPARE: _compare,
    RuleKind.CONDITION: _condition,
}
