"""The patches of the BigQuery server that dbt's tests need: what each gives, and that the server alone doesn't.

As in `integration/emulators/test_gaps.py`: a test of the server alone that fails is good news.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.api_core.exceptions import InternalServerError
from google.cloud import bigquery

from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.emulators.servers import BigQueryServer

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    patches = ("maximum_bytes_billed", "integer_division")
    with BigQueryServer(tmp_path_factory.mktemp("bare"), without=patches) as server:
        yield bigquery_client(server, "p-bare")


@pytest.fixture(scope="module")
def patched(bigquery_server: BigQueryServer) -> Iterator[bigquery.Client]:
    with new_project(bigquery_server) as project:
        yield bigquery_client(bigquery_server, project)


# maximum_bytes_billed

STATEMENTS = (
    "SELECT n FROM d.seen",
    "CREATE OR REPLACE TABLE d.made (n INT64) AS (SELECT n FROM (SELECT n FROM d.seen) AS q)",
    "MERGE d.t USING (SELECT n FROM d.seen) AS s ON FALSE WHEN NOT MATCHED THEN INSERT (n) VALUES (n)",
)


def limited(client: bigquery.Client, limit: int) -> list[str | None]:
    """What each statement is refused with."""
    client.query("CREATE SCHEMA IF NOT EXISTS d").result()
    client.query("CREATE OR REPLACE TABLE d.t AS SELECT 1 AS n").result()
    client.query("CREATE OR REPLACE VIEW d.seen AS SELECT n FROM d.t").result()
    config = bigquery.QueryJobConfig(maximum_bytes_billed=limit)
    refused: list[str | None] = []
    for sql in STATEMENTS:
        try:
            client.query(sql, job_config=config).result()
            refused.append(None)
        except InternalServerError as error:  # as Google's client calls every reason that it doesn't know
            refused.append(error.errors[0]["reason"])
    return refused


def test_large_queries_are_refused(patched):
    assert limited(patched, 1) == ["bytesBilledLimitExceeded"] * len(STATEMENTS)
    assert limited(patched, 1 << 20) == [None] * len(STATEMENTS)


def test_bare_server_refuses_none(bare):
    assert limited(bare, 1) == [None] * len(STATEMENTS)


# integer_division

QUOTIENTS = "SELECT DIV(150 + 99, 100) AS a, 10 * DIV(7, 2) AS b, DIV(20, 2 + 3) AS c"


def test_division_of_sums(patched):
    assert [tuple(row.values()) for row in patched.query(QUOTIENTS).result()] == [(2, 30, 4)]


def test_bare_division_of_sums(bare):
    assert [tuple(row.values()) for row in bare.query(QUOTIENTS).result()] != [(2, 30, 4)]
