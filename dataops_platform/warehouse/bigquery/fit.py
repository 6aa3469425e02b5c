"""Does a delivery fit the contract? Answered from its manifest: the data is not touched."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.lake.deliveries import INT96, Delivery
from dataops_platform.warehouse.delivered import NOTHING, Beyond, Since, extended, judge, misfit

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
            return actual == INT96 or bool(
                _ZONED.fullmatch(actual)
            ), "a timestamp with time zone (UTC-adjusted), no finer than µs, or INT96"
        case Kind.DATETIME:
            return actual == INT96 or bool(_LOCAL.fullmatch(actual)), "a timestamp without time zone, no finer than µs"
        case Kind.TIME:
            return actual.startswith(("time32", "time64")), "time"
        case Kind.JSON:
            return actual in _TEXT, "JSON text"


def type_of(actual: str) -> FieldType | None:
    """The type of the column that an Arrow type becomes; None: there is none."""
    actual = _unwrapped(actual)
    if match := _DECIMAL.fullmatch(actual):
        return FieldType(Kind.DECIMAL, int(match[1]), int(match[2]))
    plain = (kind for kind in Kind if kind not in (Kind.DECIMAL, Kind.JSON))
    kind = next((kind for kind in plain if kind is _natural(kind, actual)), None)
    return None if kind is None else FieldType(kind)


def _natural(kind: Kind, actual: str) -> Kind | None:
    """The kind, where an Arrow type is accepted by it, and integers aren't meant as floating point."""
    fits = _accepts(FieldType(kind), actual)[0]
    return kind if fits and (kind is not Kind.NUMBER or actual not in _INTEGERS) else None


def column_misfits(table: Table, actual: Mapping[str, str], earlier: Since) -> tuple[list[str], Beyond]:
    """What keeps an object of some columns from being loaded, and what it has beyond the contract.

    Args:
        actual: column → Arrow type.
        earlier: see `delivered.judge`.
    """
    lines, beyond = judge(table, actual, type_of, earlier)
    for column in table.columns:
        if column.name in actual:
            fits, accepted = _accepts(column.type, _unwrapped(actual[column.name]))
            if not fits:
                found = actual[column.name]
                lines.append(misfit(column, found, accepted, type_of(found)))
    return lines, beyond


def misfits(table: Table, delivery: Delivery, earlier: Since) -> tuple[list[str], Beyond, Table]:
    """What keeps a delivery from being loaded under the contract, nothing when it fits.

    Args:
        earlier: see `delivered.judge`.

    Returns:
        The lines, what it has beyond the contract, and the table with that.
    """
    lines, beyond = [], NOTHING
    objects = list(delivery.objects)
    if objects and all(item.schema is None for item in objects):
        objects = objects[:1]  # all are alike
    for item in objects:
        found, more = column_misfits(table, delivery.schema_of(item), earlier)
        lines += [f"{item.key}: {line}" for line in found]
        beyond, table = beyond | more, extended(table, more.added)
    return lines, beyond, table
