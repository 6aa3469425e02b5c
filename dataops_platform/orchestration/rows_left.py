"""Rows that moved to another partition leave one behind whose models are to be made anew.

The load that took them tells Dagster of it, by an observation of `staging/<table>` (see `table_assets`). Conditions
follow by themselves, `dataops run` makes a further round; where there are only schedules, somebody has to look. A
landing sensor does it for its table, the sensor here for those with a source.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dataops_platform.contracts.model import LoadMode, Table
from dataops_platform.ingestion.landing_scan import Ask
from dataops_platform.orchestration.run_requests import run_requests
from dataops_platform.orchestration.table_options import ROWS_LEFT, staging_key

SENSOR = "rows_left"
INTERVAL = 30
"""Seconds between ticks."""
MOST = 500
"""Observations of a table that a tick reads at most."""


def can_lose_rows(table: Table) -> bool:
    """Whether rows of a table can move to another of its partitions."""
    return table.partitioning is not None and table.load_mode is LoadMode.MERGE


def left(instance: dg.DagsterInstance, table: Table, after: int) -> tuple[list[Ask], int]:
    """Partitions that rows have left since an event, as far as the contract still has them; and the last event seen."""
    only = dg.AssetRecordsFilter(staging_key(table.name), after_storage_id=after)
    records = instance.fetch_observations(only, MOST, ascending=True).records
    found: dict[str, Ask] = {}
    for record in records:
        observed = record.asset_observation
        if observed is not None and observed.partition is not None and ROWS_LEFT in observed.metadata:
            found[observed.partition] = Ask(observed.partition, 0, f"rows left, {record.storage_id}")
    there = found.keys() & set(table.partition_keys()) if found else set()
    return [found[key] for key in sorted(there)], records[-1].storage_id if records else after


def rows_left_sensor(tables: Sequence[Table], jobs: Sequence[UnresolvedAssetJobDefinition]) -> dg.SensorDefinition:
    """The sensor.

    Args:
        tables: those that nothing else looks at.
        jobs: all jobs that have assets.
    """

    @dg.sensor(
        name=SENSOR,
        jobs=list(jobs),
        minimum_interval_seconds=INTERVAL,
        description="Runs the pipeline for partitions that rows have left for others, by a later delivery.",
    )
    def rows_left(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None
        seen: dict[str, int] = json.loads(context.cursor) if context.cursor else {}
        requests: list[dg.RunRequest] = []
        for table in tables:
            asks, seen[table.name] = left(context.instance, table, seen.get(table.name, 0))
            requests += [request for _, request in run_requests(table, context.repository_def, asks)]
        cursor = json.dumps(seen)
        if not requests:
            return dg.SensorResult(skip_reason="no rows have left a partition", cursor=cursor)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return rows_left
