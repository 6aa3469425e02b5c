r"""Texts become the contract's types, in bulk, without loss; what can't become one is kept as it is written.

A value that can't be cast is not an error of its file. The delivered parquet holds null in its place, and all such
texts of a row in one more column, `_uncast`; the load sends the row to quarantine with them. So the lake has all that
was delivered, in types, and whoever reads it sees what was wrong.

A file without such values, nearly every one, is read once and has no such column: the first one found stops the
statement, and only then is the file read again.

Texts that count (also in docs/formats.md), besides the plain form of each type: integers with a point or an exponent
that change nothing (`7.0`, `1e3`), instants with any offset, or none for UTC, dates with a time of midnight. What would
be rounded or cut off doesn't: `1.005` as DECIMAL(10,2), `1.5` as an integer, a wall-clock time with an offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.warehouse.names import UNCAST, literal, quote

_FOUND = "dataops: a value can't be cast"


def write_parquet(
    connection: duckdb.DuckDBPyConnection, table: Table, texts: Mapping[str, str], source: str, target: Path
) -> None:
    """Write a table's columns as parquet, in the source's order; those beyond the contract as they are.

    Args:
        texts: column → SQL of its text; null where there is no value.
        source: SQL of the rows.

    Raises:
        duckdb.Error: the source can't be read, or the target not written.
    """
    own = {c.name for c in table.columns}
    more = "".join(f", {text} AS {quote(name)}" for name, text in texts.items() if name not in own)
    columns = ", ".join(f"{_or_stop(texts[c.name], c.type)} AS {quote(c.name)}" for c in table.columns) + more
    try:
        _copy(connection, columns, source, target)
    except duckdb.InvalidInputException as error:
        if _FOUND not in str(error):
            raise
        columns = ", ".join(f"{_or_null(texts[c.name], c.type)} AS {quote(c.name)}" for c in table.columns) + more
        _copy(connection, f"{columns}, {_uncast(table, texts)} AS {UNCAST}", source, target)


def _copy(connection: duckdb.DuckDBPyConnection, columns: str, source: str, target: Path) -> None:
    connection.execute(f"COPY (SELECT {columns} FROM {source}) TO {literal(str(target))} (FORMAT parquet)")


def _or_stop(text: str, type_: FieldType) -> str:
    value = _value(text, type_)
    return f"CASE WHEN {_lost(text, type_)} THEN error({literal(_FOUND)}) ELSE {value} END"


def _or_null(text: str, type_: FieldType) -> str:
    return f"CASE WHEN {_lost(text, type_)} THEN NULL ELSE {_value(text, type_)} END"


def _uncast(table: Table, texts: Mapping[str, str]) -> str:
    """The texts of a row that can't be cast, as a JSON object by column; null for nearly every row."""
    entries = ", ".join(
        f"CASE WHEN {_lost(texts[c.name], c.type)} THEN {{'k': {literal(c.name)}, 'v': {texts[c.name]}}} END"
        for c in table.columns
    )
    found = f"list_filter([{entries}], lambda e: e IS NOT NULL)"
    return f"CASE WHEN len({found}) > 0 THEN CAST(to_json(map_from_entries({found})) AS VARCHAR) END"


def _value(text: str, type_: FieldType) -> str:
    """The value of a text, null where it has none. JSON stays text: every engine reads that."""
    match type_.kind:
        case Kind.STRING | Kind.JSON:
            return text
        case _:
            return f"TRY_CAST({text} AS {type_.duckdb})"


def _lost(text: str, type_: FieldType) -> str:
    """True for a text that the type can't hold as it is, false for all others."""
    match type_.kind:
        case Kind.STRING:
            return "FALSE"
        case Kind.JSON:
            return f"({text} IS NOT NULL AND NOT json_valid({text}))"
    cut = _cut_off(text, type_)
    unread = f"{_value(text, type_)} IS NULL"
    return f"({text} IS NOT NULL AND ({unread}{f' OR {cut}' if cut else ''}))"


def _cut_off(text: str, type_: FieldType) -> str | None:
    """True for a text of which the engine would round or drop something; None where it never does.

    Binary floating point rounds by its nature.
    """
    match type_.kind:
        case Kind.INTEGER | Kind.DECIMAL:
            return _digits_lost(text, type_.scale or 0)
        case Kind.DATE:  # a time of day other than midnight
            return f"regexp_matches({text}, '[ T][0-9]*[1-9][0-9]*:|:[0-9.]*[1-9]')"
        case Kind.DATETIME:  # less than a microsecond, or an offset, which would be dropped
            return rf"regexp_matches({text}, '\.\d{{6}}\d*[1-9]|:\d\d(\.\d*)?\s*([Zz]|[+-]\d)')"
        case Kind.TIMESTAMP | Kind.TIME:
            return rf"regexp_matches({text}, '\.\d{{6}}\d*[1-9]')"
        case _:
            return None


def _digits_lost(text: str, scale: int) -> str:
    """Whether a number's text has a digit other than 0 further right than `scale` decimals."""
    plain = rf"regexp_matches({text}, '^[^eExX]*\.(\d_?){{{scale}}}[\d_]*[1-9]')"
    # 1.005e3: the exponent moves the point. The last digit that isn't 0 is `len(decimals) - zeros at the end` places
    # behind the point of the mantissa.
    mantissa = f"regexp_replace(regexp_extract({text}, '^([^eE]*)[eE]', 1), '[^0-9.]', '', 'g')"
    decimals = f"length(regexp_extract({mantissa}, '[.](.*)$', 1))"
    digits = f"replace({mantissa}, '.', '')"
    zeros = f"(length({digits}) - length(rtrim({digits}, '0')))"
    exponent = rf"TRY_CAST(regexp_extract({text}, '[eE]([+-]?\d+)\s*$', 1) AS BIGINT)"
    shifted = f"rtrim({digits}, '0') <> '' AND {decimals} - {zeros} - {exponent} > {scale}"
    return rf"CASE WHEN regexp_matches({text}, '^[^xX]*[eE][+-]?\d+\s*$') THEN {shifted} ELSE {plain} END"
