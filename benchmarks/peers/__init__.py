"""The same 25 rules on the same 6 million rows by dbt, Soda, Great Expectations and pandera, in turn with ours.

Their dependencies contradict ours, so each has a virtual environment of its own: `make peers` makes them. dbt runs in
the project's. What is timed is the checking in a warm process; imports, parsing and loading the table aren't.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import duckdb

from benchmarks import data, rules
from benchmarks.timing import RUNS, once

HERE = Path(__file__).parent
PLACE = data.cache().parent / "dataops-benchmarks-peers"
PEERS: Mapping[str, tuple[str | None, list[str]]] = {
    "dbt": (None, ["dbt_tests.py"]),
    "soda": ("soda", ["soda_core.py"]),
    "great_expectations": ("great_expectations", ["great_expectations_sql.py"]),
    "pandera_pandas": ("pandera", ["pandera_frames.py", "pandas"]),
    "pandera_polars": ("pandera", ["pandera_frames.py", "polars"]),
}
"""Peer → its environment, and its script with arguments."""
CHECKS = 25


class Missing(Exception):
    """A peer's environment isn't there; the message says what to do."""


def install() -> None:
    """Make the peers' environments."""
    for name in sorted({env for env, _ in PEERS.values() if env}):
        folder = PLACE / name
        if not (folder / "ready").exists():
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin" / "pip"), "install", "--quiet", "--requirement", str(HERE / f"{name}.txt")]
            subprocess.run(command, check=True)
            (folder / "ready").touch()
        print(f"{name}: {folder}")


def python(peer: str) -> str:
    """The Python that runs a peer.

    Raises:
        Missing: it isn't installed.
    """
    name = PEERS[peer][0]
    if name is None:
        return sys.executable
    if not (PLACE / name / "ready").exists():
        raise Missing(f"{peer} isn't installed: run `make peers` first")
    return str(PLACE / name / "bin" / "python")


def table(folder: Path, defects: bool = False) -> Path:
    """The benchmark's table, rows in any order, as parquet files that every peer reads; perhaps with bad rows in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "suppliers.parquet").exists():
        select = "SELECT * EXCLUDE (_created_at, _updated_at, _source_object, _load_id) FROM staging"
        with duckdb.connect(str(rules._database(ordered=False)), read_only=True) as connection:
            rows = f"{select}.lineitem"
            if defects:
                rows += f" UNION ALL SELECT * REPLACE ({DEFECTS}) FROM ({select}.lineitem LIMIT 1)"
            connection.execute(f"COPY ({rows}) TO '{folder}/lineitem.parquet' (FORMAT parquet)")
            connection.execute(f"COPY ({select}.suppliers) TO '{folder}/suppliers.parquet' (FORMAT parquet)")
    return folder


DEFECTS = (
    "NULL AS l_partkey, 999 AS l_quantity, 'X' AS l_returnflag, 'air!' AS l_shipmode, 'no' AS l_shipinstruct,"
    " 999999 AS l_suppkey"
)
"""What is wrong with the extra row, besides that its keys are there already: nine of the rules fail for it."""
BROKEN = 9


def check(peer: str, folder: Path) -> tuple[float, int, list[str]]:
    """One run of a peer: seconds, how many checks it made, and which failed."""
    _, (script, *arguments) = PEERS[peer]
    command = [python(peer), str(HERE / script), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{peer}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return said["seconds"], said["checks"], said["failed"]


def run() -> dict[str, float]:
    """Seconds of each, and each over ours."""
    folder = table(PLACE / f"table-{data.ROWS_PER_FILE}")
    prepare = partial(rules._prepare_ours, False)
    seconds: dict[str, list[float]] = {"ours": [], **{peer: [] for peer in PEERS}}
    for turn in range(RUNS + 1):
        found = {"ours": once(prepare, rules._ours)[0]}
        for peer in PEERS:
            found[peer], count, failed = check(peer, folder)
            if (count, failed) != (CHECKS, []):
                raise RuntimeError(f"{peer} made {count} checks, and {failed} failed")
        if turn:
            for name, value in found.items():
                seconds[name].append(value)
    figures = {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    for peer in PEERS:
        pairs = zip(seconds[peer], seconds["ours"], strict=True)
        figures[f"{peer}_over_ours"] = statistics.median(theirs / ours for theirs, ours in pairs)
    return figures
