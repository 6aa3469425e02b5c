"""Rules about deliveries, decided from the ledger: when and whether they came, and how many rows they brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dataops_platform.contracts.model import LoadMode, Rule, Table
from dataops_platform.contracts.partitions import Partitioning
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.names import LEDGER, literal

SHOWN = 20
"""How many missing partitions a verdict names: the newest."""


def latencies(warehouse: Warehouse, table: Table, partitions: Sequence[str]) -> dict[str, float]:
    """Partition → hours from its end to its first delivery; negative when it came early."""
    cut = _cut(table)
    rows = warehouse.query(
        f"SELECT partition_key, min(created_at) AS first FROM {LEDGER}.loads"
        f" WHERE table_name = {literal(table.name)} GROUP BY partition_key"
    ).to_pylist()
    first = {row["partition_key"]: row["first"] for row in rows}
    return {key: (first[key] - cut.ends_at(key)).total_seconds() / 3600 for key in partitions if key in first}


def missing(warehouse: Warehouse, table: Table, rule: Rule, now: datetime) -> list[str]:
    """The partitions that should have been delivered by now, and were not."""
    cut = _cut(table)
    rows = warehouse.query(
        f"SELECT DISTINCT partition_key FROM {LEDGER}.loads WHERE table_name = {literal(table.name)}"
    ).to_pylist()
    there = {row["partition_key"] for row in rows}
    due = now - timedelta(hours=rule.args["hours"])
    return [key for key in cut.keys(now=now) if key not in there and cut.ends_at(key) <= due]


def delivered_rows(warehouse: Warehouse, table: Table) -> Mapping[str, int]:
    """Partition → rows that its deliveries left in staging, by their own counts; of snapshots the newest's."""
    name = literal(table.name)
    rows: list[dict[str, Any]] = warehouse.query(
        "SELECT l.partition_key, l.rows_loaded + COALESCE(r.n, 0) AS rows_loaded,"
        " ROW_NUMBER() OVER (PARTITION BY l.partition_key ORDER BY l.created_at DESC) AS n"
        f" FROM {LEDGER}.loads AS l LEFT JOIN (SELECT load_id, SUM(rows_loaded) AS n FROM {LEDGER}.replays"
        f" WHERE table_name = {name} AND undone_at IS NULL GROUP BY load_id) AS r ON r.load_id = l.load_id"
        f" WHERE l.table_name = {name}"
    ).to_pylist()
    found: dict[str, int] = {}
    for row in rows:
        if row["n"] == 1 or table.load_mode is not LoadMode.REPLACE:
            found[row["partition_key"]] = found.get(row["partition_key"], 0) + int(row["rows_loaded"])
    return found


def _cut(table: Table) -> Partitioning:
    assert table.by_time is not None, table.name
    return table.by_time
