"""Files in a folder as a source: parquet as it is, CSV turned into parquet by the contract's types."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.ingestion.extractor import Arrival
from dataops_platform.warehouse.names import literal

PLACEHOLDER = "{partition}"


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
        """See `Extractor.fetch`."""
        for number, arrival in enumerate(arrivals):
            source, target = Path(arrival.origin["file"]), folder / f"{number}.{arrival.partition}.parquet"
            try:
                if self._format == "parquet":
                    shutil.copyfile(source, target)
                else:
                    _convert(table, source, target)
            except OSError as error:
                raise DataRefused(f"{source}: can't be read: {error.strerror or error}") from error
            yield arrival, [target]


def _convert(table: Table, source: Path, target: Path) -> None:
    """CSV with a header to parquet. Columns are matched by name and read as the contract's types."""
    types = {column.name: column.type.duckdb for column in table.columns}
    listed = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            header = connection.execute(
                f"SELECT * FROM read_csv({literal(str(source))}, header = true, all_varchar = true) LIMIT 0"
            )
            names = [item[0] for item in header.description or []]
            missing = [name for name in types if name not in names]
            extra = [name for name in names if name not in types]
            if missing or extra:
                lines = [f"column {name!r} is missing" for name in missing]
                lines += [f"column {name!r} is not in the contract" for name in extra]
                raise DataRefused(f"{source}: {'; '.join(lines)}. Mend the file or the contract {table.file}.")
            connection.execute(
                f"COPY (SELECT * FROM read_csv({literal(str(source))}, header = true, auto_detect = true,"
                f" types = {{{listed}}})) TO {literal(str(target))} (FORMAT parquet)"
            )
        except duckdb.Error as error:
            text = " ".join(line.strip() for line in str(error).splitlines()[:3])
            raise DataRefused(f"{source}: can't be read as CSV of the contract's types: {text}") from error
