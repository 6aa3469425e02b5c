"""Which landed objects belong to which delivery, decided once and kept in the lake.

Two runs may look at landing at the same time and see different objects. Were each to deliver what it sees, an object
could be in two deliveries. So a delivery is first written into its partition's log, under the next number, create-only:
of two writers one wins, and the other one looks again. An entry is the delivery as its manifest will be, with its data
in the lake already: if its writer dies, whoever comes next writes the manifest.

What is refused is remembered beside it, by name, generation and contract version: it is tried again once it was
written anew or the contract was mended, and not before. So is what landed and had been delivered by hand, whatever the
contract's version: another one doesn't bring it back.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.lake import keys
from dataops_platform.lake.deliveries import OBJECTS, Delivery, Lake
from dataops_platform.lake.store import ObjectConflict, ObjectInfo, ObjectMissing, ObjectStore

Identity = tuple[str, int]
"""Name and generation: an object that is written anew is another one."""

BY_HAND = "by hand/"
"""What the names of files that are delivered by hand begin with in the log."""

AFTER = "after"
"""In the origin of a delivery of what was refused first, and overtaken: the number of the one that it came after."""

_READERS = 16
_WITH = ".with"
"""Ends the name of what stands for an object that was refused only together with others."""
_PASSED_OVER = ".by-hand"
"""Ends the name of what stands for an object that had been delivered by hand."""
_AGAIN = ".again"
"""Ended it when the contract's version was part of that name."""
_BY_HAND = (f"{_PASSED_OVER}.json", f"{_AGAIN}.json")


def stand_in(name: str, checksum: str) -> tuple[str, str]:
    """What stands for a file by hand that an object would be, and for the object's name, whatever its generation."""
    return _digest(name.rpartition("/")[2], checksum)[:16], _digest(name)[:16]


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery as it was decided, whether or not its manifest is written."""

    number: int
    delivery: Delivery

    @property
    def landed(self) -> Iterator[Identity]:
        """The landed objects that it is made of."""
        for item in self.delivery.origin[OBJECTS]:
            yield item["name"], item["generation"]

    @property
    def place(self) -> int:
        """Its place in the order of arrival, as a number of a delivery."""
        return int(self.delivery.origin.get(AFTER, self.number))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A landed object that can't be delivered.

    Attributes:
        file: its address and generation, where they are at hand.
        after: the number of the last delivery that it came after.
        culprits: names of the objects that it is refused with, where only those are at fault.
    """

    partition: str
    name: str
    generation: int
    reason: str
    file: str = ""
    after: int = 0
    culprits: Sequence[str] = ()


class _Known:
    """Entries read before: they never change. Bounded by the number of their objects."""

    def __init__(self, limit: int = 200_000) -> None:
        self._limit, self._size = limit, 0
        self._entries: OrderedDict[tuple[str, ObjectInfo], Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ObjectInfo]) -> Entry | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: tuple[str, ObjectInfo], entry: Entry) -> None:
        with self._lock:
            if key not in self._entries:
                self._entries[key] = entry
                self._size += len(entry.delivery.origin[OBJECTS])
            while self._size > self._limit and len(self._entries) > 1:
                _, dropped = self._entries.popitem(last=False)
                self._size -= len(dropped.delivery.origin[OBJECTS])


_KNOWN = _Known()


class LandingLog:
    """The log of one table."""

    def __init__(self, store: ObjectStore, table: Table) -> None:
        self._store = store
        self._table = table

    def entries(self, partitions: Collection[str]) -> dict[str, list[Entry]]:
        """Partition → its entries, in order. One listing, and one read for each entry not seen before."""
        found: dict[str, list[Entry]] = {partition: [] for partition in partitions}
        wanted = [(info, partition) for info, partition, name in self._listed("log", partitions) if name[:-5].isdigit()]
        known = {info: _KNOWN.get((self._store.url, info)) for info, _ in wanted}
        unread = [info for info, entry in known.items() if entry is None]
        with ThreadPoolExecutor(_READERS) as pool:
            known |= dict(zip(unread, pool.map(self._read, unread), strict=True))
        for info, partition in wanted:
            if (entry := known[info]) is not None:
                found[partition].append(entry)
        return found

    def _read(self, info: ObjectInfo) -> Entry:
        try:
            delivery = Delivery.from_json(self._store.read(info.key))
            entry = Entry(int(info.key.rpartition("/")[2].removesuffix(".json")), delivery)
            _ = set(entry.landed)
        except (KeyError, TypeError, ValueError) as error:
            raise DataRefused(
                f"{info.key!r} in {self._store.url} is damaged: {error}. It says which landed objects of"
                f" {self._table.name} are delivered: restore it."
            ) from error
        _KNOWN.put((self._store.url, info), entry)
        return entry

    def append(self, entry: Entry) -> bool:
        """Decide a delivery; False: somebody else has decided the one of that number."""
        prefix = keys.landing_prefix(self._table.name, "log", entry.delivery.partition)
        try:
            self._store.create(f"{prefix}{entry.number:08d}.json", entry.delivery.to_json())
        except ObjectConflict:
            return False
        return True

    def refused(self, partitions: Collection[str] | None = None) -> dict[str, set[str]]:
        """Partition → what was refused of it, as `mark` says it. One listing, nothing is read."""
        found: dict[str, set[str]] = {}
        for _, partition, name in self._listed("refused", partitions):
            found.setdefault(partition, set()).add(name.removesuffix(".json"))
        return found

    def mark(self, identity: Identity, version: str | None = None) -> str:
        """What stands for an object among the refused.

        Args:
            version: of the contract; the one that is valid now where it isn't given.
        """
        return _digest(*identity, version or self._table.contract_version)

    def versions(self, entries: Iterable[Entry]) -> set[str]:
        """The contract's versions that deliveries were made under, and the one that is valid now."""
        return {self._table.contract_version} | {entry.delivery.contract_version for entry in entries}

    def refuse(self, refusal: Refusal) -> None:
        """Remember that an object can't be delivered."""
        identity = (refusal.name, refusal.generation)
        mark = self.mark(identity) + (_WITH if refusal.culprits else "")
        more = {"reason": refusal.reason, AFTER: refusal.after, "culprits": list(refusal.culprits)}
        self._remember(refusal.partition, identity, mark, more)

    def pass_over(self, partition: str, identity: Identity, checksum: str) -> None:
        """Remember that an object is what had been delivered by hand."""
        of = ".".join(stand_in(identity[0], checksum))
        self._remember(partition, identity, f"{_digest(*identity)}.{of}{_PASSED_OVER}", {})

    def _remember(self, partition: str, identity: Identity, mark: str, more: Mapping[str, object]) -> None:
        key = f"{keys.landing_prefix(self._table.name, 'refused', partition)}{mark}.json"
        body = {"name": identity[0], "generation": identity[1], **more}
        try:
            self._store.create(key, json.dumps(body, indent=1).encode())
        except ObjectConflict:  # by another run, in other words
            return

    def came_after(self, partition: str, mark: str, entries: Iterable[Entry], moment: datetime) -> int:
        """The number of the last delivery that a refused object came after.

        Args:
            moment: when it was written, which decides where that number wasn't remembered yet.
        """
        after = self._remembered(partition, mark).get(AFTER)
        if after is not None:
            return int(after)
        return max((entry.number for entry in entries if entry.delivery.created_at <= moment), default=0)

    def culprits(self, partition: str, identity: Identity) -> set[str]:
        """Names of the objects that an object was refused with; nothing where that isn't known."""
        return set(self._remembered(partition, f"{self.mark(identity)}{_WITH}").get("culprits", ()))

    def _remembered(self, partition: str, mark: str) -> Mapping[str, Any]:
        key = f"{keys.landing_prefix(self._table.name, 'refused', partition)}{mark}.json"
        try:
            found: dict[str, Any] = json.loads(self._store.read(key))
        except ObjectMissing:  # cleaned up meanwhile
            return {}
        return found

    def refusals(self, limit: int) -> list[Refusal]:
        """Objects refused so far, the last partitions first, at most `limit`."""
        listed = [item for item in self._listed("refused", None) if not item[2].endswith(_BY_HAND)]
        result = []
        for info, partition, _ in reversed(listed[-limit:]):
            try:
                body = json.loads(self._store.read(info.key))
            except ObjectMissing:  # cleaned up meanwhile
                continue
            result.append(Refusal(partition, body["name"], body["generation"], body["reason"]))
        return result

    def refused_partitions(self, partitions: Collection[str]) -> set[str]:
        """Those of some partitions that an object was refused of, whether or not it is still there."""
        listed = self._listed("refused", partitions)
        return {partition for _, partition, name in listed if not name.endswith(_BY_HAND)}

    def _listed(self, kind: str, partitions: Collection[str] | None) -> Iterator[tuple[ObjectInfo, str, str]]:
        prefix = keys.landing_prefix(self._table.name, kind)
        start = end = None
        if partitions is not None:
            if not partitions:
                return
            start, end = keys.folders(prefix, partitions)
        for info in self._store.list(prefix, start, end):
            partition, slash, name = info.key.removeprefix(prefix).rpartition("/")
            if slash and name.endswith(".json") and (partitions is None or partition in partitions):
                yield info, partition, name


@dataclass(frozen=True, slots=True)
class Registered:
    """What is known of some partitions' landed objects.

    Attributes:
        entries: partition → its log.
        refused: partition → what was refused of it.
        manifests: keys of the manifests that are there.
    """

    log: LandingLog
    entries: Mapping[str, Sequence[Entry]]
    refused: Mapping[str, Set[str]]
    manifests: Set[str]
    _delivered: Mapping[str, Set[Identity]]
    _versions: Mapping[str, Set[str]]
    _passed_over: Mapping[str, Mapping[str, tuple[str, str]]]

    @classmethod
    def read(cls, log: LandingLog, lake: Lake, table: str, partitions: Collection[str]) -> Registered:
        """Ask the lake: three listings, and a read for each entry not seen before."""
        entries = log.entries(partitions)
        delivered = {p: {identity for entry in found for identity in entry.landed} for p, found in entries.items()}
        manifests = {ref.key for ref in lake.manifests(table, partitions)}
        refused = log.refused(partitions)
        versions = {
            partition: log.versions(entries[partition])
            for partition, marks in refused.items()
            if any(mark.endswith(_AGAIN) for mark in marks)
        }
        # Object → the file by hand that it is, and its name.
        passed_over: dict[str, dict[str, tuple[str, str]]] = {}
        for partition, mark in ((partition, mark) for partition, marks in refused.items() for mark in marks):
            if mark.endswith(_PASSED_OVER):
                identity, file, name = mark.removesuffix(_PASSED_OVER).split(".")
                passed_over.setdefault(partition, {})[identity] = file, name
        return cls(log, entries, refused, manifests, delivered, versions, passed_over)

    def is_delivered(self, partition: str, identity: Identity) -> bool:
        """Whether an object is in a delivery, or is what had been delivered by hand."""
        return identity in self._delivered.get(partition, ()) or self.is_passed_over(partition, identity)

    def is_passed_over(self, partition: str, identity: Identity) -> bool:
        """Whether an object is what had been delivered by hand."""
        marks = self.refused.get(partition)
        if marks is None:
            return False
        # Of the older kind of marks it isn't known which version they are of: one that is in use.
        versions = self._versions.get(partition, ())
        return _digest(*identity) in self._passed_over.get(partition, ()) or any(
            f"{self.log.mark(identity, version)}{_AGAIN}" in marks for version in versions
        )

    def is_refused(self, partition: str, identity: Identity) -> bool:
        """Whether an object was refused, and isn't delivered since, together with what was at fault."""
        refused = self.refused.get(partition)
        if refused is None or identity in self._delivered.get(partition, ()):
            return False
        return self.log.mark(identity) in refused or self.is_refused_with_others(partition, identity)

    def is_refused_with_others(self, partition: str, identity: Identity) -> bool:
        """Whether an object is refused, and only others are at fault."""
        delivered = identity in self._delivered.get(partition, ())
        return not delivered and f"{self.log.mark(identity)}{_WITH}" in self.refused.get(partition, ())

    def is_new(self, partition: str, identity: Identity) -> bool:
        """Whether an object is neither delivered nor refused."""
        return not self.is_delivered(partition, identity) and not self.is_refused(partition, identity)

    def unfinished(self, partition: str) -> list[Entry]:
        """Deliveries whose writer died before their manifest was written."""
        return [e for e in self.entries.get(partition, ()) if e.delivery.manifest not in self.manifests]

    def last(self, partition: str) -> int:
        """The number of the last delivery; 0 where there is none."""
        entries = self.entries.get(partition)
        return entries[-1].number if entries else 0

    def durable(self, partition: str) -> set[Identity]:
        """The objects of deliveries whose manifest is written."""
        entries = self.entries.get(partition, ())
        return {identity for e in entries if e.delivery.manifest in self.manifests for identity in e.landed}

    def contents(self, partition: str) -> set[tuple[str, str]]:
        """The last parts of the names of delivered objects, with their checksums."""
        items = (item for entry in self.entries.get(partition, ()) for item in entry.delivery.origin[OBJECTS])
        return {(item["name"].rpartition("/")[2], item["checksum"]) for item in items}

    def by_hand(self, partition: str) -> dict[str, set[str]]:
        """The last parts of names → checksums of what was delivered by hand since something else landed under them."""
        found: dict[str, set[str]] = {}
        for item in (item for entry in self.entries.get(partition, ()) for item in entry.delivery.origin[OBJECTS]):
            name = item["name"].rpartition("/")[2]
            if item["name"].startswith(BY_HAND):
                found.setdefault(name, set()).add(item["checksum"])
            else:
                found.pop(name, None)
        return found

    def overtaken(self, partition: str, identity: Identity, moment: datetime) -> int | None:
        """The number of the delivery that an object came after, where it was refused then and others have come since.

        None otherwise. Such an object is read only once the contract is mended: it isn't newer for that.

        Args:
            moment: when the object was written.
        """
        marks, entries = self.refused.get(partition), self.entries.get(partition)
        if not marks or not entries:
            return None
        # What came since was delivered under some version: under that one the object is refused, too.
        found = {
            self.log.mark(identity, version) + ending
            for version in self.log.versions(entries)
            for ending in ("", _WITH)
        } & marks
        after = min((self.log.came_after(partition, mark, entries, moment) for mark in found), default=None)
        return after if after is not None and any(entry.place > after for entry in entries) else None

    def stood_for(self, partition: str) -> dict[str, str]:
        """Files by hand → the name that each was passed over under, as `stand_in` says them."""
        return dict(self._passed_over.get(partition, {}).values())

    def before(self, partition: str, after: int) -> datetime:
        """The last free millisecond before what came later than the delivery of some number."""
        taken = self._times(partition)
        found = min(e.delivery.created_at for e in self.entries[partition] if e.place > after)
        while found in taken:
            found -= timedelta(milliseconds=1)
        return found

    def free(self, partition: str, moment: datetime) -> datetime:
        """The first millisecond from `moment` on that is later than all deliveries of the partition.

        What comes later counts, whatever the clock of whoever wrote it says: a corrected file may have an old time.
        """
        return max([moment, *(taken + timedelta(milliseconds=1) for taken in self._times(partition))])

    def _times(self, partition: str) -> set[datetime]:
        """The times of all deliveries of a partition, landed or not."""
        taken = {entry.delivery.created_at for entry in self.entries.get(partition, ())}
        manifests = map(keys.parse_manifest_key, self.manifests)
        return taken | {created_at for _, other, created_at in manifests if other == partition}
