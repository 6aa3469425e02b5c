"""Killed at random moments, run again: the tables end as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]


def killed(folder: Path, what: str, kills: int) -> dict:
    module = "dataops_platform_tests.integration.warehouse.kills"
    done = subprocess.run(
        [sys.executable, "-m", module, what, str(folder), str(kills), "1"],
        cwd=REPO, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] >= kills, report
    assert report["midway"] >= kills / 4, report
    return report


@pytest.mark.parametrize(("what", "kills"), [("load", 3), ("publish", 1)])
def test_killed_and_run_again(tmp_path, what, kills):
    killed(tmp_path, what, kills)


@pytest.mark.long
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("what", ["load", "publish"])
def test_killed_and_run_again_long(tmp_path, what):
    killed(tmp_path, what, 200)
