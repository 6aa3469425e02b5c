"""Values in a contract (bounds, enumerations, sentinels) as values of a column's type."""

from __future__ import annotations

import math
import sys
from datetime import UTC, date, datetime, time
from typing import Any

from dataops_platform.contracts.types import FieldType, Kind

_EXAMPLES = {
    Kind.STRING: "a text in quotes",
    Kind.INTEGER: "a whole number",
    Kind.NUMBER: "a number",
    Kind.DECIMAL: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.DATE: "a date like 2013-01-31",
    Kind.TIMESTAMP: "an instant like 2013-01-31T12:00:00Z",
    Kind.DATETIME: "a local time like 2013-01-31T12:00:00",
    Kind.TIME: "a time of day like 12:00:00",
    Kind.JSON: "nothing: JSON can't be compared",
}


def expected(kind: Kind) -> str:
    """What a value of that kind looks like in a contract."""
    return _EXAMPLES[kind]


def convert(value: Any, field_type: FieldType) -> Any:
    """A value from a contract as a value of a column's type.

    Numbers stay int or float, texts stay texts; dates and times become ISO 8601 texts in one spelling
    (instants in UTC), so that equal values are equal texts and order as text is order in time.

    Raises:
        ValueError: it isn't a value of that type; the text says what is expected.
    """
    converted = _convert(value, field_type)
    if converted is None:
        raise ValueError(f"write {expected(field_type.kind)}")
    if field_type.numeric and not within(converted, field_type):
        raise ValueError(f"write a number that {field_type.duckdb} can hold")
    return converted


def within(value: float, field_type: FieldType) -> bool:
    """Whether a number lies in the range of a numeric type; engines can't compare a column with one that doesn't."""
    match field_type.kind:
        case Kind.INTEGER:
            return -(2**63) <= value < 2**63
        case Kind.DECIMAL:
            digits = (field_type.precision or 38) - (field_type.scale or 0)
            return bool(abs(value) < 10**digits)
        case _:
            return abs(value) <= sys.float_info.max


def _convert(value: Any, field_type: FieldType) -> Any:
    match field_type.kind:
        case Kind.STRING:
            return value if isinstance(value, str) else None
        case Kind.BOOLEAN:
            return value if isinstance(value, bool) else None
        case Kind.INTEGER | Kind.NUMBER | Kind.DECIMAL:
            return _number(value, field_type)
        case Kind.JSON:
            return None
    if not isinstance(value, str):
        return None
    try:
        return _iso(value, field_type.kind)
    except ValueError:
        return None


def _number(value: Any, field_type: FieldType) -> int | float | None:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if field_type.kind is Kind.INTEGER and isinstance(value, float):
        return int(value) if value.is_integer() else None
    number: int | float = value
    return number if math.isfinite(number) else None


def _iso(text: str, kind: Kind) -> str | None:
    if kind is Kind.DATE:
        return date.fromisoformat(text).isoformat()
    if kind is Kind.TIME:
        moment = time.fromisoformat(text)
        return moment.isoformat() if moment.tzinfo is None else None
    stamp = datetime.fromisoformat(text)
    if kind is Kind.TIMESTAMP:  # no offset: UTC
        stamp = stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
    elif stamp.tzinfo is not None:
        return None
    return stamp.isoformat()
