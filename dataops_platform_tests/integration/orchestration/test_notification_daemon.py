"""Dagster's own daemon evaluates the sensor in a code server, and messages go only when their runs are stored."""

from __future__ import annotations

import logging

import pytest
from dagster import DagsterRunStatus
from dagster._core.test_utils import create_test_daemon_workspace_context, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration

from dataops_platform_tests.integration.orchestration.test_landing_daemon import AT_ONCE, forget_code
from dataops_platform_tests.integration.orchestration.test_notification_sensor import Told
from dataops_platform_tests.messages import Mail

pytestmark = pytest.mark.cloud


def test_the_daemon_runs_what_it_is_told_of(tmp_path, monkeypatch, pubsub_server):
    told = Told(tmp_path, Mail(pubsub_server))
    env = {"DATAOPS_PROJECT": told.settings.project, "DATAOPS_HOME": told.settings.home}
    for name, value in (env | told.mail.env | {"DATAOPS_NOTIFICATIONS": told.mail.subscription}).items():
        monkeypatch.setenv(name, str(value))
    for day in (1, 5, 6, 7, 8):
        told.tell(told.write(day))
    forget_code()
    target = ModuleTarget("dataops_platform.definitions", attribute=None, working_directory=None, location_name="shop")
    (tmp_path / "dagster").mkdir()
    with (
        instance_for_test(temp_dir=str(tmp_path / "dagster"), overrides=AT_ONCE) as dagster,
        create_test_daemon_workspace_context(target, dagster) as workspace,
    ):
        (location,) = workspace.create_request_context().code_locations
        (repository,) = location.get_repositories().values()
        sensor = repository.get_sensor("notifications")
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
        assert told.staged() == [1, 5, 6, 7, 8]
        monkeypatch.setattr("dagster._daemon.sensor.get_current_timestamp", lambda: first.timestamp + 100)
        second = tick()
        assert (second.run_ids, second.error) == ([], None)
        assert second.skip_reason == "0 messages, 0 of new objects; 5 acknowledged"
