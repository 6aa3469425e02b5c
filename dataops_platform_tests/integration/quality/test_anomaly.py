"""Anomalies: the history is that of the ledger, whichever runs it comes from."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
import pytest

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Threshold
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.anomaly import judge
from dataops_platform_tests.support import DAY1, Home, daily, rule, table

VALUES = [10.0, 12.0, 11.0, 30.0, 10.0, 10.0, 10.0, 10.0, 11.0]
DAYS = [DAY1 + timedelta(days=n) for n in range(len(VALUES))]
HISTORY, MINIMUM = 4, 3


def anomaly(id: str = "usual", function: str = "avg", *columns: str, **more):
    arguments = {"function": function, "history": HISTORY, "minimum": MINIMUM} | more
    return rule(id, RuleKind.ANOMALY, *columns, threshold=Threshold(Operator.LESS_EQUAL, (3,)), **arguments)


def expected(values) -> list[float | None]:
    """Independently: distances from the mean of up to `HISTORY` values before, in their standard deviation."""
    found: list[float | None] = []
    for number, value in enumerate(values):
        before = np.array(values[max(0, number - HISTORY) : number])
        if len(before) < MINIMUM:
            found.append(None)
        elif before.std(ddof=1) == 0:
            found.append(0.0 if value == before.mean() else math.inf)
        else:
            found.append(abs(value - before.mean()) / before.std(ddof=1))
    return found


def daily_table(name: str):
    columns = {"day": Kind.DATE, "v": Kind.NUMBER}
    rules = [anomaly("usual", "avg", "v"), anomaly("middle", "median", "v"), anomaly("rows", "row_count")]
    return table(name, columns, partitioning=daily(), rules=rules)


def fill(home: Home, t, days, factor: float = 1.0) -> None:
    """Two rows a day; the mean, and the median, is the day's value."""
    home.fill(t, [{"day": day, "v": factor * VALUES[DAYS.index(day)] + n} for day in days for n in (-1, 1)])


def observed(verdicts, rule_id: str = "usual") -> list[float | None]:
    return [v.observed for v in sorted(verdicts, key=lambda v: v.partition_key) if v.rule_id == rule_id]


def test_a_backfill_and_day_by_day_are_judged_alike(engine):
    """In one run, or in several: two days, then the one after, then the rest."""
    whole, parts = daily_table("whole"), daily_table("parts")
    fill(engine, whole, DAYS)
    wanted = [pytest.approx(value) if value is not None else None for value in expected(VALUES)]
    verdicts = engine.judge(whole)
    assert observed(verdicts) == observed(verdicts, "middle") == wanted
    assert {v.partition_key for v in verdicts if v.rule_id == "usual" and not v.passed} == {str(DAYS[3]), str(DAYS[8])}
    assert observed(verdicts, "rows") == [None] * MINIMUM + [0] * (len(DAYS) - MINIMUM)

    found = []
    for number, days in enumerate((DAYS[:2], DAYS[2:3], DAYS[3:])):
        fill(engine, parts, days)
        keys = [str(day) for day in days]
        found += engine.judge(parts, run_id=f"run {number}", partitions=keys)
    assert observed(found) == wanted
    first = json.loads(next(v for v in found if v.rule_id == "usual" and v.partition_key == keys[0]).details)
    before = VALUES[:3]
    assert first == {
        "metric": "avg v", "value": 30.0, "history": 3,
        "mean": pytest.approx(np.mean(before)), "stddev": pytest.approx(np.std(before, ddof=1)),
    }  # fmt: skip


def test_the_newest_value_of_a_partition_counts(either_engine):
    """A day that is delivered once more changes what the days after it are compared with, from their next judgement."""
    t = daily_table("t")
    fill(either_engine, t, DAYS[:4])
    either_engine.judge(t)
    changed = [*VALUES[:2], 100.0, VALUES[3]]
    more = 4 * changed[2] - 2 * VALUES[2]  # with the two rows that are there, the mean is that
    either_engine.load(t, [either_engine.deliver(t, [{"day": DAYS[2], "v": more / 2}] * 2, partition=DAYS[2])])
    either_engine.judge(t, run_id="run 2", partitions=[str(DAYS[2])])
    found = either_engine.judge(t, "usual", run_id="run 3", partitions=[str(DAYS[3])])
    assert observed(found) == [pytest.approx(expected(changed)[3])]


def test_a_table_without_partitions_compares_its_versions(engine):
    """Judged twice, a version is no history of itself, and counts once in that of others."""
    t = table("t", {"v": Kind.NUMBER}, mode=LoadMode.REPLACE, rules=[anomaly("usual", "avg", "v")])
    found = []
    for value in (1.0, 2.0, 4.0, 9.0):
        engine.load(t, [engine.deliver(t, [{"v": value}])])
        found.append(engine.judge(t)[0].observed)
        if value == 4.0:
            assert engine.judge(t, run_id="again")[0].observed == found[-1]
    assert found == [None if value is None else pytest.approx(value) for value in expected([1.0, 2.0, 4.0, 9.0])]


def test_another_metric_has_another_history(tmp_path):
    home = Home(tmp_path)
    columns = {"day": Kind.DATE, "v": Kind.NUMBER}
    t, u = (
        table("t", columns, partitioning=daily(), rules=[anomaly("usual", f, "v", **more)])
        for f, more in (("avg", {}), ("quantile", {"quantile": 0.9}))
    )
    fill(home, t, DAYS)
    home.judge(t)
    last = home.judge(u, partitions=[str(DAYS[-1])])
    assert [v.observed for v in last] == [None]
    assert "not judged: 0 values before it" in last[0].details


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails_and_is_no_history(tmp_path, odd):
    home = Home(tmp_path)
    values = [1.0, 2.0, 4.0, odd, 9.0]
    t = table("t", {"day": Kind.DATE, "v": Kind.NUMBER}, partitioning=daily(), rules=[anomaly("usual", "avg", "v")])
    home.fill(t, [{"day": day, "v": value} for day, value in zip(DAYS, values, strict=False)])
    for run in range(2):
        found = home.judge(t, run_id=f"run {run}")
        assert [v.passed for v in found] == [True, True, True, False, False]
        assert found[3].observed == (None if math.isnan(odd) else math.inf)
        assert observed(found)[4] == pytest.approx(expected([1.0, 2.0, 4.0, 9.0])[3])
        assert json.loads(found[3].details)["value"] == str(odd)


def test_values_as_large_as_they_get():
    r = anomaly("a", "avg", "v")
    found = judge(r, {"d": 1.7e308, "e": 1.0}, {"a": 1.7e308, "b": 1.0, "c": 3.0, "ca": 2.0})
    assert (found["d"][0], found["e"][0]) == (pytest.approx(1.7e308), 1.0)
