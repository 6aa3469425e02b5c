"""What loading means on every engine."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from dataops_platform.contracts.model import BadRows, Column, LoadMode, Table
from dataops_platform.contracts.partitions import UNPARTITIONED, NamedPartitioning
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.secrets import redact
from dataops_platform.warehouse.names import CAST, literal

MAX_BATCH_ROWS = 8_000_000
"""Rows that one transaction loads at most (a single larger delivery goes alone): bounds memory as backfills grow."""

OUTSIDE_PARTITION = "outside_partition"
"""Reason of a row whose partition column lies outside the partition it was delivered for."""


def batches(deliveries: Sequence[Delivery], max_rows: int, max_objects: int) -> list[list[Delivery]]:
    """Deliveries cut into transactions, in their order."""
    made: list[list[Delivery]] = []
    rows = objects = 0
    for delivery in deliveries:
        if not made or rows + delivery.rows > max_rows or objects + len(delivery.objects) > max_objects:
            made.append([])
            rows = objects = 0
        made[-1].append(delivery)
        rows += delivery.rows
        objects += len(delivery.objects)
    return made


def foreign_partition(table: Table, key: str, cut: str | None = None) -> list[str]:
    """Why the contract has no such partition; empty when it has.

    Args:
        cut: what the partition was when it was delivered, as `Table.cut` says it; None: unknown.
    """
    partitioning = table.partitioning
    if cut and table.cut and cut != table.cut:
        return [f"partition {key!r} is a {cut}, the contract's table is cut by {table.cut}"]
    if partitioning is None:
        return [] if key == UNPARTITIONED else [f"partition {key!r}: the contract's table has no partitions"]
    try:
        partitioning.check(key)
    except ValueError as error:
        return [str(error)]
    if isinstance(partitioning, NamedPartitioning):
        return []
    day = partitioning.parse(key).date()
    if key >= partitioning.example and (partitioning.end is None or day <= partitioning.end):
        return []
    return [f"partition {key!r} is outside {partitioning.example}..{partitioning.end or ''} of the contract"]


def can_do_without(table: Table, delivery: Delivery, damaged: Collection[str]) -> bool:
    """Whether a delivery can be loaded without its damaged objects: others landed with them, each by itself.

    Not where it replaces the one before: part of a snapshot is none.

    Args:
        damaged: their keys.
    """
    return (
        table.load_mode is not LoadMode.REPLACE
        and 0 < len(damaged) < len(delivery.objects)
        and set(damaged) <= delivery.files().keys()
    )


def why_left_out(file: str, key: str, damage: str) -> str:
    """What to say of a landed file that is left out.

    Args:
        key: of the object that it is in the lake.
    """
    return redact(f"{file.rpartition('#')[0]}: {damage} (kept as {key})")


def cast_reasons(table: Table, uncast: str, dialect: str) -> list[str]:
    """For each column, SQL of the reason of a row whose value isn't of its type; null where it is.

    Such a row is judged by nothing else: that the value is missing, say, is not what is wrong with it.

    Args:
        uncast: the column with the texts.
    """
    return [
        f"CASE WHEN {_is_uncast(column, uncast, dialect)} THEN {literal(f'{CAST}{column.name}', dialect)} END"
        for column in table.columns
    ]


def uncast_now(table: Table, uncast: str, dialect: str) -> str:
    """SQL of the texts of a row that can't be cast; null where they are of columns that the contract hasn't any more.

    Args:
        uncast: the column with the texts, as it was delivered.
    """
    terms = " OR ".join(_is_uncast(column, uncast, dialect) for column in table.columns)
    return f"CASE WHEN {uncast} IS NOT NULL AND ({terms}) THEN {uncast} END"


def _is_uncast(column: Column, uncast: str, dialect: str) -> str:
    word = "JSON_VALUE" if dialect == "bigquery" else "json_extract_string"
    return f"{word}({uncast}, '$.{column.name}') IS NOT NULL"


def too_many_bad_rows(bad: int, read: int, limits: BadRows) -> str | None:
    """Why the breaker trips for a delivery; None where it doesn't."""
    if limits.max_rows is not None and bad > limits.max_rows:
        return f"{bad} of {read} rows break blocking rules, more than maxRows {limits.max_rows} allows"
    if 100 * bad > limits.max_percent * read:
        return f"{bad} of {read} rows break blocking rules, more than maxPercent {limits.max_percent:g} allows"
    return None


_TRIPPED = re.compile(r"(\d+ of \d+ rows) break blocking rules, more than (max\w+) (\S+) allows")


def breaker_tripped(reason: str) -> tuple[str, str] | None:
    """What was found and what is allowed, where a refusal's reason is that of the breaker; else None."""
    match = _TRIPPED.fullmatch(reason)
    return None if match is None else (f"{match[1]} break blocking rules", f"{match[2]} {match[3]}")
