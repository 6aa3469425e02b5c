"""Landed objects become deliveries: what others wrote is copied into the lake, once, whoever asks and how often.

What is where is decided by the lake alone (see `landing_log`): nothing here remembers anything.
"""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from dataops_platform.contracts.file_formats import (
    COMPRESSED,
    OPTIONS,
    FileFormat,
    FileReading,
    OptionError,
    file_reading,
    format_of,
)
from dataops_platform.contracts.model import AfterLanding, Landing, Table
from dataops_platform.contracts.object_patterns import ObjectPattern
from dataops_platform.contracts.partitions import Cut, NamedPartitioning, Partitioning
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.ingestion.landing_log import (
    BY_HAND,
    Identity,
    LandingLog,
    Registered,
)
from dataops_platform.ingestion.reading import to_parquet
from dataops_platform.ingestion.registrar import Incoming, Misfits, Registrar, Registration, Tell
from dataops_platform.lake.deliveries import (
    Lake,
    Part,
    file_part,
    written_by_others,
)
from dataops_platform.lake.inbox import Inbox
from dataops_platform.lake.store import ObjectInfo, checksum
from dataops_platform.progress import Progress, silent

_HIDDEN = ("_", ".")
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".swp", "~")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table's objects land: what the contract says, opened.

    Attributes:
        watched: prefix of all names that are expected to be the table's: others below it are reported.
        base: the inbox's address: `gs://bucket/prefix`, or a folder's path.
        neighbours: where other tables' objects land: the address that names are relative to, and their pattern.
    """

    landing: Landing
    inbox: Inbox
    watched: str
    base: str
    neighbours: Sequence[tuple[str, ObjectPattern]] = ()

    @classmethod
    def open(
        cls, landing: Landing, inbox: Inbox, base: str, neighbours: Sequence[tuple[str, ObjectPattern]] = ()
    ) -> Place:
        """A place, with an eye on the folder that the pattern begins with, unless it is another table's too.

        Args:
            base: the inbox's address.
            neighbours: those of other tables.
        """
        prefix = landing.pattern.prefix
        folder = prefix[: prefix.rfind("/") + 1]
        shared = any(f"{other}/{pattern.prefix}".startswith(f"{base}/{folder}") for other, pattern in neighbours)
        return cls(landing, inbox, prefix if shared or not folder else folder, base, neighbours)

    def is_neighbours(self, name: str) -> bool:
        """Whether an object is another table's, wherever that one's names begin."""
        address = f"{self.base}/{name}"
        return any(
            address.startswith(f"{other}/") and pattern.match(address.removeprefix(f"{other}/")) is not None
            for other, pattern in self.neighbours
        )

    def is_marker(self, name: str) -> bool:
        """Whether an object is of those that tools leave beside data, and not data.

        `_SUCCESS`, checksums, what is below `_temporary/`, and unfinished uploads. What the pattern itself begins with
        doesn't count.
        """
        prefix = self.landing.pattern.prefix
        folder = prefix[: prefix.rfind("/") + 1]
        rest = name.removeprefix(prefix if name.startswith(prefix) else folder)
        parts = rest.split("/")
        hidden = parts[1:] if name.startswith(prefix) and prefix != folder else parts
        return any(part.startswith(_HIDDEN) for part in hidden) or name.endswith(_UNFINISHED)


def out_of_range(partitioning: Cut | None, partition: str, now: datetime) -> str | None:
    """Why a table has no such partition, ever; None where it has, or will have once it is over."""
    if partitioning is None:
        return None
    if isinstance(partitioning, NamedPartitioning):
        try:
            partitioning.check(partition)
        except ValueError as error:
            return str(error)
        return None
    moment = partitioning.parse(partition)
    if moment.date() < partitioning.start:
        return f"partition {partition} is before the table's first day {partitioning.start}"
    if partitioning.end is not None and moment.date() > partitioning.end:
        return f"partition {partition} is after the table's last day {partitioning.end}"
    if moment > now.astimezone(ZoneInfo(partitioning.timezone)).replace(tzinfo=None):
        return f"partition {partition} is in the future"
    if not partitioning.between(partition, partition):
        return f"there is no {partition} in {partitioning.timezone}: clocks are set forward then"
    return None


def is_over(partitioning: Cut | None, partition: str, now: datetime) -> bool:
    """Whether a partition is complete: before that there is no run for it. Only time can end one."""
    return not isinstance(partitioning, Partitioning) or partitioning.ends_at(partition) <= now


def shown(name: str) -> str:
    """A name for people, whatever bytes it has."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_text(name: str) -> bool:
    """Whether a name can be written down: that of a file may be any bytes, and only a file system has such."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def present(place: Place, partitions: Collection[str]) -> Iterator[tuple[str, ObjectInfo]]:
    """The objects of some partitions in landing, markers and empty ones left out, with their partition."""
    wanted = set(partitions)
    for info in _listed(place, wanted):
        if info.size and not place.is_marker(info.key) and is_text(info.key):
            partition = place.landing.pattern.match(info.key)
            if partition in wanted and partition is not None:
                yield partition, info


def _listed(place: Place, partitions: Collection[str]) -> Iterator[ObjectInfo]:
    """As few names as the pattern allows: a range of them, a listing for each partition, or all."""
    pattern = place.landing.pattern
    if not partitions:
        return
    if pattern.partitioning is None or not pattern.narrow:
        yield from place.inbox.list(pattern.prefix)
    elif pattern.ordered and isinstance(pattern.partitioning, Partitioning):
        following = pattern.partitioning.next(pattern.partitioning.parse(max(partitions)))
        end = pattern.prefix_of(pattern.partitioning.key(following))
        yield from place.inbox.list(pattern.prefix, pattern.prefix_of(min(partitions)), end)
    else:
        for partition in sorted(partitions):
            yield from place.inbox.list(pattern.prefix_of(partition))


def undelivered(table: Table, place: Place, lake: Lake, partitions: Collection[str]) -> set[str]:
    """Partitions that something has landed for which isn't delivered yet, or of which a delivery isn't finished."""
    found = [(partition, (info.key, info.generation)) for partition, info in present(place, partitions)]
    known = Registered.read(LandingLog(lake.store, table), lake, table.name, partitions)
    result = {partition for partition, identity in found if known.is_new(partition, identity)}
    return result | {partition for partition in partitions if known.unfinished(partition)}


def register(
    table: Table,
    place: Place,
    lake: Lake,
    partitions: Collection[str],
    git_commit: str | None = None,
    progress: Progress = silent,
    tell: Tell = lambda refusals: None,
    misfits: Misfits = lambda schema: [],
) -> Registration:
    """Deliver what has landed for some partitions and isn't delivered yet.

    One object that can't be read doesn't stop the others: it is refused, remembered, and left where it is.

    Args:
        progress: told how many partitions are done.
        tell: told of each partition's refused objects.
        misfits: what keeps parquet of some schema from being loaded. It is asked where several objects would be one
            delivery: one that doesn't fit is refused by itself, not with the others.

    Raises:
        ConfigError: the lake can't be written, or landing can't be read.
        Unavailable: a service doesn't answer.
    """
    found: dict[str, list[ObjectInfo]] = {}
    for partition, info in present(place, partitions):
        found.setdefault(partition, []).append(info)
    # Converting is bound by this machine, not by the service.
    together = place.inbox.together if place.landing.reading.format is FileFormat.PARQUET else 1
    registrar = Registrar(table, lake, {"landing": place.inbox.url}, git_commit, together, tell, misfits)
    known = registrar.look(partitions)
    for number, partition in enumerate(sorted(partitions), start=1):
        progress(number, len(partitions))
        there = found.get(partition, [])
        infos = _settled(place.inbox, there)
        registrar.deliver(partition, [_incoming(table, place, info) for info in infos], known, len(infos) == len(there))
    if place.landing.after is AfterLanding.REMOVE:
        known = registrar.look(partitions)
        for partition, infos in found.items():
            durable = known.durable(partition)
            for info in infos:
                identity = (info.key, info.generation)
                if identity in durable or known.is_passed_over(partition, identity):
                    registrar.done.removed += place.inbox.remove(info)
    return registrar.done


def _settled(inbox: Inbox, infos: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """Those that aren't being written any more; waits for the newest as long as it takes to know that."""
    newest = max((info.created_ms for info in infos), default=0)
    wait = newest / 1000 + inbox.settle - time.time()
    if not inbox.settle or wait <= 0:
        return list(infos)
    time.sleep(min(wait, inbox.settle))
    return [info for info in infos if inbox.stat(info.key) == info]


def _incoming(table: Table, place: Place, info: ObjectInfo) -> Incoming:
    inbox = place.inbox
    uri = inbox.uri(info.key)

    def opened(scratch: Path) -> Part:
        reading = place.landing.reading
        if reading.format is FileFormat.PARQUET:
            return _as_it_is(inbox.parquet(info, scratch), uri)
        source = _beside(scratch, info.key)
        inbox.fetch(info, source)
        return _converted(table, reading, source, scratch, uri)

    return Incoming(
        info.key,
        info.generation,
        info.created_ms,
        uri,
        opened,
        lambda: inbox.checksum_of(info),
        info.size,
    )


def _beside(scratch: Path, name: str) -> Path:
    """A file for a copy; its ending says whether it is compressed."""
    return scratch.with_name(f"{scratch.name}.copy" + (COMPRESSED if name.endswith(COMPRESSED) else ""))


def _as_it_is(part: Part, shown: str) -> Part:
    written_by_others(part.schema, shown)
    return part


def _converted(table: Table, reading: FileReading, source: Path, target: Path, shown: str) -> Part:
    to_parquet(table, reading, source, target, shown)
    return file_part(target, shown)


def _reading(table: Table, path: Path) -> FileReading:
    """How a file by hand is written: its ending says the format; the rest is as the contract says of such files."""
    made = format_of(path.name)
    declared = [landing.reading for landing in table.landings]
    if table.source is not None:
        options = {key: value for key, value in table.source.options.items() if key in OPTIONS}
        with suppress(OptionError):  # another extractor's, that mean something else
            declared.append(file_reading(options, str(table.source.options.get("path", ""))))
    same = [reading for reading in declared if reading.format is made]
    return same[0] if same else file_reading({}, path.name)


def deliver_files(
    table: Table,
    lake: Lake,
    partition: str,
    files: Sequence[Path],
    git_commit: str | None = None,
    tell: Tell = lambda refusals: None,
    misfits: Misfits = lambda schema: [],
) -> Registration:
    """Deliver local files by hand, as one delivery.

    A file is known by its name and its bytes, wherever it lies and whenever it was copied there: one that has been
    delivered, by hand or through landing, is not delivered again.

    Args:
        tell: told of refused files.
        misfits: see `register`.

    Raises:
        ConfigError: a file can't be read, or the lake can't be written.
    """
    registrar = Registrar(table, lake, {"landing": "by hand"}, git_commit, tell=tell, misfits=misfits)
    incoming: dict[Identity, Incoming] = {}
    for path in files:
        item = _by_hand(table, path)
        incoming[item.identity] = item
    registrar.done.existing += len(files) - len(incoming)
    registrar.deliver(partition, list(incoming.values()), registrar.look([partition]))
    return registrar.done


def _by_hand(table: Table, path: Path) -> Incoming:
    if not is_text(path.name):
        raise ConfigError(f"{shown(str(path))}: the file's name isn't UTF-8. Rename it.")
    try:
        crc, status = checksum(path), path.stat()
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror or error}. Check the path and its permissions."
        ) from error

    def opened(scratch: Path) -> Part:
        reading = _reading(table, path)
        parquet = reading.format is FileFormat.PARQUET
        copied = scratch if parquet else _beside(scratch, path.name)
        shutil.copyfile(path, copied)
        if checksum(copied) != crc:
            raise ConfigError(f"{path} was written while it was read. Land it again once it is complete.")
        if parquet:
            return _as_it_is(file_part(copied, str(path)), str(path))
        return _converted(table, reading, copied, scratch, str(path))

    # Bytes decide, not the time of the file.
    generation = int.from_bytes(base64.b64decode(crc), "big") << 32 | status.st_size & 0xFFFFFFFF
    modified = status.st_mtime_ns // 1_000_000
    return Incoming(BY_HAND + path.name, generation, modified, str(path), opened, lambda: crc, status.st_size)
