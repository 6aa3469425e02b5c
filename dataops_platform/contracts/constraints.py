"""Bounds, lengths, patterns and sets of values: written in native fields or as arguments of `invalidValues`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dataops_platform.contracts.document import Place
from dataops_platform.contracts.formats import FORMATS, WITHOUT_EFFECT
from dataops_platform.contracts.model import Column
from dataops_platform.contracts.patterns import pattern_error
from dataops_platform.contracts.suggest import one_of
from dataops_platform.contracts.types import Kind
from dataops_platform.contracts.values import convert, within

BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
LENGTHS = ("minLength", "maxLength")


def read_range(place: Place, column: Column) -> dict[str, Any] | None:
    """The bounds below `place`, as values of the column's type; None when there are none, or wrong ones."""
    given = [key for key in BOUNDS if key in place]
    if not given:
        return None
    if not column.type.numeric and not column.type.temporal:
        hint = "bounds are for numbers, dates and times" + _length_hint(column)
        place.at(given[0]).problem(f"`{given[0]}` makes no sense for a column of type {column.type.kind}", hint)
        return None
    args: dict[str, Any] = {}
    for key in given:
        at = place.at(key)
        if key == "multipleOf":
            if not column.type.numeric:
                at.problem(f"`multipleOf` makes no sense for a column of type {column.type.kind}", "remove it")
            elif not isinstance(at.value, int | float) or isinstance(at.value, bool) or at.value <= 0:
                at.problem(f"multipleOf `{at.value}` isn't a number above 0", "write a number above 0")
            elif not within(at.value, column.type):
                at.problem(*_beyond(key, at, column))
            else:
                args[key] = at.value
        elif column.type.numeric:
            if isinstance(at.value, int | float) and not isinstance(at.value, bool):
                if within(at.value, column.type):
                    args[key] = at.value
                else:
                    at.problem(*_beyond(key, at, column))
            else:
                at.problem(
                    f"{key} `{at.value}` isn't a number", f"`{column.name}` has type {column.type.kind}: write a number"
                )
        else:
            try:
                args[key] = convert(at.value, column.type)
            except ValueError as error:
                at.problem(f"{key} `{at.value}` doesn't fit `{column.name}`", str(error))
    return args if len(args) == len(given) and _ordered(place, args) else None


def _beyond(key: str, at: Place, column: Column) -> tuple[str, str]:
    return f"{key} `{at.value}` is beyond `{column.name}`", f"write a number that {column.type.duckdb} can hold"


def _length_hint(column: Column) -> str:
    return "; for texts there are minLength and maxLength" if column.type.kind is Kind.STRING else ""


def _ordered(place: Place, args: Mapping[str, Any]) -> bool:
    for low in ("minimum", "exclusiveMinimum"):
        for high in ("maximum", "exclusiveMaximum"):
            if low not in args or high not in args:
                continue
            open_end = "exclusive" in low or "exclusive" in high
            if args[low] > args[high] or (open_end and args[low] == args[high]):
                message = f"{low} {args[low]} and {high} {args[high]} leave no value"
                place.at(low).problem(message, f"make {low} smaller than {high}")
                return False
    return True


def in_range(value: Any, args: Mapping[str, Any]) -> bool:
    """Whether a value lies within bounds (those of `read_range`, multipleOf aside)."""
    return not (
        ("minimum" in args and value < args["minimum"])
        or ("maximum" in args and value > args["maximum"])
        or ("exclusiveMinimum" in args and value <= args["exclusiveMinimum"])
        or ("exclusiveMaximum" in args and value >= args["exclusiveMaximum"])
    )


def read_length(place: Place, column: Column) -> dict[str, Any] | None:
    """The bounds of a text's length in characters."""
    given = [key for key in LENGTHS if key in place]
    if not given:
        return None
    if column.type.kind is not Kind.STRING:
        message = f"`{given[0]}` makes no sense for a column of type {column.type.kind}"
        place.at(given[0]).problem(message, "lengths are for string columns")
        return None
    for key in given:
        value = place.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            place.at(key).problem(f"{key} `{value}` isn't a whole number from 0", "write a whole number")
            return None
    args = {key: place.get(key) for key in given}
    if args.get("minLength", 0) > args.get("maxLength", float("inf")):
        message = f"minLength {args['minLength']} is more than maxLength {args['maxLength']}"
        place.at("minLength").problem(message, "swap them")
        return None
    return args


def read_pattern(place: Place, column: Column) -> dict[str, Any] | None:
    """A regular expression that texts must contain a match of."""
    if place.value is None:
        return None
    if column.type.kind is not Kind.STRING:
        place.problem(
            f"`pattern` makes no sense for a column of type {column.type.kind}", "patterns are for string columns"
        )
        return None
    if not isinstance(place.value, str):
        place.problem("the pattern isn't a text", f"put it in quotes: '{place.value}'")
        return None
    if (wrong := pattern_error(place.value)) is not None:
        place.problem(f"pattern `{place.value}`: {wrong[0]}", wrong[1])
        return None
    return {"pattern": place.value}


def read_format(place: Place, column: Column, *, native: bool) -> dict[str, Any] | None:
    """The format that texts must have; None when there is none, or one that says something to people only.

    Args:
        native: it is an option of the logical type, where other columns and ODCS's other formats may have one too.
    """
    if place.value is None or (native and column.type.kind is not Kind.STRING):
        return None
    if column.type.kind is not Kind.STRING:
        place.problem(
            f"`format` makes no sense for a column of type {column.type.kind}", "formats are for string columns"
        )
        return None
    if native and place.value in WITHOUT_EFFECT:
        return None
    if place.value not in tuple(FORMATS):
        place.problem(f"format `{place.value}` isn't known", one_of(place.value, FORMATS))
        return None
    return {"format": place.value}


def read_values(values: Iterable[Place], column: Column, what: str) -> list[Any] | None:
    """A list of values, converted to the column's type; None when one doesn't fit or is given twice."""
    found: list[Any] = []
    fits = True
    for entry in values:
        try:
            value = convert(entry.value, column.type)
        except ValueError as error:
            message = f"{what} `{_shown(entry.value)}` isn't a value of `{column.name}` ({column.type.kind})"
            quoted = column.type.kind is Kind.STRING and not isinstance(entry.value, list | dict)
            hint = f"put it in quotes: '{_shown(entry.value)}'" if quoted else str(error)
            entry.problem(message, hint)
            fits = False
            continue
        if any(value == other and type(value) is type(other) for other in found):
            entry.problem(f"{what} `{_shown(entry.value)}` is given twice", "remove one")
            fits = False
        found.append(value)
    return found if fits and found else None


def check_values_fit(
    values: Iterable[tuple[Place, Any]], bounds: Mapping[str, Any] | None, lengths: Mapping[str, Any] | None
) -> None:
    """Reports allowed values that the column's own bounds forbid."""
    for entry, value in values:
        if bounds is not None and not in_range(value, bounds):
            entry.problem(f"allowed value `{value}` is outside the column's bounds", "remove it, or widen the bounds")
        if lengths is not None:
            size = len(value)
            if not lengths.get("minLength", 0) <= size <= lengths.get("maxLength", size):
                hint = "remove it, or change minLength or maxLength"
                entry.problem(f"allowed value `{value}` is {size} characters long, against the column's lengths", hint)


def check_keys(place: Place, known: Iterable[str], what: str) -> bool:
    """Whether a mapping has known keys only; others are reported."""
    names = list(known)
    unknown = [key for key in place.value if key not in names]
    for key in unknown:
        place.at(key).problem(f"unknown {what} `{key}`", one_of(key, names))
    return not unknown


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
