"""Rules of a contract as masks over pandas Series: which rows break the rule.

The same semantics as in the engines: value rules pass over nulls, bounds are inclusive unless exclusive, NaN is a
value outside any bound, patterns are RE2's (run by Arrow), lengths count characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dataops_platform.contracts.frames import convert_series, dtype
from dataops_platform.contracts.model import Column, Rule, RuleKind
from dataops_platform.contracts.types import FieldType, Kind

FRAME_KINDS = frozenset(
    {
        RuleKind.NOT_NULL,
        RuleKind.MISSING,
        RuleKind.RANGE,
        RuleKind.LENGTH,
        RuleKind.PATTERN,
        RuleKind.IN_SET,
        RuleKind.DUPLICATES,
    }
)
"""The kinds of rules that can be decided on a DataFrame. The others need an engine or other data."""


def failing_values(rule: Rule, series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    """Which rows break a row-level rule; none where the type is wrong already (see `frames.wrong_type`).

    Args:
        rule: a rule of one of `FRAME_KINDS`, duplicates aside.
        series: the column's values, converted by `frames.convert_series`.
        column: the column.
    """
    null = series.isna()
    failing = pd.Series(False, index=series.index)
    if rule.kind is RuleKind.NOT_NULL:
        return null.astype(bool)
    if column.type.kind is not Kind.JSON and series.dtype != dtype(column.type):
        return failing
    values = series[~null.to_numpy()]
    if column.type.kind in (Kind.DATE, Kind.TIME, Kind.DECIMAL):
        values = convert_series(values, column.type)
    try:
        bad = _bad(rule, values, column.type)
    except TypeError:
        return failing  # a value of another type among objects: reported as such
    failing.loc[~null.to_numpy()] = bad.to_numpy(dtype=bool)
    return failing | null.astype(bool) if rule.kind is RuleKind.MISSING else failing


def duplicate_rows(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series[Any]:
    """Which rows repeat an earlier row's key: rows minus distinct keys; rows with a null in the key don't count."""
    complete = frame[list(columns)].dropna()
    repeated = complete.duplicated(keep="first")
    return repeated.reindex(frame.index, fill_value=False) if frame.index.is_unique else _positional(frame, columns)


def _positional(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series[Any]:
    repeated = duplicate_rows(frame.reset_index(drop=True), columns)
    return repeated.set_axis(frame.index)


def _bad(rule: Rule, values: Any, field_type: FieldType) -> Any:
    args = rule.args
    match rule.kind:
        case RuleKind.RANGE:
            return ~_within(values, args, field_type)
        case RuleKind.LENGTH:
            length = values.str.len()
            return (length < args.get("minLength", 0)) | (length > args.get("maxLength", float("inf")))
        case RuleKind.PATTERN:
            found = pc.match_substring_regex(pa.array(values.tolist(), pa.string()), args["pattern"])
            return ~pd.Series(found.to_numpy(zero_copy_only=False).astype(bool), index=values.index)
        case RuleKind.IN_SET:
            return ~values.isin([_operand(value, field_type) for value in args["values"]])
        case RuleKind.MISSING:
            return values.isin([_operand(value, field_type) for value in args["sentinels"]])
    raise ValueError(f"a {rule.kind} rule can't be decided on a DataFrame")


def _within(values: pd.Series[Any], args: Mapping[str, Any], field_type: FieldType) -> pd.Series[Any]:
    within = pd.Series(True, index=values.index)
    for name, bound in args.items():
        operand = _operand(bound, field_type)
        match name:
            case "minimum":
                within &= values >= operand
            case "maximum":
                within &= values <= operand
            case "exclusiveMinimum":
                within &= values > operand
            case "exclusiveMaximum":
                within &= values < operand
            case "multipleOf":
                within &= _multiple(values, operand, field_type)
    return within.astype(bool)


def _multiple(values: pd.Series[Any], factor: Any, field_type: FieldType) -> pd.Series[Any]:
    if field_type.kind is Kind.NUMBER:  # 0.3 / 0.1 isn't 3 in binary: allow for the last digits
        ratio = values / float(factor)
        return (ratio - ratio.round()).abs() <= 1e-9
    exact = Decimal(str(factor))
    return values.map(lambda value: Decimal(str(value)) % exact == 0).astype(bool)


def _operand(value: Any, field_type: FieldType) -> Any:
    """A value of a rule's arguments, as the column's values are held in pandas."""
    match field_type.kind:
        case Kind.DATE:
            return date.fromisoformat(value)
        case Kind.TIME:
            return time.fromisoformat(value)
        case Kind.TIMESTAMP | Kind.DATETIME:
            return pd.Timestamp(value)
        case Kind.DECIMAL:
            return Decimal(str(value))
    return value
