"""One run at a time builds a model: on DuckDB by a lock on a file, on BigQuery by leases in the ledger."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from dataops_platform.contracts.model import LoadMode, Source
from dataops_platform.contracts.problems import Unavailable
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.bigquery import leases
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import ledger_project, unique
from dataops_platform_tests.support import Home, table


@pytest.fixture(scope="module")
def project(bigquery_server):
    with ledger_project(bigquery_server) as name:
        yield name


@pytest.fixture(params=["duckdb", pytest.param("bigquery", marks=pytest.mark.cloud)])
def homes(request, tmp_path) -> list[Home]:
    """Two processes' views of one warehouse, that wait for hardly a moment."""
    if request.param == "duckdb":
        found = [Home(tmp_path), Home(tmp_path)]
        for home in found:
            home.warehouse.ensure([])
            home.warehouse.build_wait = 0.3
        return found
    request.getfixturevalue("cloud_env")
    storage = storage_client(request.getfixturevalue("gcs_server"))
    bucket = storage.create_bucket(unique("bucket")).name
    client = bigquery_client(request.getfixturevalue("bigquery_server"), request.getfixturevalue("project"))
    found = [CloudHome(tmp_path / str(n), storage, bucket, client) for n in range(2)]
    for home in found:
        home.warehouse.ensure([])
        home.warehouse.leases._wait, home.warehouse.leases.poll = 0.3, 0.1
    return found


def test_another_run_has_to_wait(homes):
    one, other = homes
    with one.warehouse.exclusive(["a", "b"], "first") as still_alone:
        refused = pytest.raises(Unavailable, match=r"somebody else is at work: .*run first")
        with refused, other.warehouse.exclusive(["b", "c"], "second"):
            raise AssertionError("both have it")
        assert still_alone()
    with other.warehouse.exclusive(["b", "c"], "second") as still_alone:
        assert still_alone()


def test_it_is_had_when_the_other_ends(homes):
    one, other = homes
    for home in homes:  # long enough for any machine
        if isinstance(home, CloudHome):
            home.warehouse.leases._wait = 60
        else:
            home.warehouse.build_wait = 60
    order: list[str] = []

    def first() -> None:
        with one.warehouse.exclusive(["m"], "first"):
            begun.set()
            time.sleep(0.5)
            order.append("first")

    begun = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with other.warehouse.exclusive(["m"], "second") as still_alone:
        order.append("second")
        assert still_alone()
    thread.join()
    assert order == ["first", "second"]


def test_an_error_inside_gives_it_back(homes):
    one, other = homes
    with pytest.raises(ZeroDivisionError), one.warehouse.exclusive(["x"], "first"):
        raise ZeroDivisionError
    with other.warehouse.exclusive(["x"], "second") as still_alone:
        assert still_alone()


@pytest.fixture
def clouds(gcs_server, bigquery_server, project, cloud_env, tmp_path) -> list[CloudHome]:
    storage = storage_client(gcs_server)
    client = bigquery_client(bigquery_server, project)
    found = [CloudHome(tmp_path / str(n), storage, "none", client) for n in range(2)]
    for home in found:
        home.warehouse.ensure([])
        home.warehouse.leases._wait, home.warehouse.leases.poll = 0.3, 0.1
    return found


@pytest.mark.cloud
def test_others_models_are_free(clouds):
    one, other = clouds
    with one.warehouse.exclusive(["p"], "first") as first, other.warehouse.exclusive(["q"], "second") as second:
        assert second()
        assert first()


@pytest.mark.cloud
def test_who_stood_still_for_too_long_is_told(clouds, monkeypatch):
    """A lease that isn't renewed runs out, and another run gets it: the first can't know what its tests judged."""
    one, other = clouds
    monkeypatch.setattr(leases, "SECONDS", 1)
    with one.warehouse.exclusive(["late"], "first") as still_alone:
        time.sleep(1.5)
        with other.warehouse.exclusive(["late"], "second") as second:
            assert second()
        assert not still_alone()


@pytest.mark.cloud
def test_a_lease_is_renewed(clouds, monkeypatch):
    one, other = clouds
    monkeypatch.setattr(leases, "SECONDS", 2)
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 0.3)
    with one.warehouse.exclusive(["long"], "first") as still_alone:
        time.sleep(3)
        with pytest.raises(Unavailable), other.warehouse.exclusive(["long"], "second"):
            pass
        assert still_alone()


@pytest.mark.cloud
def test_a_dropped_table_is_found_by_two(cloud_env, gcs_client, bucket, bigquery_server, bq_ledger, tmp_path):
    """One looks, the other makes it anew and loads it meanwhile: those loads aren't forgotten."""
    appended = table("orders", {"id": Kind.INTEGER}, mode=LoadMode.APPEND)
    appended = replace(appended, source=Source("files", {"path": "orders.csv"}))
    client = bigquery_client(bigquery_server, bq_ledger)
    one, other = (CloudHome(tmp_path / str(n), gcs_client, bucket, client) for n in range(2))
    one.deliver(appended, [{"id": 1}])
    one.load(appended)
    one.by_hand("DROP TABLE staging.orders")
    changes, again = other.warehouse._changes, replace(appended, description="Not looked at yet.")

    def look(pool, wanted):
        found = changes(pool, wanted)
        assert found[0].gone
        other.warehouse._changes = changes
        one.load(again)
        return found

    other.warehouse._changes = look
    other.load(replace(again, description="Nor by the other."))
    assert one.rows("SELECT id FROM staging.orders") == [(1,)]
    assert one.rows("SELECT rows_loaded FROM dataops.loads") == [(1,)]
