"""From what the ledger says to what a channel must be told: pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dataops_platform.alerts.events import GONE, TAKEN_AWAY, Alert, Kind, Status, fingerprint
from dataops_platform.alerts.facts import RULE, Facts, Judged, Loaded
from dataops_platform.alerts.failed_runs import failed_runs, is_partly_mended, loaded_in, same_text
from dataops_platform.alerts.ranges import without
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.model import MASK, LoadMode, Rule, RuleKind, Scope, Severity, Table
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.warehouse.ledger import BY_HAND, CheckEnd, Refused, RunEnd
from dataops_platform.warehouse.loading import breaker_tripped
from dataops_platform.warehouse.names import staging

_DEADLINES = {RuleKind.FRESHNESS, RuleKind.ARRIVAL, RuleKind.LATENCY, RuleKind.EVENT_LATENCY}
_IN_HOURS = {RuleKind.FRESHNESS, RuleKind.LATENCY, RuleKind.EVENT_LATENCY}
_LISTING = {RuleKind.ARRIVAL, RuleKind.SCHEMA}
"""What these list (missing partitions, differences) is the problem; the number of them may stay."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class News:
    """What has changed for a channel.

    Attributes:
        told: what it must be told: problems that it doesn't know or that changed, and those that are well again.
        kept: problems that it knows and of which less is left. It isn't told, but that must be remembered.
    """

    told: list[Alert]
    kept: list[Alert]


def news(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> News:
    """What has changed for a channel, problems first.

    Args:
        told: key → problems that it knows.
    """
    found: list[Alert] = []
    kept: list[Alert] = []
    for alert in current(facts, told, subjects):
        known = told.get(alert.key)
        if known is not None and is_partly_mended(alert, known):
            kept.append(alert)
        elif known is not None and _fewer_are_missing(alert, known):
            kept.append(replace(alert, partition=known.partition))
        elif known is not None and alert.status is Status.RECOVERED:
            found.append(replace(alert, partition=known.partition))  # of those that were missing the one that was named
        elif _is_news(alert, known):
            found.append(alert)
    found.sort(key=lambda a: (a.status is Status.RECOVERED, a.severity is not Severity.ERROR, a.key))
    return News(found, kept)


def _is_news(alert: Alert, known: Alert | None) -> bool:
    if known is None:
        return alert.status is Status.OPEN
    return known.fingerprint != alert.fingerprint


def _fewer_are_missing(alert: Alert, known: Alert) -> bool:
    """Whether a rule about arrival still misses some partitions, and none but those that are known to be missing."""
    if alert.status is not Status.OPEN or alert.fingerprint == known.fingerprint or alert.rule is None:
        return False
    if alert.details is None or known.details is None:
        return False
    if (alert.severity, alert.expected) != (known.severity, known.expected):
        return False  # the rule is another one
    now, before = json.loads(alert.details), json.loads(known.details)
    # Only the newest are listed: what is older than those was missing too, where there were more.
    oldest = before["missing"][0] if len(before["missing"]) < before["count"] else ""
    return now["count"] <= before["count"] and all(key in before["missing"] or key < oldest for key in now["missing"])


def current(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """Everything that the facts tell of, as it stands now: open, or well again."""
    for verdict in facts.verdicts:
        alert = _verdict(verdict, subjects)
        if alert is not None:
            yield alert
    yield from _gone(told, subjects)
    yield from _deliveries(facts, told, subjects)
    yield from failed_runs(facts.runs, told, subjects)
    yield from _checks(facts, told, subjects)


def _verdict(verdict: Judged, subjects: Subjects) -> Alert | None:
    table = subjects.table_of(verdict.object_name)
    rule = subjects.rule(verdict.object_name, verdict.rule_id)
    if table is not None and rule is None:
        return None  # the contract doesn't ask for it any more
    return Alert(
        key=f"{RULE}{verdict.object_name}/{verdict.partition_key}/{verdict.rule_id}",
        status=Status.RECOVERED if verdict.passed else Status.OPEN,
        fingerprint=_fingerprint(verdict, rule),
        kind=Kind.DEADLINE_MISSED if rule is not None and rule.kind in _DEADLINES else Kind.CHECK_FAILED,
        severity=verdict.severity,
        table=verdict.object_name,
        partition=_partition(verdict, rule),
        rule=verdict.rule_id,
        observed=_observed(verdict, rule, table, subjects),
        expected=_expected(verdict, rule),
        run_id=verdict.run_id,
        happened_at=verdict.evaluated_at,
        owner=subjects.owner(verdict.object_name),
        details=_missing(verdict, rule),
    )


def _missing(verdict: Judged, rule: Rule | None) -> str | None:
    """How many partitions are missing, and the newest of them: what is remembered, to tell which others are."""
    if rule is None or rule.kind is not RuleKind.ARRIVAL or verdict.details is None:
        return None
    return json.dumps({"count": verdict.observed, **json.loads(verdict.details)})


def _fingerprint(verdict: Judged, rule: Rule | None) -> str:
    kind = None if rule is None else rule.kind
    seen: object = verdict.observed
    if kind is RuleKind.ANOMALY:
        seen = verdict.data_version
    elif kind is RuleKind.FRESHNESS and verdict.observed is not None:
        # When the newest value is from, to the hour: it was worked out by the engine's clock, give or take a moment.
        # No date: a value of another age of the world, or an infinite one, has none.
        newest = verdict.evaluated_at.timestamp() / 3600 - verdict.observed
        seen = round(newest) if math.isfinite(newest) else newest
    return fingerprint(verdict.rule_hash, verdict.severity, seen, verdict.details if kind in _LISTING else "")


def _observed(verdict: Judged, rule: Rule | None, table: Table | None, subjects: Subjects) -> str:
    found = subjects.number(rule, table, verdict.observed)
    if rule is not None and rule.kind in _IN_HOURS and verdict.observed is not None and found != MASK:
        hours = f"{verdict.observed:.1f}"
        if not verdict.passed and rule.threshold.holds(float(hours)):  # too late by less than is shown
            hours = f"{verdict.observed:.4f}"
        found = f"{hours} hours"
    return found + _listed(verdict, rule)


def _listed(verdict: Judged, rule: Rule | None) -> str:
    """Which partitions are missing, which columns differ: names from the calendar and the contract, no values."""
    if rule is None or rule.kind not in _LISTING or verdict.details is None:
        return ""
    names = [str(name) for found in json.loads(verdict.details).values() for name in found]
    if not names:
        return ""
    more = "…" if len(names) > _SHOWN or len(names) < (verdict.observed or 0) else ""
    if rule.kind is RuleKind.ARRIVAL:  # the newest: the others were told before
        return f" ({', '.join(filter(None, [more, *names[-_SHOWN:]]))})"
    return f" ({', '.join(filter(None, [*names[:_SHOWN], more]))})"


def _partition(verdict: Judged, rule: Rule | None) -> str:
    """The partition that was judged; where some are missing, the newest of them."""
    if rule is None or rule.kind is not RuleKind.ARRIVAL or verdict.details is None:
        return verdict.partition_key
    missing: list[str] = json.loads(verdict.details)["missing"]
    return missing[-1] if missing else verdict.partition_key


def _expected(verdict: Judged, rule: Rule | None) -> str:
    if rule is not None and rule.kind is RuleKind.ARRIVAL:
        return f"every partition within {rule.args['hours']:g} hours of its end"
    return f"{verdict.threshold} hours" if rule is not None and rule.kind in _IN_HOURS else verdict.threshold


def _gone(told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """Problems whose rule, table, model or partition the project doesn't have any more: nothing would ever mend them.

    Of failed runs others decide.
    """
    for key, alert in told.items():
        if alert.kind is Kind.RUN_FAILED:
            continue
        own = key.startswith(OWN_CHECK)
        asked = not subjects.checks or (alert.table, alert.rule) in subjects.checks
        if not (asked if own else subjects.asks(alert.table, alert.rule)) or _was_whole(alert, subjects):
            owner = _owner_of_asset(alert.table, subjects) if own else subjects.owner(alert.table)
            yield replace(alert, status=Status.RECOVERED, observed=GONE, owner=owner)


def _was_whole(alert: Alert, subjects: Subjects) -> bool:
    """Whether a problem is one of a table that had no partitions then, and has some now."""
    table = subjects.table_of(alert.table)
    if table is None or table.partitioning is None or alert.partition != UNPARTITIONED:
        return False
    rule = subjects.rule(alert.table, alert.rule) if alert.rule else None
    return rule is None or rule.scope is Scope.PARTITION


# -- deliveries -------------------------------------------------------------------------------------------------------


_FILE, _LEFT_OUT, _DELIVERY = "file", "left out", "delivery"
"""Begin the keys of alerts about what could not become a delivery, what was left out of one, and a whole one."""


def _deliveries(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """A refused delivery is well again when it was loaded, or when a later run loaded a later one of its partition.

    A file that was refused is so, too, when a later run of its partition doesn't find it any more. One that landed only
    then, where each adds rows: its own are nowhere while it stays refused, whatever else lands and is loaded.
    """
    found = sorted(facts.refusals, key=lambda item: item.refused_at)
    refused = {alert.key: alert for alert in (_refusal(item, told, subjects) for item in found)}
    kinds = (Kind.DELIVERY_REFUSED, Kind.BREAKER_TRIPPED)
    known = {key: alert for key, alert in told.items() if alert.kind in kinds and subjects.asks(alert.table, None)}
    for key, alert in (known | refused).items():
        if _was_whole(alert, subjects):
            continue
        loaded = facts.after_all.get(key.removeprefix(f"{_DELIVERY}/"))
        if loaded is None:
            loaded = facts.loaded.get((alert.table.partition(".")[2], alert.partition))
        if loaded is not None and not _stays(alert, subjects) and _replaces(loaded, alert):
            yield _well(alert, "loaded", loaded.run_id, loaded.loaded_at, subjects)
        elif (end := _taken_away(alert, facts.runs, subjects)) is not None:
            mended = loaded is not None and loaded.run_id == end.run_id
            yield _well(alert, "loaded" if mended else TAKEN_AWAY, end.run_id, end.ended_at, subjects)
        elif key in refused:
            yield alert


def _stays(alert: Alert, subjects: Subjects) -> bool:
    """Whether what else is loaded for the partition of a refused file says nothing of it: each object that lands adds
    rows, and each run that looks says of which partitions some are refused still.
    """
    table = subjects.table_of(alert.table)
    adds = table is not None and bool(table.landings) and table.load_mode is not LoadMode.REPLACE
    return adds and _is_looked_for(alert)


def _is_looked_for(alert: Alert) -> bool:
    """Whether runs look for a refused file: not for what somebody delivered by hand."""
    return alert.key.startswith(f"{_FILE}/") and not alert.run_id.startswith(BY_HAND)


def _replaces(loaded: Loaded, alert: Alert) -> bool:
    """Manifests sort by arrival. What came together with the refused one, and was loaded, doesn't stand for it."""
    later = loaded.run_id != alert.run_id and loaded.loaded_at > alert.happened_at
    kind, _, name = alert.key.partition("/")
    if kind == _LEFT_OUT:
        return loaded.manifest > name.partition("#")[0]
    return later if kind == _FILE else loaded.manifest == name or (loaded.manifest > name and later)


def _taken_away(alert: Alert, runs: Sequence[RunEnd], subjects: Subjects) -> RunEnd | None:
    """The run that didn't find a refused file any more; the newest one that looked decides."""
    result: RunEnd | None = None
    if not _is_looked_for(alert):
        return None
    table = alert.table.partition(".")[2]
    for end in runs:
        if end.run_id == alert.run_id or end.ended_at <= alert.happened_at:
            continue
        said = loaded_in(end, table, subjects)
        if said is not None:
            done, refused = said
            there = alert.partition in refused
            result = None if there else result if without([alert.partition], done, subjects.cut(table)) else end
    return result


def _refusal_key(refused: Refused, told: Mapping[str, Alert]) -> str:
    """A file that is written anew, and no better, is the same problem.

    The same file may be another table's too, or be delivered by hand for several partitions: each has its own.
    """
    if refused.file is None:
        return f"{_DELIVERY}/{refused.manifest}"
    name = refused.file.rpartition("#")[0]
    if refused.manifest is not None:
        return f"{_LEFT_OUT}/{refused.manifest}#{name}"
    # What was told by a version whose keys had neither table nor partition goes on under that key, until it is well.
    before = told.get(f"{_FILE}/{name}")
    if before is not None and (before.table, before.partition) == _place(refused):
        return before.key
    return f"{_FILE}/{refused.table_name}/{refused.partition_key}/{name}"


def _place(refused: Refused) -> tuple[str, str]:
    return str(staging(refused.table_name)), refused.partition_key


def _refusal(refused: Refused, told: Mapping[str, Alert], subjects: Subjects) -> Alert:
    name, partition = _place(refused)
    tripped = breaker_tripped(refused.reason)
    observed, expected = tripped or (subjects.text(name, refused.reason), "the delivery is as the contract says")
    return Alert(
        key=_refusal_key(refused, told),
        status=Status.OPEN,
        fingerprint=fingerprint(refused.reason),
        kind=Kind.BREAKER_TRIPPED if tripped else Kind.DELIVERY_REFUSED,
        severity=Severity.ERROR,
        table=name,
        partition=partition,
        rule=None,
        observed=observed,
        expected=expected,
        run_id=refused.run_id,
        happened_at=refused.refused_at,
        owner=subjects.owner(name),
    )


def _well(alert: Alert, observed: str, run_id: str, moment: datetime, subjects: Subjects) -> Alert:
    return replace(
        alert,
        status=Status.RECOVERED,
        observed=observed,
        run_id=run_id,
        happened_at=moment,
        owner=subjects.owner(alert.table),
    )


# -- checks of one's own ----------------------------------------------------------------------------------------------


OWN_CHECK = "check/"
"""Begins the key of an alert about an asset check that somebody wrote in Python."""
CHECK_PASSES = "the check passes"


def _checks(facts: Facts, told: Mapping[str, Alert], subjects: Subjects) -> Iterator[Alert]:
    """A check is well again when it passes for the same partitions, or for more."""
    there = subjects.checks
    problems = {
        key: alert
        for key, alert in told.items()
        if key.startswith(OWN_CHECK) and (not there or (alert.table, alert.rule) in there)
    }
    well: dict[str, Alert] = {}
    for end in facts.runs:
        for check in end.checks:
            if there and (check.asset, check.check) not in there:
                continue
            same = [
                (key, alert)
                for key, alert in problems.items()
                if (alert.table, alert.rule) == (check.asset, check.check)
                and not without([alert.partition], [check.partition_key], None)
                and end.ended_at > alert.happened_at
            ]
            failed = _own_check(end, check, subjects)
            for key, alert in same if check.passed else ():
                well[key] = replace(
                    alert,
                    status=Status.RECOVERED,
                    observed="passed",
                    run_id=end.run_id,
                    happened_at=end.ended_at,
                    owner=_owner_of_asset(alert.table, subjects),
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
        fingerprint=fingerprint(check.severity, same_text(check.description)),
        kind=Kind.CHECK_FAILED,
        severity=check.severity,
        table=check.asset,
        partition=check.partition_key,
        rule=check.check,
        observed=said,
        expected=CHECK_PASSES,
        run_id=end.run_id,
        happened_at=end.ended_at,
        owner=_owner_of_asset(check.asset, subjects),
    )


def _owner_of_asset(asset: str, subjects: Subjects) -> str | None:
    return subjects.owner_of_parts([asset.replace("/", "__")])
