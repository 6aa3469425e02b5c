"""Columns of a pandas DataFrame as a contract's types, without losing anything on the way.

pandas' own `astype` rounds decimals, drops time zones and makes the text `1.0` of the number 1. Here a value is
either converted exactly or left as it is, to be refused with its row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, InvalidOperation
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dataops_platform.contracts.arrow import arrow_type
from dataops_platform.contracts.types import FieldType, Kind

_DTYPES: dict[Kind, Any] = {
    Kind.STRING: pd.StringDtype(),
    Kind.INTEGER: pd.Int64Dtype(),
    Kind.NUMBER: pd.Float64Dtype(),
    Kind.BOOLEAN: pd.BooleanDtype(),
    Kind.TIMESTAMP: pd.DatetimeTZDtype("us", "UTC"),  # type: ignore[arg-type]  # the stubs know ns only
    Kind.DATETIME: np.dtype("datetime64[us]"),
}
_OBJECT = np.dtype(object)  # dates, times, decimals and JSON: pandas has no type of its own for them
_EXACT = Context(prec=1000)  # the usual one rounds to 28 digits
_INT64 = (-(2**63), 2**63 - 1)


def dtype(field_type: FieldType) -> Any:
    """The pandas type that holds a column's values, nulls included."""
    return _DTYPES.get(field_type.kind, _OBJECT)


def convert_series(series: pd.Series[Any], field_type: FieldType) -> pd.Series[Any]:
    """A series with the column's pandas type; if a value isn't of the column's type, of objects, that value as it was.

    Missing values of every spelling (None, NaN, NaT, NA) become null. A timestamp without a zone is in UTC.
    """
    target = dtype(field_type)
    if series.dtype == target != _OBJECT:
        return series
    fast: pd.Series[Any] | None = _whole(series, field_type.kind)
    if fast is not None:
        return fast
    convert = _CONVERTERS[field_type.kind]
    values: list[Any] = []
    clean = True
    for value in series.array:
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
            values.append(None)
            continue
        try:
            values.append(convert(value, field_type))
        except (ValueError, TypeError, ArithmeticError):
            values.append(value)
            clean = False
    objects = pd.Series(values, index=series.index, name=series.name, dtype=object)
    return objects.astype(target) if clean and target != _OBJECT else objects


def wrong_type(series: pd.Series[Any], field_type: FieldType) -> pd.Series[Any]:
    """Which values of a converted series aren't of the column's type."""
    if series.dtype == dtype(field_type) != _OBJECT:
        return pd.Series(False, index=series.index)
    convert = _CONVERTERS[field_type.kind]

    def wrong(value: Any) -> bool:
        try:
            convert(value, field_type)
        except (ValueError, TypeError, ArithmeticError):
            return True
        return False

    missing = series.isna()
    return pd.Series([not n and wrong(v) for v, n in zip(series, missing, strict=True)], index=series.index, dtype=bool)


def arrow_array(series: pd.Series[Any], field_type: FieldType) -> pa.Array | None:
    """A converted series as Arrow; None where a value isn't of the column's type."""
    if series.dtype != dtype(field_type):
        return None
    try:
        return pa.array(series, arrow_type(field_type))
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError):
        if series.dtype == _OBJECT and not wrong_type(series, field_type).any():
            raise
        return None


def from_arrow(rows: pa.Table) -> pd.DataFrame:
    """A frame that keeps what pandas' usual types lose: large integers beside nulls, and NaN apart from null."""
    frame: pd.DataFrame = rows.to_pandas(types_mapper=_PANDAS.get)
    return frame


_PANDAS = {
    pa.int64(): pd.Int64Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.float32(): pd.Float32Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}


def _whole(series: Any, kind: Kind) -> Any:
    """The conversions that pandas does exactly, and fast; None for all others."""
    of = pd.api.types
    source = series.dtype
    match kind:
        case Kind.INTEGER if of.is_integer_dtype(source) and str(source).lower() != "uint64":
            return series.astype("Int64")
        case Kind.NUMBER if of.is_float_dtype(source):
            return series.astype("Float64")
        case Kind.BOOLEAN if of.is_bool_dtype(source):
            return series.astype("boolean")
        case Kind.TIMESTAMP if isinstance(source, pd.DatetimeTZDtype):
            return series.dt.tz_convert("UTC").astype(_DTYPES[Kind.TIMESTAMP])
        case Kind.TIMESTAMP if of.is_datetime64_dtype(source):
            return series.dt.tz_localize("UTC").astype(_DTYPES[Kind.TIMESTAMP])
        case Kind.DATETIME if of.is_datetime64_dtype(source):
            return series.astype(_DTYPES[Kind.DATETIME])
        case Kind.STRING if isinstance(source, pd.StringDtype):
            return series.astype("string")
    return None


def _string(value: Any, field_type: FieldType) -> str:
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # half of a surrogate pair is no text
    return value


def _json(value: Any, field_type: FieldType) -> str:
    """JSON as text: a text as it is, if it is JSON; other values as they are written in it."""
    if isinstance(value, str):
        json.loads(_string(value, field_type), parse_constant=_no_constant)
        return value
    return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What Arrow makes of lists on their way to pandas."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _integer(value: Any, field_type: FieldType) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | Real | Decimal):
        raise ValueError
    number: int = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError
    if not _INT64[0] <= number <= _INT64[1]:
        raise ValueError
    return number


def _number(value: Any, field_type: FieldType) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | Real | Decimal):
        raise ValueError
    number = float(value)
    if math.isnan(number):  # pandas would take the text for null; as a float it has been that already
        raise ValueError
    return number


def _decimal(value: Any, field_type: FieldType) -> Decimal:
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | Real | Decimal):
        raise ValueError
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    precision, scale = field_type.precision or 38, field_type.scale or 0
    if not number.is_finite():
        raise InvalidOperation
    exponent = number.normalize(_EXACT).as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > scale or number.adjusted() >= precision - scale:
        raise ValueError
    return number


def _boolean(value: Any, field_type: FieldType) -> bool:
    if isinstance(value, bool | np.bool_) or (isinstance(value, Real) and value in (0, 1)):
        return bool(value)
    raise ValueError


def _date(value: Any, field_type: FieldType) -> date:
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime):
        if value.tzinfo is not None or value.time() != time.min:
            raise ValueError
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(value)


def _moment(value: Any) -> datetime:
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time.min)
    return datetime.fromisoformat(value)


def _timestamp(value: Any, field_type: FieldType) -> datetime:
    moment = _moment(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _datetime(value: Any, field_type: FieldType) -> datetime:
    moment = _moment(value)
    if moment.tzinfo is not None:
        raise ValueError
    return moment


def _time(value: Any, field_type: FieldType) -> time:
    moment = value if isinstance(value, time) else time.fromisoformat(value)
    if moment.tzinfo is not None:
        raise ValueError
    return moment


_CONVERTERS: dict[Kind, Callable[[Any, FieldType], Any]] = {
    Kind.STRING: _string,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.DATETIME: _datetime,
    Kind.TIME: _time,
    Kind.JSON: _json,
}
