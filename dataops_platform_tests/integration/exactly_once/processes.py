"""A small platform whose every action is a process of its own, killed or held up at a boundary that is named.

A boundary is a moment between two steps that outlive the process: before and after an object is created in the lake or
removed from landing, before each statement of the warehouse, and after a commit. `Processes` keeps one server
(`python -m …exactly_once.processes`) that has imported everything and opened nothing; each action is a fork of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

from dataops_platform.contracts.model import AfterLanding, Landing, LoadMode, RuleKind, Table
from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion.extractor import Arrival, extract
from dataops_platform.ingestion.landing import Place, deliver_files, register
from dataops_platform.lake import LocalStore
from dataops_platform.lake import local as local_store
from dataops_platform.lake.inbox import LocalInbox
from dataops_platform.orchestration.table_assets import load_new
from dataops_platform.quality.quarantine import row_checks
from dataops_platform.warehouse.base import Selection
from dataops_platform.warehouse.duckdb import connection as duckdb_connection
from dataops_platform.warehouse.duckdb import load as duckdb_load
from dataops_platform_tests.support import DAY1, Home, daily, rule, table

DAYS = tuple(str(DAY1.replace(day=number)) for number in (1, 2, 3))
COLUMNS = {"day": Kind.DATE, "id": Kind.INTEGER, "name": Kind.STRING, "v": Kind.INTEGER, "n": Kind.INTEGER}
BOUNDARIES = (
    "before create raw_t", "after create raw_t", "before create _landings", "after create _landings",
    "before create _deliveries", "after create _deliveries", "before remove landed", "after remove landed",
    'before INSERT INTO "staging"."t"', 'before INSERT INTO "quarantine"."t"', 'before DELETE FROM "staging"."t"',
    'before INSERT INTO dataops."loads"', "before COMMIT", "after COMMIT",
)  # fmt: skip
"""Those that matter most; there are many more."""
ADDED = {"note": Kind.STRING}
RULES = (rule("v_range", RuleKind.RANGE, "v", minimum=0), rule("name_required", RuleKind.NOT_NULL, "name"))


@dataclass(frozen=True)
class Contract:
    """What may change in the contract of the one table.

    Attributes:
        milder: without the rule about `v`.
        wide: with the column `note`, which needn't be there.
        removes: landed objects go once they are delivered.
    """

    mode: str
    removes: bool = False
    milder: bool = False
    wide: bool = False

    @property
    def table(self) -> Table:
        made = table(
            "t",
            COLUMNS | ADDED if self.wide else COLUMNS,
            mode=LoadMode(self.mode),
            key=("id",) if self.mode == "merge" else (),
            partitioning=daily(),
            rules=[r for r in RULES if not (self.milder and r.id == "v_range")],
        )
        return replace(made, contract_version=f"1.{int(self.wide)}.{int(self.milder)}")


@dataclass(frozen=True)
class Act:
    """What one process does.

    Attributes:
        do: `run` (deliver, then load), `hand` (deliver files by hand), `replay` or `drop` quarantined rows.
        partitions: of these days; None: of all.
        files: those delivered by hand.
        batch: rows that one transaction loads at most.
        kill: at which boundary it is killed: its number or its name; None: never.
        hold: at which boundary it is stopped until the other process has gone as far as it can; None: never.
        meanwhile: files and where they land before this process begins, while the other one is held.
    """

    do: str
    contract: Contract
    partitions: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    batch: int = 1000
    kill: int | str | None = None
    hold: int | str | None = None
    meanwhile: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        killed: the boundary before which it was; None: it came to its end.
        passed: the boundaries that it passed.
        held: where it was held up: in the `warehouse`, which keeps others out, or in the `lake`.
        said: what it raised, if anything.
    """

    killed: str | None
    passed: list[str]
    held: str | None = None
    said: str = ""


class Source:
    """A source whose arrivals are files `<day>/<time>.<number>.parquet`, as an extractor sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _files(self, arrival: Arrival) -> list[Path]:
        stamp = int(arrival.created_at.timestamp())
        return sorted((self._folder / arrival.partition).glob(f"{stamp}.*.parquet"))

    def available(self, t: Table, partitions: Sequence[str]) -> list[Arrival]:
        found = {
            (day, int(path.name.partition(".")[0])) for day in partitions for path in (self._folder / day).glob("*")
        }
        return [
            Arrival(day, datetime.fromtimestamp(stamp, UTC), {"file": f"{day} {stamp}"}) for day, stamp in sorted(found)
        ]

    def fetch(self, t: Table, arrivals: Sequence[Arrival], folder: Path) -> Iterator[tuple[Arrival, list[Path]]]:
        for number, arrival in enumerate(arrivals):
            copies = []
            for path in self._files(arrival):
                copy = folder / f"{number}.{path.name}"
                copy.write_bytes(path.read_bytes())
                copies.append(copy)
            yield arrival, copies


def landing(folder: Path, contract: Contract) -> Place:
    """The landing folder of the table."""
    inbox = LocalInbox(folder / "landing")
    pattern = compile_pattern("t/dt={partition}/*.parquet", contract.table.partitioning)
    after = AfterLanding.REMOVE if contract.removes else AfterLanding.KEEP
    return Place.open(Landing("in", pattern, after=after), inbox, inbox.url)


def carry_out(folder: Path, act: Act) -> None:
    """Do it, in this process."""
    duckdb_load.MAX_BATCH_ROWS = act.batch
    home, t = Home(folder), act.contract.table
    home.warehouse.ensure([t])
    selection = Selection(None if act.partitions is None else list(act.partitions))
    keys = list(act.partitions or DAYS)
    if act.do == "replay":
        home.warehouse.replay(t, row_checks(t, home.warehouse.dialect), selection, "run")
    elif act.do == "drop":
        home.warehouse.drop(t, selection, "because", "run")
    elif act.do == "hand":
        (day,) = keys
        deliver_files(t, home.lake, day, [Path(name) for name in act.files])
    else:
        extract(t, Source(folder / "source"), home.lake, keys)
        register(t, landing(folder, act.contract), home.lake, keys)
        platform: Any = SimpleNamespace(warehouse=home.warehouse, lake=home.lake, ledger=home.ledger)
        load_new(platform, t, act.partitions, "run")


class Boundaries:
    """Counts boundaries, and ends or stops this process at those asked. Of several alike in a row one counts."""

    def __init__(self, act: Act, report: int) -> None:
        self._act, self._report = act, report
        self.passed: list[str] = []
        self.held: str | None = None
        self.open = 0
        """Connections to the warehouse: while there is one, no other process gets in."""

    def __call__(self, name: str) -> None:
        if self.passed[-1:] == [name]:
            return
        if self.held is None and self._act.hold in (len(self.passed), name):
            self.held = "warehouse" if self.open else "lake"
            tell(self._report, {"held": self.held})
            os.kill(os.getpid(), signal.SIGSTOP)
        if self._act.kill in (len(self.passed), name):
            tell(self._report, asdict(Ended(name, self.passed, self.held)))
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed.append(name)

    def watch(self) -> None:
        """From now on, be told of every boundary in this process."""
        self._around(LocalStore, "create")
        self._around(LocalInbox, "remove")
        connect = duckdb_connection._connect

        def watched(*given: Any) -> Any:
            self.open += 1
            return _Watched(connect(*given), self)

        duckdb_connection._connect = watched
        local_store._sync = lambda path: None  # a killed process loses nothing that it wrote

    def _around(self, owner: type, name: str) -> None:
        does = getattr(owner, name)

        def watched(this: Any, what: Any, *more: Any) -> Any:
            kind = what.split("/")[0] if isinstance(what, str) else "landed"
            self(f"before {name} {kind}")
            done = does(this, what, *more)
            self(f"after {name} {kind}")
            return done

        setattr(owner, name, watched)


class _Watched:
    """A connection that tells of each statement."""

    def __init__(self, connection: Any, boundaries: Boundaries) -> None:
        self._connection, self._tell = connection, boundaries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def close(self) -> None:
        self._connection.close()
        self._tell.open -= 1

    def execute(self, sql: str, *more: Any) -> Any:
        words = " ".join(sql.split()[: 3 if sql.startswith(("INSERT", "DELETE")) else 1])
        self._tell(f"before {words}")
        done = self._connection.execute(sql, *more)
        if words == "COMMIT":
            self._tell("after COMMIT")
        return done


def tell(report: int, what: Mapping[str, Any]) -> None:
    os.write(report, (json.dumps(what) + "\n").encode())


# -- the server: forks, and waits for its children --------------------------------------------------------------------

HEAD_START, LONGEST = 0.2, 120.0
"""Seconds for a process that can't go on while the other one is held; and for any process to end."""


@dataclass(frozen=True)
class _Child:
    pid: int
    report: TextIO

    @classmethod
    def fork(cls, folder: Path, act: Act) -> _Child:
        """A process that does it."""
        reads, writes = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writes)
            return cls(pid, os.fdopen(reads))
        try:
            boundaries = Boundaries(act, writes)
            boundaries.watch()
            said = ""
            try:
                carry_out(folder, act)
            except BaseException:
                said = traceback.format_exc()
            tell(writes, asdict(Ended(None, boundaries.passed, boundaries.held, said)))
        finally:
            os._exit(0)

    def ends(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return True
            time.sleep(0.002)
        return False

    def told(self) -> dict[str, Any]:
        """The next that it tells."""
        with suppress(ValueError):
            found: dict[str, Any] = json.loads(self.report.readline())
            return found
        return asdict(Ended(None, [], None, "the process ended without a word"))


def _together(folder: Path, acts: Sequence[Act]) -> list[dict[str, Any]]:
    """One action; or two: the first to its hold, then the other one beside it."""
    children = [_Child.fork(folder, acts[0])]
    running, held = [], os.WIFSTOPPED(os.waitpid(children[0].pid, os.WUNTRACED)[1])
    seconds = HEAD_START if held and children[0].told()["held"] == "warehouse" else LONGEST
    for act in acts[1:]:
        for path, target in act.meanwhile:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(path).replace(target)
        children.append(_Child.fork(folder, act))
        if not children[-1].ends(seconds):
            running.append(children[-1])
    if held:
        os.kill(children[0].pid, signal.SIGCONT)
        running.append(children[0])
    for child in running:
        assert child.ends(LONGEST), "a process doesn't end"
    found = [child.told() for child in children]
    for child in children:
        child.report.close()
    return found


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        acts = []
        for item in request["acts"]:
            given = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
            acts.append(Act(**given | {"contract": Contract(**item["contract"])}))
        print(json.dumps(_together(Path(request["folder"]), acts)), flush=True)


class Processes:
    """The server, from the side of the test."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def do(self, folder: Path, *acts: Act) -> list[Ended]:
        """Carry out actions, side by side if there are several; how each ended."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        request: Mapping[str, Any] = {"folder": str(folder), "acts": [asdict(act) for act in acts]}
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        assert answer, "the server of processes has ended"
        return [Ended(**item) for item in json.loads(answer)]

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


if __name__ == "__main__":
    _serve()
