"""A lake and a warehouse on each engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.fixtures import unique
from dataops_platform_tests.support import Home


@pytest.fixture(autouse=True)
def _open_files(open_files: None) -> None:
    """No other process looks into these warehouses."""


@pytest.fixture
def cloud(gcs_server, bigquery_server, bq_ledger, cloud_env, tmp_path) -> CloudHome:
    from dataops_platform_tests.emulators.clients import bigquery_client, storage_client

    storage = storage_client(gcs_server)
    bucket = storage.create_bucket(unique("bucket")).name
    return CloudHome(tmp_path / "cloud", storage, bucket, bigquery_client(bigquery_server, bq_ledger))


def _home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return Home(tmp_path / "home") if request.param == "duckdb" else request.getfixturevalue("cloud")


@pytest.fixture(params=["duckdb", pytest.param("bigquery", marks=[pytest.mark.cloud, pytest.mark.long])])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home on DuckDB, and one on BigQuery in the long suite: see `either_engine`."""
    return _home(request, tmp_path)


@pytest.fixture(params=["duckdb", pytest.param("bigquery", marks=pytest.mark.cloud)])
def either_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """For one test of a kind, which runs on BigQuery in the default suite too."""
    return _home(request, tmp_path)
