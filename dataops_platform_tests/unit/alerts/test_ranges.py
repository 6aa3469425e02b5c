"""Partitions without others, against sets of keys."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.alerts.ranges import clipped, joined, without
from dataops_platform.contracts.partitions import Granularity, NamedPartitioning, Partitioning

DAYS = Partitioning("day", Granularity.DAY, date(2024, 2, 20), date(2024, 3, 10))
NAMES = NamedPartitioning("region", ("ch", "de", "fr", "it"))


@pytest.mark.parametrize(
    ("these", "those", "left"),
    [
        (["2024-02-20..2024-03-10"], ["2024-02-28"], ["2024-02-20..2024-02-27", "2024-02-29..2024-03-10"]),
        (["2024-02-20..2024-03-10"], ["2024-02-20..2024-03-09"], ["2024-03-10"]),
        (["2024-02-20"], ["2024-02-20"], []),
        (["2024-02-20..2024-02-22"], ["2024-02-19..2024-03-01"], []),
        (["2024-02-20", "2024-02-25"], ["2024-02-20"], ["2024-02-25"]),
        (["2024-02-20"], ["all"], []),
        (["all"], ["all"], []),
        (["all"], ["2024-02-20..2024-03-10"], ["all"]),
    ],
)
def test_what_is_left(these, those, left):
    assert without(these, those, DAYS) == left


def test_without_knowing_what_lies_between_a_range_is_taken_away_as_a_whole():
    assert without(["2024-02-20..2024-02-22"], ["2024-02-20"], None) == ["2024-02-20..2024-02-22"]
    assert without(["2024-02-20..2024-02-22"], ["2024-02-01..2024-02-28"], None) == []
    assert without(["2024-02..2024-03"], ["2024-02-21"], DAYS) == ["2024-02..2024-03"]  # cut otherwise by now


def test_what_there_is_no_more():
    assert clipped(["2024-01-01..2024-02-22", "2024-03-09..2024-03-31", "2024-04-01", "all", "emea"], DAYS) == [
        "2024-02-20..2024-02-22", "2024-03-09..2024-03-10", "all",
    ]  # fmt: skip
    assert clipped(["ch..fr", "us"], NAMES) == ["ch..fr"]
    assert clipped(["ch..fr", "us"], None) == ["ch..fr", "us"]
    hours = Partitioning("at", Granularity.HOUR, date(2024, 3, 30), None, "Europe/Berlin")
    night = ["2024-03-31-01:00..2024-03-31-04:00"]
    assert clipped(night, hours) == night
    assert without(night, ["2024-03-31-03:00"], hours) == ["2024-03-31-01:00", "2024-03-31-04:00"]  # there is no 2


def test_names():
    assert without(["ch..it"], ["de"], NAMES) == ["ch", "fr..it"]
    assert joined(["ch", "fr", "it"], NAMES) == ["ch", "fr..it"]
    assert joined(["it", "elsewhere"], NAMES) == ["it", "elsewhere"]
    assert joined(["ch", "de"], None) == ["ch", "de"]


EVERY = DAYS.keys()
SOME = st.sets(st.sampled_from(EVERY))


@given(SOME, st.lists(SOME, max_size=3))
def test_runs_take_away_what_they_did_and_nothing_else(these, runs):
    left, wanted = joined(sorted(these), DAYS), set(these)
    for done in runs:
        left, wanted = without(left, joined(sorted(done), DAYS), DAYS), wanted - done
    assert [key for item in left for key in DAYS.keys(*(item.split("..") * 2)[:2])] == sorted(wanted)
    assert left == joined(sorted(wanted), DAYS)
