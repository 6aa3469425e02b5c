"""Failed runs: what is left of each, until later runs have done what it failed for.

A run fails in parts: a step, or, of a step that is about several tables or models, `<step>/<table or model>`. What is
left of a failed run is, for each part that failed, the partitions that it failed for. Runs that do a part for some of
them take those away; when nothing is left, it is well again. So it makes no difference how a range is mended: by one
run over more, or by several over less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dataops_platform.alerts.events import GONE, Alert, Kind, Status, fingerprint
from dataops_platform.alerts.ranges import clipped, joined, without
from dataops_platform.alerts.subjects import Subjects, name_of_part
from dataops_platform.contracts.model import Severity
from dataops_platform.contracts.partitions import UNPARTITIONED, Cut
from dataops_platform.warehouse.ledger import RunEnd, RunStatus

ALL_WELL = "the run succeeds"
_SHOWN = 3
_ITSELF = ""
"""The part of a run of which it isn't known what it failed for: its job."""


@dataclass(slots=True)
class _Problem:
    """A failed run that isn't well.

    Attributes:
        said: part → what it said, as far as that stays the same.
        left: part → the partitions that are left, as single keys and ranges.
        judged: parts that failed for just those partitions that didn't pass: checks, and gates.
    """

    alert: Alert
    said: dict[str, str]
    left: dict[str, list[str]]
    judged: frozenset[str] = frozenset()

    @classmethod
    def of(cls, alert: Alert) -> _Problem:
        """What was told of one."""
        details = json.loads(alert.details or "{}")
        left = details.get("left") or {_ITSELF: [alert.partition]}
        return cls(alert, details.get("said", {}), left, frozenset(details.get("judged", ())))

    def to_alert(self) -> Alert:
        """What is told of it, and remembered."""
        judged = sorted(self.judged.intersection(self.left))
        details = json.dumps({"said": self.said, "left": self.left, "judged": judged}, sort_keys=True)
        return replace(self.alert, details=details, fingerprint=fingerprint(details))


def failed_runs(ends: Sequence[RunEnd], told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """Failed runs as they stand after some runs: open, with what is left of them, or well again.

    A run that fails for what an open one has failed for, and says the same, is no other problem. Nor is what a gate
    refuses where the checks before it are known to fail, or the other way round: whether a check fails the run, or
    leaves its partitions to the gate, depends on what else the run is about.

    Args:
        ends: how runs ended, the oldest first.
        told: key → problems that are known.
    """
    problems = {key: _Problem.of(alert) for key, alert in told.items() if alert.kind is Kind.RUN_FAILED}
    well: dict[str, Alert] = {}
    for key, problem in list(problems.items()):
        owner = subjects.owner_of_parts(problem.left)
        problem.left = _there(problem.left, subjects)
        if not problem.left:
            well[key] = replace(problems.pop(key).alert, status=Status.RECOVERED, observed=GONE, owner=owner)
    for end in ends:
        cut, did = _cut(end, subjects), {*end.steps, *end.parts, *end.failed, _ITSELF}
        for key, problem in list(problems.items()):
            if end.ended_at <= problem.alert.happened_at or did.isdisjoint(problem.left):
                continue
            parts = list(problem.left)
            for part in did.intersection(parts):
                done = _done(end, part, problem.alert.table, cut, subjects)
                problem.left[part] = without(problem.left[part], done, cut)
            problem.left = {part: keys for part, keys in problem.left.items() if keys}
            if not problem.left:
                well[key] = _mended(problem.alert, parts, end, subjects)
                del problems[key]
        if end.status is RunStatus.FAILURE and any(map(subjects.has, _failed_parts(end))):
            failed = _failed(end, cut, subjects)
            failed.left = _there(failed.left, subjects)
            known = problems.get(failed.alert.key)
            told_before = known is not None and known.alert.happened_at >= end.ended_at
            if not told_before and not _is_known(failed, problems.values(), cut, subjects):
                if known is not None:  # what it has failed for before, and this time didn't come to
                    failed.said, failed.left = known.said | failed.said, known.left | failed.left
                    failed.judged |= known.judged.difference(_failed_parts(end))
                problems[failed.alert.key] = failed
                well.pop(failed.alert.key, None)
    yield from well.values()
    yield from (problem.to_alert() for problem in problems.values())


def is_partly_mended(alert: Alert, known: Alert) -> bool:
    """Whether of a failed run less is left than was known."""
    return (
        alert.kind is Kind.RUN_FAILED
        and alert.status is Status.OPEN
        and alert.run_id == known.run_id
        and alert.fingerprint != known.fingerprint
    )


def why_failed(end: RunEnd, subjects: Subjects) -> str:
    """What the failed steps said, without values that aren't public."""
    said = [
        (f"{step.replace('__', '/')}: " if step else "") + subjects.text(step, text, _about(end, step))
        for step, text in end.failures.items()
    ]
    more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return "; ".join(said[:_SHOWN]) + more or "the run ended without telling why"


def _about(end: RunEnd, step: str) -> set[str]:
    """The tables and models that a run's step was about, where it was about several."""
    return {name for part in (*end.parts, *end.failed) if (name := part.removeprefix(f"{step}/")) != part}


def owner_of_failed(end: RunEnd, subjects: Subjects) -> str | None:
    """Who owns the tables and models that a run failed for; None where it didn't."""
    return subjects.owner_of_parts(_failed_parts(end)) if end.status is RunStatus.FAILURE else None


def loaded_in(end: RunEnd, table: str, subjects: Subjects) -> tuple[list[str], Sequence[str]] | None:
    """Of a run that looked for what there is of a table: partitions with nothing refused, and those that have such.

    None where a run didn't look, or didn't come to say.
    """
    part = f"deliveries/{table}"
    if f"raw__{table}" not in end.steps or not (part in end.parts or part in end.failed):
        return None
    return _done(end, part, end.job, subjects.cut(part), subjects), end.failed.get(part, ())


_CHANGING = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d+", re.IGNORECASE)


def same_text(text: str) -> str:
    """What stays the same in a text when it is said again: numbers (times, ids, addresses) differ from run to run."""
    return _CHANGING.sub("#", text.splitlines()[0] if text else "")


def _failed(end: RunEnd, cut: Cut | None, subjects: Subjects) -> _Problem:
    parts = _failed_parts(end)
    said = {part: same_text(end.failures.get(part.partition("/")[0], end.failures.get(_ITSELF, ""))) for part in parts}
    left = {part: joined(keys, cut) or _reach(end, part, subjects) for part, keys in parts.items()}
    alert = Alert(
        key=f"run/{end.job}/{end.partition_key}",
        status=Status.OPEN,
        fingerprint="",
        kind=Kind.RUN_FAILED,
        severity=Severity.ERROR,
        table=end.job,
        partition=end.partition_key,
        rule=None,
        observed=why_failed(end, subjects),
        expected=ALL_WELL,
        run_id=end.run_id,
        happened_at=end.ended_at,
        owner=subjects.owner_of_parts(parts),
    )
    return _Problem(alert, said, left, frozenset(part for part, keys in parts.items() if keys))


def _failed_parts(end: RunEnd) -> dict[str, Sequence[str]]:
    """Part → the partitions that it failed for; none: all of the run's.

    What a step that succeeded left out isn't one of them: what stays refused, or is left to the gate.
    """
    died = _ITSELF in end.failures
    step_of = {part: part.partition("/")[0] for part in end.failed}
    failed = {
        part: keys
        for part, keys in end.failed.items()
        if step_of[part] in end.failures or (died and step_of[part] not in end.steps)
    }
    known = {part.partition("/")[0] for part in failed}
    steps = [step for step in end.failures if step not in known and (step != _ITSELF or not failed)]
    return dict(sorted((dict.fromkeys(steps, ()) | failed).items()))


def _done(end: RunEnd, part: str, job: str, cut: Cut | None, subjects: Subjects) -> list[str]:
    """The partitions that a run did a part for."""
    reach = _reach(end, part, subjects)
    if part == _ITSELF:
        return reach if end.status is RunStatus.SUCCESS and end.job == job else []
    if part in end.failed:
        return without(reach, end.failed[part], cut) if end.failed[part] else []
    return reach if part in end.steps or part in end.parts else []


def _there(left: Mapping[str, list[str]], subjects: Subjects) -> dict[str, list[str]]:
    """What is left of what there is: no run would ever mend a table, a step or a partition that isn't any more."""
    found = {part: clipped(keys, subjects.cut(part)) for part, keys in left.items() if subjects.has(part)}
    return {part: keys for part, keys in found.items() if keys}


def _reach(end: RunEnd, part: str, subjects: Subjects) -> list[str]:
    """The partitions that a run is about, in one of its parts: what has none is done by every run."""
    whole = part in end.whole or subjects.is_whole(name_of_part(part))
    return [UNPARTITIONED if whole else end.partition_key]


def _is_known(failed: _Problem, problems: Collection[_Problem], cut: Cut | None, subjects: Subjects) -> bool:
    """Whether open problems hold all that a run failed for: with the same texts, or before or behind the same gate."""
    for part, keys in failed.left.items():
        known = [
            key
            for problem in problems
            for other, left in problem.left.items()
            if _is_same(part, failed, other, problem) or _at_a_gate(part, failed, other, problem, subjects)
            for key in left
            if other == part or (key == UNPARTITIONED) == (keys == [UNPARTITIONED])  # one day isn't the whole
        ]
        if without(keys, known, cut):
            return False
    return True


def _is_same(part: str, failed: _Problem, other: str, problem: _Problem) -> bool:
    """Whether a part of a failed run is that of a known one, and says the same."""
    same_job = part != _ITSELF or problem.alert.table == failed.alert.table
    return part == other and problem.said.get(part) == failed.said[part] and same_job


def _at_a_gate(part: str, failed: _Problem, other: str, problem: _Problem, subjects: Subjects) -> bool:
    """Whether one part is a gate that judges by the other. Which checks those are is told by their own alerts."""
    if part not in failed.judged or other not in problem.judged:
        return False
    return subjects.is_judged_by(part, other) or subjects.is_judged_by(other, part)


def _mended(alert: Alert, parts: Sequence[str], end: RunEnd, subjects: Subjects) -> Alert:
    return replace(
        alert,
        status=Status.RECOVERED,
        observed="succeeded",
        run_id=end.run_id,
        happened_at=end.ended_at,
        owner=subjects.owner_of_parts(parts),
    )


def _cut(end: RunEnd, subjects: Subjects) -> Cut | None:
    """How the partitions of a run are cut: as those of a table that it is about, or that a model of its is made of."""
    first = end.partition_key.partition("..")[0]
    cuts = map(subjects.cut, (*end.steps, *end.failures, *end.parts, *end.failed))
    return next((cut for cut in cuts if cut is not None and _has(cut, first)), None)


def _has(cut: Cut, key: str) -> bool:
    try:
        cut.check(key)
    except ValueError:
        return False
    return True
