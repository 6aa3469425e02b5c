"""Dagster's partitions are the contract's."""

from __future__ import annotations

from datetime import date

import pytest

from dataops_platform.contracts import Granularity, Partitioning
from dataops_platform.orchestration.partitions import definition

CUTS = [(granularity, zone) for granularity in Granularity for zone in ("UTC", "Asia/Kolkata", "America/New_York")]
CUTS.remove((Granularity.HOUR, "America/New_York"))  # there, one hour of the year comes twice and one not at all


@pytest.mark.parametrize(("granularity", "zone"), CUTS)
def test_the_keys_are_the_same(granularity, zone):
    # From a Monday that is the first of a month to a Sunday that is the last of one.
    cut = Partitioning("at", granularity, date(2024, 1, 1), date(2024, 3, 31), zone)
    dagster = definition(cut)
    keys = dagster.get_partition_keys()
    assert keys == cut.keys()
    for key in (keys[0], keys[-1]):
        assert dagster.time_window_for_partition_key(key).end.timestamp() == cut.ends_at(key).timestamp()
