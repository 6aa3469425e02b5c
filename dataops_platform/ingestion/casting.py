r"""Texts become the contract's types, in bulk, without loss; what can't become one is kept as it is written.

A value that can't be cast is not an error of its file. The delivered parquet holds null in its place, and all such
texts of a row in one more column, `_uncast`; the load sends the row to quarantine with them. So the lake has all that
was delivered, in types, and whoever reads it sees what was wrong.

A file without such values, nearly every one, is read once and has no such column: the first one found stops the
statement, and only then is the file read again.

Texts that count (also in docs/formats.md), besides the plain form of each type: integers with a point or an exponent
that change nothing (`7.0`, `1e3`), instants with any offset, or none for UTC, dates with a time of midnight. What would
be rounded or cut off doesn't: `1.005` as DECIMAL(10,2), `1.5` as an integer, a wall-clock time with an offset.

The engine's own cast takes more, and passes over what it doesn't know: the zone of a wall-clock time, whatever stands
behind a time of day. So dates and times are those in the forms below, of the years 1 to 9999, which every engine holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.warehouse.loading import is_json
from dataops_platform.warehouse.names import UNCAST, literal, quote

_FOUND = "dataops: a value can't be cast"

_DAY = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
_CLOCK = r"([01]?\d|2[0-3]):[0-5]?\d(:[0-5]?\d(\.\d{0,6}0*)?)?"
_OFFSET = r"(Z| UTC|[+-](0\d|1[0-5])(:?[0-5]\d)?)"
_FORMS = {
    Kind.DATE: rf"\s*{_DAY}([ T]0?0:0?0(:0?0(\.0*)?)?(Z| UTC|[+-]00(:?00)?)?)?\s*",
    Kind.DATETIME: rf"\s*{_DAY}([ T]{_CLOCK})?\s*",
    Kind.TIMESTAMP: rf"\s*{_DAY}([ T]{_CLOCK}{_OFFSET}?)?\s*",
    Kind.TIME: _CLOCK,
}
"""Of dates and times: what is written in another form isn't one, whatever the engine makes of it."""
_RANGE = ("0001-01-01", "9999-12-31 23:59:59.999999")


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
    value = _value(text, type_)
    match type_.kind:
        case Kind.STRING:
            return "FALSE"
        case Kind.JSON:
            return f"({text} IS NOT NULL AND NOT ({is_json(text, 'duckdb')}))"
        case Kind.INTEGER | Kind.DECIMAL:
            more = f" OR {_digits_lost(text, type_.scale or 0)}"
        case Kind.NUMBER:  # binary floating point rounds by its nature, but not to infinity
            more = f" OR isinf({value}) AND NOT regexp_matches({text}, '(?i)inf')"
        case Kind.BOOLEAN:
            more = ""
        case kind:
            more = f" OR NOT regexp_full_match({text}, {literal(_FORMS[kind])})"
            if kind is not Kind.TIME:
                first, last = (f"CAST({literal(end)} AS {type_.duckdb})" for end in _RANGE)
                # Of nearly all texts the year tells that they are in the range, without one more cast.
                more += rf" OR regexp_matches({text}, '^\s*(000[01]|9999)') AND {value} NOT BETWEEN {first} AND {last}"
    return f"({text} IS NOT NULL AND ({value} IS NULL{more}))"


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
