"""JSON lines as texts: one object per line; a key that a line doesn't have is null.

A number's text is as it is written. The engine's parser makes doubles of numbers, and has no way to the text of one; so
in lines with a number that a double shows in another way, numbers are put in quotes before they are parsed.
"""

from __future__ import annotations

import json
import shutil
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path

import duckdb

from dataops_platform.contracts.file_formats import FileReading
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion.columns import beyond
from dataops_platform.warehouse.names import literal

_LONGEST = 32 << 20
"""Bytes of a line that the engine holds."""

# Numbers with an exponent, with 16 digits or more, that end with zeros, below 0.001, or minus zero. Some texts look so
# too: then the line takes longer, that is all.
_TRICKY = r"[:\s]-?([0-9][0-9.]*[eE]|[0-9.]{16}|[0-9]+\.[0-9]+0[,}\s]|0\.000|0[,}\s])"
# What is in quotes stays; a number gets a control character on both sides, which no JSON has, and then quotes for them.
_TOKEN = r'("(?:[^"\\]|\\.)*")|(-?[0-9][-+0-9.eE]*)'
_QUOTED = (
    rf"replace(replace(regexp_replace(json, {literal(_TOKEN)}, '\1' || chr(1) || '\2' || chr(1), 'g'),"
    " chr(1) || chr(1), ''), chr(1), '\"')"
)
# What the engine's parser takes beyond JSON, outside of quotes: NaN, infinities, and a comma behind the last item.
_BEYOND = r'^([^"]|"([^"\\]|\\.)*")*([\[:,]\s*-?(?i:nan|inf)|,\s*[]}])'


def texts(
    connection: duckdb.DuckDBPyConnection, table: Table, reading: FileReading, source: Path, shown: str, scratch: Path
) -> tuple[Mapping[str, str], str]:
    """Column → SQL of its text, beyond the contract's too, and the SQL of the rows.

    Args:
        scratch: a file that can be written, for the source without its mark of an encoding.

    Raises:
        DataRefused: a line is no object, has a key twice, or one that the contract's policy doesn't allow.
    """
    if _without_mark(source, scratch):
        source = scratch
    rows = f"read_json_objects({literal(str(source))}, format = 'newline_delimited', compression = 'none')"
    keys = (
        "CASE WHEN json_type(json) <> 'OBJECT' THEN error('no object')"
        f" WHEN regexp_matches(json, {literal(_BEYOND)}) THEN error('no JSON') ELSE json_keys(json) END"
    )
    once = "CASE WHEN len(list_distinct(keys)) = len(keys) THEN keys ELSE error('a key twice') END"
    try:
        found = connection.execute(
            f"SELECT DISTINCT unnest({once}) FROM (SELECT DISTINCT {keys} AS keys FROM {rows}) ORDER BY 1"
        ).fetchall()
    except duckdb.Error as error:
        if (fault := _fault(source)) is None:
            raise
        raise DataRefused(f"{shown}: can't be read as jsonl: {fault}") from error
    # The engine passes over a file of a single byte, as if it were empty.
    if not found and (fault := _fault(source)) is not None:
        raise DataRefused(f"{shown}: can't be read as jsonl: {fault}")
    known = [column.name for column in table.columns]
    # A key that no line has is null in all of them, as it is in some.
    more = beyond(table, [*known, *(key for (key,) in found if key not in known)], shown)
    names = [*known, *more]
    paths = f"[{', '.join(literal(_pointer(name)) for name in names)}]"
    tricky = f"regexp_matches(json, {literal(_TRICKY)})"
    rows = (
        f"(SELECT json, json_extract_string(json, {paths}) AS plain,"
        f" CASE WHEN {tricky} THEN json_extract_string({_QUOTED}, {paths}) END AS exact,"
        f" CASE WHEN {tricky} THEN json_type(json, {paths}) END AS types FROM {rows})"
    )
    kinds = {column.name: column.type.kind for column in table.columns}
    return {name: _text(place, name, kinds.get(name)) for place, name in enumerate(names, 1)}, rows


def _text(place: int, name: str, kind: Kind | None) -> str:
    """The text of a value: what is between the quotes, or the value as it is written."""
    if kind is Kind.JSON:
        return f"CAST(nullif(json_extract(json, {literal(_pointer(name))}), 'null') AS VARCHAR)"
    return f"CASE WHEN types[{place}] NOT IN ('OBJECT', 'ARRAY') THEN exact[{place}] ELSE plain[{place}] END"


def _pointer(name: str) -> str:
    """RFC 6901: a path can't have every key."""
    return f"/{name.replace('~', '~0').replace('/', '~1')}"


def _without_mark(source: Path, target: Path) -> bool:
    """Write what stands behind a byte order mark, which the engine takes for an error, if there is one."""
    with source.open("rb") as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            return False
        with target.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
    return True


def _no_value(constant: str) -> None:
    raise ValueError(f"it has no {constant}")


def _fault(source: Path) -> str | None:
    """The first line that can't be read, and why; the engine counts lines in another way."""
    with source.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
            if line.isspace():
                continue
            if len(line) > _LONGEST:
                return f"line {number} is longer than {_LONGEST >> 20} MB"
            try:
                made = json.loads(
                    line.decode().rstrip(),
                    object_pairs_hook=tuple,
                    parse_int=str,
                    parse_float=str,
                    parse_constant=_no_value,
                )
                json.dumps(made, ensure_ascii=False).encode()  # not so with half a character
            except RecursionError:
                continue
            except UnicodeDecodeError:
                return f"line {number} isn't UTF-8: say what it is with `encoding`"
            except UnicodeError as error:
                return f"line {number} isn't UTF-8: {error}"
            except json.JSONDecodeError as error:
                return f"line {number} isn't JSON: {error.msg}, at character {error.pos + 1}"
            except ValueError as error:
                return f"line {number} isn't JSON: {error}"
            if not isinstance(made, tuple):
                return f"line {number} isn't an object in braces"
            keys = [key for key, _ in made]
            if twice := next((key for at, key in enumerate(keys) if key in keys[:at]), None):
                return f"line {number} has key {twice!r} twice"
    return None
