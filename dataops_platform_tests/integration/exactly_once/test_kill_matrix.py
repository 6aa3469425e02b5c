"""Runs that Dagster's daemon started are killed at every step boundary, and at random times; then all is as it should.

Each day of a project is one run, with deaths of its own. Nobody does anything afterwards: the dead run is found, and
begun again. In the end tables, ledger and production are those of a run that nothing happened to.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from dataops_platform.lake import LocalStore
from dataops_platform.transformation.publish import published_objects
from dataops_platform.warehouse.duckdb import DuckDBWarehouse
from dataops_platform_tests import browser, conftest
from dataops_platform_tests.browser import UI
from dataops_platform_tests.integration.exactly_once.deaths import VARIABLE, Death, name_of, write
from dataops_platform_tests.integration.orchestration.automated import write_project

WORKSPACE = """\
load_from:
  - python_module: {module_name: dataops_platform_tests.integration.exactly_once.mortal, location_name: dataops}
"""
LAUNCH = """
mutation($tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: {repositoryLocationName: "dataops", repositoryName: "__repository__", jobName: "pipeline"},
    executionMetadata: {tags: $tags}
  }) {__typename ... on PythonError {message}}
}
"""
BOUNDARIES = ("PIPELINE_START", "STEP_START", "STEP_SUCCESS", "PIPELINE_SUCCESS")
CONVERGED = 400
"""Seconds within which a day must be whole, whatever died. Most of it is for a run that died before it began."""


class Shop:
    """A project, its home, and the processes of `dataops ui` on it."""

    def __init__(self, folder: Path, days: int) -> None:
        self.folder = folder
        self.days = [f"2024-05-{day:02d}" for day in range(1, days + 1)]
        self.project = write_project(folder / "shop")
        (self.project / "workspace.yaml").write_text(WORKSPACE)
        for number, day in enumerate(self.days):
            rows = [f"{3 * number + n},{day},{'DE' if n else 'FR'},{n}.50" for n in range(3)]
            if number % 3 == 1:  # to quarantine
                rows.append(f"{1000 + number},{day},FR,-1.00")
            self.source(day).write_text("\n".join(["order_id,order_date,country,amount", *rows, ""]))
        self.home = folder / "home"
        self.deaths = folder / "deaths"
        self.log = folder / "log"

    def looks_often(self) -> None:
        """The daemon looks every second whether a run has died."""
        text = (conftest.REPO / "dagster.yaml").read_text()
        assert "poll_interval_seconds: 10" in text
        (self.project / "dagster.yaml").write_text(text.replace("interval_seconds: 10", "interval_seconds: 1"))

    def source(self, day: str) -> Path:
        return self.project / "data" / "orders" / f"{day}.csv"

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(conftest.REPO), os.environ.get("PYTHONPATH")]))
        return conftest.environment(self.home, self.project, PYTHONPATH=path, **{VARIABLE: str(self.deaths)})

    def serve(self) -> Any:
        """`dataops ui`: web server, daemon and code server."""
        return browser.serve(self.environment(), self.log)

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home / "dagster"))

    def launch(self, ui: UI, day: str, *deaths: Death) -> None:
        write(self.deaths, day, deaths)
        done = ui.query(LAUNCH, tags=[{"key": "dagster/partition", "value": day}])
        assert done["launchRun"]["__typename"] == "LaunchRunSuccess", done

    def runs(self, day: str) -> list[dg.DagsterRun]:
        """Of a day, the last one first."""
        with self.instance() as instance:
            return list(instance.get_runs(dg.RunsFilter(tags={"dagster/partition": day})))

    def ends(self, day: str, runs: set[int], status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS) -> None:
        """Wait until a day's last run has ended so; how many there were."""
        deadline = time.monotonic() + CONVERGED
        while (found := self.runs(day))[0].status is not status or len(found) < min(runs):
            assert time.monotonic() < deadline, self.told(day)
            time.sleep(0.3)
        assert len(found) in runs, self.told(day)
        assert all(run.status is dg.DagsterRunStatus.FAILURE for run in found[1:]), self.told(day)

    def reaches(self, day: str, event: str) -> None:
        """Wait until a day's first run has come to an event."""
        deadline = time.monotonic() + CONVERGED
        with self.instance() as instance:
            while event not in map(name_of, instance.all_logs(self.runs(day)[0].run_id)):
                assert time.monotonic() < deadline, self.told(day)
                time.sleep(0.05)

    def told(self, day: str) -> str:
        """What happened to a day's runs, for whoever reads of a failure."""
        lines = [f"{len(list(self.deaths.glob(f'{day}.json.*')))} deaths of {day}"]
        with self.instance() as instance:
            for run in self.runs(day):
                lines.append(f"{run.run_id} {run.status} {run.tags}")
                lines += [f"  {e.timestamp:.1f} {name_of(e)} {e.message}"[:300] for e in instance.all_logs(run.run_id)]
        return "\n".join([*lines, self.log.read_text()[-3000:]])

    def boundaries(self, day: str) -> list[str]:
        """Of a day's run, in order."""
        (run,) = self.runs(day)
        with self.instance() as instance:
            names = [name_of(entry) for entry in instance.all_logs(run.run_id)]
        return [name for name in names if name.split(" ")[0] in BOUNDARIES]

    def state(self, home: Path) -> dict[str, object]:
        """What was made of all days; without times, and the ids that come of them."""
        warehouse = DuckDBWarehouse(home / "warehouse.duckdb")

        def rows(sql: str) -> Counter[tuple]:
            return Counter(tuple(row.values()) for row in warehouse.query(sql).to_pylist())

        newest = "QUALIFY row_number() OVER (PARTITION BY {} ORDER BY {} DESC) = 1"
        judged = newest.format("object_name, partition_key, rule_id", "evaluated_at")
        production = LocalStore(home / "production_lake")
        return {
            "orders": rows("SELECT order_id, order_date, country, amount, _source_object FROM staging.orders"),
            "shops": rows("SELECT shop_id FROM staging.shops"),
            "quarantine": rows("SELECT order_id, _reasons::VARCHAR AS r, _source_object FROM quarantine.orders"),
            "loads": rows("SELECT manifest, rows_read, rows_loaded, rows_quarantined FROM dataops.loads"),
            "refusals": rows("SELECT partition_key, reason FROM dataops.refusals"),
            "verdicts": rows(
                f"SELECT object_name, rule_id, partition_key, passed, observed FROM dataops.verdicts {judged}"
            ),
            "by_day": rows("SELECT order_date, orders FROM production.by_day"),
            "as_a_whole": rows("SELECT orders FROM production.as_a_whole"),
            "publications": rows(
                "SELECT partition_key, data_version, row_count FROM dataops.publications WHERE model = 'by_day'"
            ),
            "records": sorted(published_objects(production, "by_day")),
        }


def undisturbed(shop: Shop, exit_code: int = 0) -> dict[str, object]:
    """What one run over all days comes to."""
    home = shop.folder / "undisturbed"
    done = conftest.dataops(["run", "--partitions", f"{shop.days[0]}..{shop.days[-1]}"], home, shop.project)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return shop.state(home)


def daemon_of(ui: UI) -> psutil.Process:
    """Dagster's daemon."""
    for process in psutil.Process(ui.pid).children():
        with suppress(psutil.ZombieProcess):
            if "dagster._daemon" in process.cmdline():
                return process
    raise LookupError("there is no daemon")


def power_cut(ui: UI) -> None:
    """Every process of `dataops ui` is killed, and the runs that it began."""
    server = psutil.Process(ui.pid)
    for process in [server, *server.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def materialised(shop: Shop) -> dict[str, set[str]]:
    """Asset → the days that Dagster knows to be materialised."""
    keys = ["raw/orders", "staging/orders", "by_day", "transformed/by_day", "production/by_day"]
    with shop.instance() as instance:
        return {key: set(instance.get_materialized_partitions(dg.AssetKey(key.split("/")))) for key in keys}


@pytest.fixture(autouse=True)
def _event_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the instance's configuration names it."""
    monkeypatch.setenv("DATAOPS_EVENT_LOG", str(tmp_path / "home" / "dagster" / "events"))


@pytest.mark.timeout(900)
def test_a_run_is_killed(tmp_path):
    """After the load, before anything is judged, built or published."""
    shop = Shop(tmp_path, 1)
    shop.looks_often()
    (day,) = shop.days
    with shop.serve() as ui:
        shop.launch(ui, day, Death("STEP_SUCCESS staging__orders"))
        shop.ends(day, {2})
    converged(shop)


def converged(shop: Shop, exit_code: int = 0, refused: Set[str] = frozenset()) -> None:
    assert shop.state(shop.home) == undisturbed(shop, exit_code)
    days = set(shop.days) - refused
    assert materialised(shop) == dict.fromkeys(materialised(shop), days)


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_every_boundary_and_random_times(tmp_path):
    """Each day's run is killed twice: at a boundary of its first half, and then at one of its second."""
    shop, source = Shop(tmp_path, 20), random.Random(1)
    first, *days = shop.days
    with shop.serve() as ui:
        shop.launch(ui, first)
        shop.ends(first, {1})
        boundaries = shop.boundaries(first)
        assert len(boundaries) == 2 + 2 * 12
        half = len(boundaries) // 2
        for early, late in zip(boundaries[:half], boundaries[half:], strict=True):
            day = days.pop(0)
            shop.launch(ui, day, Death(early), Death(late))
            if late == "PIPELINE_SUCCESS":  # no step is left: Dagster begins nothing again, and the run stays failed
                shop.ends(day, {2}, dg.DagsterRunStatus.FAILURE)
            else:
                shop.ends(day, {3})
        for day in days:
            shop.launch(ui, day, *(Death("PIPELINE_START", source.uniform(0.1, 4)) for _ in range(2)))
            shop.ends(day, {1, 2, 3})
        assert any(len(shop.runs(day)) > 1 for day in days)
    converged(shop)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_power_is_cut(tmp_path):
    """Everything dies at once: web server, daemon, code server and run. Started again, the run is found dead."""
    shop = Shop(tmp_path, 5)
    moments = [
        "",
        "PIPELINE_START",
        "STEP_START staging__orders",
        "STEP_START dbt_build",
        "STEP_START production__by_day",
    ]
    for day, moment in zip(shop.days, moments, strict=True):
        with shop.serve() as ui:
            for earlier in shop.days[: shop.days.index(day)]:
                shop.ends(earlier, {1, 2})
            shop.launch(ui, day)
            if moment:
                shop.reaches(day, moment)
            power_cut(ui)
    with shop.serve():
        for day in shop.days:
            shop.ends(day, {1, 2})
        # On a busy machine, the last step may be done by the time that everything dies.
        assert [len(shop.runs(day)) for day in shop.days[1:-1]] == [2, 2, 2]
    converged(shop)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_daemon_is_killed(tmp_path):
    """Only the daemon: `dataops ui` ends with it, and is started again."""
    shop = Shop(tmp_path, 2)
    for day in shop.days:
        with shop.serve() as ui:
            shop.launch(ui, day, Death("STEP_START dbt_build"))
            shop.reaches(day, "STEP_START staging__orders")
            daemon_of(ui).kill()
            psutil.Process(ui.pid).wait(60)
        with shop.serve():
            shop.ends(day, {1, 2, 3})
    converged(shop)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_what_a_dead_run_refused_is_not_forgotten(tmp_path):
    """The run that goes on fails for it, as the one would have that has died; and isn't begun again for that."""
    shop = Shop(tmp_path, 2)
    unreadable, bad = shop.days
    shop.source(unreadable).write_text("order_id,order_date\n1,2024-05-01\n")
    shop.source(bad).write_text(f"order_id,order_date,country,amount\n1,{bad},FR,-1.00\n2,{bad},FR,-1.00\n")
    with shop.serve() as ui:
        for day, death in ((unreadable, "STEP_START staging__orders"), (bad, "STEP_SUCCESS staging__orders")):
            shop.launch(ui, day, Death(death))
            shop.ends(day, {2}, dg.DagsterRunStatus.FAILURE)
        time.sleep(15)
        assert [len(shop.runs(day)) for day in shop.days] == [2, 2]
    assert "column 'country' is missing" in failure_of(shop, unreadable)
    assert "2 of 2 rows break blocking rules" in failure_of(shop, bad)


def failure_of(shop: Shop, day: str) -> str:
    """What a day's last run failed with."""
    run_id = shop.runs(day)[0].run_id
    with shop.instance() as instance:
        failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return "".join(str(entry.get_dagster_event().step_failure_data.user_failure_data) for entry in failures)
