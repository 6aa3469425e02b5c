"""Exit codes of the command's entry point."""

import pytest

from dataops_platform.cli import inspect, main
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
