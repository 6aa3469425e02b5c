"""From what the ledger says to what a channel must be told: pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dataops_platform.alerts.events import Alert, Kind, Status, fingerprint
from dataops_platform.alerts.facts import Facts, Judged, Loaded
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.model import Rule, RuleKind, Severity
from dataops_platform.warehouse.ledger import CheckEnd, Refused, RunEnd, RunStatus
from dataops_platform.warehouse.loading import breaker_tripped
from dataops_platform.warehouse.names import staging

_DEADLINES = {RuleKind.FRESHNESS, RuleKind.ARRIVAL, RuleKind.LATENCY, RuleKind.EVENT_LATENCY}
_MOVING = {RuleKind.FRESHNESS, RuleKind.ANOMALY}
"""What these observe changes without the data, with time or with other partitions: that is no other problem."""
_LISTING = {RuleKind.ARRIVAL, RuleKind.SCHEMA}
"""What these list (missing partitions, differences) is the problem; the number of them may stay."""
_SHOWN = 3
ALL_WELL = "the run succeeds"


def news(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> list[Alert]:
    """What a channel must be told: problems that it doesn't know or that changed, and those that are well again.

    Args:
        told: key → problems that it knows.
    """
    found = [alert for alert in current(facts, told, subjects) if _is_news(alert, told.get(alert.key))]
    return sorted(found, key=lambda a: (a.status is Status.RECOVERED, a.severity is not Severity.ERROR, a.key))


def _is_news(alert: Alert, known: Alert | None) -> bool:
    if alert.status is Status.RECOVERED:
        return known is not None
    return known is None or known.fingerprint != alert.fingerprint


def current(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """Everything that the facts tell of, as it stands now: open, or well again."""
    for verdict in facts.verdicts:
        alert = _verdict(verdict, subjects)
        if alert is not None:
            yield alert
    yield from _deliveries(facts, told, subjects)
    yield from _runs(facts, told, subjects)
    yield from _checks(facts, told, subjects)


def _verdict(verdict: Judged, subjects: Subjects) -> Alert | None:
    table = subjects.table_of(verdict.object_name)
    rule = subjects.rule(verdict.object_name, verdict.rule_id)
    if table is not None and rule is None:
        return None  # the contract doesn't ask for it any more
    return Alert(
        key=f"rule/{verdict.object_name}/{verdict.partition_key}/{verdict.rule_id}",
        status=Status.RECOVERED if verdict.passed else Status.OPEN,
        fingerprint=_fingerprint(verdict, rule),
        kind=Kind.DEADLINE_MISSED if rule is not None and rule.kind in _DEADLINES else Kind.CHECK_FAILED,
        severity=verdict.severity,
        table=verdict.object_name,
        partition=verdict.partition_key,
        rule=verdict.rule_id,
        observed=subjects.number(rule, table, verdict.observed) + _listed(verdict, rule),
        expected=verdict.threshold,
        run_id=verdict.run_id,
        happened_at=verdict.evaluated_at,
        owner=subjects.owner(verdict.object_name),
    )


def _fingerprint(verdict: Judged, rule: Rule | None) -> str:
    kind = None if rule is None else rule.kind
    seen = verdict.data_version if kind in _MOVING else verdict.observed
    return fingerprint(verdict.rule_hash, verdict.severity, seen, verdict.details if kind in _LISTING else "")


def _listed(verdict: Judged, rule: Rule | None) -> str:
    """Which partitions are missing, which columns differ: names from the calendar and the contract, no values."""
    if rule is None or rule.kind not in _LISTING or verdict.details is None:
        return ""
    names = [str(name) for found in json.loads(verdict.details).values() for name in found]
    return f" ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"


# -- deliveries -------------------------------------------------------------------------------------------------------


_FILE, _LEFT_OUT = "file", "left out"
"""Begin the keys of alerts about what could not become a delivery, and about what was left out of one."""


def _deliveries(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """A refused delivery is well again when it was loaded, or when a later run loaded a later one of its partition."""
    refused = {alert.key: alert for alert in (_refusal(item, subjects) for item in facts.refusals)}
    known = {key: alert for key, alert in told.items() if alert.kind in (Kind.DELIVERY_REFUSED, Kind.BREAKER_TRIPPED)}
    for key, alert in (known | refused).items():
        loaded = facts.loaded.get((alert.table.partition(".")[2], alert.partition))
        if loaded is not None and _replaces(loaded, alert):
            yield _well(alert, loaded, subjects)
        elif key in refused:
            yield alert


def _replaces(loaded: Loaded, alert: Alert) -> bool:
    """Manifests sort by arrival. What came together with the refused one, and was loaded, doesn't stand for it."""
    later = loaded.run_id != alert.run_id and loaded.loaded_at > alert.happened_at
    kind, _, name = alert.key.partition("/")
    if kind == _LEFT_OUT:
        return loaded.manifest > name.partition("#")[0]
    return later if kind == _FILE else loaded.manifest == name or (loaded.manifest > name and later)


def _refusal_key(refused: Refused) -> str:
    """A file that is written anew, and no better, is the same problem."""
    if refused.file is not None and refused.manifest is not None:
        return f"{_LEFT_OUT}/{refused.manifest}#{refused.file.rpartition('#')[0]}"
    if refused.file is not None:
        return f"{_FILE}/{refused.file.rpartition('#')[0]}"
    return f"delivery/{refused.manifest}"


def _refusal(refused: Refused, subjects: Subjects) -> Alert:
    name = str(staging(refused.table_name))
    tripped = breaker_tripped(refused.reason)
    observed, expected = tripped or (subjects.text(name, refused.reason), "the delivery is as the contract says")
    return Alert(
        key=_refusal_key(refused),
        status=Status.OPEN,
        fingerprint=fingerprint(refused.reason),
        kind=Kind.BREAKER_TRIPPED if tripped else Kind.DELIVERY_REFUSED,
        severity=Severity.ERROR,
        table=name,
        partition=refused.partition_key,
        rule=None,
        observed=observed,
        expected=expected,
        run_id=refused.run_id,
        happened_at=refused.refused_at,
        owner=subjects.owner(name),
    )


def _well(alert: Alert, loaded: Loaded, subjects: Subjects) -> Alert:
    return replace(
        alert,
        status=Status.RECOVERED,
        observed="loaded",
        run_id=loaded.run_id,
        happened_at=loaded.loaded_at,
        owner=subjects.owner(alert.table),
    )


# -- checks of one's own ----------------------------------------------------------------------------------------------


OWN_CHECK = "check/"
"""Begins the key of an alert about an asset check that somebody wrote in Python."""
CHECK_PASSES = "the check passes"


def _checks(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """A check is well again when it passes for the same partitions, or for more."""
    problems = {key: alert for key, alert in told.items() if key.startswith(OWN_CHECK)}
    well: dict[str, Alert] = {}
    for end in facts.runs:
        for check in end.checks:
            same = [
                (key, alert)
                for key, alert in problems.items()
                if (alert.table, alert.rule) == (check.asset, check.check)
                and _covers(check.partition_key, alert.partition)
                and end.ended_at > alert.happened_at
            ]
            failed = _own_check(end, check, subjects)
            for key, alert in same if check.passed else ():
                well[key] = replace(
                    alert, status=Status.RECOVERED, observed="passed", run_id=end.run_id, happened_at=end.ended_at
                )
                del problems[key]
            known = problems.get(failed.key)
            if not check.passed and (known is None or known.happened_at < failed.happened_at):
                problems[failed.key] = failed
                well.pop(failed.key, None)
    yield from well.values()
    yield from problems.values()


def _own_check(end: RunEnd, check: CheckEnd, subjects: Subjects) -> Alert:
    said = subjects.text(check.asset.replace("/", "__"), check.description) if check.description else "failed"
    return Alert(
        key=f"{OWN_CHECK}{check.asset}/{check.partition_key}/{check.check}",
        status=Status.OPEN,
        fingerprint=fingerprint(check.severity, _same(check.description)),
        kind=Kind.CHECK_FAILED,
        severity=check.severity,
        table=check.asset,
        partition=check.partition_key,
        rule=check.check,
        observed=said,
        expected=CHECK_PASSES,
        run_id=end.run_id,
        happened_at=end.ended_at,
        owner=owner_of_steps([check.asset.replace("/", "__")], subjects),
    )


# -- runs -------------------------------------------------------------------------------------------------------------


def _runs(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """A failed run is well again when its failed steps succeeded, in later runs over the same partitions."""
    problems = {key: alert for key, alert in told.items() if alert.kind is Kind.RUN_FAILED}
    well: dict[str, Alert] = {}
    for end in facts.runs:
        for key, alert in list(problems.items()):
            if end.ended_at > alert.happened_at and _mends(end, alert):
                well[key] = replace(
                    alert,
                    status=Status.RECOVERED,
                    observed="succeeded",
                    run_id=end.run_id,
                    happened_at=end.ended_at,
                    owner=owner_of_steps(json.loads(alert.details or "{}").get("steps", ()), subjects),
                )
                del problems[key]
        if end.status is RunStatus.FAILURE:
            failed = _failed(end, subjects)
            known = problems.get(failed.key)
            if known is None or known.happened_at < failed.happened_at:
                problems[failed.key] = failed
                well.pop(failed.key, None)
    yield from well.values()
    yield from problems.values()


def _failed(end: RunEnd, subjects: Subjects) -> Alert:
    return Alert(
        key=f"run/{end.job}/{end.partition_key}",
        status=Status.OPEN,
        # Numbers in a text (times, ids, addresses) differ from run to run.
        fingerprint=fingerprint(*(f"{step} {_same(text)}" for step, text in sorted(end.failures.items()))),
        kind=Kind.RUN_FAILED,
        severity=Severity.ERROR,
        table=end.job,
        partition=end.partition_key,
        rule=None,
        observed=why_failed(end, subjects),
        expected=ALL_WELL,
        run_id=end.run_id,
        happened_at=end.ended_at,
        owner=owner_of_steps(end.failures, subjects),
        details=json.dumps({"steps": sorted(filter(None, end.failures))}),
    )


def why_failed(end: RunEnd, subjects: Subjects) -> str:
    """What the failed steps said, without values that aren't public."""
    said = [
        (f"{step.replace('__', '/')}: " if step else "") + subjects.text(step, text)
        for step, text in end.failures.items()
    ]
    more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return "; ".join(said[:_SHOWN]) + more or "the run ended without telling why"


_CHANGING = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d+", re.IGNORECASE)


def _same(text: str) -> str:
    return _CHANGING.sub("#", text.splitlines()[0] if text else "")


def owner_of_steps(steps: Iterable[str], subjects: Subjects) -> str | None:
    """Who owns the tables and models that steps of a run are about."""
    owners = set()
    for step in steps:
        name = step.removesuffix("__checks").partition("__")[2]
        owners.add(subjects.owner(str(staging(name)) if name in subjects.tables else name))
    return ", ".join(sorted(filter(None, owners))) or None


def _mends(end: RunEnd, alert: Alert) -> bool:
    """Whether a run did what failed, over the same partitions or more."""
    if not _covers(end.partition_key, alert.partition):
        return False
    failed = json.loads(alert.details or "{}").get("steps", [])
    if failed:
        return set(failed) <= set(end.steps)
    return end.status is RunStatus.SUCCESS and end.job == alert.table


def _covers(those: str, these: str) -> bool:
    """Whether some partitions, as runs name them, hold others."""
    first, last = _span(these)
    begins, ends = _span(those)
    return those == these or begins <= first <= last <= ends


def _span(partition: str) -> tuple[str, str]:
    first, _, last = partition.partition("..")
    return first, last or first
