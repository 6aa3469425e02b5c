"""Dagster's own databases, below DATAOPS_HOME."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

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
