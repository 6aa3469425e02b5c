"""Jobs and loads on BigQuery that fail, are repeated, and meet others: done once, and never stuck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from dataops_platform.contracts.model import BadRowAction, BadRows, LoadMode, RuleKind
from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.base import NoSuchTable, RowCheck
from dataops_platform.warehouse.bigquery import BigQueryWarehouse
from dataops_platform.warehouse.bigquery import jobs as bigquery_jobs
from dataops_platform.warehouse.bigquery.load import Loader
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import ledger_project, unique
from dataops_platform_tests.emulators.proxy import Call, Fault, Only, Proxy
from dataops_platform_tests.support import DAY1, DAY2, DAY3, daily, rule, table

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module")
def project(bigquery_server):
    with ledger_project(bigquery_server) as name:
        yield name


@pytest.fixture
def home(gcs_server, bigquery_server, project, cloud_env, tmp_path) -> CloudHome:
    storage = storage_client(gcs_server)
    bucket = storage.create_bucket(unique("bucket")).name
    return CloudHome(tmp_path, storage, bucket, bigquery_client(bigquery_server, project))


@pytest.fixture
def proxy(bigquery_server):
    with Proxy(bigquery_server) as made:
        yield made


def orders(name: str, **more):
    rules = [rule("positive", RuleKind.RANGE, "id", minimum=0)]
    return table(name, {"day": Kind.DATE, "id": Kind.INTEGER}, partitioning=daily(), rules=rules, **more)


def rows(day, *ids):
    return [{"day": day, "id": number} for number in ids]


def test_a_job_that_the_service_fails(proxy, project, monkeypatch):
    """It is started anew, under another name; not for ever."""
    monkeypatch.setattr(bigquery_jobs, "ATTEMPTS", 3)
    jobs = BigQueryWarehouse(bigquery_client(proxy, project), pause=0.001).jobs
    started = []

    def start(job_id: str):
        started.append(job_id)
        return jobs.client.query("SELECT 1", job_id=job_id, retry=None, job_retry=None)

    with proxy.faults(Only(Call.QUERY_JOB, Fault.JOB_FAILED, (0, 1))):
        assert jobs.run(unique("job"), start).state == "DONE"
    assert [job_id.rsplit("-", 1)[1] for job_id in started] == ["0", "1", "2"]
    with (
        proxy.faults(Only(Call.QUERY_JOB, Fault.JOB_FAILED, None)),
        pytest.raises(Unavailable, match="could not finish a job in 3 attempts: injected"),
    ):
        jobs.run(unique("job"), start)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [("SELECT * FROM staging.nothing", NoSuchTable), ("SELECT ERROR('x')", bigquery_jobs.JobFailed)],
)
def test_a_job_that_fails_of_itself(home, sql, kind):
    """Once is enough, whether it fails at once or in the end. A job of that name that failed before says nothing."""
    home.warehouse.ensure([])
    started = []

    def start(job_id: str):
        started.append(job_id)
        return home.warehouse.jobs.client.query(sql, job_id=job_id, retry=None, job_retry=None)

    name = unique("job")
    for count in (1, 3):
        with pytest.raises(kind):
            home.warehouse.jobs.run(name, start)
        assert len(started) == count


def test_a_batch_that_is_refused_in_every_run(home, monkeypatch):
    """Jobs that failed are kept for months: the names of one run's must not be used up by those of others."""
    monkeypatch.setattr(bigquery_jobs, "ATTEMPTS", 2)
    t = orders("refused", bad_rows=BadRows(BadRowAction.QUARANTINE, 10.0))
    bad = home.deliver(t, rows(DAY1, 1, -1), partition=DAY1)
    for number in range(4):
        (outcome,) = home.load(t, [bad], run_id=f"run{number}")
        assert "1 of 2 rows break blocking rules" in outcome.refused
        assert outcome.refused_before == (number > 0)


@pytest.mark.parametrize(
    "mode",
    [LoadMode.APPEND, *(pytest.param(mode, marks=pytest.mark.long) for mode in (LoadMode.MERGE, LoadMode.REPLACE))],
)
def test_a_load_that_comes_too_late(home, monkeypatch, mode):
    """Between its look at the ledger and its transaction, another one loaded a part of the batch."""
    t = orders(f"late_{mode}", mode=mode, key=["id"] if mode is LoadMode.MERGE else [])
    given = [home.deliver(t, rows(day, number), partition=day) for number, day in enumerate((DAY1, DAY2))]
    home.load(t, given[:1])
    first, look = iter([True]), Loader._known
    with monkeypatch.context() as patch:
        patch.setattr(Loader, "_known", lambda self, ids: set() if next(first, False) else look(self, ids))
        outcomes = home.load(t, given, run_id="late")
    assert sorted((o.delivery.partition, o.rows_loaded) for o in outcomes) == [(str(DAY1), 1), (str(DAY2), 1)]
    assert home.rows(f"SELECT id FROM staging.{t.name} ORDER BY id") == [(0,), (1,)]
    assert home.rows(f"SELECT COUNT(*) FROM dataops.loads WHERE table_name = '{t.name}'") == [(2,)]


def test_batches_that_overlap(home, bigquery_server, project):
    """Of several processes at once: each delivery is loaded by one of them."""
    t = orders("overlap")
    given = [home.deliver(t, rows(day, number), partition=day) for number, day in enumerate((DAY1, DAY2, DAY3))]
    home.warehouse.ensure([t])
    barrier = Barrier(3)
    uris = {item.key: home.lake.store.uri(item.key) for delivery in given for item in delivery.objects}

    def load(number: int) -> None:
        warehouse = BigQueryWarehouse(bigquery_client(bigquery_server, project), pause=0.05)
        barrier.wait()
        warehouse.load(t, [given[number], given[(number + 1) % 3]], uris, [], f"run{number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(load, range(3)))
    assert home.rows("SELECT id FROM staging.overlap ORDER BY id") == [(0,), (1,), (2,)]
    assert home.rows("SELECT COUNT(*) FROM dataops.loads WHERE table_name = 'overlap'") == [(3,)]


def test_a_rule_that_cannot_run(home):
    t = orders("broken")
    given = home.deliver(t, rows(DAY1, 1), partition=DAY1)
    home.warehouse.ensure([t])
    uris = {item.key: home.lake.store.uri(item.key) for item in given.objects}
    with pytest.raises(ConfigError, match="a blocking rule of broken can't run"):
        home.warehouse.load(t, [given], uris, [RowCheck("r", "nothing > 1")], "run")
