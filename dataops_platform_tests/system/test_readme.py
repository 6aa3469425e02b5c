"""The README and docs do what they say: every command is run, in a fresh clone, and the table of one's own is made."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from dataops_platform_tests import commands, readme
from dataops_platform_tests.readme import REPO
from dataops_platform_tests.system import test_docs

RECURSIVE = {"make test", "make bench", "make screenshots"}
"""Started from the tests these would run the tests, or take long: that they exist is asserted instead."""


def clone(target: Path) -> Path:
    """The working tree as a clone would have it, with what isn't committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (REPO / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target / name)
    return target


def shell_environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATAOPS_", "DAGSTER_", "VIRTUAL_ENV"))}
    return kept | more


class Reader:
    """Somebody with a shell in the clone, who does what the page says.

    The installed script is started for the first command of each kind, and the others run without the seconds that this
    takes. `make demo` is the first run.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._environment = shell_environment(**environment)
        self._sticky: list[str] = []
        self._started = {"run"}

    def run(self, command: str, timeout: float = 280) -> str:
        if command.startswith(("export ", ". ", "cd ")):
            self._sticky.append(command)
        program, *arguments = shlex.split(command)
        if program == "dataops" and arguments[0] in self._started:
            return self.dataops(arguments, timeout)
        if program == "dataops":
            self._started.add(arguments[0])
        script = "\n".join(["set -euo pipefail", *self._sticky, command])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._environment,
            text=True,
            capture_output=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def dataops(self, arguments: list[str], timeout: float = 280) -> str:
        """What the command says, in the clone's folder; of the same code."""
        same = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        env = {name: value for name, value in self._environment.items() if name != "PYTHONPATH"} | same
        done = commands.run(arguments, env, self.folder, timeout)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def look(self, command: str) -> None:
        """Start a command that stays, until its page answers; then stop it with Ctrl-C."""
        url = "http://127.0.0.1:3000"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 3000)) == 0:
                pytest.fail("port 3000 is taken: the README's `make ui` can't be tried")
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=self.folder, env=self._environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not self._answers(f"{url}/server_info"):
                assert process.poll() is None, f"{command} ended"
                assert time.monotonic() < deadline, f"{command} doesn't answer"
                time.sleep(0.3)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(25)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    @staticmethod
    def _answers(url):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return "dagster_version" in json.load(answer)
        except (urllib.error.URLError, OSError):
            return False

    def query(self, sql):
        with duckdb.connect(str(self.folder / ".dataops" / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A clone whose virtual environment is this one, and whose code is the clone's."""
    folder = clone(tmp_path_factory.mktemp("clone"))
    # A folder of links, not a link: make's stamp then belongs to the clone.
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (folder / ".venv" / part.name).symlink_to(part)
    (folder / ".venv" / ".ready").touch()
    return Reader(folder, PYTHONPATH=str(folder))


def follow(reader, blocks):
    """Write the files and run the commands of some blocks, in order; command → output of its last run."""
    outputs = {}
    for block in blocks:
        if block.path:
            (reader.folder / block.path).parent.mkdir(parents=True, exist_ok=True)
            (reader.folder / block.path).write_text(block.text)
            if block.path.startswith("data/"):
                continue
        for command in block.commands if block.shell else []:
            if command in RECURSIVE:
                continue
            if command == "make ui":
                reader.look(command)
            else:
                outputs[command] = reader.run(command)
    return outputs


def table(text):
    """The rows of a printed table, as lists of cells."""
    return [
        [cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if line.startswith("│")
    ]


def test_the_commands_of_the_readme(reader):
    blocks = readme.blocks(REPO / "README.md")
    first = next(block for block in blocks if block.shell)
    assert first.commands == ["make demo", "make ui"]

    outputs = follow(reader, [block for block in blocks if not block.section.startswith("Bring your own")])
    assert "All well" in outputs["make demo"]
    assert reader.query("SELECT count(*) FROM production.fct_flights") == [(336_776,)]
    assert reader.query("SELECT round(wind_speed) FROM quarantine.weather") == [(1048,)]
    shown = next(block.text for block in blocks if "Scorecard" in block.text)
    real = {re.sub(r"\s+", " ", line) for line in outputs["make demo"].splitlines()}
    for line in shown.splitlines():
        if line.startswith("│"):
            assert re.sub(r"\s+", " ", line) in real, f"the README's scorecard is not what is printed: {line}"
    assert "Nothing new" in reader.dataops(["demo"])


def test_bring_your_own_table(reader):
    if not (reader.folder / ".dataops").exists():
        reader.run("make demo")
    blocks = readme.own_table()
    second = next(number for number, block in enumerate(blocks) if block.path and block.path.startswith("dbt_project"))
    outputs = follow(reader, blocks[:second])
    assert "7 contracts" in outputs["dataops contract check"]
    assert "All well" in outputs["dataops run"]
    assert "note:" not in outputs["dataops run"], "something is said that isn't about the reader's table"
    printed = next(block.text for block in blocks[:second] if "_reasons" in block.text and block.language == "text")
    assert table(printed) == table(outputs[next(c for c in outputs if "quarantine.orders" in c)])
    assert reader.query("SELECT order_id FROM staging.orders ORDER BY 1") == [(1,), (2,), (3,), (4,)]

    last = max(number for number, block in enumerate(blocks) if block.shell)
    daily = "SELECT order_date::VARCHAR, country, orders, revenue::DOUBLE FROM production.daily_sales ORDER BY 1, 2"
    follow(reader, blocks[second:last])
    first_days = [("2024-05-01", "DE", 1, 99.9), ("2024-05-01", "FR", 2, 19.5), ("2024-05-02", "DE", 1, 20.0)]
    assert reader.query(daily) == first_days

    follow(reader, blocks[last:])
    assert reader.query(daily) == [*first_days, ("2024-05-02", "FR", 1, 5.0)]
    # What was there stays as it was, and there is nothing left to do.
    assert reader.query("SELECT count(*) FROM production.fct_flights") == [(336_776,)]
    assert "Nothing new" in reader.run("dataops run")


def test_every_shell_block_of_the_docs_is_known():
    """Docs without commands need no run; whoever adds some adds them to these tests. Those of google-cloud.md are run
    by test_parity.py, against servers on localhost, others by test_docs.py."""
    found = {page.name: [b.commands for b in readme.blocks(page) if b.shell] for page in readme.pages()}
    elsewhere = ("README.md", "google-cloud.md", *test_docs.PAGES)
    assert [name for name, commands in found.items() if commands and name not in elsewhere] == []


def test_make_targets_and_links_exist():
    makefile = (REPO / "Makefile").read_text()
    commands = [c for b in readme.blocks(REPO / "README.md") if b.shell for c in b.commands]
    targets = {c.split()[1] for c in commands if c.startswith("make ")}
    assert {"demo", "ui", "test", "bench", "screenshots"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (REPO / ".ci" / "run").read_text()
    for page in readme.pages():
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_pictures_are_small_enough():
    for name in ("asset-graph.png", "checks.png", "report.png"):
        picture = REPO / "docs" / "images" / name
        content = picture.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(content[16:20], "big") == 1600
        assert len(content) < 400_000


def test_the_commands_table_lists_every_command():
    from typer.main import get_command

    from dataops_platform.cli.main import app

    text = (REPO / "README.md").read_text()
    for name, command in get_command(app).commands.items():
        for words in [f"{name} {sub}" for sub in command.commands] if hasattr(command, "commands") else [name]:
            assert f"`dataops {words}" in text


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_make_demo_in_a_real_clone(tmp_path):
    """With a virtual environment of its own."""
    reader = Reader(clone(tmp_path / "clone"))
    assert "All well" in reader.run("make demo", timeout=1500)
    assert reader.query("SELECT count(*) FROM production.fct_flights") == [(336_776,)]
    assert "Nothing new" in reader.run("make demo")
