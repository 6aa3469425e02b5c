"""Files in a folder as a source: parquet as it is, CSV turned into parquet by the contract's types."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.ingestion.extractor import Arrival
from dataops_platform.warehouse.names import literal, quote

PLACEHOLDER = "{partition}"

_AS_WRITTEN = "header = true, hive_partitioning = false"
"""Options of every reading: folders like `dt=2024-05-01` are part of the path, not columns."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of writing, whichever file is named with them."""


class FilesExtractor:
    """Delivers `path`, with `{partition}` replaced by the key. A file that is written anew is a new delivery.

    Options: `path` (relative to the project), `format` (parquet or csv; by default the file's ending).
    """

    def __init__(self, options: Mapping[str, Any], project: Path) -> None:
        unknown = set(options) - {"path", "format"}
        if unknown:
            raise ConfigError(f"unknown option {', '.join(sorted(unknown))}; it has `path` and `format`")
        if not isinstance(options.get("path"), str):
            raise ConfigError("it needs a `path`, like `data/orders/{partition}.csv`")
        self._path: str = options["path"]
        self._format = options.get("format") or Path(self._path).suffix.lstrip(".")
        if self._format not in ("parquet", "csv"):
            raise ConfigError(f"format {self._format!r} can't be read; use parquet or csv")
        self._project = project

    def available(self, table: Table, partitions: Sequence[str]) -> Sequence[Arrival]:
        """Partitions whose file exists; created when the file was last written."""
        if table.partitioning is not None and PLACEHOLDER not in self._path:
            raise ConfigError(f"{table.file}: `path` of partitioned table {table.name} needs {PLACEHOLDER}")
        arrivals = []
        for partition in partitions:
            path = self._project / self._path.replace(PLACEHOLDER, partition)
            if path.is_file():
                # Milliseconds, as in the lake's keys.
                modified = datetime.fromtimestamp(path.stat().st_mtime_ns // 1_000_000 / 1000, UTC)
                arrivals.append(Arrival(partition, modified, {"file": str(path), "extractor": "files"}))
        return arrivals

    def fetch(self, table: Table, arrivals: Sequence[Arrival], folder: Path) -> Iterator[tuple[Arrival, list[Path]]]:
        """See `Extractor.fetch`.

        Raises:
            ConfigError: the folder can't be written.
        """
        for number, arrival in enumerate(arrivals):
            source, target = Path(arrival.origin["file"]), folder / f"{number}.{arrival.partition}.parquet"
            try:
                if self._format == "parquet":
                    shutil.copyfile(source, target)
                else:
                    convert_csv(table, source, target)
            except OSError as error:
                if error.errno in _NO_ROOM or error.filename == str(target):
                    raise ConfigError(_unwritable(folder, error.strerror or str(error))) from error
                raise DataRefused(f"{source}: can't be read: {error.strerror or error}") from error
            yield arrival, [target]


def _unwritable(folder: Path, reason: str) -> str:
    return f"the folder {folder} can't be written: {reason}. Check its permissions and the free space on its disk."


def convert_csv(table: Table, source: Path, target: Path, shown: str | None = None) -> None:
    """CSV with a header to parquet. Columns are matched by name and read as the contract's types.

    Args:
        shown: what messages call the file; default: its path.

    Raises:
        DataRefused: the file can't be read as these types, or only by rounding or cutting a value off.
        ConfigError: the parquet file can't be written.
    """
    shown = shown or str(source)
    types = {column.name: column.type.duckdb for column in table.columns}
    listed = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            header = connection.execute(
                f"SELECT * FROM read_csv({literal(str(source))}, {_AS_WRITTEN}, all_varchar = true) LIMIT 0"
            )
            names = [item[0] for item in header.description or []]
            missing = [name for name in types if name not in names]
            extra = [name for name in names if name not in types]
            if missing or extra:
                lines = [f"column {name!r} is missing" for name in missing]
                lines += [f"column {name!r} is not in the contract" for name in extra]
                raise DataRefused(f"{shown}: {'; '.join(lines)}. Mend the file or the contract {table.file}.")
            connection.execute(
                f"COPY (SELECT * FROM read_csv({literal(str(source))}, {_AS_WRITTEN}, auto_detect = true,"
                f" types = {{{listed}}})) TO {literal(str(target))} (FORMAT parquet)"
            )
            _refuse_loss(connection, table, source, shown)
        except duckdb.Error as error:
            # One statement reads the source and writes the target: the file it names tells which went wrong.
            if isinstance(error, duckdb.IOException) and str(target.parent) in str(error):
                raise ConfigError(_unwritable(target.parent, str(error).splitlines()[0])) from error
            text = " ".join(line.strip() for line in str(error).splitlines()[:3]).replace(str(source), shown)
            raise DataRefused(f"{shown}: can't be read as CSV of the contract's types: {text}") from error


def _refuse_loss(connection: duckdb.DuckDBPyConnection, table: Table, source: Path, shown: str) -> None:
    """Refuse what the engine reads by rounding or cutting off: 1.005 as DECIMAL(10,2), 1.5 as an integer.

    One scan counts such texts; which line the first is in is looked for only when there is one.

    Raises:
        DataRefused: a value doesn't survive.
    """
    losses = {c.name: loss for c in table.columns if (loss := _loss(quote(c.name), c.type)) is not None}
    if not losses:
        return
    texts = f"read_csv({literal(str(source))}, {_AS_WRITTEN}, all_varchar = true)"
    counts = ", ".join(f"count(CASE WHEN {loss} THEN 1 END)" for loss in losses.values())
    (found,) = connection.execute(f"SELECT {counts} FROM {texts}").fetchall()
    for (name, loss), count in zip(losses.items(), found, strict=True):
        if count:
            column = quote(name)
            row, value = connection.execute(
                f"SELECT _row, _value FROM (SELECT row_number() OVER () AS _row, {column} AS _value, {loss} AS _lost"
                f" FROM {texts}) WHERE _lost ORDER BY _row LIMIT 1"
            ).fetchall()[0]
            (rows,) = connection.execute(f"SELECT count(*) FROM {texts}").fetchall()[0]
            kind = table.column(name).type.duckdb
            others = f" ({count} such values)" if count > 1 else ""
            raise DataRefused(
                f"{shown}: {_place(source, row, rows)}: column {name!r}: {value!r} doesn't fit {kind} without"
                f" loss{others}. Mend the file or the contract {table.file}."
            )


def _place(source: Path, row: int, rows: int) -> str:
    """Where a row is in a CSV file: its line, unless blank lines, breaks inside quotes or compression hide it."""
    with source.open("rb") as file:
        lines = sum(bool(line.strip()) for line in file)
    return f"line {row + 1}" if lines == rows + 1 else f"row {row}"


def _loss(column: str, type_: FieldType) -> str | None:
    """An SQL condition for the texts that a type can't hold as they are; None when there are none.

    Binary floating point rounds by its nature. Texts that aren't of the type at all have been refused before.
    """
    match type_.kind:
        case Kind.INTEGER | Kind.DECIMAL:
            return _digits_lost(column, type_.scale or 0)
        case Kind.DATE:  # a time of day other than midnight
            return f"regexp_matches({column}, '[ T][0-9]*[1-9][0-9]*:|:[0-9.]*[1-9]')"
        case Kind.DATETIME:  # less than a microsecond, or an offset, which would be dropped
            return rf"regexp_matches({column}, '\.\d{{6}}\d*[1-9]|:\d\d(\.\d*)?\s*([Zz]|[+-]\d)')"
        case Kind.TIMESTAMP | Kind.TIME:
            return rf"regexp_matches({column}, '\.\d{{6}}\d*[1-9]')"
        case _:
            return None


def _digits_lost(column: str, scale: int) -> str:
    """Whether a number's text has a digit other than 0 further right than `scale` decimals."""
    plain = rf"regexp_matches({column}, '^[^eExX]*\.(\d_?){{{scale}}}[\d_]*[1-9]')"
    # 1.005e3: the exponent moves the point. The last digit that isn't 0 is `len(decimals) - zeros at the end` places
    # behind the point of the mantissa.
    mantissa = f"regexp_replace(regexp_extract({column}, '^([^eE]*)[eE]', 1), '[^0-9.]', '', 'g')"
    decimals = f"length(regexp_extract({mantissa}, '[.](.*)$', 1))"
    digits = f"replace({mantissa}, '.', '')"
    zeros = f"(length({digits}) - length(rtrim({digits}, '0')))"
    exponent = rf"CAST(regexp_extract({column}, '[eE]([+-]?\d+)\s*$', 1) AS BIGINT)"
    shifted = f"rtrim({digits}, '0') <> '' AND {decimals} - {zeros} - {exponent} > {scale}"
    return rf"CASE WHEN regexp_matches({column}, '^[^xX]*[eE][+-]?\d+\s*$') THEN {shifted} ELSE {plain} END"
