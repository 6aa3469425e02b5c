"""Runs on this machine, which are found dead when they are.

Dagster's own launcher starts a run as a child of the code server, and the code server tells when its child dies. When
both die (the machine is switched off, the UI is killed), nobody tells: the run would stay "started" for ever, and with
one run at a time no other would ever begin. So this one can be asked whether a run's process lives, and Dagster's run
monitoring, which asks, fails a run whose process doesn't. Run retries then begin it again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._serdes import ConfigurableClassData

UNNAMED_SECONDS = 120.0
"""How long a run may be without saying which process it is in: it says so at its beginning."""


class EmbeddedRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, which can tell whether a run's process lives. Also of runs that the terminal began."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """See `ConfigurableClass`."""
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process lives that said last that it executes the run."""
        said, pid = self._said_last(run)
        if pid is None:
            waited = time.time() - said
            status = WorkerStatus.RUNNING if waited < UNNAMED_SECONDS else WorkerStatus.NOT_FOUND
            return CheckRunHealthResult(status, f"no process has said for {waited:.0f} s that it executes the run")
        if lives(pid, said):
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {pid} has died", run_worker_id=str(pid))

    def _said_last(self, run: DagsterRun) -> tuple[float, int | None]:
        """When a process said that it executes the run, and which; or when the run started."""
        started = time.time()
        found: tuple[float, int | None] | None = None
        for entry in self._instance.all_logs(
            run.run_id, of_type={dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.RUN_START}
        ):
            event = entry.get_dagster_event()
            if event.event_type is dg.DagsterEventType.RUN_START:
                started = entry.timestamp
            elif (named := event.engine_event_data.metadata.get("pid")) is not None:
                found = entry.timestamp, int(str(named.value))
        return found or (started, None)


def fail_dead_runs(instance: dg.DagsterInstance) -> None:
    """Report as failed the runs of this machine whose process has died, as Dagster's daemon would where one runs."""
    if not isinstance(instance.run_launcher, EmbeddedRunLauncher):
        return
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        health = instance.run_launcher.check_run_worker_health(run)
        if health.status is WorkerStatus.NOT_FOUND:
            instance.report_run_failed(run, health.msg)


def lives(pid: int, known_at: float) -> bool:
    """Whether the process of that id at some moment still lives; another one may have its id by now.

    Args:
        known_at: seconds since 1970.
    """
    try:
        process = psutil.Process(pid)
        # Times of processes are rounded, and reckoned from when the machine was started.
        return process.create_time() <= known_at + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
