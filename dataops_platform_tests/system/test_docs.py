"""The commands of the pages in `docs/`, run one after the other; those of README.md and google-cloud.md elsewhere."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dataops_platform_tests import conftest, readme
from dataops_platform_tests.commands import run
from dataops_platform_tests.conftest import REPO, dataops
from dataops_platform_tests.receiver import receiving

NAMES = "quarantine conformance quality arrival alerts events backfill formats automation exactly-once schema-change"
PAGES = tuple(f"{name}.md" for name in NAMES.split())


def commands(page: str) -> list[str]:
    """The commands of a page, in order, without what is said behind them."""
    blocks = [block for block in readme.blocks(REPO / "docs" / page) if block.shell]
    return [command.split("  #")[0].strip() for block in blocks for command in block.commands]


def test_quarantine(home_copy):
    home, said = home_copy(), []
    for command in commands("quarantine.md"):
        program, *arguments = shlex.split(command)
        assert program == "dataops"
        done = dataops(arguments, home)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert "wind_speed_range" in said[0]
    assert "wind_speed=1048" in said[1]
    assert "0 loaded, 0 superseded, 1 still in quarantine" in said[2]
    assert said[3].startswith("1 row of weather dropped")


def test_the_report(home_copy, tmp_path):
    home = home_copy()
    for command, path in zip(commands("quality.md"), (home / "report.html", tmp_path / "quality.html"), strict=True):
        done = dataops(shlex.split(command.replace("quality.html", str(path)))[1:], home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.strip() == path.as_uri()
        assert path.exists()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The demo's tables alone: what pages say of loading is the same without its models, which take most of a run."""
    folder = tmp_path_factory.mktemp("tables")
    shutil.copytree(REPO / "contracts", folder / "project" / "contracts")
    done = dataops(["run", "--partitions", "..".join(conftest.DAYS)], folder / "home", folder / "project")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("page", ["backfill.md", "automation.md"])
def test_ranges(tables, page):
    for command in commands(page):
        done = dataops(shlex.split(command)[1:], tables / "home", tables / "project")
        assert done.returncode == 0, done.stdout + done.stderr


def test_exactly_once(tables):
    """A run over days that were run before, and the ledger's own proof that it has done nothing twice."""
    said = []
    again, proof = commands("exactly-once.md")
    assert again == f"dataops run --partitions {'..'.join(conftest.DAYS)}"
    for command in (proof, again, proof):
        done = dataops(shlex.split(command)[1:], tables / "home", tables / "project")
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said[2].splitlines() if line.startswith("│")]
    assert len(rows) == 5
    assert all(loads == deliveries and unaccounted == "0" for _, loads, deliveries, unaccounted in rows)
    assert said[0] == said[2]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)])
def test_conformance(tmp_path, whole):
    """The cases of one file by default; all are run by tests of their own, too."""
    own, other = commands("conformance.md")
    assert other == f"{own} CASES=path/to/folder"
    cases = REPO / "dataops_platform_tests" / "conformance" / "cases"
    (tmp_path / "sets.json").write_text((cases / "sets.json").read_text())
    some = other.replace("path/to/folder", str(tmp_path))
    for command, count in ((own, 27), (some, 3)) if whole else ((some, 3),):
        done = subprocess.run(shlex.split(command), cwd=REPO, text=True, capture_output=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{count} cases: " in done.stdout


FAILS = " || true"
"""What a page says behind a command that data is refused by."""


def typed(command: str, project: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A line as a shell runs it. A plain `dataops …` doesn't need one, and then Python isn't started anew either."""
    words = shlex.split(command.removesuffix(FAILS))
    if words[0] == "dataops" and not {"|", "||", "&&", ";", ">"} & set(words):
        done = run(words[1:], environment, project, 240)
        if command.endswith(FAILS):
            assert done.returncode == 1, done.stdout + done.stderr
            done.returncode = 0
        return done
    return subprocess.run(
        ["bash", "-c", command], cwd=project, env=environment, text=True, capture_output=True, timeout=240
    )


def in_a_shell(page: str, tmp_path: Path) -> list[tuple[str, str]]:
    """Write a page's files into a project of their own, and run its commands there; what each of ours said."""
    project, said = tmp_path / "shop", []
    environment = conftest.environment(tmp_path / "home", project)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for block in readme.blocks(REPO / "docs" / page):
        if block.path:
            (project / block.path).parent.mkdir(parents=True)
            (project / block.path).write_text(block.text)
        for command in block.commands if block.shell else []:
            done = typed(command, project, environment)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            if command.startswith("dataops"):
                said.append((command.split()[1], done.stdout))
    return said


def test_formats(tmp_path):
    said = in_a_shell("formats.md", tmp_path)
    assert [name for name, _ in said] == ["run", "quarantine", "quarantine"]
    assert "cast_amount" in said[1][1]
    assert 'as written: {"amount":"a lot"}' in said[2][1]


def test_schema_change(tmp_path):
    said = in_a_shell("schema-change.md", tmp_path)
    assert [name for name, _ in said] == ["run", "query", "plan", "plan", "apply", "run"]
    texts = [text for _, text in said]
    assert "parcels: column colour (string) is new in a delivery, and was added" in texts[0]
    assert "red" in texts[1]
    for line in next(b.text for b in readme.blocks(REPO / "docs" / "schema-change.md") if "newly fail" in b.text).split(
        "\n"
    ):
        assert line in texts[2]
    assert "- staging.parcels.weight is not in the contract" in texts[3]
    assert "breaks: its values go from staging and quarantine; the lake keeps what was delivered of them" in texts[3]
    assert texts[4].endswith("Applied.\n")
    assert "All well" in texts[5] or "Nothing new" in texts[5]


def test_arrival(tmp_path):
    said = in_a_shell("arrival.md", tmp_path)
    runs = [text for name, text in said if name == "run"]
    assert [text.count("All well after") for text in runs] == [1, 1, 0]
    assert "bad.csv: column 'id' is missing" in runs[2]
    landed = [text for name, text in said if name == "land"]
    assert "✓ orders 2024-05-02: 1 rows delivered" in landed[0]
    assert "1 file(s) delivered before: nothing done" in landed[1]
    status = said[-1][1]
    assert "landing/orders/readme.txt matches no pattern" in status
    assert "refused object orders 2024-05-01: " in status
    rows = dataops(
        ["query", "SELECT id, amount FROM staging.orders ORDER BY id"], tmp_path / "home", tmp_path / "shop"
    ).stdout
    assert [line.split()[1:4:2] for line in rows.splitlines() if line.startswith("│")] == [
        ["1", "12.50"], ["2", "89.90"], ["3", "7.00"]
    ]  # fmt: skip


def test_alerts(tmp_path):
    """In the README's own project, with a rule that warns of its second day: the demo's year takes a while."""
    project, env, said = tmp_path / "shop", {}, []
    for path, text in readme.own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text.replace("GreaterThan: 0", "GreaterThan: 1, severity: warning"))
    with receiving() as server:
        for command in commands("alerts.md"):
            program, *arguments = shlex.split(command)
            if program == "export":
                name, _, value = arguments[0].partition("=")
                env[name] = value.replace("https://alerts.example.com", server.url)
                continue
            done = dataops(arguments, tmp_path / "home", project, env)
            assert done.returncode == 0, done.stdout + done.stderr
            said.append(done.stdout)
        assert len(said) == 2
        assert "alerts: webhook: posts to 127.0.0.1" in said[0]
        ((path, _, body),) = server.requests  # of the second command: the first sends nothing
    assert path == "/hooks/0123456789"
    assert [alert["rule"] for alert in body["alerts"]] == ["volume"]


@contextmanager
def google_api() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Stands for what the emulators lack: a bucket's notifications, and a topic's permissions; what was posted."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"email_address": "service-1@gs-project-accounts.iam.gserviceaccount.com"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            self.answer(body)

        def answer(self, body: dict[str, Any]) -> None:
            content = json.dumps(body if self.command == "POST" or "serviceAccount" in self.path else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.cloud
def test_events(tmp_path, pubsub_server):
    """Google's own command line, with Google's emulator. One row of the README's project is bad."""
    project, said = tmp_path / "shop", []
    for path, text in readme.own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
    env = conftest.environment(tmp_path / "home", project, **pubsub_server.env)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env |= {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{pubsub_server.address}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_PROJECT": "acme-data",
    }
    for command in commands("events.md"):
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            env[name] = value
            continue
        with google_api() as (url, asked):
            mine = env | ({"CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"{url}/"} if " storage " in command else {})
            mine |= {"CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{url}/storage/v1/"}
            done = typed(command, project, mine)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
        if asked:
            (notification,) = [body for path, body in asked if "/b/acme-landing/notificationConfigs" in path]
    assert notification["topic"] == "projects/acme-data/topics/new-objects"
    assert notification["event_types"] == ["OBJECT_FINALIZE"]
    assert "notifications: projects/acme-data/subscriptions/dataops-landing: 60 s to acknowledge" in said[-1]
    assert "events: projects/acme-data/topics/dataops-events can be published to" in " ".join(said[2].split())
    # The emulator keeps a filter, and delivers everything.
    events = [json.loads(line) for line in said[4].splitlines() if line]
    assert [event["event"] for event in events] == ["quarantined", "run_finished"]
    (event,) = [event for event in events if event["severity"] != "info"]
    assert (event["event"], event["table"], event["rows_quarantined"]) == ("quarantined", "staging.orders", 1)


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_found(page):
    assert commands(page)
    assert f"docs/{page}" in (REPO / "README.md").read_text()


@pytest.mark.parametrize("page", sorted(path.name for path in (REPO / "docs").glob("*.md")))
def test_tables_are_whole(page):
    """An empty line cuts the rows after it off: each block of lines with bars has its heading."""
    lines = ["", *(REPO / "docs" / page).read_text().splitlines(), ""]
    first = [n for n, line in enumerate(lines) if line.startswith("|") and not lines[n - 1].startswith("|")]
    assert [lines[n] for n in first if not lines[n + 1].startswith("|---")] == []
