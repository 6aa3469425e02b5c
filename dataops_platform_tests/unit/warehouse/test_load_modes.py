"""Loads on DuckDB against the naive model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from dataops_platform.lake import local
from dataops_platform_tests.load_model import SCENARIO, TABLES, run
from dataops_platform_tests.support import Home

pytestmark = pytest.mark.usefixtures("open_files")

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def on_duckdb(name: str, scenario) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_sync", lambda path: None)
        run(name, scenario, Home(Path(folder)), lambda: Home(Path(folder) / "other"))


@pytest.mark.parametrize("name", TABLES)
@settings(QUIET, max_examples=6)
@given(scenario=SCENARIO)
def test_loads_do_what_the_model_says(name, scenario):
    on_duckdb(name, scenario)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", TABLES)
@settings(QUIET, max_examples=600)
@given(scenario=SCENARIO)
def test_loads_do_what_the_model_says_long(name, scenario):
    on_duckdb(name, scenario)
