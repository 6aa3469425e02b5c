"""CSV files as texts: which columns they have, and how the engine reads them.

The engine's reader is fast, and right where each line is a row. Else it isn't always: read in parallel, a file with
breaks in quoted texts is refused from some size on; read by one thread, the rows from a quote on that is never closed
are left out without a word; line ends of several kinds it refuses; a space before a quote it sometimes passes over. So
a file with quotes is first gone through by Python's own reader, which is compiled and holds one row, and one that the
engine could take for another is written anew by it.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from dataops_platform.contracts.file_formats import FileReading
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.ingestion.columns import beyond
from dataops_platform.warehouse.names import literal, quote

_PIECE = 1 << 20
_LONGEST = 2_000_000
"""Characters of a field: the engine holds no longer lines, and a quote that isn't closed no more memory."""
_SAID = {
    "unexpected end of data": "unterminated quote",
    f"field larger than field limit ({_LONGEST})": f"unterminated quote, or a text of over {_LONGEST} characters",
}
_ROW = re.compile(r"CSV Error on Line: (\d+)")
_FIELDS = re.compile(r"^Expected Number of Columns: \d+ Found: (\d+)", re.MULTILINE)
_BYTES = "surrogateescape"
_OTHER_ENCODING = "not utf-8 encoded: say what it is with `encoding`"


def texts(
    connection: duckdb.DuckDBPyConnection, table: Table, reading: FileReading, source: Path, shown: str, scratch: Path
) -> tuple[Mapping[str, str], str]:
    """Column → SQL of its text, beyond the contract's too, and the SQL of the rows.

    An empty field is null, in quotes or not.

    Nothing is guessed: a file that isn't as the contract says is refused, at the line where it isn't.

    Args:
        scratch: a file that can be written, for the same rows in a plainer form.

    Raises:
        DataRefused: the header hasn't the contract's columns, or others than its policy allows; a quote isn't closed.
    """
    names = _header(table, reading, source, shown) if reading.header else [column.name for column in table.columns]
    quoted, plain = _bytes(source, reading)
    each_line_a_row = not quoted or _each_line_a_row(reading, source, shown)
    if not plain and reading.escape in (reading.quote, ""):
        reading, source = _anew(reading, source, shown, scratch), scratch
    elif not plain:  # what escapes stand for outside of quotes, each reader has an opinion of its own
        each_line_a_row = False
    listed = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    rows = (
        f"read_csv({literal(str(source))}, auto_detect = false, header = {str(reading.header).lower()},"
        f" delim = {literal(reading.delimiter)}, quote = {literal(reading.quote)}, escape = {literal(reading.escape)},"
        f" columns = {{{listed}}}, hive_partitioning = false, compression = 'none',"
        f" parallel = {str(each_line_a_row).lower()})"
    )
    return {column.name: "CAST(NULL AS VARCHAR)" for column in table.columns} | {n: quote(n) for n in names}, rows


def fault(table: Table, reading: FileReading, source: Path, shown: str, said: str) -> str | None:
    """The first line that the engine can't read, and why, if that is known.

    Args:
        said: by the engine; it counts rows, and quotes what stands in them.
    """
    with _rows(reading, source, shown) as rows:
        width = len(next(rows, [])) if reading.header else len(table.columns)
        line = rows.line_num + 1
        for row in rows:
            try:
                size = len(",".join(row).encode())
            except UnicodeEncodeError:
                return f"line {line} is {_OTHER_ENCODING}"
            if size > _LONGEST:
                return f"line {line} has more than {_LONGEST} bytes"
            if row and (len(row) < width or any(row[width:])):
                return f"line {line} has {len(row)} fields instead of {width}"
            line = rows.line_num + 1
    if not _bytes(source, reading)[1]:
        return "its lines end in several ways (LF, CRLF, CR): with this `escape` they must all end alike"
    row = _ROW.search(said)
    if row is None:
        return None
    # Python's reader takes more where the contract has an `escape`.
    with _rows(reading, source, shown) as rows:
        line = 1 + next((rows.line_num for number, _ in enumerate(rows, 2) if number == int(row[1])), 0)
    if fields := _FIELDS.search(said):
        what = f"has {fields[1]} fields instead of {width}"
        return f"line {line} {what}: outside of quotes, an escape is a character like any other. Quote the text"
    if "unterminated quote" in said:
        what = (
            f"write {reading.escape}{reading.quote} for it" if reading.escape else "leave `escape` out if it is doubled"
        )
        return f"line {line} has a quote within a quoted text that isn't escaped: {what}"
    return f"line {line} isn't written as the contract says"


def _bytes(source: Path, reading: FileReading) -> tuple[bool, bool]:
    """Whether a file has quotes, and whether every reader would take it for the same rows.

    For that its line ends, within quotes too, are of one kind, and no quote stands behind a space.
    """
    mark, quoted, spaced = reading.quote.encode(), False, False
    behind_space = re.compile(b"[\r\n" + re.escape(reading.delimiter.encode()) + b"] " + re.escape(mark))
    returns = feeds = both = 0
    with source.open("rb") as file:
        last = b"\n"
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            file.seek(0)
        while piece := file.read(_PIECE):
            if mark:
                quoted = quoted or mark in piece
                spaced = spaced or (quoted and behind_space.search(last + piece) is not None)
            returns += piece.count(b"\r")
            feeds += piece.count(b"\n")
            both += piece.count(b"\r\n") + (last[-1:] == b"\r" and piece[:1] == b"\n")
            last = piece[-2:]
    return quoted, not spaced and (not returns or not feeds or returns == feeds == both)


def _each_line_a_row(reading: FileReading, source: Path, shown: str) -> bool:
    """Whether no text has a break in it."""
    with _rows(reading, source, shown) as rows:
        return bool(sum(1 for _ in rows) == rows.line_num)


def _anew(reading: FileReading, source: Path, shown: str, target: Path) -> FileReading:
    """Write the same rows, each field in quotes, with one kind of line ends; breaks in texts stay as they are."""
    made = replace(reading, delimiter=",", quote='"', escape='"')
    with _rows(reading, source, shown) as rows, target.open("w", encoding="utf-8", errors=_BYTES, newline="") as out:
        csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return made


@contextmanager
def _rows(reading: FileReading, source: Path, shown: str) -> Iterator[Any]:
    """Python's reader of a file. Bytes that aren't UTF-8 stay, and the engine refuses them.

    Raises:
        DataRefused: a row that is read isn't one.
    """
    escape = reading.escape if reading.escape != reading.quote else ""
    form: dict[str, Any] = {
        "delimiter": reading.delimiter,
        "quotechar": reading.quote or None,
        "escapechar": escape or None,
        "doublequote": not escape,
        "quoting": csv.QUOTE_MINIMAL if reading.quote else csv.QUOTE_NONE,
        "strict": True,
    }
    csv.field_size_limit(_LONGEST)
    with source.open(encoding="utf-8-sig", errors=_BYTES, newline="") as file:
        try:
            yield csv.reader(file, **form)
        except csv.Error as error:
            file.seek(0)
            again, line = csv.reader(file, **form), 1
            with suppress(csv.Error):
                for _ in again:
                    line = again.line_num + 1
            what = _SAID.get(str(error), str(error))
            raise DataRefused(f"{shown}: can't be read as csv: line {line}: {what}") from error


def _header(table: Table, reading: FileReading, source: Path, shown: str) -> Sequence[str]:
    with _rows(reading, source, shown) as rows:
        names: list[str] | None = next(rows, None)
    if names is None:
        raise DataRefused(f"{shown}: the file is empty; one without rows has a header")
    if not any(name.strip() for name in names):
        raise DataRefused(
            f"{shown}: can't be read as csv: line 1 is blank: the header comes first, remove what is before"
        )
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise DataRefused(f"{shown}: can't be read as csv: line 1 is {_OTHER_ENCODING}") from error
    other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    hint = f" Its delimiter may be {other!r}: say so with `delimiter`." if other else ""
    twice = [f"column {name!r} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    beyond(table, names, shown, twice, hint)
    return names
