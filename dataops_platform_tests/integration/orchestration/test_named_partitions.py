"""A table that is cut by name goes the same way as one that is cut by time, on either engine."""

import os
import shutil
import time
from datetime import UTC, datetime

import dagster as dg
import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.landing_scan import Position, scan, strange_names
from dataops_platform.lake import Lake
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.planning import plan
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform.settings import Settings
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.integration.orchestration.regions import NAMES, Regions
from dataops_platform_tests.integration.orchestration.sales import on_engine
from dataops_platform_tests.integration.orchestration.test_automation import Automation

PRODUCTION = dg.AssetKey(["production", "by_region"])
FIRST = {"apac": 10, "eu": 20, "eu-north": 30, "us": 40}


@pytest.fixture
def regions(request, tmp_path, monkeypatch):
    for name in ("DAGSTER_HOME", "DATAOPS_EVENT_LOG"):
        monkeypatch.setenv(name, "")  # restored afterwards
    project = tmp_path / "shop"
    with on_engine(request, project, tmp_path) as settings:
        yield Regions(project, settings)


on_duckdb = pytest.mark.parametrize("regions", ["duckdb"], indirect=True)


SERVERS = """\
servers:
  - server: partner
    type: local
    path: landing
    format: csv
    customProperties:
      - {property: objectPattern, vendor: dataops, value: 'sales/{partition}/*.csv'}
"""


@pytest.mark.parametrize(
    "regions", ["duckdb", pytest.param("bigquery", marks=[pytest.mark.cloud, pytest.mark.long])], indirect=True
)
def test_from_source_to_production(regions, tmp_path):
    """All names in one run; a correction of one; one that is refused; nothing of the others is made anew."""
    with instance(tmp_path / "dagster") as dagster:
        assert regions.run(dagster).success
        assert regions.staged() == [(n, name, 10 * n) for n, name in enumerate(NAMES, 1)]
        assert regions.published() == FIRST
        assert not regions.left().any
        assert dagster.get_materialized_partitions(PRODUCTION) == set(NAMES)

        regions.write("eu", "2,eu,25", "5,us,1")  # a row of another region is nobody's
        regions.write("eu-north", "3,eu-north,30", "6,eu-north,1", "7,eu-north,1")  # one more than the rule allows
        todo = regions.left()
        assert todo.undelivered == {"sales": ["eu", "eu-north"]}
        outcome = regions.run(dagster, ("eu", "eu-north"))
        refused = {failure.step: failure.message for failure in outcome.failures}
        assert refused.keys() == {"production__by_region", "production__everywhere"}  # this one is made of all regions
        for message in refused.values():
            assert "refused 1 partition(s)" in message
            assert ": rule volume of staging.sales failed" in message
        assert "  eu-north: " in refused["production__by_region"]
        assert regions.published() == FIRST | {"eu": 25}
        assert regions.query("SELECT region, _delivered_partition FROM quarantine.sales") == [("us", "eu")]
        counts = dict(
            regions.query(
                "SELECT partition_key, COUNT(*) FROM dataops.publications WHERE model = 'by_region' GROUP BY 1"
            )
        )
        assert counts == {"apac": 1, "eu": 2, "eu-north": 1, "us": 1}

        regions.write("eu-north", "3,eu-north,35")
        assert regions.run(dagster, ("eu-north", "eu-north")).success
        assert regions.published() == FIRST | {"eu": 25, "eu-north": 35}
        assert regions.query("SELECT revenue FROM production.everywhere") == [(110,)]
        assert not regions.left().any


@on_duckdb
def test_a_model_that_fails_its_test_for_a_name(regions, tmp_path):
    """Nothing else is made of it in the run: the others of the range go on."""
    (regions.project / "dbt_project/models/marts/everywhere.sql").unlink()
    models = regions.project / "dbt_project/models/marts/marts.yml"
    models.write_text(models.read_text().partition("  - name: everywhere")[0])
    regions.write("eu", "2,eu,2000")
    with instance(tmp_path / "dagster") as dagster:
        (failure,) = regions.run(dagster).failures
    assert failure.step == "production__by_region"
    assert "eu: test by_region__few of by_region failed" in failure.message
    assert regions.published() == {name: revenue for name, revenue in FIRST.items() if name != "eu"}


@on_duckdb
def test_what_others_write_lands_by_name(regions, tmp_path):
    shutil.rmtree(regions.project / "dbt_project")  # nothing is made of it
    contract = regions.project / "contracts/sales.odcs.yaml"
    text = contract.read_text()
    source = next(line for line in text.splitlines(keepends=True) if "property: source" in line)
    contract.write_text(text.replace(source, "").replace("schema:\n", SERVERS + "schema:\n", 1))
    landing = regions.project / "landing/sales"
    for name, rows in {"eu": "2,eu,20", "eu-north": "3,eu-north,30", "mars": "9,mars,90"}.items():
        (landing / name).mkdir(parents=True)
        (landing / name / "a.csv").write_text(f"id,region,amount\n{rows}\n")
    old = time.time() - 60  # what was just written may still be being written
    for path in landing.glob("*/*.csv"):
        os.utime(path, (old, old))
    table = load_contracts(regions.settings.contracts).tables["sales"]
    place = regions.settings.place(table, [table])
    strange, _ = strange_names(place, datetime.now(UTC), 100)
    assert strange == {"sales/mars/a.csv": "partition 'mars' isn't one of apac, eu, eu-north, us"}
    found = scan(table, place, Lake(regions.settings.lake_store()), Position(), datetime.now(UTC))
    assert [ask.partition for ask in found.asks] == ["eu", "eu-north"]
    with instance(tmp_path / "dagster") as dagster:
        assert regions.run(dagster, None, {raw_key("sales"), staging_key("sales")}).success
    assert regions.staged() == [(2, "eu", 20), (3, "eu-north", 30)]


@on_duckdb
def test_what_is_new_is_planned(regions, tmp_path):
    with instance(tmp_path / "dagster") as dagster:
        (run,) = plan(regions.definitions, None, None, regions.left().partitions()).runs
        assert run.span == ("apac", "us")
        assert regions.run(dagster).success
    regions.write("apac", "1,apac,11")
    regions.write("us", "4,us,41")
    todo = regions.left()
    planned = plan(regions.definitions, None, None, todo.partitions(), todo.loaded)
    assert [run.span for run in planned.runs] == [("apac", "apac"), ("us", "us")]
    with pytest.raises(ConfigError, match="'eu-nort' is not one of eu-north, apac, eu, us"):
        plan(regions.definitions, None, ("eu", "eu-nort"), None)


@on_duckdb
def test_merge_moves_a_row_between_names(regions, tmp_path):
    contract = regions.project / "contracts/sales.odcs.yaml"
    contract.write_text(contract.read_text().replace("value: replace", "value: merge"))
    with instance(tmp_path / "dagster") as dagster:
        assert regions.run(dagster).success
        regions.write("us", "4,us,40", "1,us,5")
        layers = {raw_key("sales"), staging_key("sales")}
        assert regions.run(dagster, ("us", "us"), layers).success
        assert regions.staged() == [(1, "us", 5), (2, "eu", 20), (3, "eu-north", 30), (4, "us", 40)]
        assert regions.left().unbuilt["by_region"] == ["apac", "us"]


@on_duckdb
def test_the_schedule_runs_all_names(regions):
    repository = regions.definitions.get_repository_def()
    (schedule,) = repository.schedule_defs
    with dg.build_schedule_context() as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.tags["dagster/asset_partition_range_start"] == "apac"
    assert request.tags["dagster/asset_partition_range_end"] == "us"
    assert schedule.cron_schedule == "0 7 * * *"


BY_DAY = """{{ config(materialized='incremental', incremental_strategy='replace_range', on_schema_change='fail') }}
select
    day,
    cast(count(*) as int64) as visits,
    (select cast(sum(amount) as int64) from {{ source('staging', 'sales') }}) as sold
from {{ source('staging', 'visits') }}
where {{ in_partition_range('day') }}
group by day
"""
VISITS = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:visits
name: visits
version: 1.0.0
status: active
schema:
  - name: visits
    customProperties:
      - {property: loadMode, vendor: dataops, value: replace}
      - property: partitioning
        vendor: dataops
        value: {field: day, granularity: day, start: 2024-05-01, end: 2024-05-02}
      - {property: source, vendor: dataops, value: {extractor: files, path: 'data/visits/{partition}.csv'}}
    properties:
      - {name: day, logicalType: date, required: true}
"""
MIXED = """models:
  - name: by_day
    config: {meta: {dataops: {publish: true, partition_field: day}}}
    columns: [{name: day, data_type: date}, {name: visits, data_type: int64}, {name: sold, data_type: int64}]
"""


@on_duckdb
def test_a_model_by_day_takes_the_names_as_a_whole(regions, tmp_path):
    """Two jobs, in the order of their data; a new delivery for one name makes all its days out of date."""
    for path, text in {
        "contracts/visits.odcs.yaml": VISITS,
        "data/visits/2024-05-01.csv": "day\n2024-05-01\n",
        "data/visits/2024-05-02.csv": "day\n2024-05-02\n2024-05-02\n",
        "dbt_project/models/marts/by_day.sql": BY_DAY,
        "dbt_project/models/marts/by_day.yml": MIXED,
    }.items():
        (regions.project / path).parent.mkdir(parents=True, exist_ok=True)
        (regions.project / path).write_text(text)

    def run_what_is_new(dagster):
        todo = regions.left()
        planned = plan(regions.definitions, None, None, todo.partitions(), todo.loaded).runs
        assert all(runs.execute(run.job, dagster, run.span, run.assets).success for run in planned)
        return {run.span for run in planned if run.span}  # what has no partitions may be made alone

    days = ("2024-05-01", "2024-05-02")
    with instance(tmp_path / "dagster") as dagster:
        assert run_what_is_new(dagster) == {("apac", "us"), days}
        assert not regions.left().any
        regions.write("eu", "2,eu,25")
        assert run_what_is_new(dagster) == {("eu", "eu")}
        assert regions.left().unbuilt == {"by_day": list(days)}
        assert run_what_is_new(dagster) == {days}
        assert not regions.left().any
    assert regions.query("SELECT CAST(day AS STRING), visits, sold FROM production.by_day ORDER BY 1") == [
        (days[0], 1, 105), (days[1], 2, 105),
    ]  # fmt: skip
    assert regions.published() == FIRST | {"eu": 25}


def test_conditions_follow_names(tmp_path):
    """Raw is asked for each day, for all names; what follows, for those alone that were renewed."""
    project = tmp_path / "shop"
    given = {
        "DATAOPS_PROJECT": str(project),
        "DATAOPS_HOME": str(tmp_path / "home"),
        "DATAOPS_AUTOMATION": "conditions",
    }
    regions = Regions(project, Settings.load(given))
    raw, staging = raw_key("sales"), staging_key("sales")
    chain = [staging, dg.AssetKey("by_region"), dg.AssetKey(["transformed", "by_region"]), PRODUCTION]
    with dg.DagsterInstance.ephemeral() as dagster:
        automation = Automation(regions.definitions, dagster)
        automation.cursor = None
        morning = datetime(2024, 5, 20, 6, 59, tzinfo=UTC)
        assert raw not in automation.tick(morning)
        assert automation.tick(morning.replace(hour=7, minute=1))[raw] == set(NAMES)
        for key in (raw, *chain):
            automation.made(key, *NAMES)
            automation.checked(key)
        automation.tick()
        automation.tick()
        automation.made(raw, "eu")
        found = automation.tick()
        assert {key: found.get(key) for key in chain} == {key: {"eu"} for key in chain}
