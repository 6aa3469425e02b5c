"""Partitions of a table: keys in a fixed spelling, each a half-open interval of local time, or a name of a list.

Keys are texts that sort in the order of their partitions: that of time, or that of the names' characters. Ranges are
about that order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

UNPARTITIONED = "all"
"""The key under which the ledger and the lake file a table that has no partitions."""


class Granularity(StrEnum):
    """Length of a partition."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"  # from Monday, as in ISO 8601
    MONTH = "month"


_FORMATS = {
    Granularity.HOUR: "%Y-%m-%d-%H:00",
    Granularity.DAY: "%Y-%m-%d",
    Granularity.WEEK: "%Y-%m-%d",  # its Monday
    Granularity.MONTH: "%Y-%m-01",
}


@dataclass(frozen=True, slots=True)
class Partitioning:
    """How a table is cut by time.

    Attributes:
        field: the column that says which partition a row belongs to (a date, timestamp or datetime).
        granularity: hour, day, week or month.
        start: first day that has a partition.
        end: last day that has a partition, inclusive; None: open-ended, up to the last complete partition.
        timezone: IANA name of the zone in which days begin.
    """

    field: str
    granularity: Granularity
    start: date
    end: date | None = None
    timezone: str = "UTC"

    @property
    def key_format(self) -> str:
        """The strftime pattern of a key; keys sort in time order."""
        return _FORMATS[self.granularity]

    def key(self, moment: datetime) -> str:
        """The key of the partition that holds `moment` (local wall-clock time)."""
        if self.granularity is Granularity.WEEK:
            moment -= timedelta(days=moment.weekday())
        # Years have four digits; `strftime` pads them on some platforms only.
        return moment.strftime(self.key_format.replace("%Y", f"{moment.year:04d}"))

    def parse(self, key: str) -> datetime:
        """The local start of a partition.

        Raises:
            ValueError: the key isn't spelled as this granularity's keys are.
        """
        try:
            moment = datetime.strptime(key, self.key_format)
        except ValueError:
            raise ValueError(f"partition {key!r} isn't of the form {self.example}") from None
        if self.key(moment) != key:
            raise ValueError(f"partition {key!r} isn't of the form {self.example}")
        return moment

    def check(self, key: str) -> None:
        """See `NamedPartitioning.check`; whether there is such a partition yet is another question.

        Raises:
            ValueError: the key isn't spelled as this granularity's keys are.
        """
        self.parse(key)

    @property
    def example(self) -> str:
        """The first key, as an example of the form."""
        return self.key(datetime.combine(self.start, datetime.min.time()))

    def next(self, start: datetime) -> datetime:
        """The local end (exclusive) of the partition that starts at `start`."""
        match self.granularity:
            case Granularity.HOUR:
                return start + timedelta(hours=1)
            case Granularity.DAY:
                return start + timedelta(days=1)
            case Granularity.WEEK:
                return start + timedelta(days=7)
            case Granularity.MONTH:
                return (start.replace(day=1) + timedelta(days=32)).replace(day=1)

    def ends_at(self, key: str) -> datetime:
        """The instant (UTC) at which the partition is over."""
        return self.next(self.parse(key)).replace(tzinfo=ZoneInfo(self.timezone)).astimezone(UTC)

    def _limit(self, now: datetime) -> datetime:
        if self.end is not None:
            return datetime.combine(self.end, datetime.min.time()) + timedelta(days=1)
        return now.astimezone(ZoneInfo(self.timezone)).replace(tzinfo=None)

    def keys(self, first: str | None = None, last: str | None = None, now: datetime | None = None) -> list[str]:
        """All keys from `first` to `last`, both inclusive; without bounds, all complete partitions as of `now`.

        Raises:
            ValueError: a bound is misspelled, out of range, or the range runs backwards.
        """
        keys = list(self._all(now or datetime.now(UTC)))
        if not keys:
            return keys
        for bound in (first, last):
            if bound is not None:
                self.parse(bound)
                if not keys[0] <= bound <= keys[-1]:
                    raise ValueError(f"partition {bound!r} is outside {keys[0]}..{keys[-1]}")
        low, high = first or keys[0], last or keys[-1]
        if low > high:
            raise ValueError(f"the range {low}..{high} runs backwards")
        return [key for key in keys if low <= key <= high]

    @property
    def last(self) -> str | None:
        """The last key; None where the partitions go on."""
        return None if self.end is None else self.key(datetime.combine(self.end, datetime.max.time()))

    def between(self, first: str, last: str) -> list[str]:
        """The keys from one to another, both inclusive, whether there are such partitions yet or not; none backwards.

        Raises:
            ValueError: a key is misspelled.
        """
        return list(self._walk(self.parse(first), self.next(self.parse(last))))

    def _all(self, now: datetime) -> Iterator[str]:
        return self._walk(datetime.combine(self.start, datetime.min.time()), self._limit(now))

    def _walk(self, moment: datetime, limit: datetime) -> Iterator[str]:
        """The keys of the partitions from one that begins at a moment, as far as they are over at another."""
        zone = ZoneInfo(self.timezone)
        while (following := self.next(moment)) <= limit:
            # Where clocks are set forward there is no such hour.
            there = moment.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == moment
            if there or self.granularity is not Granularity.HOUR:
                yield self.key(moment)
            moment = following


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""What a partition may be called: names become parts of objects' keys, on every store."""
_LIKE_A_DATE = re.compile(r"\d{4}-\d{2}-\d{2}.*")
_SHOWN = 10
"""How many names a message lists."""


def misnamed(name: str) -> str | None:
    """Why a partition can't be called so; None where it can."""
    if name.lower() == UNPARTITIONED:
        return f"`{name}` stands for a table without partitions"
    if _LIKE_A_DATE.fullmatch(name):
        return f"`{name}` is like a date, which is the key of a partition by time"
    if not NAME.fullmatch(name) or ".." in name:
        return f"`{name}` isn't a name of letters, digits, `_`, `-` and `.`, a letter or digit first, 63 at most"
    return None


@dataclass(frozen=True, slots=True)
class NamedPartitioning:
    """How a table is cut by name: into regions, branches, brands.

    A row belongs to the partition whose name is the value of the partition column, letter by letter.

    Attributes:
        field: the column that says which partition a row belongs to (a string).
        names: of all partitions, sorted.
    """

    field: str
    names: tuple[str, ...]

    @property
    def example(self) -> str:
        """The first key."""
        return self.names[0]

    def check(self, key: str) -> None:
        """Make sure that there is such a partition.

        Raises:
            ValueError: there is none; the text says which there are.
        """
        if key not in self.names:
            raise ValueError(f"partition {key!r} isn't one of {listed(self.names, key)}")

    def keys(self, first: str | None = None, last: str | None = None, now: datetime | None = None) -> list[str]:
        """All names from `first` to `last`, both inclusive, in their order; without bounds, all.

        Args:
            now: has no bearing: all partitions are there at any time.

        Raises:
            ValueError: there is no such partition, or the range runs backwards.
        """
        for bound in (first, last):
            if bound is not None:
                self.check(bound)
        low, high = first or self.names[0], last or self.names[-1]
        if low > high:
            raise ValueError(f"the range {low}..{high} runs backwards")
        return [name for name in self.names if low <= name <= high]

    @property
    def last(self) -> str:
        """The last name."""
        return self.names[-1]

    def between(self, first: str, last: str) -> list[str]:
        """The names from one to another, both inclusive, in their order."""
        return [name for name in self.names if first <= name <= last]


Cut = Partitioning | NamedPartitioning
"""How a table is cut."""


def listed(names: Sequence[str], wanted: str) -> str:
    """Names for a message: those like what was wanted first, and not too many."""
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
    shown = [*near, *(name for name in names if name not in near)][:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
