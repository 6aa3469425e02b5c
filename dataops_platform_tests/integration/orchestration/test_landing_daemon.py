"""Dagster's own daemon evaluates the sensor in a code server, and what it asks for runs to its end."""

from __future__ import annotations

import logging
import sys

from dagster import DagsterRunStatus
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.test_utils import create_test_daemon_workspace_context, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration

from dataops_platform_tests.integration.orchestration.test_landing_sensor import Shop

AT_ONCE = {
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
}
"""Runs are not queued: one is over before the next begins."""


def forget_code() -> None:
    """Runs in this process load the code location anew: what another test has loaded is of its own project."""
    sys.modules.pop("dataops_platform.definitions", None)
    for found in (ReconstructableJob.get_definition, ReconstructableJob.get_repository_definition):
        found.cache_clear()


def test_the_daemon_runs_what_landed(tmp_path, monkeypatch):
    shop = Shop(tmp_path)
    monkeypatch.setenv("DATAOPS_PROJECT", str(shop.settings.project))
    monkeypatch.setenv("DATAOPS_HOME", str(shop.settings.home))
    for day in (1, 5, 6, 7, 8):
        shop.write(day)
    forget_code()
    target = ModuleTarget("dataops_platform.definitions", attribute=None, working_directory=None, location_name="shop")
    (tmp_path / "dagster").mkdir()
    with (
        instance_for_test(temp_dir=str(tmp_path / "dagster"), overrides=AT_ONCE) as dagster,
        create_test_daemon_workspace_context(target, dagster) as workspace,
    ):
        (location,) = workspace.create_request_context().code_locations
        (repository,) = location.get_repositories().values()
        sensor = repository.get_sensor("landing_orders")
        dagster.start_sensor(sensor)

        def tick():
            list(execute_sensor_iteration(workspace, logging.getLogger("daemon"), None, None))
            return dagster.get_ticks(sensor.get_remote_origin().get_id(), sensor.selector_id)[0]

        first = tick()
        assert first.error is None, first.error
        started = dagster.get_runs()
        assert [(run.status, run.tags["dataops/landing"]) for run in started] == [
            (DagsterRunStatus.SUCCESS, "orders"), (DagsterRunStatus.SUCCESS, "orders")
        ]  # fmt: skip
        assert shop.staged() == [1, 5, 6, 7, 8]
        monkeypatch.setattr("dagster._daemon.sensor.get_current_timestamp", lambda: first.timestamp + 100)
        second = tick()
        assert (second.run_ids, second.error) == ([], None)
        assert "0 new objects" in second.skip_reason
