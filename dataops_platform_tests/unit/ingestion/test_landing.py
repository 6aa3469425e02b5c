"""Which partitions a table has, of those that names speak of."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.ingestion.landing import out_of_range

HOURS = Partitioning("at", Granularity.HOUR, date(2024, 3, 30), date(2024, 12, 31), "Europe/Berlin")


@pytest.mark.parametrize(
    ("partition", "why"),
    [
        ("2024-03-31-01:00", None),
        ("2024-03-31-02:00", "there is no 2024-03-31-02:00 in Europe/Berlin: clocks are set forward then"),
        ("2024-03-31-03:00", None),
        ("2024-10-27-02:00", None),  # comes twice
        ("2024-03-29-23:00", "is before the table's first day 2024-03-30"),
        ("2025-01-01-00:00", "is after the table's last day 2024-12-31"),
    ],
)
def test_hours(partition, why):
    found = out_of_range(HOURS, partition, datetime(2025, 6, 1, tzinfo=UTC))
    assert found is None if why is None else why in found
