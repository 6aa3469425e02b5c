"""How runs of Dagster's ended, as far as alerts and events need it: read from a run's events and its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import is_reserved_asset_job_name
from dagster._core.snap.execution_plan_snapshot import ExecutionStepSnap

from dataops_platform.alerts.subjects import Subjects, name_of_part
from dataops_platform.contracts.model import Severity
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.errors import PARTS
from dataops_platform.orchestration.refused import CHECK
from dataops_platform.orchestration.runs import step_failure
from dataops_platform.warehouse.ledger import CheckEnd, RunEnd, RunStatus

ENDED = {
    dg.DagsterRunStatus.SUCCESS: RunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE: RunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED: RunStatus.CANCELED,
}
LONGEST_FAILURE = 2000
"""Characters of what a step said that the ledger keeps; Dagster has it whole."""
MODEL_ID = "unique_id"
"""What dagster-dbt calls dbt's id of a model, in the metadata of what was built."""
_TOLD = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


ASSETS = "assets"
"""The job of a run that somebody, or a condition, asked for by its assets. Dagster has a name of its own for it."""

Plans = dict[str, Sequence[ExecutionStepSnap]]
"""Steps by the id of a plan: runs of the same assets share it, and it takes long to read."""


def run_end(instance: dg.DagsterInstance, record: dg.RunRecord, about: Subjects, plans: Plans) -> RunEnd:
    """How a run ended.

    Args:
        plans: those that are known; what is read is added.
    """
    run = record.dagster_run
    asked = partitions.span(run.tags)
    found = _Found(about, "..".join(dict.fromkeys(asked)) if asked else UNPARTITIONED)
    for entry in instance.all_logs(run.run_id, of_type=_TOLD):
        found.see(entry.get_dagster_event())
    steps = _plan(instance, run, plans)
    status = ENDED[run.status]
    failed = found.failed(steps) if status is RunStatus.FAILURE else found.not_done()
    ended = record.end_time
    return RunEnd(
        run_id=run.run_id,
        job=ASSETS if is_reserved_asset_job_name(run.job_name) else run.job_name,
        partition_key=found.covered,
        status=status,
        steps=found.succeeded,
        failures=found.failures or {"": found.said} if status is RunStatus.FAILURE else {},
        ended_at=record.update_timestamp if ended is None else datetime.fromtimestamp(ended, UTC),
        checks=tuple(found.checks.values()),
        parts=found.done,
        failed=failed,
        whole=[part for step in steps for part in _whole(step)],
    )


@dataclass(slots=True)
class _Found:
    """What a run's events tell.

    Attributes:
        covered: the partitions of the run.
        done: parts that succeeded, of steps that are about several tables or models.
        parts: of steps that failed: table or model → the partitions that they failed for, none for all.
        broken: step → partitions for which its blocking checks failed; None: for all.
        refused: part → partitions whose newest delivery is refused, be it new or not.
        left_to_gate: part → partitions for which blocking checks failed that keep no other from going on.
        said: what the run said, where no step did.
    """

    about: Subjects
    covered: str
    succeeded: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    parts: dict[str, Sequence[str]] = field(default_factory=dict)
    broken: dict[str, set[str] | None] = field(default_factory=dict)
    refused: dict[str, Sequence[str]] = field(default_factory=dict)
    left_to_gate: dict[str, Sequence[str]] = field(default_factory=dict)
    checks: dict[tuple[str, str, str], CheckEnd] = field(default_factory=dict)
    said: str = ""

    def see(self, event: dg.DagsterEvent) -> None:
        """Take an event in."""
        step = event.step_key or ""
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._judged(step, event.asset_check_evaluation_data)
        elif event.event_type is dg.DagsterEventType.STEP_OUTPUT:
            built: Any = event.step_output_data.metadata.get(MODEL_ID)
            model = None if built is None else self.about.model_ids.get(str(built.value))
            self.done += [] if model is None else [_part(step, model)]
        elif event.is_step_success:
            self.succeeded.append(step)
        elif event.is_step_failure:
            failure = step_failure(event)
            self.failures[step] = failure.message[:LONGEST_FAILURE]
            self.parts |= {_part(step, name): keys for name, keys in (failure.parts or {}).items()}
        else:
            self.said = (event.message or "")[:LONGEST_FAILURE]

    def _judged(self, step: str, said: dg.AssetCheckEvaluation) -> None:
        keys: Any = said.metadata.get(PARTS)
        if said.check_name == CHECK:
            part = _part(step, said.asset_key.path[-1])
            if keys is not None:
                self.refused[part] = keys.value
            elif said.passed:
                self.done.append(part)
        elif not said.passed and said.severity is dg.AssetCheckSeverity.ERROR:
            before = self.broken.get(step, set())
            self.broken[step] = None if keys is None or before is None else before | set(keys.value)
        elif not said.passed and said.blocking and keys is not None:
            part = _part(step, said.asset_key.path[-1])
            self.left_to_gate[part] = sorted({*self.left_to_gate.get(part, ()), *keys.value})
        own = self._own_check(said)
        if own is not None:
            self.checks[own.asset, own.check, own.partition_key] = own

    def _own_check(self, said: dg.AssetCheckEvaluation) -> CheckEnd | None:
        """What a check of somebody's own says; None for rules, dbt's tests and refused deliveries: the ledger has them.

        A check that isn't cut into partitions judges its asset as a whole, whatever its run is about.
        """
        layer, name = said.asset_key.path[0], said.asset_key.path[-1]
        table = self.about.tables.get(name) if layer == "staging" else None
        ours = table is not None and said.check_name in {CHECK, *(rule.id for rule in table.rules)}
        if ours or said.check_name in self.about.tests:
            return None
        return CheckEnd(
            asset=said.asset_key.to_user_string(),
            check=said.check_name,
            partition_key=said.partition or UNPARTITIONED,
            passed=said.passed,
            severity=Severity.ERROR if said.severity is dg.AssetCheckSeverity.ERROR else Severity.WARNING,
            description=(said.description or "")[:LONGEST_FAILURE],
        )

    def failed(self, steps: Sequence[ExecutionStepSnap]) -> dict[str, Sequence[str]]:
        """What a run failed for: part → partitions, none for all."""
        if not self.failures:  # its process died: what it didn't come to
            came_to = {part: () for step in steps if step.key not in self.succeeded for part in self._parts(step)}
            return self.not_done(came_to)
        result = {**self.refused, **self.parts}
        told = {part.partition("/")[0] for part in result}
        for step in steps:
            if step.key in self.failures and step.key not in told:
                keys = self.broken.get(step.key)
                result |= {part: sorted(keys or ()) for part in self._parts(step)}
        return self.not_done(result)

    def not_done(self, failed: Mapping[str, Sequence[str]] | None = None) -> dict[str, Sequence[str]]:
        """What a run didn't do: what it failed for, and what its steps have left out, though they succeeded."""
        result = dict(self.refused if failed is None else failed)
        for part, keys in self.left_to_gate.items():
            if result.get(part, keys):  # none: it failed for all
                result[part] = sorted({*result.get(part, ()), *keys})
        return result

    def _parts(self, step: ExecutionStepSnap) -> list[str]:
        """The tables and models that a step is about, or just the step."""
        names = [key.path[-1] for key, _ in _assets(step)]
        known = [name for name in names if name in self.about.tables or name in self.about.model_ids.values()]
        return [_part(step.key, name) for name in known] or [step.key]


def _part(step: str, name: str) -> str:
    """A table or model of a step: the step, where it is about no other."""
    return step if name_of_part(step) == name else f"{step}/{name}"


def _plan(instance: dg.DagsterInstance, run: dg.DagsterRun, plans: Plans) -> Sequence[ExecutionStepSnap]:
    """The steps that a run was to execute."""
    number = run.execution_plan_snapshot_id
    if number is None:
        return ()
    if number not in plans:
        plan = instance.get_execution_plan_snapshot(number)
        plans[number] = [step for step in plan.steps if step.key in plan.step_keys_to_execute]
    return plans[number]


def _assets(step: ExecutionStepSnap) -> list[tuple[dg.AssetKey, bool]]:
    """The assets that a step makes, and whether each has partitions."""
    made = [output.properties for output in step.outputs if output.properties is not None]
    return [(item.asset_key, item.is_asset_partitioned) for item in made if item.asset_key is not None]


def _whole(step: ExecutionStepSnap) -> list[str]:
    """The parts of a step that have no partitions, whichever its run is about."""
    assets = _assets(step)
    whole = [step.key] if assets and not any(cut for _, cut in assets) else []
    return whole + [part for key, cut in assets if not cut and (part := _part(step.key, key.path[-1])) != step.key]
