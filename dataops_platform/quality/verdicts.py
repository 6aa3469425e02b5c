"""Deciding a table's rules: run the plan, compare with the thresholds, keep the outcome per partition."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dataops_platform.contracts.model import Rule, RuleKind, Scope, Table, Unit
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.quality.planner import ROW_COUNT_INDEX, Statement, plan, sample_sql
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import Ledger, Verdict, now, version_of
from dataops_platform.warehouse.names import LEDGER, literal, staging
from dataops_platform.warehouse.partition_sql import key_of

SAMPLE_ROWS = 5


@dataclass(frozen=True, slots=True)
class _Observation:
    failed: int | None
    value: float | None


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
            there is no data to have one.
        rules: those to decide; all of the table's by default.

    Returns:
        One verdict per rule and partition; rules of table scope have one, filed under `all`.
    """
    with warehouse.session():
        return _evaluate(warehouse, table, run_id, partitions, list(table.rules if rules is None else rules))


def _evaluate(
    warehouse: Warehouse, table: Table, run_id: str, partitions: Collection[str] | None, chosen: Sequence[Rule]
) -> list[Verdict]:
    ledger = Ledger(warehouse)
    versions = ledger.data_versions(table.name)
    wanted = sorted(versions if partitions is None else set(partitions) & set(versions))
    if not wanted or not chosen:
        return []
    statements = plan(table, None if table.partitioning is None else wanted, warehouse.dialect, chosen)
    observations: dict[str, dict[str, _Observation]] = {}
    scanned: dict[Scope, dict[str, int]] = {scope: {} for scope in Scope}
    owner: dict[str, Statement] = {}
    for statement in statements:
        for rule in statement.rules:
            owner[rule.id] = statement
            observations[rule.id] = {}
        if statement.proof is None or not warehouse.query(statement.proof).column(0)[0].as_py():
            _run(warehouse, table, statement, observations, scanned)
    latency = [rule for rule in chosen if rule.kind is RuleKind.LATENCY]
    for rule in latency:
        observations[rule.id] = _latency(warehouse, table, wanted)
    moment = now()
    table_version = version_of(versions.values())
    verdicts = []
    for rule in chosen:
        by_partition = rule.scope is Scope.PARTITION or table.partitioning is None
        keys = wanted if by_partition else [UNPARTITIONED]
        scope = Scope.PARTITION if by_partition and table.partitioning else Scope.TABLE
        for key in keys:
            verdicts.append(
                _verdict(
                    table,
                    rule,
                    key,
                    observations[rule.id].get(key, _Observation(None, None)),
                    scanned[scope].get(key, 0),
                    versions[key] if by_partition else table_version,
                    owner[rule.id].id if rule.id in owner else f"{table.name}.ledger",
                    run_id,
                    moment,
                )
            )
    verdicts = _with_samples(warehouse, table, chosen, verdicts)
    ledger.record_verdicts(verdicts)
    return verdicts


def _run(
    warehouse: Warehouse,
    table: Table,
    statement: Statement,
    observations: Mapping[str, dict[str, _Observation]],
    scanned: Mapping[Scope, dict[str, int]],
) -> None:
    result = warehouse.query(statement.sql)
    for index, part, failed, observed in zip(*(column.to_pylist() for column in result.columns), strict=True):
        key = UNPARTITIONED if statement.scope is Scope.TABLE else key_of(table, part)
        if key is None:
            continue
        if index == ROW_COUNT_INDEX:
            scanned[statement.scope][key] = failed
        elif failed is not None or observed is not None:
            observations[statement.rules[index].id][key] = _Observation(failed, observed)


def _latency(warehouse: Warehouse, table: Table, partitions: Sequence[str]) -> dict[str, _Observation]:
    """Hours from a partition's end to its first delivery; negative when it came early."""
    assert table.partitioning is not None, table.name
    rows = warehouse.query(
        f"SELECT partition_key, min(created_at) AS first FROM {LEDGER}.loads"
        f" WHERE table_name = {literal(table.name)} GROUP BY partition_key"
    ).to_pylist()
    first = {row["partition_key"]: row["first"] for row in rows}
    return {
        key: _Observation(None, (first[key] - table.partitioning.ends_at(key)).total_seconds() / 3600)
        for key in partitions
        if key in first
    }


_COUNTING = {RuleKind.DUPLICATES, RuleKind.ORPHANS}


def _verdict(
    table: Table,
    rule: Rule,
    key: str,
    observation: _Observation,
    scanned: int,
    version: str,
    statement_id: str,
    run_id: str,
    moment: datetime,
) -> Verdict:
    failed: int | None = None
    observed: float | None
    if rule.kind is RuleKind.ROW_COUNT:
        observed = float(scanned)
    elif rule.kind.row_level or rule.kind in _COUNTING:
        failed = observation.failed or 0
        observed = float(failed)
        if rule.threshold.unit is Unit.PERCENT:
            observed = 100 * failed / scanned if scanned else 0.0
    else:
        observed = observation.value
    # Without rows there is nothing to judge (completeness rules see that); rows without a value satisfy nothing.
    passed = rule.threshold.holds(observed) or (observed is None and not scanned)
    return Verdict(
        object_name=str(staging(table.name)),
        partition_key=key,
        rule_id=rule.id,
        rule_hash=rule.fingerprint,
        dimension=rule.dimension,
        severity=rule.severity,
        passed=passed,
        observed=observed,
        threshold=str(rule.threshold),
        failed_rows=failed,
        scanned_rows=scanned,
        data_version=version,
        contract_version=table.contract_version,
        statement_id=statement_id,
        run_id=run_id,
        evaluated_at=moment,
    )


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
                samples[rule.id] = json.dumps(warehouse.query(sql).to_pylist(), default=str)
    first = {rule_id: keys[0] for rule_id, keys in failed.items()}
    return [
        replace(v, sample=samples[v.rule_id]) if v.rule_id in samples and first[v.rule_id] == v.partition_key else v
        for v in verdicts
    ]
