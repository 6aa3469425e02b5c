"""Running jobs from Python, in this process, on the same Dagster instance that the UI shows."""

from __future__ import annotations

import difflib
import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.api import create_execution_plan
from dagster._core.utils import make_new_run_id

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.errors import PARTS, REFUSED
from dataops_platform.settings import Settings


def logging_from(level: str) -> dict[str, Any]:
    """Run configuration: the level from which on a run logs."""
    return {"loggers": {"console": {"config": {"log_level": level}}}}


QUIET = logging_from("CRITICAL")
_CHECK_FAILED = "dagster._core.errors.DagsterAssetCheckFailedError: "
"""How Dagster begins what it says of a blocking check: nothing to people."""


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a step failed.

    Attributes:
        refused: data was refused: by a gate, a blocking check, or because it is unreadable.
        unexpected: neither refused data nor a user's mistake: the text is the error as it came.
        parts: table or model → the partitions it failed for, none for all; None: all that the step is about.
    """

    step: str
    message: str
    refused: bool
    unexpected: bool
    parts: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a run."""

    run_id: str
    success: bool
    failures: Sequence[StepFailure]


def prepare_instance(settings: Settings) -> Path:
    """Make DAGSTER_HOME below DATAOPS_HOME, with the project's dagster.yaml, and point this process at it."""
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        source = settings.project / "dagster.yaml"
        if not source.is_file():
            source = Path(__file__).resolve().parents[2] / "dagster.yaml"
        if source.is_file():
            target = home / "dagster.yaml"
            if not target.is_file() or target.read_bytes() != source.read_bytes():
                shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigError(f"DATAOPS_HOME {settings.home} can't be written: {error.strerror}") from error
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DATAOPS_EVENT_LOG"] = str(home / "events")
    try:
        _make_storages(home)
    except PermissionError as error:
        raise ConfigError(f"DATAOPS_HOME {settings.home} can't be written: {error.strerror}") from error
    return home


def _make_storages(home: Path) -> None:
    """Let Dagster make its databases, once: two processes that do it at the same time leave them unusable."""
    made = home / ".made"
    if made.exists():
        return
    with (home / ".making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return
        with dg.DagsterInstance.get() as instance:
            _ = instance.run_storage, instance.event_log_storage, instance.schedule_storage
        made.touch()


def resolve_selection(definitions: dg.Definitions, select: str) -> set[dg.AssetKey]:
    """The assets that a selection names, in Dagster's selection syntax.

    Raises:
        ConfigError: it can't be parsed, or selects nothing.
    """
    if not select.strip():
        raise ConfigError("--select is empty: name assets, like staging/orders, or leave it out for all")
    graph = definitions.get_repository_def().asset_graph
    known = {key.to_user_string(): key for key in graph.get_all_asset_keys()}
    if select in known:
        return {known[select]}
    try:
        keys = set(dg.AssetSelection.from_string(select).resolve(graph))
    except Exception as error:  # Dagster raises its parser's own exceptions
        if "no AssetsDefinition objects supply these keys" in str(error):
            raise _no_asset(select, known) from error
        raise ConfigError(f"--select {select!r} can't be read: {' '.join(str(error).split())[:300]}") from error
    if not keys:
        raise _no_asset(select, known)
    return keys


def _no_asset(select: str, known: Collection[str]) -> ConfigError:
    near = difflib.get_close_matches(select, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`dataops status` lists the tables, `dataops ui` all assets"
    return ConfigError(f"--select {select!r} selects no asset; {hint}")


def execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    span: tuple[str, str] | None,
    selection: Set[dg.AssetKey] | None = None,
    on_start: Callable[[int], None] | None = None,
    on_event: Callable[[dg.EventLogEntry], None] | None = None,
    log_level: str | None = None,
) -> RunOutcome:
    """Run a job, or some of its assets, over a range of partitions as one run.

    Args:
        span: first and last partition; None for a run without partitions.
        on_start: told the number of steps.
        on_event: told every event.
        log_level: from which on the run logs; None: it doesn't.
    """
    chosen = job if selection is None else job.get_subset(asset_selection=frozenset(selection))
    if on_start is not None:
        on_start(len(create_execution_plan(chosen).steps))
    run_id = make_new_run_id()
    if on_event is not None:
        instance.add_event_listener(run_id, on_event)
    result = chosen.execute_in_process(
        instance=instance,
        run_id=run_id,
        tags=partitions.range_tags(*span) if span else {},
        run_config=QUIET if log_level is None else logging_from(log_level),
        raise_on_error=False,
    )
    failures = [step_failure(event) for event in result.all_events if event.is_step_failure]
    return RunOutcome(run_id, result.success, failures)


def step_failure(event: dg.DagsterEvent) -> StepFailure:
    """Why a step failed, from its event."""
    data = event.step_failure_data
    step = event.step_key or "?"
    if data.user_failure_data is not None:
        metadata = data.user_failure_data.metadata or {}
        refused = metadata.get(REFUSED)
        parts: Any = metadata.get(PARTS)
        return StepFailure(
            step,
            data.user_failure_data.description or "",
            bool(refused and refused.value),
            False,
            None if parts is None else parts.value,
        )
    error = data.error
    while error is not None and error.cause is not None and error.cls_name == "DagsterExecutionStepExecutionError":
        error = error.cause
    if error is not None and error.cls_name == "DagsterAssetCheckFailedError":
        return StepFailure(step, " ".join(error.message.removeprefix(_CHECK_FAILED).split()), True, False)
    return StepFailure(step, error.to_string() if error is not None else "unknown error", False, True)
