"""Extractors: what a source has, and fetching it as parquet files for the lake."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.lake import keys
from dataops_platform.lake.deliveries import Delivery, Lake, ManifestRef, remove_scratch
from dataops_platform.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something a source has for one partition of a table.

    Attributes:
        partition: key of the partition.
        created_at: when the source made it. A source that makes new data for the partition gives it a new time:
            partition and time identify the delivery.
        origin: where it comes from; goes into the manifest. `file` is what messages name.
        only: whether it is all that the source has for the partition now, whatever it had before. Then it is new if
            it isn't what the source was last found with, even where its time is an older one.
    """

    partition: str
    created_at: datetime
    origin: Mapping[str, Any] = field(default_factory=dict)
    only: bool = False


class Extractor(Protocol):
    """A source of deliveries. Made with the options of the contract's `source` and the project's folder."""

    def __init__(self, options: Mapping[str, Any], project: Path) -> None: ...

    def available(self, table: Table, partitions: Sequence[str]) -> Sequence[Arrival]:
        """What the source has for these partitions; cheap, because it is asked at every run."""
        ...

    def fetch(self, table: Table, arrivals: Sequence[Arrival], folder: Path) -> Iterator[tuple[Arrival, list[Path]]]:
        """Write each arrival as parquet files below `folder`. An arrival without rows is a file without rows.

        Raises:
            DataRefused: an arrival can't be read. The generator may be continued with a new call for the others.
        """
        ...


_BUILT_IN = {
    "files": "dataops_platform.ingestion.files:FilesExtractor",
    "nycflights13": "dataops_platform.ingestion.nycflights13:NycFlightsExtractor",
}


def extractor_for(table: Table, project: Path) -> Extractor:
    """The extractor that a table's contract names: a built-in one, or `module:Class`.

    Raises:
        ConfigError: the table has no source, or its extractor can't be imported or rejects its options.
    """
    if table.source is None:
        raise ConfigError(
            f"{table.file}:{table.line}: table {table.name} has no customProperty `source`: there is nothing to extract"
        )
    name = table.source.extractor
    target = _BUILT_IN.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        raise ConfigError(
            f"{table.file}:{table.line}: unknown extractor {name!r};"
            f" use {', '.join(_BUILT_IN)} or your own `module:Class`"
        )
    try:
        made: Extractor = getattr(importlib.import_module(module), attribute)(table.source.options, project)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{table.file}:{table.line}: extractor {name!r} can't be imported: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{table.file}:{table.line}: extractor {name}: {error}") from error
    return made


class RefusedArrival(NamedTuple):
    """An arrival that could not be read.

    Attributes:
        file: what it was read from, `#`, and when the source made it.
    """

    partition: str
    reason: str
    file: str


def _refused(table: Table, arrival: Arrival, error: DataRefused) -> RefusedArrival:
    source = arrival.origin.get("file") or f"{table.name}/{arrival.partition}"
    return RefusedArrival(arrival.partition, str(error), f"{source}#{keys.timestamp(arrival.created_at)}")


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an extraction did.

    Attributes:
        delivered: new deliveries.
        existing: how many arrivals were in the lake already.
        without_data: partitions for which the source has nothing.
        refused: what could not be read.
    """

    delivered: tuple[Delivery, ...]
    existing: int
    without_data: tuple[str, ...]
    refused: tuple[RefusedArrival, ...]


def extract(
    table: Table,
    extractor: Extractor,
    lake: Lake,
    partitions: Sequence[str],
    git_commit: str | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Checkpoint everything that the source has for the partitions and the lake has not.

    One arrival that can't be read doesn't stop the others.

    Args:
        progress: told how many arrivals are done.

    Raises:
        ConfigError: the lake can't be written.
    """
    arrivals = list(extractor.available(table, partitions))
    new = news(table, lake, arrivals, lake.manifests(table.name, {a.partition for a in arrivals}))
    delivered: list[Delivery] = []
    refused: list[RefusedArrival] = []
    if new:
        folder = lake.store.scratch()

        def tell() -> None:
            progress(len(delivered) + len(refused), len(new))

        try:
            remaining = list(new)
            while remaining:
                remaining = _deliver(table, extractor, lake, remaining, folder, git_commit, delivered, refused, tell)
        finally:
            remove_scratch(folder)
    covered = {arrival.partition for arrival in arrivals}
    return Extraction(
        tuple(delivered), len(arrivals) - len(new), tuple(p for p in partitions if p not in covered), tuple(refused)
    )


MADE_AT = "made_at"
"""In a manifest's origin: when the source made what it delivered, where that is older than what it had before."""


def news(table: Table, lake: Lake, arrivals: Sequence[Arrival], manifests: Iterable[ManifestRef]) -> list[Arrival]:
    """What is to be delivered of a source's arrivals.

    Args:
        manifests: those of the arrivals' partitions, at least.
    """
    known: dict[str, list[datetime]] = {}
    for ref in manifests:
        known.setdefault(ref.partition, []).append(ref.created_at)
    found = (_news(table, lake, arrival, known.get(arrival.partition, [])) for arrival in arrivals)
    return [arrival for arrival in found if arrival is not None]


def _news(table: Table, lake: Lake, arrival: Arrival, known: Collection[datetime]) -> Arrival | None:
    """What is to be delivered of an arrival; None where it was.

    Args:
        known: when the deliveries of its partition were made.
    """
    moment = keys.parse_timestamp(keys.timestamp(arrival.created_at))
    newest = max(known, default=moment)
    if not arrival.only or newest <= moment:
        return None if moment in known else arrival
    # A file may be replaced by one with an older time: by `cp -p`, from an archive, or by the one that it had replaced.
    made_at = keys.timestamp(moment)
    for created_at in sorted(known, reverse=True):
        try:
            origin = lake.read(keys.manifest_key(table.name, arrival.partition, created_at)).origin
        except DataRefused:  # a damaged manifest: the load names it
            continue
        if origin.get("extractor") == arrival.origin.get("extractor"):
            if origin.get(MADE_AT, keys.timestamp(created_at)) == made_at:
                return None
            later = newest + timedelta(milliseconds=1)
            return replace(arrival, created_at=later, origin={**arrival.origin, MADE_AT: made_at})
    return None if moment in known else arrival  # what came later, came by other ways


def _deliver(
    table: Table,
    extractor: Extractor,
    lake: Lake,
    arrivals: Sequence[Arrival],
    folder: Path,
    git_commit: str | None,
    delivered: list[Delivery],
    refused: list[RefusedArrival],
    tell: Callable[[], None],
) -> list[Arrival]:
    """Deliver until an arrival is refused; what comes after it is returned."""
    remaining = list(arrivals)
    stream = extractor.fetch(table, arrivals, folder)
    while remaining:
        try:
            arrival, files = next(stream)
        except StopIteration:
            return []
        except DataRefused as error:
            refused.append(_refused(table, remaining[0], error))
            tell()
            return remaining[1:]
        remaining = [other for other in remaining if other != arrival]
        try:
            delivered.append(
                lake.deliver(
                    table.name,
                    arrival.partition,
                    arrival.created_at,
                    files,
                    origin=arrival.origin,
                    contract_version=table.contract_version,
                    declared=[column.name for column in table.columns],
                    cut=table.cut,
                    policy=table.schema_policy,
                    git_commit=git_commit,
                )
            )
        except DataRefused as error:
            refused.append(_refused(table, arrival, error))
        tell()
    return []
