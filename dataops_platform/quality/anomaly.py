"""Anomalies: is a partition's value far from those of the partitions before it?"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dataops_platform.contracts.model import Rule, Table
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.names import LEDGER, literal, staging

_LARGEST = 1e150
"""The squares of larger values are no numbers any more."""


def metric_of(rule: Rule) -> str:
    """What an anomaly rule measures, as the ledger names it: values of one metric are comparable with each other."""
    share = f"({rule.args['quantile']:g})" if "quantile" in rule.args else ""
    return " ".join([f"{rule.args['function']}{share}", *rule.columns])


def history(warehouse: Warehouse, table: Table, rule: Rule, version: str) -> dict[str, float]:
    """What the ledger knows of a rule's metric: the newest value of each partition.

    A table without partitions has one value for each data version, under the time it was first measured at; keys sort
    in time order either way.

    Args:
        version: the data version of a table without partitions that is being judged, which isn't its own history.
    """
    cut = table.partitioning is not None
    by, order = ("partition_key", "DESC") if cut else ("data_version", "ASC")
    others = "" if cut else f" AND data_version <> {literal(version)}"
    rows = warehouse.query(
        f"SELECT partition_key, evaluated_at, details FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {by}"
        f" ORDER BY evaluated_at {order}, run_id) AS n FROM {LEDGER}.verdicts"
        f" WHERE object_name = {literal(str(staging(table.name)))} AND rule_id = {literal(rule.id)}{others}) AS ranked"
        " WHERE n = 1 AND details IS NOT NULL"
    ).to_pylist()
    metric = metric_of(rule)
    found = {}
    for row in rows:
        details = json.loads(row["details"])
        if details.get("metric") == metric and isinstance(details.get("value"), int | float):
            key = row["partition_key"] if cut else row["evaluated_at"].isoformat()
            found[key] = float(details["value"])
    return found


def deviation(value: float, before: Sequence[float]) -> float:
    """How many standard deviations a value is from the mean of those before it.

    The standard deviation is that of a sample (n - 1). Where all values before are equal, another value is infinitely
    far away.

    Args:
        before: at least two values.
    """
    distance = abs(value - statistics.mean(before))
    spread = statistics.stdev(before)
    if spread == 0:
        return 0.0 if distance == 0 else math.inf
    return distance / spread


def judge(
    rule: Rule, values: Mapping[str, float | None], earlier: Mapping[str, float]
) -> dict[str, tuple[float | None, dict[str, Any]]]:
    """Partition → deviation, and what it was compared with; no deviation where too little went before.

    Args:
        values: what was measured now, by partition key; None where there is nothing to measure. What isn't finite is
            no history of others, nor is what is too large to have a spread.
        earlier: what the ledger knows of other partitions. Keys sort in time order.
    """
    known = {key: v for key, v in {**earlier, **values}.items() if v is not None and abs(v) < _LARGEST}
    in_order = sorted(known)
    found: dict[str, tuple[float | None, dict[str, Any]]] = {}
    for key, value in values.items():
        before = [known[other] for other in in_order if other < key][-rule.args["history"] :]
        finite = value is None or math.isfinite(value)
        shown = value if finite else str(value)  # JSON has finite numbers only
        details: dict[str, Any] = {"metric": metric_of(rule), "value": shown, "history": len(before)}
        if value is None or math.isnan(value):
            found[key] = (None, details)
        elif len(before) < rule.args["minimum"]:
            details["reason"] = f"not judged: {len(before)} values before it, {rule.args['minimum']} are needed"
            found[key] = (None, details)
        else:
            details |= {"mean": statistics.mean(before), "stddev": statistics.stdev(before)}
            found[key] = (deviation(value, before), details)
    return found
