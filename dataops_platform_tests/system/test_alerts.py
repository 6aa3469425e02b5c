"""Alerts as a user meets them: `dataops run` against a server that they are posted to."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from dataops_platform_tests import browser
from dataops_platform_tests.conftest import dataops, environment
from dataops_platform_tests.readme import own_table_files
from dataops_platform_tests.receiver import receiving

DAY = "data/orders/2024-05-02.csv"


@pytest.fixture
def server():
    with receiving() as made:
        yield made


@pytest.fixture
def shop(tmp_path):
    """The README's own table, with a rule that the second day breaks, and a few days only."""
    project = tmp_path / "shop"
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text.replace("mustBeGreaterThan: 0", "mustBeGreaterThan: 1"))
    return project


@pytest.fixture
def run(shop, server, tmp_path):
    def call(**env):
        given = {
            "DATAOPS_ALERTS": "webhook",
            "DATAOPS_ALERTS_WEBHOOK": f"{server.url}/hooks/0123456789abcdefghij",
            "DATAOPS_UI_URL": "http://dagster.test",
        }
        return dataops(["run"], tmp_path / "home", shop, given | env)

    return call


def told(body):
    return [(alert["status"], alert["kind"], alert["rule"], alert["partition"]) for alert in body["alerts"]]


def test_a_rule_that_fails_is_told_once_and_again_when_it_passes(run, server, shop):
    first = run()
    assert first.returncode == 1, first.stdout + first.stderr
    (body,) = server.bodies
    assert ("open", "check_failed", "volume", "2024-05-02") in told(body)
    assert ("open", "run_failed", None, "2024-05-01..2024-05-02") in told(body)
    assert len(body["alerts"]) == 2
    alert = next(a for a in body["alerts"] if a["rule"])
    assert (alert["table"], alert["observed"], alert["expected"]) == ("staging.orders", "1", "mustBeGreaterThan 1")
    assert (alert["owner"], alert["severity"]) == ("shop", "error")
    assert alert["url"] == "http://dagster.test/assets/staging/orders?view=checks&checkDetail=volume"

    assert run().returncode == 0
    assert len(server.bodies) == 1

    (shop / DAY).write_text("order_id,order_date,country,amount\n4,2024-05-02,DE,20.00\n5,2024-05-02,FR,5.00\n")
    mended = run()
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert told(server.bodies[1]) == [
        ("recovered", "check_failed", "volume", "2024-05-02"),
        ("recovered", "run_failed", None, "2024-05-01..2024-05-02"),
    ]  # fmt: skip
    assert len(server.bodies) == 2
    assert server.url.encode() not in (shop.parent / "home" / "warehouse.duckdb").read_bytes()


def test_a_channel_that_fails_does_not_fail_the_run_and_is_told_next_time(run, server, shop):
    (shop / "contracts/orders.odcs.yaml").write_text(
        (shop / "contracts/orders.odcs.yaml").read_text().replace("GreaterThan: 1", "GreaterThan: 1, severity: warning")
    )
    server.answers = [500]
    first = run(DATAOPS_ALERTS="webhook,log")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "volume failed for 2024-05-02: observed 1, expected mustBeGreaterThan 1 (owner shop)" in first.stderr
    assert "alerts: webhook was not told of 1: DATAOPS_ALERTS_WEBHOOK (127.0.0.1:" in first.stderr
    assert "500 Internal Server Error. It is tried again after the next run." in first.stderr
    assert "hooks" not in first.stdout + first.stderr
    assert len(server.requests) == 3

    server.answers = [200]
    again = run(DATAOPS_ALERTS="webhook,log")
    assert again.returncode == 0
    assert again.stderr == ""  # the log was told before
    assert told(server.bodies[3]) == [("open", "check_failed", "volume", "2024-05-02")]
    assert run().returncode == 0
    assert len(server.requests) == 4


DIES = """
import os, signal
from dataops_platform.orchestration import alerting
alerting.send = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_between_commit_and_sending_loses_nothing(run, server, shop, tmp_path):
    killed = dataops(["run"], tmp_path / "home", shop, first=DIES)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert server.bodies == []
    assert run().returncode == 0  # nothing new: only what wasn't told is told
    (body,) = server.bodies
    assert sorted(told(body), key=str) == [
        ("open", "check_failed", "volume", "2024-05-02"),
        ("open", "run_failed", None, "2024-05-01..2024-05-02"),
    ]


def test_an_unreadable_delivery_is_told(run, server, shop):
    assert run().returncode == 1
    (shop / DAY).write_text("order_id,order_date,country,amount\n4,2024-05-02,DE,20.00\n")
    for path in (shop.parent / "home" / "lake" / "raw_orders").rglob("*.parquet"):
        os.chmod(path, 0o600)
        path.write_bytes(b"nonsense")
    assert dataops(["reload", "--allow-refusals", "orders"], shop.parent / "home", shop).returncode == 0
    server.requests.clear()
    done = run()
    assert done.returncode == 1, done.stdout + done.stderr
    (body,) = server.bodies
    refused = [alert for alert in body["alerts"] if alert["kind"] == "delivery_refused"]
    assert [(a["table"], a["partition"]) for a in refused] == [
        ("staging.orders", "2024-05-01"),
        ("staging.orders", "2024-05-02"),
    ]


@pytest.fixture
def slow_tail(tmp_path):
    """A PATH with a `tail` that doesn't come to write anything, as a busy machine's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "tail").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "tail").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_json_logs(run, server, shop, slow_tail):
    """Every line is there, also of what a step says last, whose output Dagster lets `tail` write."""
    contract = shop / "contracts/orders.odcs.yaml"
    contract.write_text(contract.read_text().replace("mustBeGreaterThan: 1", "mustBeGreaterThan: 9"))
    done = run(DATAOPS_LOG_FORMAT="json", DATAOPS_ALERTS="log", PATH=slow_tail)
    assert done.returncode == 1
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    other, volume = [entry for entry in entries if entry.get("rule") == "volume" and entry.get("status")]
    assert other["partition"] == "2024-05-01"  # each partition by itself
    assert volume["severity"] == "ERROR"
    assert volume["message"].startswith("staging.orders volume failed for 2024-05-02")
    assert (volume["table"], volume["partition"]) == ("staging.orders", "2024-05-02")
    assert volume["logging.googleapis.com/labels"]["run_id"] == volume["run_id"]
    assert len(volume["run_id"]) == 36
    failed = next(entry for entry in entries if entry.get("event") == "STEP_FAILURE")
    assert (failed["table"], failed["partition"]) == ("staging.orders", "2024-05-01..2024-05-02")


LAUNCH = """
mutation($location: String!, $repository: String!) {
  launchRun(executionParams: {
    selector: {jobName: "__ASSET_JOB", repositoryLocationName: $location, repositoryName: $repository,
      assetSelection: [{path: ["raw", "orders"]}, {path: ["staging", "orders"]}]},
    executionMetadata: {tags: [{key: "dagster/partition", value: "2024-05-02"}]}
  }) {... on LaunchRunSuccess {run {runId}}}
}
"""
WHERE = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"


@pytest.mark.long
def test_the_daemon_tells_of_a_click_on_assets(shop, server, tmp_path):
    """Two processes have the news: the run's, which logs, and the code server's, whose sensor tells."""
    env = {
        "DATAOPS_ALERTS": "webhook",
        "DATAOPS_ALERTS_WEBHOOK": f"{server.url}/hooks/0123456789abcdefghij",
        "DATAOPS_LOG_FORMAT": "json",
    }
    log = tmp_path / "log"
    with browser.serve(environment(tmp_path / "home", shop, **env), log) as ui:
        (repository,) = ui.query(WHERE)["repositoriesOrError"]["nodes"]
        launched = ui.query(LAUNCH, location=repository["location"]["name"], repository=repository["name"])
        run_id = launched["launchRun"]["run"]["runId"]
        assert ui.finished(run_id) == "FAILURE"
        deadline = time.monotonic() + 120
        while not server.bodies:
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.2)
    (body,) = server.bodies
    assert told(body) == [
        ("open", "check_failed", "volume", "2024-05-02"), ("open", "run_failed", None, "2024-05-02"),
    ]  # fmt: skip
    assert {alert["run_id"] for alert in body["alerts"]} == {run_id}
    lines = [line for line in log.read_text().splitlines() if run_id in line and "STEP_FAILURE" in line]
    (failed,) = [json.loads(line) for line in lines]
    assert (failed["severity"], failed["run_id"], failed["partition"]) == ("ERROR", run_id, "2024-05-02")


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"DATAOPS_ALERTS": "pager"}, "DATAOPS_ALERTS is 'pager': write one or more of log, slack, webhook"),
        ({"DATAOPS_LOG_FORMAT": "xml"}, "DATAOPS_LOG_FORMAT is 'xml'; use one of text, json"),
    ],
)
def test_wrong_settings(run, env, says):
    done = run(**env)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {says}")
    assert len(done.stderr.splitlines()) == 1
