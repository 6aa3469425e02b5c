"""The real dbt project on three days of the demo, built in this process; and the gate as Dagster meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.transformation.dbt import DbtProject
from dataops_platform.transformation.models import read_models
from dataops_platform_tests.integration.transformation.demo import REPO, Demo, embedded

DAYS = ["2013-03-01", "2013-03-02", "2013-03-03"]
BY_DAY = {"stg_flights", "stg_weather", "fct_flights", "mart_daily_delays", "mart_cancellations_by_weather"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Demo:
    settings = embedded(tmp_path_factory.mktemp("demo") / "home")
    with settings.warehouse().connect():  # for many small steps
        made = Demo(settings, DAYS)
        made.judge()
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


def test_dbt_waits_for_another_process(demo):
    """The alerts of the last run are told, say, while the next one builds: the file has one writer."""
    holds = "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]); print(flush=True); time.sleep(3)"
    command = [sys.executable, "-c", holds, str(demo.warehouse.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline()
        demo.dbt.debug()
    assert holder.returncode == 0


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
    with demo.warehouse.connect():
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
    demo.build("mart_daily_delays", *(test.name for test in demo.models["mart_daily_delays"].tests))
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
    broken = DbtProject(folder, tmp_path / "dbt", demo.dbt.target, demo.contracts)
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


def test_what_its_tests_read_may_be_seen_of_a_model(demo):
    manifest = dict(demo.dbt.manifest())
    carriers = demo.models["dim_carriers"]
    assert demo.models.read(carriers) == {"airlines"} == set(carriers.sources)
    test = manifest["nodes"][carriers.tests[0].unique_id]
    weather = next(uid for uid in manifest["sources"] if uid.endswith(".weather"))
    for other in (weather, demo.models["stg_weather"].unique_id):
        asks = test | {"depends_on": {"nodes": [carriers.unique_id, other]}}
        models = read_models(manifest | {"nodes": manifest["nodes"] | {test["unique_id"]: asks}})
        assert models.read(models["dim_carriers"]) == {"airlines", "weather"}


def test_a_test_keeps_its_severity_when_a_macro_changes(demo, tmp_path):
    """dbt alone forgets it: what changed is parsed by itself, without the YAML that says so."""
    folder = tmp_path / "dbt_project"
    shutil.copytree(REPO / "dbt_project", folder, ignore=shutil.ignore_patterns("models", "target", "logs"))
    (folder / "models").mkdir()
    (folder / "models/fct_flights.sql").write_text("select 1 as only_parsed")
    settings = folder / "dbt_project.yml"
    settings.write_text(settings.read_text().partition("\nmodels:")[0])

    def severities() -> dict[str, str]:
        models = read_models(DbtProject(folder, tmp_path / "dbt", demo.dbt.target, demo.contracts).manifest())
        return {test.name: str(test.severity) for test in models.tests().values()}

    before = severities()
    assert before["fct_flights__aircraft_in_one_place"] == "warning"
    macro = folder / "macros" / "engine" / "add_minutes.sql"
    macro.write_text(macro.read_text() + "{# another text #}\n")
    assert severities() == before


def test_no_project(tmp_path, demo):
    with pytest.raises(ConfigError, match="there is no dbt project"):
        DbtProject(tmp_path, tmp_path / "dbt", demo.dbt.target, demo.contracts).manifest()


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
