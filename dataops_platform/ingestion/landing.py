"""Landed objects become deliveries: what others wrote is copied into the lake, once, whoever asks and how often.

What is where is decided by the lake alone (see `landing_log`): nothing here remembers anything.
"""

from __future__ import annotations

import base64
import itertools
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from dataops_platform.contracts.file_formats import (
    COMPRESSED,
    OPTIONS,
    FileFormat,
    FileReading,
    OptionError,
    file_reading,
    format_of,
)
from dataops_platform.contracts.model import AfterLanding, Landing, LoadMode, Table
from dataops_platform.contracts.object_patterns import ObjectPattern
from dataops_platform.contracts.partitions import Cut, NamedPartitioning, Partitioning
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.ingestion.landing_log import (
    AFTER,
    BY_HAND,
    Entry,
    Identity,
    LandingLog,
    Refusal,
    Registered,
    stand_in,
)
from dataops_platform.ingestion.reading import to_parquet
from dataops_platform.lake.deliveries import (
    MOST_OBJECTS,
    OBJECTS,
    Delivery,
    Lake,
    Part,
    file_part,
    remove_scratch,
    written_by_others,
)
from dataops_platform.lake.inbox import Inbox, Unreadable
from dataops_platform.lake.store import ObjectInfo, ObjectMissing, checksum
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


@dataclass(frozen=True, slots=True)
class Incoming:
    """An object that is to be delivered.

    Attributes:
        name: what it is called in the log.
        generation: which one of that name.
        created_ms: when it was written.
        uri: its address, for people.
        open: makes a part of it; given a file name that it may use.
        checksum: CRC32C of the object as it is, which isn't that of the part where it is converted.
        size: bytes.
    """

    name: str
    generation: int
    created_ms: int
    uri: str
    open: Callable[[Path], Part]
    checksum: Callable[[], str]
    size: int

    @property
    def identity(self) -> Identity:
        """Name and generation."""
        return self.name, self.generation

    @property
    def written(self) -> datetime:
        """When it was written, but no later than now: a clock that is ahead would be right for ever."""
        return datetime.fromtimestamp(min(self.created_ms / 1000, time.time()), UTC)

    @property
    def file(self) -> str:
        """Address and generation, for the ledger."""
        return f"{self.uri}#{self.generation}"


@dataclass(slots=True)
class Registration:
    """What came of registering.

    Attributes:
        delivered: new deliveries, and those that somebody else had begun.
        existing: how many objects were delivered already.
        refused: objects that can't be delivered, found now.
        refused_before: those that were known to be so: as `Refusal.file` says it → their partition.
        removed: how many objects were removed from landing.
        replaced: of tables that replace: partition → the other objects in landing whose rows a delivery replaces.
        warnings: what else people should know of.
    """

    delivered: list[Delivery] = field(default_factory=list)
    existing: int = 0
    refused: list[Refusal] = field(default_factory=list)
    refused_before: dict[str, str] = field(default_factory=dict)
    removed: int = 0
    replaced: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


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


Tell = Callable[[Sequence[Refusal]], None]
"""Told what is refused, before that is remembered: who dies in between is told again."""

Misfits = Callable[[pa.Schema], Sequence[str]]
"""What keeps parquet of a schema from being loaded; nothing where it fits."""


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
    registrar = _Registrar(table, lake, {"landing": place.inbox.url}, git_commit, together, tell, misfits)
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
    registrar = _Registrar(table, lake, {"landing": "by hand"}, git_commit, tell=tell, misfits=misfits)
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


def _arrival(item: Incoming) -> tuple[int, str]:
    return item.created_ms, item.name


def _checksum(item: Incoming) -> str | None:
    """An object's checksum; None where it can't be read: reading it tells why."""
    try:
        return item.checksum()
    except (ObjectMissing, ConfigError):
        return None


class _Registrar:
    """Decides and writes deliveries of one table."""

    def __init__(
        self,
        table: Table,
        lake: Lake,
        origin: Mapping[str, Any],
        git_commit: str | None,
        together: int = 1,
        tell: Tell = lambda refusals: None,
        misfits: Misfits = lambda schema: [],
    ) -> None:
        self._table, self._lake, self._origin, self._git_commit = table, lake, origin, git_commit
        self._together, self._tell, self._misfits = together, tell, misfits
        self._log = LandingLog(lake.store, table)
        self.done = Registration()

    def look(self, partitions: Collection[str]) -> Registered:
        """What is known of some partitions by now."""
        return Registered.read(self._log, self._lake, self._table.name, partitions)

    def deliver(self, partition: str, incoming: Sequence[Incoming], known: Registered, complete: bool = True) -> None:
        """Deliver what is new among the objects of a partition, after finishing what somebody else began.

        That is one delivery, but where there are too many objects, or some that had been refused and overtaken.

        Args:
            complete: whether these are all of its objects, as they are now.
        """
        self.done.existing += sum(known.is_delivered(partition, item.identity) for item in incoming)
        before = [item.file for item in incoming if known.is_refused(partition, item.identity)]
        self.done.refused_before |= dict.fromkeys(before, partition)
        replaces = self._table.load_mode is LoadMode.REPLACE
        while True:
            for entry in known.unfinished(partition):
                self.done.delivered.append(self._lake.publish(entry.delivery))
            new = [item for item in incoming if known.is_new(partition, item.identity)]
            here = self._came_otherwise(known, partition, new)
            incoming = [item for item in incoming if item.identity not in here]
            new = [item for item in new if item.identity not in here]
            if not new:
                return
            if replaces and not complete:
                self._wait(partition)
                return
            after, chosen = self._chosen(known, partition, new)
            if replaces and after is None:
                back, culprits = self._refused_with(known, partition, incoming, chosen)
                if culprits:
                    self._refuse(self._with(partition, chosen, culprits, known.last(partition)))
                    return
                chosen = [*chosen, *back]
            count = len(self.done.delivered)
            if self._decide(known, partition, chosen, after):
                done = {item.identity for item in chosen}
                others = [item.name for item in incoming if item.identity not in done] if replaces else []
                delivered = len(self.done.delivered) > count
                if after is None and others and delivered:
                    self.done.replaced[partition] = others
                for item in chosen if delivered else ():  # what was refused with others no longer is
                    self.done.refused_before.pop(item.file, None)
                if len(done) >= len(new):
                    return
                incoming = [item for item in incoming if item.identity not in done]
            known = self.look([partition])  # somebody else was faster, or there is more

    def _wait(self, partition: str) -> None:
        self.done.warnings.append(
            f"{self._table.name} {partition}: some of what landed was written or removed just now: all of it waits for"
            " the next run, as part of a snapshot mustn't replace a whole one (loadMode: replace)"
        )

    def _refused_with(
        self, known: Registered, partition: str, incoming: Sequence[Incoming], new: Sequence[Incoming]
    ) -> tuple[list[Incoming], list[str]]:
        """Of a snapshot some objects of which are written anew: those that were refused with them; and other culprits.

        Returns:
            What is delivered with the new objects, as all that it was refused for is mended; and names of objects that
            still aren't, for which the new ones must wait, too.
        """
        waiting = {
            item.name: (item, self._log.culprits(partition, item.identity))
            for item in incoming
            if known.is_refused_with_others(partition, item.identity)
        }
        refused = {item.name for item in incoming if known.is_refused(partition, item.identity)} - waiting.keys()
        names = {item.name for item in new}
        mended = [(item, culprits) for item, culprits in waiting.values() if culprits <= names | waiting.keys()]
        blocking = {name for _, culprits in waiting.values() if culprits & names for name in culprits & refused}
        return [item for item, culprits in mended if culprits], sorted(blocking)

    def _with(self, partition: str, items: Iterable[Incoming], culprits: Sequence[str], last: int) -> list[Refusal]:
        """Objects that aren't delivered as others that landed with them can't be."""
        why = f"it landed with {culprits[0]}, which is refused, and loadMode: replace takes all or nothing"
        return [
            Refusal(
                partition,
                item.name,
                item.generation,
                f"{item.uri}: {why}. Mend that one, and"
                + (" land all of them again." if item.name.startswith(BY_HAND) else " all of them are delivered."),
                item.file,
                last,
                culprits,
            )
            for item in items
        ]

    def _refuse(self, refused: Sequence[Refusal], for_now: Collection[Identity] = ()) -> None:
        """Tell of refused objects, and remember them but for those that are to be tried again."""
        if refused:
            self._tell(refused)
        for refusal in refused:
            if (refusal.name, refusal.generation) not in for_now:
                self._log.refuse(refusal)
        self.done.refused += refused

    def _chosen(
        self, known: Registered, partition: str, new: Sequence[Incoming]
    ) -> tuple[int | None, Sequence[Incoming]]:
        """What to make one delivery of; and the number of the one that it came after, where others have come since."""
        if self._table.load_mode is LoadMode.APPEND:  # nothing is overtaken
            return None, sorted(new, key=_arrival)[:MOST_OBJECTS]
        groups: dict[int | None, list[Incoming]] = {}
        for item in sorted(new, key=_arrival):
            by_hand = item.name.startswith(BY_HAND)  # comes when somebody wants it to
            after = None if by_hand else known.overtaken(partition, item.identity, item.written)
            groups.setdefault(after, []).append(item)
        after = min((number for number in groups if number is not None), default=None)
        chosen = groups[after]
        if self._table.load_mode is LoadMode.REPLACE:
            return after, chosen
        # Each goes right before what overtook it: the last ones first.
        return after, chosen[:MOST_OBJECTS] if after is None else chosen[-MOST_OBJECTS:]

    def _came_otherwise(self, known: Registered, partition: str, new: Sequence[Incoming]) -> set[Identity]:
        """Objects that need no delivery: those that landed and had been delivered by hand, and the reverse.

        Landed ones are passed over from now on. Of a snapshot that is all of it, or none: the rest would replace it.
        A file by hand stands for objects of one name: the same one in another folder is another one.
        """
        by_hand, contents = known.by_hand(partition), known.contents(partition)
        stood_for = known.stood_for(partition)
        found: dict[Identity, str] = {}
        for item in new:
            tail = item.name.rpartition("/")[2]
            crc = _checksum(item) if item.name.startswith(BY_HAND) or tail in by_hand else None
            if crc is None:
                continue
            if item.name.startswith(BY_HAND):
                came = (tail, crc) in contents
            else:
                file, name = stand_in(item.name, crc)
                came = crc in by_hand[tail] and stood_for.setdefault(file, name) == name
            if came:
                found[item.identity] = crc
        if self._table.load_mode is LoadMode.REPLACE and len(found) < len(new):
            return set()
        for identity, crc in found.items():
            if not identity[0].startswith(BY_HAND):
                self._log.pass_over(partition, identity, crc)
        self.done.existing += len(found)
        return set(found)

    def _decide(self, known: Registered, partition: str, new: Sequence[Incoming], after: int | None) -> bool:
        """Deliver new objects; False: others were faster, or an object changed meanwhile.

        Args:
            after: the number of the delivery that they came after; None where nothing has come since.
        """
        folder = self._lake.store.scratch()
        last = known.last(partition)
        try:
            read = self._read(partition, sorted(new, key=_arrival), folder, last)
            if not read:
                return True
            moment = known.free(partition, max(item.written for item, _, _ in read))
            first = read[0][0].uri
            origin = {
                "file": first if len(read) == 1 else f"{first} and {len(read) - 1} more",
                **self._origin,
                OBJECTS: [
                    {"name": item.name, "generation": item.generation, "size": item.size, "checksum": crc}
                    for item, _, crc in read
                ],
            }
            if after is not None:
                moment = known.before(partition, after)
                origin[AFTER] = after
            try:
                delivery = self._lake.prepare(
                    self._table.name,
                    partition,
                    moment,
                    [part for _, part, _ in read],
                    origin=origin,
                    contract_version=self._table.contract_version,
                    declared=[column.name for column in self._table.columns],
                    cut=self._table.cut,
                    policy=self._table.schema_policy,
                    git_commit=self._git_commit,
                    together=self._together,
                )
            except ObjectMissing:
                return False
        finally:
            remove_scratch(folder)
        if not self._log.append(Entry(last + 1, delivery)):
            return False
        self.done.delivered.append(self._lake.publish(delivery))
        if after is not None and self._table.load_mode is LoadMode.REPLACE:
            self.done.warnings.append(
                f"{self._table.name} {partition}: {origin['file']} can be read now, and replaces nothing: it landed"
                " before what is delivered of the partition (loadMode: replace). Write it anew if it is what counts"
            )
        return True

    def _read(
        self, partition: str, items: Sequence[Incoming], folder: Path, last: int
    ) -> list[tuple[Incoming, Part, str]]:
        """Objects that can be delivered, with their checksums; the others are refused, or left for another look.

        Args:
            items: in the order of arrival.
            last: the number of the last delivery.
        """

        def read(number: int, item: Incoming) -> tuple[Part, str] | DataRefused | None:
            try:
                part = item.open(folder / f"{number}.parquet")
                return part, item.checksum()
            except DataRefused as error:
                return error
            except ObjectMissing:  # written anew or removed since it was listed: another object, for another look
                return None

        with ThreadPoolExecutor(self._together) as pool:
            outcomes = list(pool.map(read, itertools.count(), items))
        if None in outcomes and self._table.load_mode is LoadMode.REPLACE:
            self._wait(partition)
            return []
        good: list[tuple[Incoming, Part, str]] = []
        refused: list[Refusal] = []
        for_now: set[Identity] = set()
        several = sum(isinstance(outcome, tuple) for outcome in outcomes) > 1
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, DataRefused):
                refused.append(Refusal(partition, item.name, item.generation, str(outcome), item.file, last))
                if isinstance(outcome, Unreadable):
                    for_now.add(item.identity)
            elif outcome is not None and several and (lines := self._misfits(outcome[0].schema)):
                reason = f"{item.uri}: {'; '.join(lines)}"
                refused.append(Refusal(partition, item.name, item.generation, reason, item.file, last))
            elif outcome is not None:
                good.append((item, *outcome))
        if refused and self._table.load_mode is LoadMode.REPLACE:
            # The rest of a snapshot must not replace a whole one.
            others = self._with(partition, (item for item, *_ in good), [refusal.name for refusal in refused], last)
            if len(for_now) == len(refused):
                for_now |= {item.identity for item, *_ in good}
            else:  # the bytes of a file by hand stay what they are
                for_now |= {item.identity for item, *_ in good if item.name.startswith(BY_HAND)}
            refused, good = refused + others, []
        if good:  # they are the next delivery: what is refused came before it, or after it
            came = {item.identity: number for number, item in enumerate(items)}
            newest = came[good[-1][0].identity]
            refused = [replace(r, after=last + (came[r.name, r.generation] > newest)) for r in refused]
        self._refuse(refused, for_now)
        return good
