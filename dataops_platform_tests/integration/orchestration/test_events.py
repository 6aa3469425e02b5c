"""The sensor `events` on real runs, with Google's Pub/Sub emulator."""

from __future__ import annotations

import dagster as dg
import pytest

from dataops_platform.orchestration import alert_sensor
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.settings import Settings
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.messages import Mail

pytestmark = pytest.mark.cloud
RANGE = {"dagster/asset_partition_range_start": "2024-05-01", "dagster/asset_partition_range_end": "2024-05-02"}


def definitions_of(project, home, mail):
    env = {"DATAOPS_PROJECT": str(project), "DATAOPS_HOME": str(home), "DATAOPS_EVENTS": mail.address}
    return build_definitions(Settings.load(env | mail.env))


def tick(definitions, made, cursor=None):
    """One evaluation of the sensor: what it says, and its cursor."""
    repository = definitions.get_repository_def()
    resources = {"platform": repository.get_top_level_resources()["platform"]}
    context = dg.build_sensor_context(instance=made, cursor=cursor, repository_def=repository, resources=resources)
    result = repository.get_sensor_def("events").evaluate_tick(context)
    return result.skip_message, result.cursor


def execute(definitions, made):
    job = definitions.resolve_job_def("pipeline")
    return job.execute_in_process(instance=made, tags=RANGE, raise_on_error=False)


def test_the_sensor_publishes_once(shop, tmp_path, pubsub_server):
    mail = Mail(pubsub_server)
    definitions = definitions_of(shop, tmp_path / "home", mail)
    with instance(tmp_path / "dagster") as made:
        said, cursor = tick(definitions, made)
        assert said == "no run has ended since"
        assert not (tmp_path / "home" / "warehouse.duckdb").exists()  # nothing was opened for nothing
        run_id = execute(definitions, made).run_id
        said, cursor = tick(definitions, made, cursor)
        assert said == f"events told: {mail.topic}: 2"
        bodies = mail.bodies()
        assert {body["run_id"] for body in bodies} == {run_id}
        assert sorted((b["event"], b["table"], b["partition"]) for b in bodies if b["table"]) == [
            ("quarantined", "staging.orders", "2024-05-02")
        ]
        (end,) = [body for body in bodies if body["event"] == "run_finished"]
        assert (end["job"], end["outcome"], end["partition"]) == ("pipeline", "success", "2024-05-01..2024-05-02")
        assert tick(definitions, made, cursor)[0] == "no run has ended since"


def test_a_missing_topic_is_tried_again_later_and_later(shop, tmp_path, pubsub_server, monkeypatch):
    mail = Mail(pubsub_server, topic=False)
    definitions = definitions_of(shop, tmp_path / "home", mail)
    moment = 1_000_000.0
    monkeypatch.setattr(alert_sensor, "clock", lambda: moment)
    with instance(tmp_path / "dagster") as made:
        assert execute(definitions, made).success  # no run fails for it
        said, cursor = tick(definitions, made)
        assert said.startswith(f"not told, tried again in 30 s: {mail.topic}: DATAOPS_EVENTS: there is no topic")
        assert tick(definitions, made, cursor)[0] == "waiting to try a channel again"
        moment += 31
        said, cursor = tick(definitions, made, cursor)
        assert said.startswith("not told, tried again in 60 s")
        moment += 61
        mail.create()
        assert tick(definitions, made, cursor)[0] == f"events told: {mail.topic}: 2"
    assert len(mail.bodies()) == 2


def test_without_the_setting_there_is_no_sensor(definitions):
    names = {sensor.name for sensor in definitions.get_repository_def().sensor_defs}
    assert "alerts" in names
    assert "events" not in names
