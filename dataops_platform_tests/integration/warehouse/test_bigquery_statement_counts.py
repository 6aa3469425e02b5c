"""How many jobs a load, the rules and a publication are on BigQuery: numbers that can't creep up unnoticed.

Each job costs a second or more, and a query at least 10 MB billed for every table that it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from dataops_platform.contracts.model import Operator, RuleKind, Table, Threshold
from dataops_platform.contracts.types import Kind
from dataops_platform.transformation import build as transformation
from dataops_platform.transformation.dbt import NodeResult
from dataops_platform.transformation.models import Model, Models
from dataops_platform.transformation.publish import PublishOutcome, publish
from dataops_platform.warehouse import ledger
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import ledger_project, unique
from dataops_platform_tests.fake_dbt import FakeModel
from dataops_platform_tests.support import DAY1, daily, rule, table

pytestmark = pytest.mark.cloud
DAYS = [DAY1 + timedelta(days=number) for number in range(30)]


@pytest.fixture(scope="module")
def home(gcs_server, bigquery_server, tmp_path_factory) -> Iterator[CloudHome]:
    storage = storage_client(gcs_server)
    bucket = storage.create_bucket(unique("bucket")).name
    with ledger_project(bigquery_server) as project:
        client = bigquery_client(bigquery_server, project)
        made = CloudHome(tmp_path_factory.mktemp("counts"), storage, bucket, client)
        made.warehouse.ensure([])
        client.create_dataset("analytics")
        yield made


def jobs(home: CloudHome, run: str) -> dict[str, int]:
    """The jobs with the label of a run: what they are and how many, without the statements inside scripts."""
    found = [
        job
        for job in home.warehouse.jobs.client.list_jobs(all_users=True)
        if (job.labels or {}).get("dataops_run") == run and job.parent_job_id is None
    ]
    return dict(Counter(job.statement_type if job.job_type == "query" else job.job_type for job in found))


def name() -> str:
    return unique("t").replace("-", "_")


def orders(*rules: Any) -> Table:
    columns = {"day": Kind.DATE, "id": Kind.INTEGER, "country": Kind.STRING}
    return table(name(), columns, partitioning=daily(), rules=rules)


# -- a load ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deliveries", [1, 5])
def test_a_load(home, deliveries):
    t, run = orders(rule("id_known", RuleKind.NOT_NULL, "id")), unique("run")
    home.warehouse.ensure([t])
    rows = [{"id": 1, "country": "FR"}, {"id": 2, "country": "DE"}]
    given = [home.deliver(t, [row | {"day": day} for row in rows], partition=day) for day in DAYS[:deliveries]]
    with home.warehouse.work("load", t.name, run) as cost:
        assert sum(outcome.rows_loaded for outcome in home.load(t, given, run)) == 2 * deliveries
    assert jobs(home, run) == {
        "load": deliveries,  # one for each object
        "SCRIPT": 1,  # the transaction
        "SELECT": 2,  # the ledger: what is loaded already; what became of each delivery
    }
    assert cost().jobs == deliveries + 3
    with home.warehouse.work("load", t.name, again := unique("run")):
        assert home.load(t, given, again) == []
    assert jobs(home, again) == {"SELECT": 1}  # the ledger: all are loaded already


# -- rules -------------------------------------------------------------------------------------------------------------

COUNTRIES = table("countries", {"code": Kind.STRING})
SCANNED = (
    rule("id_known", RuleKind.NOT_NULL, "id"),
    rule("id_range", RuleKind.RANGE, "id", minimum=0),
    rule("id_unique", RuleKind.DUPLICATES, "id"),
    rule("volume", RuleKind.ROW_COUNT, threshold=Threshold(Operator.GREATER, (0,))),
    rule("average", RuleKind.AGGREGATE, "id", function="avg", threshold=Threshold(Operator.GREATER, (0,))),
)
ALONE = (
    rule("known_country", RuleKind.ORPHANS, "country", table="countries", columns=("code",)),
    rule("middle", RuleKind.AGGREGATE, "id", function="median", threshold=Threshold(Operator.GREATER, (0,))),
)


def loaded(home: CloudHome, t: Table, days: list[date]) -> None:
    """A row for each day, and the ledger's word that it was loaded: thirty real loads would take a minute."""
    home.warehouse.ensure([COUNTRIES, t])
    listed = ", ".join(f"DATE '{day}'" for day in days)
    home.warehouse.jobs.client.query_and_wait(
        f"INSERT INTO staging.{t.name} (day, id, country, _created_at, _updated_at, _source_object, _load_id)"
        " SELECT day, 1, 'FR', CURRENT_TIMESTAMP(), CURRENT_TIMESTAMP(), 'object', 'load'"
        f" FROM UNNEST([{listed}]) AS day"
    )
    now = ledger.now()
    entries = [
        {
            "load_id": f"{t.name}{day}",
            "table_name": t.name,
            "partition_key": str(day),
            "created_at": now,
            "loaded_at": now,
        }
        for day in days
    ]
    home.warehouse.append("loads", pa.Table.from_pylist(entries, schema=ledger.schema("loads")))


@pytest.mark.parametrize("partitions", [1, 30])
def test_rules(home, partitions):
    """The number of statements depends on neither the number of partitions nor that of simple rules."""
    t, run = orders(*SCANNED, *ALONE), unique("run")
    loaded(home, t, DAYS)
    asked = [str(day) for day in DAYS[:partitions]]
    with home.warehouse.work("rules", t.name, run):
        verdicts = home.judge(t, run_id=run, partitions=asked)
    assert len(verdicts) == partitions * len(t.rules)
    assert {v.rule_id for v in verdicts if not v.passed} == {"known_country"}  # there are no countries
    assert jobs(home, run) == {
        # The ledger: the partitions' versions; the scan of the simple rules; a reference, a median; and, because the
        # reference failed, a sample of its rows.
        "SELECT": 1 + 1 + len(ALONE) + 1,
        "INSERT": 1,  # all verdicts
    }


# -- a build ---------------------------------------------------------------------------------------------------------


class Built:
    """In place of dbt, whose own statements are counted elsewhere: a model that is there."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def build(self, select: object, partitions: object, on_event: object = None) -> list[NodeResult]:
        return [NodeResult(self.model.unique_id, "success", None, "", "SELECT 1", 0.0)]


@pytest.mark.parametrize("partitions", [1, 5])
def test_a_build(home, partitions):
    t, run = orders(), unique("run")
    loaded(home, t, DAYS)
    model, days = FakeModel(name(), "", (t.name,)).model, [str(day) for day in DAYS[:partitions]]
    make(home, model, days, 1)
    with home.warehouse.work("build", "dbt", run):
        done = transformation.build(
            Built(model), Models((model,)), home.warehouse, {t.name: t}, run, [model.name], days
        )  # fmt: skip
    assert len(done.builds) == partitions
    assert jobs(home, run) == {
        "SCRIPT": 1,  # the lease is taken,
        "UPDATE": 1,  # and given back
        # Who has the lease; the ledger: the sources' versions before and after, and the builds before; the rows'
        # fingerprints.
        "SELECT": 1 + 3 + 1,
        "INSERT": 1,  # the builds; of tests there are none
    }


# -- a publication -----------------------------------------------------------------------------------------------------


def make(home: CloudHome, model: Model, days: list[str], number: int) -> None:
    """The model's table, as dbt would make it."""
    listed = ", ".join(f"DATE '{day}'" for day in days)
    home.warehouse.jobs.client.query_and_wait(
        f"CREATE OR REPLACE TABLE {model.relation} PARTITION BY day AS SELECT day, {number} AS id"
        f" FROM UNNEST([{listed}]) AS day"
    )


def build(home: CloudHome, model: Model, days: list[str], number: int) -> None:
    """The model's table, and the record of its build."""
    make(home, model, days, number)
    moment: datetime = ledger.now()
    home.ledger.record_builds(
        [
            ledger.Build(model.name, day, found.data_version, found.row_count, {}, "run", moment)
            for day, found in home.warehouse.model_versions(model.slice, days).items()
        ]
    )


def published(home: CloudHome, model: Model, days: list[str]) -> tuple[PublishOutcome, dict[str, int]]:
    run = unique("run")
    with home.warehouse.work("publish", model.name, run):
        done = publish(model, Models((model,)), {}, home.warehouse, home.lake.store, home.production, days, run)
    return done, jobs(home, run)


ASKED = 2 + 1 + 2 + 1
"""Queries of a publication. The rows' fingerprints, before and after they are exported. The ledger: what is published;
for the gate the builds and the verdicts (and, where rules look at other tables, their versions); at last how often each
partition was published."""


def test_a_publication_of_one_partition(home):
    model, days = FakeModel(name(), "", ()).model, [str(DAY1)]
    build(home, model, days, 1)
    done, found = published(home, model, days)
    assert done.published == tuple(days)
    assert found == {"extract": 1, "SCRIPT": 1, "SELECT": ASKED}


def test_publications_of_five_partitions(home):
    model, days = FakeModel(name(), "", ()).model, [str(day) for day in DAYS[:5]]
    build(home, model, days, 1)
    done, found = published(home, model, days)
    assert done.published == tuple(days)
    assert found == {
        "extract": 5,  # one for each partition
        "SCRIPT": 1,  # the transaction
        "SELECT": ASKED,
    }
    build(home, model, days, 2)
    done, found = published(home, model, days)
    assert done.published == tuple(days)
    assert found == {"extract": 5, "copy": 1, "SCRIPT": 1, "SELECT": ASKED}  # the copy keeps production as it was
    done, found = published(home, model, days)
    assert done.unchanged == tuple(days)
    assert found == {"SELECT": ASKED - 1}  # nothing is exported, so fingerprints are asked for once
