"""Loads or publishes, is killed again and again at random moments, and reports what is left. Run by test_kills.py.

This process imports everything and opens nothing. Each attempt is a fork of it, so that a kill hits the work and not
the start of an interpreter: `python -m … {load,publish} FOLDER KILLS SEED`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from dataops_platform.contracts.model import LoadMode, RuleKind
from dataops_platform.contracts.types import Kind
from dataops_platform.transformation.build import build
from dataops_platform.transformation.publish import publish, published_objects
from dataops_platform.warehouse.duckdb import load as loading
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform_tests.fake_dbt import FakeDbt, FakeModel
from dataops_platform_tests.support import DAY1, Home, daily, rule, table

T = table(
    "orders", {"day": Kind.DATE, "id": Kind.INTEGER, "amount": Kind.INTEGER},
    mode=LoadMode.MERGE, key=["id"], partitioning=daily(),
    rules=[rule("positive", RuleKind.RANGE, "amount", minimum=0)],
)  # fmt: skip
DAYS = [DAY1 + timedelta(days=n) for n in range(12)]
MODEL = FakeModel(
    "fct",
    "SELECT day, id, amount FROM staging.orders",
    ("orders",),
    tests={"t": "SELECT * FROM analytics.fct WHERE id < 0"},
)


def prepare(home: Home, deliveries: int) -> None:
    """Deliveries that overlap: keys repeat inside and across them and move between days, and a tenth is bad."""
    source = random.Random(7)
    for number in range(deliveries):
        day = DAYS[number % len(DAYS)]
        rows = [
            {"day": day, "id": source.choice([None, *range(4000)]), "amount": source.randrange(-10, 90)}
            for _ in range(300)
        ]  # fmt: skip
        home.deliver(T, rows[:200], rows[200:], partition=day)


def load_all(home: Home) -> None:
    loading.MAX_BATCH_ROWS = 500
    home.load(T)


def loaded_state(home: Home) -> dict[str, list[str]]:
    with home.warehouse.connect() as con:
        return {
            "staging": _rows(con, "SELECT * EXCLUDE (_updated_at) FROM staging.orders"),
            "quarantine": _rows(con, "SELECT * EXCLUDE (_updated_at, _run_id, _quarantined_at) FROM quarantine.orders"),
            "loads": _rows(con, "SELECT * EXCLUDE (run_id, loaded_at) FROM dataops.loads"),
            "refusals": _rows(con, "SELECT * FROM dataops.refusals"),
        }


def loaded_whole(home: Home) -> int:
    """How many loads there are; each must be there as a whole, whenever the process was killed."""
    with home.warehouse.connect() as con:
        tables = con.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name || '.' || table_name"
            " IN ('staging.orders', 'quarantine.orders', 'dataops.loads')"
        ).fetchone()[0]
        if tables < 3:  # each is made in a transaction of its own, before the first load
            return 0
        unknown = con.execute(
            "SELECT count(*) FROM (FROM staging.orders SELECT _load_id UNION FROM quarantine.orders SELECT _load_id)"
            " WHERE CAST(_load_id AS VARCHAR) NOT IN (SELECT load_id FROM dataops.loads)"
        ).fetchone()[0]
        held = con.execute(
            "SELECT count(*) FROM dataops.loads AS l WHERE rows_quarantined <>"
            " (SELECT count(*) FROM quarantine.orders WHERE CAST(_load_id AS VARCHAR) = l.load_id)"
        ).fetchone()[0]
        assert (unknown, held) == (0, 0), (unknown, held)
        return con.execute("SELECT count(*) FROM dataops.loads").fetchone()[0]


def build_all(home: Home) -> None:
    load_all(home)
    home.judge(T)
    dbt = FakeDbt(home.warehouse, [MODEL])
    build(dbt, dbt.read, home.warehouse, {"orders": T}, "run", ["fct"], None)


def publish_all(home: Home) -> None:
    models = FakeDbt(home.warehouse, [MODEL]).read
    done = publish(
        models["fct"], models, {"orders": T}, home.warehouse, home.lake.store, home.production, None, "run"
    )  # fmt: skip
    assert not done.refusals, done.refusals


def published_state(home: Home) -> dict[str, list[str]]:
    with home.warehouse.connect() as con:
        return {
            "production": _rows(con, "SELECT * FROM production.fct"),
            "publications": _rows(
                con, "SELECT model, partition_key, data_version, row_count, object_prefix FROM dataops.publications"
            ),
            "objects": [f"{info.key} {info.size}" for info in home.production.list("fct/")],
            "records": list(published_objects(home.production, "fct")),
        }


def published_whole(home: Home) -> int:
    """How many objects there are; production and ledger agree, and each record's object exists."""
    ledger = Ledger(home.warehouse).published(["fct"])["fct"]
    with home.warehouse.connect() as con:
        exists = con.execute("SELECT 1 FROM duckdb_tables() WHERE schema_name = 'production'").fetchone()
        days = (
            {str(row[0]) for row in con.execute("SELECT DISTINCT day FROM production.fct").fetchall()}
            if exists
            else set()
        )
    assert days == set(ledger), (days, ledger)
    for key in published_objects(home.production, "fct"):
        record = json.loads(home.production.read(key))
        assert ledger[record["partition"]] == record["data_version"]
        assert all(home.production.stat(name) is not None for name in record["objects"])
    return len(list(home.lake.store.list("transformed/"))) + len(list(home.production.list("")))


def _rows(con, sql: str) -> list[str]:
    return sorted(map(repr, con.execute(sql).fetchall()))


def fork(work: Callable[[], object], result: Path | None = None) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        found = work()
        if result is not None:
            result.write_text(json.dumps(found))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ask(work: Callable[[], object], scratch: Path):
    """The result of some work in a process of its own; it must succeed."""
    assert os.waitpid(fork(work, scratch), 0)[1] == 0, work
    return json.loads(scratch.read_text())


def main(what: str, folder: Path, kills: int, seed: int) -> None:
    source = random.Random(seed)
    scratch = folder / "result.json"
    # A load goes on where it was killed; a publication begins anew, and must sometimes be given its whole time.
    work, whole, state, reach = {
        "load": (load_all, loaded_whole, loaded_state, (0, 0.6)),
        "publish": (publish_all, published_whole, published_state, (0.4, 1.1)),
    }[what]
    first = Home(folder / "first")
    if what == "load":
        prepare(first, 24)
    else:
        ask(lambda: prepare(first, 12), scratch)
        ask(lambda: build_all(first), scratch)
    counter = 0

    def fresh() -> Home:
        nonlocal counter
        counter += 1
        place = folder / f"home{counter}"
        if what == "publish":
            shutil.copytree(first.folder, place)
        home = Home(place)
        if what == "load":
            home.lake = first.lake
        return home

    calm = fresh()
    begun = time.monotonic()
    ask(lambda: work(calm), scratch)
    duration = time.monotonic() - begun
    expected = ask(lambda: state(calm), scratch)

    killed = midway = rounds = 0

    def until_done(home: Home) -> None:
        nonlocal killed, midway
        while True:
            pid = fork(lambda: work(home))
            time.sleep(duration * source.uniform(*reach))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            done = ask(lambda: whole(home), scratch)
            if not os.WIFSIGNALED(status):
                assert status == 0, status
                return
            killed += 1
            midway += done > 0

    # Kills that come before any work was recorded say little: go on until a quarter came midway.
    while killed < kills or (midway < kills / 4 and killed < 10 * kills):
        home, rounds = fresh(), rounds + 1
        until_done(home)
        ask(partial(work, home), scratch)  # once more changes nothing
        found = ask(partial(state, home), scratch)
        for name, rows in expected.items():
            if name in ("objects", "records", "publications"):  # their names hold the version of the load
                assert len(found[name]) == len(rows), name
            else:
                assert found[name] == rows, name
    print(json.dumps({"killed": killed, "midway": midway, "rounds": rounds, "seconds": duration}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
