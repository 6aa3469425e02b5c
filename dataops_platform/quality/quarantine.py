"""Quarantine: what is held and why, judging it again by the contract as it reads now, and giving it up."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dataops_platform.contracts.model import MASK, Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.suggest import one_of
from dataops_platform.quality.statements import render_bad
from dataops_platform.warehouse.base import Replayed, RowCheck, Selection, Warehouse
from dataops_platform.warehouse.loading import OUTSIDE_PARTITION
from dataops_platform.warehouse.names import CAST, QUARANTINE_COLUMNS, UNCAST, literal, quarantine, quote
from dataops_platform.warehouse.replay import selected


def row_checks(table: Table, dialect: str) -> list[RowCheck]:
    """The rules that split a table's rows at load, as the contract reads now."""
    return [RowCheck(rule.id, render_bad(table, rule, dialect)) for rule in table.splitting_rules]


@dataclass(frozen=True, slots=True)
class Held:
    """Quarantined rows of one table, partition and reason; a row with several reasons counts for each.

    Attributes:
        oldest: when the first of them was refused.
        newest: when the last of them was.
    """

    table: str
    partition_key: str
    reason: str
    rows: int
    oldest: datetime
    newest: datetime


def held(warehouse: Warehouse, tables: Collection[str]) -> list[Held]:
    """What is in the quarantine of some tables, by one query."""
    # A name that no column has: those of a contract don't begin so.
    unnested = "AS _one_reason" if warehouse.dialect == "bigquery" else "AS u(_one_reason)"
    selects = [
        f"SELECT {literal(table, warehouse.dialect)} AS t, q._delivered_partition AS p, _one_reason AS r,"
        " COUNT(*) AS n, MIN(q._quarantined_at) AS oldest, MAX(q._quarantined_at) AS newest"
        f" FROM {warehouse.sql(quarantine(table))} AS q, UNNEST(q._reasons) {unnested}"
        " GROUP BY 1, 2, 3"
        for table in tables
    ]
    if not selects:
        return []
    rows = warehouse.query(" UNION ALL ".join(selects) + " ORDER BY 1, 2, 3").to_pylist()
    return [Held(row["t"], row["p"], row["r"], row["n"], row["oldest"], row["newest"]) for row in rows]


def uncast(warehouse: Warehouse, table: Table, partitions: Collection[str]) -> set[str]:
    """Columns of which quarantine holds values that can't be cast, in some partitions."""
    if not partitions:
        return set()
    return {
        item.reason.removeprefix(CAST)
        for item in held(warehouse, [table.name])
        if item.partition_key in partitions and item.reason in _cast_reasons(table)
    }


def _cast_reasons(table: Table) -> list[str]:
    return [f"{CAST}{column.name}" for column in table.columns]


def show(warehouse: Warehouse, table: Table, selection: Selection, limit: int) -> list[Mapping[str, Any]]:
    """Some quarantined rows, the latest first: the contract's columns, and where each row comes from.

    Values of columns that aren't public are masked.
    """
    dialect = warehouse.dialect
    about = [*(name for name in QUARANTINE_COLUMNS if name != "_run_id"), "_source_object"]
    names = [*about, *(column.name for column in table.columns)]
    listed = ", ".join(quote(name, dialect) for name in names)
    rows = warehouse.query(
        f"SELECT {listed} FROM {warehouse.sql(quarantine(table.name))} WHERE {selected(selection, dialect)}"
        f" ORDER BY _quarantined_at DESC, _source_object, _source_row LIMIT {limit}"
    ).to_pylist()
    hidden = {column.name for column in table.columns if not column.public}
    return [
        {name: MASK if name in hidden else value for name, value in row.items()}
        | {UNCAST: _masked(row[UNCAST], {column.name for column in table.columns if column.public})}
        for row in rows
    ]


def _masked(uncast: str | None, public: Collection[str]) -> str | None:
    """Texts that can't be cast, those of columns that aren't public masked."""
    if uncast is None:
        return None
    texts = {name: text if name in public else MASK for name, text in json.loads(uncast).items()}
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":"))


def known(table: Table, selection: Selection) -> Selection:
    """The selection, if the table can have such rows.

    Raises:
        ConfigError: a partition or a reason isn't one of the table's.
    """
    if table.partitioning is not None:
        for key in selection.partitions or ():
            try:
                table.partitioning.check(key)
            except ValueError as error:
                raise ConfigError(f"{table.name}: {error}") from error
    cast = _cast_reasons(table)
    reasons = [OUTSIDE_PARTITION, *cast, *(rule.id for rule in table.rules)]
    if selection.reason is not None and selection.reason not in reasons:
        hint = one_of(selection.reason, [OUTSIDE_PARTITION, *cast, *(rule.id for rule in table.splitting_rules)])
        raise ConfigError(f"{table.name} has no rule {selection.reason!r}: {hint}")
    return selection


def replay(
    warehouse: Warehouse, tables: Sequence[Table], selection: Selection, run_id: str
) -> dict[str, list[Replayed]]:
    """Judge the quarantined rows of some tables again: each table is one transaction.

    Returns:
        Table → what became of the rows of each partition.
    """
    return {
        table.name: warehouse.replay(table, row_checks(table, warehouse.dialect), selection, run_id) for table in tables
    }
