"""CSV files as texts: which columns they have, and how the engine reads them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from dataops_platform.contracts.file_formats import FileReading
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.ingestion.columns import beyond
from dataops_platform.warehouse.names import literal, quote


def texts(
    connection: duckdb.DuckDBPyConnection, table: Table, reading: FileReading, source: Path, shown: str
) -> tuple[Mapping[str, str], str]:
    """Column → SQL of its text, beyond the contract's too, and the SQL of the rows.

    An empty field is null, in quotes or not.

    Nothing is guessed: a file that isn't as the contract says is refused by the engine, at the line where it isn't.

    Raises:
        DataRefused: the header hasn't the contract's columns, or others than its policy allows.
    """
    names = _header(table, reading, source, shown) if reading.header else [column.name for column in table.columns]
    listed = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    rows = (
        f"read_csv({literal(str(source))}, auto_detect = false, header = {str(reading.header).lower()},"
        f" delim = {literal(reading.delimiter)}, quote = {literal(reading.quote)}, escape = {literal(reading.escape)},"
        f" columns = {{{listed}}}, hive_partitioning = false, compression = 'none')"
    )
    return {column.name: "CAST(NULL AS VARCHAR)" for column in table.columns} | {n: quote(n) for n in names}, rows


def _header(table: Table, reading: FileReading, source: Path, shown: str) -> Sequence[str]:
    escape = reading.escape if reading.escape != reading.quote else None
    try:
        with source.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(
                file,
                delimiter=reading.delimiter,
                quotechar=reading.quote or None,
                escapechar=escape or None,
                quoting=csv.QUOTE_MINIMAL if reading.quote else csv.QUOTE_NONE,
                strict=True,
            )
            names = next(lines, [])
    except csv.Error as error:
        raise DataRefused(f"{shown}: its first line can't be read: {error}") from error
    if not names:
        raise DataRefused(f"{shown}: the file is empty; one without rows has a header")
    other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    hint = f" Its delimiter may be {other!r}: say so with `delimiter`." if other else ""
    twice = [f"column {name!r} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    beyond(table, names, shown, twice, hint)
    return names
