"""JSON lines as texts: one object per line; a key that a line doesn't have is null."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import duckdb

from dataops_platform.contracts.file_formats import FileReading
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion.columns import beyond
from dataops_platform.warehouse.names import literal

_NO_OBJECT = "dataops: not an object"


def texts(
    connection: duckdb.DuckDBPyConnection, table: Table, reading: FileReading, source: Path, shown: str, scratch: Path
) -> tuple[Mapping[str, str], str]:
    """Column → SQL of its text, beyond the contract's too, and the SQL of the rows.

    Raises:
        DataRefused: a line is no object, or has a key that the contract's policy doesn't allow.
        duckdb.Error: a line isn't JSON.
    """
    rows = f"read_json_objects({literal(str(source))}, format = 'newline_delimited', compression = 'none')"
    is_object = f"CASE WHEN json_type(json) = 'OBJECT' THEN json ELSE error({literal(_NO_OBJECT)}) END"
    try:
        found = connection.execute(
            f"SELECT DISTINCT unnest(json_keys({is_object})) AS k FROM {rows} ORDER BY 1"
        ).fetchall()
    except duckdb.InvalidInputException as error:
        if _NO_OBJECT not in str(error):
            raise
        raise DataRefused(f"{shown}: can't be read as jsonl: a line isn't an object in braces") from error
    keys = [name for (name,) in found]
    known = [column.name for column in table.columns]
    # A key that no line has is null in all of them, as it is in some.
    more = beyond(table, [*known, *(key for key in keys if key not in known)], shown)
    texts = {column.name: _text(column.name, column.type.kind) for column in table.columns}
    return texts | {name: _text(name, Kind.STRING) for name in more}, rows


def _text(name: str, kind: Kind) -> str:
    """The text of a value: what is between the quotes, or the value as it is written."""
    pointer = name.replace("~", "~0").replace("/", "~1")  # RFC 6901: a path can't have every key
    path = literal(f"/{pointer}")
    if kind is Kind.JSON:
        return f"CAST(nullif(json_extract(json, {path}), 'null') AS VARCHAR)"
    text = f"json_extract_string(json, {path})"
    if kind is Kind.DECIMAL:
        # The engine holds numbers as doubles, of which a decimal may have more digits. The number as it is written is
        # taken from the line, if it is the same one: that key may stand in a nested object too.
        written = f"regexp_extract_all(json, {literal(_NUMBER.format(re.escape(name)))}, 1)"
        same = f"lambda w: TRY_CAST(w AS DOUBLE) = TRY_CAST({text} AS DOUBLE)"
        return (
            f"CASE WHEN json_type(json, {path}) IN ('DOUBLE', 'BIGINT', 'UBIGINT')"
            f" THEN coalesce(list_filter({written}, {same})[1], {text}) ELSE {text} END"
        )
    return text


_NUMBER = r'"{}"\s*:\s*([-+0-9.eE]+)'
