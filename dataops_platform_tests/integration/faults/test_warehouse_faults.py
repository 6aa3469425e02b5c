"""The warehouse on BigQuery under faults of every kind, on every call that it makes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.contracts.model import LoadMode, RuleKind
from dataops_platform.contracts.types import Kind
from dataops_platform.lake import Delivery
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import ModelSlice, PublicationItem, Window
from dataops_platform.warehouse.names import Relation
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.emulators.proxy import Call, Proxy, sensible
from dataops_platform_tests.faults import Operation, Undisturbed, check
from dataops_platform_tests.integration.faults.conftest import PATIENCE, Cloud
from dataops_platform_tests.support import DAY1, DAY2, daily, moment, rule, table

pytestmark = pytest.mark.cloud

CALLS = {
    Call.LOAD, Call.QUERY_JOB, Call.LOAD_UPLOAD, Call.EXTRACT, Call.COPY, Call.QUERY_RESULTS, Call.TABLE_GET,
    Call.TABLE_INSERT, Call.TABLE_PATCH, Call.TABLE_DELETE,
}  # fmt: skip
"""Those that are certain to come. Others depend on how quick the server is, or on faults before them."""

COLUMNS = {"day": Kind.DATE, "id": Kind.INTEGER, "name": Kind.STRING, "v": Kind.INTEGER}
RULES = (rule("v_range", RuleKind.RANGE, "v", minimum=0), rule("name_required", RuleKind.NOT_NULL, "name"))


def rows(day, *values):
    return [{"day": day, "id": number, "name": name, "v": v} for number, name, v in values]


class Place:
    """A table of its own, with deliveries in the lake; `home` goes through the proxy."""

    def __init__(self, seen: CloudHome, home: CloudHome, name: str, mode: LoadMode) -> None:
        key = ("id",) if mode is LoadMode.MERGE else ()
        self.seen, self.home = seen, home
        self.home.lake = self.seen.lake  # of the warehouse only
        self.table = table(name, COLUMNS, mode=mode, key=key, partitioning=daily(), rules=RULES)
        self.model = ModelSlice(f"m_{name}", Relation("analytics", f"m_{name}"), "day")
        self.deliveries: list[Delivery] = []

    def deliver(self) -> None:
        self.seen.warehouse.ensure([self.table])
        seen = self.seen
        self.deliveries = [
            seen.deliver(
                self.table, rows(DAY1, (1, "a", 1), (2, "b", -1)), rows(DAY1, (1, "c", 4)), partition=DAY1, at=moment(1)
            ),
            seen.deliver(self.table, rows(DAY2, (1, "a", 1), (3, None, 1)), partition=DAY2, at=moment(2)),
            seen.deliver(self.table, rows(DAY2, (4, "d", 1)), partition="2023-01-01", at=moment(3)),
        ]

    def build(self, number: int = 1) -> None:
        client = self.seen.warehouse.jobs.client
        client.create_dataset("analytics", exists_ok=True)
        client.query(
            f"CREATE OR REPLACE TABLE analytics.{self.model.model} PARTITION BY day AS"
            f" SELECT DATE '2024-01-01' AS day, {number} AS id UNION ALL SELECT DATE '2024-01-02', 2"
        ).result()

    def publish(self) -> None:
        self._publish(self.home, "publication " + self.model.model)

    def _publish(self, home: CloudHome, publication: str) -> None:
        versions = home.warehouse.model_versions(self.model, None)
        items = [PublicationItem(key, version.data_version, "x") for key, version in versions.items()]
        home.warehouse.publish(self.model, items, publication, "run")

    def build_after_publication(self) -> None:
        self.build()
        self._publish(self.seen, "first publication " + self.model.model)
        self.build(3)

    def export(self) -> dict[str, int]:
        versions = self.seen.warehouse.model_versions(self.model, None)
        store = self.seen.lake.store
        done = self.home.warehouse.export(self.model, versions, store, f"export/{self.model.model}/")
        return {
            key: sum(pq.read_table(pa.BufferReader(store.read(name))).num_rows for name in names)
            for key, names in done.items()
        }

    @property
    def result(self) -> Relation:
        """A table of a Python asset."""
        return Relation("analytics", f"r_{self.table.name}")

    def first_rows(self) -> None:
        self.seen.warehouse.jobs.client.create_dataset("analytics", exists_ok=True)
        self._write(self.seen, 1)

    def rows(self) -> None:
        self._write(self.home, 2)

    def _write(self, home: CloudHome, value: int) -> None:
        content = pa.table({"day": pa.array([DAY1] * 3, pa.date32()), "v": [value, value, None]})
        start = datetime(2024, 1, 1, tzinfo=UTC)
        home.warehouse.replace_rows(self.result, content, Window("day", start, start + timedelta(days=1)))

    def load(self) -> list[tuple]:
        done = self.home.load(self.table, self.deliveries)
        return [(o.delivery.partition, o.rows_loaded, o.rows_quarantined, o.refused, o.refused_before) for o in done]

    def neutral(self, text: str) -> str:
        """With neither names nor ids that are this place's own."""
        for number, delivery in enumerate(self.deliveries):
            text = text.replace(str(delivery.load_id), f"load {number}")
            text = text.replace(delivery.manifest, f"manifest {number}")
            for part, item in enumerate(delivery.objects):
                text = text.replace(item.key, f"object {number}.{part}")
        return text.replace(self.table.name, "table")

    def state(self) -> list[str]:
        """All that it has in the warehouse, row by row, without times."""
        name, model = self.table.name, self.model.model
        wanted = {
            Relation("staging", name): ("_updated_at", "TRUE"),
            Relation("quarantine", name): ("_updated_at, _quarantined_at", "TRUE"),
            Relation("dataops", "loads"): ("loaded_at", f"table_name = '{name}'"),
            Relation("dataops", "refusals"): ("refused_at", f"table_name = '{name}'"),
            Relation("dataops", "verdicts"): ("evaluated_at", f"object_name = '{name}'"),
            Relation("dataops", "publications"): ("published_at", f"model = '{model}'"),
            Relation("production", model): ("id", "TRUE"),
            self.result: ("day", "TRUE"),
        }
        there = [(r, *rest) for r, rest in wanted.items() if r.schema == "dataops" or self.seen.warehouse.exists(r)]
        rows = self.seen.rows(
            " UNION ALL ".join(
                f"SELECT '{str(relation).replace(name, 'table')}' AS t, TO_JSON_STRING(x) AS r"
                f" FROM (SELECT * EXCEPT ({times}) FROM {relation} WHERE {where}) AS x"
                for relation, times, where in there
            )
        )
        # A verdict that seemed not to be recorded is recorded again: of several, the newest counts.
        once = {row for row in rows if row[0] == "dataops.verdicts"}
        return sorted(self.neutral(repr(row)) for row in [*once, *(row for row in rows if row not in once)])


VERDICT = dict.fromkeys(ledger.TABLES["verdicts"]) | {"rule_id": "r", "evaluated_at": moment(1)}


def verdicts(place: Place) -> list[tuple]:
    row = VERDICT | {"object_name": place.table.name}
    place.home.warehouse.append("verdicts", pa.Table.from_pylist([row, row], schema=ledger.schema("verdicts")))
    return place.seen.rows(f"SELECT COUNT(*) FROM dataops.verdicts WHERE object_name = '{place.table.name}'")


def nothing(place: Place) -> None:
    """The place is ready."""


def loaded(place: Place) -> None:
    place.deliver()
    place.seen.load(place.table, place.deliveries)


def described(place: Place) -> None:
    place.seen.warehouse.ensure([place.table])
    place.table = replace(place.table, description="Another text.")


def ensured(place: Place) -> None:
    place.seen.warehouse.ensure([place.table])


Step = Callable[[Place], object]
ACTIONS: dict[str, tuple[LoadMode, Step, Step]] = {
    "ensure": (LoadMode.APPEND, nothing, lambda place: place.home.warehouse.ensure([place.table])),
    "refresh": (LoadMode.APPEND, described, lambda place: place.home.warehouse.ensure([place.table])),
    "append": (LoadMode.APPEND, Place.deliver, Place.load),
    "merge": (LoadMode.MERGE, Place.deliver, Place.load),
    "replace": (LoadMode.REPLACE, Place.deliver, Place.load),
    "query": (LoadMode.APPEND, loaded, lambda p: sorted(p.home.rows(f"SELECT id, v FROM staging.{p.table.name}"))),
    "exists": (LoadMode.APPEND, ensured, lambda p: p.home.warehouse.exists(Relation("staging", p.table.name))),
    "reset": (LoadMode.APPEND, loaded, lambda place: place.home.warehouse.reset(place.table)),
    "ledger": (LoadMode.APPEND, nothing, verdicts),
    "versions": (LoadMode.APPEND, Place.build, lambda p: p.home.warehouse.model_versions(p.model, None)),
    "publish": (LoadMode.APPEND, Place.build, Place.publish),
    "publish again": (LoadMode.APPEND, Place.build_after_publication, Place.publish),
    "export": (LoadMode.APPEND, Place.build, Place.export),
    "rows": (LoadMode.APPEND, Place.first_rows, Place.rows),
}


@pytest.fixture(scope="module")
def numbers():
    return count()


@pytest.fixture
def operations(cloud: Cloud, project: str, bucket_name: str, numbers) -> dict[str, Operation]:
    cloud.home(project, bucket_name, False).warehouse.ensure([])

    def operation(name: str) -> Operation:
        mode, prepare, act = ACTIONS[name]

        def scene() -> Place:
            seen, home = (cloud.home(project, bucket_name, disturbed) for disturbed in (False, True))
            place = Place(seen, home, f"t{next(numbers):05}", mode)
            prepare(place)
            home.warehouse._ensured.add("dataops")  # the ledger is there: see `test_a_new_project`
            return place

        return Operation(name, scene, act, Place.state)

    return {name: operation(name) for name in ACTIONS}


def carry_out(
    operation: Operation, proxy: Proxy, source: random.Random, share: int | None = None, met: Counter | None = None
) -> Counter:
    """The operation under faults; those that it met.

    Args:
        share: not in all cases, but in so many, and in those that are not among `met`.
    """
    wanted = Undisturbed.of(operation, proxy)
    cases = list(wanted.cases(source))
    if share is not None:
        new = [] if met is None else [case for case in cases if (case.call, case.fault) not in met]
        cases = [*new, *source.sample(cases, min(share, len(cases)))]
    return sum((check(operation, proxy, case, wanted, PATIENCE) for case in cases), Counter())


@pytest.mark.parametrize(("name", "share"), [("merge", 1), ("ledger", 2)])
def test_some_faults(cloud, operations, name, share):
    """Each operation under a few; all of them in the long suite."""
    assert carry_out(operations[name], cloud.proxy, random.Random(2), share)


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_every_call_under_every_fault(cloud, operations):
    met: Counter = Counter()
    for name, operation in operations.items():
        # Some are much like others.
        share = None if name in ("refresh", "merge", "reset", "ledger", "publish", "rows", "export") else 12
        met += carry_out(operation, cloud.proxy, random.Random(3), share, met)
    missed = {(call, fault) for call in CALLS for fault in sensible(call)} - set(met)
    assert not missed, sorted(missed)
    assert sum(met.values()) >= 500


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_new_project(cloud, bucket_name):
    """Datasets, the ledger and the locks, made under faults."""
    client = bigquery_client(cloud.bigquery, "health")

    def tables(project: str) -> list[tuple[str, str]]:
        made = [d.dataset_id for d in client.list_datasets(project)]
        return [(name, t.table_id) for name in sorted(made) for t in client.list_tables(f"{project}.{name}")]

    with ExitStack() as stack:

        def scene() -> tuple[str, CloudHome]:
            stack.close()  # each project slows the server down
            project = stack.enter_context(new_project(cloud.bigquery))
            return project, cloud.home(project, bucket_name, True)

        operation = Operation(
            "new project", scene, lambda place: place[1].warehouse.ensure([]), lambda place: tables(place[0])
        )
        met = carry_out(operation, cloud.proxy, random.Random(4))
    calls = {Call.DATASET_GET, Call.DATASET_INSERT, Call.TABLE_INSERT}
    assert {(call, fault) for call in calls for fault in sensible(call)} <= set(met)
