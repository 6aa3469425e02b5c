"""Definitions: how long a code location with many contracts takes to load, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZES = (10,) if os.environ.get("DATAOPS_BENCH_QUICK") else (10, 100, 1000)

_LOAD = """
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.settings import Settings
repository = build_definitions(Settings.load()).get_repository_def()
print(len(repository.get_all_jobs()), len(repository.asset_graph.asset_check_keys), flush=True)
"""


def run() -> dict[str, float]:
    """Seconds from starting Python to a repository with all jobs; contracts like the demo's weather, 26 rules each."""
    figures = {}
    template = (ROOT / "contracts" / "weather.odcs.yaml").read_text()
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "contracts"
            folder.mkdir()
            for number in range(size):
                text = template.replace("contract:weather", f"contract:weather{number}")
                text = text.replace("name: weather", f"name: weather{number}").replace(
                    "weather.obs", f"weather{number}.obs"
                )
                text = text.replace("physicalName: weather", f"physicalName: weather{number}")
                (folder / f"weather{number}.odcs.yaml").write_text(text)
            environment = {**os.environ, "DATAOPS_PROJECT": name, "DATAOPS_HOME": f"{name}/home"}
            started = time.perf_counter()
            command = [sys.executable, "-W", "ignore", "-c", _LOAD]
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                loaded = process.stdout.readline()
                seconds = time.perf_counter() - started  # what Python takes to tidy up at its end is no loading
            if process.returncode != 0 or not loaded:
                raise RuntimeError(f"the definitions of {size} contracts could not be loaded")
            figures[f"contracts_{size}_seconds"] = seconds
    return figures
