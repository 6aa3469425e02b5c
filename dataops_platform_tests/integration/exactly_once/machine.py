"""Random histories of a table: what others deliver, runs that are killed, repeated and at the same time, replays.

After every step the warehouse is what the naive model says, and lake and ledger hold each delivery once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dataops_platform.lake import Delivery
from dataops_platform.warehouse.names import staging
from dataops_platform_tests.integration.exactly_once.model import DROPPED, Counts, Identity, Model, Row, Values
from dataops_platform_tests.integration.exactly_once.processes import (
    BOUNDARIES,
    COLUMNS,
    DAYS,
    Act,
    Contract,
    Ended,
    Processes,
)
from dataops_platform_tests.support import Home, moment

DAY = st.sampled_from(DAYS)
PARTITIONS = st.one_of(st.none(), st.lists(DAY, min_size=1, max_size=2, unique=True).map(tuple))
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 0, 0, 1]),  # days off the delivery's own
        st.sampled_from([1, 1, 2, 3, 4, None]),
        st.sampled_from(["a", "a", "b", "", None]),
        st.sampled_from([0, 1, 2, None, -1, -2]),
    ),
    min_size=1,
    max_size=6,
)
MINUTE = st.sampled_from(range(40))
"""When something was made: what comes late is older than what is there."""
BATCH = st.sampled_from([1, 6, 1000])
BOUNDARY = st.sampled_from(range(40)) | st.sampled_from(BOUNDARIES)
"""Those that a process doesn't come to do nothing to it."""
DECIDING = st.sampled_from(["before create _landings", "after create _landings", "before create _deliveries"])
"""Boundaries around the moment that decides which landed object is in which delivery."""
OF_QUARANTINE = st.none() | st.sampled_from(
    [
        *range(8, 20), 'before DELETE FROM "quarantine"."t"', 'before INSERT INTO "staging"."t"',
        'before INSERT INTO "quarantine"."t"', 'before INSERT INTO "dataops"."replays"',
    ]
)  # fmt: skip
"""Boundaries of a replay."""
OBJECTS = st.lists(st.tuples(DAY, MINUTE, ROWS), min_size=1, max_size=3)
LANDED_AT, BY_HAND_AT = 7, 13
"""Seconds into the minute, by which the ways of arrival are told apart."""


@dataclass
class Landed:
    """An object in landing as it is now."""

    name: str
    day: str
    rows: list[Values]
    wide: bool
    content: bytes
    generation: int = 0


class Machine(RuleBasedStateMachine):
    """One table and its history. Subclasses say how it is loaded."""

    mode: ClassVar[str]
    processes: ClassVar[Processes]
    met: ClassVar[Counter[str]]
    """Boundaries before which a process was killed, and what else came to happen."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.home = Home(self.folder)
        self.contract = Contract(self.mode)
        self.model = Model()
        self.numbers, self.names = count(), count()
        self.landed: dict[str, Landed] = {}
        """What is there by now."""
        self.content: dict[object, tuple[list[Values], bool]] = {}
        """What was delivered: (day, time) of the source's, (name, generation) of landed objects, names by hand."""
        self.handed: dict[str, Landed] = {}
        """Files by hand, as the objects that they would be."""
        self.again: set[object] = set()
        """Landed objects that were delivered by hand."""
        self.gone: set[object] = set()
        """Landed objects that the platform has removed."""
        self.deliveries: dict[str, Delivery] = {}
        self.sound = True
        """Whether the last step was found to be right."""

    def teardown(self) -> None:
        try:
            if self.sound:  # or the end would hide what went wrong before
                self.finish()
        finally:
            shutil.rmtree(self.folder)

    # -- what others do -----------------------------------------------------------------------------------------------

    @initialize(day=DAY, rows=ROWS, removes=st.booleans())
    def first(self, day: str, rows: Sequence[tuple], removes: bool) -> None:
        self.contract = replace(self.contract, removes=removes)
        self.source_has_more([(day, 20, [rows])])

    def _rows(self, day: str, rows: Sequence[tuple]) -> list[Values]:
        known = DAYS.index(day)
        return [
            (date.fromisoformat((*DAYS, "2024-01-04")[known + off]), *rest, next(self.numbers),
             f"note {len(self.content)}" if self.contract.wide else None)
            for off, *rest in rows
        ]  # fmt: skip

    def _file(self, rows: list[Values]) -> bytes:
        names = [*COLUMNS, "note"]
        path = self.home.file([dict(zip(names, row, strict=True)) for row in rows], self.contract.table)
        try:
            return path.read_bytes()
        finally:
            shutil.rmtree(path.parent)

    @rule(arrivals=st.lists(st.tuples(DAY, MINUTE, st.lists(ROWS, min_size=1, max_size=2)), min_size=1, max_size=3))
    def source_has_more(self, arrivals: Sequence[tuple[str, int, Sequence[Sequence[tuple]]]]) -> None:
        """New, or late: the source has what the lake hasn't."""
        for day, minute, objects in arrivals:
            stamp = int(moment(minute).timestamp())
            if (day, stamp, 0) not in self.content:
                for number, rows in enumerate(objects):
                    made = self._rows(day, rows)
                    path = self.folder / "source" / day / f"{stamp}.{number}.parquet"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(self._file(made))
                    self.content[day, stamp, number] = made, self.contract.wide

    @rule(objects=OBJECTS)
    def objects_land(self, objects: Sequence[tuple[str, int, Sequence[tuple]]]) -> None:
        for day, minute, rows in objects:
            self._land(self._object(day, rows), minute)

    def _object(self, day: str, rows: Sequence[tuple]) -> Landed:
        made = self._rows(day, rows)
        return Landed(f"t/dt={day}/{next(self.names)}.parquet", day, made, self.contract.wide, self._file(made))

    @precondition(lambda self: self.landed)
    @rule(number=st.integers(0, 100), minute=MINUTE, rows=st.one_of(st.none(), ROWS))
    def is_written_anew(self, number: int, minute: int, rows: Sequence[tuple] | None) -> None:
        """A landed object has a new generation: of other rows, or of the same."""
        old = self.landed[sorted(self.landed)[number % len(self.landed)]]
        if rows is None:
            self._land(replace(old), minute)
        else:
            made = self._rows(old.day, rows)
            self._land(Landed(old.name, old.day, made, self.contract.wide, self._file(made)), minute)

    @precondition(lambda self: self.handed)
    @rule(number=st.integers(0, 100), minute=MINUTE)
    def what_was_handed_in_lands(self, number: int, minute: int) -> None:
        """The same bytes, under the same name; perhaps under a later version of the contract."""
        self._land(replace(self.handed[sorted(self.handed)[number % len(self.handed)]]), minute)
        self.met["landed by hand before"] += 1

    def _land(self, item: Landed, minute: int) -> None:
        scratch, path = map(Path, self._about_to_land(item, minute))
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(path)

    def _about_to_land(self, item: Landed, minute: int) -> tuple[str, str]:
        """Somebody is going to write an object: where its file is, and where it is to be."""
        scratch = self.folder / f"{next(self.names)}.part"
        scratch.write_bytes(item.content)
        generation = int(moment(minute).timestamp() + LANDED_AT) * 10**9
        while (item.name, generation) in self.content:
            generation += 10**6
        os.utime(scratch, ns=(generation, generation))
        item.generation = generation
        self.landed[item.name] = item
        self.content[item.name, generation] = item.rows, item.wide
        handed = self.handed.get(Path(item.name).name)
        if handed is not None and handed.content == item.content:
            self.again.add((item.name, generation))
        return str(scratch), str(self.folder / "landing" / item.name)

    # -- what the platform does ---------------------------------------------------------------------------------------

    @rule(day=DAY, minute=MINUTE, rows=ROWS, kill=st.sampled_from([None, *range(9)]))
    def is_handed_in(self, day: str, minute: int, rows: Sequence[tuple], kill: int | None) -> None:
        """A file by hand, and once more: then it is known."""
        made = self._rows(day, rows)
        path = self.folder / f"{next(self.names)}.parquet"
        path.write_bytes(self._file(made))
        at = int(moment(minute).timestamp() + BY_HAND_AT)
        os.utime(path, (at, at))
        self.content[path.name] = made, self.contract.wide
        name = f"t/dt={day}/{path.name}"
        self.handed[path.name] = Landed(name, day, made, self.contract.wide, path.read_bytes())
        act = Act("hand", self.contract, (day,), (str(path),))
        self._do(replace(act, kill=kill), act)
        assert sum(path.name in self._names(d) for d in self.deliveries.values()) == 1

    @staticmethod
    def _names(delivery: Delivery) -> list[str]:
        return [item["name"].removeprefix("by hand/") for item in delivery.origin.get("objects", ())]

    @rule(partitions=PARTITIONS, batch=BATCH)
    def runs(self, partitions: tuple[str, ...] | None, batch: int) -> None:
        self._do(Act("run", self.contract, partitions, batch=batch))
        self._is_complete(partitions)

    @rule(partitions=PARTITIONS, batch=BATCH, kills=st.lists(BOUNDARY, min_size=1, max_size=3))
    def runs_and_is_killed(self, partitions: tuple[str, ...] | None, batch: int, kills: list[int | str]) -> None:
        for kill in kills:
            self._do(Act("run", self.contract, partitions, batch=batch, kill=kill))

    @rule(
        some=PARTITIONS, others=PARTITIONS, batch=BATCH, hold=BOUNDARY | DECIDING, day=DAY,
        now=ROWS, then=st.none() | st.tuples(MINUTE, ROWS), kill=st.none() | BOUNDARY, kill_other=st.none() | BOUNDARY,
    )  # fmt: skip
    def run_at_once(
        self,
        some: tuple[str, ...] | None,
        others: tuple[str, ...] | None,
        batch: int,
        hold: int | str,
        day: str,
        now: Sequence[tuple],
        then: tuple[int, Sequence[tuple]] | None,
        kill: int | str | None,
        kill_other: int | str | None,
    ) -> None:
        """Two runs: one is held at a boundary while another object lands and the other one goes as far as it can."""
        self._land(self._object(day, now), 20)
        before = set(self.landed)
        meanwhile = () if then is None else (self._about_to_land(self._object(day, then[1]), then[0]),)
        first = Act("run", self.contract, some, batch=batch, hold=hold, kill=kill)
        second = Act("run", self.contract, others, batch=batch, kill=kill_other, meanwhile=meanwhile)
        one, other = self._processes(first, second)
        self._follow()
        if not one.killed:
            self._is_complete(some, before, bool(other.killed))
        if not other.killed:
            self._is_complete(others)

    @rule(wide=st.booleans())
    def contract_changes(self, wide: bool) -> None:
        """A rule is gone, or back; or there is a column more, for good."""
        if wide:
            self.contract = replace(self.contract, wide=True)
        else:
            self.contract = replace(self.contract, milder=not self.contract.milder)

    @rule(partitions=PARTITIONS, kill=OF_QUARANTINE)
    def quarantine_is_replayed(self, partitions: tuple[str, ...] | None, kill: int | str | None) -> None:
        after = self.model.copy()
        after.replay(self.contract, partitions)
        self._all_or_nothing(Act("replay", self.contract, partitions, kill=kill), after)

    @rule(partitions=PARTITIONS, kill=OF_QUARANTINE)
    def quarantine_is_dropped(self, partitions: tuple[str, ...] | None, kill: int | str | None) -> None:
        after = self.model.copy()
        after.drop(partitions)
        self._all_or_nothing(Act("drop", self.contract, partitions, kill=kill), after)

    def _all_or_nothing(self, act: Act, after: Model) -> None:
        (ended,) = self._processes(act)
        before, self.model = self.model, after
        if ended.killed:
            try:
                self._check()
            except AssertionError:
                self.model = before
        self._check()

    def finish(self) -> None:
        """In the end a run brings in what is there; another one changes nothing."""
        self._do(Act("run", self.contract))
        self._is_complete(None)
        tables = ("staging.t", "quarantine.t", "dataops.loads", "dataops.refusals", "dataops.replays")
        dump = self.home.dump(*tables)
        self._do(Act("run", self.contract))
        assert self.home.dump(*tables) == dump

    # -- what must hold -----------------------------------------------------------------------------------------------

    def _processes(self, *acts: Act) -> list[Ended]:
        self.sound = False
        ended = self.processes.do(self.folder, *acts)
        for item in ended:
            assert not item.said, item.said
            self.met[f"killed {item.killed}" if item.killed else "not killed"] += 1
            if item.held:
                self.met[f"held in the {item.held}"] += 1
        for item in list(self.landed.values()):
            if not (self.folder / "landing" / item.name).exists():
                self.gone.add((item.name, item.generation))
                del self.landed[item.name]
        return ended

    def _do(self, *acts: Act) -> None:
        """One after the other."""
        for act in acts:
            self._processes(act)
            self._follow()

    def _follow(self) -> None:
        """Let the model load what was loaded, and compare."""
        self.deliveries = {ref.key: self.home.lake.read(ref.key) for ref in self.home.lake.manifests("t")}
        new: dict[object, list[Delivery]] = {}
        by_id = {str(delivery.load_id): delivery for delivery in self.deliveries.values()}
        if self.home.warehouse.exists(staging("t")):
            for load_id, loaded_at in self.home.rows("SELECT load_id, loaded_at FROM dataops.loads"):
                if load_id not in self.model.loads:
                    new.setdefault(loaded_at, []).append(by_id[load_id])
        for loaded_at in sorted(new):
            self.model.load(self.contract, [(delivery, self._content(delivery)) for delivery in new[loaded_at]])
        self._check()

    def _content(self, delivery: Delivery) -> list[Row]:
        result = []
        for number, item in enumerate(delivery.objects):
            values, _ = self.content[self._origin(delivery, number)]
            assert len(values) == item.rows
            result += [
                Row((str(delivery.load_id), item.key, row[4]), delivery.partition, delivery.created_at, row)
                for row in values
            ]
        return result

    def _origin(self, delivery: Delivery, number: int) -> object:
        """What an object of a delivery was made of."""
        if "objects" not in delivery.origin:
            return delivery.partition, int(delivery.created_at.timestamp()), number
        landed = delivery.origin["objects"][number]
        name = landed["name"]
        return name.removeprefix("by hand/") if name.startswith("by hand/") else (name, landed["generation"])

    def _check(self) -> None:
        """Staging, quarantine and ledger are the model's; nothing that arrived is in two deliveries."""
        origins = Counter(self._origin(d, number) for d in self.deliveries.values() for number in range(len(d.objects)))
        assert all(times == 1 for times in origins.values()), origins
        assert self.gone - self.again <= set(origins)
        # Not delivered again, unless something else landed under its name; or where the rest of a snapshot did.
        for name, generation in self.again & set(origins) if self.mode != "replace" else ():
            assert any(origin[0] == name and origin[1] != generation for origin in origins if isinstance(origin, tuple))
        with self.home.kept_open():
            if self.home.warehouse.exists(staging("t")):
                self._check_loads()
                self._check_rows()
            else:  # killed before it was made
                assert not self.model.loads
        self.sound = True

    def _check_loads(self) -> None:
        loads = self.home.rows(
            "SELECT load_id, rows_read, rows_loaded, rows_quarantined, rows_superseded FROM dataops.loads"
        )
        assert len(loads) == len({load_id for load_id, *_ in loads})
        assert {load_id: Counts(*counts) for load_id, *counts in loads} == self.model.loads
        refusals = self.home.rows("SELECT load_id, reason FROM dataops.refusals")
        assert len(set(refusals)) == len(refusals)

    def _check_rows(self) -> None:
        columns = self.home.rows("SELECT column_name FROM duckdb_columns() WHERE table_name = 't'")
        note = "note" if ("note",) in columns else "NULL"
        listed = f"CAST(_load_id AS VARCHAR), _source_object, n, day, id, name, v, n, {note}, _created_at"
        in_staging = self._rows_of(f"SELECT {listed} FROM staging.t")
        in_quarantine = self._rows_of(f"SELECT {listed}, _delivered_partition, _reasons FROM quarantine.t")
        expected = self.model.staged(self.contract)
        assert in_staging == {i: (*row.values, row.created_at) for i, row in expected.items()}
        held = {i: (self.model.rows[i], reasons) for i, reasons in self.model.held().items()}
        assert in_quarantine == {
            i: (*row.values, row.created_at, row.partition, list(reasons)) for i, (row, reasons) in held.items()
        }
        self._check_nothing_is_lost(in_staging.keys(), in_quarantine.keys())

    def _rows_of(self, query: str) -> dict[Identity, tuple]:
        """The rows of a table; each is there once. A table's columns come as a list: some have the same name."""
        rows = [
            tuple(row) for row in zip(*(c.to_pylist() for c in self.home.warehouse.query(query).columns), strict=True)
        ]
        found = {row[:3]: row[3:] for row in rows}
        assert len(found) == len(rows)
        return found

    def _check_nothing_is_lost(self, staged: Set[Identity], held: Set[Identity]) -> None:
        """Every row of a loaded delivery is in one place, was given up, or has lost to one that is there."""
        assert not staged & held
        dropped = {i for i, state in self.model.state.items() if state == DROPPED}
        counted = self.home.rows("SELECT coalesce(sum(rows_dropped), 0) AS n FROM dataops.replays")
        assert counted == [(len(dropped),)]
        lost = [row for i, row in self.model.rows.items() if i not in staged | held | dropped]
        assert not (lost and self.mode == "append")
        for row in lost:
            if self.mode == "replace":
                assert row.created_at < self.model.newest[row.partition]
            else:
                assert any(
                    self.model.rows[i].values[1] == row.values[1] and self.model.rows[i].rank > row.rank for i in staged
                )
        for name, rows in (("staged", staged), ("held", held), ("dropped", dropped), ("lost to later ones", lost)):
            self.met[f"rows {name}"] += len(rows)

    def _is_complete(
        self, partitions: tuple[str, ...] | None, names: Set[str] | None = None, others_are_left: bool = False
    ) -> None:
        """After a run that came to its end everything that is there is delivered, and loaded or refused.

        Args:
            names: what there was in landing when it began; None: what is there.
            others_are_left: another run, which was killed, may have delivered later than it loaded.
        """
        wanted = set(partitions or DAYS)
        self.sound = False
        origins = {self._origin(d, n) for d in self.deliveries.values() for n in range(len(d.objects))}
        source = {key for key in self.content if isinstance(key, tuple) and len(key) == 3 and key[0] in wanted}
        landed = {
            (item.name, item.generation)
            for item in self.landed.values()
            if item.day in wanted and (names is None or item.name in names)
        } - self.again
        assert source | landed <= origins
        assert not (self.contract.removes and landed)
        refused = {
            key for key, delivery in self.deliveries.items() if delivery.partition in wanted and self._misfit(delivery)
        }
        loaded = {row[0] for row in self.home.rows("SELECT manifest FROM dataops.loads")}
        mine = {key for key, delivery in self.deliveries.items() if delivery.partition in wanted}
        assert others_are_left or mine - loaded <= refused
        self.met["refused deliveries"] += len(mine - loaded)
        self.sound = True

    def _misfit(self, delivery: Delivery) -> bool:
        """Whether it lacks a column of the contract that it was delivered under: of before one was added it may."""
        wide = {replace(self.contract, wide=True, milder=m).table.contract_version for m in (False, True)}
        return delivery.contract_version in wide and not all(
            self.content[self._origin(delivery, number)][1] for number in range(len(delivery.objects))
        )
