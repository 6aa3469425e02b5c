"""Notifications of Cloud Storage: which table and partition an object belongs to that a message tells of.

Names are read by the same patterns, and what is delivered is looked up in the same log, as where landing is listed: so
a message that comes twice, late or out of order makes no difference.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataOpsError
from dataops_platform.ingestion.landing import Place, is_over
from dataops_platform.ingestion.landing_log import Identity, LandingLog, Registered
from dataops_platform.ingestion.landing_scan import strange_because
from dataops_platform.lake import keys
from dataops_platform.lake.deliveries import Lake
from dataops_platform.lake.store import ObjectConflict, ObjectInfo
from dataops_platform.pubsub import Received

FINALIZED = "OBJECT_FINALIZE"
"""An object was written: made, or made anew. Other notifications tell of nothing that could be delivered."""
_GENERATION = re.compile("[0-9]{1,19}")
_UNKNOWN = -1
_IN_BUCKET = "gs://"


class Unreadable(DataOpsError):
    """A message that is no notification of Cloud Storage."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a message says of an object that was written.

    Attributes:
        bucket: its name; embedded, the path of the folder that stands for it.
        written_ms: when the object was written, in milliseconds since 1970.
        size: bytes; -1 where the message doesn't say.
    """

    bucket: str
    name: str
    generation: int
    written_ms: int
    size: int = _UNKNOWN


def read(message: Received) -> Notification | None:
    """What a message says; None where it tells of something else than a written object.

    Raises:
        Unreadable: it is no notification.
    """
    given = message.attributes
    missing = [name for name in ("eventType", "bucketId", "objectId") if not given.get(name)]
    if missing:
        raise Unreadable(f"no notification of Cloud Storage: attributes {', '.join(missing)} are missing")
    if given["eventType"] != FINALIZED:
        return None
    generation = given.get("objectGeneration", "")
    if not _GENERATION.fullmatch(generation):
        raise Unreadable(f"attribute objectGeneration is {generation[:40]!r}, which is no number")
    written_ms = _written_ms(message)
    return Notification(given["bucketId"], given["objectId"], int(generation), written_ms, _size(message))


def _written_ms(message: Received) -> int:
    text = message.attributes.get("eventTime")
    try:
        moment = datetime.fromisoformat(text) if text else message.published_at
        if moment.tzinfo is not None:
            return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise Unreadable(f"attribute eventTime is {text!r}, which is no time with a zone")


def _size(message: Received) -> int:
    """As the object's metadata says in the message's body, if it has one."""
    if message.attributes.get("payloadFormat") != "JSON_API_V1":
        return _UNKNOWN
    try:
        body: Any = json.loads(message.data)
        return int(body["size"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:  # 1e999 is JSON, and so is [[[…
        raise Unreadable("the body isn't the metadata of an object, as payloadFormat JSON_API_V1 says") from error


@dataclass(frozen=True, slots=True)
class Landed:
    """An object that landed, by the message that tells of it."""

    table: str
    partition: str
    identity: Identity
    written_ms: int
    handle: str


@dataclass(slots=True)
class Sorted:
    """Messages by what must become of them.

    Attributes:
        new: neither delivered nor refused.
        early: the same, of partitions that aren't over yet.
        known: handles of those that are delivered or refused.
        others: handles of messages about nothing that could be delivered here.
        strange: names that don't belong, with the reason; their handles are among `others`.
        unreadable: messages with the reason.
    """

    new: list[Landed] = field(default_factory=list)
    early: list[Landed] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    strange: dict[str, str] = field(default_factory=dict)
    unreadable: list[tuple[Received, str]] = field(default_factory=list)


def sort(
    messages: Sequence[Received], tables: Mapping[str, Table], places: Mapping[str, Place], lake: Lake, now: datetime
) -> Sorted:
    """Find out what each message is about. The lake is asked once for each table.

    Args:
        places: by table, where its objects land.

    Raises:
        ConfigError: the lake can't be read.
        Unavailable: a service doesn't answer.
    """
    result = Sorted()
    found: dict[str, list[Landed]] = {}
    for message in messages:
        try:
            told = read(message)
        except Unreadable as error:
            result.unreadable.append((message, str(error)))
            continue
        landed = None if told is None else _place_of(told, message.handle, places, now, result.strange)
        if landed is None:
            result.others.append(message.handle)
        else:
            found.setdefault(landed.table, []).append(landed)
    for name, items in found.items():
        table, cut = tables[name], places[name].landing.pattern.partitioning
        partitions = {item.partition for item in items}
        known = Registered.read(LandingLog(lake.store, table), lake, name, partitions)
        for item in items:
            if not known.is_new(item.partition, item.identity):
                result.known.append(item.handle)
            elif is_over(cut, item.partition, now):
                result.new.append(item)
            else:
                result.early.append(item)
    return result


def _place_of(
    told: Notification, handle: str, places: Mapping[str, Place], now: datetime, strange: dict[str, str]
) -> Landed | None:
    """Which table and partition an object belongs to, if any; what lies among a table's, and isn't, is `strange`."""
    odd = None
    for name, place in places.items():
        key = _key(told, place.base)
        if key is None or not key.startswith(place.watched) or place.is_marker(key):
            continue
        info = ObjectInfo(key, told.generation, told.size, told.written_ms)
        reason = strange_because(place, info, now)
        partition = place.landing.pattern.match(key)
        if reason is None and partition is not None:
            return Landed(name, partition, (key, told.generation), told.written_ms, handle)
        # The table that an object matches says best what is wrong with it.
        if reason is not None and (odd is None or partition is not None):
            odd = f"{place.base}/{key}", reason
    if odd is not None:
        strange[odd[0]] = odd[1]
    return None


def _key(told: Notification, base: str) -> str | None:
    """The object's name below a place; None where it lies elsewhere."""
    address = f"{_IN_BUCKET}{told.bucket}/{told.name}" if base.startswith(_IN_BUCKET) else f"{told.bucket}/{told.name}"
    return address.removeprefix(f"{base}/") if address.startswith(f"{base}/") else None


def bury(lake: Lake, unreadable: Collection[tuple[Received, str]]) -> list[str]:
    """Keep messages that can't be read in the lake, once each; where they are.

    Raises:
        ConfigError: the lake can't be written.
        Unavailable: the service doesn't answer.
    """
    written = []
    for message, reason in unreadable:
        key = keys.dead_letter_key(message.id)
        body = {
            "message_id": message.id,
            "reason": reason,
            "published_at": message.published_at.isoformat(),
            "attributes": dict(message.attributes),
            "data": base64.b64encode(message.data).decode(),
        }
        with suppress(ObjectConflict):  # it came again, and was refused in other words
            lake.store.create(key, json.dumps(body, indent=1).encode())
        written.append(lake.store.uri(key))
    return written
