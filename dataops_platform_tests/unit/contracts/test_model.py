"""Partitions, thresholds and types."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.contracts import FieldType, Granularity, Kind, Operator, Partitioning, Threshold, Unit
from dataops_platform.contracts.types import LOGICAL_TYPES, PHYSICAL_TYPES, parse_type

moments = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1))
granularities = st.sampled_from(Granularity)


@given(moments, granularities)
def test_keys_round_trip(moment, granularity):
    partitioning = Partitioning("f", granularity, date(1990, 1, 1))
    key = partitioning.key(moment)
    start = partitioning.parse(key)
    assert partitioning.key(start) == key
    assert start <= moment < partitioning.next(start)
    assert partitioning.key(partitioning.next(start)) > key


@given(moments, moments, granularities)
def test_keys_sort_in_time_order(one, other, granularity):
    partitioning = Partitioning("f", granularity, date(1990, 1, 1))
    assert (partitioning.key(one) <= partitioning.key(other)) or one > other


@given(st.dates(date(2000, 1, 1), date(2030, 1, 1)), st.integers(0, 40))
def test_days_from_start_to_end(start, days):
    keys = Partitioning("f", Granularity.DAY, start, start + timedelta(days=days)).keys()
    assert keys == [str(start + timedelta(days=day)) for day in range(days + 1)]


@pytest.mark.parametrize("key", ["2024-1-01", "2024-01-01-00:00", "yesterday", "2024-02-30", ""])
def test_misspelled_keys(key):
    with pytest.raises(ValueError, match=r"isn't of the form 2024-01-01"):
        Partitioning("f", Granularity.DAY, date(2024, 1, 1)).parse(key)


def test_a_partition_ends_in_its_own_zone():
    paris = Partitioning("f", Granularity.DAY, date(2024, 1, 1), timezone="Europe/Paris")
    assert paris.ends_at("2024-07-01") == datetime(2024, 7, 1, 22, tzinfo=UTC)


numbers = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)


@given(numbers, numbers, numbers)
def test_thresholds(observed, one, other):
    low, high = sorted((one, other))
    holds = {operator: Threshold(operator, (low, high)).holds(observed) for operator in Operator}
    assert holds[Operator.BETWEEN] is (low <= observed <= high)
    for operator, opposite in [
        (Operator.BE, Operator.NOT_BE),
        (Operator.GREATER, Operator.LESS_EQUAL),
        (Operator.LESS, Operator.GREATER_EQUAL),
        (Operator.BETWEEN, Operator.NOT_BETWEEN),
    ]:
        assert holds[operator] is not holds[opposite]
    assert not any(Threshold(operator, (low, high)).holds(None) for operator in Operator)


def test_threshold_texts():
    assert str(Threshold()) == "mustBe 0"
    assert str(Threshold(Operator.BETWEEN, (0.5, 1234567), Unit.PERCENT)) == "mustBeBetween 0.5, 1234567 %"


@given(st.sampled_from(sorted(LOGICAL_TYPES)), st.sampled_from(sorted(PHYSICAL_TYPES)))
def test_a_physical_type_only_narrows(logical, physical):
    try:
        narrowed = parse_type(logical, physical)
    except ValueError as error:
        assert "contradicts" in str(error)  # noqa: PT017
        return
    assert narrowed.kind is PHYSICAL_TYPES[physical]
    assert narrowed.duckdb
    assert narrowed.bigquery


def test_decimals():
    assert parse_type("number", "NUMERIC(10,2)") == FieldType(Kind.DECIMAL, 10, 2)
    assert parse_type("number", "numeric") == FieldType(Kind.DECIMAL, 38, 9)
    assert FieldType(Kind.DECIMAL, 38, 10).bigquery == "BIGNUMERIC(38,10)"
    with pytest.raises(ValueError, match="precision"):
        parse_type("number", "NUMERIC(3,4)")
