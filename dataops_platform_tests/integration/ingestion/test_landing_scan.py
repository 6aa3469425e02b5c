"""A tick finds what is new, whatever the order of things, and costs what is new, not what is there."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataops_platform.contracts.model import Landing
from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion.landing import Place
from dataops_platform.ingestion.landing_log import OBJECTS, Entry, LandingLog
from dataops_platform.ingestion.landing_scan import (
    STRANGE_KEPT,
    UNSETTLED_KEPT,
    Limits,
    Position,
    Scan,
    scan,
    strange_names,
)
from dataops_platform.lake import Delivery, Lake, LocalStore
from dataops_platform.lake.store import ObjectInfo
from dataops_platform_tests.support import table

CUT = Partitioning("day", Granularity.DAY, date(2024, 1, 1))
T = table("orders", {"day": Kind.DATE, "id": Kind.INTEGER}, partitioning=CUT)
UNCUT = table("orders", {"id": Kind.INTEGER})
PATTERN = "orders/dt={partition}/*.parquet"
NOW = datetime(2024, 2, 1, 12, tzinfo=UTC)
SMALL = Limits(names=5, page=3, partitions=4, runs=4)


class Names:
    """A place in memory: name → generation; tells how many listings were made and how many names they gave."""

    url, settle, together = "gs://in", 0.0, 1

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.objects: dict[str, ObjectInfo] = {}
        self.calls = self.given = self.clock = 0

    def write(self, name: str, size: int = 10, at: datetime | None = None) -> None:
        if name not in self.objects:
            insort(self.keys, name)
        self.clock += 1
        created_ms = self.clock * 1000 if at is None else int(at.timestamp() * 1000)
        self.objects[name] = ObjectInfo(name, self.clock, size, created_ms)

    def stat(self, name: str) -> ObjectInfo | None:
        return self.objects.get(name)

    def remove(self, name: str) -> None:
        self.keys.remove(name)
        del self.objects[name]

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        self.calls += 1
        for number in range(bisect_left(self.keys, max(prefix, start or "")), len(self.keys)):
            name = self.keys[number]
            if not name.startswith(prefix) or (end is not None and name >= end):
                return
            self.given += 1
            yield self.objects[name]


class Landscape:
    """Landing, a lake, and a sensor with its cursor. Runs deliver as `register` does, without the bytes."""

    def __init__(self, folder: Any, pattern: str = PATTERN, cut: Partitioning | None = CUT, window: int = 3) -> None:
        self.inbox: Any = Names()
        self.lake = Lake(LocalStore(folder))
        self.table = T if cut else UNCUT
        landing = Landing("gs://in", compile_pattern(pattern, cut), window=window)
        self.place = Place.open(landing, self.inbox, self.inbox.url)
        self.cursor: str | None = None
        self.now = NOW
        self.numbers: dict[str, int] = {}
        self.delivered: list[tuple[str, int]] = []

    def tick(self, limits: Limits = SMALL) -> Scan:
        found = scan(self.table, self.place, self.lake, Position.from_json(self.cursor), self.now, limits)
        self.cursor = found.position.to_json()
        self.now += timedelta(seconds=30)
        return found

    def run(self, *partitions: str, finish: bool = True) -> None:
        """Deliver all that is new of some partitions."""
        log = LandingLog(self.lake.store, self.table)
        known = {p: {i for e in found for i in e.landed} for p, found in log.entries(partitions).items()}
        for partition in partitions:
            new = [
                info
                for info in self.inbox.objects.values()
                if self.place.landing.pattern.match(info.key) == partition
                and (info.key, info.generation) not in known[partition]
            ]
            if not new:
                continue
            number = self.numbers[partition] = self.numbers.get(partition, 0) + 1
            origin = {OBJECTS: [{"name": info.key, "generation": info.generation} for info in new]}
            made = Delivery("orders", partition, NOW + timedelta(seconds=number), (), {}, origin)
            assert log.append(Entry(number, made))
            self.delivered += [(info.key, info.generation) for info in new]
            if finish:
                self.lake.publish(made)

    def asked(self, limits: Limits = SMALL) -> list[str]:
        return [ask.partition for ask in self.tick(limits).asks]

    def settle(self, ticks: int = 60) -> None:
        """Tick, and run what is asked for."""
        for _ in range(ticks):
            self.run(*self.asked())


@pytest.fixture
def scape(tmp_path) -> Landscape:
    return Landscape(tmp_path)


def name(day: int, part: str = "a", month: int = 1) -> str:
    return f"orders/dt=2024-{month:02d}-{day:02d}/{part}.parquet"


def test_many_objects_of_a_partition_are_asked_for_once(scape):
    for part in "abc":
        scape.inbox.write(name(3, part))
    found = scape.tick()
    assert [(ask.partition, ask.objects) for ask in found.asks] == [("2024-01-03", 3)]
    again = scape.tick()
    assert (again.asks, again.under_way) == ([], 1)
    scape.run("2024-01-03")
    quiet = scape.tick()
    assert (quiet.asks, quiet.under_way, quiet.new) == ([], 0, 0)


def test_the_same_objects_are_asked_for_under_the_same_name(scape):
    """So that a cursor that was lost starts no second run."""
    scape.inbox.write(name(3))
    first = scape.tick().asks
    scape.cursor = None
    assert scape.tick().asks == first
    scape.inbox.write(name(3, "b"))
    assert scape.tick().asks != first


def test_an_object_that_comes_while_a_run_is_under_way_is_asked_for(scape):
    scape.inbox.write(name(3))
    scape.tick()
    scape.inbox.write(name(3, "b"))
    (ask,) = scape.tick().asks
    assert (ask.partition, ask.objects) == ("2024-01-03", 2)


def test_an_older_object_that_comes_after_a_run_is_asked_for(scape):
    """A copy that keeps its time, within the hour of the run."""
    scape.inbox.write(name(3))
    scape.tick()
    scape.run("2024-01-03")
    scape.inbox.write(name(3, "b"), at=scape.now - timedelta(days=1))
    assert scape.asked() == ["2024-01-03"]
    assert scape.asked() == []
    scape.run("2024-01-03")
    assert (scape.tick().new, scape.asked()) == (0, [])


def test_a_run_that_delivered_nothing_is_asked_for_again_after_a_while(scape):
    scape.inbox.write(name(3))
    (first,) = scape.tick().asks
    assert scape.asked() == []
    scape.now += SMALL.patience
    (again,) = scape.tick().asks
    assert again.identity != first.identity


def test_a_killed_run_is_asked_for_again_though_its_objects_are_decided(scape):
    scape.inbox.write(name(3))
    scape.asked()
    scape.run("2024-01-03", finish=False)
    scape.now += SMALL.patience
    assert scape.asked() == ["2024-01-03"]


def test_overwritten_late_and_deleted(scape):
    for day in range(1, 9):
        scape.inbox.write(name(day))
    scape.settle()
    last = json.loads(scape.cursor or "")["tail"]
    assert last == name(8)
    scape.inbox.remove(last)  # the object that the cursor names
    assert scape.asked() == []
    scape.inbox.write(name(9))
    assert scape.asked() == ["2024-01-09"]
    scape.run("2024-01-09")
    scape.inbox.write(name(9))  # written anew
    assert scape.asked() == ["2024-01-09"]
    scape.run("2024-01-09")
    scape.inbox.write(name(7, "0"))  # in the window, before all that is there
    assert scape.asked() == ["2024-01-07"]
    scape.run("2024-01-07")
    scape.inbox.write(name(1, "b"))  # long ago: the sweep finds it
    scape.now += SMALL.rest
    assert [partition for _ in range(4) for partition in scape.asked()] == ["2024-01-01"]


def test_a_lost_cursor_delivers_nothing_twice(scape):
    for day in range(1, 9):
        scape.inbox.write(name(day))
    scape.settle()
    scape.cursor = None
    assert [scape.asked() for _ in range(20)] == [[]] * 20


def test_a_partition_that_is_not_over_waits(scape):
    scape.now = datetime(2024, 1, 5, 23, 59, 50, tzinfo=UTC)
    scape.inbox.write(name(5))
    found = scape.tick()
    assert (found.asks, found.open, found.strange) == ([], {"2024-01-05"}, {})
    assert scape.asked() == ["2024-01-05"]  # thirty seconds later


def test_a_date_in_the_future_hides_nothing(scape):
    scape.inbox.write("orders/dt=2099-01-01/a.parquet")
    scape.tick()
    scape.inbox.write(name(3))
    found = scape.tick()
    assert [ask.partition for ask in found.asks] == ["2024-01-03"]
    assert json.loads(scape.cursor or "")["newest"] == "2024-01-03"


def test_what_is_still_being_written_is_asked_for_at_the_next_tick(scape):
    """Not when the sweep comes by: also where names after it, in other partitions, are done."""
    scape.inbox.settle = 2.0
    days = (1, 2, 3, 4, 5, 9)
    for day in days:
        scape.inbox.write(name(day), at=scape.now)
    wide = Limits(rest=timedelta(days=1))
    first = scape.tick(wide)
    assert (first.asks, first.new, len(first.unsettled)) == ([], 0, len(days))
    assert first.position.tail == name(9)
    second = scape.tick(wide)
    assert [ask.partition for ask in second.asks] == [f"2024-01-0{day}" for day in days]
    assert (second.unsettled, second.position.unsettled) == (set(), {})
    scape.run(*(ask.partition for ask in second.asks))
    third = scape.tick()
    assert (third.asks, third.new) == ([], 0)


def test_a_tick_too_soon_does_not_take_what_is_being_written(scape):
    scape.inbox.settle = 2.0
    scape.inbox.write(name(3), at=scape.now)
    assert scape.asked() == []
    scape.now -= timedelta(seconds=29)
    assert scape.asked() == []
    assert scape.asked() == ["2024-01-03"]


def test_what_is_written_for_hours_holds_up_no_other(scape):
    scape.inbox.settle = 2.0
    asked = []
    for day in range(2, 28):
        scape.inbox.write(name(1), at=scape.now)
        scape.inbox.write(name(day))
        found = scape.tick()
        assert found.unsettled == set(found.position.unsettled) == {name(1)}
        asked += [ask.partition for ask in found.asks]
        scape.run(*asked[-1:])
    assert asked == [f"2024-01-{day:02d}" for day in range(2, 28)]
    assert scape.asked() == ["2024-01-01"]


def test_a_time_ahead_of_now(scape):
    """An object that a tick finds as the one before found it is written, whatever its time says."""
    scape.inbox.settle = 2.0
    scape.inbox.write(name(3), at=scape.now + timedelta(days=300))
    assert scape.asked() == []
    assert scape.asked() == ["2024-01-03"]
    scape.run("2024-01-03")
    found = scape.tick()
    assert (found.asks, found.unsettled, found.position.unsettled) == ([], set(), {})


def test_what_was_being_written_and_is_gone(scape):
    scape.inbox.settle = 2.0
    scape.inbox.write(name(3), at=scape.now)
    assert len(scape.tick().position.unsettled) == 1
    scape.inbox.remove(name(3))
    assert scape.tick().position.unsettled == {}


def test_many_that_are_still_being_written(scape):
    """The cursor stays bounded: the next tick begins with the first one that isn't in it."""
    scape.inbox.settle = 2.0
    parts = [f"{number:03d}" for number in range(UNSETTLED_KEPT + 50)]
    for part in parts:
        scape.inbox.write(name(1, part), at=scape.now)
    scape.inbox.write(name(9))
    wide = Limits(names=1000, page=10, rest=timedelta(days=1))
    first = scape.tick(wide)
    assert [ask.partition for ask in first.asks] == ["2024-01-09"]
    assert (len(first.unsettled), len(first.position.unsettled)) == (len(parts), UNSETTLED_KEPT)
    assert (first.position.tail, first.position.newest) == (name(1, parts[UNSETTLED_KEPT]), "2024-01-09")
    (ask,) = scape.tick(wide).asks
    assert (ask.partition, ask.objects) == ("2024-01-01", len(parts))


def test_what_a_tick_has_no_room_for_is_looked_at_again(scape):
    scape.inbox.settle = 2.0
    days = range(1, 29, 3)
    for day in days:
        scape.inbox.write(name(day), at=scape.now)
    few = Limits(runs=4, rest=timedelta(days=1))
    asked = [scape.asked(few) for _ in range(4)]
    assert [len(partitions) for partitions in asked] == [0, 4, 4, 2]
    assert [key for partitions in asked for key in partitions] == [f"2024-01-{day:02d}" for day in days]


def test_names_that_do_not_belong_are_told(scape):
    scape.inbox.write(name(3))
    scape.inbox.write(name(4), size=0)
    for stray in ("orders/readme.txt", "orders/dt=2023-12-31/a.parquet", "orders/dt=2024-13-01/a.parquet"):
        scape.inbox.write(stray)
    for quiet in ("orders/_SUCCESS", "orders/dt=2024-01-03/.a.crc", "orders/dt=2024-01-03/a.parquet.part"):
        scape.inbox.write(quiet)
    found = [scape.tick() for _ in range(4)]
    told = {key: reason for one in found for key, reason in one.strange.items()}
    assert told == {
        name(4): "is empty (0 bytes)",
        "orders/readme.txt": f"matches no pattern (objectPattern is {PATTERN})",
        "orders/dt=2024-13-01/a.parquet": f"matches no pattern (objectPattern is {PATTERN})",
        "orders/dt=2023-12-31/a.parquet": "partition 2023-12-31 is before the table's first day 2024-01-01",
    }
    position = found[-1].position
    assert (position.strange_count, position.strange_before, len(position.strange)) == (4, 4, 4)
    assert strange_names(scape.place, NOW, 100) == (told, 8)
    assert strange_names(scape.place, NOW, 1)[1] == 1


@pytest.mark.parametrize(
    ("pattern", "key", "marker"),
    [
        (PATTERN, "orders/dt=2024-01-01/a.parquet", False),
        (PATTERN, "orders/dt=2024-01-01/_SUCCESS", True),
        (PATTERN, "orders/_delta_log/0.json", True),
        ("orders/{partition}/*/*.parquet", "orders/2024-01-01/_temporary/a.parquet", True),
        ("_in/_x-{partition}.csv", "_in/_x-2024-01-01.csv", False),
        ("_in/_x-{partition}.csv", "_in/_y", True),
        ("_in/{partition}.csv", "_in/2024-01-01.csv", False),
        ("_in/{partition}.csv", "_in/2024-01-01.csv.tmp", True),
    ],
)
def test_what_tools_leave_beside_data(pattern, key, marker):
    place = Place.open(Landing("gs://in", compile_pattern(pattern, CUT)), Names(), "gs://in")  # type: ignore[arg-type]
    assert place.is_marker(key) is marker


def test_strangers_do_not_fill_the_cursor(scape):
    for number in range(200):
        scape.inbox.write(f"orders/{number:03d}" + "x" * 500)
    found = [scape.tick() for _ in range(120)][-1].position
    assert (len(found.strange), found.strange_before) == (STRANGE_KEPT, 200)


def test_a_neighbours_objects_are_no_strangers():
    landing = Landing("gs://in", compile_pattern("all/orders-{partition}.csv", CUT))
    near, far = (compile_pattern(f"{folder}/weather-{{partition}}.csv", CUT) for folder in ("all", "else"))
    shared = Place.open(landing, Names(), "gs://in", [("gs://in", near)])  # type: ignore[arg-type]
    alone = Place.open(landing, Names(), "gs://in", [("gs://in", far)])  # type: ignore[arg-type]
    assert (shared.watched, alone.watched) == ("all/orders-", "all/")


@pytest.mark.parametrize(
    ("base", "pattern", "taken"),
    [
        ("gs://in", "vendor/{partition}/customers_*.csv", True),
        ("gs://in/vendor", "daily/{partition}/customers_*.csv", True),
        ("gs://in/ven", "dor/{partition}/customers_*.csv", False),
        ("gs://other", "vendor/{partition}/customers_*.csv", False),
    ],
)
def test_dated_folders_that_tables_share(scape, base, pattern, taken):
    """What another table takes is no stranger, wherever that one's names begin; what none takes is."""
    folder = "vendor/daily" if "daily" in pattern else "vendor"
    mine = compile_pattern(f"{folder}/{{partition}}/orders_*.csv", CUT)
    theirs = compile_pattern(pattern, CUT)
    scape.place = Place.open(Landing("gs://in", mine), scape.inbox, "gs://in", [(base, theirs)])
    other, stray = f"{folder}/2024-01-03/customers_1.csv", f"{folder}/2024-01-03/x.csv"
    for key in (f"{folder}/2024-01-03/orders_1.csv", other, stray):
        scape.inbox.write(key)
    found = scape.tick()
    assert [(ask.partition, ask.objects) for ask in found.asks] == [("2024-01-03", 1)]
    assert set(found.strange) == ({stray} if taken else {other, stray})
    assert set(strange_names(scape.place, NOW, 100)[0]) == set(found.strange)


def test_limits_of_a_tick(scape):
    """Partitions that follow on one another are one run, so they are bounded otherwise than single ones."""
    for day in range(1, 29, 2):
        scape.inbox.write(name(day))
    wide = Limits(names=100, page=100, partitions=10, runs=4)
    first = scape.tick(wide)
    assert (len(first.asks), first.more) == (4, True)
    for _ in range(5):
        scape.run(*scape.asked(wide), *(ask.partition for ask in first.asks))
    assert len(scape.delivered) == 14
    for day in range(1, 29):
        scape.inbox.write(name(day, "b"))
    scape.now += timedelta(hours=2)
    assert len(scape.asked(wide)) == 10


def test_the_cursor_is_bounded(scape):
    for month in range(1, 10):
        for day in range(1, 29):
            scape.inbox.write(name(day, month=month))
    scape.now = datetime(2025, 1, 1, tzinfo=UTC)
    for _ in range(70):
        scape.tick(Limits(names=50, page=50))  # nothing is ever delivered
    assert len(scape.cursor or "") < 20_000
    scape.now += timedelta(hours=2)
    scape.settle(200)
    scape.now += timedelta(hours=2)
    scape.tick()
    assert len(scape.cursor or "") < 500


def test_the_cost_of_a_tick_follows_what_is_new(tmp_path):
    costs = []
    for days, parts in ((2, 5), (28, 100)):
        scape = Landscape(tmp_path / str(days))
        for day in range(1, days + 1):
            for part in range(parts):
                scape.inbox.write(name(day, f"{part:03d}"))
            scape.run(f"2024-01-{day:02d}")
        limits = Limits(names=100, page=10)
        while scape.tick(limits).more:
            pass
        scape.inbox.write(name(days, "999"))
        scape.inbox.calls = scape.inbox.given = 0
        assert scape.asked(limits) == [f"2024-01-{days:02d}"]
        costs.append((scape.inbox.calls, scape.inbox.given))
    assert max(calls for calls, _ in costs) <= 3
    assert max(given for _, given in costs) <= 2 + 10 + 10


@pytest.mark.parametrize(
    ("pattern", "cut", "partition"),
    [("orders/*/{partition}.parquet", CUT, "2024-01-03"), ("orders/*-{date:%Y%m%d}.parquet", None, "all")],
)
def test_names_in_no_order(tmp_path, pattern, cut, partition):
    """All names are looked at in turn, some at each tick."""
    scape = Landscape(tmp_path, pattern, cut)
    made = "orders/{0}/2024-01-03.parquet" if cut else "orders/{0}-20240103.parquet"
    for number in range(12):
        scape.inbox.write(made.format(f"x{number:02d}"))
    scape.settle(10)
    assert len(scape.delivered) == len(set(scape.delivered)) == 12
    scape.inbox.write(made.format("x00"))
    assert [found for _ in range(4) for found in scape.asked()] == [partition]


def test_a_cursor_that_is_none(scape):
    for text in (
        "[]",
        "{",
        '{"tail": 1}',
        '{"asked": {"a": 1}}',
        '{"asked": {}, "what": 1}',
        '{"asked": {}, "tail": 5}',
        '{"asked": {}, "unsettled": ["a"]}',
    ):
        with pytest.raises(ValueError, match="not the position of a landing sensor"):
            Position.from_json(text)
    assert Position.from_json("") == Position()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 28), st.sampled_from("abc")),
        st.tuples(st.just("remove"), st.integers(0, 99), st.just("")),
        st.tuples(st.just("tick"), st.integers(0, 1), st.just("")),
        st.tuples(st.just("lose"), st.just(0), st.just("")),
        st.tuples(st.just("later"), st.integers(1, 120), st.just("")),
        st.tuples(st.just("stray"), st.integers(0, 9), st.sampled_from(["dt=2099-01-01", "0", "dt=2024-01-0x", "z"])),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([0.0, 2.0]))
@settings(max_examples=60)
def test_whatever_happens_all_is_delivered_once(tmp_path_factory, steps, settle):
    """Writes, overwrites, removals, runs that die, lost cursors: in the end what is there was delivered, once."""
    scape = Landscape(tmp_path_factory.mktemp("scape"))
    scape.inbox.settle = settle
    for what, number, text in steps:
        if what == "write":
            scape.inbox.write(name(number, text), at=scape.now if settle else None)
        elif what == "remove" and scape.inbox.keys:
            scape.inbox.remove(scape.inbox.keys[number % len(scape.inbox.keys)])
        elif what == "tick":
            partitions = scape.asked()
            if number:  # else the run dies before it does anything
                scape.run(*partitions)
        elif what == "lose":
            scape.cursor = None
        elif what == "later":
            scape.now += timedelta(minutes=number)
        elif what == "stray":
            scape.inbox.write(f"orders/{text}/{number}")
    scape.now += timedelta(hours=2)
    for _ in range(6):
        scape.settle(10)
        scape.now += timedelta(hours=2)
    there = {(i.key, i.generation) for i in scape.inbox.objects.values() if i.key.endswith(".parquet")}
    assert there <= set(scape.delivered)
    assert len(scape.delivered) == len(set(scape.delivered))
