"""References of drift rules: frozen once, kept in the ledger."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

import pyarrow as pa

from dataops_platform.contracts.model import Rule, RuleKind, Scope, Table
from dataops_platform.quality.drift import (
    Baseline,
    baseline_of,
    cuts_sql,
    histogram_sql,
    reference_window,
    shares_of,
)
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.names import LEDGER, literal


def baselines(
    warehouse: Warehouse, table: Table, rules: Sequence[Rule], loaded: Collection[str], run_id: str
) -> tuple[dict[str, Baseline], dict[str, str]]:
    """The references of a table's drift rules: those of the ledger, and those that can be frozen now.

    A reference is frozen when all its partitions have been loaded, and hold rows. It stays as it is, whatever is loaded
    later; a rule with another column, window or number of bins has a reference of its own.

    Args:
        loaded: keys of the partitions that have been loaded.

    Returns:
        Rule id → reference; and rule id → why there is none yet.
    """
    drifting = [rule for rule in rules if rule.kind is RuleKind.DRIFT]
    if not drifting:
        return {}, {}
    found = _stored(warehouse, table)
    known: dict[str, Baseline] = {}
    missing: dict[str, str] = {}
    rows = []
    for rule in drifting:
        if _mark(rule) in found:  # stored, or just frozen for another metric
            known[rule.id] = found[_mark(rule)]
            continue
        window = reference_window(table, rule)
        there = len(set(window) & set(loaded)) if window is not None else 0
        if window is not None and there < len(window):
            span = f"{rule.args['first']}..{rule.args['last']}"
            missing[rule.id] = f"not judged: {there} of the {len(window)} partitions of its reference {span} are loaded"
            continue
        frozen, count = _freeze(warehouse, table, rule, window)
        if not count:
            missing[rule.id] = "not judged: its reference holds no rows"
            continue
        known[rule.id] = found[_mark(rule)] = frozen
        rows.append(
            {
                "table_name": table.name,
                "rule_id": rule.id,
                "rule_hash": _mark(rule),
                "bins": frozen.as_json(),
                "shares": json.dumps(frozen.shares),
                "row_count": count,
                "run_id": run_id,
                "frozen_at": ledger.now(),
            }
        )
    if rows:
        warehouse.append("baselines", pa.Table.from_pylist(rows, schema=ledger.schema("baselines")))
    return known, missing


def _mark(rule: Rule) -> str:
    """What a reference depends on: not the metric, nor the threshold."""
    kept = {name: rule.args[name] for name in ("bins", "first", "last")}
    return replace(rule, args=kept, threshold=type(rule.threshold)(), severity=type(rule.severity)("error")).fingerprint


def _stored(warehouse: Warehouse, table: Table) -> dict[str, Baseline]:
    """The first reference of each kind: of two that were frozen at the same time, one counts."""
    rows = warehouse.query(
        f"SELECT rule_hash, bins, shares FROM {LEDGER}.baselines WHERE table_name = {literal(table.name)}"
        " ORDER BY frozen_at DESC, run_id DESC"
    ).to_pylist()
    return {row["rule_hash"]: Baseline.of(row["bins"], row["shares"]) for row in rows}


def _freeze(warehouse: Warehouse, table: Table, rule: Rule, window: Collection[str] | None) -> tuple[Baseline, int]:
    """Bins of the reference with their shares, and how many rows it has."""
    values = warehouse.query(cuts_sql(table, rule, window, warehouse.dialect)).column(0).to_pylist()
    bins = baseline_of(table, rule, values)
    result = warehouse.query(histogram_sql(table, rule, bins, window, Scope.PARTITION, warehouse.dialect))
    counts: dict[int, int] = {}
    for number, _, rows, _ in zip(*(column.to_pylist() for column in result.columns), strict=True):
        counts[number] = counts.get(number, 0) + rows
    return replace(bins, shares=shares_of(bins, counts)), sum(counts.values())
