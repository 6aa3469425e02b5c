"""The `dataops` command in a process of its own, started without waiting for its imports.

Starting Python and importing Dagster, dbt and Google's clients takes seconds, and hundreds of tests run the command. So
one server for each worker of the tests imports them once, and forks for every command: the child has the command's own
environment, folder, arguments and streams, the limits of the test, and ends as any process does. Imports leave no
threads but those of Arrow's allocator, jemalloc, which is made for forks. That the installed script starts is tested by
those that follow the README in a shell.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_MODULES = (
    "dataops_platform.cli.main", "dataops_platform.cli.run", "dataops_platform.orchestration.build",
    "dataops_platform.orchestration.model_assets", "dagster_dbt", "dagster_gcp", "dbt.cli.main", "dbt.task.build",
    "dbt.adapters.duckdb", "google.cloud.bigquery", "google.cloud.storage", "pandera.pandas",
    # What Dagster, dbt, pandera, sqlglot and the report import at their first use: as much as a short command takes.
    "dagster._core.storage.legacy_storage", "dagster._core.storage.sqlite_storage", "dbt_common.clients.agate_helper",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "pandera.backends.pandas.builtin_checks",
    "sqlglot.dialects.bigquery", "sqlglot.dialects.duckdb",
)  # fmt: skip
REPO = Path(__file__).parents[1]
_server: subprocess.Popen[str] | None = None


def run(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None, timeout: float, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; as `subprocess.run` does.

    Args:
        first: Python that its process runs before the command, to let it die at a certain place, for example.
    """
    global _server
    if env.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):  # it imports other things
        assert not first, "only a process of the server's runs something before"
        script = [str(Path(sys.executable).with_name("dataops")), *arguments]
        return subprocess.run(script, env=env, cwd=cwd, text=True, capture_output=True, timeout=timeout)
    if _server is None or _server.poll() is not None:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("DATAOPS_", "DAGSTER_"))} | {"COLUMNS": "200"}
        plain["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start threads
        command = [sys.executable, "-m", __name__]
        _server = subprocess.Popen(command, env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(_end, _server)
    assert _server.stdin is not None
    assert _server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        request = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd) if cwd else None, "timeout": timeout}
        request |= {"out": str(out), "err": str(err), "largest": resource.getrlimit(resource.RLIMIT_FSIZE)}
        request["first"] = first
        print(json.dumps(request), file=_server.stdin, flush=True)
        answer = _server.stdout.readline()
        assert answer, "the server of commands has ended"
        code = json.loads(answer)
        said, wrong = out.read_text(), err.read_text()
    if code is None:
        raise subprocess.TimeoutExpired(list(arguments), timeout, said, wrong)
    return subprocess.CompletedProcess(list(arguments), code, said, wrong)


def _end(server: subprocess.Popen[str]) -> None:
    """Without requests it ends by itself, and takes with it what dbt holds: named semaphores."""
    assert server.stdin is not None
    server.stdin.close()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in _MODULES:
        __import__(name)
    _warm_dbt()
    gc.freeze()  # what is imported stays: no command looks through it
    for line in sys.stdin:
        _alone()
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _command(request)
        print(json.dumps(_wait(pid, request["timeout"])), file=answers, flush=True)
    atexit._run_exitfuncs()
    os._exit(0)  # taking down the interpreter, DuckDB's bindings complain


def _warm_dbt() -> None:
    """Let dbt parse the demo: at the first time it makes code for its many dataclasses, which takes two seconds."""
    from dbt_common.tests import enable_test_caching

    from dataops_platform.contracts import load_contracts
    from dataops_platform.orchestration.resources import dbt_project
    from dataops_platform.settings import Settings

    enable_test_caching()  # what is parsed of dbt's own macros is there for every command
    os.environ["DBT_STATIC_PARSER"] = "false"  # it would start threads; no command gets this environment
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.load({"DATAOPS_PROJECT": str(REPO), "DATAOPS_HOME": folder})
        dbt_project(settings, load_contracts(settings.contracts)).manifest()


def _alone() -> None:
    """Wait until no thread is left that forking would cut off."""
    deadline = time.monotonic() + 10
    while found := _threads() - {"jemalloc_bg_thd"}:
        assert time.monotonic() < deadline, f"imports have started threads: forking isn't safe: {found}"
        time.sleep(0.05)


def _threads() -> set[str]:
    """Names of this process's threads but the main one."""
    names = set()
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            with suppress(OSError):  # it has ended since
                names.add((task / "comm").read_text().strip())
    return names


def _wait(pid: int, timeout: float) -> int | None:
    """The exit code, or None after the time is over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    return None


def _command(request: dict[str, Any]) -> None:
    """The child: becomes the command, and never returns."""
    code = 1
    try:
        os.setsid()
        for number, (name, mode) in enumerate((("/dev/null", os.O_RDONLY), ("out", 0), ("err", 0))):
            path = request.get(name, name)
            opened = os.open(path, mode if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        resource.setrlimit(resource.RLIMIT_FSIZE, tuple(request["largest"]))
        os.environ.clear()
        os.environ.update(request["env"])
        if request["cwd"]:
            os.chdir(request["cwd"])
        sys.argv = ["dataops", *request["arguments"]]
        sys.modules["__main__"].__package__ = None  # by which usage texts would call the command
        exec(request["first"], {})
        from dataops_platform.cli.main import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
