"""Rules about time, and about the table's own shape."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Scope, Threshold
from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.arrivals import SHOWN, missing
from dataops_platform_tests.support import DAY1, Home, daily, rule, table

ZONE = "America/New_York"
HOURS = Threshold(Operator.LESS_EQUAL, (12,))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hours_since(moment: datetime) -> object:
    return pytest.approx((datetime.now(UTC) - moment).total_seconds() / 3600, abs=0.1)


def test_freshness_is_the_newest_moment_of_the_table(engine):
    """Dates stand for their end and local times are the table's; also of a moment that is second 0 of Unix."""
    columns = {"day": Kind.DATE, "at": Kind.TIMESTAMP, "local": Kind.DATETIME, "old": Kind.TIMESTAMP, "no": Kind.DATE}
    rules = [rule(name, RuleKind.FRESHNESS, name, threshold=HOURS, scope=Scope.TABLE) for name in columns]
    t = table("t", columns, partitioning=daily(timezone=ZONE), rules=rules)
    local = datetime(2024, 7, 1, 12)
    nulls = dict.fromkeys(columns)
    engine.fill(t, [
        nulls | {"day": DAY1, "at": datetime(2024, 1, 1, tzinfo=UTC), "local": local, "old": EPOCH},
        nulls | {"day": date(2024, 7, 1)},
    ])  # fmt: skip
    found = {v.rule_id: v for v in engine.judge(t, partitions=[str(DAY1)])}
    assert {v.partition_key for v in found.values()} == {"all"}
    assert found["day"].observed == hours_since(datetime(2024, 7, 2, tzinfo=ZoneInfo(ZONE)))
    assert found["at"].observed == hours_since(datetime(2024, 1, 1, tzinfo=UTC))
    assert found["local"].observed == hours_since(local.replace(tzinfo=ZoneInfo(ZONE)))
    assert found["old"].observed == hours_since(EPOCH)
    assert (found["no"].observed, found["no"].passed) == (None, False)


def test_freshness_passes_and_fails(tmp_path):
    home = Home(tmp_path)
    t = table("t", {"at": Kind.TIMESTAMP}, mode=LoadMode.REPLACE,
              rules=[rule("fresh", RuleKind.FRESHNESS, "at", threshold=HOURS, scope=Scope.TABLE)])  # fmt: skip
    found = []
    for hours in (13, 11, -5):
        home.load(t, [home.deliver(t, [{"at": datetime.now(UTC) - timedelta(hours=hours)}])])
        (verdict,) = home.judge(t)
        found.append((round(verdict.observed), verdict.passed))
    assert found == [(13, False), (11, True), (-5, True)]


def test_event_latency_is_that_of_the_slowest_row(engine):
    columns = {"day": Kind.DATE, "at": Kind.TIMESTAMP, "local": Kind.DATETIME, "on": Kind.DATE}
    rules = [rule(name, RuleKind.EVENT_LATENCY, name, threshold=HOURS) for name in ("at", "local", "on")]
    t = table("t", columns, partitioning=daily(timezone=ZONE), rules=rules)
    noon = datetime(2024, 1, 1, 12)
    there = noon.replace(tzinfo=ZoneInfo(ZONE))
    rows = [
        {"day": DAY1, "at": there, "local": noon, "on": DAY1},
        {"day": DAY1, "at": there - timedelta(hours=1), "local": None, "on": DAY1 + timedelta(days=1)},
    ]
    for number, hours in enumerate((6, 12)):
        at = (there + timedelta(hours=hours)).astimezone(UTC)
        engine.load(t, [engine.deliver(t, rows[number:], partition=DAY1, at=at)])
        found = {v.rule_id: (v.observed, v.passed) for v in engine.judge(t)}
        # The second row came twice: the second time twelve hours after noon, when its date has not ended yet.
        slowest = {"at": 7, "local": 6, "on": -6} if number == 0 else {"at": 13, "local": 6, "on": -6}
        assert found == {name: (pytest.approx(value), value <= 12) for name, value in slowest.items()}


def test_a_merged_row_is_as_late_as_the_delivery_it_is_of(tmp_path):
    home = Home(tmp_path)
    t = table("t", {"id": Kind.INTEGER, "at": Kind.TIMESTAMP}, mode=LoadMode.MERGE, key=["id"],
              rules=[rule("late", RuleKind.EVENT_LATENCY, "at", threshold=HOURS)])  # fmt: skip
    start = datetime(2024, 1, 1, tzinfo=UTC)
    found = []
    for hours in (1, 20):
        home.load(t, [home.deliver(t, [{"id": 1, "at": start}], at=start + timedelta(hours=hours))])
        found += [(v.observed, v.passed) for v in home.judge(t)]
    assert found == [(1, True), (20, False)]


def test_arrival(engine):
    """Due is what ended the hours ago; delivered is delivered, also without rows."""
    t = table("t", {"day": Kind.DATE}, partitioning=Partitioning("day", Granularity.DAY, DAY1, None, ZONE),
              rules=[rule("all_there", RuleKind.ARRIVAL, "day", hours=6, scope=Scope.TABLE)])  # fmt: skip
    days = [DAY1 + timedelta(days=n) for n in range(4)]
    engine.load(t, [engine.deliver(t, rows, partition=days[n]) for n, rows in ((0, [{"day": days[0]}]), (2, []))])
    due = datetime(2024, 1, 5, 6, tzinfo=ZoneInfo(ZONE))
    (r,) = t.rules
    with engine.warehouse.session():
        assert missing(engine.warehouse, t, r, due) == [str(days[1]), str(days[3])]
        assert missing(engine.warehouse, t, r, due - timedelta(seconds=1)) == [str(days[1])]
    (verdict,) = engine.judge(t)
    named = json.loads(verdict.details)["missing"]
    assert (verdict.passed, verdict.partition_key, len(named)) == (False, "all", SHOWN)
    assert verdict.observed > 2 * 365
    with engine.warehouse.session():
        newest = missing(engine.warehouse, t, r, verdict.evaluated_at)[-SHOWN:]
    assert named == newest


def test_what_did_not_come_is_late_in_the_run_that_waits_for_it(engine):
    """No row is there to be judged; that nothing came, and how old the rest is, is said nevertheless."""
    rules = [
        rule("all_there", RuleKind.ARRIVAL, "day", hours=6, scope=Scope.TABLE),
        rule("fresh", RuleKind.FRESHNESS, "day", threshold=HOURS, scope=Scope.TABLE),
        rule("some", RuleKind.ROW_COUNT),
        rule("whole", RuleKind.ROW_COUNT, scope=Scope.TABLE),
    ]
    t = table("t", {"day": Kind.DATE}, partitioning=daily(), rules=rules)
    engine.warehouse.ensure([t])
    asked = [str(DAY1 + timedelta(days=1))]
    assert [(v.rule_id, v.observed, v.passed) for v in engine.judge(t, partitions=asked)] == [("all_there", 366, False)]
    engine.fill(t, [{"day": DAY1}])
    found = engine.judge(t, partitions=asked)
    assert [(v.rule_id, v.partition_key, v.passed) for v in found] == [
        ("all_there", "all", False),
        ("fresh", "all", False),
    ]
    assert found[0].observed == 365


def test_the_schema_as_changed_by_hand(engine):
    """A column more, one of another name, one of another type; the details say which."""
    columns = {"id": Kind.INTEGER, "name": Kind.STRING, "amount": Kind.NUMBER}
    t = table("t", columns, rules=[rule("schema", RuleKind.SCHEMA)])
    engine.fill(t, [{"id": 1, "name": "a", "amount": 1.0}])

    def differences() -> list[str]:
        (verdict,) = engine.judge(t)
        lines = json.loads(verdict.details)["differences"] if verdict.details else []
        assert (verdict.observed, verdict.passed) == (len(lines), not lines)
        return sorted(line.replace("`", "") for line in lines)

    assert differences() == []
    engine.by_hand("ALTER TABLE staging.t ADD COLUMN note STRING")
    assert differences() == ["staging.t.note is not in the contract"]
    engine.by_hand("ALTER TABLE staging.t DROP COLUMN name")
    kind = {"duckdb": "VARCHAR", "bigquery": "STRING"}[engine.warehouse.dialect]
    assert differences() == [f"staging.t has no column name ({kind})", "staging.t.note is not in the contract"]
    engine.by_hand("ALTER TABLE staging.t DROP COLUMN amount")
    engine.by_hand("ALTER TABLE staging.t ADD COLUMN amount STRING")
    assert any(line.startswith(f"staging.t.amount is {kind}, the contract says ") for line in differences())
