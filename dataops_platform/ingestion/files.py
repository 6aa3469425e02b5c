"""Files in a folder as a source."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dataops_platform.contracts.file_formats import OPTIONS, FileFormat, OptionError, file_reading
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.ingestion.extractor import Arrival
from dataops_platform.ingestion.reading import to_parquet, unwritable
from dataops_platform.lake.deliveries import file_part, written_by_others

PLACEHOLDER = "{partition}"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of writing, whichever file is named with them."""


class FilesExtractor:
    """Delivers `path`, with `{partition}` replaced by the key. A file with another time than before is a new delivery.

    Options: `path` (relative to the project), and how the files are written (see `FileReading`); the format is by
    default that of the path's ending.
    """

    def __init__(self, options: Mapping[str, Any], project: Path) -> None:
        unknown = set(options) - {"path", *OPTIONS}
        if unknown:
            raise ConfigError(f"unknown option {', '.join(sorted(unknown))}; it has `path`, {', '.join(OPTIONS)}")
        if not isinstance(options.get("path"), str):
            raise ConfigError("it needs a `path`, like `data/orders/{partition}.csv`")
        self._path: str = options["path"]
        if found := re.search(r"[*?]|\{(?!partition\})[^}]*\}", self._path):
            raise ConfigError(
                f"`{found[0]}` in its `path` {self._path!r} stands for nothing: a partition is one file. Of several, or"
                " with other names, let a landing server tell (`servers` with an objectPattern)"
            )
        try:
            self._reading = file_reading({k: v for k, v in options.items() if k != "path"}, self._path)
        except OptionError as error:
            raise ConfigError(str(error)) from error
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
                origin = {"file": str(path), "extractor": "files"}
                arrivals.append(Arrival(partition, modified, origin, only=True))
        return arrivals

    def fetch(self, table: Table, arrivals: Sequence[Arrival], folder: Path) -> Iterator[tuple[Arrival, list[Path]]]:
        """See `Extractor.fetch`.

        Raises:
            ConfigError: the folder can't be written.
        """
        for number, arrival in enumerate(arrivals):
            source, target = Path(arrival.origin["file"]), folder / f"{number}.{arrival.partition}.parquet"
            try:
                if self._reading.format is FileFormat.PARQUET:
                    shutil.copyfile(source, target)
                    written_by_others(file_part(target, str(source)).schema, str(source))
                else:
                    to_parquet(table, self._reading, source, target)
            except OSError as error:
                if error.errno in _NO_ROOM or error.filename == str(target):
                    raise ConfigError(unwritable(folder, error.strerror or str(error))) from error
                raise DataRefused(f"{source}: can't be read: {error.strerror or error}") from error
            yield arrival, [target]
