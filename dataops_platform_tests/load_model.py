"""A naive model of loads: whatever their order, grouping and repetition, tables and ledger are as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import strategies as st

from dataops_platform.contracts.model import LoadMode, RuleKind
from dataops_platform.contracts.types import Kind
from dataops_platform.lake import Delivery
from dataops_platform.quality.quarantine import row_checks
from dataops_platform.warehouse.base import Replayed, Selection
from dataops_platform.warehouse.loading import batches
from dataops_platform_tests.support import DAY1, Home, daily, moment, rule, table

COLUMNS = {"day": Kind.DATE, "id": Kind.INTEGER, "name": Kind.STRING, "v": Kind.INTEGER}
RULES = (rule("v_range", RuleKind.RANGE, "v", minimum=0), rule("name_required", RuleKind.NOT_NULL, "name"))


def made(mode: LoadMode, key: tuple[str, ...], partitioned: bool):
    return table("t", COLUMNS, mode=mode, key=key, partitioning=daily() if partitioned else None, rules=RULES)


TABLES = {
    "append": made(LoadMode.APPEND, (), True),
    "append_unpartitioned": made(LoadMode.APPEND, (), False),
    "merge_moving": made(LoadMode.MERGE, ("id",), True),
    "merge_day_in_key": made(LoadMode.MERGE, ("day", "id"), True),
    "merge_unpartitioned": made(LoadMode.MERGE, ("name", "id"), False),
    "replace": made(LoadMode.REPLACE, (), True),
    "replace_unpartitioned": made(LoadMode.REPLACE, (), False),
}

DAYS = [DAY1 + timedelta(days=n) for n in range(3)]
ROW = st.tuples(
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, None]),  # days off the delivery's own; None: no day at all
    st.sampled_from([1, 1, 2, 3, None]),
    st.sampled_from(["a", "a", "b", "", None]),
    st.sampled_from([0, 1, 2, 3, 4, None, -1]),
)
DELIVERY = st.tuples(st.integers(0, 2), st.integers(0, 3), st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=2))
# Deliveries, then load calls: each takes some of them (some again) with a batch size. After a call, quarantine may be
# judged again by milder rules (or by the same), or given up, for one day or all.
AFTER = st.sampled_from([None, None, "replay", "replay milder", "replay a day", "drop", "drop a day"])
SCENARIO = st.lists(DELIVERY, min_size=1, max_size=6, unique_by=lambda d: d[:2]).flatmap(
    lambda deliveries: st.tuples(
        st.just(deliveries),
        st.lists(
            st.tuples(st.lists(st.integers(0, len(deliveries) - 1), max_size=5), st.sampled_from([1, 6, 100]), AFTER),
            max_size=3,
        ),
    )
)


@dataclass
class Row:
    """A delivered row, with what decides its fate."""

    values: tuple
    delivery: Delivery
    rank: tuple
    position: int
    reasons: list[str]
    every_reason: tuple[str, ...] = ()
    """By all rules of the contract; one may be gone from it for a while."""

    @property
    def staged(self) -> tuple:
        return (*self.values, self.rank[0], self.rank[1], str(self.delivery.load_id))

    @property
    def held(self) -> tuple:
        return (*self.staged, tuple(self.reasons), self.delivery.partition, self.position)


class Model:
    """What a load must do, one row at a time."""

    def __init__(self, t) -> None:
        self.table = t
        self.staging: list[Row] = []
        self.quarantine: list[Row] = []
        self.ledger: dict[str, tuple] = {}
        self.newest: dict[str, object] = {}

    def key(self, row: Row) -> tuple | None:
        names = list(COLUMNS)
        key = tuple(row.values[names.index(name)] for name in self.table.primary_key)
        return None if None in key else key

    def kept(self) -> list[Row]:
        """Of the staged rows of a key the greatest; a key with a null is no key."""
        best: dict[tuple, Row] = {}
        for row in self.staging:
            key = self.key(row)
            if key is not None and (key not in best or row.rank > best[key].rank):
                best[key] = row
        return [row for row in self.staging if self.key(row) is None or best[self.key(row)] is row]

    def load(self, batch: list[tuple[Delivery, list[Row]]]) -> None:
        superseded: Counter = Counter()
        if self.table.load_mode is LoadMode.REPLACE:
            kept = {}
            for delivery, rows in batch:
                if delivery.partition not in self.newest or delivery.created_at > self.newest[delivery.partition]:
                    kept[delivery.partition] = (delivery, rows)
            for partition, (delivery, _) in kept.items():
                self.newest[partition] = delivery.created_at
                self.staging = [row for row in self.staging if row.delivery.partition != partition]
            for delivery, rows in batch:
                if kept.get(delivery.partition, (None,))[0] is not delivery:
                    superseded[delivery.load_id] = len(rows)
            arriving = [row for _, rows in kept.values() for row in rows]
        else:
            arriving = [row for _, rows in batch for row in rows]
        self.quarantine += [row for row in arriving if row.reasons]
        self.staging += [row for row in arriving if not row.reasons]
        if self.table.load_mode is LoadMode.MERGE:
            keep = self.kept()
            staged = {id(row) for row in keep}
            for row in arriving:
                if not row.reasons and id(row) not in staged:
                    superseded[row.delivery.load_id] += 1
            self.staging = keep
        for delivery, rows in batch:
            bad = sum(bool(row.reasons) for row in rows) if self.loaded(delivery, arriving) else 0
            late = superseded[delivery.load_id]
            self.ledger[str(delivery.load_id)] = (len(rows), len(rows) - bad - late, bad, late)

    def replay(self, forgiven: str | None, partition: str | None) -> None:
        """Judge quarantined rows again; one rule may be gone from the contract."""
        asked = [row for row in self.quarantine if partition in (None, row.delivery.partition)]
        for row in asked:
            row.reasons = [reason for reason in row.every_reason if reason != forgiven]
        good = [row for row in asked if not row.reasons]
        self.quarantine = [row for row in self.quarantine if row not in good]
        if self.table.load_mode is LoadMode.REPLACE:
            good = [row for row in good if self.newest[row.delivery.partition] == row.delivery.created_at]
        self.staging += good
        if self.table.load_mode is LoadMode.MERGE:
            self.staging = self.kept()

    def drop(self, partition: str | None) -> None:
        """Give up quarantined rows."""
        self.quarantine = [row for row in self.quarantine if partition not in (None, row.delivery.partition)]

    @staticmethod
    def loaded(delivery: Delivery, arriving: list[Row]) -> bool:
        return any(row.delivery is delivery for row in arriving)


def deliver(home: Home, t, scenario) -> list[tuple[Delivery, list[Row]]]:
    """The scenario's deliveries in the lake, with the model's view of their rows."""
    result, done = [], set()
    for day, minute, objects in scenario:
        partition = str(DAYS[day]) if t.partitioning else "all"
        if (partition, minute) in done:
            continue
        done.add((partition, minute))
        tables, facts = [], []
        for rows in objects:
            values = [(None if off is None else DAYS[day] + timedelta(days=off), *rest) for off, *rest in rows]
            facts.append(values)
            tables.append([dict(zip(COLUMNS, value, strict=True)) for value in values])
        delivery = home.deliver(t, *tables, partition=partition, at=moment(minute))
        known = []
        for item, values in zip(delivery.objects, facts, strict=True):
            for number, value in enumerate(values):
                reasons = ["outside_partition"] if t.partitioning and value[0] != DAYS[day] else []
                reasons += ["v_range"] if value[3] is not None and value[3] < 0 else []
                reasons += ["name_required"] if value[2] is None else []
                # Of rows in one object the greatest stays, column by column, the key aside; nulls are lowest.
                rest = (v for n, v in zip(COLUMNS, value, strict=True) if n not in t.primary_key)
                order = (delivery.created_at, item.key, *((v is not None, v) for v in rest))
                known.append(Row(value, delivery, order, number, reasons, tuple(reasons)))
        result.append((delivery, known))
    return result


STAGED = "SELECT day, id, name, v, _created_at, _source_object, _load_id FROM staging.t"
HELD = (
    "SELECT day, id, name, v, _created_at, _source_object, _load_id, _reasons, _delivered_partition, _source_row"
    " FROM quarantine.t"
)
LOADS = "SELECT load_id, rows_read, rows_loaded, rows_quarantined, rows_superseded FROM dataops.loads"


def staged(home: Home) -> list[tuple]:
    """Staging; load ids as text, whatever the engine holds them as."""
    return [(*row[:6], str(row[6])) for row in home.rows(STAGED)]


def content(home: Home) -> dict[str, Counter]:
    """Staging by partition."""
    found: dict[str, Counter] = {}
    for row in staged(home):
        found.setdefault(str(row[0]), Counter())[row] += 1
    return found


def check(home: Home, model: Model) -> None:
    assert Counter(staged(home)) == Counter(row.staged for row in model.staging)
    held = Counter((*row[:6], str(row[6]), tuple(row[7]), *row[8:]) for row in home.rows(HELD))
    known = home.warehouse.dialect == "duckdb"  # BigQuery doesn't tell a row's position in its object
    assert held == Counter(row.held if known else (*row.held[:-1], None) for row in model.quarantine)
    assert {row[0]: row[1:] for row in home.rows(LOADS)} == model.ledger


def afterwards(home: Home, model: Model, t, then: str) -> None:
    """Judge quarantine again, or give it up, as a user does after a load."""
    partition = (str(DAYS[0]) if t.partitioning else "all") if then.endswith("a day") else None
    selection = Selection(None if partition is None else [partition])
    if then.startswith("drop"):
        before = len(model.quarantine)
        model.drop(partition)
        assert home.warehouse.drop(t, selection, "why not", "run") == before - len(model.quarantine)
        return
    forgiven = "v_range" if then == "replay milder" else None
    milder = replace(t, rules=tuple(r for r in t.rules if r.id != forgiven))
    before = len(model.quarantine), len(model.staging)
    model.replay(forgiven, partition)
    done = home.warehouse.replay(milder, row_checks(milder, home.warehouse.dialect), selection, "run")
    left = len(model.quarantine) - sum(partition not in (None, r.delivery.partition) for r in model.quarantine)
    assert sum(item.rows_left for item in done) == left
    assert sum(item.rows_loaded + item.rows_superseded for item in done) == before[0] - len(model.quarantine)
    assert home.warehouse.replay(milder, row_checks(milder, home.warehouse.dialect), selection, "run") == [
        Replayed(item.partition_key, 0, 0, item.rows_left) for item in done if item.rows_left
    ]


def run(name: str, scenario, home: Home, another: Callable[[], Home]) -> None:
    """Carry out a scenario in an empty home, and compare with the model after each load.

    Args:
        another: makes a second empty home, which loads everything at once.
    """
    t, (deliveries, calls) = TABLES[name], scenario
    model, load = Model(t), home.loading
    with pytest.MonkeyPatch.context() as patch, home.kept_open():
        facts = deliver(home, t, deliveries)
        home.warehouse.ensure([t])
        for chosen, size, then in [*calls, (range(len(facts)), 100, None)]:
            patch.setattr(load, "MAX_BATCH_ROWS", size)
            asked = list(dict.fromkeys(index for index in chosen if index < len(facts)))
            before, versions = content(home), home.ledger.data_versions("t")
            home.load(t, [facts[index][0] for index in asked])
            new = [facts[index] for index in asked if str(facts[index][0].load_id) not in model.ledger]
            new.sort(key=lambda pair: (pair[0].created_at, pair[0].partition))
            known = {pair[0].load_id: pair for pair in new}
            for batch in batches([pair[0] for pair in new], size, load.MAX_OBJECTS):
                model.load([known[d.load_id] for d in batch])
            check(home, model)
            if then is not None:
                afterwards(home, model, t, then)
                check(home, model)
            if t.partitioning:  # a verdict or a build names a version: other rows must never go by the same one
                after, now = content(home), home.ledger.data_versions("t")
                changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
                assert not {key for key in changed if versions.get(key) == now.get(key)}
        dump = home.dump("staging.t", "quarantine.t", "dataops.loads")
        assert home.load(t) == []
        assert home.dump("staging.t", "quarantine.t", "dataops.loads") == dump
        if t.load_mode is not LoadMode.APPEND and all(then is None for *_, then in calls):
            # One load of everything gives the same rows.
            other = another()
            other.lake = home.lake
            other.load(t)
            assert Counter(staged(other)) == Counter(staged(home))
