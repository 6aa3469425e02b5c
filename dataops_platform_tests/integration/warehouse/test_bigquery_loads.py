"""Loads on BigQuery against the same naive model as those on DuckDB: the same rows stay, on either."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings

from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import ledger_project, unique
from dataops_platform_tests.load_model import SCENARIO, TABLES, run

pytestmark = pytest.mark.cloud


@pytest.fixture
def scenario_runs(gcs_server, bigquery_server, cloud_env, tmp_path_factory):
    """Runs scenarios, each in projects of its own."""

    def carry_out(name: str, scenario) -> None:
        storage = storage_client(gcs_server)
        bucket = storage.create_bucket(unique("bucket")).name
        with ExitStack() as stack:

            def make() -> CloudHome:
                project = stack.enter_context(ledger_project(bigquery_server))
                client = bigquery_client(bigquery_server, project)
                return CloudHome(tmp_path_factory.mktemp("home"), storage, bucket, client)

            run(name, scenario, make(), make)

    return carry_out


# Days off the delivery's own, id, name, v: bad rows of each kind; keys that repeat within an object, between objects
# and deliveries, that move between days, and that are null; a delivery that comes late; an empty one.
SCENE = (
    [
        (
            0,
            1,
            [[(0, 1, "a", 1), (0, 1, "a", 3), (0, 2, "b", -1), (1, 3, "a", 0)], [(0, 1, "b", 2), (0, None, "a", 4)]],
        ),
        (1, 1, [[(0, 1, "a", 0), (0, 3, None, 1), (None, 1, "", 2)]]),
        (0, 0, [[(0, 1, "a", 4), (0, 2, "", 0), (0, 2, "", 0)]]),
        (2, 2, [[(0, 2, "a", None), (0, 3, "b", 1)], []]),
        (2, 3, [[]]),
    ],
    [([0, 1], 100, "replay milder"), ([1, 3, 2], 1, "drop a day")],
)


# The mode with most to it, shortly; all of it runs in the long suite, and on DuckDB, against the same model, always.
def test_some_loads_do_what_the_model_says(scenario_runs):
    deliveries, (first, _) = SCENE
    scenario_runs("merge_moving", (deliveries[:3], [first, ([1, 2], 1, None)]))


@pytest.mark.long
@pytest.mark.parametrize("name", ["append", "merge_moving", "replace", "merge_day_in_key"])
def test_loads_do_what_the_model_says(name, scenario_runs):
    scenario_runs(name, SCENE)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", TABLES)
@settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, max_examples=12)
@given(scenario=SCENARIO)
def test_loads_do_what_the_model_says_long(name, scenario_runs, scenario):
    scenario_runs(name, scenario)
