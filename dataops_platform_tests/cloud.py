"""A lake in a bucket and a warehouse on BigQuery, both on localhost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from dataops_platform.lake import Lake
from dataops_platform.lake.gcs import GcsStore
from dataops_platform.warehouse.bigquery import BigQueryWarehouse
from dataops_platform.warehouse.bigquery import load as bigquery_load
from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.support import Home

ENGINES = ["duckdb", pytest.param("bigquery", marks=[pytest.mark.cloud, pytest.mark.long])]
"""Parameters of a fixture `home`: on BigQuery in the long suite."""
on_both = pytest.mark.parametrize("home", ["duckdb", pytest.param("bigquery", marks=pytest.mark.cloud)], indirect=True)
"""Of a test that asks something of its own of the engine: on BigQuery always."""


class CloudHome(Home):
    """As `Home`, on Google Cloud's services."""

    loading = bigquery_load

    def __init__(self, folder: Path, storage: StorageClient, bucket: str, client: bigquery.Client) -> None:
        super().__init__(folder)
        self.client = client
        self.lake = Lake(GcsStore(storage, bucket, "lake"))
        self.production = GcsStore(storage, bucket, "production")
        self.warehouse = BigQueryWarehouse(client, pause=0.05)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """There is no file."""
        yield

    def by_hand(self, statement: str) -> None:
        self.client.query_and_wait(statement)


def engine_home(request: pytest.FixtureRequest, folder: Path) -> Home:
    """A home on the engine that a fixture's parameter names: `duckdb` or `bigquery`."""
    if request.param == "duckdb":
        return Home(folder / "home")
    asked = request.getfixturevalue
    client = bigquery_client(asked("bigquery_server"), asked("bq_ledger"))
    return CloudHome(folder / "home", asked("gcs_client"), asked("bucket"), client)
