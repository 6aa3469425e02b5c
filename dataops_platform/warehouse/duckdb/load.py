"""Loading deliveries into staging, each exactly once.

One batch of deliveries is one transaction: staging rows, quarantined rows and ledger rows commit together or not at
all. The wide rows are read once. Bad rows and duplicate keys are looked for separately, on narrow columns, and only
where needed: a clean append is a single statement.

For `merge`, the row that stays for a key is the greatest by (created_at, object, row number) among all good rows ever
delivered. That makes the result independent of the order, grouping and repetition of loads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from dataops_platform.contracts.model import LoadMode, Table
from dataops_platform.contracts.partitions import UNPARTITIONED, NamedPartitioning
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import Kind
from dataops_platform.lake.deliveries import DeliveredObject, Delivery
from dataops_platform.progress import Progress, silent
from dataops_platform.secrets import redact
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import LeftOut, LoadOutcome, RowCheck
from dataops_platform.warehouse.definitions import UNKNOWN, History
from dataops_platform.warehouse.delivered import NOTHING, Beyond, extended, since, with_brought
from dataops_platform.warehouse.duckdb import files, tables
from dataops_platform.warehouse.duckdb.connection import transaction, translate
from dataops_platform.warehouse.duckdb.merge import KeyResolver
from dataops_platform.warehouse.loading import (
    MAX_BATCH_ROWS,
    OUTSIDE_PARTITION,
    batches,
    can_do_without,
    cast_reasons,
    foreign_partition,
    too_many_bad_rows,
    why_left_out,
)
from dataops_platform.warehouse.names import LEDGER, UNCAST, literal, quarantine, quote, staging
from dataops_platform.warehouse.partition_sql import in_partitions, partition_start

MAX_OBJECTS = 100_000
"""Objects that one transaction loads at most."""


class _Refused(Exception):
    """Some deliveries of a batch must not be loaded: load id → reason."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(reasons)
        self.reasons = dict(reasons)


class EngineLost(Exception):
    """Damaged files broke the engine, and with it every connection of this process to the database."""

    def __init__(self, damaged: Mapping[str, str]) -> None:
        """Args:
        damaged: path → why it can't be read.
        """
        super().__init__(damaged)
        self.damaged = dict(damaged)


class Loader:
    """Loads deliveries of one table over one connection."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        uris: Mapping[str, str],
        checks: Sequence[RowCheck],
        run_id: str,
        progress: Progress = silent,
        history: History = UNKNOWN,
        anew: bool = False,
        damaged: Mapping[str, str] = {},
    ) -> None:
        """Args:
        history: of the table's definition; needed where deliveries were made under others than today's.
        anew: as if the staging table had just been made.
        damaged: path → why it can't be read, of files that are known for it before they are read.
        """
        self._con = connection
        self._history = history
        shape = None if anew else tables.shape_of(connection, staging(table.name))
        actual = {name: files.type_of(kind) for name, kind in shape.columns.items()} if shape is not None else {}
        self._known = with_brought(table, actual)  # as the warehouse's tables are
        self._table = self._known  # as they will be with the batch that is being loaded
        self._uris = uris
        self._checks = list(checks)
        self._run_id = run_id
        self._progress = progress
        self._damaged: dict[str, dict[str, str]] = {}
        """Load id → object key → why it can't be read, of deliveries whose other objects can."""
        self._known_damaged = damaged
        self.outcomes: list[LoadOutcome] = []
        """Of the deliveries that `load` is done with, also when it ended with an error."""
        self._target = staging(table.name).sql
        self._held = quarantine(table.name).sql

    # -- batches ------------------------------------------------------------------------------------------------------

    def load(self, deliveries: Sequence[Delivery]) -> None:
        """Load all deliveries that the ledger doesn't hold yet, oldest first, into `outcomes`; see `Warehouse.load`.

        Raises:
            EngineLost: a file broke the engine; this connection is of no use any more.
        """
        known = {
            row[0] for row in self._rows(f"SELECT load_id FROM {LEDGER}.loads WHERE table_name = ?", self._table.name)
        }
        new = {str(d.load_id): d for d in deliveries if str(d.load_id) not in known}
        ordered = sorted(new.values(), key=lambda d: (d.created_at, d.partition))
        for batch in batches(ordered, MAX_BATCH_ROWS, MAX_OBJECTS):
            self._load_batch(batch)
            self._progress(len(self.outcomes), len(ordered))

    def unfit(self, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Manifest → why the delivery would be refused, without looking at rows; see `Warehouse.unfit`."""
        ordered = sorted(deliveries, key=lambda d: (d.created_at, d.partition))
        found: dict[str, str] = {}
        for batch in batches(ordered, MAX_BATCH_ROWS, MAX_OBJECTS):
            _, refused = self._inspect(batch)
            found |= {d.manifest: refused[str(d.load_id)] for d in batch if str(d.load_id) in refused}
        return found

    def _load_batch(self, batch: Sequence[Delivery]) -> None:
        schemas, refused = self._inspect(batch)
        self.outcomes += [self._refuse(d, refused[str(d.load_id)]) for d in batch if str(d.load_id) in refused]
        good = [d for d in batch if str(d.load_id) not in refused]
        while good:
            try:
                self._table = self._known
                beyond: dict[str, Beyond] = {}
                for delivery in good:
                    _, beyond[str(delivery.load_id)], self._table = self._judged(self._table, delivery, schemas)
                with transaction(self._con):
                    loaded = self._load_together(good, schemas, beyond)
                self.outcomes += loaded
                self._known = self._table
                return
            except _Refused as stop:
                self.outcomes += [
                    self._refuse(d, stop.reasons[str(d.load_id)]) for d in good if str(d.load_id) in stop.reasons
                ]
                good = [d for d in good if str(d.load_id) not in stop.reasons]
            except duckdb.Error as error:
                # A page inside a file is damaged (the footer could not tell), or a rule can't be computed for a row.
                # Alone, each delivery shows its own error. What has nothing to do with the data is no refusal.
                reason = files.data_error(error)
                if reason is None:
                    paths = [self._uris[item.key] for d in good for item in self._objects(d)]
                    if isinstance(error, files.ENGINE_LOST) and (
                        found := files.damaged(self._table, {path: schemas[path] for path in paths})
                    ):
                        raise EngineLost(found) from error
                    raise self._explain(error) from error
                of_a_row = isinstance(error, duckdb.DataError)
                if len(good) == 1 and not of_a_row and self._leave_out(good[0], schemas):
                    continue
                if len(good) == 1:
                    self.outcomes.append(self._refuse(good[0], f"{_keys(good[0])}: {reason}"))
                    return
                for delivery in good:
                    self._load_batch([delivery])
                return

    def _leave_out(self, delivery: Delivery, schemas: Mapping[str, files.FileSchema]) -> bool:
        """Whether a delivery that failed has damaged files, and others, which then can be loaded without them."""
        keys = {self._uris[item.key]: item.key for item in self._objects(delivery)}
        known = self._damaged.get(str(delivery.load_id), {})
        if not can_do_without(self._table, delivery, [*known, next(iter(keys.values()))]):
            return False  # whichever it is
        found = files.damaged(self._table, {path: schemas[path] for path in keys})
        damaged = known | {keys[path]: reason for path, reason in found.items()}
        if not found or not can_do_without(self._table, delivery, damaged):
            return False
        self._damaged[str(delivery.load_id)] = damaged
        return True

    def _objects(self, delivery: Delivery) -> list[DeliveredObject]:
        """The objects of a delivery that are to be loaded."""
        left_out = self._damaged.get(str(delivery.load_id), {})
        return [item for item in delivery.objects if item.key not in left_out]

    def _inspect(self, batch: Sequence[Delivery]) -> tuple[dict[str, files.FileSchema], dict[str, str]]:
        paths = {self._uris[item.key]: item.key for d in batch for item in d.objects}
        schemas, unreadable = files.inspect(self._con, list(paths))
        reasons: dict[str, str] = {}
        table = self._known
        for delivery in batch:
            lines = foreign_partition(table, delivery.partition, delivery.cut)
            lines += [
                f"{item.key}: {unreadable[path]}"
                for item in delivery.objects
                if (path := self._uris[item.key]) in unreadable
            ]
            lines += self._known_damages(delivery)
            if not lines:
                lines, _, grown = self._judged(table, delivery, schemas)
            if lines:
                reasons[str(delivery.load_id)] = "; ".join(lines)
            else:
                table = grown
        return schemas, reasons

    def _known_damages(self, delivery: Delivery) -> list[str]:
        """What keeps a delivery from being loaded of the files that are known to be damaged; else they are left out."""
        paths = {item.key: self._uris[item.key] for item in delivery.objects}
        found = {key: self._known_damaged[path] for key, path in paths.items() if path in self._known_damaged}
        if not can_do_without(self._known, delivery, found):
            return [f"{key}: {reason}" for key, reason in found.items()]
        self._damaged[str(delivery.load_id)] = found
        return []

    def _judged(
        self, table: Table, delivery: Delivery, schemas: Mapping[str, files.FileSchema]
    ) -> tuple[list[str], Beyond, Table]:
        """What keeps a delivery from being loaded, what it has beyond the contract, and the table with that."""
        lines, beyond = [], NOTHING
        earlier = since(table, delivery, self._history)
        for item in self._objects(delivery):
            found, more = files.misfits(table, schemas[self._uris[item.key]], earlier)
            lines += [f"{item.key}: {line}" for line in found]
            beyond, table = beyond | more, extended(table, more.added)
        return lines, beyond, table

    def _explain(self, error: duckdb.Error) -> Exception:
        """A rule whose SQL the engine doesn't accept is the contract's mistake; anything else stays as it is."""
        if isinstance(error, duckdb.BinderException | duckdb.ParserException):
            what = f"a blocking rule of {self._table.name} can't run"
            return ConfigError(f"{self._table.file}: {what}: {translate(error)}")
        return error

    def _refuse(self, delivery: Delivery, reason: str) -> LoadOutcome:
        reason = redact(reason)
        row = {
            "load_id": str(delivery.load_id),
            "table_name": self._table.name,
            "partition_key": delivery.partition,
            "manifest": delivery.manifest,
            "reason": reason,
            "run_id": self._run_id,
            "refused_at": ledger.now(),
        }
        known = self._is_known(str(delivery.load_id), "reason", reason)
        if not known:  # a delivery that is refused again for the same reason is no news
            self._append("refusals", [row])
        return LoadOutcome(delivery, rows_read=delivery.rows, refused=reason, refused_before=known)

    # -- one transaction ----------------------------------------------------------------------------------------------

    def _load_together(
        self, batch: Sequence[Delivery], schemas: Mapping[str, files.FileSchema], beyond: Mapping[str, Beyond]
    ) -> list[LoadOutcome]:
        """Load a batch inside the open transaction."""
        updated_at = ledger.now()
        tables.add_columns(self._con, self._table, self._table.columns[len(self._known.columns) :])
        paths = {self._uris[item.key]: schemas[self._uris[item.key]] for d in batch for item in self._objects(d)}
        outcomes = {
            str(d.load_id): LoadOutcome(
                d, sum(item.rows for item in self._objects(d)), beyond=beyond[str(d.load_id)], left_out=left_out
            )
            for d in batch
            for left_out in [self._record_left_out(d, updated_at)]
        }
        if paths:
            self._map_files(batch)
            if self._table.load_mode is LoadMode.REPLACE:
                paths = self._clear_replaced(batch, paths)
        if paths:
            if self._table.load_mode is LoadMode.MERGE:
                keys = files.relation(self._table, dict(paths), self._table.primary_key)
                resolver = KeyResolver(self._con, self._table, keys, self._source(paths), self._bad(), self._object)
                for load_id, partitions in resolver.resolve({d.partition for d in batch}).items():
                    outcomes[load_id] = replace(outcomes[load_id], affected_partitions=partitions)
            inserted = self._insert(paths, updated_at)
            delivered = int(self._scalar("SELECT sum(_rows) FROM _files"))
            held = self._quarantine(paths, updated_at) if inserted + self._skipped() < delivered else {}
            self._account(outcomes, held, inserted)
        else:
            outcomes = {key: replace(o, rows_superseded=o.rows_read) for key, o in outcomes.items()}
        self._append("loads", [self._ledger_row(outcome, updated_at) for outcome in outcomes.values()])
        return list(outcomes.values())

    def _record_left_out(self, delivery: Delivery, updated_at: datetime) -> tuple[LeftOut, ...]:
        """Write down what is left out of a delivery; with its load, so that neither is without the other."""
        load_id, names = str(delivery.load_id), delivery.files()
        found = []
        for key, damage in self._damaged.get(load_id, {}).items():
            reason = why_left_out(names[key], key, damage)
            found.append(LeftOut(names[key], reason, self._is_known(load_id, "file", names[key])))
        rows = [
            {
                "load_id": load_id,
                "table_name": self._table.name,
                "partition_key": delivery.partition,
                "manifest": delivery.manifest,
                "file": left.file,
                "reason": left.reason,
                "run_id": self._run_id,
                "refused_at": updated_at,
            }
            for left in found
        ]
        if rows:
            self._append("refusals", rows)
        return tuple(found)

    def _is_known(self, load_id: str, column: str, value: str) -> bool:
        known = f"SELECT 1 FROM {LEDGER}.refusals WHERE load_id = ? AND {column} = ?"
        return bool(self._rows(known, load_id, value))

    def _map_files(self, batch: Sequence[Delivery]) -> None:
        """Temp tables: `_files` says what a file belongs to, `_skip` collects rows that must not be inserted."""
        rows = []
        for delivery in batch:
            low, high = self._bounds(delivery.partition)
            for item in self._objects(delivery):
                rows.append(
                    (
                        self._uris[item.key],
                        delivery.created_at.astimezone(UTC),
                        str(delivery.load_id),
                        delivery.partition,
                        low,
                        high,
                    )
                )
        columns = ["_file", "_created", "_load", "_part", "_low", "_high"]
        # Bounds of the partition column's own type: comparing costs no cast per row.
        named = isinstance(self._table.partitioning, NamedPartitioning)
        bound = "VARCHAR" if named else "DATE" if self._by_date() else "TIMESTAMP"
        mapping = pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)})
        self._con.register("_files_view", mapping)
        # Names begin with an underscore, which no contract column does: checks use bare column names.
        self._con.execute(
            "CREATE OR REPLACE TEMP TABLE _files AS SELECT v._file, CAST(v._created AS TIMESTAMPTZ) AS _created,"
            f" CAST(v._load AS UUID) AS _load, v._part, CAST(v._low AS {bound}) AS _low,"
            f" CAST(v._high AS {bound}) AS _high, CAST(m.num_rows AS BIGINT) AS _rows"
            f" FROM _files_view AS v JOIN parquet_file_metadata({files.file_list(row[0] for row in rows)}) AS m"
            " ON v._file = m.file_name"
        )
        self._con.unregister("_files_view")
        self._con.execute("CREATE OR REPLACE TEMP TABLE _skip (_file VARCHAR, _row BIGINT)")

    def _bounds(self, partition: str) -> tuple[str | None, str | None]:
        """The partition as local wall-clock times [low, high), or its name, twice."""
        partitioning = self._table.partitioning
        if partitioning is None or partition == UNPARTITIONED:
            return None, None
        if isinstance(partitioning, NamedPartitioning):
            return partition, partition
        start = partitioning.parse(partition)
        low, high = start, partitioning.next(start)
        return (str(low.date()), str(high.date())) if self._by_date() else (str(low), str(high))

    def _by_date(self) -> bool:
        """Whether rows are cut by a date column, which can be compared as it is."""
        partitioning = self._table.partitioning
        return partitioning is not None and self._table.column(partitioning.field).type.kind is Kind.DATE

    def _object(self, column: str) -> str:
        """The lake key of a file, from its address: a constant cut, so that the engine computes it once per file."""
        (cut,) = {len(uri) - len(key) for key, uri in self._uris.items()}
        return f"substr({column}, {cut + 1})"

    def _outside(self) -> str:
        """True for a row that doesn't belong to the partition it was delivered for."""
        partitioning = self._table.partitioning
        if partitioning is None:
            return "FALSE"
        if isinstance(partitioning, NamedPartitioning):
            return f"((p.{quote(partitioning.field)} = d._low) IS NOT TRUE)"
        start = f"p.{quote(partitioning.field)}" if self._by_date() else partition_start(self._table, "p.")
        return f"(({start} >= d._low AND {start} < d._high) IS NOT TRUE)"

    def _bad(self) -> str:
        """True for a row that must go to quarantine. Checks refer to bare column names, which only `p` has."""
        terms = [f"p.{UNCAST} IS NOT NULL", self._outside(), *(f"({check.bad})" for check in self._checks)]
        return f"(({' OR '.join(terms)}) IS TRUE)"

    def _source(self, paths: Mapping[str, files.FileSchema]) -> str:
        # A table has a hidden column `rowid`, a subquery hasn't: only `p` may have one.
        described = "(SELECT * FROM _files) AS d"
        return f"{files.relation(self._table, dict(paths))} AS p JOIN {described} ON p._dataops_path = d._file"

    def _skipped(self) -> int:
        return int(self._scalar("SELECT count(*) FROM _skip"))

    def _insert(self, paths: Mapping[str, files.FileSchema], updated_at: datetime) -> int:
        columns = ", ".join(f"p.{quote(column.name)}" for column in self._table.columns)
        # Columns that came later stand behind the others.
        listed = ", ".join(map(quote, tables.staging_columns(self._table)))
        skip = " ANTI JOIN _skip AS s ON p._dataops_path = s._file AND p._position = s._row" if self._skipped() else ""
        return int(
            self._scalar(
                f"INSERT INTO {self._target} ({listed}) SELECT {columns}, d._created, {_instant(updated_at)},"
                f" {self._object('p._dataops_path')}, d._load FROM {self._source(paths)}{skip} WHERE NOT {self._bad()}"
            )
        )

    def _quarantine(self, paths: Mapping[str, files.FileSchema], updated_at: datetime) -> dict[str, int]:
        """Move bad rows aside with all their reasons; load id → rows."""
        columns = ", ".join(f"p.{quote(column.name)}" for column in self._table.columns)
        reasons = ", ".join(
            f"CASE WHEN {bad} THEN {literal(reason)} END"
            for reason, bad in [(OUTSIDE_PARTITION, self._outside()), *((c.rule_id, c.bad) for c in self._checks)]
        )
        listed = ", ".join(map(quote, tables.quarantine_columns(self._table)))
        uncast = ", ".join(cast_reasons(self._table, f"p.{UNCAST}", "duckdb"))
        self._con.execute(
            f"INSERT INTO {self._held} ({listed}) SELECT {columns}, d._created, {_instant(updated_at)},"
            f" {self._object('p._dataops_path')}, d._load, list_filter(CASE WHEN p.{UNCAST} IS NULL THEN [{reasons}]"
            f" ELSE [{uncast}] END, lambda r: r IS NOT NULL),"
            f" p._position, d._part, {literal(self._table.contract_version)}, {literal(self._run_id)},"
            f" {_instant(updated_at)}, p.{UNCAST} FROM {self._source(paths)} WHERE {self._bad()}"
        )
        counts = self._rows(
            f"SELECT CAST(q._load_id AS VARCHAR), count(*) FROM {self._held} AS q"
            " WHERE q._load_id IN (SELECT _load FROM _files) GROUP BY 1"
        )
        return dict(counts)

    def _account(self, outcomes: dict[str, LoadOutcome], held: Mapping[str, int], inserted: int) -> None:
        """Count each delivery's rows, trip the breaker, and prove that every row is accounted for."""
        read = dict(self._rows("SELECT CAST(_load AS VARCHAR), CAST(sum(_rows) AS BIGINT) FROM _files GROUP BY 1"))
        superseded = dict(
            self._rows(
                "SELECT CAST(d._load AS VARCHAR), count(*) FROM _skip AS s JOIN _files AS d USING (_file) GROUP BY 1"
            )
        )
        limits = self._table.bad_rows
        tripped = {
            key: reason
            for key, count in held.items()
            if (reason := too_many_bad_rows(count, read[key], limits)) is not None
        }
        if tripped:
            raise _Refused(tripped)
        for key, outcome in outcomes.items():
            if key not in read:  # an earlier snapshot that a later one of the same batch replaces, or no objects
                outcomes[key] = replace(outcome, rows_superseded=outcome.rows_read)
                continue
            bad, old = held.get(key, 0), superseded.get(key, 0)
            outcomes[key] = replace(
                outcome,
                rows_read=read[key],
                rows_loaded=read[key] - bad - old,
                rows_quarantined=bad,
                rows_superseded=old,
            )
        loaded = sum(outcome.rows_loaded for outcome in outcomes.values())
        if loaded != inserted:
            raise AssertionError(f"{self._table.name}: {inserted} rows inserted, {loaded} accounted for")

    # -- replace ------------------------------------------------------------------------------------------------------

    def _clear_replaced(
        self, batch: Sequence[Delivery], paths: Mapping[str, files.FileSchema]
    ) -> dict[str, files.FileSchema]:
        """For each partition, keep only the newest delivery's files, and delete what they replace."""
        current = dict(
            self._rows(
                f"SELECT partition_key, max(created_at) FROM {LEDGER}.loads WHERE table_name = ? GROUP BY 1",
                self._table.name,
            )
        )
        newest: dict[str, Delivery] = {}
        for delivery in batch:  # oldest first: later ones overwrite
            if delivery.partition not in current or delivery.created_at > current[delivery.partition]:
                newest[delivery.partition] = delivery
        partitioned = self._table.partitioning is not None
        for partition in newest:
            where = in_partitions(self._table, [partition]) if partitioned else "TRUE"
            self._con.execute(f"DELETE FROM {self._target} WHERE {where}")
        kept = {self._uris[item.key] for delivery in newest.values() for item in self._objects(delivery)}
        self._con.execute(f"DELETE FROM _files WHERE _file NOT IN (SELECT unnest({files.file_list(kept)}::VARCHAR[]))")
        return {path: schema for path, schema in paths.items() if path in kept}

    # -- ledger and helpers -------------------------------------------------------------------------------------------

    def _ledger_row(self, outcome: LoadOutcome, loaded_at: datetime) -> dict[str, object]:
        delivery = outcome.delivery
        objects = self._objects(delivery)
        return {
            "load_id": str(delivery.load_id),
            "table_name": self._table.name,
            "partition_key": delivery.partition,
            "created_at": delivery.created_at,
            "manifest": delivery.manifest,
            "mode": str(self._table.load_mode),
            "objects": len(objects),
            "bytes": sum(item.size for item in objects),
            "rows_read": outcome.rows_read,
            "rows_loaded": outcome.rows_loaded,
            "rows_quarantined": outcome.rows_quarantined,
            "rows_superseded": outcome.rows_superseded,
            "affected_partitions": json.dumps(outcome.affected_partitions) if outcome.affected_partitions else None,
            "contract_version": self._table.contract_version,
            "run_id": self._run_id,
            "loaded_at": loaded_at,
            "columns_beyond": outcome.beyond.to_json(),
        }

    def _append(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        tables.append_rows(self._con, name, pa.Table.from_pylist(list(rows), schema=ledger.schema(name)))

    def _rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._con.execute(sql, list(parameters)).fetchall()

    def _scalar(self, sql: str) -> int:
        row = self._con.execute(sql).fetchone()
        return row[0] if row else 0


def _keys(delivery: Delivery) -> str:
    first, *others = [item.key for item in delivery.objects]
    return f"{first} and {len(others)} more" if others else first


def _instant(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
