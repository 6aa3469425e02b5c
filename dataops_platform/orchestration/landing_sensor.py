"""Landing sensors: what others wrote becomes runs.

One sensor per table, not one for all: each can be turned off by itself, its ticks and its cursor are about one place,
a bucket that doesn't answer fails no other table's ticks, and the daemon may evaluate them side by side.

Where Pub/Sub tells of new objects (see `notification_sensor`) these sensors are what finds those that a lost message
was about: they look less often, at more at once, and leave young objects alone.

A sensor only looks and asks. Deliveries are made by the run, in `raw/<table>`, so that a click or a backfill does the
same, and nothing heavy happens in the daemon's sixty seconds.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.landing_scan import Limits, Position, Scan, scan
from dataops_platform.orchestration import rows_left
from dataops_platform.orchestration.errors import sensor_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.run_requests import run_requests
from dataops_platform.orchestration.table_options import SHOWN

INTERVAL = 30
"""Seconds between ticks."""
NOTIFIED_INTERVAL = 300
"""The same, where Pub/Sub tells of new objects."""
NOTIFIED = Limits(page=10_000, grace=timedelta(minutes=10))
"""What a tick does there: as many names an hour as else."""


def landing_sensor(
    table: Table, jobs: Sequence[UnresolvedAssetJobDefinition], notified: bool = False, by_conditions: bool = False
) -> dg.SensorDefinition:
    """The sensor of a table that has a landing server.

    Args:
        jobs: all jobs that have assets; the one that has the table's is run, from its raw asset on.
        notified: whether Pub/Sub tells of new objects.
        by_conditions: whether conditions follow for partitions that rows have left; else this sensor asks for them.
    """

    @dg.sensor(
        name=f"landing_{table.name}",
        jobs=list(jobs),
        minimum_interval_seconds=NOTIFIED_INTERVAL if notified else INTERVAL,
        description=f"Runs the pipeline for objects of {table.name} that others wrote.",
    )
    def landed(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        with sensor_errors():
            place = platform.place(table)
            if place is None:
                raise ConfigError(f"{table.name} lands nowhere in environment {platform.settings.environment}")
            limits = NOTIFIED if notified else None
            found = scan(table, place, platform.lake, _position(context), datetime.now(UTC), limits)
        for name, reason in list(found.strange.items())[:SHOWN]:
            context.log.warning(f"{name} {reason}")
        nowhere = place.inbox.missing()
        said = f"{nowhere}: nothing can land" if nowhere else summary(found)
        context.log.info(said)
        moved, last = ([], 0) if by_conditions else rows_left.left(context.instance, table, found.position.moved)
        cursor = replace(found.position, moved=last).to_json()
        asked = {ask.partition for ask in found.asks}
        asks = [*found.asks, *(ask for ask in moved if ask.partition not in asked)]
        if not asks:
            return dg.SensorResult(skip_reason=said, cursor=cursor)
        assert context.repository_def is not None
        requests = [request for _, request in run_requests(table, context.repository_def, asks)]
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return landed


def _position(context: dg.SensorEvaluationContext) -> Position:
    """Where the last tick ended. A cursor that can't be read is the beginning: nothing is delivered twice by that."""
    try:
        return Position.from_json(context.cursor)
    except ValueError as error:
        context.log.warning(f"{error}; looking through landing from the beginning")
        return Position()


def summary(found: Scan) -> str:
    """What a tick saw, in a line."""
    parts = [f"{found.names:,} names looked at, {found.new:,} new objects"]
    if found.under_way:
        parts.append(f"{found.under_way} partition(s) under way")
    if found.open:
        parts.append(f"partition {max(found.open)} isn't over yet")
    if found.unsettled:
        parts.append(f"{len(found.unsettled)} still being written")
    if found.young:
        parts.append(f"{len(found.young)} that Pub/Sub tells of")
    if found.refused:
        parts.append(f"{len(found.refused)} refused before")
    if found.strange:
        some = ", ".join(list(found.strange)[:3]) + (", …" if len(found.strange) > 3 else "")
        parts.append(f"{len(found.strange)} that don't belong: {some}")
    elif found.position.strange_before:
        parts.append(f"{found.position.strange_before} that don't belong, as the last sweep found")
    if found.more:
        parts.append("more at the next tick")
    return "; ".join(parts)
