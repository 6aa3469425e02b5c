"""An event log that holds no secrets, and writes a range's events in one transaction.

A run over a year of days records one materialization per asset and day. Dagster's SQLite event log stores each in
three transactions of its own, 15 ms together: a minute for four thousand events. Its Postgres event log writes such a
batch at once; this class does the same for SQLite. Dagster also compiles every statement anew, with an engine for each
connection, and waits for the disk at each: here connections share an engine, and the disk is waited for when SQLite
moves what was written into the database. What a power failure could take is the last that Dagster shows of a run: what
was done is in the warehouse's ledger.

All that Dagster shows of a run comes from its event log: events, metadata, errors and what steps log. So what enters it
is redacted here, whoever wrote it: the platform or users' own assets. On a server `RedactingEventLog` does the same,
with the event log of that server's database.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby, takewhile
from typing import Any

import sqlalchemy
from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage, EventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import pack_value, serialize_value, unpack_value

from dataops_platform.secrets import knows_secrets, redact

BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
BATCH_SIZE = "1000"


def enable_batching() -> None:
    """Let Dagster hand events of one asset to the event log in batches. Set in every process that runs steps."""
    os.environ.setdefault(BATCH_SIZE_VARIABLE, BATCH_SIZE)


_BATCHED = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
}


_TEXTS = {"message", "user_message", "description", "error", "error_info", "metadata", "metadata_entries"}
"""What is text for people in an event, in Dagster's names. By the rest (keys, names, tags, partitions) Dagster finds
things: it must stay as it is."""


def redacted_event(event: EventLogEntry) -> EventLogEntry:
    """The event, with `***` for secrets in its texts, errors and metadata."""
    if not knows_secrets():
        return event
    packed = pack_value(event)
    clean = _redacted(packed, False)
    return event if clean == packed else unpack_value(clean, EventLogEntry)


def _redacted(node: Any, text: bool) -> Any:
    """A part of a serialised event; `text`: it belongs to what is text for people."""
    if isinstance(node, str):
        return redact(node) if text else node
    if isinstance(node, list):
        return [_redacted(item, text) for item in node]
    if not isinstance(node, dict):
        return node
    if "__enum__" in node:
        return node
    if "__class__" in node:
        return {
            name: value if name == "__class__" else _redacted(value, text or name in _TEXTS)
            for name, value in node.items()
        }
    return {redact(name) if text else name: _redacted(value, text) for name, value in node.items()}


class RedactingEventLog(EventLogStorage):
    """Redacts events before they are stored: to be put before an event log among a class's bases."""

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event without secrets."""
        super().store_event(redacted_event(event))  # type: ignore[safe-super]

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events without secrets."""
        super().store_event_batch([redacted_event(event) for event in events])


SETTLE = 5.0
"""Seconds after which a run that ended is told to the daemon that begins runs again."""


class SettlingEventLog(EventLogStorage):
    """Tells the daemon that begins failed runs again of those only whose status is written, too.

    Dagster stores the event that a run has failed, then the run's status. The daemon, reading in between, takes the run
    for one that goes on, and never looks at it again. It alone reads events so.
    """

    def get_logs_for_all_runs_by_log_id(
        self,
        after_cursor: int = -1,
        dagster_event_type: DagsterEventType | set[DagsterEventType] | None = None,
        limit: int | None = None,
    ) -> Mapping[int, EventLogEntry]:
        """Events of all runs by their numbers, up to the first one of a moment ago."""
        found = super().get_logs_for_all_runs_by_log_id(after_cursor, dagster_event_type, limit)
        settled = time.time() - SETTLE
        return dict(takewhile(lambda item: item[1].timestamp <= settled, sorted(found.items())))


class BatchingSqliteEventLogStorage(SettlingEventLog, RedactingEventLog, ConsolidatedSqliteEventLogStorage):
    """The consolidated SQLite event log without secrets, with batches of asset events written together."""

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        """As Dagster makes it. It keeps no connection, so threads and forks may share it."""
        timeout = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
        engine = sqlalchemy.create_engine(self._conn_string, poolclass=sqlalchemy.NullPool, connect_args=timeout)
        sqlalchemy.event.listen(engine, "connect", lambda opened, _: opened.execute("PRAGMA synchronous=NORMAL"))
        return engine

    @cached_property
    def _open(self) -> sqlite3.Connection:
        """Unused: when the last connection is closed, SQLite moves everything into the database, and waits for it."""
        connection = sqlite3.connect(str(self._engine.url.database), check_same_thread=False)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # it counts once it has read
        return connection

    @contextmanager
    def _connect(self) -> Iterator[sqlalchemy.Connection]:
        assert self._open
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close what is open."""
        if "_open" in vars(self):
            vars(self).pop("_open").close()
        super().dispose()  # type: ignore[no-untyped-call]

    @cached_property
    def supports_asset_checks(self) -> bool:
        """Asked for each event of a check; the tables stay."""
        return bool(super().supports_asset_checks)

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """A row for each partition, as Dagster writes them; it serialises the event for each of them, too."""
        planned: Any = event.get_dagster_event().event_specific_data
        subset = planned.partitions_subset
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
            "evaluation_event_storage_id": event_id,
        }
        rows = [row | {"partition": key} for key in (subset.get_partition_keys() if subset else [None])]
        with self._connect() as connection:
            connection.execute(AssetCheckExecutionsTable.insert(), rows)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events; like in Dagster's Postgres event log, an asset's entry is updated once, by its last event."""
        # A run's plan comes as one batch: its assets', then its checks'.
        for together, group in groupby(events, lambda event: event.get_dagster_event().event_type in _BATCHED):
            if together:
                self._store_together([redacted_event(event) for event in group])
            else:
                super().store_event_batch(list(group))

    def _store_together(self, events: Sequence[EventLogEntry]) -> None:
        with self.index_transaction() as connection:
            statement = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id)
            # One statement per event keeps ids in the order of events; they share the transaction.
            ids = [connection.execute(statement, self._event_to_row(event)).scalar_one() for event in events]
            self._store_asset_event_tags(connection, events, ids)
            last = {
                event.get_dagster_event().asset_key: (event, number) for event, number in zip(events, ids, strict=True)
            }
            for event, number in last.values():
                self._store_asset_event(connection, event, number)
