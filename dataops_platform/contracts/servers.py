"""A contract's `servers`: where others write objects of its tables.

A server is such a place when it has our customProperty `objectPattern`; all others are left to people.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataops_platform.contracts.custom import custom_properties
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.file_formats import OPTIONS, FileReading, OptionError, file_reading
from dataops_platform.contracts.model import LATE_WINDOW, AfterLanding, Landing
from dataops_platform.contracts.object_patterns import PatternError, compile_pattern, overlap
from dataops_platform.contracts.partitions import Cut
from dataops_platform.contracts.suggest import one_of

ENVIRONMENTS = ("local", "staging", "production")
"""What DATAOPS_ENV can be."""

_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/[^\x00-\x1f*?#\[\]{}]*)?")
_TABLE_WORDS = ("table", "stream")
"""Placeholders that stand for the table."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A table's claim to the objects of a place, and where it is declared."""

    table: str
    landing: Landing
    place: Place

    def contests(self, other: Claim) -> bool:
        """Whether both are about the same environment."""
        mine, theirs = self.landing, other.landing
        if mine.in_bucket is not theirs.in_bucket:  # a folder is looked at only where there are no buckets
            return False
        return mine.environment is None or theirs.environment is None or mine.environment == theirs.environment

    @property
    def full(self) -> tuple[Any, ...]:
        """The pattern with its place in front."""
        base = self.landing.location if self.landing.in_bucket else posixpath.normpath(self.landing.location)
        return (base.rstrip("/") + "/", *self.landing.pattern.tokens)


def read_landings(contract: Place, partitionings: Mapping[str, Cut | None]) -> Iterator[Claim]:
    """The places that a contract names for its tables.

    Args:
        contract: the document.
        partitionings: how each of its tables is cut by time.
    """
    found: list[Claim] = []
    for server in contract.at("servers").items():
        custom = custom_properties(server, "server")
        if "objectPattern" not in custom:
            for name, place in custom.items():
                place.problem(
                    f"`{name}` without an objectPattern", "add the customProperty `objectPattern`, or remove it"
                )
            continue
        for claim in _claims(server, custom, partitionings):
            other = next((x for x in found if x.table == claim.table and _same_environment(x, claim)), None)
            if other is not None:
                where = f"for the same environment on line {other.place.line}"
                message = f"table `{claim.table}` has another landing server {where}"
                claim.place.problem(message, "give each an `environment` of its own, or keep one")
                continue
            found.append(claim)
            yield claim


def _same_environment(left: Claim, right: Claim) -> bool:
    return left.landing.in_bucket is right.landing.in_bucket and left.landing.environment == right.landing.environment


def _claims(server: Place, custom: Mapping[str, Place], partitionings: Mapping[str, Cut | None]) -> Iterator[Claim]:
    place = custom["objectPattern"]
    location, environment = _location(server), _environment(server)
    reading, after, window = _reading(server, custom), _after(custom), _window(custom)
    text = place.value
    if not isinstance(text, str) or not text:
        place.problem(f"objectPattern {text!r} isn't a text", "write it like `flights/dt={partition}/*.parquet`")
        return
    names = _tables(server, custom, text, partitionings)
    if location is None or reading is None or after is None or window is None or environment is _WRONG:
        return
    for name in names:
        words = {"table": name, "stream": _text(custom, "stream") or name, "namespace": _text(custom, "namespace")}
        try:
            pattern = compile_pattern(text.lstrip("/"), partitionings[name], words)
        except PatternError as error:
            place.problem(f"objectPattern of table `{name}`: {error.what}", error.hint)
            return
        landing = Landing(location, pattern, reading, after, environment, window, place.line)
        yield Claim(name, landing, place)


def _tables(
    server: Place, custom: Mapping[str, Place], text: str, partitionings: Mapping[str, Cut | None]
) -> Sequence[str]:
    """The tables that a server is for: the one named, the only one, or, where the pattern says which, all."""
    if (place := custom.get("table")) is not None:
        if place.value in partitionings:
            return [place.value]
        place.absent(f"the contract has no table `{place.value}`", one_of(place.value, partitionings))
        return []
    if len(partitionings) > 1 and not any(f"{{{word}}}" in text for word in _TABLE_WORDS):
        hint = "add the customProperty `table`, or write {table} in the pattern"
        server.problem("the contract has several tables: whose objects are these?", hint)
        return []
    return list(partitionings)


def _text(custom: Mapping[str, Place], name: str) -> str | None:
    """A text that can be part of a name; None where it isn't given."""
    place = custom.get(name)
    if place is None:
        return None
    if not isinstance(place.value, str) or not re.fullmatch(r"[^/*{}\x00-\x1f]+", place.value):
        place.problem(f"{name} `{place.value}` isn't a part of a name", "write it as it stands in the objects' names")
        return None
    return place.value


def _location(server: Place) -> str | None:
    """Where the server is; None when that can't be used, which is reported."""
    kind = server.get("type")
    if kind == "local":
        path = server.get("path", "")
        if not path or re.search(r"[*?{}\x00-\x1f]", path) or ".." in path.split("/"):
            hint = "write a folder, absolute or relative to the project, and the rest into objectPattern"
            server.at("path").problem(f"path `{path}` isn't a folder", hint)
            return None
        return str(path)
    if kind != "custom":
        server.at("type").problem(
            f"objects can't land on a server of type {kind}",
            "use type custom with location gs://…, or local with a path",
        )
        return None
    location = server.get("location", "")
    if not _BUCKET.fullmatch(location) or {"", ".", ".."} & set(location[5:].rstrip("/").split("/")):
        place = server.at("location") if location else server
        place.problem(f"location `{location}` isn't a bucket", "write `location: gs://bucket/prefix`")
        return None
    return str(location.rstrip("/"))


_WRONG = "?"


def _environment(server: Place) -> str | None:
    environment = server.get("environment")
    if environment is None or environment in ENVIRONMENTS:
        return str(environment) if environment else None
    server.at("environment").problem(
        f"environment `{environment}` is none of the platform's (DATAOPS_ENV)", one_of(environment, ENVIRONMENTS)
    )
    return _WRONG


def _reading(server: Place, custom: Mapping[str, Place]) -> FileReading | None:
    """From our properties; the format else from the standard's own field, else from the pattern's ending."""
    places = {name: custom[name] for name in OPTIONS if name in custom}
    if "format" not in places and server.get("format"):
        places["format"] = server.at("format")
    pattern = custom["objectPattern"]
    try:
        return file_reading({name: place.value for name, place in places.items()}, str(pattern.value))
    except OptionError as error:
        places.get(error.option or "", pattern).problem(error.what, error.hint)
        return None


def _after(custom: Mapping[str, Place]) -> AfterLanding | None:
    place = custom.get("afterLanding")
    if place is None:
        return AfterLanding.KEEP
    if place.value in tuple(AfterLanding):
        return AfterLanding(place.value)
    place.problem(f"afterLanding `{place.value}` isn't known", one_of(place.value, AfterLanding))
    return None


def _window(custom: Mapping[str, Place]) -> int | None:
    place = custom.get("lateWindow")
    if place is None:
        return LATE_WINDOW
    if isinstance(place.value, bool) or not isinstance(place.value, int) or not 1 <= place.value <= 1000:
        place.problem(f"lateWindow `{place.value}` isn't a number of partitions", "write a whole number from 1 to 1000")
        return None
    return int(place.value)


def check_overlaps(claims: Sequence[Claim]) -> None:
    """Report patterns of which one object could be both: two tables would claim it."""
    for number, claim in enumerate(claims):
        for other in claims[:number]:
            if claim.table != other.table and claim.contests(other) and overlap(claim.full, other.full):
                where = f"{other.place.document.file}:{other.place.line}"
                claim.place.problem(
                    f"an object could be of table `{claim.table}` and of table `{other.table}` ({where})",
                    "make one of the patterns, or the folders, narrower",
                )
