"""What the ledger knows since a moment, as events; and which of them were published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dataops_platform.alerts import looking
from dataops_platform.alerts.failed_runs import owner_of_failed, why_failed
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.events.event import Event, EventKind
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import Ledger, RunEnd, RunStatus
from dataops_platform.warehouse.names import LEDGER, PRODUCTION, Relation, literal, staging

_SEVERITY = {RunStatus.SUCCESS: "info", RunStatus.CANCELED: "warning", RunStatus.FAILURE: "error"}


@dataclass(frozen=True, slots=True)
class Published:
    """What a topic was told.

    Attributes:
        ids: of the events that were published since `since`, and some more.
        seen: up to when the ledger was looked through; None: never.
    """

    since: datetime
    ids: frozenset[str] = field(default_factory=frozenset)
    seen: datetime | None = None


def published(warehouse: Warehouse, topic: str, now: datetime) -> Published:
    """What a topic was told, as far as it matters for the next look."""
    mine = f"FROM {LEDGER}.events WHERE topic = {literal(topic)}"
    (row,) = warehouse.query(f"SELECT MAX(happened_at) AS seen {mine} AND event_id = '{looking.SEEN}'").to_pylist()
    seen = None if row["seen"] is None else row["seen"].astimezone(UTC)
    since = looking.since(seen, now)
    moment = ledger.instant(since, warehouse.dialect)
    # By the time of publication: a run that ended long ago may have been recorded just now.
    ids = warehouse.query(f"SELECT event_id {mine} AND sent_at >= {moment}").column("event_id")
    return Published(since, frozenset(ids.to_pylist()), seen)


def record(
    warehouse: Warehouse,
    topic: str,
    events: Sequence[tuple[str, Event]],
    seen: datetime | None,
    sent_at: datetime,
) -> None:
    """Write down which events, with their ids, were published, and up to when one has looked; all or nothing."""
    rows = [
        {
            "topic": topic,
            "event_id": event_id,
            "event": str(event.kind),
            "table_name": event.table,
            "partition_key": event.partition,
            "run_id": event.run_id,
            "happened_at": event.happened_at,
            "sent_at": sent_at,
        }
        for event_id, event in events
    ]
    if seen is not None:
        empty: dict[str, Any] = dict.fromkeys(ledger.TABLES["events"])
        rows.append(empty | {"topic": topic, "event_id": looking.SEEN, "happened_at": seen, "sent_at": sent_at})
    if rows:
        warehouse.append("events", pa.Table.from_pylist(rows, schema=ledger.schema("events")))


def events(warehouse: Warehouse, subjects: Subjects, since: datetime) -> list[Event]:
    """What happened since a moment, in that order."""
    moment = ledger.instant(since, warehouse.dialect)
    found = [
        *_publications(warehouse, subjects, moment),
        *_refusals(warehouse, subjects, moment),
        *_quarantined(warehouse, subjects, moment),
        *(_run(end, subjects) for end in Ledger(warehouse).run_ends(since)),
    ]
    return sorted(found, key=lambda event: (event.happened_at, event.kind, event.identity))


def _publications(warehouse: Warehouse, subjects: Subjects, moment: str) -> Iterator[Event]:
    rows = warehouse.query(
        "SELECT publication_id, model, partition_key, data_version, row_count, object_prefix, run_id, published_at"
        f" FROM {LEDGER}.publications WHERE published_at >= {moment}"
    ).to_pylist()
    for row in rows:
        yield Event(
            EventKind.PUBLISHED,
            (row["publication_id"], row["model"], row["partition_key"]),
            "info",
            str(Relation(PRODUCTION, row["model"])),
            row["partition_key"],
            row["run_id"],
            row["published_at"].astimezone(UTC),
            subjects.owner(row["model"]),
            {
                "publication_id": row["publication_id"],
                "data_version": row["data_version"],
                "rows": row["row_count"],
                "object_prefix": row["object_prefix"] or None,
            },
        )


def _refusals(warehouse: Warehouse, subjects: Subjects, moment: str) -> Iterator[Event]:
    """What is refused is tried again in every run; it is refused anew where the reason is another one."""
    identity = ("table_name", "partition_key", "manifest", "file", "data_version", "reason")
    rows = warehouse.query(
        f"SELECT {', '.join(identity)}, run_id, refused_at FROM (SELECT *, ROW_NUMBER() OVER"
        f" (PARTITION BY {', '.join(identity)} ORDER BY refused_at, run_id) AS oldest"
        f" FROM {LEDGER}.refusals) AS ranked WHERE oldest = 1 AND refused_at >= {moment}"
    ).to_pylist()
    for row in rows:
        of_model = row["table_name"].startswith(f"{PRODUCTION}.")
        name = row["table_name"] if of_model else str(staging(row["table_name"]))
        yield Event(
            EventKind.REFUSED,
            [row[column] or "" for column in identity],
            "error",
            name,
            row["partition_key"],
            row["run_id"],
            row["refused_at"].astimezone(UTC),
            subjects.owner(name.partition(".")[2] if of_model else name),
            {
                "manifest": row["manifest"],
                "file": row["file"],
                "data_version": row["data_version"],
                "reason": subjects.text(name, row["reason"]),
            },
        )


def _quarantined(warehouse: Warehouse, subjects: Subjects, moment: str) -> Iterator[Event]:
    counts = ("rows_read", "rows_loaded", "rows_quarantined", "rows_superseded")
    rows = warehouse.query(
        f"SELECT load_id, table_name, partition_key, manifest, {', '.join(counts)}, contract_version, run_id, loaded_at"
        f" FROM {LEDGER}.loads WHERE rows_quarantined > 0 AND loaded_at >= {moment}"
    ).to_pylist()
    for row in rows:
        name, loaded_at = str(staging(row["table_name"])), row["loaded_at"].astimezone(UTC)
        yield Event(
            EventKind.QUARANTINED,
            (row["load_id"], loaded_at.isoformat()),  # after a reset the same delivery is loaded anew
            "warning",
            name,
            row["partition_key"],
            row["run_id"],
            loaded_at,
            subjects.owner(name),
            {
                "manifest": row["manifest"],
                "load_id": row["load_id"],
                "contract_version": row["contract_version"],
                **{count: row[count] for count in counts},
            },
        )


def _run(end: RunEnd, subjects: Subjects) -> Event:
    failed = end.status is RunStatus.FAILURE
    return Event(
        EventKind.RUN_FINISHED,
        (end.run_id,),
        _SEVERITY[end.status],
        None,
        end.partition_key,
        end.run_id,
        end.ended_at.astimezone(UTC),
        owner_of_failed(end, subjects),
        {
            "job": end.job,
            "outcome": str(end.status),
            "steps": len(end.steps),
            "failed_steps": sorted(filter(None, end.failures)),
            "reason": why_failed(end, subjects) if failed else None,
        },
    )
