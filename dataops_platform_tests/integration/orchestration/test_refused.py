"""One partition that is refused: the others go on, the run fails at its end, and Dagster shows which is which."""

import dagster as dg
import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.ingestion.landing import deliver_files
from dataops_platform.lake import Lake
from dataops_platform.orchestration import refused, runs
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform.quality.scorecard import scorecard
from dataops_platform.transformation.models import Models
from dataops_platform.transformation.pending import pending
from dataops_platform.warehouse.loss import loss
from dataops_platform_tests.integration.orchestration.conftest import instance, settings_of
from dataops_platform_tests.integration.orchestration.sales import (
    BROKEN,
    DAYS,
    GOOD,
    HEADER,
    LAYERS,
    SPAN,
    UNREADABLE,
    Shop,
    on_engine,
    statuses,
)  # fmt: skip


@pytest.fixture
def orders(shop, tmp_path):
    settings = settings_of(shop, tmp_path / "home")
    with settings.warehouse().connect():
        yield Shop(shop, settings)


def test_the_others_go_on(orders, tmp_path):
    orders.write(3, UNREADABLE)
    orders.write(5, BROKEN)
    definitions = orders.definitions
    with instance(tmp_path / "dagster") as dagster:
        outcome = orders.run(dagster)
        assert not outcome.success
        (failure,) = outcome.failures
        assert (failure.step, failure.refused, failure.unexpected) == ("deliveries", True, False)
        title, *lines = failure.message.splitlines()
        assert title == "2 delivery(ies) refused; the others went on:"
        assert [line.split(":")[0] for line in lines] == ["orders 2024-05-03", "orders 2024-05-05"]
        assert "order_id" in lines[0]
        assert "more than maxPercent" in lines[1]
        assert orders.staged() == [1, 2, 4, 6]
        assert dagster.get_run_by_id(outcome.run_id).status is dg.DagsterRunStatus.FAILURE
        assert statuses(dagster, raw_key("orders"), definitions) == ([1, 2, 4, 5, 6], [3])
        assert statuses(dagster, staging_key("orders"), definitions) == ([1, 2, 4, 6], [3, 5])
        rows = orders.settings.warehouse().query(
            "SELECT partition_key, manifest IS NULL AS unread, file LIKE '%/2024-05-03.csv#%' AS named, run_id"
            " FROM dataops.refusals ORDER BY 1"
        )
        assert [tuple(row.values()) for row in rows.to_pylist()] == [
            ("2024-05-03", True, True, outcome.run_id),
            ("2024-05-05", False, None, outcome.run_id),
        ]

        # What was said is not said again; what is still refused isn't taken for loaded.
        orders.write(3, GOOD)
        again = orders.run(dagster)
        assert again.success
        assert orders.staged() == [1, 2, 3, 4, 6]
        assert statuses(dagster, staging_key("orders"), definitions)[0] == [1, 2, 3, 4, 6]

        orders.write(5, GOOD)
        assert orders.run(dagster).success
        assert orders.staged() == [1, 2, 3, 4, 5, 6]
        assert statuses(dagster, staging_key("orders"), definitions) == ([1, 2, 3, 4, 5, 6], [])


def test_a_correction_that_is_refused(orders, tmp_path):
    """The day was loaded before: its rows stay, and it shows as failed until a later delivery is loaded."""
    definitions = orders.definitions
    with instance(tmp_path / "dagster") as dagster:
        assert orders.run(dagster).success
        orders.write(2, BROKEN)
        assert not orders.run(dagster).success
        assert orders.staged() == [1, 2, 3, 4, 5, 6]
        assert statuses(dagster, staging_key("orders"), definitions)[1] == [2]
        orders.write(2, GOOD)
        assert orders.run(dagster).success
        assert statuses(dagster, staging_key("orders"), definitions) == ([1, 2, 3, 4, 5, 6], [])


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_was_refused_and_corrected_is_not_loaded_beside_its_correction(orders, tmp_path, by_hand):
    """Where deliveries add up its rows would be there twice once the contract takes it; a file by hand is no other."""
    orders.edit("value: merge", "value: append")
    orders.write(2, GOOD + 2 * BROKEN)
    more = tmp_path / "more.csv"
    more.write_text(HEADER + "20,2024-05-02,DE,1.00\n")
    with instance(tmp_path / "dagster") as dagster:
        assert not orders.run(dagster).success
        if by_hand:
            table = load_contracts(orders.settings.contracts).tables["orders"]
            deliver_files(table, Lake(orders.settings.lake_store()), DAYS[1], [more])
        else:
            orders.write(2, GOOD)
        assert orders.run(dagster).success
        orders.edit("maxPercent: 50", "maxPercent: 90")
        assert orders.run(dagster).success
    assert orders.staged() == ([1, 2, 3, 4, 5, 6, 20] if by_hand else [1, 2, 3, 4, 5, 6])
    tables = load_contracts(orders.settings.contracts).tables
    lake, warehouse = Lake(orders.settings.lake_store()), orders.settings.warehouse()
    assert pending(tables, Models(()), lake, warehouse, orders.project).unloaded == {}
    assert loss(warehouse, lake, tables["orders"]).retried == 0


def test_a_file_of_a_source_fails_one_run(orders, tmp_path):
    """Said once, as a delivery that is refused; the scorecard names it until something is loaded for its day."""

    def shown():
        return [(r["partition_key"], "order_id" in r["reason"]) for r in card().refusals]

    def card():
        tables = load_contracts(orders.settings.contracts).tables
        return scorecard(orders.settings.warehouse(), list(tables.values()), [])

    orders.write(3, UNREADABLE)
    with instance(tmp_path / "dagster") as dagster:
        assert not orders.run(dagster).success
        assert shown() == [("2024-05-03", True)]
        assert orders.run(dagster).success
        assert shown() == [("2024-05-03", True)]
        orders.write(3, UNREADABLE)  # anew, and no better
        assert not orders.run(dagster).success
        assert shown() == [("2024-05-03", True)]
        orders.write(3, GOOD)
        assert orders.run(dagster).success
        assert shown() == []


def test_all_that_is_refused_is_named():
    lines = [f"orders 2024-05-{day:02d}-05:00: unreadable: really" for day in range(1, 24)]
    *first, last = refused._listed(lines).splitlines()
    assert first == lines[:20]
    assert last == "… and 3 more: orders 2024-05-21-05:00, orders 2024-05-22-05:00, orders 2024-05-23-05:00"


@pytest.mark.parametrize(("key", "shown"), [(raw_key("orders"), UNREADABLE), (staging_key("orders"), BROKEN)])
def test_an_asset_by_itself_fails_by_itself(orders, tmp_path, key, shown):
    """Without the check in the run, nothing else would fail it."""
    orders.write(3, shown)
    definitions = orders.definitions
    with instance(tmp_path / "dagster") as dagster:
        if key == staging_key("orders"):
            assert orders.run(dagster, selection={raw_key("orders")}).success
        job = definitions.get_repository_def().get_job("pipeline")
        subset = job.get_subset(asset_selection=frozenset({key}), asset_check_selection=frozenset())
        outcome = runs.execute(subset, dagster, SPAN)
        assert not outcome.success
        (failure,) = outcome.failures
        assert failure.message.startswith("1 delivery(ies) of orders refused:\n2024-05-03: ")
        assert statuses(dagster, key, definitions) == ([1, 2, 4, 5, 6], [3])


def test_one_day_alone(orders, tmp_path):
    orders.write(3, UNREADABLE)
    definitions = orders.definitions
    with instance(tmp_path / "dagster") as dagster:
        outcome = orders.run(dagster, (DAYS[2], DAYS[2]))
        assert [failure.step for failure in outcome.failures] == ["deliveries"]
        for key in (raw_key("orders"), staging_key("orders")):
            assert statuses(dagster, key, definitions) == ([], [3])


def test_a_long_range_says_how_far_it_is(orders, tmp_path):
    for day in range(7, 27):
        path = orders.project / f"data/orders/2024-05-{day:02}.csv"
        path.write_text(f"{HEADER}{day},2024-05-{day:02},DE,20.00\n")
    with instance(tmp_path / "dagster") as dagster:
        outcome = orders.run(dagster, (DAYS[0], "2024-05-26"))
        said = [entry.user_message for entry in dagster.all_logs(outcome.run_id) if entry.dagster_event is None]
    assert [line for line in said if "delivered" in line][:: len(said)] == ["3 of 26 arrivals delivered"]
    assert "26 of 26 arrivals delivered" in said
    assert "26 of 26 deliveries processed" in said


def test_a_table_without_partitions(orders, tmp_path):
    """It has nothing else to go on with, but other tables have: its step doesn't fail."""
    contract = orders.project / "contracts/orders.odcs.yaml"
    lines = [line for line in contract.read_text().splitlines() if "property: partitioning" not in line]
    contract.write_text("\n".join(lines).replace("{partition}.csv", "2024-05-01.csv"))
    orders.write(1, BROKEN)
    with instance(tmp_path / "dagster") as dagster:
        outcome = orders.run(dagster, None)
        assert [failure.step for failure in outcome.failures] == ["deliveries"]
        assert dagster.get_latest_materialization_event(raw_key("orders")) is not None
        assert dagster.get_latest_materialization_event(staging_key("orders")) is None


# -- to production -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sales(request, shop, tmp_path, monkeypatch):
    """The shop with a model by day, its test, and its way to production, on either engine."""
    for name in ("DAGSTER_HOME", "DATAOPS_EVENT_LOG"):
        monkeypatch.setenv(name, "")  # restored afterwards
    with on_engine(request, shop, tmp_path) as settings:
        made = Shop(shop, settings)
        made.add_model()
        yield made


@pytest.mark.parametrize(
    "sales", ["duckdb", pytest.param("bigquery", marks=[pytest.mark.cloud, pytest.mark.long])], indirect=True
)
def test_the_others_are_published(sales, tmp_path):
    """A file that can't be read, a rule that fails for a day, and a test of the model that fails for another."""
    sales.edit("mustBeGreaterThan: 0}", "mustBeLessThan: 2}")
    sales.write(2, UNREADABLE)
    sales.write(4, GOOD + "40,2024-05-04,DE,1.00\n")  # two rows: one more than the rule allows
    sales.write(5, "{0},2024-05-05,DE,1000.00\n")
    definitions = sales.definitions
    with instance(tmp_path / "dagster") as dagster:
        outcome = sales.run(dagster)
        assert not outcome.success
        found = {failure.step: failure.message for failure in outcome.failures}
        assert found.keys() == {"deliveries", "production__daily_sales"}
        assert all(failure.refused for failure in outcome.failures)
        assert "orders 2024-05-02: " in found["deliveries"]
        assert "the gate refused 2 partition(s) of daily_sales" in found["production__daily_sales"]
        assert "2024-05-04: rule volume of staging.orders failed" in found["production__daily_sales"]
        assert "2024-05-05: test daily_sales__few of daily_sales failed" in found["production__daily_sales"]
        assert sales.published() == [1, 3, 6]
        for path in LAYERS:
            assert statuses(dagster, dg.AssetKey(path), definitions) == ([1, 3, 4, 5, 6], [2])
        assert statuses(dagster, dg.AssetKey(["production", "daily_sales"]), definitions) == ([1, 3, 6], [2, 4, 5])

        for day in (2, 5):
            sales.write(day, GOOD)
        sales.edit("mustBeLessThan: 2}", "mustBeLessThan: 3}")
        assert sales.run(dagster).success
        assert sales.published() == [1, 2, 3, 4, 5, 6]
        assert statuses(dagster, dg.AssetKey(["production", "daily_sales"]), definitions) == ([1, 2, 3, 4, 5, 6], [])


@pytest.mark.parametrize("sales", ["duckdb"], indirect=True)
def test_without_its_production_a_rule_still_stops_what_follows(sales, tmp_path):
    sales.edit("mustBeGreaterThan: 0}", "mustBeLessThan: 2}")
    sales.write(4, GOOD + "40,2024-05-04,DE,1.00\n")
    with instance(tmp_path / "dagster") as dagster:
        keys = {dg.AssetKey(path) for path in LAYERS}
        outcome = sales.run(dagster, selection=keys)
        assert [failure.step for failure in outcome.failures] == ["staging__orders__checks"]
        assert dagster.get_materialized_partitions(dg.AssetKey("daily_sales")) == set()


@pytest.mark.parametrize("sales", ["duckdb"], indirect=True)
def test_a_day_alone_says_nothing_of_checks_that_have_no_result(sales, tmp_path, caplog):
    """Dagster warns that what follows isn't kept from going on; but nothing does."""
    sales.write(3, UNREADABLE)
    with instance(tmp_path / "dagster") as dagster:
        outcome = sales.run(dagster, (DAYS[2], DAYS[2]))
        assert [failure.step for failure in outcome.failures] == ["deliveries"]
        assert dagster.get_materialized_partitions(dg.AssetKey(["production", "daily_sales"])) == set()
    assert "without gating" not in caplog.text
