"""The same verdicts on BigQuery as on DuckDB, rule by rule, partition by partition; and few statements."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from dataops_platform.contracts.model import Scope
from dataops_platform.quality.planner import plan
from dataops_platform_tests.integration.quality.test_rules import DAYS, NOON, PARENT, PARENTS, RULES, T
from dataops_platform_tests.support import Home

pytestmark = pytest.mark.cloud


def row(day, i, x, s, b, at):
    return {"day": DAYS[day], "i": i, "x": x, "s": s, "b": b, "at": at}


LATER = NOON + timedelta(hours=1)
ROWS = [
    row(0, 1, -1.0, "a", True, NOON),
    row(0, 1, 10.0, "a", False, NOON - timedelta(microseconds=1)),
    row(0, 2, 10.5, "é", None, None),
    row(0, None, None, None, True, LATER),
    row(0, -4, 0.0, "it's", True, NOON),
    row(0, 3, -0.0, "", True, NOON),
    row(0, 3, 3.5, "", False, LATER),
    row(1, 2, math.inf, "N/A", True, NOON),
    row(1, 2, 3.5, "é", True, NOON),
    row(1, 0, -math.inf, "A\n", None, None),
    row(1, 1, math.nan, "👩‍🚀", True, NOON),
    row(1, 1, 0.3, "9'", True, NOON),
    row(1, 1, 0.3, "\\d", True, NOON),
    row(1, 2, 2.0, "2024-02-29", True, NOON),
    row(1, 5, 4.0, "2023-02-29", False, LATER),
    row(1, None, 4.0, "a@b.co", False, LATER),
]
# A condition with NaN in it: DuckDB holds NaN for greater than any number, BigQuery for no number at all.
OF_NAN = {"condition", "condition_all"}


def judged(home: Home) -> dict:
    home.fill(PARENT, PARENTS)
    deliveries = [home.deliver(T, [r for r in ROWS if r["day"] == day], partition=day) for day in DAYS]
    home.load(T, deliveries)
    return {
        (v.rule_id, v.partition_key): (v.passed, v.observed, v.failed_rows, v.scanned_rows)
        for v in home.judge(T)
        if v.rule_id not in OF_NAN
    }


def test_the_same_verdicts(cloud, tmp_path):
    found, wanted = judged(cloud), judged(Home(tmp_path / "local"))
    assert found.keys() == wanted.keys()
    for key, (passed, observed, failed, scanned) in wanted.items():
        approximately = pytest.approx(observed, nan_ok=True) if observed is not None else None
        assert found[key] == (passed, approximately, failed, scanned), key


def test_few_statements():
    """However many partitions: one scan, and one for each reference, median and query of the two scopes."""
    alone = [r for r in RULES if r.id.startswith(("orphans", "middle", "third", "query", "parents", "numbers"))]
    for partitions in (["2024-01-01"], [f"2024-01-{day:02}" for day in range(1, 32)]):
        statements = plan(T, partitions, "bigquery")
        assert len(statements) == len(alone) + len(Scope)
