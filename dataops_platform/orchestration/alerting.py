"""Alerts and events at the end of runs: functions that the daemon's sensors call, and `dataops run` in the terminal.

How runs ended is something that only Dagster knows, so it is written to the ledger first: from there on it is told like
everything else, whoever dies when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from dataops_platform.alerts.channels import Channel, LogChannel, SlackApi, SlackWebhook, WebhookChannel
from dataops_platform.alerts.looking import LOOK_BACK, OVERLAP
from dataops_platform.alerts.outbox import Sent, send
from dataops_platform.alerts.settings import AlertSettings
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.model import Contracts
from dataops_platform.contracts.partitions import Cut
from dataops_platform.events.outbox import publish
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.run_ends import ENDED, Plans, run_end
from dataops_platform.pubsub import Topic
from dataops_platform.quality.deadlines import Deadlines, judge_deadlines
from dataops_platform.secrets import Secret
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import Ledger, RunEnd, now

if TYPE_CHECKING:
    from slack_sdk import WebClient

AT_ONCE = 500
"""Runs that are looked at in one round."""
SLACK_TIMEOUT = 15
NO_RUN = "deadlines"
"""Stands for a run in verdicts that no run has reached: a deadline passed."""


def subjects(contracts: Contracts, models: Models, definitions: Iterable[object] = ()) -> Subjects:
    """What alerts may be about.

    Args:
        definitions: assets and asset checks that there are, somebody's own too; none: it isn't known which.
    """
    known = [item for item in definitions if isinstance(item, dg.AssetsDefinition)]
    cuts = {partitions.definition(cut): cut for t in contracts.tables.values() if (cut := t.partitioning) is not None}
    return Subjects(
        contracts.tables,
        {model.name: model.sources for model in models.items if not model.view},
        frozenset(test.name for test in models.tests().values()),
        frozenset(model.name for model in models.items if model.partition_field is None),
        {model.unique_id: model.name for model in models.items},
        {item.node_def.name: _cut(item, cuts) for item in known if item.is_executable},
        frozenset((key.asset_key.to_user_string(), key.name) for item in known for key in item.check_keys),
        {model.name: model.ancestors for model in models.items},
        {model.name: models.read(model) for model in models.items},
    )


def _cut(item: dg.AssetsDefinition, cuts: Mapping[dg.PartitionsDefinition[str], Cut]) -> Cut | None:
    """How all of its assets are cut, where they are cut alike."""
    found = {spec.partitions_def for spec in item.specs}
    only = found.pop() if len(found) == 1 else None
    return None if only is None else cuts.get(only)


def tell(instance: dg.DagsterInstance, settings: Settings, about: Subjects) -> Sent:
    """Write down how runs ended and which deadlines have passed, then tell every channel what it doesn't know.

    What keeps deadlines from being judged keeps nobody from hearing of all else.

    Raises:
        DataOpsError: the ledger can't be read or written. A channel that fails is no error: it is logged.
    """
    warehouse, more = _up_to_date(instance, settings, about)
    deadlines, defect = Deadlines(), None
    try:
        with warehouse.session():
            deadlines = judge_deadlines(warehouse, about.tables, NO_RUN, now())
    except Exception as error:  # raised once all else is told
        defect = error
    found = channels(settings.alerts, settings.log_format)
    sent = send(warehouse, found, about, settings.environment, settings.alerts.ui_url)
    if defect is not None:
        raise defect
    return replace(sent, due=deadlines.due, more=more)


def publish_events(instance: dg.DagsterInstance, settings: Settings, about: Subjects) -> Sent:
    """Write down how runs ended, then publish to the topic of DATAOPS_EVENTS, if any, what it doesn't know.

    Raises:
        DataOpsError: the ledger can't be read or written. A topic that can't be reached is no error: it is logged.
    """
    if settings.events is None:
        return Sent()
    warehouse, more = _up_to_date(instance, settings, about)
    with closing(Topic("DATAOPS_EVENTS", settings.events, settings.identity.publisher_client)) as topic:
        return replace(publish(warehouse, topic, about, settings.environment), more=more)


def _up_to_date(instance: dg.DagsterInstance, settings: Settings, about: Subjects) -> tuple[Warehouse, bool]:
    """The warehouse, with the ends of runs in its ledger; and whether there are more than one round takes."""
    warehouse = settings.warehouse()
    warehouse.ensure([])
    with warehouse.session():
        ledger = Ledger(warehouse)
        ends = _unrecorded(instance, ledger, about)
        ledger.record_run_ends(ends)
    return warehouse, len(ends) == AT_ONCE


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
    plans: Plans = {}
    return [run_end(instance, record, about, plans) for record in unknown[:AT_ONCE]]


# -- channels ---------------------------------------------------------------------------------------------------------


def channels(settings: AlertSettings, log_format: str = "text") -> list[Channel]:
    """The channels of the settings; no secret is read before something is sent."""
    return [_channel(name, settings, log_format) for name in settings.channels]


def _channel(name: str, settings: AlertSettings, log_format: str) -> Channel:
    if name == "webhook" and settings.webhook is not None:
        return WebhookChannel(settings.webhook)
    if name == "slack" and settings.slack_webhook is not None:
        return SlackWebhook(settings.slack_webhook)
    if name == "slack" and settings.slack_token is not None and settings.slack_channel is not None:
        return SlackApi(_slack_client(settings.slack_token, settings.slack_api), settings.slack_channel)
    return LogChannel(each=log_format == "json")


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
