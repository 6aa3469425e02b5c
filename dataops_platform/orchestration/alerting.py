"""Alerts and events at the end of runs: functions that the daemon's sensors call, and `dataops run` in the terminal.

How runs ended is something that only Dagster knows, so it is written to the ledger first: from there on it is told like
everything else, whoever dies when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from dataops_platform.alerts.channels import Channel, LogChannel, SlackApi, SlackWebhook, WebhookChannel
from dataops_platform.alerts.looking import LOOK_BACK, OVERLAP
from dataops_platform.alerts.outbox import Sent, send
from dataops_platform.alerts.settings import AlertSettings
from dataops_platform.alerts.subjects import Subjects, name_of_part
from dataops_platform.contracts.model import Contracts, Severity
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.events.outbox import publish
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.refused import CHECK
from dataops_platform.orchestration.runs import step_failure
from dataops_platform.pubsub import Topic
from dataops_platform.quality.deadlines import judge_deadlines
from dataops_platform.secrets import Secret
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import CheckEnd, Ledger, RunEnd, RunStatus, now

if TYPE_CHECKING:
    from slack_sdk import WebClient

ENDED = {
    dg.DagsterRunStatus.SUCCESS: RunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE: RunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED: RunStatus.CANCELED,
}
AT_ONCE = 500
"""Runs that are looked at in one round."""
LONGEST_FAILURE = 2000
"""Characters of what a step said that the ledger keeps; Dagster has it whole."""
SLACK_TIMEOUT = 15
MODEL_ID = "unique_id"
"""What dagster-dbt calls dbt's id of a model, in the metadata of what was built."""
NO_RUN = "deadlines"
"""Stands for a run in verdicts that no run has reached: a deadline passed."""


def subjects(contracts: Contracts, models: Models) -> Subjects:
    """What alerts may be about."""
    return Subjects(
        contracts.tables,
        {model.name: model.sources for model in models.items if not model.view},
        frozenset(test.name for test in models.tests().values()),
        frozenset(model.name for model in models.items if model.partition_field is None),
        {model.unique_id: model.name for model in models.items},
    )


def tell(instance: dg.DagsterInstance, settings: Settings, about: Subjects) -> Sent:
    """Write down how runs ended and which deadlines have passed, then tell every channel what it doesn't know.

    Raises:
        DataOpsError: the ledger can't be read or written. A channel that fails is no error: it is logged.
    """
    warehouse = _up_to_date(instance, settings, about)
    with warehouse.session():
        deadlines = judge_deadlines(warehouse, about.tables, NO_RUN, now())
    sent = send(warehouse, channels(settings.alerts), about, settings.environment, settings.alerts.ui_url)
    return replace(sent, due=deadlines.due)


def publish_events(instance: dg.DagsterInstance, settings: Settings, about: Subjects) -> Sent:
    """Write down how runs ended, then publish to the topic of DATAOPS_EVENTS, if any, what it doesn't know.

    Raises:
        DataOpsError: the ledger can't be read or written. A topic that can't be reached is no error: it is logged.
    """
    if settings.events is None:
        return Sent()
    warehouse = _up_to_date(instance, settings, about)
    with closing(Topic("DATAOPS_EVENTS", settings.events, settings.identity.publisher_client)) as topic:
        return publish(warehouse, topic, about, settings.environment)


def _up_to_date(instance: dg.DagsterInstance, settings: Settings, about: Subjects) -> Warehouse:
    """The warehouse, with the ends of all runs in its ledger."""
    warehouse = settings.warehouse()
    warehouse.ensure([])
    with warehouse.session():
        ledger = Ledger(warehouse)
        ledger.record_run_ends(_unrecorded(instance, ledger, about))
    return warehouse


def _unrecorded(instance: dg.DagsterInstance, ledger: Ledger, about: Subjects) -> list[RunEnd]:
    """How runs ended that the ledger doesn't know of: this one, and those whose process died before saying so."""
    earliest = now() - LOOK_BACK
    known = ledger.ended_runs(earliest)
    since = max(known.values()) - OVERLAP if known else earliest
    ended, limit = dg.RunsFilter(statuses=list(ENDED), updated_after=since), AT_ONCE
    records = instance.get_run_records(ended, limit=limit, order_by="update_timestamp")
    while len(records) == limit and records[-1].dagster_run.run_id not in known:
        limit *= 2
        records = instance.get_run_records(ended, limit=limit, order_by="update_timestamp")
    # The oldest first: those that are left are found in the next round, by the time of the newest of these.
    unknown = [record for record in reversed(records) if record.dagster_run.run_id not in known]
    return [_end(instance, record, about) for record in unknown[:AT_ONCE]]


_TOLD = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


def _end(instance: dg.DagsterInstance, record: dg.RunRecord, about: Subjects) -> RunEnd:
    run = record.dagster_run
    asked = partitions.span(run.tags)
    covered = "..".join(dict.fromkeys(asked)) if asked else UNPARTITIONED
    checks: dict[tuple[str, str, str], CheckEnd] = {}
    succeeded: list[str] = []
    failures: dict[str, str] = {}
    parts: list[str] = []
    failed: dict[str, Sequence[str]] = {}
    said = ""
    for entry in instance.all_logs(run.run_id, of_type=_TOLD):
        event = entry.get_dagster_event()
        step = event.step_key or ""
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if evaluation.check_name == CHECK and evaluation.passed:
                parts.append(_part(step, evaluation.asset_key.path[-1]))
            found = _own_check(evaluation, covered, about)
            if found is not None:
                checks[found.asset, found.check, found.partition_key] = found
        elif event.event_type is dg.DagsterEventType.STEP_OUTPUT:
            built = event.step_output_data.metadata.get(MODEL_ID)
            model = None if built is None else about.model_ids.get(str(built.value))
            parts += [] if model is None else [_part(step, model)]
        elif event.is_step_success:
            succeeded.append(step)
        elif event.is_step_failure:
            failure = step_failure(event)
            failures[step] = failure.message[:LONGEST_FAILURE]
            failed |= {_part(step, name): keys for name, keys in (failure.parts or {}).items()}
        else:
            said = event.message or ""
    status = ENDED[run.status]
    if status is RunStatus.FAILURE and not failures:
        failures = {"": said[:LONGEST_FAILURE]}
        failed = {step: () for step in _planned(instance, run) if step not in succeeded and name_of_part(step)}
    ended = record.end_time
    return RunEnd(
        run_id=run.run_id,
        job=run.job_name,
        partition_key=covered,
        status=status,
        steps=succeeded,
        failures=failures if status is RunStatus.FAILURE else {},
        ended_at=record.update_timestamp if ended is None else datetime.fromtimestamp(ended, UTC),
        checks=tuple(checks.values()),
        parts=parts,
        failed=failed if status is RunStatus.FAILURE else {},
    )


def _part(step: str, name: str) -> str:
    """A table or model of a step: the step, where it is about no other."""
    return step if name_of_part(step) == name else f"{step}/{name}"


def _planned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[str]:
    """The steps of a run."""
    if run.execution_plan_snapshot_id is None:
        return ()
    return instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute


def _own_check(said: dg.AssetCheckEvaluation, covered: str, about: Subjects) -> CheckEnd | None:
    """What a check of somebody's own says; None for rules, dbt's tests and refused deliveries, which the ledger has.

    Args:
        covered: the partitions of the run.
    """
    layer, name = said.asset_key.path[0], said.asset_key.path[-1]
    table = about.tables.get(name) if layer == "staging" else None
    ours = table is not None and said.check_name in {CHECK, *(rule.id for rule in table.rules)}
    if ours or said.check_name in about.tests:
        return None
    return CheckEnd(
        asset=said.asset_key.to_user_string(),
        check=said.check_name,
        partition_key=said.partition or covered,
        passed=said.passed,
        severity=Severity.ERROR if said.severity is dg.AssetCheckSeverity.ERROR else Severity.WARNING,
        description=(said.description or "")[:LONGEST_FAILURE],
    )


# -- channels ---------------------------------------------------------------------------------------------------------


def channels(settings: AlertSettings) -> list[Channel]:
    """The channels of the settings; no secret is read before something is sent."""
    return [_channel(name, settings) for name in settings.channels]


def _channel(name: str, settings: AlertSettings) -> Channel:
    if name == "webhook" and settings.webhook is not None:
        return WebhookChannel(settings.webhook)
    if name == "slack" and settings.slack_webhook is not None:
        return SlackWebhook(settings.slack_webhook)
    if name == "slack" and settings.slack_token is not None and settings.slack_channel is not None:
        return SlackApi(_slack_client(settings.slack_token, settings.slack_api), settings.slack_channel)
    return LogChannel()


def _slack_client(token: Secret, url: str) -> Callable[[], WebClient]:
    def make() -> WebClient:
        # Imported here: only where Slack is used.
        from dagster_slack import SlackResource
        from slack_sdk.http_retry.builtin_handlers import ConnectionErrorRetryHandler, ServerErrorRetryHandler

        client = SlackResource(token=token.reveal()).get_client()
        client.base_url = url
        client.timeout = SLACK_TIMEOUT
        client.retry_handlers = [ConnectionErrorRetryHandler(max_retry_count=2), ServerErrorRetryHandler(2)]
        return client

    return make
