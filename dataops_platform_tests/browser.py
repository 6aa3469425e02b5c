"""`dataops ui` as a process of its own, and Chromium to look at it with."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

STARTED = 90
"""Seconds that Dagster may take to start: on a busy machine it is slow."""


def chromium() -> str:
    """Path of Chromium.

    Raises:
        LookupError: there is none; the UI can't be tested, and shouldn't be taken for tested.
    """
    named = os.environ.get("DATAOPS_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if not found or not Path(found).exists():
        raise LookupError("Chromium is needed: install it (`make browser`), or set DATAOPS_CHROMIUM to its path")
    return found


@contextmanager
def page(width: int = 1600, height: int = 1000) -> Iterator[Page]:
    """A page in headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            made = browser.new_page(viewport={"width": width, "height": height})
            made.set_default_timeout(30_000)
            yield made
        finally:
            browser.close()


class UI:
    """A running UI.

    Attributes:
        pid: its process, of which the web server, the daemon and the code servers are children.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def query(self, query: str, **variables: object) -> dict:
        """The data that a GraphQL query gives."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def finished(self, run: str, timeout: float = 120) -> str:
        """A run's status once it is over."""
        deadline = time.monotonic() + timeout
        status = "unknown"
        while time.monotonic() < deadline:
            found = self.query("query($id: ID!) {runOrError(runId: $id) {... on Run {status}}}", id=run)
            status = found["runOrError"].get("status", "unknown")
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            time.sleep(0.5)
        raise TimeoutError(f"run {run} is still {status} after {timeout} s")


@contextmanager
def serve(environ: Mapping[str, str], log: Path) -> Iterator[UI]:
    """`dataops ui` on a free port; all its processes are gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("dataops")), "ui", "--port", str(port)]
    with log.open("wb") as output:
        # Started from a shell's background job, SIGINT would be ignored, and Dagster stops its services on it.
        process = subprocess.Popen(
            command, env=dict(environ), stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + STARTED
        while not _answers(f"{url}/server_info"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"`dataops ui` didn't start:\n{log.read_text()[-4000:]}")
            time.sleep(0.2)
        yield UI(url, process.pid)
    finally:
        _stop(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, then kill the whole group: the web server, the daemon and the code servers."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


def visible(where: Page | Locator, text: str) -> Locator:
    """The elements with exactly this text that can be seen: Dagster's UI measures texts with hidden copies."""
    return where.get_by_text(text, exact=True).filter(visible=True)


def materialise(at: Page, ui: UI, asset: str, partition: str) -> str:
    """Materialise one partition of an asset by the dialog on its page; the run's id."""
    at.goto(f"{ui.url}/assets/{asset}")
    at.get_by_role("button", name=re.compile("Materialize")).first.click()
    dialog = at.get_by_role("dialog")
    keys = dialog.locator("input[type=text]").first
    keys.fill(partition)
    keys.press("Tab")
    dialog.get_by_role("button", name="Launch 1 run").click()
    at.get_by_text(re.compile("Launched run")).first.wait_for()
    at.get_by_role("button", name="View").or_(at.get_by_role("link", name="View")).first.click()
    at.wait_for_url("**/runs/*")
    return at.url.rsplit("/", 1)[-1].split("?")[0]
