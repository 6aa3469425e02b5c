"""One file of any format becomes a parquet file with the contract's columns: the one reader of all that arrives."""

from __future__ import annotations

import codecs
import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import duckdb

from dataops_platform.contracts.file_formats import COMPRESSED, FileFormat, FileReading
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.ingestion import avro_files, csv_files, json_lines
from dataops_platform.ingestion.casting import write_parquet


def to_parquet(table: Table, reading: FileReading, source: Path, target: Path, shown: str | None = None) -> None:
    """Read a file that isn't parquet by the contract's types, and write it as parquet, its rows in the same order.

    Values that can't be cast become null, and their texts stand in a column `_uncast` (see `casting`).

    Args:
        source: named `….gz` if it is compressed.
        shown: what messages call the file; default: its path.

    Raises:
        DataRefused: the file can't be read, or has other columns than the contract.
        ConfigError: the parquet file can't be written.
    """
    shown = shown or str(source)
    if reading.format is FileFormat.AVRO:
        avro_files.to_parquet(table, source, target, shown)
        return
    with _plain(table, reading, source, target, shown) as plain, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        module = csv_files if reading.format is FileFormat.CSV else json_lines
        scratch = target.with_name(f"{target.name}.rows")
        try:
            texts, rows = module.texts(connection, table, reading, plain, shown, scratch)
            write_parquet(connection, table, texts, rows, target)
        except duckdb.Error as error:
            # One statement reads the source and writes the target: the file it names tells which went wrong.
            if isinstance(error, duckdb.IOException) and str(target) in str(error):
                raise ConfigError(unwritable(target.parent, str(error).splitlines()[0])) from error
            text = csv_files.fault(table, reading, plain, shown, str(error)) if module is csv_files else None
            if text is None:
                # Values are shown nowhere: what the engine quotes of a line may be confidential.
                said = [line.strip() for line in str(error).splitlines() if line.strip()]
                said = [line for line in said if not line.startswith("Original Line")]
                text = " ".join(said[:3]).replace(str(plain), shown).replace(str(scratch), shown)
            raise DataRefused(f"{shown}: can't be read as {reading.format}: {text}") from error
        finally:
            scratch.unlink(missing_ok=True)


def unwritable(folder: Path, reason: str) -> str:
    """What to do about a folder that can't be written."""
    return f"the folder {folder} can't be written: {reason}. Check its permissions and the free space on its disk."


@contextmanager
def _plain(table: Table, reading: FileReading, source: Path, target: Path, shown: str) -> Iterator[Path]:
    """The file as UTF-8 without compression; a copy beside the target where it isn't that already.

    The engine would take a compressed file that is cut off for a whole one, and reads few encodings.
    """
    copy = target.with_name(f"{target.name}.plain")
    try:
        yield copy if _written_plain(table, reading, source, copy, shown) else source
    finally:
        copy.unlink(missing_ok=True)


def _written_plain(table: Table, reading: FileReading, source: Path, copy: Path, shown: str) -> bool:
    """Write the copy, unless the file is plain."""
    compressed, encoding = source.name.endswith(COMPRESSED), reading.encoding
    try:
        with gzip.open(source) if compressed else source.open("rb") as raw:
            _refuse_other(raw.read(_HEAD), table, reading, shown)
            if not compressed and encoding == "utf-8":
                return False
            raw.seek(0)
            with copy.open("wb") as out:
                if encoding == "utf-8":
                    shutil.copyfileobj(raw, out, _PIECE)
                else:
                    _decoded(raw, encoding, out)
        return True
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataRefused(f"{shown}: not a whole gzip file: {error}") from error
    except UnicodeError as error:
        raise DataRefused(f"{shown}: not written in {encoding}: {error}") from error


_HEAD = 64
_BEGINNINGS = {
    b"\x1f\x8b": "compressed with gzip: let its name end in .gz",
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or export it",
    b"PAR1\x15": "a parquet file: name it so",
    b"Obj\x01": "an Avro file: name it so",
}
"""How files begin that are something else, and what to do about them.

Each has a byte that no text has, so that a text isn't taken for one: `PAR1` may be a column. Behind it, parquet has its
first page or its footer, and either begins with a number of 32 bits as its first field.
"""
_MARKS = {  # the longer ones first: the others begin as they do
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def _refuse_other(head: bytes, table: Table, reading: FileReading, shown: str) -> None:
    """Refuse a file of texts that begins as one of another format or encoding does.

    Raises:
        DataRefused: it does; the text says what to do.
    """
    other = next((what for beginning, what in _BEGINNINGS.items() if head.startswith(beginning)), None)
    if other is None and not reading.encoding.startswith(("utf-16", "utf-32")):
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
        if encoding is None and len(head) > 3 and 0 in head:  # a NUL in each pair, as plain letters have there
            halves = {"utf-16-be": head[::2], "utf-16-le": head[1::2]}
            encoding = next((name for name, half in halves.items() if not any(half)), None)
        if encoding is not None:
            other = f"written in {encoding}, not in {reading.encoding}: say `encoding: {encoding}` in {table.file}"
    if other is not None:
        raise DataRefused(f"{shown}: can't be read as {reading.format}: it is {other}")


_PIECE = 1 << 20


def _decoded(raw: BinaryIO | gzip.GzipFile, encoding: str, out: BinaryIO) -> None:
    """Write bytes of another encoding as UTF-8, piece by piece."""
    decoder = codecs.getincrementaldecoder(encoding)()
    while piece := raw.read(_PIECE):
        out.write(decoder.decode(piece).encode())
    out.write(decoder.decode(b"", final=True).encode())
