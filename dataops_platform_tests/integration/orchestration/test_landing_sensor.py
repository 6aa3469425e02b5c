"""Landing in Dagster: the sensor asks, the raw asset delivers, and what can't be read stops nothing else."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.alerts import facts
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.landing_scan import Ask
from dataops_platform.lake import Lake
from dataops_platform.orchestration import alerting, rows_left, runs
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.orchestration.landing_sensor import landing_sensor
from dataops_platform.orchestration.refused import CHECK
from dataops_platform.orchestration.run_requests import grouped
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform.transformation.models import Models
from dataops_platform_tests.integration.orchestration.conftest import instance, settings_of
from dataops_platform_tests.integration.orchestration.sales import statuses
from dataops_platform_tests.readme import own_table_files

SERVER = """\
servers:
  - server: inbox
    type: local
    path: {path}
    format: csv
    customProperties:
      - {{property: objectPattern, vendor: dataops, value: 'orders/dt={{partition}}/*.csv'}}
schema:
"""
HEAD = "order_id,order_date,country,amount\n"


def project(
    folder: Path, path: str = "landing", environment: str | None = None, kind: str = "csv", mode: str = "merge"
) -> Path:
    """The README's own table, whose files others write."""
    (text,) = [text for name, text in own_table_files().items() if name.startswith("contracts")]
    source = next(line for line in text.splitlines(keepends=True) if "property: source" in line)
    server = SERVER.format(path=path).replace("csv", kind)
    if environment:
        server = server.replace("    type: local\n", f"    type: local\n    environment: {environment}\n")
    text = (
        text.replace(source, "")
        .replace("value: merge", f"value: {mode}")
        .replace("start: 2024-05-01", "start: 2024-05-01, end: 2024-05-31")
    )
    (folder / "contracts").mkdir(parents=True)
    (folder / "contracts" / "orders.odcs.yaml").write_text(text.replace("schema:\n", server, 1))
    return folder


class Shop:
    def __init__(self, folder: Path, kind: str = "csv", mode: str = "merge") -> None:
        self.settings = settings_of(project(folder / "shop", kind=kind, mode=mode), folder / "home")
        self.definitions = build_definitions(self.settings)
        self.repository = self.definitions.get_repository_def()
        self.sensor = self.repository.get_sensor_def("landing_orders")
        self.cursor: str | None = None

    def write(self, day: int, name: str = "a.csv", text: str | None = None, ago: float = 60) -> Path:
        path = self.settings.project / "landing" / "orders" / f"dt=2024-05-{day:02d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + f"{day},2024-05-{day:02d},FR,1.50\n" if text is None else text)
        os.utime(path, (time.time() - ago, time.time() - ago))
        return path

    def tick(self, dagster: dg.DagsterInstance) -> dg.SensorResult:
        """One evaluation, as the daemon makes it, with the cursor of the last one."""
        resources = {"platform": self.definitions.resources["platform"]}
        context = dg.build_sensor_context(
            dagster, cursor=self.cursor, repository_def=self.repository, resources=resources
        )
        found = self.sensor.evaluate_tick(context)
        self.cursor = found.cursor
        return found

    def run(self, request: dg.RunRequest, dagster: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        job = self.repository.get_job(request.job_name)
        chosen = job.get_subset(asset_selection=frozenset(request.asset_selection))
        tags = dict(request.tags) | ({"dagster/partition": request.partition_key} if request.partition_key else {})
        return chosen.execute_in_process(instance=dagster, tags=tags, run_config=runs.QUIET, raise_on_error=False)

    def staged(self) -> list[int]:
        warehouse = self.settings.warehouse()
        found = warehouse.query("SELECT order_id FROM staging.orders ORDER BY 1").to_pylist()
        return [row["order_id"] for row in found]


def days(dagster: dg.DagsterInstance, key: dg.AssetKey, shop: Shop) -> tuple[list[int], list[int]]:
    """Materialised and failed days."""
    return statuses(dagster, key, shop.definitions)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_from_landing_to_staging(shop, tmp_path):
    for day in (1, 5, 6, 7, 8):
        shop.write(day)
    shop.write(1, "b.csv", HEAD + "11,2024-05-01,DE,2\n")
    shop.write(1, "readme.txt", "hello")
    with instance(tmp_path / "dagster") as dagster:
        requests = shop.tick(dagster).run_requests
        assert [(r.partition_key, r.tags.get("dagster/asset_partition_range_start")) for r in requests] == [
            ("2024-05-01", None), (None, "2024-05-05")
        ]  # fmt: skip
        assert requests[0].run_key.startswith("orders|2024-05-01|")
        assert requests[1].run_key.startswith("orders|2024-05-05..2024-05-08|")
        assert {r.tags["dataops/landing"] for r in requests} == {"orders"}
        again = shop.tick(dagster)
        assert again.run_requests == []
        assert "under way" in again.skip_message
        for request in requests:
            result = shop.run(request, dagster)
            assert result.success
            checked = {event.check_name for event in result.get_asset_check_evaluations()}
            assert {CHECK, "volume", "primary_key"} <= checked
        assert shop.staged() == [1, 5, 6, 7, 8, 11]
        assert len(list(Lake(shop.settings.lake_store()).manifests("orders"))) == 5
        assert dagster.get_materialized_partitions(raw_key("orders")) == {f"2024-05-0{day}" for day in (1, 5, 6, 7, 8)}
        quiet = shop.tick(dagster)
        assert quiet.run_requests == []
        assert "0 new objects" in quiet.skip_message
        shop.cursor = None
        lost = shop.tick(dagster)
        assert lost.run_requests == []
        assert "1 that don't belong: orders/dt=2024-05-01/readme.txt" in lost.skip_message


def test_files_that_are_still_being_written_are_asked_for_at_the_next_tick(shop, tmp_path):
    """Each is counted once, and the cursor, as Dagster keeps it, remembers them."""
    days = (1, 2, 3, 4, 5, 9)
    written = [
        shop.write(day, ago=-3600) for day in days
    ]  # a time ahead of now: just written, however slow the test is
    with instance(tmp_path / "dagster") as dagster:
        first = shop.tick(dagster)
        assert first.run_requests == []
        assert "6 still being written" in first.skip_message
        for path in written:
            os.utime(path, (time.time() - 60, time.time() - 60))
        requests = shop.tick(dagster).run_requests
    assert [r.partition_key or r.tags["dagster/asset_partition_range_start"] for r in requests] == [
        "2024-05-01", "2024-05-09"
    ]  # fmt: skip


def test_what_can_not_be_read_stops_nothing_else(shop, tmp_path, monkeypatch):
    shop.write(1)
    bad = shop.write(1, "bad.csv", "nonsense\n")
    with instance(tmp_path / "dagster") as dagster:
        (request,) = shop.tick(dagster).run_requests
        result = shop.run(request, dagster)
        assert not result.success
        checked = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert not checked[CHECK].passed
        assert "bad.csv: column 'order_id' is missing" in checked[CHECK].description
        assert shop.staged() == [1]
        # What else had landed is loaded, and shown so; that not all of the day is delivered shows where it landed.
        assert days(dagster, staging_key("orders"), shop) == ([1], [])
        assert days(dagster, raw_key("orders"), shop) == ([], [1])
        (failure,) = [runs.step_failure(event) for event in result.all_events if event.is_step_failure]
        assert failure.step == "deliveries"
        assert (failure.refused, failure.unexpected) == (True, False)
        # Known from now on: no noise, and no run.
        found = shop.tick(dagster)
        assert found.run_requests == []
        assert "1 refused before" in found.skip_message
        again = shop.run(request, dagster)
        assert again.success
        assert all(e.passed for e in again.get_asset_check_evaluations())
        assert days(dagster, raw_key("orders"), shop) == ([], [1])
        columns = "table_name, partition_key, manifest, run_id, file"
        rows = shop.settings.warehouse().query(f"SELECT {columns} FROM dataops.refusals").to_pylist()
        assert [tuple(row.values()) for row in rows] == [
            ("orders", "2024-05-01", None, result.run_id, f"{bad}#{bad.stat().st_mtime_ns}")
        ]
        # A run that goes on with the one that found it says so: that one may have died before it did.
        monkeypatch.setattr("dataops_platform.orchestration.refused.earlier_runs", lambda context: {result.run_id})
        assert not shop.run(request, dagster).success
        monkeypatch.undo()
        shop.write(1, "c.csv", HEAD + "12,2024-05-01,DE,2\n")  # what lands later stands for it
        (request,) = shop.tick(dagster).run_requests
        assert shop.run(request, dagster).success
        assert days(dagster, raw_key("orders"), shop) == ([1], [])
        bad.unlink()
        assert shop.run(request, dagster).success
        assert days(dagster, raw_key("orders"), shop) == ([1], [])


def test_a_refused_object_is_told_until_it_is_taken_away(shop, tmp_path):
    bad = shop.write(1, "bad.csv", "nonsense\n")
    about = alerting.subjects(load_contracts(shop.settings.contracts), Models(()))

    def told() -> list[tuple[str, str]]:
        before = facts.told(shop.settings.warehouse(), ["log"])["log"].open
        alerting.tell(dagster, shop.settings, about)
        after = facts.told(shop.settings.warehouse(), ["log"])["log"].open
        return sorted([("open", after[key].kind) for key in after.keys() - before.keys()]) + sorted(
            [("recovered", before[key].kind) for key in before.keys() - after.keys()]
        )

    with instance(tmp_path / "dagster") as dagster:
        (request,) = shop.tick(dagster).run_requests
        assert not shop.run(request, dagster).success
        assert told() == [("open", "delivery_refused"), ("open", "run_failed")]
        assert shop.run(request, dagster).success  # known: no failure, but nothing is well
        assert told() == []
        folder = shop.settings.project / "landing"
        folder.rename(shop.settings.project / "not mounted")  # whether it is still there, nobody knows
        assert shop.run(request, dagster).success
        assert told() == []
        (shop.settings.project / "not mounted").rename(folder)
        shop.write(1, "c.csv", HEAD + "12,2024-05-01,DE,2\n")  # doesn't bring the rows of the bad one
        assert shop.run(request, dagster).success
        assert shop.staged() == [12]
        assert told() == []
        bad.unlink()
        assert shop.run(request, dagster).success
        assert told() == [("recovered", "delivery_refused"), ("recovered", "run_failed")]


def test_a_file_that_is_damaged_inside_stops_nothing_else(tmp_path, monkeypatch):
    """Its footer is good: that it can't be read shows when it is loaded, with the others that landed with it."""
    shop = Shop(tmp_path, "parquet")
    types = {"order_id": pa.int64(), "order_date": pa.date32(), "country": pa.string(), "amount": pa.decimal128(10, 2)}

    def land(name: str, first: int, damaged: bool = False) -> None:
        ids = list(range(first, first + 2000))
        columns = [ids, [date(2024, 5, 1)] * 2000, ["FR"] * 2000, [Decimal(i) for i in ids]]
        sink = io.BytesIO()
        pq.write_table(pa.table(columns, schema=pa.schema(list(types.items()))), sink)
        data = bytearray(sink.getvalue())
        if damaged:
            data[500:700] = bytes(255 - byte for byte in data[500:700])
        path = shop.write(1, name)
        path.write_bytes(data)
        os.utime(path, (time.time() - 60, time.time() - 60))

    land("a.parquet", 0)
    land("b.parquet", 5000, damaged=True)
    with instance(tmp_path / "dagster") as dagster:
        (request,) = shop.tick(dagster).run_requests
        result = shop.run(request, dagster)
        assert not result.success
        checked = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert not checked[CHECK].passed
        assert "orders/dt=2024-05-01/b.parquet: a damaged parquet file: " in checked[CHECK].description
        assert len(shop.staged()) == 2000
        assert days(dagster, raw_key("orders"), shop) == ([1], [])
        assert days(dagster, staging_key("orders"), shop) == ([], [1])
        (failure,) = [runs.step_failure(event) for event in result.all_events if event.is_step_failure]
        assert (failure.step, failure.refused, failure.unexpected) == ("deliveries", True, False)
        # Said once; and by a run that goes on with this one, which may have died before it said so.
        assert shop.tick(dagster).run_requests == []
        assert shop.run(request, dagster).success
        assert days(dagster, staging_key("orders"), shop) == ([], [1])
        with monkeypatch.context() as patch:
            patch.setattr("dataops_platform.orchestration.refused.earlier_runs", lambda context: {result.run_id})
            assert not shop.run(request, dagster).success

        land("b.parquet", 5000)
        (request,) = shop.tick(dagster).run_requests
        assert shop.run(request, dagster).success
        assert len(shop.staged()) == 4000
        assert days(dagster, staging_key("orders"), shop) == ([1], [])


def test_a_partition_that_rows_have_left_is_told(shop, tmp_path, monkeypatch):
    """Conditions make what is made of it anew; its verdicts are of the rows that are left."""
    shop.write(1, text=HEAD + "1,2024-05-01,FR,1.50\n2,2024-05-01,FR,1.50\n")
    with instance(tmp_path / "dagster") as dagster:
        (request,) = shop.tick(dagster).run_requests
        assert shop.run(request, dagster).success
        shop.write(2, text=HEAD + "2,2024-05-02,FR,1.50\n")
        (request,) = shop.tick(dagster).run_requests
        result = shop.run(request, dagster)
        assert result.success
        found = dagster.fetch_materializations(staging_key("orders"), limit=9).records
        assert sorted((r.partition_key, r.run_id == result.run_id) for r in found) == [
            ("2024-05-01", False), ("2024-05-01", False), ("2024-05-02", True)
        ]  # fmt: skip
        judged = shop.settings.warehouse().query(
            "SELECT DISTINCT partition_key FROM dataops.verdicts"
            f" WHERE run_id = '{result.run_id}' AND scanned_rows = 1 ORDER BY 1"
        )
        assert judged.column(0).to_pylist() == ["2024-05-01", "2024-05-02"]
        # Where there are no conditions, the sensor asks for what is made of it; once.
        (request,) = shop.tick(dagster).run_requests
        assert (request.partition_key, staging_key("orders") in request.asset_selection) == ("2024-05-01", True)
        assert shop.run(request, dagster).success
        assert shop.tick(dagster).run_requests == []
        # A run that died before it told of them is gone on with by one that does.
        with monkeypatch.context() as patch:
            patch.setattr("dataops_platform.orchestration.refused.earlier_runs", lambda context: {result.run_id})
            assert runs.execute(shop.repository.get_job("pipeline"), dagster, ("2024-05-02", "2024-05-02")).success
        assert [again.partition_key for again in shop.tick(dagster).run_requests] == ["2024-05-01"]
        following = landing_sensor(
            shop.definitions.resources["platform"].tables["orders"], shop.definitions.jobs, by_conditions=True
        )
        shop.cursor, shop.sensor = None, following
        assert shop.tick(dagster).run_requests == []


def test_rows_that_left_a_partition_which_failed_or_is_no_more(shop, tmp_path):
    """It stays failed; and who looks for it asks for no partition that the contract doesn't have."""
    shop.write(1, text=HEAD + "1,2024-05-01,FR,1.50\n2,2024-05-01,FR,1.50\n")
    with instance(tmp_path / "dagster") as dagster:
        (request,) = shop.tick(dagster).run_requests
        assert shop.run(request, dagster).success
        shop.write(1, "b.csv", HEAD + "3,2024-05-01,FR,1.50\n")
        (request,) = shop.tick(dagster).run_requests
        alone = dg.RunRequest(
            job_name="pipeline", asset_selection=[raw_key("orders")], partition_key="2024-05-01", tags={}
        )
        shop.run(alone, dagster)
        lake = Lake(shop.settings.lake_store())
        *_, newest = lake.manifests("orders")
        damaged = Path(lake.store.uri(lake.read(newest.key).objects[0].key))
        damaged.unlink()
        damaged.write_bytes(b"nothing")
        assert not shop.run(request, dagster).success
        shop.write(2, text=HEAD + "2,2024-05-02,FR,1.50\n")
        (request,) = shop.tick(dagster).run_requests
        assert shop.run(request, dagster).success
        assert days(dagster, staging_key("orders"), shop) == ([1, 2], [1])  # failed since it was materialised
        table = shop.definitions.resources["platform"].tables["orders"]
        asks, last = rows_left.left(dagster, table, 0)
        assert [ask.partition for ask in asks] == ["2024-05-01"]
        later = replace(table, partitioning=replace(table.partitioning, start=date(2024, 5, 2)))
        assert rows_left.left(dagster, later, 0) == ([], last)
        assert rows_left.left(dagster, table, last) == ([], last)


def test_what_replaces_others_that_landed_is_told(tmp_path):
    """Where deliveries replace, what lands later for a day is all there is of it: perhaps it was meant to be a part."""
    shop = Shop(tmp_path, mode="replace")
    span = ("2024-05-01", "2024-05-01")
    with instance(tmp_path / "dagster") as dagster:
        said = []
        for name, number in (("a.csv", 1), ("b.csv", 2)):
            shop.write(1, name, HEAD + f"{number},2024-05-01,FR,1.50\n")
            outcome = runs.execute(shop.repository.get_job("pipeline"), dagster, span)
            messages = [
                entry.user_message for entry in dagster.all_logs(outcome.run_id) if entry.level == logging.WARNING
            ]
            said.append([text for text in messages if "loadMode" in text])
    assert shop.staged() == [2]
    (first, (second,)) = said
    assert first == []
    assert second == (
        "orders 2024-05-01: what landed now replaces what was there (loadMode: replace), without"
        " orders/dt=2024-05-01/a.csv, which landed before. What belongs together must land together, as one object at"
        " best"
    )


def test_a_run_takes_on_no_more_partitions_than_the_contract_allows(shop):
    table = shop.definitions.resources["platform"].tables["orders"]
    asks = [Ask(f"2024-05-{day:02}", 1, "x") for day in range(1, 12)]
    assert [len(group) for group in grouped(table, asks)] == [11]
    assert [len(group) for group in grouped(replace(table, partitions_per_run=4), asks)] == [4, 4, 1, 1, 1]


def test_by_hand(shop, tmp_path):
    """A click, or a backfill, delivers what has landed for the partitions asked, without any sensor."""
    for day in (1, 2, 3):
        shop.write(day)
    job = shop.repository.get_job("pipeline")
    with instance(tmp_path / "dagster") as dagster:
        done = runs.execute(job, dagster, ("2024-05-01", "2024-05-02"), {raw_key("orders"), staging_key("orders")})
        assert done.success
        assert shop.staged() == [1, 2]
        assert [r.partition_key for r in shop.tick(dagster).run_requests] == ["2024-05-03"]


def test_a_landing_folder_that_is_not_there_is_told(shop, tmp_path):
    with instance(tmp_path / "dagster") as dagster:
        folder = shop.settings.project / "landing"
        assert shop.tick(dagster).skip_message == f"there is no folder {folder}: nothing can land"
        shop.write(1)
        assert len(shop.tick(dagster).run_requests) == 1


def test_a_cursor_that_can_not_be_read_is_the_beginning(shop, tmp_path):
    shop.write(1)
    shop.cursor = "what?"
    with instance(tmp_path / "dagster") as dagster:
        assert [r.partition_key for r in shop.tick(dagster).run_requests] == ["2024-05-01"]
        assert json.loads(shop.cursor)["newest"] == "2024-05-01"


def test_where_nothing_lands_there_is_no_sensor(tmp_path):
    settings = settings_of(project(tmp_path / "shop", environment="production"), tmp_path / "home")
    repository = build_definitions(settings).get_repository_def()
    assert not repository.has_sensor_def("landing_orders")
    with instance(tmp_path / "dagster") as dagster:
        assert runs.execute(repository.get_job("pipeline"), dagster, ("2024-05-01", "2024-05-01")).success


def test_landing_is_apart_from_the_lake(tmp_path):
    folder = project(tmp_path / "shop", path="home")
    contract = folder / "contracts" / "orders.odcs.yaml"
    contract.write_text(contract.read_text().replace("orders/dt={partition}/*.csv", "lake/raw_orders/*/{partition}.*"))
    settings = settings_of(folder, folder / "home")
    (table,) = build_definitions(settings).resources["platform"].tables.values()
    with pytest.raises(ConfigError, match=r"orders\.odcs\.yaml:13: objects of the lake .* name a place apart from it"):
        settings.place(table)
