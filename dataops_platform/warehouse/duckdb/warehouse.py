"""The embedded warehouse: one DuckDB file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused, Unavailable
from dataops_platform.lake import keys
from dataops_platform.lake.deliveries import Delivery, remove_scratch
from dataops_platform.lake.store import ObjectStore, checksum, checksum_name
from dataops_platform.progress import Progress, silent
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import (
    EMPTY,
    EXCLUSIVE_WAIT_SECONDS,
    Cost,
    LoadOutcome,
    ModelSlice,
    ModelVersion,
    PublicationItem,
    Replayed,
    RowCheck,
    Selection,
    Share,
    busy,
)
from dataops_platform.warehouse.changes import TableChanges
from dataops_platform.warehouse.definitions import UNKNOWN, History, histories, history_for
from dataops_platform.warehouse.delivered import with_brought
from dataops_platform.warehouse.duckdb import connection as connections
from dataops_platform.warehouse.duckdb import models, tables
from dataops_platform.warehouse.duckdb.files import misfits, type_of
from dataops_platform.warehouse.duckdb.load import EngineLost, Loader
from dataops_platform.warehouse.held import HeldRows, reasons_sql
from dataops_platform.warehouse.ledger import now
from dataops_platform.warehouse.names import LEDGER, REASONS, Relation, literal, quarantine, quote, staging
from dataops_platform.warehouse.partition_sql import in_window
from dataops_platform.warehouse.replay import Act, ReplaySql, outcome, replayable, selected

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_NOT_THE_USERS = (duckdb.InternalError, duckdb.FatalException, duckdb.InterruptException)
"""A bug in the engine, a broken file, and Ctrl-C. Everything else that a query raises is about the query, the files it
reads or the memory it needs; some readers raise the bare `duckdb.Error`."""


LOAD_MEMORY = "1GB"
"""What a load may use unless the settings say otherwise. More makes it no faster: the rest would only be cache."""


class DuckDBWarehouse:
    """See `Warehouse`. The file is opened for each piece of work and closed after it."""

    dialect = "duckdb"

    def __init__(
        self, path: Path, memory_limit: str | None = None, lock_wait: float = connections.LOCK_WAIT_SECONDS
    ) -> None:
        self.path = path.absolute()
        self._memory_limit = memory_limit
        self._lock_wait = lock_wait
        self.build_wait = EXCLUSIVE_WAIT_SECONDS
        self._ensured: set[str] = set()
        self._session: duckdb.DuckDBPyConnection | None = None

    @property
    def url(self) -> str:
        """`duckdb://` and the absolute path."""
        return f"duckdb://{self.path}"

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for one piece of work; see `connections.connect`."""
        if self._session is not None:
            yield self._session
            return
        with connections.connect(self.path, self._memory_limit, self._lock_wait) as connection:
            yield connection

    @contextmanager
    def session(self) -> Iterator[None]:
        """See `Warehouse.session`. Opening a large file takes a while, and no other process can write in between."""
        with self.connect() as connection:
            before, self._session = self._session, connection
            try:
                yield
            finally:
                self._session = before

    @contextmanager
    def work(self, step: str, of: str, run_id: str) -> Iterator[Callable[[], Cost]]:
        """See `Warehouse.work`: nothing is charged."""
        yield Cost

    @contextmanager
    def exclusive(self, models: Collection[str], run_id: str) -> Iterator[Callable[[], bool]]:
        """See `Warehouse.exclusive`: by a lock on a file beside the warehouse's, which goes with its holder."""
        path = self.path.with_name(f"{self.path.name}.build")
        deadline = time.monotonic() + self.build_wait
        with path.open("a+") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        file.seek(0)
                        raise Unavailable(busy(file.read() or "another process")) from None
                    time.sleep(0.1)
            file.truncate(0)
            file.write(f"run {run_id} (process {os.getpid()})")
            file.flush()
            yield lambda: True

    def ensure(self, wanted: Collection[Table]) -> Sequence[TableChanges]:
        """See `Warehouse.ensure`. What this object has ensured already is not looked at again."""
        marks = {hashlib.sha256(tables.definition(table).encode()).hexdigest(): table for table in wanted}
        missing = [table for mark, table in marks.items() if mark not in self._ensured]
        if not missing and self._ensured:
            return []
        with self.session(), self.connect() as con, connections.transaction(con):
            tables.ensure_ledger(con)
            known = histories(self, [table.name for table in missing])
            found = [tables.ensure_table(con, table, known.get(table.name, UNKNOWN)) for table in missing]
        self._ensured |= set(marks) | {"ledger"}
        return found

    def changes(self, wanted: Collection[Table]) -> list[TableChanges]:
        """See `Warehouse.changes`."""
        with self.session(), self.connect() as con:
            known = histories(self, [table.name for table in wanted])
            return [tables.changes(con, table, known.get(table.name, UNKNOWN)) for table in wanted]

    def adopt(self, table: Table) -> None:
        """See `Warehouse.adopt`."""
        with self.session(), self.connect() as con, connections.transaction(con):
            tables.ensure_ledger(con)
            history = histories(self, [table.name]).get(table.name, UNKNOWN)
            found = tables.changes(con, table, history)
            found.refuse_by_hand()
            if found.rebuild:
                tables.forget(con, table)
            tables.ensure_table(con, table, history, breaking=True)

    def misfits(self, table: Table, schema: pa.Schema) -> Sequence[str]:
        """See `Warehouse.misfits`."""
        with duckdb.connect() as con:
            try:
                found = con.from_arrow(schema.empty_table())
            except duckdb.Error:  # a type that only the load can tell of
                return []
            return misfits(table, tuple(zip(found.columns, map(str, found.types), strict=True)))[0]

    def load(
        self,
        table: Table,
        deliveries: Sequence[Delivery],
        uris: Mapping[str, str],
        checks: Sequence[RowCheck],
        run_id: str,
        progress: Progress = silent,
    ) -> list[LoadOutcome]:
        """See `Warehouse.load`."""
        history = history_for(self, table, deliveries)
        done: list[LoadOutcome] = []
        damaged: dict[str, str] = {}
        while True:
            settled = {outcome.delivery.load_id for outcome in done}
            with connections.connect(self.path, self._memory_limit or LOAD_MEMORY, self._lock_wait) as con:
                loader = Loader(
                    con,
                    table,
                    uris,
                    checks,
                    run_id,
                    _going_on(len(done), progress),
                    history,
                    damaged=damaged,
                )
                try:
                    loader.load([d for d in deliveries if d.load_id not in settled])
                    return [*done, *loader.outcomes]
                except EngineLost as lost:  # a file that is known by now is not read again: this ends
                    damaged |= lost.damaged
                    done += loader.outcomes

    def unfit(
        self, table: Table, deliveries: Sequence[Delivery], uris: Mapping[str, str], history: History
    ) -> dict[str, str]:
        """See `Warehouse.unfit`. Only the files' footers are read."""
        with self.connect() as con:
            return Loader(con, table, uris, [], "", history=history, anew=True).unfit(deliveries)

    def replay(self, table: Table, checks: Sequence[RowCheck], selection: Selection, run_id: str) -> list[Replayed]:
        """See `Warehouse.replay`."""
        return outcome(*self._held(table, selection, run_id, None, lambda sql: sql.replay(checks)))

    def drop(self, table: Table, selection: Selection, because: str, run_id: str) -> int:
        """See `Warehouse.drop`."""
        rows, _ = self._held(table, selection, run_id, because, ReplaySql.drop)
        return sum(row["rows_dropped"] for row in rows)

    def _held(
        self,
        table: Table,
        selection: Selection,
        run_id: str,
        because: str | None,
        statements: Callable[[ReplaySql], Sequence[str]],
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Do something with quarantined rows: the ledger's rows about it, and how many there were by partition."""
        act = Act(str(uuid.uuid4()), run_id, ledger.now(), because)
        with self.connect() as con, connections.transaction(con):
            held = quarantine(table.name).sql
            where = selected(selection, self.dialect)
            if because is None:
                where = replayable(table, selection, self.dialect, Relation(LEDGER, "loads").sql)
            before = dict(
                con.execute(f"SELECT _delivered_partition, count(*) FROM {held} WHERE {where} GROUP BY 1").fetchall()
            )
            if not before:
                return [], {}
            shape = tables.shape_of(con, staging(table.name))
            actual = {} if shape is None else {name: type_of(kind) for name, kind in shape.columns.items()}
            whole = with_brought(table, actual)
            sql = ReplaySql(whole, replace(selection, partitions=set(before)), act, self.dialect, self.sql)
            try:
                for statement in statements(sql):
                    con.execute(statement)
            except (duckdb.BinderException, duckdb.ParserException) as error:
                what = f"a blocking rule of {table.name} can't run"
                raise ConfigError(f"{table.file}: {what}: {connections.translate(error)}") from error
            rows = con.sql(
                f"SELECT * FROM {LEDGER}.replays WHERE replay_id = {literal(act.replay_id)}"
            ).to_arrow_table()
        return rows.to_pylist(), before

    def sql(self, relation: Relation) -> str:
        """See `Warehouse.sql`."""
        return relation.sql

    def query(self, sql: str) -> pa.Table:
        """See `Warehouse.query`."""
        with self.connect() as con:
            try:
                statements = con.extract_statements(sql)
                if len(statements) != 1 or statements[0].type not in _READING:
                    raise ConfigError("a query is one SELECT, DESCRIBE or EXPLAIN; nothing was run")
                return con.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                if isinstance(error, _NOT_THE_USERS):
                    raise
                raise connections.translate(error) from error

    def estimate(self, sql: str) -> int:
        """See `Warehouse.estimate`."""
        return 0

    def append(self, ledger_table: str, rows: pa.Table) -> None:
        """See `Warehouse.append`."""
        with self.connect() as con:
            tables.append_rows(con, ledger_table, rows)

    def exists(self, relation: Relation) -> bool:
        """See `Warehouse.exists`."""
        with self.connect() as con:
            return bool(tables.columns_of(con, relation))

    def replace_rows(
        self, relation: Relation, rows: pa.Table, window: Share | None, held: HeldRows | None = None
    ) -> None:
        """See `Warehouse.replace_rows`."""
        where = in_window(relation, rows.schema, window) if window is not None else None
        with self.connect() as con:
            con.register(_ROWS, rows)
            try:
                with connections.transaction(con):
                    _replace_rows(con, relation, where)
                    if held is not None:
                        _replace_held(con, held, where)
            except duckdb.Error as error:
                if isinstance(error, _NOT_THE_USERS):
                    raise
                raise ConfigError(f"{relation} can't be written: {connections.translate(error)}") from error
            finally:
                con.unregister(_ROWS)

    def model_versions(self, model: ModelSlice, partitions: Collection[str] | None) -> dict[str, ModelVersion]:
        """See `Warehouse.model_versions`."""
        with self.connect() as con:
            return models.versions(con, model, partitions)

    def export(
        self, model: ModelSlice, versions: Mapping[str, ModelVersion], store: ObjectStore, prefix: str
    ) -> dict[str, tuple[str, ...]]:
        """See `Warehouse.export`. An object is named after its content: equal rows give the same object again."""
        objects: dict[str, tuple[str, ...]] = dict.fromkeys(versions, ())
        filled = [key for key, version in versions.items() if version.data_version != EMPTY]
        if not filled:
            return objects
        folder = store.scratch()
        try:
            with self.connect() as con:
                # Nobody else writes while the file is open: what is compared is what is written.
                found = models.versions(con, model, list(versions))
                changed = [key for key, version in versions.items() if found[key] != version]
                if changed:
                    raise models.changed(model, changed)
                files = models.export(con, model, filled, folder)
            for key, path in files.items():
                name = checksum_name(checksum(path))
                place = prefix + keys.model_prefix(model.model, key, versions[key].data_version)
                objects[key] = (store.create(f"{place}{name}.parquet", path).key,)
        finally:
            remove_scratch(folder)
        return objects

    def publish(self, model: ModelSlice, items: Sequence[PublicationItem], publication_id: str, run_id: str) -> None:
        """See `Warehouse.publish`."""
        with self.connect() as con:
            models.publish(con, model, items, publication_id, run_id)

    def reset(self, table: Table) -> None:
        """See `Warehouse.reset`."""
        with self.session(), self.connect() as con, connections.transaction(con):
            tables.ensure_ledger(con)
            tables.forget(con, table)
            tables.ensure_table(con, table, histories(self, [table.name]).get(table.name, UNKNOWN))


_ROWS, _HELD = "_rows_view", "_held_view"
"""Names under which rows from Python are read while they are written."""

_EXAMPLE_LENGTH = 200


def _going_on(done: int, progress: Progress) -> Progress:
    """The progress of what is left, told as that of all."""
    return lambda more, left: progress(done + more, done + left)


def _replace_rows(con: duckdb.DuckDBPyConnection, relation: Relation, where: str | None) -> None:
    """Replace rows by those of `_ROWS`, inside the open transaction."""
    existing = tables.columns_of(con, relation)
    if where is not None:
        _refuse_others(con, relation, where)
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(relation.schema)}")
    if where is None or not existing:
        con.execute(f"CREATE OR REPLACE TABLE {relation.sql} AS SELECT * FROM {_ROWS} LIMIT 0")
    else:
        _refuse_another_schema(con, relation, existing)
        con.execute(f"DELETE FROM {relation.sql} WHERE {where}")
    con.execute(f"INSERT INTO {relation.sql} BY NAME SELECT * FROM {_ROWS}")


def _replace_held(con: duckdb.DuckDBPyConnection, held: HeldRows, where: str | None) -> None:
    """Replace what quarantine has of an asset, inside the open transaction."""
    target = quarantine(held.table.name).sql
    con.execute(f"DELETE FROM {target} WHERE {held.replaced(where, DuckDBWarehouse.dialect)}")
    if held.rows.num_rows:
        con.register(_HELD, held.quarantined(now()))
        try:
            reasons = reasons_sql(where, DuckDBWarehouse.dialect)
            con.execute(f"INSERT INTO {target} BY NAME SELECT * REPLACE ({reasons} AS {REASONS}) FROM {_HELD}")
        finally:
            con.unregister(_HELD)


def _refuse_others(con: duckdb.DuckDBPyConnection, relation: Relation, where: str) -> None:
    """Refuse rows that `where` doesn't select: no later write of the same would delete them, so they'd multiply."""
    outside = f"SELECT * FROM {_ROWS} WHERE ({where}) IS NOT TRUE"
    total, count = con.execute(f"SELECT (SELECT count(*) FROM {_ROWS}), count(*) FROM ({outside})").fetchall()[0]
    if count:
        found = con.sql(f"{outside} LIMIT 1").to_arrow_table().to_pylist()[0]
        example = ", ".join(f"{name}: {'null' if value is None else value}" for name, value in found.items())
        raise DataRefused(
            f"{relation}: {count} of {total} rows are outside the partitions of this run ({where}),"
            f" like {example[:_EXAMPLE_LENGTH]}; nothing was written"
        )


def _refuse_another_schema(con: duckdb.DuckDBPyConnection, relation: Relation, existing: Mapping[str, str]) -> None:
    """Refuse rows whose columns aren't those of the table; numbers may be narrower, and a column may be all null."""
    described = con.execute(f"DESCRIBE SELECT * FROM {_ROWS}").fetchall()
    found = {row[0].lower(): (row[0], row[1]) for row in described}
    known = {name.lower(): (name, kind) for name, kind in existing.items()}
    lines = [f"column {name} is new" for key, (name, _) in found.items() if key not in known]
    lines += [f"column {name} is missing" for key, (name, _) in known.items() if key not in found]
    lines += [
        f"column {name} is {found[key][1]}, the table has {kind}"
        for key, (name, kind) in known.items()
        if key in found and not _holds(con, kind, found[key][1])
    ]
    if lines:
        raise ConfigError(
            f"{relation}: the rows don't fit the table, which holds other partitions too: {'; '.join(lines)}."
            " Nothing was written. Return the same columns and types as before, or drop the table and materialise"
            " all its partitions anew."
        )


_INTEGERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
}  # fmt: skip
_FAMILIES = (
    _INTEGERS | {"FLOAT", "DOUBLE"},  # pandas holds integers as floats where one is null
    _INTEGERS | {"DECIMAL"},
    {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"},
)
"""Types of which a wider one takes the values of a narrower one."""


def _holds(con: duckdb.DuckDBPyConnection, kind: str, other: str) -> bool:
    """Whether a column of one type takes every value of another."""
    if other in (kind, '"NULL"'):
        return True
    names = {kind.partition("(")[0], other.partition("(")[0]}
    if not any(names <= family for family in _FAMILIES):
        return False
    common = con.execute(f"SELECT typeof(coalesce(CAST(NULL AS {kind}), CAST(NULL AS {other})))").fetchall()
    return bool(common[0][0] == kind)
