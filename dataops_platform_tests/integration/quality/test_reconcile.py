"""Reconciliation: with another table, as a whole or partition by partition, and with what was delivered."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Scope, Threshold, Unit
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform_tests.support import BLOCK, DAY1, Home, daily, rule, table

DAYS = [DAY1 + timedelta(days=n) for n in range(4)]
ZONE = "America/New_York"
NIGHT = datetime(2024, 1, 2, 4, 30, tzinfo=UTC)  # of the day before, in New York
DECIMAL = FieldType(Kind.DECIMAL, 12, 2)
LESS = Threshold(Operator.LESS, (10,), Unit.PERCENT)


def reconcile(id: str, function: str, *columns: str, scope: Scope = Scope.PARTITION, threshold=None, **arguments):
    given = {"function": function, "table": "payments", "column": None, "cut": None, "field_kind": None} | arguments
    return rule(id, RuleKind.RECONCILE, *columns, scope=scope, threshold=threshold, **given)


PAYMENTS = table("payments", {"at": Kind.TIMESTAMP, "paid": DECIMAL}, partitioning=daily("at", ZONE))
CUT = {"cut": PAYMENTS.partitioning, "field_kind": Kind.TIMESTAMP}


def test_partitions_with_partitions(either_engine):
    """Those of a timestamp in the tables' own zone, with days that one side hasn't got."""
    rules = [
        reconcile("rows", "row_count", **CUT),
        reconcile("sum", "sum", "amount", column="paid", **CUT),
        reconcile("percent", "sum", "amount", column="paid", threshold=LESS, **CUT),
        reconcile("rows_all", "row_count", scope=Scope.TABLE, **CUT),
        reconcile("percent_all", "row_count", scope=Scope.TABLE, threshold=LESS, **CUT),
    ]
    t = table("invoices", {"day": Kind.DATE, "amount": DECIMAL}, partitioning=daily(timezone=ZONE), rules=rules)
    invoices = [(0, "10.10"), (0, "0.20"), (1, "5"), (1, None), (2, "1")]
    payments = [(NIGHT, "10.30"), (NIGHT, None), (NIGHT + timedelta(days=1), "5.50"), (NIGHT + timedelta(days=3), "7")]
    either_engine.fill(t, [{"day": DAYS[n], "amount": Decimal(v) if v else None} for n, v in invoices])
    deliveries = []
    for at, paid in payments:
        key = PAYMENTS.partitioning.key((at - timedelta(hours=5)).replace(tzinfo=None))
        rows = [{"at": at, "paid": Decimal(paid) if paid else None}]
        deliveries.append(either_engine.deliver(PAYMENTS, rows, partition=key))
    either_engine.load(PAYMENTS, deliveries)
    found = {(v.rule_id, v.partition_key): (v.observed, v.passed) for v in either_engine.judge(t)}
    days = [str(day) for day in DAYS]
    assert [found["rows", day] for day in days[:3]] == [(0, True), (1, False), (1, False)]
    assert [found["sum", day] for day in days[:3]] == [(0, True), (pytest.approx(-0.5), False), (1, False)]
    percent = pytest.approx(100 * 0.5 / 5.5)
    assert [found["percent", day] for day in days[:3]] == [(0, True), (percent, True), (100, False)]
    assert (found["rows_all", "all"], found["percent_all", "all"]) == ((1, False), (25, False))
    # A day of the other table alone was never delivered here: it has no verdict, as a whole it counts.
    assert {key for _, key in found} == {*days[:3], "all"}
    assert {v.partition_key for v in either_engine.judge(t, "rows", partitions=days[1:2])} == {days[1]}


def manifest(*, id: str = "delivered", **more):
    return reconcile(id, "row_count", table=None, **more)


@pytest.mark.parametrize("mode", [LoadMode.APPEND, LoadMode.REPLACE])
def test_what_was_delivered(engine, mode):
    """Of a table that is replaced the newest delivery counts; what somebody adds or removes by hand is seen."""
    rules = [manifest(), manifest(id="percent", threshold=Threshold(Operator.LESS, (50,), Unit.PERCENT))]
    t = table("t", {"day": Kind.DATE, "v": Kind.INTEGER}, mode=mode, partitioning=daily(), rules=rules)
    for rows in (4, 2):
        engine.load(t, [engine.deliver(t, [{"day": DAYS[0], "v": n} for n in range(rows)], partition=DAYS[0])])
    engine.load(t, [engine.deliver(t, [], partition=DAYS[1])])
    delivered = 6 if mode is LoadMode.APPEND else 2

    def found() -> dict:
        return {(v.rule_id, v.partition_key): (v.observed, v.passed, json.loads(v.details)) for v in engine.judge(t)}

    first, second = str(DAYS[0]), str(DAYS[1])
    before = found()
    assert before["delivered", first] == (0, True, {"rows": delivered, "delivered": delivered})
    assert before["delivered", second] == (0, True, {"rows": 0, "delivered": 0})
    engine.by_hand("DELETE FROM staging.t WHERE v = 0")
    engine.by_hand(
        "INSERT INTO staging.t (day, v, _created_at, _updated_at, _source_object, _load_id)"
        " SELECT DATE '2024-01-02', v, _created_at, _updated_at, _source_object, _load_id FROM staging.t LIMIT 1"
    )
    after = found()
    gone = 2 if mode is LoadMode.APPEND else 1
    assert after["delivered", first][:2] == (-gone, False)
    assert after["percent", first][:2] == (pytest.approx(100 * gone / delivered), mode is LoadMode.APPEND)
    assert after["delivered", second] == (1, False, {"rows": 1, "delivered": 0})
    assert after["percent", second][:2] == (100, False)


def test_rows_in_quarantine_were_not_delivered_to_staging(tmp_path):
    home = Home(tmp_path)
    t = table("t", {"v": Kind.INTEGER}, rules=[rule("v_range", RuleKind.RANGE, "v", minimum=0), manifest()])
    home.load(t, [home.deliver(t, [{"v": -1}, {"v": 1}, {"v": 2}])])
    found = {v.rule_id: json.loads(v.details) for v in home.judge(t, "delivered")}
    assert found == {"delivered": {"rows": 2, "delivered": 2}}


def test_sums_that_hold_nan_do_not_agree(tmp_path):
    home = Home(tmp_path)
    one, other = (table(name, {"v": Kind.NUMBER}, bad_rows=BLOCK) for name in ("t", "payments"))
    rules = [
        reconcile(f"sum_{unit}", "sum", "v", column="v", threshold=Threshold(Operator.LESS_EQUAL, (100,), unit))
        for unit in Unit
    ]
    one = replace(one, rules=tuple(rules))
    home.fill(one, [{"v": float("nan")}])
    home.fill(other, [{"v": float("nan")}])
    assert not any(v.passed for v in home.judge(one))


def test_hours_weeks_and_months(tmp_path):
    home = Home(tmp_path)
    for granularity in (Granularity.HOUR, Granularity.WEEK, Granularity.MONTH):
        cut = daily("at", ZONE, granularity)
        other = table(f"payments_{granularity}", {"at": Kind.DATETIME}, partitioning=cut)
        r = reconcile("rows", "row_count", table=other.name, cut=cut, field_kind=Kind.DATETIME)
        t = table(f"t_{granularity}", {"at": Kind.DATETIME}, partitioning=cut, rules=[r])
        moments = [datetime(2024, 3, 31, 23, 30), datetime(2024, 4, 1, 0, 30)]
        for found, counts in ((t, (1, 1)), (other, (1, 2))):
            home.load(found, [
                home.deliver(found, [{"at": at}] * count, partition=cut.key(at))
                for at, count in zip(moments, counts, strict=True)
            ])  # fmt: skip
        observed = {v.partition_key: v.observed for v in home.judge(t)}
        assert observed == {cut.key(moments[0]): 0, cut.key(moments[1]): -1}
