"""Dagster's own daemon goes from raw to production by conditions alone, and a failed blocking check stops it."""

from __future__ import annotations

import logging

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.asset_daemon import AssetDaemon
from dagster._daemon.backfill import execute_backfill_iteration

from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.orchestration.table_options import raw_key
from dataops_platform_tests.integration.orchestration.automated import settings, write_project
from dataops_platform_tests.integration.orchestration.test_landing_daemon import AT_ONCE, forget_code


@pytest.mark.long
def test_the_daemon_goes_from_raw_to_production(tmp_path, monkeypatch):
    project, home = write_project(tmp_path / "shop"), tmp_path / "home"
    for name, value in {"PROJECT": project, "HOME": home, "AUTOMATION": "conditions", "EVENT_LOG": ""}.items():
        monkeypatch.setenv(f"DATAOPS_{name}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr("dagster._daemon.asset_daemon.is_under_min_interval", lambda *_, **__: False)  # no waiting
    made = settings(project, home)
    job = build_definitions(made).get_repository_def().get_job("pipeline")
    forget_code()
    target = ModuleTarget("dataops_platform.definitions", attribute=None, working_directory=None, location_name="shop")
    (tmp_path / "dagster").mkdir()
    with (
        instance_for_test(temp_dir=str(tmp_path / "dagster"), overrides=AT_ONCE) as dagster,
        create_test_daemon_workspace_context(target, dagster) as workspace,
    ):
        (location,) = workspace.create_request_context().code_locations
        (repository,) = location.get_repositories().values()
        dagster.start_sensor(repository.get_sensor("automation"))
        daemon = AssetDaemon(settings={}, pre_sensor_interval_seconds=0)

        def until_quiet():
            """What the daemon does until it asks for nothing more: its runs, in order."""
            before = {run.run_id for run in dagster.get_runs()}
            known = -1
            while known < (known := len(dagster.get_runs()) + len(dagster.get_backfills())):
                daemon._run_iteration_impl(workspace, None, {}, {})
                for _ in range(3):
                    assert not [e for e in execute_backfill_iteration(workspace, logging.getLogger("daemon")) if e]
            return [run for run in dagster.get_runs() if run.run_id not in before][::-1]

        def failed(run):
            events = dagster.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
            return {event.step_key: runs.step_failure(event.dagster_event).message for event in events}

        def deliver(table, *days):
            assert runs.execute(job, dagster, (days[0], days[-1]) if days else None, {raw_key(table)}).success

        def published():
            found = made.warehouse().query("SELECT order_date, orders FROM production.by_day ORDER BY 1").to_pylist()
            return {row["order_date"].day: row["orders"] for row in found}

        assert until_quiet() == []
        deliver("shops")
        deliver("orders", "2024-05-01", "2024-05-02")
        done = until_quiet()
        assert not [failed(run) for run in done if run.status is not dg.DagsterRunStatus.SUCCESS]
        assert published() == {1: 3, 2: 2}

        # A correction of the first day: that day alone is made anew.
        late = project / "data/orders/2024-05-01.csv"
        late.write_text(late.read_text() + "9,2024-05-01,FR,1.00\n")
        deliver("orders", "2024-05-01")
        done = until_quiet()
        assert {run.tags.get("dagster/partition") for run in done} == {"2024-05-01", None}
        assert published() == {1: 4, 2: 2}

        # A correction that a blocking rule refuses: staging follows, and nothing follows staging.
        late.write_text(late.read_text() + "10,2024-05-01,FR,1.00\n")
        deliver("orders", "2024-05-01")
        (refused,) = until_quiet()
        assert failed(refused).keys() == {"staging__orders__checks"}
        assert published() == {1: 4, 2: 2}
