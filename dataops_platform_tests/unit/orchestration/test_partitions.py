"""Dagster's partitions are the contract's."""

from __future__ import annotations

from datetime import date

import pytest

from dataops_platform.contracts import Granularity, Partitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.orchestration.partitions import by_the_clock, definition, keys_of_run, range_tags
from dataops_platform_tests.support import daily, table

CUTS = [(granularity, zone) for granularity in Granularity for zone in ("UTC", "Asia/Kolkata", "America/New_York")]


@pytest.mark.parametrize(("granularity", "zone"), CUTS)
def test_the_keys_are_the_same(granularity, zone):
    # From a Monday that is the first of a month to a Sunday that is the last of one; in New York, an hour is left out.
    cut = Partitioning("at", granularity, date(2024, 1, 1), date(2024, 3, 31), zone)
    dagster = definition(cut)
    keys = dagster.get_partition_keys()
    assert keys == cut.keys()
    for key in (keys[0], keys[-1]):
        assert dagster.time_window_for_partition_key(key).end.timestamp() == cut.ends_at(key).timestamp()


def test_an_hour_that_comes_twice_is_one_partition():
    """Rows are cut by what the clock says."""
    cut = Partitioning("at", Granularity.HOUR, date(2026, 11, 1), date(2026, 11, 1), "America/New_York")
    keys = definition(cut).get_partition_keys()
    assert keys[1:3] == ["2026-11-01-01:00", "2026-11-01-01:00-0500"]
    assert list(dict.fromkeys(map(by_the_clock, keys))) == cut.keys()
    t = table("t", {"at": Kind.TIMESTAMP}, partitioning=cut)
    assert keys_of_run(t, range_tags(keys[2], keys[3])) == ["2026-11-01-01:00", "2026-11-01-02:00"]
    assert by_the_clock("2024-01-01") == str(daily().start) == "2024-01-01"
