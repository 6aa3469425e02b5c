"""Exit codes of the command's entry point."""

import errno
import io
import sqlite3

import pytest
from rich.markup import escape

from dataops_platform.cli import inspect, main
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.secrets import hide
from dataops_platform_tests.planted import installed, nothing_known

BUG = "This is a bug in dataops: please report it with the lines above."


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such [thing]"), 2, "error: no such [thing]"),
        (DataRefused("ten rows"), 1, "refused: ten rows"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/lake/x"),
            2,
            "error: the disk of /lake/x is full: No space left on device. Nothing was half done: make room, then run"
            " the same again.",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 3, BUG),
        (sqlite3.OperationalError("no such table: runs"), 3, BUG),
        (ZeroDivisionError("oops"), 3, BUG),
    ],
)
def test_errors_become_exit_codes(monkeypatch, capsys, error, code, line):
    def fail(*_):
        raise error

    monkeypatch.setattr(inspect, "query", fail)
    monkeypatch.setattr("sys.argv", ["dataops", "query", "SELECT 1"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == code
    assert line in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("text", ["database or disk is full", "disk I/O error"])
def test_a_full_disk_below_dagsters_storage(monkeypatch, capsys, tmp_path, text):
    """SQLAlchemy wraps SQLite's error, and Dagster may wrap that."""

    def fail(*_):
        try:
            raise sqlite3.OperationalError(text)
        except sqlite3.OperationalError as error:
            raise RuntimeError("can't record the run") from error

    monkeypatch.setattr(inspect, "query", fail)
    monkeypatch.setattr("sys.argv", ["dataops", "query", "SELECT 1"])
    monkeypatch.setenv("DATAOPS_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        main.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert line.startswith(f"error: the disk of DATAOPS_HOME {tmp_path} is full")


# -- secrets -----------------------------------------------------------------------------------------------------------

LONG = "long [secret] " + "0123456789" * 30


@pytest.fixture
def _planted():
    with nothing_known(), installed():
        hide(LONG)
        yield


@pytest.mark.usefixtures("_planted")
@pytest.mark.parametrize(
    "error", [ConfigError(f"no {LONG}"), DataRefused(f"no {LONG}"), ZeroDivisionError(f"no {LONG}")]
)
def test_errors_are_printed_without_secrets(monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(inspect, "query", fail)
    monkeypatch.setattr("sys.argv", ["dataops", "query", "SELECT 1"])
    with pytest.raises(SystemExit):
        main.main()
    written = capsys.readouterr().err
    assert "no ***" in written
    assert "0123456789" not in written
    assert ("Traceback" in written) is isinstance(error, ZeroDivisionError)


@pytest.mark.usefixtures("_planted")
def test_a_long_secret_is_recognised_before_lines_are_broken():
    stream = io.StringIO()
    console = main.RedactedConsole(file=stream, width=40, highlight=False)
    console.print(f"[bold]before[/] {escape(LONG)} after")
    console.print("[bold]nothing[/] to hide")
    assert stream.getvalue() == "before *** after\nnothing to hide\n"
