"""What Dagster is given: assets, checks, jobs, schedules, and what becomes of a run over a range."""

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._serdes import deserialize_value

from dataops_platform import assets
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Severity
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import build_definitions, read_project
from dataops_platform.orchestration.report_asset import REPORT_KEY
from dataops_platform_tests.conftest import REPO
from dataops_platform_tests.integration.orchestration.conftest import BATCHING, STOCK, instance, settings_of

DAYS = ("2024-05-01", "2024-05-02")
MODELS = (
    "dim_aircraft",
    "dim_airports",
    "dim_carriers",
    "fct_flights",
    "mart_cancellations_by_weather",
    "mart_daily_delays",
)
TABLES = ("airlines", "airports", "flights", "planes", "weather")


@pytest.fixture
def settings(settings):
    with settings.warehouse().connect():  # a run opens the file many times
        yield settings


@pytest.fixture(scope="module")
def demo_settings(tmp_path_factory):
    return settings_of(REPO, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def demo(demo_settings):
    return build_definitions(demo_settings, assets).get_repository_def()


@pytest.fixture(scope="module")
def contracts():
    return load_contracts(REPO / "contracts")


# -- the demo's definitions --------------------------------------------------------------------------------------------


def test_assets(demo):
    keys = {key.to_user_string() for key in demo.asset_graph.get_all_asset_keys()}
    expected = {f"{layer}/{name}" for layer in ("raw", "staging") for name in TABLES}
    expected |= {f"stg_{name}" for name in TABLES} | set(MODELS)
    expected |= {f"{layer}/{name}" for layer in ("transformed", "production") for name in MODELS}
    assert keys == expected | {"insights/carrier_punctuality", "quality/report"}


def test_partitioned_assets_share_the_days_of_their_contract(demo):
    days = demo.asset_graph.get(dg.AssetKey(["raw", "flights"])).partitions_def
    assert (days.get_first_partition_key(), days.get_last_partition_key()) == ("2013-01-01", "2013-12-31")
    cut = {k.to_user_string() for k in demo.asset_graph.get_all_asset_keys() if demo.asset_graph.get(k).partitions_def}
    daily = ("fct_flights", "mart_cancellations_by_weather", "mart_daily_delays")
    expected = {f"{layer}/{name}" for layer in ("raw", "staging") for name in ("flights", "weather")}
    expected |= {"stg_flights", "stg_weather", *daily}
    expected |= {f"{layer}/{name}" for layer in ("transformed", "production") for name in daily}
    assert cut == expected
    assert all(demo.asset_graph.get(dg.AssetKey.from_user_string(name)).partitions_def == days for name in cut)


def test_each_rule_is_a_check(demo, contracts):
    for table in contracts.tables.values():
        if table.source is None:
            continue
        for rule in table.rules:
            spec = demo.asset_graph.get_check_spec(dg.AssetCheckKey(dg.AssetKey(["staging", table.name]), rule.id))
            assert spec.blocking is (rule.severity is Severity.ERROR), rule.id
            assert spec.metadata["dimension"] == str(rule.dimension)
            assert spec.metadata["severity"] == str(rule.severity)
            assert spec.metadata["declared at"] == f"{table.file.name}:{rule.line}"
            assert spec.description


def test_each_dbt_test_is_a_check(demo, demo_settings, contracts):
    _, models = read_project(demo_settings, contracts)
    tests = models.tests().values()
    found = {key.name: demo.asset_graph.get_check_spec(key) for key in demo.asset_graph.asset_check_keys}
    for test in tests:
        assert found[test.name].blocking is (test.severity is Severity.ERROR), test.name
        assert found[test.name].metadata["dimension"] == str(test.dimension)
    sourced = [table for table in contracts.tables.values() if table.source]
    rules = sum(len(table.rules) for table in sourced)
    assert len(demo.asset_graph.asset_check_keys) == rules + len(tests) + len(sourced)  # `deliveries_loaded` of each
    by_table = Counter(key.asset_key.to_user_string() for key in demo.asset_graph.asset_check_keys)
    assert by_table["staging/flights"] == len(contracts.tables["flights"].rules) + 1


def test_one_job_and_its_schedule(demo):
    named = [job.name for job in demo.get_all_jobs() if not job.name.startswith("__")]
    assert named == ["pipeline", "replay_quarantine"]
    (schedule,) = demo.schedule_defs
    assert (schedule.name, schedule.cron_schedule, schedule.execution_timezone) == (
        "pipeline_daily", "0 7 * * *", "America/New_York",
    )  # fmt: skip
    run = set(demo.get_job("pipeline").asset_layer.executable_asset_keys)
    assert demo.asset_graph.executable_asset_keys - run == {REPORT_KEY}  # made when somebody asks for it


@pytest.mark.parametrize(
    ("moment", "partition"),
    [("2013-03-02T07:00", "2013-03-01"), ("2013-03-11T07:00", "2013-03-10"), ("2014-01-01T07:00", "2013-12-31")],
    ids=["a day", "the day the clocks change", "the last day"],
)
def test_the_schedule_runs_the_day_that_is_over(demo, moment, partition):
    at = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo("America/New_York"))
    with dg.DagsterInstance.ephemeral() as made:
        context = dg.build_schedule_context(made, scheduled_execution_time=at, repository_def=demo)
        requests = demo.schedule_defs[0].evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == [partition]


def test_tables_that_are_cut_differently_have_jobs_of_their_own(shop, tmp_path):
    contract = shop / "contracts/orders.odcs.yaml"
    text = contract.read_text().replace("orders", "refunds").replace("start: 2024-05-01", "start: 2024-04-01")
    (shop / "contracts/refunds.odcs.yaml").write_text(text)
    repository = build_definitions(settings_of(shop, tmp_path / "home")).get_repository_def()
    jobs = {job.name: job for job in repository.get_all_jobs() if job.name.startswith("pipeline")}
    assets_of = {name: {k.path[-1] for k in job.asset_layer.executable_asset_keys} for name, job in jobs.items()}
    assert sorted(map(sorted, assets_of.values())) == [["orders"], ["refunds"]]
    assert sorted(s.name for s in repository.schedule_defs) == ["pipeline_2_daily", "pipeline_daily"]


def test_the_demos_own_assets_are_left_out_of_other_projects(settings):
    repository = build_definitions(settings, assets).get_repository_def()
    keys = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert keys == {"raw/orders", "staging/orders", "quality/report"}


# -- runs --------------------------------------------------------------------------------------------------------------


def run(definitions, on, span=DAYS):
    outcome = runs.execute(definitions.get_repository_def().get_job("pipeline"), on, span)
    assert outcome.success, outcome.failures
    return outcome.run_id


def test_a_range_is_materialised_in_one_run(definitions, tmp_path):
    with instance(tmp_path / "dagster") as made:
        run_id = run(definitions, made)
        for layer in ("raw", "staging"):
            key = dg.AssetKey([layer, "orders"])
            assert made.get_materialized_partitions(key) == set(DAYS)
            records = made.fetch_materializations(key, limit=10).records
            assert {(r.partition_key, r.run_id) for r in records} == {(day, run_id) for day in DAYS}


def test_a_single_check_decides_a_single_rule(definitions, settings, tmp_path):
    key = dg.AssetCheckKey(dg.AssetKey(["staging", "orders"]), "volume")
    tags = {ASSET_PARTITION_RANGE_START_TAG: DAYS[0], ASSET_PARTITION_RANGE_END_TAG: DAYS[1]}
    with instance(tmp_path / "dagster") as made:
        run(definitions, made)
        job = definitions.get_repository_def().get_job("pipeline")
        subset = job.get_subset(asset_selection=frozenset(), asset_check_selection=frozenset({key}))
        result = subset.execute_in_process(instance=made, tags=tags)
    assert [e.check_name for e in result.get_asset_check_evaluations()] == ["volume"]
    rows = settings.warehouse().query(
        f"SELECT rule_id, partition_key FROM dataops.verdicts WHERE run_id = '{result.run_id}' ORDER BY 2"
    )
    assert rows.to_pylist() == [{"rule_id": "volume", "partition_key": day} for day in DAYS]


def test_a_check_of_nothing_fails(definitions, tmp_path):
    """A day without data has nothing that could have passed."""
    key = dg.AssetCheckKey(dg.AssetKey(["staging", "orders"]), "volume")
    with instance(tmp_path / "dagster") as made:
        job = definitions.get_repository_def().get_job("pipeline")
        subset = job.get_subset(asset_selection=frozenset(), asset_check_selection=frozenset({key}))
        result = subset.execute_in_process(instance=made, partition_key="2024-05-20", raise_on_error=False)
        (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "nothing was loaded" in evaluation.description


def test_warnings_do_not_block_and_errors_do(shop, settings, tmp_path):
    contract = shop / "contracts/orders.odcs.yaml"
    text = contract.read_text()
    for severity, succeeds in (("warning", True), ("error", False)):
        contract.write_text(text.replace("mustBeGreaterThan: 0}", f"mustBeGreaterThan: 2, severity: {severity}}}"))
        made_settings = settings_of(shop, tmp_path / severity)
        with instance(tmp_path / severity / "dagster") as made:
            job = build_definitions(made_settings).get_repository_def().get_job("pipeline")
            outcome = runs.execute(job, made, DAYS)
        assert outcome.success is succeeds
        assert all(failure.refused for failure in outcome.failures)


# -- the event log -----------------------------------------------------------------------------------------------------


def events_of(made):
    """Everything about assets that Dagster reads from the log, without what differs between any two runs."""
    result = {}
    kinds = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    for name in ("raw", "staging"):
        key = dg.AssetKey([name, "orders"])
        storage = made.event_log_storage
        for kind in kinds:
            ids = storage.get_latest_storage_id_by_partition(key, kind)
            log = storage.get_event_records(dg.EventRecordsFilter(kind, asset_key=key), ascending=True)
            ordered = [record.storage_id for record in log]
            result[name, kind] = [record.partition_key for record in log]
            result[name, kind, "latest"] = {day: ordered.index(number) for day, number in ids.items()}
        (asset,) = made.get_asset_records([key])
        entry = asset.asset_entry
        result[name, "entry"] = (
            entry.last_materialization.dagster_event.partition,
            entry.last_materialization_record.storage_id == ids_of(made, key)[-1],
            entry.last_run_id == entry.last_materialization.run_id,
        )
        result[name, "partitions"] = made.get_materialized_partitions(key)
        # Their values are made from run ids.
        result[name, "tags"] = [sorted(tags) for tags in storage.get_event_tags_for_asset(key)]
    return result


def ids_of(made, key):
    records = made.fetch_materializations(key, limit=100, ascending=True).records
    return [record.storage_id for record in records]


def log_of(made, run_id):
    """A run's events, in order, by kind and subject."""
    return Counter(
        (event.dagster_event.event_type_value, event.dagster_event.step_key, str(event.dagster_event.partition))
        for event in made.all_logs(run_id)
        if event.is_dagster_event
    )


def checks_of(made):
    """Dagster's table of checks, each with the kind of its event."""
    names = "asset_key, check_name, partition, execution_status, evaluation_event, evaluation_event_storage_id"
    with made.event_log_storage.index_connection() as connection:
        rows = connection.exec_driver_sql(f"SELECT {names} FROM asset_check_executions").all()
    return Counter((*row[:4], deserialize_value(row[4], dg.EventLogEntry).dagster_event_type, row[5]) for row in rows)


def test_the_batching_event_log_stores_what_the_stock_one_does(shop, tmp_path):
    found = {}
    for storage in (BATCHING, STOCK):
        home = tmp_path / storage["class"]
        settings = settings_of(shop, home)
        definitions = build_definitions(settings)
        with instance(home / "dagster", storage) as made, settings.warehouse().connect():
            first = run(definitions, made, DAYS)
            second = run(definitions, made, (DAYS[1], DAYS[1]))
            assert type(made.event_log_storage).__name__ == storage["class"]
            found[storage["class"]] = (events_of(made), log_of(made, first), log_of(made, second), checks_of(made))
    batching, stock = found.values()
    for subject, value in stock[0].items():
        assert batching[0][subject] == value, subject
    assert batching[1:] == stock[1:]
    assert len(batching[1]) > 20
    assert {partition for _, _, partition, *_ in batching[3]} >= set(DAYS)
    assert batching[0]["staging", "partitions"] == set(DAYS)


def test_a_range_is_written_in_few_transactions(definitions, tmp_path, monkeypatch):
    """Three transactions an event, as the stock log has, make the demo's year a minute longer."""
    with instance(tmp_path / "dagster") as made:
        counts = Counter()
        original = type(made.event_log_storage).store_event

        def counting(storage, event):
            if event.is_dagster_event:
                counts[event.dagster_event.event_type] += 1
            return original(storage, event)

        monkeypatch.setattr(type(made.event_log_storage), "store_event", counting)
        run(definitions, made, ("2024-05-01", "2024-05-31"))
        assert len(made.get_materialized_partitions(dg.AssetKey(["raw", "orders"]))) == 31
    assert counts[dg.DagsterEventType.STEP_SUCCESS] == 4
    assert counts[dg.DagsterEventType.ASSET_MATERIALIZATION] == 0
    assert counts[dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED] == 0
