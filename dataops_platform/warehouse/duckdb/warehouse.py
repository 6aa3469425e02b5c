"""The embedded warehouse: one DuckDB file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.warehouse.base import (
    LoadOutcome,
    ModelSlice,
    ModelVersion,
    PublicationItem,
    RowCheck,
)
from dataops_platform.warehouse.duckdb import connection as connections
from dataops_platform.warehouse.duckdb import models, tables
from dataops_platform.warehouse.duckdb.load import Loader, append_rows
from dataops_platform.warehouse.names import LEDGER, Relation, literal, quarantine, quote, staging

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_USERS_ERRORS = (
    duckdb.CatalogException,
    duckdb.BinderException,
    duckdb.ParserException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.NotImplementedException,
)


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

    def ensure(self, wanted: Collection[Table]) -> None:
        """See `Warehouse.ensure`. What this object has ensured already is not looked at again."""
        marks = {hashlib.sha256(tables.definition(table).encode()).hexdigest(): table for table in wanted}
        missing = [table for mark, table in marks.items() if mark not in self._ensured]
        if not missing and self._ensured:
            return
        with self.connect() as con, connections.transaction(con):
            for statement in tables.ledger_ddl():
                con.execute(statement)
            for table in missing:
                tables.ensure_table(con, table)
        self._ensured |= set(marks) | {"ledger"}

    def load(
        self,
        table: Table,
        deliveries: Sequence[Delivery],
        uris: Mapping[str, str],
        checks: Sequence[RowCheck],
        run_id: str,
    ) -> list[LoadOutcome]:
        """See `Warehouse.load`."""
        with connections.connect(self.path, self._memory_limit or LOAD_MEMORY, self._lock_wait) as con:
            return Loader(con, table, uris, checks, run_id).load(deliveries)

    def query(self, sql: str) -> pa.Table:
        """See `Warehouse.query`."""
        with self.connect() as con:
            try:
                statements = con.extract_statements(sql)
                if len(statements) != 1 or statements[0].type not in _READING:
                    raise ConfigError("a query is one SELECT, DESCRIBE or EXPLAIN; nothing was run")
                return con.sql(sql).to_arrow_table()
            except _USERS_ERRORS as error:
                raise connections.translate(error) from error

    def append(self, ledger_table: str, rows: pa.Table) -> None:
        """See `Warehouse.append`."""
        with self.connect() as con:
            append_rows(con, ledger_table, rows)

    def exists(self, relation: Relation) -> bool:
        """See `Warehouse.exists`."""
        with self.connect() as con:
            return bool(tables.columns_of(con, relation))

    def replace_rows(self, relation: Relation, rows: pa.Table, where: str | None) -> None:
        """See `Warehouse.replace_rows`."""
        with self.connect() as con:
            con.register("_rows_view", rows)
            with connections.transaction(con):
                con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(relation.schema)}")
                if where is None or not tables.columns_of(con, relation):
                    con.execute(f"CREATE OR REPLACE TABLE {relation.sql} AS SELECT * FROM _rows_view LIMIT 0")
                else:
                    con.execute(f"DELETE FROM {relation.sql} WHERE {where}")
                con.execute(f"INSERT INTO {relation.sql} BY NAME SELECT * FROM _rows_view")

    def model_versions(self, model: ModelSlice, partitions: Collection[str] | None) -> dict[str, ModelVersion]:
        """See `Warehouse.model_versions`."""
        with self.connect() as con:
            return models.versions(con, model, partitions)

    def export(self, model: ModelSlice, partitions: Collection[str] | None, folder: Path) -> dict[str, Path]:
        """See `Warehouse.export`."""
        with self.connect() as con:
            return models.export(con, model, partitions, folder)

    def publish(self, model: ModelSlice, items: Sequence[PublicationItem], publication_id: str, run_id: str) -> None:
        """See `Warehouse.publish`."""
        with self.connect() as con:
            models.publish(con, model, items, publication_id, run_id)

    def reset(self, table: Table) -> None:
        """See `Warehouse.reset`."""
        with self.connect() as con, connections.transaction(con):
            con.execute(f"DROP TABLE IF EXISTS {staging(table.name).sql}")
            con.execute(f"DROP TABLE IF EXISTS {quarantine(table.name).sql}")
            con.execute(f"DELETE FROM {LEDGER}.loads WHERE table_name = {literal(table.name)}")
            tables.ensure_table(con, table)
