"""What a run would be charged for, before it runs: the engine plans its statements without running them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.quality.planner import plan
from dataops_platform.transformation.dbt import DbtProject
from dataops_platform.transformation.models import Models, cut_like
from dataops_platform.warehouse.base import NoSuchTable, Warehouse
from dataops_platform.warehouse.names import staging


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a step would read of one table or model; None where that can't be told yet."""

    name: str
    step: str
    bytes_read: int | None


def estimate(
    tables: Mapping[str, Table],
    models: Models,
    dbt: DbtProject | None,
    warehouse: Warehouse,
    partitions: tuple[str, str] | None,
) -> Iterator[Estimate]:
    """Bytes that rules, models and tests would read. Loads, exports and ledger queries cost little or nothing.

    Tables that have no such partitions, because they are cut otherwise, and models by these are left out: a run over
    the partitions isn't about them.

    Args:
        tables: those whose rules would be evaluated.
        dbt: the project of the models; None: without them.
        partitions: first and last partition; None: everything.
    """
    apart: set[str] = set()
    for table in tables.values():
        try:
            keys = table.partition_keys(*partitions) if partitions and table.partitioning else None
        except ValueError:
            apart.add(table.name)
            continue
        statements = [statement.sql for statement in plan(table, keys, warehouse.dialect)]
        yield Estimate(str(staging(table.name)), "rules", _total(warehouse, statements))
    if dbt is None or not models.items:
        return
    owners = {uid: (test.model, "tests") for uid, test in models.tests().items()}
    owners |= {model.unique_id: (model.unique_id, "build") for model in models.items if not model.view}
    groups: dict[tuple[str, str], list[str]] = {}
    meant = [
        model.name
        for model in models.items
        if not any(cut_like(model, tables[name]) for name in apart.intersection(model.sources))
    ]
    for uid, sql in (dbt.compile(meant, partitions) if meant else {}).items():
        if uid in owners:
            model, step = owners[uid]
            groups.setdefault((models.by_id()[model].name, step), []).append(sql)
    for (name, step), statements in groups.items():
        yield Estimate(name, step, _total(warehouse, statements))


def _total(warehouse: Warehouse, statements: list[str]) -> int | None:
    """Bytes of all statements; None where one reads what doesn't exist yet."""
    try:
        return sum(warehouse.estimate(sql) for sql in statements)
    except (NoSuchTable, ConfigError):
        return None
