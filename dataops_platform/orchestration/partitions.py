"""Partitions: from contracts to Dagster, and from a run back to the keys it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import UNPARTITIONED, Cut, Granularity, NamedPartitioning


@cache
def definition(partitioning: Cut) -> dg.PartitionsDefinition[str]:
    """Dagster's partitions of a contract's partitioning; equal ones share one definition, so that a job can too."""
    if isinstance(partitioning, NamedPartitioning):
        return dg.StaticPartitionsDefinition(list(partitioning.names))
    end = None if partitioning.end is None else (partitioning.end + timedelta(days=1)).isoformat()
    start = partitioning.start.isoformat()
    match partitioning.granularity:
        case Granularity.HOUR:
            full_end = None if end is None else f"{end}-00:00"
            return dg.HourlyPartitionsDefinition(f"{start}-00:00", full_end, timezone=partitioning.timezone)
        case Granularity.DAY:
            return dg.DailyPartitionsDefinition(start, end, timezone=partitioning.timezone)
        case Granularity.WEEK:
            return dg.WeeklyPartitionsDefinition(start, end_date=end, timezone=partitioning.timezone, day_offset=1)
        case Granularity.MONTH:
            return dg.MonthlyPartitionsDefinition(start, end, timezone=partitioning.timezone)


def backfill_policy(table: Table) -> dg.BackfillPolicy:
    """All partitions asked in one run, or as many as the contract allows."""
    if table.partitions_per_run is None:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(table.partitions_per_run)


def same_partitions(left: Cut, right: Cut) -> bool:
    """Whether two tables are cut alike, whatever their partition columns are called."""
    return definition(left) == definition(right)


_OFFSET = re.compile(r"(?<=:00)[+-]\d{4}$")


def by_the_clock(key: str) -> str:
    """A key of Dagster's as the platform has it.

    Where clocks are set back, an hour comes twice, and Dagster tells the second one by its offset. Rows are cut by
    what the clock says, so both are one partition.
    """
    return _OFFSET.sub("", key)


def span(run_tags: Mapping[str, str]) -> tuple[str, str] | None:
    """First and last partition key a run is about, None for a run without partitions.

    Read from the run, not from the step: asset checks and unpartitioned steps of a ranged run know no partitions.
    """
    if ASSET_PARTITION_RANGE_START_TAG in run_tags:
        first, last = run_tags[ASSET_PARTITION_RANGE_START_TAG], run_tags[ASSET_PARTITION_RANGE_END_TAG]
    elif PARTITION_NAME_TAG in run_tags:
        first = last = run_tags[PARTITION_NAME_TAG]
    else:
        return None
    return by_the_clock(first), by_the_clock(last)


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags of a run over a range of partitions."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def keys_of_run(table: Table, run_tags: Mapping[str, str]) -> list[str] | None:
    """The partitions of a table that a run is about.

    Returns:
        `[all]` for a table without partitions; None when the run has no partitions: the caller takes all there are.

    Raises:
        ValueError: a key isn't one of the table's.
    """
    if table.partitioning is None:
        return [UNPARTITIONED]
    asked = span(run_tags)
    return None if asked is None else table.partitioning.keys(*asked)
