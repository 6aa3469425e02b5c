"""Deciding a table's rules: run the plan, compare with the thresholds, keep the outcome per partition."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dataops_platform.contracts.model import MASK, Rule, RuleKind, Scope, Severity, Table, Unit
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.quality.aggregates import aggregated, decided_by_count
from dataops_platform.quality.anomaly import history, judge
from dataops_platform.quality.arrivals import SHOWN, delivered_rows, latencies, missing
from dataops_platform.quality.baselines import baselines
from dataops_platform.quality.drift import Baseline, distance, shares_of
from dataops_platform.quality.planner import ROW_COUNT_INDEX, Statement, plan, sample_sql
from dataops_platform.warehouse.base import NoSuchTable, Warehouse
from dataops_platform.warehouse.ledger import Ledger, Verdict, now, version_of
from dataops_platform.warehouse.names import staging
from dataops_platform.warehouse.partition_sql import key_of

SAMPLE_ROWS = 5


@dataclass(frozen=True, slots=True)
class _Observation:
    """What was observed of a partition.

    Attributes:
        failed: rows that break the rule, where it counts them.
        value: what is compared with the threshold.
        details: what it was compared with, or what is missing.
        unjudged: there is nothing yet to compare it with.
    """

    failed: int | None
    value: float | None
    details: Mapping[str, Any] | None = None
    unjudged: bool = False


def evaluate(
    warehouse: Warehouse,
    table: Table,
    run_id: str,
    partitions: Collection[str] | None = None,
    rules: Iterable[Rule] | None = None,
) -> list[Verdict]:
    """Decide rules and record the verdicts in the ledger.

    Args:
        partitions: those to judge; None: all that were loaded. A partition that was never loaded gets no verdict:
            there is no data to have one. Rules of table scope about arrival and freshness are decided nevertheless.
        rules: those to decide; all of the table's by default.

    Returns:
        One verdict per rule and partition; rules of table scope have one, filed under `all`.
    """
    with warehouse.session():
        chosen = list(table.rules if rules is None else rules)
        verdicts = _with_samples(warehouse, table, chosen, _decide(warehouse, table, run_id, partitions, chosen))
        Ledger(warehouse).record_verdicts(verdicts)
        return verdicts


_NOT_FORESEEN = {RuleKind.DRIFT, RuleKind.SCHEMA}
"""What a first look would record, and what is about the table, not its rows."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a rule would say of the rows that are there.

    Attributes:
        verdicts: one for each partition.
        untold: why there are none; empty where that goes without saying.
        refuses: whether it would keep rows that are there from being published.
    """

    verdicts: Sequence[Verdict] = ()
    untold: str = ""
    refuses: bool = False


def foresee(
    warehouse: Warehouse, table: Table, rules: Sequence[Rule], changing: Collection[str] = ()
) -> dict[str, Foreseen]:
    """Rule id → what it would say of the rows that are there. Nothing is recorded: no gate knows of it.

    Args:
        changing: other tables that aren't as their contracts say yet: what looks at them can't be told.
    """
    with warehouse.session():
        there = warehouse.query(f"SELECT * FROM {warehouse.sql(staging(table.name))} WHERE FALSE").schema.names
        try:
            filled = bool(Ledger(warehouse).data_versions(table.name))
        except NoSuchTable:  # whoever dropped it: `changes` tells of that
            filled = False
        found: dict[str, Foreseen] = {}
        for rule in rules:
            new = [name for name in rule.columns if name not in there]
            blocking = rule.severity is Severity.ERROR
            if rule.kind in _NOT_FORESEEN or not filled:
                found[rule.id] = Foreseen()
            elif rule.other_table in changing:
                found[rule.id] = Foreseen((), f"{rule.other_table} changes too, so it can't be told yet")
            elif new and rule.kind in (RuleKind.NOT_NULL, RuleKind.MISSING):
                found[rule.id] = Foreseen((), f"{new[0]} is null in all rows that are there: they would fail", blocking)
            elif new:
                found[rule.id] = Foreseen((), f"{new[0]} isn't there yet, and null in the rows that are there")
        asked = [rule for rule in rules if rule.id not in found]
        try:
            verdicts = _decide(warehouse, table, "", None, asked)
        except (ConfigError, DataRefused):
            return found | {rule.id: _foresee_one(warehouse, table, rule, not changing) for rule in asked}
        return found | {rule.id: _foreseen([v for v in verdicts if v.rule_id == rule.id]) for rule in asked}


def _foresee_one(warehouse: Warehouse, table: Table, rule: Rule, alone: bool) -> Foreseen:
    """One rule by itself: of several that are asked together, one that can't be decided stops the others.

    Args:
        alone: whether no other table changes; one that does may be why a statement of the user's fails.
    """
    try:
        return _foreseen(_decide(warehouse, table, "", None, [rule]))
    except (ConfigError, DataRefused) as error:
        return Foreseen((), str(error), refuses=alone and rule.severity is Severity.ERROR)


def _foreseen(verdicts: Sequence[Verdict]) -> Foreseen:
    return Foreseen(verdicts, refuses=any(not v.passed and v.severity is Severity.ERROR for v in verdicts))


def _decide(
    warehouse: Warehouse, table: Table, run_id: str, partitions: Collection[str] | None, chosen: Sequence[Rule]
) -> list[Verdict]:
    ledger = Ledger(warehouse)
    others = {other for rule in chosen if (other := rule.other_table) is not None}
    # Before any statement runs: a version that is newer than what was read would hide that it wasn't.
    known = ledger.all_data_versions({table.name, *others})
    versions = known[table.name]
    references = {other: version_of(known[other].values()) for other in others}
    wanted = sorted(versions if partitions is None else set(partitions) & set(versions))
    if not wanted:
        chosen = _about_what_is_missing(table, chosen, bool(versions))
    if not chosen:
        return []
    moment = now()
    found = _Found(warehouse, table, versions, wanted, run_id, moment)
    found.run(chosen)
    table_version = version_of(versions.values())
    verdicts = []
    for rule in chosen:
        by_partition = rule.scope is Scope.PARTITION or table.partitioning is None
        scope = Scope.PARTITION if by_partition and table.partitioning else Scope.TABLE
        keys = wanted if by_partition else [UNPARTITIONED]
        observations = found.of(rule, keys, scope)
        # What is the same for all partitions is worked out once: there may be thousands of them.
        common: dict[str, Any] = {
            "object_name": str(staging(table.name)),
            "rule_id": rule.id,
            "rule_hash": rule.fingerprint,
            "dimension": rule.dimension,
            "severity": rule.severity,
            "threshold": str(rule.threshold),
            "contract_version": table.contract_version,
            "statement_id": found.statement(rule),
            "run_id": run_id,
            "evaluated_at": moment,
            "reference_version": references.get(rule.other_table or ""),
        }
        for key in keys:
            seen, scanned = observations[key], found.scanned[scope].get(key, 0)
            verdicts.append(
                Verdict(
                    partition_key=key,
                    passed=_passes(rule, seen, scanned),
                    observed=seen.value,
                    failed_rows=seen.failed,
                    scanned_rows=scanned,
                    data_version=versions[key] if by_partition else table_version,
                    details=None if seen.details is None else json.dumps(seen.details, default=str),
                    **common,
                )
            )
    return verdicts


def _about_what_is_missing(table: Table, rules: Sequence[Rule], loaded: bool) -> list[Rule]:
    """The rules that a run is to decide although none of its partitions was loaded: that is what they look for.

    Args:
        loaded: whether other partitions were.
    """
    kinds = {RuleKind.ARRIVAL, RuleKind.FRESHNESS} if loaded else {RuleKind.ARRIVAL}
    return [r for r in rules if r.kind in kinds and r.scope is Scope.TABLE and table.partitioning is not None]


@contextmanager
def _rules_named(table: Table, statement: Statement) -> Iterator[None]:
    """What is said of a query that can't be run, with the rule that it comes from."""
    try:
        yield
    except (ConfigError, DataRefused) as error:
        line, what = table.line, f"the rules of {table.name}"
        if len(statement.rules) == 1:
            line, what = statement.rules[0].line, f"rule {statement.rules[0].id} of {table.name}"
        raise type(error)(f"{table.file}:{line}: {what} can't be decided: {error}") from error


_COUNTING = {RuleKind.DUPLICATES, RuleKind.ORPHANS}


class _Found:
    """What the statements, and the ledger, say of a table's rules."""

    def __init__(
        self,
        warehouse: Warehouse,
        table: Table,
        versions: Mapping[str, str],
        partitions: Sequence[str],
        run_id: str,
        moment: datetime,
    ) -> None:
        self._warehouse = warehouse
        self._table = table
        self._versions = versions
        self._partitions = partitions
        self._run_id = run_id
        self._moment = moment
        self._statements: dict[str, Statement] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._values: dict[str, dict[str, float]] = {}
        self._bins: dict[str, dict[str, dict[int, int]]] = {}
        self._baselines: dict[str, Baseline] = {}
        self._no_baseline: dict[str, str] = {}
        self.scanned: dict[Scope, dict[str, int]] = {scope: {} for scope in Scope}

    def run(self, rules: Sequence[Rule]) -> None:
        """Run the plan for some rules, once."""
        self._baselines, self._no_baseline = baselines(
            self._warehouse, self._table, rules, self._versions.keys(), self._run_id
        )
        asked = [rule for rule in rules if rule.id not in self._no_baseline]
        keys = None if self._table.partitioning is None else self._partitions
        for statement in plan(self._table, keys, self._warehouse.dialect, asked, self._baselines):
            for rule in statement.rules:
                self._statements[rule.id] = statement
            with _rules_named(self._table, statement):
                if not any(proof.holds(self._warehouse.query) for proof in statement.proofs):
                    self._read(statement)

    def _read(self, statement: Statement) -> None:
        result = self._warehouse.query(statement.sql)
        drift = statement.rules[0].id if statement.rules and statement.rules[0].kind is RuleKind.DRIFT else None
        for index, part, failed, observed in zip(*(column.to_pylist() for column in result.columns), strict=True):
            key = UNPARTITIONED if statement.scope is Scope.TABLE else key_of(self._table, part)
            if key is None:
                continue
            if drift is not None:
                self._bins.setdefault(drift, {}).setdefault(key, {})[index] = failed
            elif index == ROW_COUNT_INDEX:
                self.scanned[statement.scope][key] = failed
            elif failed is not None:
                self._counts.setdefault(statement.rules[index].id, {})[key] = failed
            elif observed is not None:
                self._values.setdefault(statement.rules[index].id, {})[key] = observed

    def statement(self, rule: Rule) -> str:
        """Id of the statement that decided a rule."""
        return self._statements[rule.id].id if rule.id in self._statements else f"{self._table.name}.ledger"

    def of(self, rule: Rule, keys: Sequence[str], scope: Scope) -> dict[str, _Observation]:
        """What was observed for each of the partitions, or for the table as a whole."""
        scanned, values = self.scanned[scope], self._values.get(rule.id, {})
        match rule.kind:
            case RuleKind.ROW_COUNT:
                return {key: _Observation(None, float(scanned.get(key, 0))) for key in keys}
            case RuleKind.ANOMALY:
                return self._anomalies(rule, keys, scanned, values)
            case RuleKind.DRIFT:
                return {key: self._drift(rule, self._bins.get(rule.id, {}).get(key, {})) for key in keys}
            case RuleKind.FRESHNESS:
                instant = self._moment.timestamp()
                return {
                    key: _Observation(None, (instant - values[key]) / 3600 if key in values else None) for key in keys
                }
            case RuleKind.LATENCY:
                late = latencies(self._warehouse, self._table, keys)
                return {key: _Observation(None, late.get(key)) for key in keys}
            case RuleKind.ARRIVAL:
                absent = missing(self._warehouse, self._table, rule, self._moment)
                details = {"missing": absent[-SHOWN:]} if absent else None
                return dict.fromkeys(keys, _Observation(None, float(len(absent)), details))
            case RuleKind.SCHEMA:
                lines = self._warehouse.changes([self._table])[0].lines
                found = _Observation(None, float(len(lines)), {"differences": lines} if lines else None)
                return dict.fromkeys(keys, found)
            case RuleKind.RECONCILE if decided_by_count(rule):
                return self._against_manifests(rule, keys, scanned)
            case RuleKind.RECONCILE:  # where neither side has rows, no row says that they agree
                return {key: _Observation(None, values.get(key, 0.0)) for key in keys}
        if rule.kind.row_level or rule.kind in _COUNTING:
            return {key: self._count(rule, self._counts.get(rule.id, {}).get(key, 0), scanned, key) for key in keys}
        if aggregated(rule):  # of no rows there is nothing to say, not even a count of 0
            values = {key: value for key, value in values.items() if scanned.get(key)}
        return {key: _Observation(None, values.get(key)) for key in keys}

    @staticmethod
    def _count(rule: Rule, failed: int, scanned: Mapping[str, int], key: str) -> _Observation:
        if rule.threshold.unit is Unit.PERCENT:
            return _Observation(failed, 100 * failed / scanned[key] if scanned.get(key) else 0.0)
        return _Observation(failed, float(failed))

    def _anomalies(
        self, rule: Rule, keys: Sequence[str], scanned: Mapping[str, int], values: Mapping[str, float]
    ) -> dict[str, _Observation]:
        if decided_by_count(rule):
            values = {key: float(scanned.get(key, 0)) for key in keys}
        earlier = history(self._warehouse, self._table, rule, self._versions.get(UNPARTITIONED, ""))
        found = judge(rule, {key: values.get(key) for key in keys}, earlier)
        return {
            key: _Observation(None, deviation, details, unjudged="reason" in details)
            for key, (deviation, details) in found.items()
        }

    def _drift(self, rule: Rule, counts: Mapping[int, int]) -> _Observation:
        if rule.id in self._no_baseline:
            return _Observation(None, None, {"reason": self._no_baseline[rule.id]}, unjudged=True)
        if not counts:
            return _Observation(None, None)
        baseline, metric = self._baselines[rule.id], rule.args["metric"]
        current = shares_of(baseline, counts)
        labels = baseline.labels
        if not self._table.column(rule.columns[0]).public:
            labels = ["missing", *(f"bin {number}" for number in range(1, len(labels)))]
        details = {"metric": metric, "bins": labels, "reference": baseline.shares, "current": current}
        return _Observation(None, distance(metric, baseline.shares, current), details)

    def _against_manifests(
        self, rule: Rule, keys: Sequence[str], scanned: Mapping[str, int]
    ) -> dict[str, _Observation]:
        delivered = delivered_rows(self._warehouse, self._table)
        found = {}
        for key in keys:
            rows, wanted = scanned.get(key, 0), delivered.get(key, 0)
            observed = float(rows - wanted)
            if rule.threshold.unit is Unit.PERCENT:
                observed = 0.0 if rows == wanted else 100 * abs(rows - wanted) / wanted if wanted else 100.0
            found[key] = _Observation(None, observed, {"rows": rows, "delivered": wanted})
        return found


def _passes(rule: Rule, seen: _Observation, scanned: int) -> bool:
    """Without rows there is nothing to judge (completeness rules see that); rows without a value satisfy nothing."""
    return rule.threshold.holds(seen.value) or (seen.value is None and (not scanned or seen.unjudged))


def _with_samples(
    warehouse: Warehouse, table: Table, rules: Sequence[Rule], verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """Failed rules, and only those, are asked for a few of the rows that break them."""
    from dataclasses import replace

    failed: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.passed:
            failed.setdefault(verdict.rule_id, []).append(verdict.partition_key)
    samples: dict[str, str] = {}
    for rule in rules:
        if rule.id in failed:
            partitions = failed[rule.id] if table.partitioning else None
            sql = sample_sql(table, rule, partitions, warehouse.dialect, SAMPLE_ROWS)
            if sql is not None:
                hidden = {column.name for column in table.columns if not column.public}
                rows = warehouse.query(sql).to_pylist()
                shown = [{name: MASK if name in hidden else value for name, value in row.items()} for row in rows]
                samples[rule.id] = json.dumps(shown, default=str)
    first = {rule_id: keys[0] for rule_id, keys in failed.items()}
    return [
        replace(v, sample=samples[v.rule_id]) if v.rule_id in samples and first[v.rule_id] == v.partition_key else v
        for v in verdicts
    ]
