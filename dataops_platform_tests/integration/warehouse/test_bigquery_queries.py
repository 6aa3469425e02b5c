"""Queries on BigQuery: labels, cost, limits, and how results come back."""

from __future__ import annotations

import pytest
from google.cloud.bigquery_storage import BigQueryReadClient

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.identity import Identity
from dataops_platform.warehouse.base import Cost, NoSuchTable
from dataops_platform.warehouse.bigquery import BigQueryWarehouse
from dataops_platform.warehouse.bigquery import warehouse as module

pytestmark = pytest.mark.cloud


@pytest.fixture
def identity(cloud_env) -> Identity:
    return Identity.load(cloud_env)


@pytest.fixture
def warehouse(bq_client, identity) -> BigQueryWarehouse:
    bq_client.create_dataset("d")
    bq_client.query_and_wait("CREATE TABLE d.t AS SELECT n FROM UNNEST(GENERATE_ARRAY(1, 2000)) AS n")
    return BigQueryWarehouse(
        bq_client, labels={"dataops_environment": "staging"}, pause=0.05, read_client=identity.read_client
    )


def jobs(client, **labels) -> list:
    return [job for job in client.list_jobs() if labels.items() <= (job.labels or {}).items()]


def test_work_is_labelled_and_its_cost_told(warehouse, bq_client):
    with warehouse.work("rules", "Orders", "run-1") as cost:
        assert cost() == Cost()
        warehouse.query("SELECT SUM(n) AS s FROM d.t")
        first = cost()
        warehouse.query("SELECT MAX(n) AS s FROM d.t")
    warehouse.query("SELECT 1 AS x")
    assert (first.jobs, cost().jobs) == (1, 3)  # the function goes on counting
    assert first.bytes_billed == 16_000
    found = jobs(bq_client, dataops_step="rules")
    assert len(found) == 2
    assert found[0].labels == {
        "dataops_environment": "staging", "dataops_step": "rules", "dataops_of": "orders", "dataops_run": "run-1",
    }  # fmt: skip


def test_a_query_that_costs_too_much(bq_client, warehouse):
    limited = BigQueryWarehouse(bq_client, maximum_bytes_billed=1000, pause=0.05)
    with pytest.raises(ConfigError, match=r"DATAOPS_MAXIMUM_BYTES_BILLED forbids it: ask for fewer partitions"):
        limited.query("SELECT SUM(n) AS s FROM d.t")
    assert limited.query("SELECT 1 AS x").to_pylist() == [{"x": 1}]


def test_large_results_come_over_the_storage_read_api(warehouse, monkeypatch):
    read: list[int] = []
    real = BigQueryReadClient.read_rows
    monkeypatch.setattr(BigQueryReadClient, "read_rows", lambda *a, **k: read.append(1) or real(*a, **k))
    assert warehouse.query("SELECT n FROM d.t").num_rows == 2000
    assert not read
    monkeypatch.setattr(module, "SMALL_RESULT", 1000)
    assert sorted(warehouse.query("SELECT n FROM d.t")["n"].to_pylist()) == list(range(1, 2001))
    assert read


def test_an_emulator_without_the_storage_read_api(cloud_env):
    del cloud_env["BIGQUERY_STORAGE_EMULATOR_HOST"]
    assert Identity.load(cloud_env).read_client() is None


def test_what_is_no_query(warehouse):
    with pytest.raises(NoSuchTable):
        warehouse.query("SELECT * FROM d.nothing")
    with pytest.raises(ConfigError):
        warehouse.query("SELECT FROM WHERE")
