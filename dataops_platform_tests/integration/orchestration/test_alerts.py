"""The sensor `alerts` on real runs, and what runs log as JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import timedelta

import dagster as dg
import pytest

from dataops_platform.alerts import facts
from dataops_platform.alerts.events import GONE
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts import load_contracts
from dataops_platform.orchestration import alert_sensor, alerting
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.orchestration.run_logs import install_run_logs
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models
from dataops_platform.warehouse.ledger import Ledger, RunStatus, now
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.receiver import receiving

RANGE = {"dagster/asset_partition_range_start": "2024-05-01", "dagster/asset_partition_range_end": "2024-05-02"}


@pytest.fixture
def server():
    with receiving() as made:
        yield made


@pytest.fixture(autouse=True)
def _logging():
    """Definitions set this process's log; the tests' own must not stay changed."""
    loggers = [logging.getLogger(name) for name in (None, "dataops", "dagster")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    install_run_logs("text")


def settings(project, home, url, **env):
    given = {"DATAOPS_ALERTS": "webhook", "DATAOPS_ALERTS_WEBHOOK": f"{url}/hooks/0123456789abcdef"}
    return Settings.load({"DATAOPS_PROJECT": str(project), "DATAOPS_HOME": str(home), **given, **env})


@pytest.fixture
def demanding(shop):
    """The shop, with a rule that its second day breaks."""
    path = shop / "contracts/orders.odcs.yaml"
    path.write_text(path.read_text().replace("mustBeGreaterThan: 0", "mustBeGreaterThan: 1"))
    return shop


def tick(definitions, made, cursor=None):
    """One evaluation of the sensor: what it says, and its cursor."""
    repository = definitions.get_repository_def()
    context = dg.build_sensor_context(
        instance=made,
        cursor=cursor,
        repository_def=repository,
        resources={"platform": repository.get_top_level_resources()["platform"]},
    )
    result = repository.get_sensor_def("alerts").evaluate_tick(context)
    return result.skip_message, result.cursor


def execute(definitions, made):
    job = definitions.resolve_job_def("pipeline")
    return job.execute_in_process(instance=made, tags=RANGE, raise_on_error=False)


def test_the_sensor_tells_once(demanding, server, tmp_path):
    given = settings(demanding, tmp_path / "home", server.url)
    definitions = build_definitions(given)
    with instance(tmp_path / "dagster") as made:
        said, cursor = tick(definitions, made)
        assert said == "no run has ended since"
        assert not (tmp_path / "home" / "warehouse.duckdb").exists()  # nothing was opened for nothing
        result = execute(definitions, made)
        assert not result.success
        said, cursor = tick(definitions, made, cursor)
        assert said == "alerts told: webhook: 2"
        (body,) = server.bodies
        assert [(a["kind"], a["run_id"]) for a in body["alerts"]] == [
            ("check_failed", result.run_id),
            ("run_failed", result.run_id),
        ]
        assert body["alerts"][1]["observed"] == (
            "staging/orders/checks: 1 blocking asset check failed with ERROR severity: staging/orders: volume"
        )
        assert tick(definitions, made, cursor)[0] == "no run has ended since"
    (end,) = Ledger(given.warehouse()).run_ends(now() - timedelta(hours=1))
    assert (end.run_id, end.job, end.partition_key, end.status) == (
        result.run_id, "pipeline", "2024-05-01..2024-05-02", RunStatus.FAILURE,
    )  # fmt: skip
    assert set(end.steps) == {"raw__orders", "staging__orders", "deliveries"}
    assert set(end.failures) == {"staging__orders__checks"}


def test_the_sensor_tries_a_channel_again_later_and_later(demanding, server, tmp_path, monkeypatch):
    definitions = build_definitions(settings(demanding, tmp_path / "home", server.url))
    server.answers = [404]
    moment = 1_000_000.0
    monkeypatch.setattr(alert_sensor, "clock", lambda: moment)
    with instance(tmp_path / "dagster") as made:
        execute(definitions, made)
        said, cursor = tick(definitions, made)
        assert said.startswith("not told, tried again in 30 s: webhook: DATAOPS_ALERTS_WEBHOOK (127.0.0.1:")
        assert tick(definitions, made, cursor)[0] == "waiting to try a channel again"
        assert len(server.requests) == 1
        moment += 31
        said, cursor = tick(definitions, made, cursor)
        assert said.startswith("not told, tried again in 60 s")
        moment += 61
        server.answers = [200]
        assert tick(definitions, made, cursor)[0] == "alerts told: webhook: 2"
    assert server.bodies[0]["id"] == server.bodies[-1]["id"]


def test_a_warehouse_that_is_busy_is_asked_again(demanding, server, tmp_path):
    given = settings(demanding, tmp_path / "home", server.url, DATAOPS_LOCK_WAIT="0")
    definitions = build_definitions(given)
    with instance(tmp_path / "dagster") as made:
        execute(definitions, made)
        holder = _holder(given.warehouse().path)
        try:
            said, cursor = tick(definitions, made)
        finally:
            holder.kill()
            holder.wait()
        assert said.startswith("not told, tried again in 30 s")
        state = json.loads(cursor)
        again = json.dumps(state | {"again": 0.0})
        assert tick(definitions, made, again)[0] == "alerts told: webhook: 2"


def _holder(path):
    """Another process that has the warehouse's file open."""
    code = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(60)"
    made = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    assert made.stdout.readline() == "open\n"
    return made


@pytest.mark.parametrize(("job", "called"), [("pipeline", "pipeline"), ("__ASSET_JOB", "assets")])
def test_runs_that_died_are_told_too(demanding, server, tmp_path, job, called):
    """Such as the daemon finds them: no step says why."""
    given = settings(demanding, tmp_path / "home", server.url)
    definitions = build_definitions(given)
    with instance(tmp_path / "dagster") as made:
        run = made.create_run_for_job(definitions.resolve_job_def(job), tags=RANGE)
        made.report_run_failed(run, "the process is gone")
        sent = alerting.tell(made, given, subjects(given))
    assert sent.alerts == {"webhook": 1}
    (alert,) = server.bodies[0]["alerts"]
    assert (alert["kind"], alert["table"], alert["observed"]) == ("run_failed", called, "the process is gone")


def test_deadlines_that_can_not_be_judged_keep_nobody_from_hearing_of_all_else(shop, server, tmp_path, monkeypatch):
    """Of a defect of the platform's, too; it is raised then."""

    def broken(*_args):
        raise KeyError("a defect")

    monkeypatch.setattr(alerting, "judge_deadlines", broken)
    given = settings(shop, tmp_path / "home", server.url)
    with instance(tmp_path / "dagster") as made:
        run = made.create_run_for_job(build_definitions(given).resolve_job_def("pipeline"), tags=RANGE)
        made.report_run_failed(run, "the process is gone")
        with pytest.raises(KeyError, match="a defect"):
            alerting.tell(made, given, subjects(given))
    assert [alert["kind"] for body in server.bodies for alert in body["alerts"]] == ["run_failed"]


def subjects(given):
    return alerting.subjects(load_contracts(given.contracts), Models(()))


def test_runs_log_json(demanding, server, tmp_path, capfd):
    definitions = build_definitions(
        settings(demanding, tmp_path / "home", server.url, DATAOPS_LOG_FORMAT="json", DATAOPS_ALERTS="log")
    )
    with instance(tmp_path / "dagster") as made:
        result = execute(definitions, made)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    entries = [json.loads(line) for line in lines]
    failed = next(e for e in entries if e.get("event") == "STEP_FAILURE")
    assert (failed["severity"], failed["run_id"], failed["step"]) == (
        "ERROR", result.run_id, "staging__orders__checks",
    )  # fmt: skip
    assert failed["partition"] == "2024-05-01..2024-05-02"
    made_it = next(e for e in entries if e.get("event") == "ASSET_MATERIALIZATION" and e.get("table") == "raw.orders")
    assert made_it["severity"] in ("DEBUG", "INFO")
    assert {e["logging.googleapis.com/labels"].get("run_id") for e in entries if "run_id" in e} == {result.run_id}


@pytest.mark.parametrize("format", ["json", "text"])
def test_sensors_log_json(shop, tmp_path, capfd, format):
    """Each line once, with the sensor's name."""
    definitions = build_definitions(settings(shop, tmp_path / "home", "https://example.com", DATAOPS_LOG_FORMAT=format))
    repository = definitions.get_repository_def()
    with instance(tmp_path / "dagster") as made:
        context = dg.build_sensor_context(
            made, "no cursor", repository_def=repository, repository_name="__repository__", sensor_name="alerts",
            resources={"platform": repository.get_top_level_resources()["platform"]},
        )  # fmt: skip
        with context:
            repository.get_sensor_def("alerts").evaluate_tick(context)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "isn't this sensor's" in line]
    said = "the cursor 'no cursor' isn't this sensor's: beginning anew"
    if format == "text":
        assert line.endswith(f"WARNING - __repository__ - alerts - {said}")
    else:
        found = json.loads(line)
        assert (found["severity"], found["message"], found["instigator"]) == ("WARNING", said, "alerts")


def test_a_deadline_that_passes_without_a_run(shop, server, tmp_path, monkeypatch):
    """The sensor looks when one has passed, and says it once; and again when the data came."""
    path = shop / "contracts/orders.odcs.yaml"
    text = path.read_text().replace("end: 2024-05-31", "end: 2024-05-02")
    path.write_text(text + "slaProperties:\n  - {property: arrival, value: 6, unit: h, element: orders}\n")
    definitions = build_definitions(settings(shop, tmp_path / "home", server.url))
    with instance(tmp_path / "dagster") as made:
        said, cursor = tick(definitions, made)
        assert said == "alerts told: webhook: 1"
        (alert,) = server.bodies[0]["alerts"]
        assert (alert["kind"], alert["status"], alert["table"], alert["rule"]) == (
            "deadline_missed", "open", "staging.orders", "arrival",
        )  # fmt: skip
        assert alert["observed"] == "2 (2024-05-01, 2024-05-02)"
        assert tick(definitions, made, cursor)[0] == "no run has ended since"
        assert json.loads(cursor)["due"] is None  # no later partition is due
        # As if the next one had passed: it is looked at again, and nothing is said twice.
        said, cursor = tick(definitions, made, json.dumps(json.loads(cursor) | {"due": 1.0}))
        assert said == "alerts told: webhook: 0"
        job = definitions.resolve_job_def("pipeline")
        layers = [raw_key("orders"), staging_key("orders")]
        loaded = job.get_subset(asset_selection=frozenset(layers), asset_check_selection=frozenset())
        assert loaded.execute_in_process(instance=made, tags=RANGE).success  # no check of it was run
        assert tick(definitions, made, cursor)[0] == "alerts told: webhook: 1"
        (alert,) = server.bodies[1]["alerts"]
        assert (alert["status"], alert["rule"], alert["observed"]) == ("recovered", "arrival", "0")


def test_deadlines_that_change_and_a_cursor_that_is_none(shop, server, tmp_path):
    """A contract with another deadline is looked at at once, not when the old one would have passed."""
    path = shop / "contracts/orders.odcs.yaml"
    text = path.read_text().replace("end: 2024-05-31", "end: 2024-05-02")
    rule = "slaProperties:\n  - {{property: arrival, value: {}, unit: weeks, element: orders}}\n"
    path.write_text(text + rule.format(500))
    given = settings(shop, tmp_path / "home", server.url)
    with instance(tmp_path / "dagster") as made:
        _, cursor = tick(build_definitions(given), made)
        assert server.bodies == []
        assert json.loads(cursor)["due"] > now().timestamp()
        assert tick(build_definitions(given), made, cursor)[0] == "no run has ended since"
        path.write_text(text + rule.format(1))
        said, cursor = tick(build_definitions(given), made, cursor)
        assert said == "alerts told: webhook: 1"
        path.write_text(text)  # nobody asks any more
        execute(build_definitions(given), made)
        tick(build_definitions(given), made, cursor)
        assert [(a["status"], a["observed"]) for a in server.bodies[-1]["alerts"]] == [("recovered", GONE)]
        assert tick(build_definitions(given), made, "no cursor")[0] == "alerts told: webhook: 0"


def test_a_channel_that_does_not_answer_keeps_no_other_from_a_deadline(shop, server, tmp_path, monkeypatch):
    path = shop / "contracts/orders.odcs.yaml"
    text = path.read_text().replace("end: 2024-05-31", "end: 2024-05-02").replace("mustBeGreaterThan: 0", "mustBe: 9")
    path.write_text(text + "slaProperties:\n  - {property: arrival, value: 6, unit: h, element: orders}\n")
    given = settings(shop, tmp_path / "home", server.url, DATAOPS_ALERTS="log,webhook")
    definitions = build_definitions(given)
    server.answers = [404]
    with instance(tmp_path / "dagster") as made:
        execute(definitions, made)
        said, cursor = tick(definitions, made)
        assert said.startswith("not told, tried again in 30 s: webhook")
        waits = json.loads(cursor)["again"]
        assert tick(definitions, made, cursor)[0] == "waiting to try a channel again"
        # A deadline passes meanwhile, and the data isn't there any more.
        given.warehouse().reset(load_contracts(given.contracts).tables["orders"])
        said, cursor = tick(definitions, made, json.dumps(json.loads(cursor) | {"due": 1.0}))
        assert json.loads(cursor)["again"] == waits
        told = facts.told(given.warehouse(), ["log", "webhook"])
        assert {a.rule for a in told["log"].open.values()} == {None, "arrival", "volume"}
        assert not told["webhook"].open


OWN = """\
from pathlib import Path

import dagster as dg

BAD = Path(__file__).parent / "bad"


@dg.asset(key=["own", "report"], deps=[dg.AssetKey(["staging", "orders"])], check_specs=[
    dg.AssetCheckSpec("complete", asset=dg.AssetKey(["own", "report"]))
])
def report():
    yield dg.MaterializeResult(check_results=[
        dg.AssetCheckResult(check_name="complete", passed=not BAD.exists(), description="3 pages are missing")
    ])


@dg.asset_check(asset=dg.AssetKey(["staging", "orders"]))
def plausible():
    return dg.AssetCheckResult(passed=not BAD.exists(), severity=dg.AssetCheckSeverity.WARN)
"""


def test_checks_of_ones_own(shop, server, tmp_path, monkeypatch):
    """Asset checks in Python, at an asset of one's own and at a table of a contract."""
    module = f"own_{tmp_path.name}"
    (shop / f"{module}.py").write_text(OWN)
    (shop / "bad").touch()
    monkeypatch.syspath_prepend(str(shop))
    ui = "https://dagster.example.com"
    given = settings(shop, tmp_path / "home", server.url, DATAOPS_ASSETS=module, DATAOPS_UI_URL=ui)
    definitions = build_definitions(given)
    with instance(tmp_path / "dagster") as made:
        assert execute(definitions, made).success  # the checks don't block
        said, cursor = tick(definitions, made)
        found = {alert["table"]: alert for alert in server.bodies[0]["alerts"]}
        assert found.keys() == {"own/report", "staging/orders"}
        report, orders = found["own/report"], found["staging/orders"]
        assert (report["kind"], report["severity"], report["rule"]) == ("check_failed", "error", "complete")
        assert report["observed"] == "3 pages are missing"
        assert report["url"] == f"{ui}/assets/own/report?view=checks&checkDetail=complete"
        assert (orders["severity"], orders["rule"], orders["observed"]) == ("warning", "plausible", "failed")

        assert execute(definitions, made).success
        said, cursor = tick(definitions, made, cursor)
        assert said == "alerts told: webhook: 0"  # the same again

        (shop / "bad").unlink()
        assert execute(definitions, made).success
        assert tick(definitions, made, cursor)[0] == "alerts told: webhook: 2"
        assert {alert["status"] for alert in server.bodies[1]["alerts"]} == {"recovered"}


def test_a_day_that_does_not_come_is_a_missed_deadline(shop, server, tmp_path):
    """The schedule runs the day; its load and its other rules find nothing."""
    path = shop / "contracts/orders.odcs.yaml"
    path.write_text(
        path.read_text()
        + "slaProperties:\n  - {property: arrival, value: 6, unit: h, element: orders, description: every day}\n"
    )
    given = settings(shop, tmp_path / "home", server.url)
    with instance(tmp_path / "dagster") as made:
        job = build_definitions(given).resolve_job_def("pipeline")
        assert job.execute_in_process(instance=made, partition_key="2024-05-03", raise_on_error=False).success
        assert alerting.tell(made, given, subjects(given)).alerts == {"webhook": 1}
        (alert,) = server.bodies[0]["alerts"]
        assert (alert["kind"], alert["table"], alert["partition"], alert["severity"]) == (
            "deadline_missed", "staging.orders", "2024-05-31", "warning",
        )  # fmt: skip
        assert alert["observed"] == "31 (…, 2024-05-29, 2024-05-30, 2024-05-31)"
        assert alert["expected"] == "every partition within 6 hours of its end"
        assert job.execute_in_process(instance=made, tags=RANGE, raise_on_error=False).success
        assert alerting.tell(made, given, subjects(given)).alerts == {"webhook": 0}  # two of them came


def test_more_runs_than_one_round_looks_at(shop, tmp_path, monkeypatch):
    """A long backfill ended while nobody looked: the next rounds record all of it, the oldest first."""
    monkeypatch.setattr(alerting, "AT_ONCE", 3)
    made = settings(shop, tmp_path / "home", "https://example.com")

    @dg.job
    def nothing(): ...

    with instance(tmp_path / "dagster") as dagster:
        ids = []
        for _ in range(8):
            run = dagster.create_run_for_job(nothing)
            dagster.report_run_failed(run, "its process is gone")
            ids.append(run.run_id)
        recorded = []
        for _ in range(3):
            warehouse, more = alerting._up_to_date(dagster, made, Subjects({}, {}))
            recorded.append((set(Ledger(warehouse).ended_runs(now() - timedelta(days=1))), more))
    assert recorded == [(set(ids[:3]), True), (set(ids[:6]), True), (set(ids), False)]


def test_the_sensor_goes_on_where_more_runs_ended_than_one_tick_looks_at(shop, server, tmp_path, monkeypatch):
    monkeypatch.setattr(alerting, "AT_ONCE", 3)
    definitions = build_definitions(settings(shop, tmp_path / "home", server.url))
    with instance(tmp_path / "dagster") as made:
        for day in range(1, 6):
            tags = {"dagster/partition": f"2024-05-0{day}"}
            run = made.create_run_for_job(definitions.resolve_job_def("pipeline"), tags=tags)
            made.report_run_failed(run, "its process is gone")
        said, cursor = tick(definitions, made)
        assert said == "alerts told: webhook: 3"
        said, cursor = tick(definitions, made, cursor)
        assert said == "alerts told: webhook: 2"
        assert tick(definitions, made, cursor)[0] == "no run has ended since"
