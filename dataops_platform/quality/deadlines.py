"""Deadlines that pass while nothing runs: judged from the ledger, so that somebody can look as often as they like.

- `arrival`: a partition that isn't delivered some hours after its end. The calendar and the ledger say it.
- `freshness`: the newest value of a column was so old when it was judged, and has grown older since. Rows that came
  since, and that no run has judged, are looked at.

Rules are evaluated, and their verdicts recorded, only where the outcome is another one than the newest verdict says, or
may be.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from dataops_platform.contracts.model import Rule, RuleKind, Table
from dataops_platform.contracts.partitions import UNPARTITIONED, Partitioning
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.quality.arrivals import SHOWN, missing
from dataops_platform.quality.verdicts import evaluate
from dataops_platform.secrets import without_secrets
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import Ledger, Verdict, version_of
from dataops_platform.warehouse.names import staging

log = logging.getLogger("dataops.deadlines")

_WITHOUT_A_RUN = {RuleKind.ARRIVAL, RuleKind.FRESHNESS}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What a look at the deadlines found.

    Attributes:
        verdicts: those that had to be reached anew.
        due: when the next deadline passes, if nothing comes until then; None: there is none.
    """

    verdicts: Sequence[Verdict] = ()
    due: datetime | None = None


def deadline_rules(tables: Iterable[Table]) -> dict[str, list[Rule]]:
    """Table → its rules that time alone can break; tables without such are left out."""
    found = {table.name: [rule for rule in table.rules if rule.kind in _WITHOUT_A_RUN] for table in tables}
    return {name: rules for name, rules in found.items() if rules}


def judge_deadlines(warehouse: Warehouse, tables: Mapping[str, Table], run_id: str, now: datetime) -> Deadlines:
    """Evaluate the rules whose deadline has passed since they were last judged, or was met after all.

    Costs two queries of the ledger, and one for each arrival rule; nothing where no table has a deadline.

    Args:
        run_id: goes into the verdicts.
    """
    asked = deadline_rules(tables.values())
    if not asked:
        return Deadlines()
    ledger = Ledger(warehouse)
    versions = ledger.all_data_versions(list(asked))
    ids = sorted({rule.id for rules in asked.values() for rule in rules})
    newest = ledger.latest_verdicts([str(staging(name)) for name in asked], ids, UNPARTITIONED)
    found: list[Verdict] = []
    due: list[datetime] = []
    for name, rules in asked.items():
        last = {v.rule_id: v for v in newest[str(staging(name))].get(UNPARTITIONED, ())}
        try:
            judged, dates = _of_table(warehouse, tables[name], rules, last, versions.get(name, {}), run_id, now)
        except (ArithmeticError, ValueError) as error:  # of numbers and dates that nobody thought of
            said = f"{type(error).__name__}: {error}"
            log.error("deadlines: those of %s can't be judged: %s", name, said, exc_info=without_secrets(error))
            continue
        found += judged
        due += dates
    return Deadlines(found, min(due, default=None))


def _of_table(
    warehouse: Warehouse,
    table: Table,
    rules: Sequence[Rule],
    last: Mapping[str, Verdict],
    versions: Mapping[str, str],
    run_id: str,
    now: datetime,
) -> tuple[Sequence[Verdict], list[datetime]]:
    """What had to be judged anew of a table, and when deadlines of it pass next.

    Args:
        last: rule id → its newest verdict.
        versions: partition → its data version.
    """
    current = {r.id: v for r in rules if (v := last.get(r.id)) is not None and v.rule_hash == r.fingerprint}
    changed = [r for r in rules if _changed(warehouse, table, r, current.get(r.id), versions, now)]
    found: Sequence[Verdict] = ()
    if changed:
        try:
            found = evaluate(warehouse, table, run_id, _nothing(table), changed)
        except (ConfigError, DataRefused) as error:  # said by the run that asks it; other tables' are judged
            log.error("deadlines: %s", error)
    current |= {verdict.rule_id: verdict for verdict in found}
    return found, [due for rule in rules for due in _next(table, rule, current.get(rule.id), now)]


def _nothing(table: Table) -> Collection[str] | None:
    """What to ask `evaluate` for: rules of the table as a whole, no partition of it."""
    return None if table.partitioning is None else []


def _changed(
    warehouse: Warehouse, table: Table, rule: Rule, last: Verdict | None, versions: Mapping[str, str], now: datetime
) -> bool:
    """Whether a rule's newest verdict says something else than is true by now."""
    if rule.kind is RuleKind.ARRIVAL:
        absent = missing(warehouse, table, rule, now)
        if last is None:
            return bool(absent)
        listed = json.loads(last.details)["missing"] if last.details else []
        return len(absent) != last.observed or absent[-SHOWN:] != listed
    version = version_of(versions.values()) if table.partitioning is not None else versions.get(UNPARTITIONED)
    if version is None:
        return False  # there are no rows
    if last is None or last.data_version != version:
        return True  # there are others than those that were judged
    if not last.passed or last.observed is None:
        return False
    return not rule.threshold.holds(last.observed + (now - last.evaluated_at).total_seconds() / 3600)


def _next(table: Table, rule: Rule, last: Verdict | None, now: datetime) -> Iterator[datetime]:
    """When a deadline of the rule passes next."""
    cut = table.by_time
    if rule.kind is RuleKind.ARRIVAL and cut is not None:
        yield from _ends(cut, rule.args["hours"], now)
    elif rule.kind is RuleKind.FRESHNESS and last is not None and last.passed and last.observed is not None:
        left = rule.threshold.values[0] - last.observed
        # A moment later: then it isn't met any more.
        due = _after(last.evaluated_at.astimezone(UTC), left, timedelta(seconds=1))
        if due is not None and due > now:  # else it couldn't be judged
            yield due


def _ends(cut: Partitioning, patience: float, now: datetime) -> Iterator[datetime]:
    """When partitions are due that aren't yet: those that ended a while ago, and the one that is under way.

    Args:
        patience: hours from the end of a partition on.
    """
    for key in reversed(cut.keys(now=now)):
        due = _after(cut.ends_at(key), patience)
        if due is not None and due <= now:
            break
        if due is not None:
            yield due
    local = now.astimezone(ZoneInfo(cut.timezone)).replace(tzinfo=None)
    current = cut.key(max(local, datetime.combine(cut.start, datetime.min.time())))
    if cut.parse(current).date() <= (cut.end or date.max) and (due := _after(cut.ends_at(current), patience)):
        yield due


def _after(moment: datetime, hours: float, more: timedelta = timedelta()) -> datetime | None:
    """Some hours later; None where no calendar has that: `9999-12-31` stands for never in many a column."""
    try:
        return moment + timedelta(hours=hours) + more
    except (OverflowError, ValueError):  # too far away, infinite, or no number
        return None
