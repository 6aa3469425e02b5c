"""Ways to see, on DuckDB, that no key repeats, which are cheaper than grouping by it (see docs/performance.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataops_platform.contracts.model import Column
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.statements import Proof
from dataops_platform.warehouse.names import quote

MOST_BITS = 1 << 28
"""The largest map of keys: 32 MB, for each of the engine's threads."""
BITS_PER_ROW = 64
"""How thin keys may be spread: beyond that, clearing the map costs what it saves."""


def in_order(columns: Sequence[Column], relation: str, where: str) -> Proof:
    """Each key is greater than that of the row stored before it: then none is there twice.

    Rows are streamed past in one sequence, whichever it is, and the first that breaks the order ends it: keys that
    are not in order cost next to nothing. The first row has none before it, and a null breaks the order.
    """
    names = [quote(column.name) for column in columns]
    # Names of our own begin with an underscore, which no contract column does.
    neighbours = ", ".join(f"{name} AS _k{i}, lag({name}) OVER () AS _b{i}" for i, name in enumerate(names))
    # Column by column: comparing whole tuples takes the engine twice as long.
    greater = "FALSE"
    for i in reversed(range(len(names))):
        greater = f"(_k{i} > _b{i} OR (_k{i} = _b{i} AND {greater}))"
    return Proof(
        f"SELECT count(*) < 2 FROM (SELECT 1 FROM (SELECT {neighbours} FROM {relation} WHERE {where})"
        f" WHERE {greater} IS NOT TRUE LIMIT 2)"
    )


def close_together(columns: Sequence[Column], relation: str, where: str) -> Proof | None:
    """As many bits are set, in a map of all keys that there could be, as there are rows: then no key repeats.

    For whole numbers and dates that lie close together, in whatever order; None for other columns. How close they lie
    is asked first, of the engine's statistics. A row with a null in its key has no place in the map, and isn't counted.
    """
    if any(column.type.kind not in (Kind.INTEGER, Kind.DATE) for column in columns):
        return None
    # Of dates, days: Python has no date for all of theirs.
    offset = {Kind.INTEGER: "", Kind.DATE: " - DATE '1970-01-01'"}
    names = [(quote(column.name), offset[column.type.kind]) for column in columns]
    limits = ", ".join(f"min({name}){less}, max({name}){less}" for name, less in names)

    def counted(row: Sequence[Any]) -> str | None:
        rows, *bounds = row
        lows, highs = bounds[::2], bounds[1::2]
        if None in bounds:  # no rows, or a column without a value
            return None
        place, size = "0", 1
        for (name, less), low, high in zip(names, lows, highs, strict=True):
            width = high - low + 1
            place, size = f"({place} * {width} + ({name}{less} - ({low})))", size * width
        if size > min(MOST_BITS, rows * BITS_PER_ROW):
            return None
        return f"SELECT count({place}) = bit_count(bitstring_agg({place}, 0, {size - 1})) FROM {relation} WHERE {where}"

    return Proof(f"SELECT count(*), {limits} FROM {relation} WHERE {where}", counted)
