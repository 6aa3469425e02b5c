"""The project's code location, in a process that dies as it is told: runs are killed at events of theirs.

The folder of `deaths.VARIABLE` has a file for each partition whose runs are to die. Each death happens once. The
workspace of the test names this module.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from dataops_platform.definitions import defs as defs
from dataops_platform.orchestration.event_log import BatchingSqliteEventLogStorage
from dataops_platform_tests.integration.exactly_once.deaths import VARIABLE, Death, left, name_of


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Mortality:
    """Looks at each event before it is stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next: dict[str, tuple[Path, Death] | None] = {}

    def meet(self, storage: BatchingSqliteEventLogStorage, entry: dg.EventLogEntry) -> None:
        if entry.run_id not in self._next:
            self._next[entry.run_id] = self._of(storage, entry.run_id)
        found = self._next[entry.run_id]
        if found is not None and found[1].event == name_of(entry):
            mark, death = found
            self._next[entry.run_id] = None
            mark.touch(exist_ok=False)
            if death.after:
                threading.Thread(target=lambda: (time.sleep(death.after), _die()), daemon=True).start()
            else:
                _die()

    def _of(self, storage: BatchingSqliteEventLogStorage, run_id: str) -> tuple[Path, Death] | None:
        run = storage._instance.get_run_by_id(run_id)
        partition = run.tags.get("dagster/partition") if run else None
        return left(self._folder, partition) if partition else None


def _mortal(folder: Path) -> None:
    mortality, stores = _Mortality(folder), BatchingSqliteEventLogStorage.store_event
    stores_batch = BatchingSqliteEventLogStorage.store_event_batch

    def store_event(self: BatchingSqliteEventLogStorage, event: dg.EventLogEntry) -> None:
        mortality.meet(self, event)
        stores(self, event)

    def store_event_batch(self: BatchingSqliteEventLogStorage, events: Sequence[dg.EventLogEntry]) -> None:
        for event in events:
            mortality.meet(self, event)
        stores_batch(self, events)

    BatchingSqliteEventLogStorage.store_event = store_event  # type: ignore[method-assign]
    BatchingSqliteEventLogStorage.store_event_batch = store_event_batch  # type: ignore[method-assign]


# In the code server nothing happens to its own runs: their events are stored by the processes that execute them.
_mortal(Path(os.environ[VARIABLE]))
