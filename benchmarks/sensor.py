"""The landing sensor: what a tick costs with few and with very many objects in landing.

Landing and the lake are computed when asked: names are found by bisection, nothing is held, nothing waits. So the
seconds are the sensor's own; on Cloud Storage each list call adds a tenth of a second or so. Every tick measured is a
full one: the tail, a page of the window, and a page of the sweep.
"""

from __future__ import annotations

import heapq
import os
import statistics
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dataops_platform.contracts.model import Column, Landing, Table
from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.ingestion.landing import Place
from dataops_platform.ingestion.landing_log import OBJECTS
from dataops_platform.ingestion.landing_scan import Limits, Position, Scan, scan
from dataops_platform.lake.deliveries import Delivery, Lake
from dataops_platform.lake.keys import landing_prefix, manifest_key, manifest_prefix
from dataops_platform.lake.store import ObjectInfo

QUICK = bool(os.environ.get("DATAOPS_BENCH_QUICK"))
PER_DAY = 100 if QUICK else 1000
SMALL, LARGE = (100, 10_000) if QUICK else (1000, 1_000_000)
NEW = (0, 10, 1000)
RUNS = 3 if QUICK else 9
LIMITS = Limits(page=100) if QUICK else Limits()

FIRST = date(2020, 1, 1)
CUT = Partitioning("day", Granularity.DAY, FIRST)
TABLE = Table("orders", (Column("day", FieldType(Kind.DATE)),), partitioning=CUT)
PATTERN = compile_pattern("orders/dt={partition}/part-*.parquet", CUT)
CREATED = datetime(2020, 1, 1, tzinfo=UTC)


def day(number: int) -> str:
    return str(FIRST + timedelta(days=number))


class Names(Sequence[str]):
    """The names of `total` objects, in order: so many a day."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, number: Any) -> Any:
        return f"orders/dt={day(number // PER_DAY)}/part-{number % PER_DAY:06d}.parquet"


class Landscape:
    """Landing with `total` objects that are delivered, and some that are new in the last partition."""

    url, settle, together = "gs://landing", 0.0, 1

    def __init__(self, total: int, new: int) -> None:
        self.names, self.days, self.calls = Names(total), total // PER_DAY, 0
        self.new = [f"orders/dt={day(self.days - 1)}/part-{PER_DAY + n:06d}.parquet" for n in range(new)]
        self.lake = Lake(LogOfDays(self.days))  # type: ignore[arg-type]
        self.now = datetime.combine(FIRST + timedelta(days=self.days), datetime.min.time(), UTC) + timedelta(hours=1)

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        self.calls += 1
        first = bisect_left(self.names, max(prefix, start or ""))
        known = (self.names[number] for number in range(first, len(self.names)))
        added = self.new[bisect_left(self.new, max(prefix, start or "")) :]
        for name in heapq.merge(known, added):
            if not name.startswith(prefix) or (end is not None and name >= end):
                return
            yield ObjectInfo(name, 1, 10, 1)


class LogOfDays:
    """A lake that has one delivery for each day."""

    url = "gs://lake"

    def __init__(self, days: int) -> None:
        self._days, self.calls = days, 0

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        self.calls += 1
        log = prefix == landing_prefix("orders", "log")
        if not log and prefix != manifest_prefix("orders"):
            return  # nothing is refused
        first = 0 if start is None else (date.fromisoformat(start.removeprefix(prefix)[:10]) - FIRST).days
        for number in range(first, self._days):
            at = day(number)
            key = f"{prefix}{at}/00000001.json" if log else manifest_key("orders", at, CREATED)
            if end is not None and key >= end:
                return
            yield ObjectInfo(key, 1, 10)

    def read(self, key: str) -> bytes:
        at = key.split("/")[-2]
        names = [f"orders/dt={at}/part-{number:06d}.parquet" for number in range(PER_DAY)]
        origin = {OBJECTS: [{"name": name, "generation": 1} for name in names]}
        return Delivery("orders", at, CREATED, (), {}, origin).to_json()


def tick(landscape: Landscape, position: Position, limits: Limits = LIMITS) -> Scan:
    place = Place.open(Landing("gs://landing", PATTERN), landscape, landscape.url)  # type: ignore[arg-type]
    return scan(TABLE, place, landscape.lake, position, landscape.now, limits)


def settled(total: int) -> Position:
    """Where a sensor is that has caught up with so many objects."""
    last = Names(total)[total - 1]
    return Position(tail=last, newest=PATTERN.match(last), sweep="")


def run() -> dict[str, float]:
    """Seconds and list calls of a tick, by what is there and what is new."""
    figures: dict[str, float] = {}
    seconds: dict[tuple[int, int], list[float]] = {(total, new): [] for total in (SMALL, LARGE) for new in NEW}
    for turn in range(RUNS + 1):
        for (total, new), measured in seconds.items():
            landscape = Landscape(total, new)
            started = time.perf_counter()
            found = tick(landscape, settled(total))
            took = time.perf_counter() - started
            if found.new != new or len(found.asks) != bool(new):
                raise RuntimeError(f"{found.new} objects were found, and {new} are new")
            if turn:  # the first one has the lake's log to read
                measured.append(took)
            name = {SMALL: "small", LARGE: "large"}[total]
            store: Any = landscape.lake.store
            figures[f"list_calls_{name}_{new}_new"] = landscape.calls
            figures[f"lake_calls_{name}_{new}_new"] = store.calls
    for (total, new), measured in seconds.items():
        name = {SMALL: "small", LARGE: "large"}[total]
        figures[f"tick_seconds_{name}_{new}_new"] = statistics.median(measured)
    pairs = zip(seconds[LARGE, 10], seconds[SMALL, 10], strict=True)
    figures["tick_ratio"] = statistics.median(large / small for large, small in pairs)
    return figures
