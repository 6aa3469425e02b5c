"""What an event is, and how it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from dataops_platform.pubsub import Message

VERSION = 1
"""Of the schemas. Fields may be added without a new one."""
_LONGEST = 200
"""Characters of an attribute's value, or a key's: the service takes 1,024 bytes."""


class EventKind(StrEnum):
    """What happened."""

    PUBLISHED = "published"
    REFUSED = "refused"
    QUARANTINED = "quarantined"
    RUN_FINISHED = "run_finished"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, once.

    Attributes:
        identity: what names it in the ledger: the same whenever it is read there.
        severity: `info`, `warning` or `error`.
        table: `production.<model>` or `staging.<table>`; None for a run.
        partition: its key; of a run, its first and last; `all` for a table without partitions.
        details: the fields that only this kind has; see the schemas.
    """

    kind: EventKind
    identity: Sequence[str]
    severity: str
    table: str | None
    partition: str
    run_id: str
    happened_at: datetime
    owner: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def id(self, environment: str) -> str:
        """What tells a message that comes twice; environments may share a topic."""
        text = "\0".join((environment, self.kind, *self.identity))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def key(self) -> str:
        """Events of one key are published in order: those of a table, of a model, or of a job's runs."""
        return (self.table or f"job/{self.details['job']}")[:_LONGEST]


def message(event: Event, environment: str) -> Message:
    """An event as it is published: JSON as its schema says, and attributes to filter by."""
    body = {
        "version": VERSION,
        "id": event.id(environment),
        "event": str(event.kind),
        "environment": environment,
        "severity": event.severity,
        "table": event.table,
        "partition": event.partition,
        "owner": event.owner,
        "run_id": event.run_id,
        "happened_at": event.happened_at.astimezone(UTC).isoformat(),
        **event.details,
    }
    names = ("event", "id", "environment", "severity", "table", "partition", "owner", "job", "outcome")
    attributes = {name: str(body[name])[:_LONGEST] for name in names if body.get(name) is not None}
    attributes["version"] = str(VERSION)
    return Message(json.dumps(body, ensure_ascii=False).encode(), attributes, event.key)


@cache
def schema(kind: EventKind) -> Mapping[str, Any]:
    """The JSON Schema of a kind's messages."""
    file = resources.files("dataops_platform.events") / "schemas" / f"{kind}.v{VERSION}.json"
    read: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return read
