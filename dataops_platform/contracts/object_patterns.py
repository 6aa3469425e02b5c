"""Patterns of object names in landing: from a name to its partition, and from a partition to where its names begin.

A pattern is literal text with `*` (any characters but `/`) and placeholders in braces. It becomes a regular expression
for whole names, and a literal beginning for listings, which tells how cheap it is to find what is new.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from dataops_platform.contracts.partitions import NAME, UNPARTITIONED, Cut, Granularity, NamedPartitioning, Partitioning
from dataops_platform.contracts.suggest import one_of


class Unit(StrEnum):
    """Parts of a date, the longest first."""

    YEAR = "Y"
    MONTH = "m"
    DAY = "d"
    HOUR = "H"
    MINUTE = "M"
    SECOND = "S"


_ORDER = tuple(Unit)
_NEEDED = {
    Granularity.MONTH: Unit.MONTH,
    Granularity.WEEK: Unit.DAY,
    Granularity.DAY: Unit.DAY,
    Granularity.HOUR: Unit.HOUR,
}


class Free(StrEnum):
    """What says nothing about the partition."""

    ANY = "*"
    NUMBER = "number"
    UUID = "uuid"


class Named(StrEnum):
    """The name of a partition."""

    NAME = "partition"


Token = str | Unit | Free | Named
"""Literal text, a part of a date, a partition's name, or something free. A literal is a plain `str`, the others are of
their classes.
"""

_REGEX: Mapping[Token, str] = {
    Unit.YEAR: "(?P<Y>[0-9]{4})",
    **{unit: f"(?P<{unit}>[0-9]{{2}})" for unit in _ORDER[1:]},
    Free.ANY: "[^/]*",
    Free.NUMBER: "[0-9]+",
    Free.UUID: "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
_FREE = {"n": Free.NUMBER, "epoch": Free.NUMBER, "uuid": Free.UUID}
_COMPACT = {"YYYY": Unit.YEAR, "MM": Unit.MONTH, "DD": Unit.DAY, "HH": Unit.HOUR}
_IS_COMPACT = re.compile(r"(?:YYYY|MM|DD|HH)(?:[_-](?:YYYY|MM|DD|HH))*")
_NAMES = ("partition", "date:%Y-%m-%d", "YYYY", "MM", "DD", "HH", "YYYY_MM_DD", "epoch", "n", "uuid")
"""Placeholders, as messages list them."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class PatternError(ValueError):
    """A pattern can't be used.

    Attributes:
        what: what is wrong.
        hint: what to do about it.
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what} → {hint}")
        self.what, self.hint = what, hint


def is_literal(token: Token) -> bool:
    """Whether a token is literal text."""
    return type(token) is str


@dataclass(frozen=True)
class ObjectPattern:
    """A checked pattern of one table.

    Attributes:
        text: as it is written in the contract.
        tokens: what it is made of.
        partitioning: how the table is cut; None: not at all.
    """

    text: str
    tokens: tuple[Token, ...]
    partitioning: Cut | None = None

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = []
        seen: set[Token] = set()
        for token in self.tokens:
            if is_literal(token):
                parts.append(re.escape(token))
            elif token in seen and isinstance(token, Unit | Named):
                parts.append(f"(?P={token})")  # a date written twice is the same date
            else:
                seen.add(token)
                parts.append(self._names if isinstance(token, Named) else _REGEX[token])
        return re.compile("".join(parts), re.DOTALL)

    @property
    def _names(self) -> str:
        """What a partition's name looks like: one that the table has, where that fits, else any."""
        known = (
            sorted(self.partitioning.names, reverse=True) if isinstance(self.partitioning, NamedPartitioning) else []
        )
        return f"(?P<{Named.NAME}>{'|'.join([*map(re.escape, known), NAME.pattern])})"

    def match(self, name: str) -> str | None:
        """The partition that a name belongs to (`all` for a table without partitions); None: it isn't of the pattern.

        Where several dates would do, `*` takes as much as it can. Whether the table has that partition is another
        question.
        """
        found = self._regex.fullmatch(name)
        if found is None or {"", ".", ".."} & set(name.split("/")):
            return None
        if self.partitioning is None:
            return UNPARTITIONED
        if isinstance(self.partitioning, NamedPartitioning):
            return found[Named.NAME]
        values = {unit: int(text) for unit, text in found.groupdict().items()}
        try:
            moment = datetime(
                values[Unit.YEAR], values[Unit.MONTH], values.get(Unit.DAY, 1), values.get(Unit.HOUR, 0),
                values.get(Unit.MINUTE, 0), values.get(Unit.SECOND, 0),
            )  # fmt: skip
        except ValueError:
            return None
        return self.partitioning.key(moment)

    @cached_property
    def prefix(self) -> str:
        """The literal text that all names begin with."""
        first = self.tokens[0] if self.tokens else ""
        return first if is_literal(first) else ""

    def prefix_of(self, partition: str) -> str:
        """The literal text that all names of a partition begin with; of a week, those of its Monday.

        Where names sort by partition, no name of it comes before that.
        """
        if self.partitioning is None:
            return self.prefix
        moment = None if isinstance(self.partitioning, NamedPartitioning) else self.partitioning.parse(partition)
        determined = self._determined
        text = ""
        for token in self.tokens:
            if isinstance(token, Named):
                text += partition
            elif moment is not None and isinstance(token, Unit) and token in determined:
                text += moment.strftime(f"%{token}").zfill(4 if token is Unit.YEAR else 2)
            elif is_literal(token):
                text += token
            else:
                break
        return text

    @property
    def _determined(self) -> Sequence[Unit]:
        """The parts of a date that a partition's key says."""
        if self.partitioning is None or isinstance(self.partitioning, NamedPartitioning):
            return ()
        return _ORDER[: _ORDER.index(_NEEDED[self.partitioning.granularity]) + 1]

    @cached_property
    def ordered(self) -> bool:
        """Whether names sort by the time of their partition: what is new is then found at the end of a listing."""
        if self.partitioning is None or isinstance(self.partitioning, NamedPartitioning):
            return False
        units: list[Unit] = []
        for token in self.tokens:
            if isinstance(token, Unit):
                if token not in self._determined or token in units:
                    break
                units.append(token)
            elif not is_literal(token):
                break
        return tuple(units) == tuple(self._determined)

    @property
    def narrow(self) -> bool:
        """Whether a partition's names can be listed without those of all others."""
        if isinstance(self.partitioning, Partitioning) and self.partitioning.granularity is Granularity.WEEK:
            return self.ordered  # as a range: a week's days have no beginning in common
        for token in self.tokens:
            if not is_literal(token):
                return isinstance(token, Named) or (isinstance(token, Unit) and token in self._determined)
        return False


def compile_pattern(
    text: str, partitioning: Cut | None, words: Mapping[str, str | None] | None = None
) -> ObjectPattern:
    """Read a pattern.

    Args:
        partitioning: how the table is cut.
        words: placeholders that stand for one fixed text, like the table's name; None where the contract doesn't say.

    Raises:
        PatternError: it can't be used for such a table.
    """
    words = words or {}
    tokens: list[Token] = []
    position = 0
    for found in _PLACEHOLDER.finditer(text):
        tokens += _plain(text[position : found.start()])
        tokens += _placeholder(found[1], partitioning, words)
        position = found.end()
    tokens += _plain(text[position:])
    pattern = ObjectPattern(text, _joined(tokens), partitioning)
    _check(pattern)
    return pattern


def _plain(text: str) -> Iterator[Token]:
    if brace := re.search(r"[{}]", text):
        raise PatternError(f"a `{brace[0]}` without its counterpart", "write placeholders like {partition}")
    if "**" in text:
        raise PatternError("`**` isn't known", "write `*` for each folder: it stands for anything but `/`")
    if wrong := re.search(r"[?\[\]#\x00-\x1f]", text):
        raise PatternError(
            f"`{wrong[0]}` isn't allowed", "`*` stands for anything but `/`; other characters are literal"
        )
    for number, part in enumerate(text.split("*")):
        if number:
            yield Free.ANY
        yield part


def _placeholder(name: str, partitioning: Cut | None, words: Mapping[str, str | None]) -> list[Token]:
    if name == "partition":
        if partitioning is None:
            raise PatternError("the table has no partitions, the pattern has {partition}", "write `*` instead")
        if isinstance(partitioning, NamedPartitioning):
            return [Named.NAME]
        return _dated(partitioning.key_format, name)
    if name.startswith("date:"):
        return _dated(name.removeprefix("date:"), name)
    if name in _FREE:
        return [_FREE[name]]
    if name in words:
        value = words[name]
        if not value:
            raise PatternError(f"nothing says what {{{name}}} is", f"add the customProperty `{name}`, or write it out")
        return [value]
    if _IS_COMPACT.fullmatch(name):
        return [_COMPACT.get(part, part) for part in re.split("([_-])", name)]
    known = [f"{{{known}}}" for known in (*_NAMES, *words)]
    hint = one_of(f"{{{name}}}", known)
    raise PatternError(f"unknown placeholder {{{name}}}", f"{hint}; or write {{date:…}} with %Y, %m, %d and %H")


def _dated(form: str, name: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    for found in re.finditer("%(.?)", form):
        tokens.append(form[position : found.start()])
        if found[1] not in set(_ORDER):
            raise PatternError(f"`{found[0]}` in {{{name}}} isn't known", "use %Y, %m, %d, %H, %M and %S")
        tokens.append(Unit(found[1]))
        position = found.end()
    tokens.append(form[position:])
    if not any(isinstance(token, Unit) for token in tokens):
        raise PatternError(f"{{{name}}} has no date in it", "write {date:%Y-%m-%d}")
    return tokens


def _joined(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """Neighbouring literals as one, empty ones left out."""
    result: list[Token] = []
    for token in tokens:
        if is_literal(token) and result and is_literal(result[-1]):
            result[-1] += token
        elif token or not is_literal(token):
            result.append(token)
    return tuple(result)


def _check(pattern: ObjectPattern) -> None:
    if not pattern.prefix:
        raise PatternError(
            "the pattern begins with no fixed text: finding one table's objects would mean listing the whole place",
            f"put them below a folder of their own, like `{'{table}/' + pattern.text}`",
        )
    example = "".join(token if is_literal(token) else "0" for token in pattern.tokens)
    if pattern.text.endswith("/") or {"", ".", ".."} & set(example.split("/")):
        raise PatternError(
            "the pattern is no name of an object", "write names separated by single `/`, without `.` or `..`"
        )
    if pattern.partitioning is None:
        return
    if isinstance(pattern.partitioning, NamedPartitioning):
        _check_named(pattern)
        return
    for left, right in itertools.pairwise(pattern.tokens):
        if {type(left), type(right)} == {Free, Unit} and Free.NUMBER in (left, right):
            raise PatternError("a number directly beside a date", "nobody can tell them apart: put something between")
    units = {token for token in pattern.tokens if isinstance(token, Unit)}
    needed = _NEEDED[pattern.partitioning.granularity]
    missing = [unit.name.lower() for unit in _ORDER[: _ORDER.index(needed) + 1] if unit not in units]
    if missing:
        granularity = pattern.partitioning.granularity
        what = f"the pattern doesn't name the {' and '.join(missing)}" if units else "the pattern names no partition"
        raise PatternError(f"{what}, but the table is partitioned by {granularity}", "add {partition}, or {date:…}")


def _check_named(pattern: ObjectPattern) -> None:
    """What a pattern needs of a table that is cut by name: its name, and something literal on both sides of it."""
    if Named.NAME not in pattern.tokens:
        raise PatternError("the pattern names no partition, but the table is partitioned by name", "add {partition}")
    for left, right in itertools.pairwise(pattern.tokens):
        beside = {type(left), type(right)} - {Named}
        if Named.NAME in (left, right) and str not in beside:
            raise PatternError(
                "{partition} directly beside something else that isn't fixed",
                "nobody can tell them apart: put something between",
            )


_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_IN_NAMES = frozenset(string.ascii_letters + string.digits + "_.-")


@dataclass(frozen=True, slots=True)
class _Step:
    """One character of a set (None: any but `/`), or any number of them."""

    characters: frozenset[str] | None
    many: bool = False

    def meets(self, other: _Step) -> bool:
        """Whether some character is of both."""
        if self.characters is None or other.characters is None:
            known = self.characters or other.characters
            return known is None or bool(known - {"/"})
        return bool(self.characters & other.characters)


def _steps(tokens: Sequence[Token]) -> list[_Step]:
    steps: list[_Step] = []
    for token in tokens:
        if token is Free.ANY:
            steps.append(_Step(None, many=True))
        elif token is Free.NUMBER:
            steps += [_Step(_DIGITS), _Step(_DIGITS, many=True)]
        elif isinstance(token, Named):
            steps += [_Step(_IN_NAMES), _Step(_IN_NAMES, many=True)]
        elif token is Free.UUID:
            for length in (8, 4, 4, 4, 12):
                steps += [*[_Step(_HEX)] * length, _Step(frozenset("-"))]
            steps.pop()
        elif isinstance(token, Unit):
            steps += [_Step(_DIGITS)] * (4 if token is Unit.YEAR else 2)
        else:
            steps += [_Step(frozenset(character)) for character in token]
    return steps


def glob(text: str) -> tuple[Token, ...]:
    """The tokens of a text in which only `*` is special."""
    return _joined(list(_plain(text)))


def overlap(left: Sequence[Token], right: Sequence[Token]) -> bool:
    """Whether some name could be of both patterns, whether or not its dates are in the calendar."""
    a, b = _steps(left), _steps(right)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(a) and j == len(b):
            return True
        following = []
        if i < len(a) and a[i].many:
            following.append((i + 1, j))
        if j < len(b) and b[j].many:
            following.append((i, j + 1))
        if i < len(a) and j < len(b) and a[i].meets(b[j]):
            following.append((i + (not a[i].many), j + (not b[j].many)))
        for pair in following:
            if pair not in seen:
                seen.add(pair)
                todo.append(pair)
    return False
