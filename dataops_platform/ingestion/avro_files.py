"""Avro files: read in blocks by fastavro, whose reader is compiled.

Of the readers there are, DuckDB's is an extension that would be fetched when a file arrives, and none of the others
that are compiled reads a file piece by piece. Values have types here; the
engine makes the contract's of them, as it does of texts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from fastavro.read import LOGICAL_READERS

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.ingestion.casting import write_parquet
from dataops_platform.ingestion.columns import beyond
from dataops_platform.warehouse.names import literal, quote

_AT_ONCE = 20_000
"""Records held in memory."""

_Reader = Callable[[Any, Any, Any], Any]


def _kept(read: _Reader) -> _Reader:
    """A reader of a logical type that keeps what Python has no value for, with its unit; the engine has none either."""

    def kept(data: Any, written: Any, asked: Any) -> Any:
        try:
            return read(data, written, asked)
        except (ValueError, ArithmeticError):
            return f"{data} {written['logicalType']}"

    return kept


def _of_a_day(read: _Reader) -> _Reader:
    """A reader of times that takes none before midnight: fastavro makes another time of it, without a word."""

    def checked(data: Any, written: Any, asked: Any) -> Any:
        if data < 0:
            raise ValueError(data)
        return read(data, written, asked)

    return checked


def _decimal(data: bytes, written: Any, asked: Any) -> Decimal:
    """All digits: fastavro rounds to the precision of the schema, whatever the file holds."""
    return Decimal(f"{int.from_bytes(data, 'big', signed=True)}e-{written.get('scale', 0)}")


# fastavro's own place for it, there is one for the whole process: one value would end the reading of its file.
LOGICAL_READERS.update({kind: _of_a_day(LOGICAL_READERS[kind]) for kind in ("int-time-millis", "long-time-micros")})
LOGICAL_READERS.update({kind: _kept(read) for kind, read in LOGICAL_READERS.items()})
LOGICAL_READERS.update({f"{of}-decimal": _decimal for of in ("bytes", "fixed")})
LOGICAL_READERS["string-uuid"] = lambda data, written, asked: data  # a text, as it is written


def to_parquet(table: Table, source: Path, target: Path, shown: str) -> None:
    """Read an Avro file by the contract's types; see `reading.to_parquet`."""
    texts = target.with_name(f"{target.name}.texts")
    try:
        names = _write_texts(table, source, texts, shown)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            rows = f"read_parquet({literal(str(texts))}, hive_partitioning = false)"
            write_parquet(connection, table, {name: quote(name) for name in names}, rows, target)
    except (duckdb.IOException, OSError) as error:
        if isinstance(error, OSError) and error.filename == str(source):
            raise
        raise ConfigError(
            f"the folder {target.parent} can't be written: {str(error).splitlines()[0]}. Check its permissions and the"
            " free space on its disk."
        ) from error
    finally:
        texts.unlink(missing_ok=True)


def _write_texts(table: Table, source: Path, target: Path, shown: str) -> list[str]:
    """Every value as its text, in the contract's columns, then those that the file has beyond them; their names."""
    with source.open("rb") as file:
        fields, blocks = _blocks(file, shown)
        names = [column.name for column in table.columns]
        names += beyond(table, fields, shown)
        schema = pa.schema([(name, pa.string()) for name in names])
        with pq.ParquetWriter(target, schema) as writer:
            for records in blocks:
                columns = [_texts(shown, name, [record.get(name) for record in records]) for name in names]
                writer.write_table(pa.table(columns, schema=schema))
    return names


def _texts(shown: str, name: str, values: list[Any]) -> pa.Array:
    """A column's values as texts.

    Raises:
        DataRefused: a value is bytes that are no text: no type of a contract holds such.
    """
    try:
        return pa.array([_text(value) for value in values], pa.string())
    except UnicodeError as error:
        raise DataRefused(f"{shown}: column {name!r} has bytes that are no text (UTF-8): {error}") from error


def _blocks(file: Any, shown: str) -> tuple[list[str], Iterator[list[Any]]]:
    """The names of a file's fields, and its records, some at a time."""
    with _said(shown):
        reader = fastavro.reader(file)
        fields = [field["name"] for field in _record(reader.writer_schema)]

    def blocks() -> Iterator[list[Any]]:
        while True:
            with _said(shown):
                records = list(itertools.islice(reader, _AT_ONCE))
            if not records:
                return
            yield records

    return fields, blocks()


@contextmanager
def _said(shown: str) -> Iterator[None]:
    """What fastavro says of bytes that it can't read."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's; a codec's have no number
            raise
        # fastavro and the codecs' libraries have no class of errors of their own: whatever they raise for these bytes
        # is said of the file, and the other files go on.
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataRefused(
            f"{shown}: not an Avro file, or a damaged one: {said}. Write it again, or name it after its format."
        ) from error


def _record(schema: Any) -> list[dict[str, Any]]:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("its values are no records")
    fields: list[dict[str, Any]] = schema["fields"]
    return fields


def _text(value: Any) -> str | None:
    """A value's text, which has all of it: an instant with its offset, a decimal with all digits."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode()
        case float():
            return repr(value)
        case Decimal():
            return f"{value:f}"
        case datetime() | date() | time():
            return value.isoformat()
        case dict() | list():
            return json.dumps(value, default=_nested)
        case _:
            return str(value)


def _nested(value: Any) -> float | str | None:
    """What JSON has no type for; a decimal is a number in it, as in the other formats."""
    return float(value) if isinstance(value, Decimal) else _text(value)
