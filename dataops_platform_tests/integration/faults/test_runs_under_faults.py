"""Whole runs, from delivery to production, under faults: each ends as the undisturbed one, or fails in words, with
nothing half-published; and a rerun ends as the undisturbed one.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import pytest
from google.cloud.storage import Client as StorageClient

from dataops_platform.contracts.model import LoadMode, RuleKind
from dataops_platform.contracts.problems import DataOpsError
from dataops_platform.contracts.types import Kind
from dataops_platform.transformation.build import build
from dataops_platform.transformation.dbt import NodeResult
from dataops_platform.transformation.models import Models
from dataops_platform.transformation.publish import publish, published_objects
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform.warehouse.names import Relation
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import storage_client
from dataops_platform_tests.emulators.fixtures import new_project, unique
from dataops_platform_tests.emulators.proxy import Call, Fault, Schedule, Seeded, calm
from dataops_platform_tests.fake_dbt import FakeModel
from dataops_platform_tests.integration.faults.conftest import Cloud
from dataops_platform_tests.support import DAY1, DAY2, daily, moment, rule, table

pytestmark = pytest.mark.cloud

ORDERS = table(
    "orders", {"day": Kind.DATE, "id": Kind.INTEGER, "customer": Kind.INTEGER, "amount": Kind.INTEGER},
    mode=LoadMode.MERGE, key=["id"], partitioning=daily(),
    rules=[rule("positive", RuleKind.RANGE, "amount", minimum=0), rule("id_required", RuleKind.NOT_NULL, "id")],
)  # fmt: skip
CUSTOMERS = table(
    "customers", {"id": Kind.INTEGER, "name": Kind.STRING}, mode=LoadMode.REPLACE,
    rules=[rule("name_required", RuleKind.NOT_NULL, "name")],
)  # fmt: skip
TABLES = {"orders": ORDERS, "customers": CUSTOMERS}
FCT = FakeModel(
    "fct",
    "SELECT o.day, o.id, c.name, o.amount FROM staging.orders AS o JOIN staging.customers AS c ON c.id = o.customer",
    ("orders", "customers"),
    tests={"sold": "SELECT day FROM analytics.fct WHERE amount > 1000"},
)


def order(day, number, customer, amount):
    return {"day": day, "id": number, "customer": customer, "amount": amount}


RATE = 0.06
"""Of requests that meet a fault."""
LASTING = [Fault.UNAVAILABLE, Fault.RESET, Fault.LOST, Fault.TRUNCATED]
DELIVERIES = [
    (CUSTOMERS, "all", [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
    (ORDERS, DAY1, [order(DAY1, 1, 1, 10), order(DAY1, 2, 2, -5), order(DAY1, 3, 2, 7)]),
    (ORDERS, DAY2, [order(DAY2, 4, 1, 20), order(DAY2, None, 1, 2)]),
    (ORDERS, DAY1, [order(DAY1, 1, 1, 11)]),
]


class SqlDbt:
    """In place of dbt: one model as plain SQL, and its tests, past the proxy: dbt's own faults aren't ours."""

    def __init__(self, home: CloudHome) -> None:
        self._home = home
        self.read = Models((FCT.model,))

    def build(self, select: Sequence[str], partitions: object, on_event: object = None) -> list[NodeResult]:
        client = self._home.warehouse.jobs.client
        client.create_dataset("analytics", exists_ok=True)
        client.query(f"CREATE OR REPLACE TABLE analytics.fct PARTITION BY day AS {FCT.sql}").result()
        results = [NodeResult("model.fct", "success", None, "", FCT.sql, 0.0)]
        for name, sql in (FCT.tests or {}).items():
            count = len(self._home.rows(sql))
            results.append(NodeResult(f"test.{name}", "fail" if count else "pass", count, "", sql, 0.0))
        return results


def whole_run(home: CloudHome, dbt: SqlDbt) -> None:
    """Deliver, load, judge, build and publish. What an earlier run has done already is done once."""
    for number, (t, partition, rows) in enumerate(DELIVERIES):
        home.deliver(t, rows, partition=partition, at=moment(number))
    for t in TABLES.values():
        outcomes = home.load(t)
        assert not any(outcome.refused for outcome in outcomes), outcomes
    for t in TABLES.values():
        home.judge(t)
    build(dbt, dbt.read, home.warehouse, TABLES, "run", ["fct"], None)
    done = publish(
        FCT.model, dbt.read, TABLES, home.warehouse, home.lake.store, home.production, None, "run"
    )  # fmt: skip
    assert not done.refusals, done.refusals


def records(home: CloudHome) -> list[dict[str, Any]]:
    return [json.loads(home.production.read(key)) for key in published_objects(home.production, "fct")]


def half_published(home: CloudHome) -> str | None:
    """What is in production without being whole."""
    if not home.warehouse.exists(Relation("dataops", "publications")):
        return None
    ledger = Ledger(home.warehouse).published(["fct"])["fct"]
    there = home.warehouse.exists(Relation("production", "fct"))
    days = {str(day) for (day,) in home.rows("SELECT DISTINCT day FROM production.fct")} if there else set()
    if days != set(ledger):
        return f"production has {days}, the ledger {ledger}"
    for record in records(home):
        if ledger.get(record["partition"]) != record["data_version"]:
            return f"{record} is not what the ledger has: {ledger}"
        if not all(home.production.stat(key) for key in record["objects"]):
            return f"{record} has no objects"
    return None


def state(home: CloudHome) -> dict[str, list[str]]:
    """What a run comes to, without times and the ids that come of them."""
    known: Mapping[str, str] = {
        str(delivery.load_id): f"{t.name} {delivery.created_at}"
        for t in TABLES.values()
        for delivery in (home.lake.read(ref.key) for ref in home.lake.manifests(t.name))
    }

    def found(sql: str) -> list[str]:
        lines = []
        for row in home.rows(sql):
            text = repr(row)
            for name, neutral in known.items():
                text = text.replace(name, neutral)
            lines.append(text)
        return sorted(lines)

    newest = "QUALIFY ROW_NUMBER() OVER (PARTITION BY {} ORDER BY {} DESC) = 1"
    verdict = newest.format("object_name, partition_key, rule_id", "evaluated_at")
    objects = [
        repr(tuple(row.values()))
        for record in records(home)
        for key in record["objects"]
        for row in pq.read_table(io.BytesIO(home.production.read(key))).to_pylist()
    ]
    return {
        "orders": found("SELECT * EXCEPT (_updated_at) FROM staging.orders"),
        "customers": found("SELECT * EXCEPT (_updated_at) FROM staging.customers"),
        "quarantine": found("SELECT * EXCEPT (_updated_at, _quarantined_at) FROM quarantine.orders"),
        "loads": found("SELECT * EXCEPT (loaded_at) FROM dataops.loads"),
        "refusals": found("SELECT * FROM dataops.refusals"),
        "verdicts": found(
            "SELECT object_name, partition_key, rule_id, passed, observed, failed_rows, scanned_rows"
            f" FROM dataops.verdicts {verdict}"
        ),
        "builds": found(
            "SELECT model, partition_key, data_version, row_count FROM dataops.builds "
            + newest.format("model, partition_key", "built_at")
        ),
        "publications": found("SELECT model, partition_key, data_version, row_count FROM dataops.publications"),
        "production": found("SELECT day, id, name, amount FROM production.fct"),
        "objects": sorted(objects),
    }


@dataclass(frozen=True)
class Trouble:
    """Seeded faults; and a call type that fails for good from some request on, if so."""

    faults: Seeded
    outage: tuple[Call, int, Fault] | None = None

    def __call__(self, call: Call, number: int) -> Fault | None:
        if self.outage is not None and call is self.outage[0] and number >= self.outage[1]:
            return self.outage[2]
        return self.faults(call, number)


def troubles(seed: int, requests: Sequence[tuple[Call, int]]) -> list[Schedule]:
    """Of a run and of its reruns: every third run meets an outage, and the last rerun nothing."""
    source = random.Random(seed)
    call, count = source.choice(requests)
    outage = (call, source.randrange(count), source.choice(LASTING)) if seed % 3 == 0 else None
    return [Trouble(Seeded(seed, RATE), outage), Trouble(Seeded(seed + 1000, RATE)), calm]


@contextmanager
def place(cloud: Cloud) -> Iterator[tuple[CloudHome, CloudHome, SqlDbt]]:
    """A new project and bucket: past the proxies, and through them."""
    storage: StorageClient = storage_client(cloud.gcs)
    bucket = storage.create_bucket(unique("bucket")).name
    with new_project(cloud.bigquery) as project:
        direct = cloud.home(project, bucket, False)
        yield direct, cloud.home(project, bucket, True), SqlDbt(direct)


@dataclass(frozen=True)
class Calm:
    """What an undisturbed run comes to, and the requests that it is made of."""

    state: dict[str, list[str]]
    requests: list[tuple[Call, int]]


@pytest.fixture(scope="module")
def undisturbed(cloud: Cloud) -> Calm:
    with place(cloud) as (direct, through, dbt):
        with cloud.proxy.faults(calm), cloud.gcs_proxy.faults(calm):
            whole_run(through, dbt)
            requests = cloud.proxy.seen + cloud.gcs_proxy.seen
        return Calm(state(direct), sorted(requests.items()))


def carry_out(cloud: Cloud, undisturbed: Calm, seed: int) -> tuple[int, int]:
    """One run under faults, and reruns until one ends well: faults that were met, and runs that failed."""
    met = failed = 0
    with place(cloud) as (direct, through, dbt):
        for schedule in troubles(seed, undisturbed.requests):
            with cloud.proxy.faults(schedule) as faults, cloud.gcs_proxy.faults(schedule) as lake_faults:
                try:
                    whole_run(through, dbt)
                    ended = True
                except DataOpsError:
                    ended = False
            met += faults.total() + lake_faults.total()
            assert half_published(direct) is None, (seed, schedule)
            if ended:
                assert state(direct) == undisturbed.state, (seed, schedule)
                return met, failed
            failed += 1
    raise AssertionError(f"run {seed} failed without a fault")


def test_some_runs(cloud, undisturbed):
    found = [carry_out(cloud, undisturbed, seed) for seed in range(1)]
    assert all(met for met, _ in found)


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_many_runs(cloud, undisturbed):
    found = [carry_out(cloud, undisturbed, seed) for seed in range(50)]
    assert sum(met for met, _ in found) >= 200
    assert sum(failed for _, failed in found) >= 5
    assert sum(failed == 0 for _, failed in found) >= 10
