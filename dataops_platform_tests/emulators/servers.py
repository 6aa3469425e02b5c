"""Google Cloud Storage and BigQuery as processes on this machine."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

from dataops_platform_tests.emulators.install import Installation, install

HERE = Path(__file__).parent
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 5.0
ATTEMPTS = 3

# A proxy is for the world outside; some of the clients involved would ask it for 127.0.0.1 too.
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST")


class ServerError(Exception):
    """A server didn't start; the message ends with what it logged."""


class _PortTaken(ServerError):
    """Another process took the port between its choice and its use."""


class Server(ABC):
    """A process that answers on 127.0.0.1, in a folder of its own; a context manager, or `start` and `stop`."""

    name: ClassVar[str]
    ports: ClassVar[int] = 1

    def __init__(self, folder: Path, installation: Installation | None = None) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / f"{self.name}.log"
        self.chosen: Sequence[int] = ()
        self._installation = installation
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.chosen[0]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def installation(self) -> Installation:
        self._installation = self._installation or install()
        return self._installation

    @property
    @abstractmethod
    def env(self) -> dict[str, str]:
        """What clients need in their environment to find this server."""

    @property
    @abstractmethod
    def health(self) -> str:
        """A path that answers 200 once the server is up."""

    @abstractmethod
    def command(self) -> list[str]:
        """How to start it on the ports chosen."""

    def environment(self) -> dict[str, str]:
        """The environment of the process itself."""
        kept = {k: v for k, v in os.environ.items() if k not in FOREIGN and k.lower() not in PROXIES}
        return kept | {"HOME": str(self.installation.home)}

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            self.chosen = _free_ports(self.ports)
            try:
                self._start()
                return self
            except _PortTaken:
                self.stop()
                if attempt == ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError

    def stop(self) -> None:
        """End the process and its children for certain. Harmless when repeated."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the children as well, whatever the parent did about them
        process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        bound = [sys.executable, "-I", "-S", str(HERE / "bound.py"), str(os.getpid())]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*bound, *self.command()],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        atexit.register(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._check_alive()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} doesn't answer after {START_SECONDS:.0f} s. Its log ends:\n{self._tail()}"
                )
            time.sleep(0.03)
        self._check_alive()  # the answer may be another process's, if that one has the port

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is None:
            return
        tail = self._tail()
        taken = "in use" in tail or "Failed to bind" in tail
        error = _PortTaken if taken else ServerError
        raise error(f"{self.name} ended with {self._process.returncode}. Its log ends:\n{tail}")

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.url + self.health, timeout=START_SECONDS) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:  # it is up, but not well: asking again would only bury the reason
            raise ServerError(f"{self.name} answers {error.code}. Its log ends:\n{self._tail()}") from error
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:].strip()


class GcsServer(Server):
    """fake-gcs-server: objects are files below `folder/objects`."""

    name = "fake-gcs-server"

    @property
    def env(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.url}

    @property
    def health(self) -> str:
        return "/storage/v1/b?project=health"

    def command(self) -> list[str]:
        options = {
            "scheme": "http",
            "host": HOST,
            "port": str(self.port),
            "backend": "filesystem",
            "filesystem-root": str(self.folder / "objects"),
            "external-url": self.url,
            "public-host": f"{HOST}:{self.port}",  # without it the BigQuery server can't read objects
            "log-level": "warn",
        }
        arguments = [argument for name, value in options.items() for argument in (f"-{name}", value)]
        return [str(self.installation.gcs_server), *arguments]


class BigQueryServer(Server):
    """local-bigquery with our patches; `without` names patches to leave out, see `bigquery_server`."""

    name = "bigquery"
    ports = 2
    project = "health"
    """The project it starts with. All others come into being when they are first used."""

    def __init__(
        self,
        folder: Path,
        gcs: GcsServer | None = None,
        without: Sequence[str] = (),
        installation: Installation | None = None,
    ) -> None:
        super().__init__(folder, installation)
        self.gcs = gcs
        self.without = tuple(without)
        self.with_ledger: str | None = None
        """A project that new ones are copies of; see `ledger_project`."""

    @property
    def grpc_port(self) -> int:
        """Of the Storage Read and Write APIs."""
        return self.chosen[1]

    @property
    def grpc_address(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    @property
    def env(self) -> dict[str, str]:
        """BIGQUERY_STORAGE_EMULATOR_HOST is our own name: Google's Storage Read client looks at none."""
        return {"BIGQUERY_EMULATOR_HOST": self.url, "BIGQUERY_STORAGE_EMULATOR_HOST": self.grpc_address}

    @property
    def health(self) -> str:
        return f"/bigquery/v2/projects/{self.project}/datasets"

    def forget(self, project: str) -> None:
        """Drop a project with all that is in it."""
        self._ask("DELETE", project)

    def copy(self, project: str, other: str) -> None:
        """Make a project with the datasets and tables of another one, which nobody uses meanwhile."""
        self._ask("POST", f"{project}/like/{other}")

    def _ask(self, method: str, path: str) -> None:
        request = urllib.request.Request(f"{self.url}/emulator/projects/{path}", method=method)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()

    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(HERE), "DATA_DIR": str(self.folder / "data")}
        return super().environment() | own | (self.gcs.env if self.gcs else {})

    def command(self) -> list[str]:
        # By its folder and not as a part of the project, which that environment doesn't have.
        command = [str(self.installation.python), "-P", "-m", "bigquery_server", "--host", HOST]
        command += ["--port", str(self.port), "--grpc-port", str(self.grpc_port), "--project", self.project]
        return command + [argument for name in self.without for argument in ("--without", name)]


class PubSubServer(Server):
    """Google's own emulator of Pub/Sub. It comes with the Google Cloud CLI and needs Java; nothing is installed."""

    name = "pubsub"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {"PUBSUB_EMULATOR_HOST": self.address}

    @property
    def health(self) -> str:
        return "/"

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def command(self) -> list[str]:
        return ["java", "-jar", str(_pubsub_jar()), f"--host={HOST}", f"--port={self.port}"]


def _pubsub_jar() -> Path:
    """The emulator's program, in the Google Cloud CLI's own folder, unless DATAOPS_PUBSUB_EMULATOR names it."""
    given = os.environ.get("DATAOPS_PUBSUB_EMULATOR")
    gcloud = shutil.which("gcloud")
    folder = Path(gcloud).resolve().parents[1] / "platform" / "pubsub-emulator" / "lib" if gcloud else None
    found = [Path(given)] if given else sorted(folder.glob("cloud-pubsub-emulator-*.jar")) if folder else []
    if not found or not found[-1].exists() or shutil.which("java") is None:
        raise ServerError(
            "Google's Pub/Sub emulator can't be started: install Java and the Google Cloud CLI's pubsub-emulator"
            " (`gcloud components install pubsub-emulator`), or set DATAOPS_PUBSUB_EMULATOR to the path of its jar"
        )
    return found[-1]


def _free_ports(count: int) -> list[int]:
    """Ports that are free now. All are held until all are chosen, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
