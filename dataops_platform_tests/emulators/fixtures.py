"""Fixtures: Google Cloud Storage and BigQuery on localhost.

Servers live as long as the session and start when a test first asks; a test that can't have them fails. Tests are
isolated by names: each `bucket` and each `bq_project` is new. The BigQuery server takes any project id (lower case,
digits, dashes) and makes the project when it is first used; since each one slows the server down, the fixture gives
it back. A module that wants to share tables between its tests has a project of its own the same way: `new_project`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dataops_platform_tests.emulators.servers import HOST, BigQueryServer, GcsServer, PubSubServer

if TYPE_CHECKING:  # every test run imports this module, and the clients take a second
    from google.cloud import bigquery, storage

__all__ = [
    "bigquery_server",
    "bq_client",
    "bq_ledger",
    "bq_project",
    "bucket",
    "cloud_env",
    "gcs_client",
    "gcs_server",
    "pubsub_server",
]


def unique(prefix: str) -> str:
    """A name that is new, and good for buckets, projects and, with the dash replaced, datasets."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@contextmanager
def new_project(server: BigQueryServer) -> Iterator[str]:
    """A project that nobody else has, dropped afterwards."""
    project = unique("p")
    try:
        yield project
    finally:
        server.forget(project)


@contextmanager
def ledger_project(server: BigQueryServer) -> Iterator[str]:
    """As `new_project`, with the platform's datasets and its ledger without rows, as `Warehouse.ensure` makes them."""
    from dataops_platform.warehouse.bigquery import BigQueryWarehouse
    from dataops_platform_tests.emulators.clients import bigquery_client

    if server.with_ledger is None:
        made = unique("ledger")
        BigQueryWarehouse(bigquery_client(server, made)).ensure([])
        server.with_ledger = made
    with new_project(server) as project:
        server.copy(project, server.with_ledger)
        yield project


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture(scope="session")
def bigquery_server(gcs_server: GcsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    """It reads and writes the objects of `gcs_server`."""
    with BigQueryServer(tmp_path_factory.mktemp("bigquery"), gcs_server) as server:
        yield server


@pytest.fixture(scope="session")
def pubsub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubServer]:
    with PubSubServer(tmp_path_factory.mktemp("pubsub")) as server:
        yield server


@pytest.fixture
def cloud_env(
    gcs_server: GcsServer, bigquery_server: BigQueryServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment in which clients find the servers, set for this test; to hand on to processes as well."""
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
    env = gcs_server.env | bigquery_server.env | {"NO_PROXY": direct, "no_proxy": direct}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def gcs_client(gcs_server: GcsServer) -> storage.Client:
    from dataops_platform_tests.emulators.clients import storage_client

    return storage_client(gcs_server)


@pytest.fixture
def bucket(gcs_client: storage.Client) -> str:
    """The name of a new, empty bucket."""
    return gcs_client.create_bucket(unique("bucket")).name


@pytest.fixture
def bq_project(bigquery_server: BigQueryServer) -> Iterator[str]:
    """The id of a project without datasets."""
    with new_project(bigquery_server) as project:
        yield project


@pytest.fixture
def bq_ledger(bigquery_server: BigQueryServer) -> Iterator[str]:
    """The id of a project that the platform has made its ledger in."""
    with ledger_project(bigquery_server) as project:
        yield project


@pytest.fixture
def bq_client(bigquery_server: BigQueryServer, bq_project: str) -> bigquery.Client:
    """For the project `bq_project`."""
    from dataops_platform_tests.emulators.clients import bigquery_client

    return bigquery_client(bigquery_server, bq_project)
