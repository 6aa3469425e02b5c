"""Deciding which landed objects are in which delivery, and writing those: once, whoever asks at the same time.

What was decided is in the lake (see `landing_log`): who comes later finishes what somebody else began.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataops_platform.contracts.model import LoadMode, Table
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
from dataops_platform.lake.deliveries import (
    MOST_OBJECTS,
    OBJECTS,
    Delivery,
    Lake,
    Part,
    remove_scratch,
)
from dataops_platform.lake.inbox import Unreadable
from dataops_platform.lake.store import ObjectMissing


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


Tell = Callable[[Sequence[Refusal]], None]
"""Told what is refused, before that is remembered: who dies in between is told again."""

Misfits = Callable[[pa.Schema], Sequence[str]]
"""What keeps parquet of a schema from being loaded; nothing where it fits."""


class Registrar:
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
        """Of a snapshot some objects of which are new: those that were refused with them; and other culprits.

        By hand that is all that is handed in at once, also what had been before.

        Returns:
            What is delivered with the new objects, as nothing that it was refused for is left; and names of objects
            that are still refused, for which the new ones must wait, too.
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
        back = [item for item, culprits in mended if culprits]
        if any(name.startswith(BY_HAND) for name in names):  # what somebody names together is the snapshot
            blocking |= refused
            back += [item for item in incoming if known.is_delivered(partition, item.identity)]
        return back, sorted(blocking)

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


def _arrival(item: Incoming) -> tuple[int, str]:
    return item.created_ms, item.name


def _checksum(item: Incoming) -> str | None:
    """An object's checksum; None where it can't be read: reading it tells why."""
    try:
        return item.checksum()
    except (ObjectMissing, ConfigError):
        return None
