"""What tests of several kinds share: the `dataops` command in its own process, and a home with five days loaded."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from dbt_common.tests import enable_test_caching
from hypothesis import settings

# How long an example takes is the machine's business: no test fails for it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# dbt has this for tests: the syntax trees of its own macros, half of a parse, are kept for the next project.
enable_test_caching()

pytest.register_assert_rewrite("dataops_platform_tests.load_model")  # its assertions say what differs, too

from dataops_platform_tests import commands  # noqa: E402

# Not `pytest_plugins`: this conftest isn't the top one to pytest when it is started with the checkout's folder.
from dataops_platform_tests.emulators.fixtures import *  # noqa: E402, F403

MEMORY, ROOM = Path("/dev/shm"), 4 << 30


def in_memory() -> None:
    """Let pytest's temporary folders be in memory, where there is room: the tests wait for a disk most of the time.

    Every run has databases of its own, and so have the servers that stand for Google's; each of their transactions
    waits. No test is about a power failure, the only thing that this waiting is for. A folder that is chosen stays so.
    """
    if MEMORY.is_dir():
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


in_memory()

LONGEST = (
    "test_readme.py", "test_parity.py", "test_docs.py", "test_ui.py", "test_cli.py", "test_schema_change.py",
    "test_bigquery_warehouse.py", "test_rules.py", "test_formats.py", "test_target.py", "test_benchmarks.py",
)  # fmt: skip
"""Files that begin the run: with one worker for each file, the last one to start decides when all is done."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; otherwise the order stays."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


REPO = Path(__file__).parents[1]
DAYS = ("2013-02-10", "2013-02-14")
"""Loaded in `loaded_home`. One wind speed of 2013-02-12 is in quarantine; some rules warn."""


def environment(home: Path, project: Path = REPO, **more: str) -> dict[str, str]:
    """The environment of a user: nothing of this process's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATAOPS_", "DAGSTER_"))}
    return kept | {"DATAOPS_HOME": str(home), "DATAOPS_PROJECT": str(project), "COLUMNS": "200"} | more


def dataops(
    arguments: Sequence[str],
    home: Path,
    project: Path = REPO,
    env: Mapping[str, str] | None = None,
    timeout: float = 240,
    first: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in a process of its own; see `commands`."""
    return commands.run(arguments, environment(home, project, **(env or {})), None, timeout, first)


@pytest.fixture
def open_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Warehouses' files stay open for all of a test that does many small steps: opening one takes 20 ms.

    Not for tests with other processes, which could not open them, or about what is in a file that was closed.
    """
    import duckdb

    from dataops_platform.warehouse.duckdb import connection

    connect, kept = connection._connect, dict[Path, duckdb.DuckDBPyConnection]()

    def keeping(path: Path, lock_wait: float) -> duckdb.DuckDBPyConnection:
        made = connect(path, lock_wait)
        if path not in kept:
            kept[path] = made.cursor()
        return made

    monkeypatch.setattr(connection, "_connect", keeping)
    yield
    for held in kept.values():
        held.close()


@pytest.fixture(scope="session")
def loaded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days of the demo, from source to production. Copy it before changing anything: see `home_copy`.

    The processes of a test run share it: whichever asks first makes it.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "loaded"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            done = dataops(["run", "--partitions", "..".join(DAYS)], home)
            if done.returncode:
                shutil.rmtree(home, ignore_errors=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.fixture(scope="session")
def home_copy(loaded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a copy of `loaded_home`."""

    def copy() -> Path:
        return Path(shutil.copytree(loaded_home, tmp_path_factory.mktemp("copy") / "home"))

    return copy
