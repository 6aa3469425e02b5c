"""The smallest change that breaks a rule flips that rule's verdict, and no other of a table with every kind of rule."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from dataops_platform.contracts.model import Operator, RuleKind, Scope, Threshold
from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.contracts.types import Kind
from dataops_platform_tests.support import BLOCK, DAY1, Home, daily, rule, table

DAYS = [DAY1 + timedelta(days=n) for n in range(6)]
REFERENCE, JUDGED, EMPTY = DAYS[:4], DAYS[4], DAYS[5]
CENTURY = 36_525 * 24


def most(value: float) -> Threshold:
    return Threshold(Operator.LESS_EQUAL, (value,))


PARENT = table("parent", {"id": Kind.INTEGER})
OTHER = table("other", {"day": Kind.DATE, "amount": Kind.INTEGER}, partitioning=daily())
RULES = [
    rule("not_null", RuleKind.NOT_NULL, "known"),
    rule("missing", RuleKind.MISSING, "said", sentinels=("n/a",)),
    rule("range", RuleKind.RANGE, "size", minimum=0, maximum=10),
    rule("length", RuleKind.LENGTH, "code", maxLength=3),
    rule("pattern", RuleKind.PATTERN, "tail", pattern="^N"),
    rule("format", RuleKind.FORMAT, "born", format="date"),
    rule("in_set", RuleKind.IN_SET, "class", values=("first", "second")),
    rule("not_in_set", RuleKind.NOT_IN_SET, "owner", values=("test",)),
    rule("compare", RuleKind.COMPARE, "low", "high", operator="<="),
    rule("condition", RuleKind.CONDITION, "speed", condition="speed > 100"),
    rule("duplicates", RuleKind.DUPLICATES, "id"),
    rule("row_count", RuleKind.ROW_COUNT, threshold=most(4)),
    rule("orphans", RuleKind.ORPHANS, "parent", table="parent", columns=("id",)),
    rule("aggregate", RuleKind.AGGREGATE, "delay", function="max", threshold=most(10)),
    rule("anomaly", RuleKind.ANOMALY, "taken", function="sum", history=4, minimum=4, threshold=most(3)),
    rule(
        "drift", RuleKind.DRIFT, "channel", metric="psi", bins=10, threshold=most(0.2),
        first=str(REFERENCE[0]), last=str(REFERENCE[-1]),
    ),
    rule(
        "reconcile", RuleKind.RECONCILE, "amount", function="sum", table="other", column="amount", cut=daily(),
        field_kind=Kind.DATE,
    ),
    rule("query", RuleKind.QUERY, query="SELECT COUNT(DISTINCT city) FROM {object}", threshold=most(1)),
    rule("schema", RuleKind.SCHEMA),
    rule("latency", RuleKind.LATENCY, "day", threshold=most(6)),
    rule("event_latency", RuleKind.EVENT_LATENCY, "happened", threshold=most(CENTURY)),
    rule("freshness", RuleKind.FRESHNESS, "updated", threshold=most(CENTURY), scope=Scope.TABLE),
    rule("arrival", RuleKind.ARRIVAL, "day", hours=1, scope=Scope.TABLE),
]  # fmt: skip
TEXT, WHOLE, TIME = Kind.STRING, Kind.INTEGER, Kind.TIMESTAMP
COLUMNS = {
    "day": Kind.DATE, "known": TEXT, "said": TEXT, "size": WHOLE, "code": TEXT, "tail": TEXT, "born": TEXT,
    "class": TEXT, "owner": TEXT, "low": WHOLE, "high": WHOLE, "speed": WHOLE, "id": WHOLE, "parent": WHOLE,
    "delay": WHOLE, "taken": WHOLE, "channel": TEXT, "amount": WHOLE, "city": TEXT, "happened": TIME, "updated": TIME,
}  # fmt: skip
T = table(
    "whole", COLUMNS, partitioning=Partitioning("day", Granularity.DAY, DAYS[0], DAYS[-1]), rules=RULES, bad_rows=BLOCK
)


def row(day: date, number: int) -> dict[str, Any]:
    """A row that is just good enough."""
    return {
        "day": day, "known": "", "said": "", "size": 10, "code": "abc", "tail": "N", "born": "2024-02-29",
        "class": "first", "owner": "ann", "low": 1, "high": 1, "speed": 100, "id": number, "parent": 1, "delay": 10,
        "taken": 10 + DAYS.index(day), "channel": ("web", "shop")[number % 2], "amount": 1, "city": "Oslo",
        "happened": datetime(2023, 12, 31, tzinfo=UTC),
        "updated": datetime(2023, 12, 31, tzinfo=UTC) if (day, number) == (JUDGED, 0) else None,
    }  # fmt: skip


@dataclass
class Case:
    """What is delivered; changed by a mutation before it is."""

    days: dict[date, list[dict[str, Any]]] = field(
        default_factory=lambda: {day: [row(day, n) for n in range(4)] if day != EMPTY else [] for day in DAYS}
    )
    hours: float = 6
    statement: str | None = None

    def failing(self, home: Home) -> set[str]:
        """The rules with a failed verdict once all is loaded."""
        home.fill(PARENT, [{"id": 1}])
        home.fill(OTHER, [{"day": day, "amount": 4} for day in DAYS if day != EMPTY])
        deliveries = []
        for day, rows in self.days.items():
            end = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
            at = end + timedelta(hours=self.hours if day == JUDGED else 0)
            deliveries.append(home.deliver(T, rows, partition=day, at=at))
        home.load(T, deliveries)
        if self.statement is not None:
            home.by_hand(self.statement)
        verdicts = home.judge(T)
        assert {v.rule_id for v in verdicts} == {r.id for r in T.rules}
        return {v.rule_id for v in verdicts if not v.passed}


def value(column: str, changed: Any) -> Callable[[Case], None]:
    def mutate(case: Case) -> None:
        case.days[JUDGED][0][column] = changed

    return mutate


def one_row_more(case: Case) -> None:
    case.days[JUDGED].append(row(JUDGED, 4) | {"amount": 0, "taken": 0})


def one_partition_less(case: Case) -> None:
    del case.days[EMPTY]


def later(case: Case) -> None:
    case.hours += 1 / 3600


def one_column_more(case: Case) -> None:
    case.statement = "ALTER TABLE staging.whole ADD COLUMN note STRING"


LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)
MUTATIONS: Mapping[RuleKind, Callable[[Case], None]] = {
    RuleKind.NOT_NULL: value("known", None),
    RuleKind.MISSING: value("said", "n/a"),
    RuleKind.RANGE: value("size", 11),
    RuleKind.LENGTH: value("code", "abcd"),
    RuleKind.PATTERN: value("tail", "n"),
    RuleKind.FORMAT: value("born", "2023-02-29"),
    RuleKind.IN_SET: value("class", "third"),
    RuleKind.NOT_IN_SET: value("owner", "test"),
    RuleKind.COMPARE: value("low", 2),
    RuleKind.CONDITION: value("speed", 101),
    RuleKind.DUPLICATES: value("id", 1),
    RuleKind.ROW_COUNT: one_row_more,
    RuleKind.ORPHANS: value("parent", 2),
    RuleKind.AGGREGATE: value("delay", 11),
    RuleKind.ANOMALY: value("taken", 20),
    RuleKind.DRIFT: value("channel", "shop"),
    RuleKind.RECONCILE: value("amount", 2),
    RuleKind.QUERY: value("city", "Bergen"),
    RuleKind.SCHEMA: one_column_more,
    RuleKind.LATENCY: later,
    RuleKind.EVENT_LATENCY: value("happened", LONG_AGO),
    RuleKind.FRESHNESS: value("updated", LONG_AGO),
    RuleKind.ARRIVAL: one_partition_less,
}


def mutated(kind: RuleKind) -> Case:
    case = copy.deepcopy(Case())
    MUTATIONS[kind](case)
    return case


def test_there_is_a_rule_and_a_mutation_for_every_kind():
    assert [r.kind for r in RULES] == list(dict.fromkeys(r.kind for r in RULES))
    assert {r.kind for r in RULES} == MUTATIONS.keys() == set(RuleKind)


def test_without_a_change_every_rule_passes(engine):
    assert Case().failing(engine) == set()


@pytest.mark.parametrize("kind", RuleKind)
def test_a_change_flips_its_rule_alone(kind, tmp_path):
    assert mutated(kind).failing(Home(tmp_path)) == {kind.value}


@pytest.mark.cloud
@pytest.mark.long  # the short run is that of the examples of docs/rules.md
@pytest.mark.parametrize("kind", RuleKind)
def test_a_change_flips_its_rule_alone_on_bigquery(kind, cloud):
    assert mutated(kind).failing(cloud) == {kind.value}
