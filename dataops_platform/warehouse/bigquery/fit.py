"""Does a delivery fit the contract? Answered from its manifest: the data is not touched."""

from __future__ import annotations

import re

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.warehouse.loading import may_lack

_INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"}
_DECIMAL = re.compile(r"decimal\d*\((\d+), ?(\d+)\)")
_ZONED = re.compile(r"timestamp\[(s|ms|us), tz=.+\]")  # BigQuery has no nanoseconds
_LOCAL = re.compile(r"timestamp\[(s|ms|us)\]")
_TEXT = {"string", "large_string", "string_view"}


def _unwrapped(actual: str) -> str:
    match = re.fullmatch(r"dictionary<values=(.+?), indices=.*>", actual)
    return match[1] if match else actual


def _accepts(wanted: FieldType, actual: str) -> tuple[bool, str]:
    """Whether an Arrow type can be loaded into a column without losing anything, and which ones can."""
    match wanted.kind:
        case Kind.STRING:
            return actual in _TEXT, "string"
        case Kind.INTEGER:
            return actual in _INTEGERS, "an integer up to 64 bit"
        case Kind.NUMBER:
            small = _INTEGERS - {"int64"}
            return actual in small | {"double", "float"}, "double, float or an integer up to 32 bit"
        case Kind.DECIMAL:
            whole = (wanted.precision or 0) - (wanted.scale or 0)
            found = _DECIMAL.fullmatch(actual)
            fits = found and int(found[2]) <= (wanted.scale or 0) and int(found[1]) - int(found[2]) <= whole
            return bool(fits), f"{wanted.duckdb} or a smaller decimal"
        case Kind.BOOLEAN:
            return actual == "bool", "bool"
        case Kind.DATE:
            return actual in {"date32[day]", "date64[ms]"}, "date32"
        case Kind.TIMESTAMP:
            return bool(_ZONED.fullmatch(actual)), "a timestamp with time zone (UTC-adjusted), no finer than µs"
        case Kind.DATETIME:
            return bool(_LOCAL.fullmatch(actual)), "a timestamp without time zone, no finer than µs"
        case Kind.TIME:
            return actual.startswith(("time32", "time64")), "time"
        case Kind.JSON:
            return actual in _TEXT, "JSON text"


def misfits(table: Table, delivery: Delivery) -> list[str]:
    """What keeps a delivery from being loaded under the contract; empty when it fits."""
    actual, wanted = delivery.schema, {column.name: column for column in table.columns}
    where = delivery.objects[0].key if delivery.objects else delivery.manifest
    lines, lacking = [], may_lack(table, delivery)
    for name, column in wanted.items():
        if name not in actual and name in lacking:
            continue
        if name not in actual:
            hint = next((f" (the file has {other!r})" for other in actual if other.lower() == name.lower()), "")
            lines.append(f"{where}: column {name!r} is missing{hint}")
            continue
        fits, accepted = _accepts(column.type, _unwrapped(actual[name]))
        if not fits:
            lines.append(
                f"{where}: column {name!r} is {actual[name]}, the contract wants {column.type.kind}: {accepted}"
            )
    lines += [f"{where}: column {name!r} is not in the contract" for name in actual if name not in wanted]
    return lines
