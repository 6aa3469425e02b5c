"""Deadlines that pass while nothing runs: each is judged once, and again when it is met after all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from dataops_platform.contracts.model import Operator, RuleKind, Scope, Severity, Threshold
from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import Kind
from dataops_platform.quality import deadlines, verdicts
from dataops_platform.quality.deadlines import Deadlines, judge_deadlines
from dataops_platform_tests.support import Home, daily, rule, table

WARN = {"severity": Severity.WARNING, "scope": Scope.TABLE}
ARRIVAL = rule("arrival", RuleKind.ARRIVAL, "day", hours=6, **WARN)
FRESH = rule("fresh", RuleKind.FRESHNESS, "seen", threshold=Threshold(Operator.LESS_EQUAL, (2,)), **WARN)
COLUMNS = {"day": Kind.DATE, "seen": Kind.TIMESTAMP}
THREE_DAYS = Partitioning("day", Granularity.DAY, date(2024, 1, 1), date(2024, 1, 3))
NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def look(home, monkeypatch):
    """Looks at a table's deadlines at some moment: what was judged anew, as (rule, passed, observed), and when to look
    again.
    """

    def look(asked, moment) -> tuple[list, datetime | None]:
        home.warehouse.ensure([asked])
        monkeypatch.setattr(verdicts, "now", lambda: moment)
        found = judge_deadlines(home.warehouse, {asked.name: asked}, "nobody", moment)
        return [(v.rule_id, v.passed, v.observed) for v in found.verdicts], found.due

    return look


def test_a_day_that_does_not_come(home, look):
    asked = table("orders", COLUMNS, partitioning=THREE_DAYS, rules=[ARRIVAL])
    assert look(asked, NOON) == ([("arrival", False, 2)], datetime(2024, 1, 4, 6, tzinfo=UTC))
    assert look(asked, NOON + timedelta(minutes=1))[0] == []  # once
    home.fill(asked, [{"day": date(2024, 1, 1)}])
    assert look(asked, NOON + timedelta(minutes=2))[0] == [("arrival", False, 1)]
    home.fill(asked, [{"day": date(2024, 1, 2)}])
    assert look(asked, NOON + timedelta(minutes=3)) == ([("arrival", True, 0)], datetime(2024, 1, 4, 6, tzinfo=UTC))
    assert look(asked, NOON + timedelta(minutes=4))[0] == []
    late = datetime(2024, 1, 4, 6, 1, tzinfo=UTC)
    assert look(asked, late) == ([("arrival", False, 1)], None)  # there is no partition after it


def test_nothing_is_late_before_its_time(home, look):
    asked = table("orders", COLUMNS, partitioning=THREE_DAYS, rules=[ARRIVAL])
    first = datetime(2024, 1, 2, 6, tzinfo=UTC)
    assert look(asked, datetime(2023, 12, 24, tzinfo=UTC)) == ([], first)
    assert look(asked, datetime(2024, 1, 2, 3, tzinfo=UTC)) == ([], first)
    assert look(asked, first)[0] == [("arrival", False, 1)]


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("cut", [daily(), None], ids=["by day", "without partitions"])
def test_rows_that_grow_old(home, look, monkeypatch, cut, judged):
    asked = table("orders", COLUMNS, partitioning=cut, rules=[FRESH])
    row = {"day": date(2024, 1, 3), "seen": NOON - timedelta(hours=1)}
    home.fill(asked, [row])
    if judged:
        monkeypatch.setattr(verdicts, "now", lambda: NOON)
        (verdict,) = home.judge(asked)
        assert (verdict.passed, verdict.observed) == (True, 1)
    else:  # a run without its checks loaded it
        assert look(asked, NOON)[0] == [("fresh", True, 1)]
    found, due = look(asked, NOON + timedelta(minutes=30))
    assert found == []
    assert due == NOON + timedelta(hours=1, seconds=1)
    assert look(asked, due)[0] == [("fresh", False, pytest.approx(2, abs=0.001))]
    assert look(asked, due + timedelta(hours=1)) == ([], None)
    home.fill(asked, [row | {"seen": NOON + timedelta(hours=1)}])  # and nobody judges it
    found, due = look(asked, due + timedelta(hours=2))
    assert found == [("fresh", False, pytest.approx(2, abs=0.001))]
    assert due is None


NEVER = datetime(9999, 12, 31, 23, tzinfo=UTC)


def test_what_never_grows_old_and_what_is_never_due(home, look):
    """No calendar has such a deadline: 9999-12-31 stands for never, and a partition of then isn't missed for long."""
    far = Partitioning("day", Granularity.DAY, date(9500, 1, 1))
    patient = rule("arrival", RuleKind.ARRIVAL, "day", hours=1000 * 366 * 24, **WARN)
    for asked in (table("orders", COLUMNS, rules=[FRESH]), table("later", COLUMNS, partitioning=far, rules=[patient])):
        if asked.partitioning is None:
            home.fill(asked, [{"day": date(2024, 1, 3), "seen": NEVER}])
        found, due = look(asked, NOON)
        assert [passed for _, passed, _ in found] == [True] * (asked.partitioning is None)
        assert due is None
        assert look(asked, NOON + timedelta(days=1)) == ([], None)


@pytest.mark.parametrize("error", [ConfigError("orders has no such column"), OverflowError("date value out of range")])
def test_what_was_never_loaded_or_can_not_be_judged_keeps_nobody_looking(home, look, caplog, monkeypatch, error):
    asked = table("orders", COLUMNS, rules=[FRESH])
    assert look(asked, NOON) == ([], None)
    home.fill(asked, [{"day": date(2024, 1, 3), "seen": NOON - timedelta(hours=1)}])
    assert look(asked, NOON)[0] == [("fresh", True, 1)]

    def broken(*_args, **_more):
        raise error

    monkeypatch.setattr(deadlines, "evaluate", broken)
    monkeypatch.setattr(deadlines.log, "propagate", True)
    assert look(asked, NOON + timedelta(hours=9)) == ([], None)
    assert str(error) in caplog.text
    assert "orders" in caplog.text


def test_a_table_without_deadlines_is_not_looked_at(home):
    """Not even the warehouse is opened."""
    plain = table("orders", COLUMNS, rules=[rule("volume", RuleKind.ROW_COUNT)])
    assert judge_deadlines(home.warehouse, {"orders": plain}, "nobody", NOON) == Deadlines()
    assert not home.warehouse.path.exists()
