"""When a run's process is to die: written by a test, read by the process (see `mortal`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

VARIABLE = "DATAOPS_TEST_DEATHS"
"""Names the folder."""


@dataclass(frozen=True)
class Death:
    """When a run's process is killed.

    Attributes:
        event: before which event is stored, like `STEP_START staging__orders`; or `RUN_START`, and then
        after: so many seconds later.
    """

    event: str
    after: float = 0.0


def name_of(entry: dg.EventLogEntry) -> str:
    """What a death calls an event."""
    event = entry.dagster_event
    return "" if event is None else f"{event.event_type_value} {event.step_key or ''}".strip()


def write(folder: Path, partition: str, deaths: Sequence[Death]) -> None:
    """Let the run of a partition die so, one time after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{partition}.json").write_text(json.dumps([asdict(death) for death in deaths]))


def left(folder: Path, partition: str) -> tuple[Path, Death] | None:
    """The next death of a partition's run, and the file that says that it has happened."""
    planned = folder / f"{partition}.json"
    if planned.exists():
        for number, item in enumerate(json.loads(planned.read_text())):
            mark = planned.with_name(f"{planned.name}.{number}")
            if not mark.exists():
                return mark, Death(**item)
    return None
