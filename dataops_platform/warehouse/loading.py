"""What loading means on every engine."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

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


def uncast_now(table: Table, uncast: str | None, texts: Mapping[str, str], dialect: str) -> str:
    """SQL of the texts of a row that can't be cast, as JSON; null where there are none.

    Those that were found at delivery, without those of columns that the contract hasn't any more; and texts that were
    delivered as they are for a column of JSON, and are none.

    Args:
        uncast: the column with the texts that were found at delivery; None: there is none.
        texts: column → SQL of its text, of the columns of JSON.
    """
    found = [] if uncast is None else [_still_uncast(table, uncast, dialect)]
    found += [_uncast_json(name, text, dialect) for name, text in texts.items()]
    if not found:
        return f"CAST(NULL AS {'STRING' if dialect == 'bigquery' else 'VARCHAR'})"
    entries = ", ".join(found)
    # Both pass over nulls; column names need no escaping.
    joined = f"ARRAY_TO_STRING([{entries}], ',')" if dialect == "bigquery" else f"concat_ws(',', {entries})"
    return f"'{{' || nullif({joined}, '') || '}}'"


def _still_uncast(table: Table, uncast: str, dialect: str) -> str:
    """What stands between the braces of the texts that were found at delivery."""
    terms = " OR ".join(_is_uncast(column, uncast, dialect) for column in table.columns)
    return f"CASE WHEN {uncast} IS NOT NULL AND ({terms}) THEN substr({uncast}, 2, length({uncast}) - 2) END"


def _uncast_json(name: str, text: str, dialect: str) -> str:
    written = f"TO_JSON_STRING({text})" if dialect == "bigquery" else f"CAST(to_json({text}) AS VARCHAR)"
    wrong = f"{text} IS NOT NULL AND NOT ({is_json(text, dialect)})"
    return f"CASE WHEN {wrong} THEN '\"{name}\":' || {written} END"


def is_json(text: str, dialect: str) -> str:
    """SQL that is true for a text that is JSON, and not for others."""
    if dialect == "bigquery":
        return f"SAFE.PARSE_JSON({text}, wide_number_mode => 'round') IS NOT NULL"
    # The engine's parser also takes NaN, infinities, and a comma behind the last item.
    beyond = r"(^|[\[:,])\s*[-+]?(?i:nan|inf)|,\s*[]}]"
    outside = rf"""regexp_replace({text}, '"([^"\\]|\\.)*"', '""', 'g')"""
    # CASE, since both sides of an AND are computed for all rows; few have such, and only in strings.
    strict = (
        f"CASE WHEN regexp_matches({text}, '{beyond}') THEN NOT regexp_matches({outside}, '{beyond}') ELSE TRUE END"
    )
    return f"json_valid({text}) AND {strict}"


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
