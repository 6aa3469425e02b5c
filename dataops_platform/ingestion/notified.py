"""What was done about notifications, so that a message is acknowledged only when it can't be lost any more.

A message about a new object is acknowledged once a run that will deliver it is in Dagster's storage, or, while its
partition isn't over, once the partition is in a cursor that Dagster has kept. Until then it is only held: if the
process that holds it dies, it is delivered again.

A run lists landing after it was asked for. So it delivers what a partition had by then, and one run stands for all
messages about objects written no later than the newest one that it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dataops_platform.ingestion.notifications import Landed

PATIENCE = timedelta(hours=1)
"""How long a run that was asked for stands for its objects: after that, what isn't delivered is asked for again."""
UNSURE = timedelta(minutes=5)
"""The same, of one that Dagster's storage doesn't have."""

Part = tuple[str, str]
"""Table and partition."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was asked for.

    Attributes:
        newest_ms: when the newest object that it is for was written.
        at: when it was asked for, in seconds since 1970.
        key: its run key.
        sure: whether it was found in Dagster's storage.
    """

    newest_ms: int
    at: float
    key: str
    sure: bool = False


@dataclass(slots=True)
class State:
    """What Dagster keeps between two ticks; it grows with partitions, not with objects.

    Attributes:
        runs: asked for, and not long ago.
        early: partitions that aren't over yet and have new objects, with when the newest of them was written.
    """

    runs: dict[Part, Run] = field(default_factory=dict)
    early: dict[Part, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """As a sensor's cursor."""
        body = {
            "runs": {"|".join(part): asdict(run) for part, run in self.runs.items()},
            "early": {"|".join(part): newest for part, newest in self.early.items()},
        }
        return json.dumps(body, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> State:
        """Read a cursor; none is the beginning.

        Raises:
            ValueError: it isn't one.
        """
        if not text:
            return cls()
        try:
            body: Mapping[str, Any] = json.loads(text)
            runs = {_part(key): Run(**value) for key, value in body["runs"].items()}
            return cls(runs, {_part(key): int(value) for key, value in body["early"].items()})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of the sensor of notifications: {error}") from error

    def settle(self, now: datetime) -> None:
        """Leave out partitions that a run is sure for, and runs that stand for nothing any more."""
        moment = now.timestamp()
        for part, run in self.runs.items():
            if run.sure and self.early.get(part, run.newest_ms + 1) <= run.newest_ms:
                del self.early[part]
        self.runs = {
            part: run
            for part, run in self.runs.items()
            if moment - run.at < (PATIENCE if run.sure else UNSURE).total_seconds()
        }

    def covers(self, item: Landed) -> Run | None:
        """The run that will deliver an object, if one was asked for."""
        run = self.runs.get((item.table, item.partition))
        return run if run is not None and item.written_ms <= run.newest_ms else None


def _part(key: str) -> Part:
    table, _, partition = key.partition("|")
    return table, partition


def by_part(items: Iterable[Landed]) -> dict[Part, list[Landed]]:
    """Objects by table and partition."""
    found: dict[Part, list[Landed]] = {}
    for item in items:
        found.setdefault((item.table, item.partition), []).append(item)
    return found


def newest(items: Iterable[Landed]) -> int:
    """When the newest of some objects was written."""
    return max(item.written_ms for item in items)


class Held:
    """Messages that wait to be acknowledged, in this process only."""

    def __init__(self) -> None:
        self._items: list[Landed] = []

    def add(self, items: Iterable[Landed]) -> None:
        """Hold these until the next tick."""
        self._items += items

    def settle(self, state: State) -> Iterator[str]:
        """Handles of those that can't be lost any more; the others are let go, and will be delivered again."""
        items, self._items = self._items, []
        for item in items:
            run = state.covers(item)
            if (run is not None and run.sure) or (item.table, item.partition) in state.early:
                yield item.handle
