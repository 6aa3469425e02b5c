"""Jobs and schedules: one job per way of cutting tables, because a Dagster job has one kind of partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.partitioned_schedule import UnresolvedPartitionedAssetScheduleDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.orchestration import partitions
from dataops_platform.transformation.models import Models

AnySchedule = dg.ScheduleDefinition | UnresolvedPartitionedAssetScheduleDefinition

MAIN_JOB = "pipeline"
SCHEDULE_HOUR, SCHEDULE_MINUTE = 7, 0
_SEVEN = {"hour_of_day": SCHEDULE_HOUR, "minute_of_hour": SCHEDULE_MINUTE}
_MOMENTS: Mapping[Granularity, tuple[str, dict[str, Any]]] = {
    Granularity.HOUR: ("hourly", {"minute_of_hour": 15}),
    Granularity.DAY: ("daily", _SEVEN),
    Granularity.WEEK: ("weekly", {"day_of_week": 1, **_SEVEN}),
    Granularity.MONTH: ("monthly", {"day_of_month": 1, **_SEVEN}),
}


def due(table: Table) -> tuple[str, str]:
    """When a table's newest partition is over, and its data expected: a cron schedule, and its time zone."""
    if table.by_time is None:
        return f"{SCHEDULE_MINUTE} {SCHEDULE_HOUR} * * *", "UTC"
    _, moment = _MOMENTS[table.by_time.granularity]
    fields = ("minute_of_hour", "hour_of_day", "day_of_month", "month", "day_of_week")
    return " ".join(str(moment.get(field, "*")) for field in fields), table.by_time.timezone


def jobs(
    assets: Sequence[dg.AssetsDefinition], tables: Mapping[str, Table], models: Models
) -> tuple[list[UnresolvedAssetJobDefinition], list[AnySchedule]]:
    """The main job over everything, and its daily schedule.

    Tables that are cut like most others form the main job `pipeline`, together with everything without partitions;
    each other way of cutting gets a job of its own, `pipeline_2` and so on.
    """
    keys_by_cut: dict[dg.PartitionsDefinition[str] | None, list[dg.AssetKey]] = {}
    for definition in assets:
        for spec in definition.specs:
            keys_by_cut.setdefault(spec.partitions_def, []).append(spec.key)
    plain = keys_by_cut.pop(None, [])
    cuts = sorted(keys_by_cut, key=lambda cut: -len(keys_by_cut[cut]))
    made, schedules = [], []
    for number, cut in enumerate(cuts or [None], start=1):
        name = MAIN_JOB if number == 1 else f"{MAIN_JOB}_{number}"
        keys = [*(keys_by_cut[cut] if cut else []), *(plain if number == 1 else [])]
        job = dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*keys),
            description="Source to production.",
            executor_def=dg.in_process_executor,
        )
        made.append(job)
        schedules.append(_schedule(job, cut, tables))
    return made, schedules


def _by_name(job: UnresolvedAssetJobDefinition, cut: dg.StaticPartitionsDefinition, cron: str) -> dg.ScheduleDefinition:
    """One run over all names, each day: what has nothing new costs little there."""
    names = cut.get_partition_keys()

    @dg.schedule(name=f"{job.name}_daily", job=job, cron_schedule=cron)
    def daily() -> dg.RunRequest:
        return dg.RunRequest(tags=partitions.range_tags(names[0], names[-1]))

    return daily


def _schedule(
    job: UnresolvedAssetJobDefinition, cut: dg.PartitionsDefinition[str] | None, tables: Mapping[str, Table]
) -> AnySchedule:
    """Once a partition is over: at seven in the morning of its zone, or every hour for hours; of names, each day."""
    cron = f"{SCHEDULE_MINUTE} {SCHEDULE_HOUR} * * *"
    if cut is None:
        return dg.ScheduleDefinition(name=f"{job.name}_daily", job=job, cron_schedule=cron)
    if isinstance(cut, dg.StaticPartitionsDefinition):
        return _by_name(job, cut, cron)
    granularity = next(
        t.by_time.granularity for t in tables.values() if t.by_time and partitions.definition(t.by_time) == cut
    )
    often, moment = _MOMENTS[granularity]
    return dg.build_schedule_from_partitioned_job(job, name=f"{job.name}_{often}", **moment)
