"""What tests under faults share: a project on BigQuery, reached through a proxy and past it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.cloud.bigquery.retry import DEFAULT_RETRY
from google.resumable_media.common import RetryStrategy

from dataops_platform.lake import Lake
from dataops_platform.lake.gcs import GcsStore
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import new_project, unique
from dataops_platform_tests.emulators.proxy import Proxy
from dataops_platform_tests.emulators.servers import HOST, BigQueryServer, GcsServer
from dataops_platform_tests.faults import quick

PATIENCE = 2.0
"""Seconds that calls of the warehouse are repeated."""


@dataclass
class Cloud:
    """The servers, a proxy before each, and a folder."""

    gcs: GcsServer
    bigquery: BigQueryServer
    gcs_proxy: Proxy
    proxy: Proxy
    folder: Path

    def home(self, project: str, bucket: str, disturbed: bool) -> CloudHome:
        """A lake and a warehouse with clients of their own, through the proxies or past them."""
        storage = storage_client(self.gcs_proxy if disturbed else self.gcs)
        client = bigquery_client(self.proxy if disturbed else self.bigquery, project)
        home = CloudHome(self.folder / unique("home"), storage, bucket, client)
        if disturbed:
            home.lake = Lake(GcsStore(storage, bucket, "lake", quick(PATIENCE)))
            home.production = GcsStore(storage, bucket, "production", quick(PATIENCE))
            home.warehouse.jobs.retry = quick(PATIENCE)
        return home


@pytest.fixture(scope="module")
def hasty_clients() -> Iterator[None]:
    """Calls whose retries are the client's own don't make a test wait either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DEFAULT_RETRY, "_initial", 0.01)
        patch.setattr(DEFAULT_RETRY, "_timeout", PATIENCE)
        patch.setattr(RetryStrategy, "retry_allowed", lambda *_: False)  # of uploads: the platform repeats them
        yield


@pytest.fixture(scope="module")
def servers_found(gcs_server: GcsServer, bigquery_server: BigQueryServer) -> Iterator[None]:
    """As `cloud_env`, for fixtures that live longer than one test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (gcs_server.env | bigquery_server.env | {"NO_PROXY": HOST, "no_proxy": HOST}).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cloud(
    gcs_server: GcsServer,
    bigquery_server: BigQueryServer,
    hasty_clients: None,
    servers_found: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    with Proxy(gcs_server) as gcs_proxy, Proxy(bigquery_server) as proxy:
        yield Cloud(gcs_server, bigquery_server, gcs_proxy, proxy, tmp_path_factory.mktemp("cloud"))


@pytest.fixture(scope="module")
def bucket_name(gcs_server: GcsServer) -> str:
    return storage_client(gcs_server).create_bucket(unique("bucket")).name


@pytest.fixture(scope="module")
def project(bigquery_server: BigQueryServer) -> Iterator[str]:
    with new_project(bigquery_server) as name:
        yield name
