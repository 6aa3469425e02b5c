"""The sensor `notifications`: messages of Cloud Storage about new objects become runs.

One sensor for all tables: they share a subscription, of which every message is delivered once. It asks for the same
runs as the landing sensors, which list what is there; those stay, and find what a lost message was about.

Dagster keeps a tick's runs and cursor after the tick is over, so no message is acknowledged in the tick that asked for
its run, but in the next one, when the run is seen in Dagster's storage.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import RUN_KEY_TAG

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.landing import is_over
from dataops_platform.ingestion.landing_scan import Ask, ask_for
from dataops_platform.ingestion.notifications import Landed, Sorted, bury, sort
from dataops_platform.ingestion.notified import Held, Part, Run, State, by_part, newest
from dataops_platform.orchestration.errors import sensor_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.run_requests import TABLE_TAG, run_requests
from dataops_platform.orchestration.table_options import SHOWN
from dataops_platform.pubsub import Received, Subscription
from dataops_platform.warehouse.loading import foreign_partition

NOTIFICATION_SENSOR = "notifications"
INTERVAL = 30
"""Seconds between ticks."""
AT_ONCE = 1000
"""Messages of one call."""
MOST = 10_000
"""Messages of one tick."""
LONGEST = 20.0
"""Seconds that a tick pulls for at most; it may take sixty in all."""
PATIENCE = 2.0
"""Seconds to wait for a message."""
LEASE = 120
"""Seconds until a message that isn't acknowledged is delivered again: the next tick comes before that."""
_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
RUNS = 30
"""Runs that one tick asks for, where partitions that follow on one another count as one."""


def notification_sensor(
    tables: Mapping[str, Table], jobs: Sequence[UnresolvedAssetJobDefinition]
) -> dg.SensorDefinition:
    """The sensor.

    Args:
        tables: those that have a landing server.
        jobs: all jobs that have assets.
    """
    held = Held()

    @dg.sensor(
        name=NOTIFICATION_SENSOR,
        jobs=list(jobs),
        minimum_interval_seconds=INTERVAL,
        description="Runs the pipeline for objects that others wrote, as the subscription DATAOPS_NOTIFICATIONS tells.",
    )
    def notified(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        assert context.repository_def is not None
        name = platform.settings.notifications
        if name is None:
            raise ConfigError("DATAOPS_NOTIFICATIONS isn't set: set it to projects/<project>/subscriptions/<name>")
        service = Subscription("DATAOPS_NOTIFICATIONS", name, platform.settings.identity.subscriber_client)
        with sensor_errors(), closing(service) as subscription:
            return _Tick(context, platform, tables, context.repository_def, held, subscription).run()

    return notified


class _Tick:
    def __init__(
        self,
        context: dg.SensorEvaluationContext,
        platform: Platform,
        tables: Mapping[str, Table],
        repository: dg.RepositoryDefinition,
        held: Held,
        subscription: Subscription,
    ) -> None:
        self._context, self._platform, self._tables, self._repository = context, platform, tables, repository
        self._held, self._subscription = held, subscription
        self._now = datetime.now(UTC)
        self._ends: dict[str, bool] = {}
        self._state = self._known()

    def run(self) -> dg.SensorResult:
        """Acknowledge what is safe by now, look at what came, and ask for runs."""
        kept = dict(self._state.early)  # in a cursor that Dagster has
        done = list(self._held.settle(self._state))
        messages = self._pull()
        places = {name: place for name in self._tables if (place := self._platform.place(self._tables[name]))}
        found = sort(messages, self._tables, places, self._platform.lake, self._now)
        for uri in bury(self._platform.lake, found.unreadable):
            self._context.log.warning(f"a message that can't be read is kept in {uri}")
        for name, reason in list(found.strange.items())[:SHOWN]:
            self._context.log.warning(f"{name} {reason}")
        done += [*found.known, *found.others, *(message.handle for message, _ in found.unreadable)]

        wanted: list[Landed] = []
        for item in found.new:
            run = self._state.covers(item)
            if run is None or (run.sure and self._failed(item.table, run)):
                wanted.append(item)
            elif run.sure:
                done.append(item.handle)
            else:
                self._held.add([item])
        for item in found.early:
            part = item.table, item.partition
            if part in kept:
                done.append(item.handle)
            else:
                self._held.add([item])
            self._state.early[part] = max(item.written_ms, self._state.early.get(part, 0))
        requests = self._ask(wanted)
        self._subscription.acknowledge(done)
        said = summary(found, len(messages), len(done))
        self._context.log.info(said)
        cursor = self._state.to_json()
        if not requests:
            return dg.SensorResult(skip_reason=said, cursor=cursor)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    def _known(self) -> State:
        """What the last tick left, and which of its runs are in Dagster's storage by now."""
        try:
            state = State.from_json(self._context.cursor)
        except ValueError as error:
            self._context.log.warning(f"{error}; beginning anew: nothing is lost, or delivered twice, by that")
            return State()
        stored: dict[str, bool] = {}
        for part, run in state.runs.items():
            if not run.sure:
                if run.key not in stored:
                    tags = {RUN_KEY_TAG: run.key, TABLE_TAG: part[0]}
                    stored[run.key] = bool(self._context.instance.get_run_records(dg.RunsFilter(tags=tags), limit=1))
                state.runs[part] = replace(run, sure=stored[run.key])
        for part in {*state.early, *state.runs}:
            table = self._tables.get(part[0])
            why = foreign_partition(table, part[1]) if table is not None else ["the contract doesn't have it any more"]
            if why and part in state.early:
                self._context.log.warning(f"{part[0]}: objects of {part[1]} landed and are left alone: {why[0]}")
            if why:
                state.early.pop(part, None)
                state.runs.pop(part, None)
        state.settle(self._now)
        return state

    def _failed(self, table: str, run: Run) -> bool:
        """Whether a run that stands for objects ended without delivering them, as far as its end tells."""
        if run.key not in self._ends:
            tags = {RUN_KEY_TAG: run.key, TABLE_TAG: table}
            newest = self._context.instance.get_run_records(dg.RunsFilter(tags=tags), limit=1)
            self._ends[run.key] = bool(newest) and newest[0].dagster_run.status in _FAILED
        return self._ends[run.key]

    def _pull(self) -> list[Received]:
        end = time.monotonic() + LONGEST
        received: list[Received] = []
        while len(received) < MOST and time.monotonic() < end:
            some = self._subscription.pull(AT_ONCE, PATIENCE)
            if not some:
                break
            self._subscription.keep([message.handle for message in some], LEASE)
            received += some
        return received

    def _ask(self, wanted: Sequence[Landed]) -> list[dg.RunRequest]:
        """Runs for objects that none was asked for, and for partitions that are over by now."""
        items: dict[Part, list[Landed]] = by_part(wanted)
        latest = {part: newest(landed) for part, landed in items.items()}
        for part, written in list(self._state.early.items()):
            table = self._tables.get(part[0])
            if table is None:
                del self._state.early[part]
            elif is_over(table.partitioning, part[1], self._now):
                run = self._state.runs.get(part)
                if run is None or run.newest_ms < written:
                    latest[part] = max(written, latest.get(part, 0))
        requests: list[dg.RunRequest] = []
        for name in sorted({name for name, _ in latest}):
            asks = [self._ask_for(part, latest[part], items) for part in latest if part[0] == name]
            for group, request in run_requests(self._tables[name], self._repository, asks):
                parts = [(name, ask.partition) for ask in group]
                landed = [item for part in parts for item in items.get(part, ())]
                if len(requests) >= RUNS:
                    # They come again at once: the next tick asks for more.
                    self._subscription.keep([item.handle for item in landed], 0)
                    continue
                requests.append(request)
                self._held.add(landed)
                for part in parts:
                    self._state.runs[part] = Run(latest[part], self._now.timestamp(), request.run_key or "")
        return requests

    def _ask_for(self, part: Part, latest: int, items: Mapping[Part, Sequence[Landed]]) -> Ask:
        """Of a partition that was waited for, the names of its objects aren't known any more: the run lists them."""
        objects = {item.identity for item in items.get(part, ())} or {("waited for", latest)}
        return ask_for(part[1], objects, self._now)


def summary(found: Sorted, messages: int, done: int) -> str:
    """What a tick saw, in a line."""
    parts = [f"{messages:,} messages, {len(found.new):,} of new objects"]
    if found.early:
        parts.append(f"{len(found.early)} of partition {max(item.partition for item in found.early)}, not over yet")
    if found.known:
        parts.append(f"{len(found.known)} of objects known before")
    if found.others:
        parts.append(f"{len(found.others)} of nothing to be delivered")
    if found.strange:
        some = ", ".join(list(found.strange)[:3]) + (", …" if len(found.strange) > 3 else "")
        parts.append(f"{len(found.strange)} that don't belong: {some}")
    if found.unreadable:
        parts.append(f"{len(found.unreadable)} that can't be read: {found.unreadable[0][1]}")
    parts.append(f"{done:,} acknowledged")
    return "; ".join(parts)
