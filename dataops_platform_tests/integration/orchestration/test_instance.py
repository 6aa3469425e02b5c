"""Dagster's own databases, below DATAOPS_HOME."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import dagster as dg
from dagster._core.events import DagsterEvent

from dataops_platform.orchestration.event_log import BatchingSqliteEventLogStorage
from dataops_platform_tests.conftest import environment

PREPARE = """
import sys, time
import dagster as dg
from pathlib import Path
from dataops_platform.orchestration.runs import prepare_instance
from dataops_platform.settings import Settings
settings = Settings.load()
Path(sys.argv[1]).touch()
while len(list(Path(sys.argv[1]).parent.glob("ready*"))) < 3:
    time.sleep(0.01)
prepare_instance(settings)
with dg.DagsterInstance.get() as instance:
    _ = instance.run_storage, instance.event_log_storage, instance.schedule_storage
"""


def test_a_run_that_failed_just_now_is_not_told_yet(tmp_path: Path) -> None:
    """Its status is written after the event: the daemon that begins runs again would take it for one that goes on."""
    log = BatchingSqliteEventLogStorage(str(tmp_path))
    failed = dg.DagsterEventType.RUN_FAILURE

    def ended(run: str, ago: float) -> None:
        event = DagsterEvent(failed.value, "pipeline", message="died")
        log.store_event(
            dg.EventLogEntry(None, "ERROR", "died", run, time.time() - ago, job_name="pipeline", dagster_event=event)
        )

    def told(after: int = -1) -> list[str]:
        return [entry.run_id for entry in log.get_logs_for_all_runs_by_log_id(after, {failed}).values()]

    ended("old", 60)
    ended("new", 0)
    ended("of a clock that is behind", 60)
    assert told() == ["old"]  # what comes behind a new one waits: the daemon goes on after the last it was told of
    with patch("dataops_platform.orchestration.event_log.SETTLE", 0):
        assert told() == ["old", "new", "of a clock that is behind"]


def test_processes_that_make_them_at_the_same_time(tmp_path: Path) -> None:
    """The first commands of a new project may be two: each version of a schema is noted once."""
    env = environment(tmp_path / "home")
    made = [
        subprocess.Popen([sys.executable, "-c", PREPARE, str(tmp_path / f"ready{number}")], env=env)
        for number in range(3)
    ]
    assert [process.wait(60) for process in made] == [0, 0, 0]
    databases = [path for path in (tmp_path / "home").rglob("*.db") if os.path.getsize(path)]
    versions = {}
    for path in databases:
        with sqlite3.connect(path) as con:
            if con.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchall():
                versions[path.name] = len(con.execute("SELECT * FROM alembic_version").fetchall())
    assert len(versions) >= 2
    assert max(versions.values()) == 1, versions
