"""What the conditions ask for, as Dagster's own evaluator sees it: only events are made, nothing is run."""

from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.events import StepMaterializationData
from dagster._core.storage.tags import AUTOMATION_CONDITION_TAG
from dagster._core.test_utils import create_run_for_test

from dataops_platform.orchestration.build import build_definitions
from dataops_platform.orchestration.run_requests import TABLE_TAG
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform_tests.integration.orchestration.automated import settings, write_project

RAW, STAGING, SHOPS = raw_key("orders"), staging_key("orders"), staging_key("shops")
BY_DAY, WHOLE = dg.AssetKey("by_day"), dg.AssetKey("as_a_whole")
CHAIN = [STAGING, BY_DAY, dg.AssetKey(["transformed", "by_day"]), dg.AssetKey(["production", "by_day"])]
PUBLISHED = dg.AssetKey(["production", "as_a_whole"])
OLD, NEW = "2024-05-01", "2024-05-03"


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("automation")
    return build_definitions(settings(write_project(folder / "shop"), folder / "home"))


class Automation:
    """Dagster's evaluator, tick by tick, on an instance of its own."""

    def __init__(self, definitions, dagster):
        self.definitions, self.dagster, self.cursor = definitions, dagster, None
        self.graph = definitions.get_repository_def().asset_graph
        self.tick()

    def tick(self, at=None):
        """What is asked for: asset key → partitions; {None} for an asset without partitions."""
        done = dg.evaluate_automation_conditions(self.definitions, self.dagster, cursor=self.cursor, evaluation_time=at)
        self.cursor = done.cursor
        asked = {}
        for result in done.results:
            size = done.get_num_requested(result.key)
            if size:
                cut = self.graph.get(result.key).partitions_def
                asked[result.key] = done.get_requested_partitions(result.key) if cut else {None}
        return asked

    def made(self, key, *days):
        for day in days or [None]:
            self.dagster.report_runless_asset_event(dg.AssetMaterialization(key, partition=day))

    def ran(self, keys, made, *days, **tags):
        """Runs over `keys`, one for each day, that got as far as this asset."""
        for day in days:
            over = dg.DagsterRunStatus.FAILURE
            run = create_run_for_test(self.dagster, "pipeline", asset_selection=frozenset(keys), tags=tags, status=over)
            data = StepMaterializationData(dg.AssetMaterialization(made, partition=day))
            event = dg.DagsterEvent("ASSET_MATERIALIZATION", "pipeline", event_specific_data=data)
            self.dagster.report_dagster_event(event, run.run_id)

    def checked(self, key, passed=True):
        (newest,) = self.dagster.fetch_materializations(key, limit=1).records
        judged = AssetCheckEvaluationTargetMaterializationData(
            storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
        )
        for check in self.graph.get_check_keys_for_assets({key}):
            good = passed or not self.graph.get(check).blocking
            self.dagster.report_runless_asset_event(dg.AssetCheckEvaluation(key, check.name, good, {}, judged))


@pytest.fixture
def automation(definitions):
    with dg.DagsterInstance.ephemeral() as dagster:
        yield Automation(definitions, dagster)


def test_the_chain_follows_raw(automation):
    """In one run: staging, models, production; its blocking checks stop it inside. No other day is touched."""
    automation.made(SHOPS)
    automation.checked(SHOPS)
    automation.tick()
    automation.made(RAW, OLD, NEW)
    assert automation.tick() == {key: {OLD, NEW} for key in CHAIN}
    assert automation.tick() == {}


def test_late_data_is_followed_for_its_partition_alone(automation):
    days = ("2024-05-01", "2024-05-02", "2024-05-03")
    automation.made(SHOPS)
    automation.checked(SHOPS)
    for key in (RAW, *CHAIN):
        automation.made(key, *days)
        automation.checked(key)
    automation.made(WHOLE)
    automation.tick()
    automation.tick()
    automation.made(RAW, days[1])
    assert automation.tick() == {key: {days[1]} for key in CHAIN}


@pytest.mark.parametrize("passed", [True, False])
def test_models_follow_when_blocking_checks_passed(automation, passed):
    """Somebody materialised staging: models wait for its checks, and stay where they are when one fails."""
    automation.made(SHOPS)
    automation.checked(SHOPS)
    automation.tick()
    automation.made(STAGING, OLD)
    assert automation.tick() == {}
    automation.checked(STAGING, passed)
    asked = automation.tick()
    if passed:
        assert {key: asked[key] for key in CHAIN[1:]} == {key: {OLD} for key in CHAIN[1:]}
        assert asked[WHOLE] == {None}  # though of open-ended orders most days are missing
    else:
        assert asked == {}
        automation.checked(STAGING)
        assert set(CHAIN[1:]) <= set(automation.tick())


def test_what_failed_is_not_asked_for_again_when_another_day_passes(automation):
    """Checks have no partitions: the one of the day that failed is well when another day's is."""
    automation.made(SHOPS)
    automation.checked(SHOPS)
    automation.made(RAW, OLD, NEW)
    assert automation.tick() == {key: {OLD, NEW} for key in CHAIN}
    assert automation.tick() == {}  # it runs
    automation.ran(CHAIN, STAGING, OLD, NEW, **{AUTOMATION_CONDITION_TAG: "true"})
    automation.checked(STAGING, passed=False)
    assert automation.tick() == {}
    automation.checked(STAGING)
    assert automation.tick().keys() == {WHOLE, dg.AssetKey(["transformed", "as_a_whole"]), PUBLISHED}
    automation.made(RAW, OLD)
    assert automation.tick() == {key: {OLD} for key in CHAIN}


def test_what_a_landing_sensor_asks_for_is_not_asked_for_again(automation):
    """Its run has all that follows with the same partitions; models of the whole table follow when it passed."""
    automation.made(SHOPS)
    automation.checked(SHOPS)
    automation.tick()
    tags = {TABLE_TAG: "orders"}
    automation.ran([RAW, *CHAIN], RAW, OLD, NEW, **tags)
    assert automation.tick() == {}
    automation.ran([RAW, *CHAIN], STAGING, OLD, NEW, **tags)
    automation.checked(STAGING)
    whole = automation.tick()
    assert whole[WHOLE] == {None}
    assert not set(CHAIN) & set(whole)


def test_a_partition_waits_for_all_that_it_is_made_of(automation):
    automation.made(RAW, OLD)
    assert automation.tick() == {STAGING: {OLD}}  # shops were never loaded
    automation.made(STAGING, OLD)
    automation.checked(STAGING)
    assert BY_DAY not in automation.tick()
    automation.made(SHOPS)
    automation.checked(SHOPS)
    assert automation.tick()[BY_DAY] == {OLD}


def test_a_table_without_partitions_does_not_rebuild_all_days(automation):
    for key in (RAW, *CHAIN):
        automation.made(key, OLD, NEW)
        automation.checked(key)
    automation.made(WHOLE)
    automation.tick()
    automation.tick()
    automation.made(raw_key("shops"))
    assert automation.tick() == {SHOPS: {None}}
    automation.made(SHOPS)
    automation.checked(SHOPS)
    assert automation.tick() == {}


def test_what_takes_several_runs_is_waited_for(tmp_path):
    """Its partitions may be in other runs than the models: those wait for all of them, and for their checks."""
    project = write_project(tmp_path / "shop")
    contract = project / "contracts/orders.odcs.yaml"
    limit = "      - {property: maxPartitionsPerRun, vendor: dataops, value: 1}\n    properties:\n"
    contract.write_text(contract.read_text().replace("    properties:\n", limit, 1))
    with dg.DagsterInstance.ephemeral() as dagster:
        automation = Automation(build_definitions(settings(project, tmp_path / "home")), dagster)
        for key in (SHOPS, STAGING):
            automation.made(key, *([NEW] if key == STAGING else []))
            automation.checked(key)
        automation.tick()
        automation.tick()
        automation.made(RAW, OLD, NEW)
        assert automation.tick() == {STAGING: {OLD, NEW}}
        automation.made(STAGING, OLD, NEW)
        automation.checked(STAGING, False)
        assert automation.tick() == {}
        automation.checked(STAGING)
        assert {key: asked for key, asked in automation.tick().items() if key in CHAIN} == {
            key: {OLD, NEW} for key in CHAIN[1:]
        }


def test_raw_is_asked_for_once_a_day(definitions):
    with dg.DagsterInstance.ephemeral() as dagster:
        morning = datetime(2024, 5, 20, 6, 59, tzinfo=ZoneInfo("UTC"))
        automation = Automation(definitions, dagster)
        automation.cursor = None
        assert automation.tick(morning) == {}
        asked = automation.tick(morning.replace(hour=7, minute=1))
        assert asked[RAW] == {"2024-05-19"}
        assert asked[raw_key("shops")] == {None}
        assert automation.tick(morning.replace(hour=8)) == {}
        # What was delivered in the meantime is not asked for.
        automation.made(RAW, "2024-05-20")
        automation.tick(morning.replace(hour=9))
        assert RAW not in automation.tick(morning.replace(day=21, hour=8))


def test_the_schedule_is_the_alternative(definitions, tmp_path):
    repository = definitions.get_repository_def()
    assert repository.schedule_defs == []
    assert "automation" in {sensor.name for sensor in repository.sensor_defs}
    assert "pipeline" in {job.name for job in repository.get_all_jobs()}
    plain = settings(write_project(tmp_path / "shop"), tmp_path / "home", DATAOPS_AUTOMATION="schedule")
    made = build_definitions(plain).get_repository_def()
    assert [schedule.name for schedule in made.schedule_defs] == ["pipeline_daily"]
    assert "automation" not in {sensor.name for sensor in made.sensor_defs}
    assert not any(made.asset_graph.get(key).automation_condition for key in made.asset_graph.get_all_asset_keys())
