"""Secrets in Dagster: what steps raise, and what the event log keeps."""

import json

import dagster as dg
import pytest
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage

from dataops_platform.orchestration import runs
from dataops_platform.orchestration.errors import user_errors
from dataops_platform.orchestration.event_log import RedactingEventLog, redacted_event
from dataops_platform.secrets import hide
from dataops_platform_tests.integration.orchestration.conftest import BATCHING, STOCK, instance
from dataops_platform_tests.planted import PLANTED, nothing_known

DAYS = ("2024-05-01", "2024-05-02")


@pytest.fixture(autouse=True)
def _own_registry():
    with nothing_known():
        yield


@pytest.fixture
def _planted():
    hide(PLANTED)


def run(assets, folder, storage=STOCK):
    """The events of a run that fails; the stock event log shows what steps themselves let through."""
    with instance(folder, storage) as made:
        result = dg.materialize(assets, instance=made, raise_on_error=False)
        return made.all_logs(result.run_id)


def steps(events, kind):
    return [e.get_dagster_event().event_specific_data for e in events if e.dagster_event_type == kind]


def raising(error, cause=None):
    """An asset whose step of the platform raises this."""

    @dg.asset
    def step():
        with user_errors():
            raise error from cause

    return step


# -- what steps raise --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_planted")
def test_an_unknown_error_is_shown_without_its_secret(tmp_path):
    events = run([raising(LookupError(f"<{PLANTED}>"), OSError(PLANTED))], tmp_path)
    assert PLANTED not in "".join(event.to_json() for event in events)
    (failure,) = steps(events, dg.DagsterEventType.STEP_FAILURE)
    error = failure.error.cause
    assert (error.cls_name, error.message) == ("LookupError", "LookupError: <***>\n")
    assert (error.cause.cls_name, error.cause.message) == ("OSError", "OSError: ***\n")
    assert "raise error from cause" in error.stack[-1]


@pytest.mark.usefixtures("_planted")
def test_a_retry_policy_counts_for_the_copy(tmp_path):
    attempts = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def step(context):
        attempts.append(context.retry_number)
        with user_errors():
            raise OSError(PLANTED)

    events = run([step], tmp_path)
    assert attempts == [0, 1, 2]
    errors = [data.error.cause for data in steps(events, dg.DagsterEventType.STEP_UP_FOR_RETRY)]
    assert [error.message for error in errors] == ["OSError: ***\n"] * 2


# -- the event log -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_planted")
def test_users_own_assets_are_redacted_by_the_event_log(tmp_path):
    @dg.asset(metadata={"definition": "harmless"})
    def leaking():
        yield dg.MaterializeResult(
            metadata={"seen": PLANTED, "count": 3, PLANTED: dg.MetadataValue.json([{"k": PLANTED}])}
        )

    @dg.asset
    def failing():
        raise dg.Failure(PLANTED, metadata={"seen": PLANTED})

    events = run([leaking, failing], tmp_path, BATCHING)
    text = "".join(event.to_json() for event in events)
    assert PLANTED not in text
    assert json.dumps(PLANTED)[1:-1] not in text
    (made,) = [event.asset_materialization for event in events if event.asset_materialization]
    assert {name: value.value for name, value in made.metadata.items()} == {
        "seen": "***", "count": 3, "***": [{"k": "***"}],
    }  # fmt: skip
    (failure,) = steps(events, dg.DagsterEventType.STEP_FAILURE)
    assert failure.user_failure_data.description == "***"
    assert failure.user_failure_data.metadata["seen"].value == "***"


def test_what_dagster_finds_things_by_stays(definitions, tmp_path):
    """Secrets like these are poor ones, but they must not make the events of a run unreadable."""
    for secret in ("orders", "2024-05-02", "text", "raw__orders", "staging", "SUCCESS", "__class__"):
        hide(secret)
    with instance(tmp_path / "dagster") as made:
        outcome = runs.execute(definitions.get_repository_def().get_job("pipeline"), made, DAYS)
        assert outcome.success, outcome.failures
        for layer in ("raw", "staging"):
            key = dg.AssetKey([layer, "orders"])
            assert made.get_materialized_partitions(key) == set(DAYS)
            assert {r.partition_key for r in made.fetch_materializations(key, limit=10).records} == set(DAYS)
        started = [e.step_key for e in made.all_logs(outcome.run_id) if e.dagster_event_type == "STEP_START"]
        assert started == ["raw__orders", "staging__orders", "deliveries", "staging__orders__checks"]
        planned = made.get_run_by_id(outcome.run_id)
    assert planned.status is dg.DagsterRunStatus.SUCCESS


def test_clean_events_are_stored_as_they_are(definitions, tmp_path):
    with instance(tmp_path / "dagster", STOCK) as made:
        outcome = runs.execute(definitions.get_repository_def().get_job("pipeline"), made, DAYS)
        events = made.all_logs(outcome.run_id)
    assert len({event.dagster_event_type for event in events}) > 10
    hide(PLANTED)
    assert all(redacted_event(event) is event for event in events)


class RedactingLog(RedactingEventLog, ConsolidatedSqliteEventLogStorage):
    """Another event log, made as one for a server would be."""


@pytest.mark.usefixtures("_planted")
@pytest.mark.parametrize("together", [False, True])
def test_another_event_log(tmp_path, together):
    @dg.asset
    def leaking():
        yield dg.MaterializeResult(metadata={"seen": PLANTED})

    events = run([leaking], tmp_path / "stock")
    log = RedactingLog(str(tmp_path / "events"))
    if together:
        log.store_event_batch(events)
    else:
        for event in events:
            log.store_event(event)
    stored = log.get_logs_for_run(events[0].run_id)
    assert [event.dagster_event_type for event in stored] == [event.dagster_event_type for event in events]
    assert PLANTED in "".join(event.to_json() for event in events)
    assert PLANTED not in "".join(event.to_json() for event in stored)
