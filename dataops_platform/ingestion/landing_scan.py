"""What is new in landing, at a cost that follows what is new and not what is there.

A tick makes at most three bounded listings of landing:

- the *tail*: names after the last one seen, where names sort by partition. New data is usually here, and only here;
- the *window*: a page of the newest partitions, going round, for objects that come late or are written anew;
- the *sweep*: a page of all names, going round, so that nothing stays unseen in an old partition for ever.

What was still being written when it was met is looked at again at the next tick, by its name.

For the partitions that were met, the lake is asked which objects are delivered (see `landing_log`). So the position
of a tick is a few names: losing it, or an object that it names, loses nothing and delivers nothing twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import NamedPartitioning
from dataops_platform.ingestion.landing import Place, is_over, is_text, out_of_range, shown
from dataops_platform.ingestion.landing_log import LandingLog, Registered
from dataops_platform.lake.deliveries import Lake
from dataops_platform.lake.store import ObjectInfo

ASKED_KEPT = 1000
"""How many partitions that a run was asked for are remembered at most."""
UNSETTLED_KEPT = 100
"""How many names that are still being written are remembered at most."""
STRANGE_KEPT = 20
"""How many names that don't belong are remembered at most."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one tick does at most.

    Attributes:
        names: of the tail; of the sweep, where names don't sort by partition.
        page: names of the window, and of the sweep: what a bucket lists in one call.
        partitions: with new objects.
        runs: asked for, where partitions that follow on one another count as one.
        rest: between the beginnings of two sweeps.
        patience: after which a run is asked for again when it delivered nothing.
        grace: how old an object must be: a younger one is left to whoever is told of it.
    """

    names: int = 10_000
    page: int = 1000
    partitions: int = 1000
    runs: int = 30
    rest: timedelta = timedelta(minutes=15)
    patience: timedelta = timedelta(hours=1)
    grace: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that was asked for: the time of the newest object it is for, when, and what was delivered by then."""

    newest_ms: int
    at: float
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An object that is still being written: its generation, and since when it is seen with that one."""

    generation: int
    at: float


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next tick goes on; a few hundred bytes, and some more while many runs are under way.

    Attributes:
        tail: the last name seen, or an earlier one to begin with again.
        newest: the partition of the last name seen.
        late: where in the window; None: at its beginning.
        sweep: where in the sweep; None: it is complete.
        swept: when the sweep began.
        asked: by partition, the runs asked for whose objects aren't delivered yet.
        unsettled: by name, what was still being written.
        strange: names that don't belong, some of them, with the reason.
        strange_count: how many this sweep has met.
        strange_before: how many the complete sweep before has met.
        moved: up to which of Dagster's events rows that left a partition are known.
    """

    tail: str = ""
    newest: str | None = None
    late: str | None = None
    sweep: str | None = None
    swept: float = 0.0
    asked: Mapping[str, Asked] = field(default_factory=dict)
    unsettled: Mapping[str, Unsettled] = field(default_factory=dict)
    strange: Sequence[str] = ()
    strange_count: int = 0
    strange_before: int = 0
    moved: int = 0

    def to_json(self) -> str:
        """As a sensor's cursor."""
        return json.dumps(asdict(self) | {"strange": list(self.strange)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> Position:
        """Read a cursor; none is the beginning.

        Raises:
            ValueError: it isn't one.
        """
        if not text:
            return cls()
        try:
            body = json.loads(text)
            asked = {key: Asked(**value) for key, value in body.pop("asked").items()}
            unsettled = {key: Unsettled(**value) for key, value in body.pop("unsettled", {}).items()}
            made = cls(**body, asked=asked, unsettled=unsettled)
            odd = [name for name, kinds in _KINDS.items() if not isinstance(getattr(made, name), kinds)]
            if odd:
                raise TypeError(f"{odd[0]} is {getattr(made, odd[0])!r}")
            return made
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the position of a landing sensor: {error}") from error


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "tail": str,
    "newest": (str, type(None)),
    "late": (str, type(None)),
    "sweep": (str, type(None)),
    "swept": (int, float),
    "strange": list,
    "strange_count": int,
    "strange_before": int,
    "moved": int,
}
"""What the fields of a position may be: a cursor can be written by hand, in Dagster's UI."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A partition that a run is to deliver.

    Attributes:
        identity: hash of the new objects seen, and the hour: the same objects are asked for once in that time,
            even if the position of a tick was lost.
    """

    partition: str
    objects: int
    identity: str


def ask_for(partition: str, objects: Collection[tuple[str, int]], now: datetime) -> Ask:
    """Ask for a run that delivers these objects."""
    text = hashlib.sha256(json.dumps(sorted(objects)).encode()).hexdigest()[:16]
    hour = now.astimezone(UTC).strftime("%Y-%m-%dT%H")
    return Ask(partition, len(objects), f"{text}|{hour}")


@dataclass(slots=True)
class Scan:
    """What a tick saw.

    Attributes:
        position: for the next tick.
        asks: partitions that need a run, in order.
        names: how many names were looked at.
        new: how many objects are neither delivered nor refused.
        under_way: partitions with new objects that a run was asked for before.
        open: partitions with new objects that aren't over yet.
        unsettled: new objects that are still being written.
        young: objects that are left to whoever is told of them.
        refused: objects that were refused before.
        strange: names that don't belong, with the reason.
        more: whether a limit ended the tick, so that the next one should come soon.
    """

    position: Position
    asks: list[Ask] = field(default_factory=list)
    names: int = 0
    new: int = 0
    under_way: int = 0
    open: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    young: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    strange: dict[str, str] = field(default_factory=dict)
    more: bool = False


def scan(
    table: Table, place: Place, lake: Lake, position: Position, now: datetime, limits: Limits | None = None
) -> Scan:
    """One tick.

    Raises:
        ConfigError: landing or the lake can't be read.
        Unavailable: a service doesn't answer.
    """
    return _Tick(table, place, lake, position, now, limits or Limits()).run()


def strange_names(place: Place, now: datetime, limit: int) -> tuple[dict[str, str], int]:
    """Names below a table's prefix that don't belong, with the reason, and how many names were looked at.

    Args:
        limit: of names to look at, from the first one on.
    """
    found: dict[str, str] = {}
    count = 0
    for info in itertools.islice(place.inbox.list(place.watched), limit):
        count += 1
        if (reason := strange_because(place, info, now)) is not None:
            found[shown(info.key)] = reason
    return found, count


def strange_because(place: Place, info: ObjectInfo, now: datetime) -> str | None:
    """Why an object doesn't belong where it is; None where it does, is a marker, or another table's."""
    if place.is_marker(info.key):
        return None
    if not is_text(info.key):
        return "has a name that isn't UTF-8"
    partition = place.landing.pattern.match(info.key)
    if partition is None:
        if place.is_neighbours(info.key):
            return None
        return f"matches no pattern (objectPattern is {place.landing.pattern.text})"
    if (reason := out_of_range(place.landing.pattern.partitioning, partition, now)) is not None:
        return reason
    return "is empty (0 bytes)" if info.size == 0 else None


def neighbour(table: Table, partition: str) -> str | None:
    """The partition right before another one; None where there is none, or the table has no partitions."""
    cut = table.partitioning
    if isinstance(cut, NamedPartitioning):
        place = cut.names.index(partition)
        return cut.names[place - 1] if place else None
    return None if cut is None else cut.key(cut.parse(partition) - timedelta(minutes=1))


class _Tick:
    def __init__(
        self, table: Table, place: Place, lake: Lake, position: Position, now: datetime, limits: Limits
    ) -> None:
        self._table, self._place, self._lake, self._limits, self._now = table, place, lake, limits, now
        self._pattern = place.landing.pattern
        self._log = LandingLog(lake.store, table)
        since = now.timestamp() - limits.patience.total_seconds()
        recent = {key: value for key, value in position.asked.items() if value.at > since}
        self._before = replace(position, asked=recent)
        self._scan = Scan(position)
        self._new: dict[str, set[tuple[str, int]]] = {}
        self._newest: dict[str, int] = {}
        self._delivered: dict[str, int] = {}
        self._unsettled: dict[str, Unsettled] = {}
        self._fresh: set[str] = set()
        self._gaps = 0

    def run(self) -> Scan:
        """What is to be looked at again, the three listings, then what to ask for."""
        position = self._before
        self._again()
        if self._pattern.ordered:
            position = self._tail(position)
            position = self._window(position)
        position = self._sweep(position)
        self._scan.position = replace(self._ask(position), unsettled=self._unsettled)
        return self._scan

    def _again(self) -> None:
        """What was still being written. It is asked for by name: the listings went on, so that it holds up no other."""
        before = self._before.unsettled
        if not before:
            return
        found = [info for name in before if (info := self._place.inbox.stat(name)) is not None]
        looked, _ = self._look(found)
        self._unsettled |= {info.key: before[info.key] for info in found[len(looked) :]}

    # -- listings ------------------------------------------------------------------------------------------------------

    def _tail(self, position: Position) -> Position:
        """Names after the last one seen, up to the partition of now: a date in the future must not hide the present.

        Of more names that are still being written than are remembered, the next tick begins with the first one.
        """
        start = max(position.tail, self._pattern.prefix)
        seen, stopped = self._look(self._page(self._pattern.prefix, start, self._end, self._limits.names))
        self._scan.more |= stopped is not None or len(seen) == self._limits.names
        last = stopped or (seen[-1].key if seen else position.tail)
        partition = self._pattern.match(last) or position.newest
        forgotten = self._scan.unsettled - self._unsettled.keys()
        tail = next((info.key for info in seen if info.key in forgotten), last)
        return replace(position, tail=tail, newest=partition)

    def _window(self, position: Position) -> Position:
        """A page of the newest partitions. What the tail is still catching up with needs no second look."""
        if position.newest is None or self._scan.more:
            return position
        first = self._back(position.newest, self._place.landing.window)
        start = max(position.late or "", self._pattern.prefix_of(first))
        seen, stopped = self._look(self._page(self._pattern.prefix, start, self._end, self._limits.page))
        if stopped is None and len(seen) < self._limits.page:
            return replace(position, late=None)
        return replace(position, late=stopped or seen[-1].key)

    def _sweep(self, position: Position) -> Position:
        """A page of everything."""
        size = self._limits.page if self._pattern.ordered else self._limits.names
        if position.sweep is None:
            due = self._now.timestamp() - position.swept >= self._limits.rest.total_seconds()
            if self._pattern.ordered and not due:
                return position
            position = replace(position, sweep="", swept=self._now.timestamp(), strange_count=0, strange=())
        again = position.sweep or None
        listed = self._page(self._place.watched, again, None, size)
        seen, stopped = self._look(listed)
        odd = {shown(i.key): reason for i in seen if (reason := strange_because(self._place, i, self._now)) is not None}
        odd.pop(shown(again or ""), None)  # the page before ended with it
        told = [f"{name}: {reason}" for name, reason in odd.items()]
        position = replace(
            position,
            strange=[*position.strange, *told][:STRANGE_KEPT],
            strange_count=position.strange_count + len(odd),
        )
        if stopped is None and len(listed) < size:
            return replace(position, sweep=None, strange_before=position.strange_count)
        if not self._pattern.ordered:
            self._scan.more = True
        return replace(position, sweep=stopped or seen[-1].key)

    def _page(self, prefix: str, start: str | None, end: str | None, size: int) -> list[ObjectInfo]:
        return list(itertools.islice(self._place.inbox.list(prefix, start, end), size))

    @property
    def _end(self) -> str | None:
        """Where names of partitions after the one of now begin."""
        partitioning = self._table.by_time
        if partitioning is None:
            return None
        local = self._now.astimezone(ZoneInfo(partitioning.timezone)).replace(tzinfo=None)
        current = partitioning.parse(partitioning.key(local))
        return self._pattern.prefix_of(partitioning.key(partitioning.next(current)))

    def _back(self, partition: str, count: int) -> str:
        """The partition so many before."""
        partitioning = self._table.by_time
        assert partitioning is not None
        moment = partitioning.parse(partition)
        for _ in range(count - 1):
            moment = partitioning.parse(partitioning.key(moment - timedelta(minutes=1)))
        return partitioning.key(moment)

    # -- what is new ---------------------------------------------------------------------------------------------------

    def _look(self, listed: Sequence[ObjectInfo]) -> tuple[list[ObjectInfo], str | None]:
        """Find what is new among listed objects.

        Returns:
            Those looked at, and the name to go on with where the limit of partitions was met.
        """
        candidates = dict(self._candidates(listed))
        partitions = set(candidates.values())
        known = Registered.read(self._log, self._lake, self._table.name, partitions)
        for partition in partitions:
            unfinished = known.unfinished(partition)
            for entry in unfinished:
                self._add(partition, (f"entry {entry.number}", 0), 0)
            self._delivered[partition] = len(known.entries.get(partition, ())) - len(unfinished)
        for number, info in enumerate(listed):
            of, identity = candidates.get(info), (info.key, info.generation)
            if of is not None and known.is_new(of, identity):
                if self._is_unsettled(info):
                    continue
                if not self._room(of):
                    self._scan.names += number
                    self._scan.more = True
                    return list(listed[:number]), info.key
                self._add(of, identity, info.created_ms)
            elif of is not None and known.is_refused(of, identity):
                self._scan.refused.add(info.key)
        self._scan.names += len(listed)
        return list(listed), None

    def _candidates(self, listed: Iterable[ObjectInfo]) -> Iterator[tuple[ObjectInfo, str]]:
        """Objects that could be delivered now, with their partitions."""
        grace_ms = self._limits.grace.total_seconds() * 1000
        for info in listed:
            reason = strange_because(self._place, info, self._now)
            if reason is not None:
                self._scan.strange[shown(info.key)] = reason
                continue
            partition = None if self._place.is_marker(info.key) else self._pattern.match(info.key)
            if partition is None:
                continue
            if not is_over(self._pattern.partitioning, partition, self._now):
                self._scan.open.add(partition)
            elif grace_ms and info.created_ms + grace_ms > self._now.timestamp() * 1000:
                self._scan.young.add(info.key)
            else:
                yield info, partition

    def _is_unsettled(self, info: ObjectInfo) -> bool:
        """Whether an object is still being written; remembers it then.

        One that a tick has seen before as it is now isn't, whatever its time says: that may be ahead of now for ever.
        """
        settle, at = self._place.inbox.settle, self._now.timestamp()
        if info.created_ms / 1000 + settle <= at or not settle:
            return False
        before = self._before.unsettled.get(info.key)
        since = before.at if before is not None and before.generation == info.generation else at
        if since + settle <= at:
            return False
        self._scan.unsettled.add(info.key)
        if len(self._unsettled) < UNSETTLED_KEPT:
            self._unsettled[info.key] = Unsettled(info.generation, since)
        return True

    def _room(self, partition: str) -> bool:
        if partition in self._new or partition in self._before.asked:
            return True
        if self._gaps >= self._limits.runs and not self._adjacent(partition):
            return False
        return len(self._fresh) < self._limits.partitions

    def _adjacent(self, partition: str) -> bool:
        before = neighbour(self._table, partition)
        return before is not None and before in self._new

    def _add(self, partition: str, identity: tuple[str, int], created_ms: int) -> None:
        if partition not in self._new and partition not in self._before.asked:
            self._gaps += not self._adjacent(partition)
            self._fresh.add(partition)
        self._new.setdefault(partition, set()).add(identity)
        self._newest[partition] = max(created_ms, self._newest.get(partition, 0))

    # -- what to ask for -----------------------------------------------------------------------------------------------

    def _ask(self, position: Position) -> Position:
        """Ask for runs, but not again for what a run was asked for, unless newer objects came or time went by.

        Nor is what is new under way once the run has delivered: it came later, whatever its time says.
        """
        at, asked = self._now.timestamp(), dict(self._before.asked)
        for partition, objects in sorted(self._new.items()):
            before, newest = asked.get(partition), self._newest[partition]
            delivered = self._delivered.get(partition, 0)
            if before is not None and newest <= before.newest_ms and delivered <= before.deliveries:
                self._scan.under_way += 1
                continue
            self._scan.asks.append(ask_for(partition, objects, self._now))
            asked[partition] = Asked(newest, at, delivered)
        self._scan.new = sum(map(len, self._new.values()))
        kept = sorted(asked.items(), key=lambda item: -item[1].at)[:ASKED_KEPT]
        return replace(position, asked=dict(kept))
