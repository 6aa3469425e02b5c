"""A later delivery for an old day: that day is loaded, judged, built and published anew, no other; on either engine.

What the earlier verdicts said counts no longer, for the gate and for the scorecard.
"""

import shutil
from contextlib import contextmanager
from decimal import Decimal

import dagster as dg
import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.lake import Lake
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import read_project
from dataops_platform.orchestration.planning import plan
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform.quality.scorecard import scorecard
from dataops_platform.transformation.pending import pending
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform_tests.integration.orchestration.conftest import instance, settings_of, write_shop
from dataops_platform_tests.integration.orchestration.sales import DAYS, GOOD, LAYERS, Shop, on_engine, statuses

LATE = DAYS[1]
PRODUCTION = dg.AssetKey(["production", "daily_sales"])
ALL_LAYERS = [*map(dg.AssetKey, LAYERS), PRODUCTION]
CORRECTED = "{0},2024-05-0{0},DE,30.00\n"
TWO_ROWS = GOOD + "{0}0,2024-05-0{0},DE,1.00\n"
"""One more than the rule `volume` allows."""
DEAR = "{0},2024-05-0{0},DE,1000.00\n"
"""More than the model's test allows."""


BIGQUERY = pytest.param("bigquery", marks=[pytest.mark.cloud, pytest.mark.long])
on_both = pytest.mark.parametrize("sales", ["duckdb", BIGQUERY], indirect=True)


def new_shop(project, settings, mode):
    """A shop with a model, whose days may have one row each."""
    made = Shop(project, settings)
    made.add_model()
    made.edit("value: merge", f"value: {mode}")
    made.edit("mustBeGreaterThan: 0}", "mustBeLessThan: 2}")
    return made


@contextmanager
def any_shop(request, folder, mode="merge"):
    project = write_shop(folder / "shop")
    with on_engine(request, project, folder) as settings:
        yield new_shop(project, settings, mode)


class Kept:
    """A shop after its first run, put back for each test: where it was, dbt finds what it has parsed."""

    def __init__(self, folder):
        self._place, self._copy = folder / "now", folder / "kept"
        project = write_shop(self._place / "shop")
        self._shop = new_shop(project, settings_of(project, self._place / "home"), "merge")
        first_run(self._shop)
        shutil.copytree(self._place, self._copy)

    def put_back(self):
        shutil.rmtree(self._place)
        shutil.copytree(self._copy, self._place)
        return self._shop


def dagster_of(sales):
    return instance(sales.project.parent / "dagster")


def first_run(sales):
    with dagster_of(sales) as dagster:
        assert sales.run(dagster).success


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp("late"))


@pytest.fixture(autouse=True)
def _instance_of_its_own(monkeypatch):
    for name in ("DAGSTER_HOME", "DATAOPS_EVENT_LOG"):
        monkeypatch.setenv(name, "")  # restored afterwards


@pytest.fixture
def new_sales(request, tmp_path):
    """Nothing of it has run."""
    with any_shop(request, tmp_path, "replace") as made:
        yield made


@pytest.fixture
def mode():
    return "merge"


@pytest.fixture
def sales(request, mode, tmp_path):
    """Its six days are published; and see `dagster`."""
    if (request.param, mode) == ("duckdb", "merge"):
        made = request.getfixturevalue("kept").put_back()
        with made.settings.warehouse().connect():
            yield made
        return
    with any_shop(request, tmp_path, mode) as made:
        first_run(made)
        yield made


@pytest.fixture
def dagster(sales):
    """The instance of the run that has published them."""
    with dagster_of(sales) as made:
        yield made


def state(sales):
    """Day → all that the ledger has of it: loads, rows staged, verdicts, builds and publications."""
    by_day = {
        "loads": "SELECT partition_key, CAST(load_id AS STRING) FROM dataops.loads",
        "staged": "SELECT CAST(order_date AS STRING), order_id, CAST(amount AS INT64), _load_id FROM staging.orders",
        "verdicts": "SELECT partition_key, object_name, rule_id, evaluated_at FROM dataops.verdicts",
        "builds": "SELECT partition_key, data_version, built_at FROM dataops.builds",
        "publications": "SELECT partition_key, data_version, published_at FROM dataops.publications",
        "production": "SELECT CAST(order_date AS STRING), orders, revenue FROM production.daily_sales",
    }
    found = {day: {name: set() for name in by_day} for day in DAYS}
    for name, sql in by_day.items():
        for day, *values in sales.query(sql):
            found[day][name].add(tuple(map(str, values)))
    return found


def left(sales):
    """What a run over everything would do."""
    contracts = load_contracts(sales.settings.contracts)
    _, models = read_project(sales.settings, contracts)
    lake = Lake(sales.settings.lake_store())
    return pending(contracts.sourced, models, lake, sales.settings.warehouse(), sales.project)


def revenue(sales):
    return dict(sales.query("SELECT CAST(order_date AS STRING), revenue FROM production.daily_sales"))


def failed_rules(sales):
    card = scorecard(
        sales.settings.warehouse(), [load_contracts(sales.settings.contracts).tables["orders"]], ["daily_sales"]
    )
    return {(rule.object_name, rule.rule_id, rule.example.split(":")[0]) for rule in card.failed_rules}


def newest(sales, name, rule):
    """The verdict that counts for the late day."""
    found = Ledger(sales.settings.warehouse()).latest_verdicts([name])[name][LATE]
    return next(verdict for verdict in found if verdict.rule_id == rule)


@pytest.mark.parametrize(
    ("sales", "mode"),
    [
        ("duckdb", "merge"),
        pytest.param("duckdb", "replace", marks=pytest.mark.long),
        pytest.param("bigquery", "replace", marks=[pytest.mark.cloud, pytest.mark.long]),
        pytest.param("bigquery", "merge", marks=[pytest.mark.cloud, pytest.mark.long]),
    ],
    indirect=["sales"],
)
def test_only_that_day_is_made_anew(sales, dagster):
    before = state(sales)
    assert not left(sales).any
    sales.write(2, CORRECTED)
    todo = left(sales)
    assert todo.undelivered == {"orders": [LATE]}
    assert todo.partitions() == {"orders": {LATE}}

    # Loaded, and nothing else yet: exactly what was made of the earlier rows is out of date.
    assert sales.run(dagster, (LATE, LATE), {raw_key("orders"), staging_key("orders")}).success
    todo = left(sales)
    assert (todo.unloaded, todo.unbuilt) == ({}, {"daily_sales": [LATE]})
    assert revenue(sales) == dict.fromkeys(DAYS, Decimal("20.00"))

    # Over all days, as a backfill would: only the late one has anything to publish.
    assert sales.run(dagster).success
    assert revenue(sales) == dict.fromkeys(DAYS, Decimal("20.00")) | {LATE: Decimal("30.00")}
    assert not left(sales).any
    after = state(sales)
    for name in ("loads", "staged", "publications", "production"):
        changed = {day for day in DAYS if after[day][name] != before[day][name]}
        assert changed == {LATE}, name
    assert len(after[LATE]["loads"]) == len(after[LATE]["publications"]) == 2
    assert [row[:2] for row in after[LATE]["staged"]] == [("2", "30")]
    versions = {day: {version for version, _ in after[day]["builds"]} for day in DAYS}
    assert {day for day in DAYS if len(versions[day]) > 1} == {LATE}

    # Once more: nothing is new.
    assert sales.run(dagster, (LATE, LATE)).success
    assert {day: found["publications"] for day, found in state(sales).items()} == {
        day: found["publications"] for day, found in after.items()
    }


@on_both
def test_a_run_for_the_day_touches_no_other(sales, dagster):
    """Not even verdicts and builds of the other days are made again; Dagster has one more event for that day alone."""
    before = state(sales)
    sales.write(2, CORRECTED)
    outcome = sales.run(dagster, (LATE, LATE))
    assert outcome.success
    after = state(sales)
    assert {day for day in DAYS if after[day] != before[day]} == {LATE}
    assert all(len(after[LATE][name]) > len(before[LATE][name]) for name in ("verdicts", "builds", "publications"))
    made = dagster.all_logs(outcome.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = {(entry.dagster_event.asset_key, entry.dagster_event.partition) for entry in made}
    assert found == {(key, LATE) for key in ALL_LAYERS}


@pytest.mark.parametrize("sales", ["duckdb"], indirect=True)
def test_a_day_that_a_row_has_left_is_made_anew_where_there_are_only_schedules(request, sales, dagster):
    """Else the row is in production twice."""
    sales.edit("mustBeLessThan: 2}", "mustBeLessThan: 3}")
    request.addfinalizer(sales.reread)
    sales.write(2, GOOD + "1,2024-05-02,DE,5.00\n")
    assert sales.run(dagster, (LATE, LATE)).success
    repository = sales.definitions.get_repository_def()

    def tick(cursor):
        context = dg.build_sensor_context(dagster, cursor=cursor, repository_def=repository)
        return repository.get_sensor_def("rows_left").evaluate_tick(context)

    found = tick(None)
    (asked,) = found.run_requests
    assert (asked.partition_key, asked.job_name) == (DAYS[0], "pipeline")
    assert sales.run(dagster, (DAYS[0], DAYS[0]), set(asked.asset_selection)).success
    assert (DAYS[0] in revenue(sales), revenue(sales)[LATE]) == (False, Decimal("25.00"))
    assert tick(found.cursor).run_requests == []


@on_both
def test_two_late_days_are_two_runs(sales, dagster):
    """What is new is planned, as `dataops run` does: the days between are not made again."""
    before = state(sales)
    sales.write(2, CORRECTED)
    sales.write(5, CORRECTED)
    todo = left(sales)
    planned = plan(sales.definitions, None, None, todo.partitions(), todo.loaded)
    assert [run.span for run in planned.runs] == [(DAYS[1], DAYS[1]), (DAYS[4], DAYS[4])]
    for run in planned.runs:
        assert runs.execute(run.job, dagster, run.span, run.assets).success
    assert not left(sales).any
    after = state(sales)
    assert {day for day in DAYS if after[day] != before[day]} == {DAYS[1], DAYS[4]}


@pytest.mark.parametrize("new_sales", ["duckdb", BIGQUERY], indirect=True)
def test_a_day_that_failed_is_published_once_it_is_corrected(new_sales):
    sales = new_sales
    with dagster_of(sales) as dagster:
        sales.write(2, TWO_ROWS)
        sales.write(4, DEAR)
        assert not sales.run(dagster).success
        assert sales.published() == [1, 3, 5, 6]
        assert failed_rules(sales) == {
            ("staging.orders", "volume", LATE), ("daily_sales", "daily_sales__few", DAYS[3]),
        }  # fmt: skip
        bad = newest(sales, "staging.orders", "volume")
        assert (bad.passed, bad.observed) == (False, 2.0)
        sales.write(2, GOOD)
        sales.write(4, GOOD)
        assert sales.run(dagster, (LATE, LATE)).success
        assert sales.published() == [1, 2, 3, 5, 6]
        assert failed_rules(sales) == {("daily_sales", "daily_sales__few", DAYS[3])}
        good = newest(sales, "staging.orders", "volume")
        assert (good.passed, good.observed) == (True, 1.0)
        assert good.data_version != bad.data_version
        assert sales.run(dagster, (DAYS[3], DAYS[3])).success
        assert sales.published() == [1, 2, 3, 4, 5, 6]
        assert failed_rules(sales) == set()
        assert statuses(dagster, PRODUCTION, sales.definitions) == ([1, 2, 3, 4, 5, 6], [])


@on_both
@pytest.mark.parametrize(
    ("worse", "object_name", "rule"),
    [(TWO_ROWS, "staging.orders", "volume"), (DEAR, "daily_sales", "daily_sales__few")],
    ids=["rule", "test"],
)
def test_a_correction_for_the_worse_leaves_production_as_it_was(sales, dagster, worse, object_name, rule):
    before = state(sales)
    assert newest(sales, object_name, rule).passed
    sales.write(2, worse)
    outcome = sales.run(dagster)
    assert [failure.step for failure in outcome.failures] == ["production__daily_sales"]
    assert "refused 1 partition(s)" in outcome.failures[0].message
    assert f"{LATE}: " in outcome.failures[0].message
    assert not newest(sales, object_name, rule).passed
    assert failed_rules(sales) == {(object_name, rule, LATE)}
    after = state(sales)
    for name in ("production", "publications"):
        assert {day: found[name] for day, found in after.items()} == {day: found[name] for day, found in before.items()}
    assert statuses(dagster, PRODUCTION, sales.definitions)[1] == [2]  # it shows as failed, though its rows stay

    # By itself, without a run that judges, production says no as well.
    alone = sales.run(dagster, (LATE, LATE), {PRODUCTION})
    assert [failure.refused for failure in alone.failures] == [True]
    (said,) = sales.settings.warehouse().query("SELECT * FROM dataops.refusals").to_pylist()  # once
    assert (said["table_name"], said["partition_key"]) == ("production.daily_sales", LATE)
    assert (said["run_id"], said["manifest"], said["file"]) == (outcome.run_id, None, None)
    assert rule in said["reason"]
    assert revenue(sales)[LATE] == Decimal("20.00")
