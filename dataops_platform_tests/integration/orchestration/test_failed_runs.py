"""Failed runs of Dagster's: what the ledger records of them, and what channels are told."""

from __future__ import annotations

import json
from dataclasses import replace

import dagster as dg
import pytest

from dataops_platform.alerts import facts
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration import alerting, model_assets, runs
from dataops_platform.orchestration.build import read_project
from dataops_platform.settings import Settings
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.integration.orchestration.sales import BROKEN, DAYS, GOOD, SPAN, UNREADABLE, Shop
from dataops_platform_tests.receiver import receiving


@pytest.fixture
def orders(shop, tmp_path):
    with receiving() as server:
        env = {"DATAOPS_PROJECT": str(shop), "DATAOPS_HOME": str(tmp_path / "home")}
        env |= {"DATAOPS_ALERTS": "webhook", "DATAOPS_ALERTS_WEBHOOK": f"{server.url}/hooks/0123456789abcdef"}
        made = Shop(shop, Settings.load(env))
        made.server = server
        with made.settings.warehouse().connect():
            yield made


@pytest.fixture
def dagster(tmp_path):
    with instance(tmp_path / "dagster") as made:
        yield made


def told(orders, dagster):
    """Of failed runs what a look tells: which, whether it is well again, and the owner."""
    before = len(orders.server.bodies)
    contracts = load_contracts(orders.settings.contracts)
    _, models = read_project(orders.settings, contracts)
    known = [*orders.definitions.assets, *orders.definitions.asset_checks]
    sent = alerting.tell(dagster, orders.settings, alerting.subjects(contracts, models, known))
    assert not sent.failed
    alerts = [alert for body in orders.server.bodies[before:] for alert in body["alerts"]]
    return [(a["table"], a["partition"], a["status"], a["owner"]) for a in alerts if a["kind"] == "run_failed"]


def left(orders):
    """What is left of the failed runs that the channel knows."""
    known = facts.told(orders.settings.warehouse(), ["webhook"])["webhook"].open.values()
    return [json.loads(alert.details)["left"] for alert in known if alert.details]


def add_returns(orders):
    """Another table, by month."""
    contract = (orders.project / "contracts/orders.odcs.yaml").read_text()
    text = contract.replace("name: orders", "name: returns").replace("data/orders/", "data/returns/")
    text = text.replace("contract:orders", "contract:returns").replace("raw_orders", "raw_returns")
    text = text.replace("granularity: day", "granularity: month")
    (orders.project / "contracts/returns.odcs.yaml").write_text(text)
    folder = orders.project / "data/returns"
    folder.mkdir()
    (folder / "2024-05-01.csv").write_text((orders.project / "data/orders/2024-05-01.csv").read_text())


WHOLE = ("pipeline", "2024-05-01..2024-05-06")


def test_another_tables_run_mends_nothing(orders, dagster):
    add_returns(orders)
    orders.write(1, UNREADABLE)
    assert not orders.run(dagster, SPAN).success
    monthly = orders.definitions.get_repository_def().get_job("pipeline_2")
    assert runs.execute(monthly, dagster, ("2024-05-01", "2024-05-01")).success
    assert told(orders, dagster) == [(*WHOLE, "open", "shop")]
    assert left(orders) == [{"deliveries/orders": ["2024-05-01"]}]
    orders.write(1, GOOD)
    assert orders.run(dagster, (DAYS[0], DAYS[0])).success
    assert told(orders, dagster) == [(*WHOLE, "recovered", "shop")]


def test_a_range_is_mended_by_narrower_runs(orders, dagster):
    orders.write(2, UNREADABLE)
    orders.write(5, BROKEN)
    assert not orders.run(dagster).success
    assert [item[:3] for item in told(orders, dagster)] == [(*WHOLE, "open")]
    orders.write(2, UNREADABLE)
    orders.write(5, GOOD)
    assert not orders.run(dagster, (DAYS[1], DAYS[1])).success  # for the same reason, of which a channel knows
    assert orders.run(dagster, (DAYS[4], DAYS[4])).success
    assert told(orders, dagster) == []
    assert left(orders) == [{"deliveries/orders": ["2024-05-02"]}]
    orders.write(2, GOOD)
    orders.write(3, UNREADABLE)
    assert not orders.run(dagster, (DAYS[1], DAYS[3])).success  # for another day: that is told
    assert [item[1:3] for item in told(orders, dagster)] == [
        ("2024-05-02..2024-05-04", "open"), ("2024-05-01..2024-05-06", "recovered"),
    ]  # fmt: skip


def test_models(orders, dagster):
    """What dbt can't build, and what the gate refuses."""
    orders.add_model()
    model = orders.project / "dbt_project/models/marts/daily_sales.sql"
    text = model.read_text()
    model.write_text(text.replace("sum(amount)", "sum(nothing)"))
    assert not orders.run(dagster).success
    assert [item[:3] for item in told(orders, dagster)] == [(*WHOLE, "open")]
    assert left(orders) == [{"dbt_build/daily_sales": ["2024-05-01..2024-05-06"]}]
    model.write_text(text)
    orders._definitions = None
    orders.write(5, "{0},2024-05-05,DE,1000.00\n")
    assert not orders.run(dagster).success  # the model is built; its test fails for a day
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "open")]
    assert left(orders) == [{"dbt_build/daily_sales": ["2024-05-05"], "production__daily_sales": ["2024-05-05"]}]
    orders.write(5, GOOD)
    assert orders.run(dagster, (DAYS[4], DAYS[4])).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "recovered")]


def test_a_blocking_rule_fails_for_the_days_that_it_fails_for(orders, dagster):
    """Nothing else is to be run again."""
    orders.edit("mustBeGreaterThan: 0}", "mustBeLessThan: 2}")
    orders.edit("value: merge", "value: replace")
    orders.write(5, GOOD + "50,2024-05-05,DE,1.00\n")
    assert not orders.run(dagster).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "open")]
    assert left(orders) == [{"staging__orders__checks": ["2024-05-05"]}]
    orders.write(5, GOOD)
    assert orders.run(dagster, (DAYS[4], DAYS[4])).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "recovered")]


def test_a_test_of_a_model_that_is_not_published_fails_for_some_days(orders, dagster):
    orders.add_model()
    path = orders.project / "dbt_project/models/marts/daily_sales.yml"
    path.write_text(path.read_text().replace("publish: true, ", ""))
    orders.write(5, "{0},2024-05-05,DE,1000.00\n")
    assert not orders.run(dagster).success
    told(orders, dagster)
    assert left(orders) == [{"dbt_build/daily_sales": ["2024-05-05"]}]
    orders.write(5, GOOD)
    assert orders.run(dagster, (DAYS[4], DAYS[4])).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "recovered")]


TOO_MUCH, TOO_MANY = "{0},2024-05-0{0},DE,1000.00\n", GOOD + "{0}0,2024-05-0{0},DE,1.00\n"
"""What a test of the model refuses, and what a rule that the next test writes does."""


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        pytest.param(TOO_MUCH, "dbt_build/daily_sales", id="test"),
        pytest.param(TOO_MANY, "staging__orders__checks", id="rule", marks=pytest.mark.long),
    ],
)
def test_a_day_that_fails_is_told_once_whichever_days_a_run_is_about(orders, dagster, bad, part):
    """Of a range a check that fails for some days leaves them to the gate; of that day alone it fails its step."""
    orders.add_model()
    orders.edit("mustBeGreaterThan: 0}", "mustBeLessThan: 2}")
    orders.edit("value: merge", "value: replace")
    orders.write(5, bad)
    alone, both = (DAYS[4], DAYS[4]), (DAYS[4], DAYS[5])
    assert not orders.run(dagster, alone).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-05", "open")]
    for span in (both, alone, SPAN):
        assert not orders.run(dagster, span).success
        assert told(orders, dagster) == []
        assert left(orders) == [{part: ["2024-05-05"]}]
    orders.write(5, GOOD)
    assert orders.run(dagster, both).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-05", "recovered")]
    orders.write(5, bad)  # and the other way round: the gate is what is told
    assert not orders.run(dagster, both).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-05..2024-05-06", "open")]
    assert not orders.run(dagster, alone).success
    assert told(orders, dagster) == []
    orders.write(5, GOOD)
    assert orders.run(dagster, alone).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-05..2024-05-06", "recovered")]


OWN = """\
from pathlib import Path

import dagster as dg

BAD = Path(__file__).parent / "bad"


@dg.asset(key=["insights", "top"], deps=[dg.AssetKey(["staging", "orders"])])
def top():
    if BAD.exists():
        raise dg.Failure("no pages")


@dg.asset_check(asset=dg.AssetKey(["staging", "orders"]))
def plausible():
    return dg.AssetCheckResult(passed=not BAD.exists(), severity=dg.AssetCheckSeverity.WARN)
"""


def test_assets_and_checks_of_ones_own_that_are_not_cut(orders, dagster, tmp_path, monkeypatch):
    """They run with each day, and judge the whole: what fails on three days is told once."""
    module = f"own_{tmp_path.name}"
    (orders.project / f"{module}.py").write_text(OWN)
    (orders.project / "bad").touch()
    monkeypatch.syspath_prepend(str(orders.project))
    orders.settings = replace(orders.settings, assets=module)
    for day in DAYS[:3]:
        assert not orders.run(dagster, (day, day)).success
    first = told(orders, dagster)
    assert [item[:3] for item in first] == [("pipeline", "2024-05-01", "open")]
    assert left(orders) == [{"insights__top": ["all"]}]
    assert not orders.run(dagster, (DAYS[3], DAYS[3])).success
    before = len(orders.server.bodies)
    assert told(orders, dagster) == []
    (orders.project / "bad").unlink()
    assert orders.run(dagster, (DAYS[4], DAYS[4])).success
    assert [item[:3] for item in told(orders, dagster)] == [("pipeline", "2024-05-01", "recovered")]
    assert [(a["rule"], a["status"]) for body in orders.server.bodies[before:] for a in body["alerts"]] == [
        (None, "recovered"), ("plausible", "recovered"),
    ]  # fmt: skip


def test_a_build_that_could_not_begin_is_not_mended_by_another_model(orders, dagster, monkeypatch):
    orders.add_model()
    model = orders.project / "dbt_project/models/marts/as_a_whole.sql"

    model.write_text("select count(*) as orders from {{ source('staging', 'orders') }}")
    columns = "models: [{name: as_a_whole, columns: [{name: orders, data_type: int64}]}]"
    model.with_suffix(".yml").write_text(columns)

    def broken(*_args, **_more):
        raise ConfigError("dbt has no profile")

    with monkeypatch.context() as patch:
        patch.setattr(model_assets, "build", broken)
        assert not orders.run(dagster).success
    told(orders, dagster)
    assert left(orders) == [
        {"dbt_build/as_a_whole": ["all"], "dbt_build/daily_sales": ["2024-05-01..2024-05-06"]}
    ]  # fmt: skip
    assert orders.run(dagster, None, {dg.AssetKey("as_a_whole")}).success
    assert told(orders, dagster) == []
    assert left(orders) == [{"dbt_build/daily_sales": ["2024-05-01..2024-05-06"]}]
    assert orders.run(dagster, SPAN).success
    assert [item[2] for item in told(orders, dagster)] == ["recovered"]


def test_a_run_that_died_is_mended_by_the_steps_that_it_did_not_come_to(orders, dagster):
    job = orders.definitions.get_repository_def().get_job("pipeline")
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[5]}
    run = dagster.create_run_for_job(job, tags=tags)
    dagster.report_run_failed(run, "the process is gone")
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "open")]
    steps = {"raw__orders", "staging__orders", "staging__orders__checks", "deliveries"}
    assert left(orders) == [{step: ["2024-05-01..2024-05-06"] for step in steps}]
    assert orders.run(dagster, (DAYS[0], DAYS[2])).success
    assert orders.run(dagster, (DAYS[3], DAYS[4]), {dg.AssetKey(["raw", "orders"])}).success
    assert told(orders, dagster) == []
    assert left(orders) == [
        {step: ["2024-05-04..2024-05-06"] for step in steps} | {"raw__orders": ["2024-05-06"]}
    ]  # fmt: skip
    assert orders.run(dagster, (DAYS[3], DAYS[5])).success
    assert [item[1:3] for item in told(orders, dagster)] == [("2024-05-01..2024-05-06", "recovered")]
