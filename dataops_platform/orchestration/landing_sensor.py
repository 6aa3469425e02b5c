"""Landing sensors: what others wrote becomes runs.

One sensor per table, not one for all: each can be turned off by itself, its ticks and its cursor are about one place,
a bucket that doesn't answer fails no other table's ticks, and the daemon may evaluate them side by side.

Where Pub/Sub tells of new objects (see `notification_sensor`) these sensors are what finds those that a lost message
was about: they look less often, at more at once, and leave young objects alone.

A sensor only looks and asks. Deliveries are made by the run, in `raw/<table>`, so that a click or a backfill does the
same, and nothing heavy happens in the daemon's sixty seconds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.landing_scan import Ask, Limits, Position, Scan, neighbour, scan
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.errors import sensor_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.table_options import ROWS_LEFT, SHOWN, raw_key, staging_key

INTERVAL = 30
"""Seconds between ticks."""
NOTIFIED_INTERVAL = 300
"""The same, where Pub/Sub tells of new objects."""
NOTIFIED = Limits(page=10_000, grace=timedelta(minutes=10))
"""What a tick does there: as many names an hour as else."""
SINGLE_RUNS = 3
"""Up to so many partitions in a row get a run each; more of them are one run over their range."""
MOST_MOVED = 500
"""Observations that a tick reads at most."""
TABLE_TAG = "dataops/landing"
"""Run tag: the table whose objects landed."""


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
        moved, last = ([], 0) if by_conditions else _moved(context, table, found.position.moved)
        cursor = replace(found.position, moved=last).to_json()
        asked = {ask.partition for ask in found.asks}
        asks = [*found.asks, *(ask for ask in moved if ask.partition not in asked)]
        if not asks:
            return dg.SensorResult(skip_reason=said, cursor=cursor)
        assert context.repository_def is not None
        requests = [request for _, request in run_requests(table, context.repository_def, asks)]
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return landed


def _moved(context: dg.SensorEvaluationContext, table: Table, after: int) -> tuple[list[Ask], int]:
    """Partitions that rows have left since an event, whose models are to be made anew; and the last event seen."""
    only = dg.AssetRecordsFilter(staging_key(table.name), after_storage_id=after)
    records = context.instance.fetch_observations(only, MOST_MOVED, ascending=True).records
    found: dict[str, Ask] = {}
    for record in records:
        observed = record.asset_observation
        if observed is not None and observed.partition is not None and ROWS_LEFT in observed.metadata:
            found[observed.partition] = Ask(observed.partition, 0, f"rows left, {record.storage_id}")
    return list(found.values()), records[-1].storage_id if records else after


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


def run_requests(
    table: Table, repository: dg.RepositoryDefinition, asks: Sequence[Ask]
) -> list[tuple[Sequence[Ask], dg.RunRequest]]:
    """The runs to request, each with what it was asked for."""
    job, selection = _target(table, repository)
    requests: list[tuple[Sequence[Ask], dg.RunRequest]] = []
    for group in grouped(table, asks):
        first, last = group[0], group[-1]
        tags = {TABLE_TAG: table.name}
        if len(group) > 1:
            together = hashlib.sha256("|".join(ask.identity for ask in group).encode()).hexdigest()[:16]
            key = f"{table.name}|{first.partition}..{last.partition}|{together}"
            tags |= partitions.range_tags(first.partition, last.partition)
            partition = None
        else:
            key = f"{table.name}|{first.partition}|{first.identity}"
            partition = first.partition if table.partitioning else None
        request = dg.RunRequest(
            run_key=key, job_name=job, asset_selection=selection, partition_key=partition, tags=tags
        )
        requests.append((group, request))
    return requests


def grouped(table: Table, asks: Sequence[Ask]) -> list[list[Ask]]:
    """Partitions that follow on one another, where there are more than a few of them; others alone.

    A run takes on no more than the contract allows.
    """
    rows: list[list[Ask]] = []
    for ask in sorted(asks, key=lambda ask: ask.partition):
        room = not rows or table.partitions_per_run is None or len(rows[-1]) < table.partitions_per_run
        if rows and room and neighbour(table, ask.partition) == rows[-1][-1].partition:
            rows[-1].append(ask)
        else:
            rows.append([ask])
    return [group for row in rows for group in ([row] if len(row) > SINGLE_RUNS else [[ask] for ask in row])]


def _target(table: Table, repository: dg.RepositoryDefinition) -> tuple[str, list[dg.AssetKey]]:
    """The job that has the table's raw asset, and what follows from it there.

    A table without partitions doesn't start a run of partitioned models: which of their partitions it changes is
    found by the schedule, or `dataops run`.
    """
    raw, graph = raw_key(table.name), repository.asset_graph
    job = next(
        job
        for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
        if not job.name.startswith("__") and raw in job.asset_layer.executable_asset_keys
    )
    following = dg.AssetSelection.assets(raw).downstream().resolve(graph) & set(job.asset_layer.executable_asset_keys)
    cut = graph.get(raw).partitions_def
    chosen = {key for key in following if graph.get(key).partitions_def in (None, cut)}
    return job.name, sorted(chosen)
