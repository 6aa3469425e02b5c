"""Exit codes of the command's entry point."""

import pytest

from dataops_platform.cli import inspect, main
from dataops_platform.cli.run import _span
from dataops_platform.contracts.problems import ConfigError, DataRefused


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such [thing]"), 2, "error: no such [thing]"),
        (DataRefused("ten rows"), 1, "refused: ten rows"),
        (ZeroDivisionError("oops"), 3, "This is a bug in dataops: please report it with the lines above."),
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


def test_one_partition_is_a_range_of_one():
    assert _span("2013-01-01") == ("2013-01-01", "2013-01-01")
    assert _span("2013-01-01..2013-01-31") == ("2013-01-01", "2013-01-31")


@pytest.mark.parametrize("text", ["", "..", "2013-01-01..", "..2013-01-01", "2013-02-01..2013-01-01"])
def test_ranges_that_make_no_sense(text):
    with pytest.raises(ConfigError, match="--partitions"):
        _span(text)
