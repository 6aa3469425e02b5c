"""The real dbt project on three days of the demo, built in this process; and the gate as Dagster meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.extractor import extract, extractor_for
from dataops_platform.lake import Lake
from dataops_platform.orchestration.resources import Platform
from dataops_platform.quality.planner import render_bad
from dataops_platform.quality.verdicts import evaluate
from dataops_platform.settings import Settings
from dataops_platform.transformation.build import build
from dataops_platform.transformation.dbt import DbtProject
from dataops_platform.transformation.models import read_models
from dataops_platform.transformation.publish import publish
from dataops_platform.warehouse.base import RowCheck

REPO = Path(__file__).parents[3]
DAYS = ["2013-03-01", "2013-03-02", "2013-03-03"]
BY_DAY = {"stg_flights", "stg_weather", "fct_flights", "mart_daily_delays", "mart_cancellations_by_weather"}


class Demo:
    """Three days loaded and judged, by the library alone."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.load({"DATAOPS_PROJECT": str(REPO), "DATAOPS_HOME": str(folder / "home")})
        contracts = load_contracts(self.settings.contracts)
        self.dbt = DbtProject(
            self.settings.dbt_project, self.settings.dbt_home, self.settings.warehouse_url, "local", contracts
        )
        self.models = read_models(self.dbt.manifest())
        self.platform = Platform(self.settings, contracts, self.models)
        self.warehouse, self.ledger = self.platform.warehouse, self.platform.ledger
        self.tables = {name: table for name, table in contracts.tables.items() if table.source}
        for table in self.tables.values():
            self.load(table)
        for table in self.tables.values():
            evaluate(self.warehouse, table, "run", DAYS if table.partitioning else None)

    def load(self, table) -> None:
        lake = Lake(self.settings.lake_store())
        days = DAYS if table.partitioning else table.partition_keys()
        done = extract(table, extractor_for(table, REPO), lake, days)
        uris = {item.key: lake.store.uri(item.key) for d in done.delivered for item in d.objects}
        checks = [RowCheck(r.id, render_bad(table, r, "duckdb")) for r in table.splitting_rules]
        self.warehouse.load(table, done.delivered, uris, checks, "run")

    def build(self, *select: str, days=DAYS, run_id: str = "run"):
        names = select or [model.name for model in self.models.items]
        return build(self.dbt, self.models, self.warehouse, self.tables, run_id, names, days)

    def publish(self, model: str, days=DAYS):
        return publish(
            self.models[model], self.models, self.tables, self.warehouse, self.settings.lake_store(),
            self.settings.production_store(), days if self.models[model].partition_field else None, "run",
        )  # fmt: skip

    def execute(self, sql: str) -> None:
        with self.warehouse.connect() as con:
            con.execute(sql)

    def rows(self, sql: str) -> list[tuple]:
        return [tuple(row.values()) for row in self.warehouse.query(sql).to_pylist()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Demo:
    made = Demo(tmp_path_factory.mktemp("demo"))
    made.first = made.build(run_id="first")
    return made


def test_builds_and_verdicts_for_each_day(demo):
    assert {r.status for r in demo.first.results.values()} <= {"success", "pass", "warn"}
    partitions = {}
    for record in demo.first.builds:
        partitions.setdefault(record.model, []).append(record.partition_key)
    assert {name for name, keys in partitions.items() if keys == DAYS} == BY_DAY
    assert {tuple(keys) for name, keys in partitions.items() if name not in BY_DAY} == {("all",)}
    for model in demo.models.items:
        judged = {(v.rule_id, v.partition_key) for v in demo.first.verdicts if v.object_name == model.name}
        keys = DAYS if model.partition_field else ["all"]
        assert judged == {(test.name, key) for test in model.tests for key in keys}
    total = sum(b.row_count for b in demo.first.builds if b.model == "fct_flights")
    assert demo.rows("SELECT count(*) AS n FROM staging.flights") == [(total,)]


def test_the_handle_is_released(demo):
    demo.execute("CREATE OR REPLACE TABLE main.writable AS SELECT 1 AS x")


def test_an_unchanged_rebuild_gives_the_same_versions(demo, monkeypatch):
    calls = []
    invoke = DbtProject._invoke
    monkeypatch.setattr(
        DbtProject,
        "_invoke",
        lambda self, arguments, *rest: calls.append(arguments[0]) or invoke(self, arguments, *rest),
    )
    again = demo.build(run_id="again")
    assert calls == ["build"]
    assert {(b.model, b.partition_key): b.data_version for b in again.builds} == {
        (b.model, b.partition_key): b.data_version for b in demo.first.builds
    }


def test_everything_is_published(demo):
    for model in demo.models.published:
        done = demo.publish(model.name)
        assert done.refusals == (), done.refusals
        assert demo.publish(model.name).published == ()


def test_a_failing_test_is_its_days(demo):
    """One day's mart is spoiled after it was built; its tests alone are run again."""
    before = demo.rows("SELECT * FROM production.mart_daily_delays ORDER BY ALL")
    demo.execute(f"UPDATE analytics.mart_daily_delays SET cancellation_rate = 2 WHERE flight_date = '{DAYS[1]}'")
    outcome = demo.build("mart_daily_delays__cancellation_rate_valid", run_id="spoiled")
    verdicts = {v.partition_key: (v.passed, v.failed_rows) for v in outcome.verdicts}
    (spoiled,) = demo.rows(f"SELECT count(*) AS n FROM analytics.mart_daily_delays WHERE flight_date = '{DAYS[1]}'")
    assert verdicts == {DAYS[0]: (True, 0), DAYS[1]: (False, *spoiled), DAYS[2]: (True, 0)}
    assert [r.partition_key for r in demo.publish("mart_daily_delays").refusals] == [DAYS[1]]
    assert demo.rows("SELECT * FROM production.mart_daily_delays ORDER BY ALL") == before
    demo.build()
    assert demo.publish("mart_daily_delays").refusals == ()


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select * from {{ ref('no_such_model') }}", "no_such_model"),
        ("select {{ nonsense( }}", "doesn't parse"),
    ],
)
def test_a_project_that_does_not_parse(demo, tmp_path, sql, says):
    folder = tmp_path / "dbt_project"
    shutil.copytree(REPO / "dbt_project", folder, ignore=shutil.ignore_patterns("target", "logs", "generated"))
    (folder / "models" / "marts" / "core" / "broken.sql").write_text(sql)
    contracts = load_contracts(demo.settings.contracts)
    broken = DbtProject(folder, tmp_path / "dbt", demo.settings.warehouse_url, "local", contracts)
    with pytest.raises(ConfigError) as error:
        broken.manifest()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_changed_macro_changes_every_test_and_model(demo):
    manifest = json.loads(json.dumps(demo.dbt.manifest()))
    before = read_models(manifest)
    macro = next(m for uid, m in manifest["macros"].items() if uid.endswith(".in_partition_range"))
    macro["macro_sql"] += "{# another text #}"
    after = read_models(manifest)
    for old, new in zip(before.items, after.items, strict=True):
        assert old.checksum != new.checksum
        assert not {t.fingerprint for t in old.tests} & {t.fingerprint for t in new.tests}


def test_no_project(tmp_path, demo):
    contracts = load_contracts(demo.settings.contracts)
    with pytest.raises(ConfigError, match="there is no dbt project"):
        DbtProject(tmp_path, tmp_path / "dbt", demo.settings.warehouse_url, "local", contracts).manifest()


def test_production_alone_through_dagster(demo, monkeypatch):
    """Someone materialises nothing but the production asset, after the model was changed by hand."""
    import dagster as dg

    from dataops_platform.orchestration import runs
    from dataops_platform.orchestration.build import build_definitions

    before = demo.rows("SELECT * FROM production.fct_flights ORDER BY ALL")
    demo.execute(f"UPDATE analytics.fct_flights SET carrier = 'ZZ' WHERE flight_date = '{DAYS[2]}'")
    for name in ("DAGSTER_HOME", "DATAOPS_EVENT_LOG"):
        monkeypatch.setenv(name, "")  # restored afterwards
    runs.prepare_instance(demo.settings)
    definitions = build_definitions(demo.settings)
    (key,) = runs.resolve_selection(definitions, "production/fct_flights")
    job = definitions.get_repository_def().get_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        outcome = runs.execute(job, instance, (DAYS[0], DAYS[2]), {key})
    assert not outcome.success
    (failure,) = outcome.failures
    assert (failure.refused, failure.unexpected) == (True, False), failure.message
    assert f"{DAYS[2]}: the rows of fct_flights are not those of its last recorded build" in failure.message
    assert DAYS[0] not in failure.message
    assert demo.rows("SELECT * FROM production.fct_flights ORDER BY ALL") == before
