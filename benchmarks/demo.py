"""The demo: wall time of the command, first and second run, and of its steps."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run() -> dict[str, float]:
    """Seconds after set-up, as a user waits for them."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "DATAOPS_HOME": home, "DATAOPS_PROJECT": str(ROOT)}
        for name in ("first", "second"):
            started = time.perf_counter()
            subprocess.run(
                [str(Path(sys.executable).with_name("dataops")), "demo"],
                env=environment, check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            figures[f"{name}_seconds"] = time.perf_counter() - started
        figures |= _steps(Path(home))
    return figures


def _steps(home: Path) -> dict[str, float]:
    os.environ["DATAOPS_EVENT_LOG"] = str(home / "dagster" / "events")
    from dagster import DagsterInstance

    seconds: dict[str, float] = defaultdict(float)
    with DagsterInstance.from_config(str(home / "dagster")) as instance:
        for run in instance.get_runs():
            for step in instance.get_run_step_stats(run.run_id):
                if step.start_time and step.end_time:
                    kind = "checks" if step.step_key.endswith("checks") else step.step_key.split("__")[0]
                    seconds[f"step_{kind}_seconds"] += step.end_time - step.start_time
    return dict(seconds)
