"""Looking at delivered parquet files before loading: are they readable, and do they fit the contract?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from dataops_platform.contracts.file_formats import ROW_NUMBER
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.warehouse.delivered import UNCHANGED, Beyond, Since, judge, misfit
from dataops_platform.warehouse.loading import is_json, uncast_now
from dataops_platform.warehouse.names import UNCAST, literal, quote

FileSchema = tuple[tuple[str, str], ...]
"""Top-level columns of a file: (name, DuckDB type), in file order; INT96 for timestamps of that type.

A decimal of more than 38 digits is one here, though the engine reads a double.
"""

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_DIGITS = 38
"""Of a decimal, at most; a contract can't declare one of more."""


def file_list(paths: Iterable[str]) -> str:
    """Paths as an SQL list."""
    return f"[{', '.join(map(literal, paths))}]"


def _schemas(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, FileSchema]:
    rows = connection.execute(
        "SELECT file_name, name, CASE WHEN type = 'INT96' THEN type"
        " WHEN duckdb_type = 'DOUBLE' AND precision IS NOT NULL THEN format('DECIMAL({},{})', precision, scale)"
        " ELSE duckdb_type END, num_children"
        f" FROM parquet_schema({file_list(paths)})"
    ).fetchall()
    schemas: dict[str, list[tuple[str, str]]] = {path: [] for path in paths}
    pending: dict[str, int] = {}
    for file, name, kind, children in rows:
        if file not in pending:  # the root; its children are the columns
            pending[file] = 0
            continue
        if pending[file]:  # inside a nested column
            pending[file] += (children or 0) - 1
            continue
        schemas[file].append((name, kind))
        pending[file] = children or 0
    return {path: tuple(columns) for path, columns in schemas.items()}


def inspect(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[str]
) -> tuple[dict[str, FileSchema], dict[str, str]]:
    """Schemas of all readable files, and the reason for each file that is not readable.

    One statement for all files; only when that fails is each looked at by itself to find the culprit.
    """
    if not paths:
        return {}, {}
    try:
        return _schemas(connection, paths), {}
    except duckdb.Error:
        schemas: dict[str, FileSchema] = {}
        unreadable: dict[str, str] = {}
        for path in paths:
            try:
                schemas |= _schemas(connection, [path])
            except duckdb.Error as error:
                unreadable[path] = explain_unreadable(error)
        return schemas, unreadable


def explain_unreadable(error: duckdb.Error) -> str:
    """Why the engine can't read a file, in a few words."""
    text = str(error)
    if "No files found" in text or "No such file" in text:
        return "the object is gone from the lake"
    if "No magic bytes" in text or "too small" in text:
        return "not a parquet file, or cut off at the end"
    # What is quoted of the file is shown nowhere: it may be confidential.
    if "Invalid JSON found" in text:
        return (
            "it says of a column that it is JSON, and a text there is none. Write the column as plain text: then the"
            " rows with such texts go to quarantine"
        )
    if "Invalid string encoding" in text:
        return "a text in it isn't UTF-8, which parquet wants. Write it again, with texts in UTF-8"
    said = " ".join(text.splitlines()[0].split()).rstrip(".?")
    if _GIBBERISH.search(said):
        said = "its structure can't be read"
    return f"a damaged parquet file: {said}. Write it again, and deliver that"


_GIBBERISH = re.compile(r"INTERNAL|Out of Memory|TProtocol|what type|TType|thrift|[\x00-\x1f]")
"""What the engine's libraries say of bytes that aren't what they look for; nobody is helped by that."""


ENGINE_LOST = (duckdb.InternalException, duckdb.FatalException)
"""After these, no connection of this process to the same database is of any use. Few damages of a file raise them."""


def damaged(table: Table, schemas: Mapping[str, FileSchema]) -> dict[str, str]:
    """Path → why its rows can't be read, of files whose footers can. Reads them whole: for when a load has failed.

    Each is read by an engine of its own, which it may break. Nothing is known where it is the machine that can't read,
    out of file handles, say: that passes.
    """
    found: dict[str, str] = {}
    for path, schema in schemas.items():
        try:
            with duckdb.connect() as connection:
                connection.execute(f"SELECT bit_xor(hash(p)) FROM {relation(table, {path: schema})} AS p").fetchall()
        except duckdb.IOException as error:
            if "Could not read enough bytes" not in str(error):  # a page that would end behind the file
                return {}
            found[path] = explain_unreadable(error)
        except duckdb.Error as error:
            if _reader_gave_up(error) or isinstance(error, (duckdb.InvalidInputException, *ENGINE_LOST)):
                found[path] = explain_unreadable(error)
    return found


_NO_PAGE = re.compile(r"failed to allocate data of size (\d{2,}\.\d GiB|[\d.]+ [TPE]iB)")
"""More than a page of parquet can have, which says its size in 32 bits."""


def _reader_gave_up(error: duckdb.Error) -> bool:
    """Whether it is the parquet reader's own error, which come as the bare class, or a page of impossible size."""
    return type(error) is duckdb.Error or _NO_PAGE.search(str(error)) is not None


_ROW_ERRORS = (duckdb.DataError,)
_FILE_ERRORS = (duckdb.IOException, duckdb.InvalidInputException)


def data_error(error: duckdb.Error) -> str | None:
    """What is wrong with the data that made a load fail; None when the failure is not the data's."""
    if isinstance(error, _ROW_ERRORS):
        return "a blocking rule can't be computed for a row: " + " ".join(str(error).split("\n\nLINE")[0].split())
    if "No space left" not in str(error) and (_reader_gave_up(error) or isinstance(error, _FILE_ERRORS)):
        return explain_unreadable(error)
    return None


@dataclass(frozen=True, slots=True)
class _Fit:
    expression: str | None
    accepts: str


def _fit(name: str, wanted: FieldType, actual: str) -> _Fit:
    """How a file's column becomes the contract's: an expression without loss, or None where there is none.

    Its value is null where the column's can't be the contract's; `_uncast` has the text of it.
    """
    column = quote(name)
    cast = _Fit(f"CAST({column} AS {wanted.duckdb})", "")
    same = _Fit(column, "")

    if actual == '"NULL"':  # no row has a value: what writers make of it where nobody says the type
        return cast
    match wanted.kind:
        case Kind.STRING:
            return same if actual == "VARCHAR" else cast if actual.startswith("ENUM") else _Fit(None, "VARCHAR")
        case Kind.INTEGER:
            return same if actual == "BIGINT" else cast if actual in _INTEGERS else _Fit(None, "an integer type")
        case Kind.NUMBER:
            small = actual in {"FLOAT", "TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"}
            return (
                same
                if actual == "DOUBLE"
                else cast
                if small
                else _Fit(None, "DOUBLE, FLOAT or an integer up to 32 bit")
            )
        case Kind.DECIMAL:
            match = _DECIMAL.fullmatch(actual)
            whole = (wanted.precision or 0) - (wanted.scale or 0)
            fits = match and int(match[2]) <= (wanted.scale or 0) and int(match[1]) - int(match[2]) <= whole
            fits = fits or (actual in {"INTEGER", "SMALLINT", "TINYINT"} and whole >= 10)
            fits = fits or (actual == "BIGINT" and whole >= 19)
            return cast if fits else _Fit(None, f"{wanted.duckdb} or a smaller decimal")
        case Kind.BOOLEAN:
            return same if actual == "BOOLEAN" else _Fit(None, "BOOLEAN")
        case Kind.DATE:
            return _within(column, wanted) if actual == "DATE" else _Fit(None, "DATE")
        case Kind.TIMESTAMP:
            if actual == "TIMESTAMPTZ_NS":
                return _Fit(f"make_timestamptz({_microseconds(column)})", "")
            if actual == "INT96":  # in UTC, as the session is
                return _within(f"CAST({column} AS TIMESTAMPTZ)", wanted)
            if actual == "TIMESTAMP WITH TIME ZONE":
                return _within(column, wanted)
            return _Fit(None, "a timestamp with time zone (UTC-adjusted), or INT96")
        case Kind.DATETIME:
            if actual == "TIMESTAMP_NS":
                return _Fit(f"make_timestamp({_microseconds(column)})", "")
            if actual in {"TIMESTAMP", "INT96"}:
                return _within(column, wanted)
            if actual in {"TIMESTAMP_MS", "TIMESTAMP_S", "DATE"}:  # a date may be beyond every timestamp
                return _within(f"TRY_CAST({column} AS TIMESTAMP)", wanted)
            return _Fit(None, "a timestamp without time zone")
        case Kind.TIME:
            return same if actual == "TIME" else _Fit(None, "TIME")
        case Kind.JSON:
            text = _json_text(name, actual)
            if text is None:
                return _Fit(None, "JSON text, a struct, a list or a map")
            return _Fit(f"CASE WHEN {is_json(text, 'duckdb')} THEN CAST({text} AS JSON) END", "")


_WITH_YEARS = (Kind.DATE, Kind.TIMESTAMP, Kind.DATETIME)
_RANGE = ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00")
"""Of dates and instants: others (infinity is one) no other engine holds, nor does Python."""


def _within(value: str, wanted: FieldType) -> _Fit:
    first, last = (f"CAST('{end}' AS {wanted.duckdb})" for end in _RANGE)
    return _Fit(f"CASE WHEN {value} BETWEEN {first} AND {last} THEN {value} END", "")


def _microseconds(column: str) -> str:
    """SQL of the whole microseconds since 1970 of a timestamp of nanoseconds: the engine's cast rounds, also up.

    Its division goes towards 1970, so before that one more is to be taken. Infinities have none.
    """
    return f"epoch_ns({column}) // 1000 - CAST(epoch_ns({column}) % 1000 < 0 AS INTEGER)"


def _json_text(name: str, actual: str) -> str | None:
    """SQL of the text of a value that is to be JSON; None where a file's column can't be.

    Files may say that a text is JSON which isn't, and structs may hold NaN.
    """
    if actual == "VARCHAR":
        return quote(name)
    if actual == "JSON":
        return f"CAST({quote(name)} AS VARCHAR)"
    return f"CAST(to_json({quote(name)}) AS VARCHAR)" if _is_nested(actual) else None


def _is_nested(actual: str) -> bool:
    return actual.endswith("[]") or actual.startswith(("STRUCT", "MAP"))


def type_of(actual: str) -> FieldType | None:
    """The type of the column that a DuckDB type becomes; None: there is none."""
    if match := _DECIMAL.fullmatch(actual):
        return FieldType(Kind.DECIMAL, int(match[1]), int(match[2])) if int(match[1]) <= _DIGITS else None
    if _is_nested(actual):
        return FieldType(Kind.JSON)
    kind = Kind.STRING if actual.startswith("ENUM") else Kind.INTEGER if actual in _INTEGERS else _KINDS.get(actual)
    return None if kind is None else FieldType(kind)


_KINDS = {
    "VARCHAR": Kind.STRING,
    "DOUBLE": Kind.NUMBER,
    "FLOAT": Kind.NUMBER,
    "BOOLEAN": Kind.BOOLEAN,
    "DATE": Kind.DATE,
    "INT96": Kind.TIMESTAMP,
    "TIMESTAMPTZ": Kind.TIMESTAMP,
    "TIMESTAMPTZ_NS": Kind.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMP,
    "TIMESTAMP": Kind.DATETIME,
    "TIMESTAMP_S": Kind.DATETIME,
    "TIMESTAMP_MS": Kind.DATETIME,
    "TIMESTAMP_NS": Kind.DATETIME,
    "TIME": Kind.TIME,
    "JSON": Kind.JSON,
}


def misfits(table: Table, schema: FileSchema, earlier: Since = UNCHANGED) -> tuple[list[str], Beyond]:
    """What keeps a file from being loaded under the contract, nothing when it fits; and what it has beyond it.

    Args:
        earlier: see `delivered.judge`.
    """
    actual = dict(schema)
    lines, beyond = judge(table, actual, type_of, earlier)
    lines += [
        f"column {name!r} is what DuckDB calls the number of a row in its file: rename it in the data"
        for name in actual
        if name.lower() == ROW_NUMBER
    ]
    for column in table.columns:
        if column.name in actual:
            fit = _fit(column.name, column.type, actual[column.name])
            if fit.expression is None:
                found = actual[column.name]
                lines.append(misfit(column, found, fit.accepts, type_of(found)))
    return lines, beyond


def relation(table: Table, schemas: dict[str, FileSchema], columns: Sequence[str] | None = None) -> str:
    """A subquery over all files: columns of the contract, `_uncast`, `_dataops_path` and `_position` (row number).

    Files of the same schema share one scan; the contract's types are cast to where a file's are narrower. Only the
    files' content counts: without `hive_partitioning = false`, a column `created_at` would be read from the lake's
    keys (`created_at=…/`) instead.
    """
    names = [column.name for column in table.columns if columns is None or column.name in columns]
    types = {column.name: column.type for column in table.columns}
    groups: dict[FileSchema, list[str]] = {}
    for path, schema in schemas.items():
        groups.setdefault(tuple(sorted(schema)), []).append(path)
    selects = []
    for schema, paths in groups.items():
        actual = dict(schema)
        fits = [
            _fit(name, types[name], actual[name]).expression
            if name in actual
            else f"CAST(NULL AS {types[name].duckdb})"
            for name in names
        ]
        listed = "".join(f"{fit} AS {quote(name)}, " for fit, name in zip(fits, names, strict=True))
        listed += f"{_uncast(table, actual)} AS {UNCAST}, "
        selects.append(
            f"SELECT {listed}_dataops_path, {ROW_NUMBER} AS _position FROM read_parquet({file_list(paths)},"
            " filename = '_dataops_path', file_row_number = true, hive_partitioning = false)"
        )
    return "(" + " UNION ALL ".join(selects) + ")"


def _uncast(table: Table, actual: Mapping[str, str]) -> str:
    """SQL of the texts of a file's row that can't be cast; null where there are none."""
    json = [column.name for column in table.columns if column.type.kind is Kind.JSON and column.name in actual]
    texts = {name: text for name in json if (text := _json_text(name, actual[name])) is not None}
    known = uncast_now(table, UNCAST if UNCAST in actual else None, texts, "duckdb")
    far, entries = [], [f"substr({known}, 2, length({known}) - 2)"]
    for column in table.columns:
        if column.name in actual and column.type.kind in _WITH_YEARS:
            value, fit = quote(column.name), _fit(column.name, column.type, actual[column.name]).expression
            far.append(f"({value} IS NOT NULL AND {fit} IS NULL)")
            entries.append(f"CASE WHEN {far[-1]} THEN '\"{column.name}\":\"' || CAST({value} AS VARCHAR) || '\"' END")
    if not far:
        return known
    # For nearly every row all there is to do is to compare.
    return f"CASE WHEN {' OR '.join(far)} THEN '{{' || concat_ws(',', {', '.join(entries)}) || '}}' ELSE {known} END"
