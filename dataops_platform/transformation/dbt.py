"""Running dbt in this process, with a manifest that is parsed once and kept.

A dbt command of its own costs seconds of start-up and parsing; in process, with the manifest kept, a build costs
little more than its SQL. The variables change with every run, so they must only be used when SQL is executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataops_platform.contracts.dbt_sources import clustering, sources_yaml
from dataops_platform.contracts.model import Contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.secrets import withheld
from dataops_platform.transformation.target import DbtTarget
from dataops_platform.warehouse.base import Cost

_IGNORED = {"target", "logs", "generated", "dbt_packages", ".git"}
_FINGERPRINT = "platform_fingerprint.txt"


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What became of one dbt node.

    Attributes:
        status: dbt's word: success, error, skipped, pass, warn, fail.
        failures: failing rows of a test.
        message: dbt's message, where there is one.
        compiled_code: the SQL that was run.
        seconds: how long it took.
        cost: what it was charged for, where the engine charges.
    """

    unique_id: str
    status: str
    failures: int | None
    message: str
    compiled_code: str | None
    seconds: float
    cost: Cost = field(default_factory=Cost)


class DbtProject:
    """The dbt project, bound to a target and a folder for everything that dbt writes."""

    def __init__(self, folder: Path, home: Path, target: DbtTarget, contracts: Contracts) -> None:
        self.folder = folder
        self.home = home
        self.target = target
        self._contracts = contracts
        self._parsed: Any = None

    # -- preparation --------------------------------------------------------------------------------------------------

    @property
    def manifest_path(self) -> Path:
        """The manifest that dbt wrote."""
        return self.home / "target" / "manifest.json"

    def manifest(self) -> Mapping[str, Any]:
        """The manifest, parsed anew only when the project or the contracts changed since.

        Raises:
            ConfigError: there is no dbt project, dbt isn't installed, or the project doesn't parse.
        """
        if not (self.folder / "dbt_project.yml").is_file():
            raise ConfigError(f"there is no dbt project in {self.folder} (no dbt_project.yml); set DATAOPS_DBT_PROJECT")
        self._write_sources()
        if not self._is_parsed(self._fingerprint()):
            self._parse()
        manifest: Mapping[str, Any] = json.loads(self.manifest_path.read_bytes())
        return manifest

    def _write_sources(self) -> None:
        folder = self.home / "sources"
        folder.mkdir(parents=True, exist_ok=True)
        path, text = folder / "staging_sources.yml", sources_yaml(self._contracts, dialect=self.target.dialect)
        if not path.is_file() or path.read_text() != text:
            # Another process may be reading: replace the file in one step.
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(text)
            temporary.replace(path)

    def _fingerprint(self) -> str:
        """Hash of everything that the parse depends on."""
        read = [self.target.name, sorted(self.target.variables.items()), self._variables(), str(self.folder)]
        digest = hashlib.sha256(json.dumps(read, sort_keys=True).encode())
        for root in (self.folder, self.home / "sources"):
            for path in sorted(root.rglob("*")):
                relative = path.relative_to(root)
                if path.is_file() and not _IGNORED & set(relative.parts):
                    digest.update(f"{relative}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def _variables(self) -> dict[str, Any]:
        """The dbt variables that are the same in every run: only these may be used when dbt parses."""
        return {"contract_clustering": clustering(self._contracts)}

    def _environment_variables(self) -> dict[str, str]:
        """What the dbt project reads from the environment."""
        return {
            "DATAOPS_DBT_SOURCES": os.path.relpath(self.home / "sources", self.folder),
            "DATAOPS_DBT_ENVIRONMENT": self.target.name,
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            **self.target.variables,
        }

    def _invoke(
        self, arguments: Sequence[str], manifest: Any = None, on_event: Callable[[Any], None] | None = None
    ) -> Any:
        try:
            from dbt.cli.main import dbtRunner
        except ImportError as error:
            raise ConfigError(
                f"dbt is not installed ({error}); run `pip install dbt-core dbt-{self.target.dialect}`"
            ) from error
        if importlib.util.find_spec(f"dbt.adapters.{self.target.dialect}") is None:
            raise ConfigError(
                f"dbt's target {self.target.name} needs its adapter for {self.target.dialect}:"
                f" run `pip install dbt-{self.target.dialect}`"
            )
        common = [
            "--project-dir", str(self.folder), "--profiles-dir", str(self.folder),
            "--target-path", str(self.home / "target"), "--log-path", str(self.home / "logs"),
        ]  # fmt: skip
        with withheld(), environment(self._environment_variables()), self.target.connecting():
            runner = dbtRunner(manifest=manifest, callbacks=[on_event] if on_event else [])
            # Errors reach the user once, by us; dbt's own log is kept beside.
            quiet = ["--log-level", "none", "--log-level-file", "debug", "--no-use-colors", "--no-version-check"]
            return runner.invoke([*quiet, *arguments, *common])

    def _is_parsed(self, fingerprint: str) -> bool:
        """Whether the manifest that is there is that of the project as it is."""
        mark = self.home / "target" / _FINGERPRINT
        return mark.is_file() and mark.read_text() == fingerprint and self.manifest_path.is_file()

    def _parse(self) -> Any:
        messages: list[str] = []
        fingerprint = self._fingerprint()
        arguments = ["parse", "--vars", json.dumps(self._variables())]
        if not self._is_parsed(fingerprint):
            # All is parsed anew: alone, a changed singular test loses the severity that a YAML file gives it.
            arguments.append("--no-partial-parse")
        result = self._invoke(arguments, on_event=lambda event: _collect_errors(event, messages))
        if not result.success:
            reason = str(result.exception or "") or "; ".join(messages) or "no reason given"
            raise ConfigError(f"the dbt project in {self.folder} doesn't parse: {' '.join(reason.split())}")
        (self.home / "target" / _FINGERPRINT).write_text(fingerprint)
        self._parsed = result.result
        return self._parsed

    def debug(self) -> None:
        """Ask the target something, as a build would.

        Raises:
            ConfigError: it doesn't answer; dbt says why.
        """
        arguments = ["show", "--inline", "select 1 as one", "--vars", json.dumps(self._variables())]
        messages: list[str] = []
        parsed = self._parsed or self._parse()
        result = self._invoke(arguments, parsed, lambda event: _collect_errors(event, messages))
        if not result.success:
            reason = str(result.exception or "") or "; ".join(messages) or "no reason given"
            raise ConfigError(f"dbt's target {self.target.name} can't be reached: {_in_words(reason)}")

    # -- building -----------------------------------------------------------------------------------------------------

    def build(
        self,
        select: Sequence[str],
        partitions: tuple[str, str] | None,
        on_event: Callable[[Any], None] | None = None,
    ) -> list[NodeResult]:
        """Build models and run their tests, in one dbt invocation.

        Args:
            select: dbt selectors, joined by "or".
            partitions: first and last day to build, inclusive; None: everything.
            on_event: called with each of dbt's events, in this process.

        Returns:
            The outcome of every node that was selected.

        Raises:
            ConfigError: dbt could not run at all (a database that can't be opened, a project that doesn't compile).
        """
        return [
            NodeResult(
                unique_id=item.node.unique_id,
                status=str(item.status),
                failures=item.failures,
                message=_in_words(item.message or ""),
                compiled_code=getattr(item.node, "compiled_code", None),
                seconds=item.execution_time,
                cost=_cost(item.adapter_response or {}),
            )
            for item in self._results("build", select, partitions, on_event)
        ]

    def compile(self, select: Sequence[str], partitions: tuple[str, str] | None) -> dict[str, str]:
        """The SQL of models and tests, by unique id, as a build would run it; nothing is built.

        Args:
            select: as in `build`.
            partitions: as in `build`.

        Raises:
            ConfigError: as in `build`.
        """
        results = self._results("compile", select, partitions)
        return {item.node.unique_id: item.node.compiled_code for item in results if item.node.compiled_code}

    def _results(
        self,
        command: str,
        select: Sequence[str],
        partitions: tuple[str, str] | None,
        on_event: Callable[[Any], None] | None = None,
    ) -> Sequence[Any]:
        """Dbt's results of a command over nodes."""
        parsed = self._parsed or self._parse()
        variables = self._variables()
        if partitions:
            variables |= {"partition_from": partitions[0], "partition_to": partitions[1]}
        messages: list[str] = []

        def listen(event: Any) -> None:
            _collect_errors(event, messages)
            if on_event is not None:
                on_event(event)

        # Results are read from the answer; the file of them would hold what a failing statement said.
        arguments = [command, "--no-write-json", "--select", *select, "--vars", json.dumps(variables)]
        result = self._invoke(arguments, parsed, listen)
        if result.result is None:
            reason = str(result.exception or "") or "; ".join(messages)
            raise ConfigError(f"dbt could not run: {_in_words(reason)}")
        found: Sequence[Any] = result.result.results
        return found


def _cost(answer: Mapping[str, Any]) -> Cost:
    """What dbt's adapter says of a node's statement; only BigQuery's names a job."""
    if "job_id" not in answer:
        return Cost()
    return Cost(1, answer.get("bytes_billed") or 0, answer.get("slot_ms") or 0)


def _collect_errors(event: Any, messages: list[str]) -> None:
    if event.info.level == "error" and event.info.msg:
        messages.append(event.info.msg)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process, inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _in_words(message: str) -> str:
    """What dbt says of an error, in one line, and what to do where that is known."""
    line = " ".join(message.split())
    for pattern, advice in _ADVICE.items():
        if re.search(pattern, line):
            line = f"{line.rstrip('.')}. {advice}"
    return line


_ADVICE = {
    r"exceeded limit for bytes billed": "Build fewer days at a time, or raise DATAOPS_MAXIMUM_BYTES_BILLED.",
    r"Not found: Dataset \S+[:.]staging\b": (
        "Load the staging tables first: `dataops run --select 'key:\"staging/*\"'`."
    ),
    r"Access Denied": "Grant a role that has the permission; docs/google-cloud.md lists the roles of each identity.",
}
"""Errors of BigQuery that a user can mend."""
