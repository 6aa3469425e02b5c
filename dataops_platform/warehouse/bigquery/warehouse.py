"""The warehouse on BigQuery: datasets of one project, and a production dataset there or in another one."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.model import SchemaPolicy, Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.google_errors import ONCE, google_errors
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.lake.store import ObjectStore
from dataops_platform.progress import Progress, silent
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import (
    Cost,
    LoadOutcome,
    ModelSlice,
    ModelVersion,
    NoSuchTable,
    PublicationItem,
    Replayed,
    RowCheck,
    Selection,
    Share,
)
from dataops_platform.warehouse.bigquery import tables
from dataops_platform.warehouse.bigquery.export import export
from dataops_platform.warehouse.bigquery.fit import column_misfits
from dataops_platform.warehouse.bigquery.jobs import JobFailed, Jobs, job_name
from dataops_platform.warehouse.bigquery.leases import Leases
from dataops_platform.warehouse.bigquery.load import Loader, judged
from dataops_platform.warehouse.bigquery.models import ModelTables, changed
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.bigquery.rows import Rows
from dataops_platform.warehouse.changes import TableChanges, compare
from dataops_platform.warehouse.definitions import UNKNOWN, Definition, History, histories, history_for, ledger_row
from dataops_platform.warehouse.delivered import UNCHANGED, with_brought
from dataops_platform.warehouse.held import HeldRows
from dataops_platform.warehouse.names import (
    LEDGER,
    PRODUCTION,
    QUARANTINE,
    STAGING,
    Relation,
    quarantine,
    quote,
    staging,
)
from dataops_platform.warehouse.partition_sql import in_partitions
from dataops_platform.warehouse.replay import Act, ReplaySql, outcome, replayable, selected
from dataops_platform.warehouse.shapes import Remedy

if TYPE_CHECKING:
    from google.cloud.bigquery_storage import BigQueryReadClient

_STATEMENTS = {
    Remedy.WIDEN: "ALTER TABLE {relation} ALTER COLUMN {column} SET DATA TYPE {kind}",
    Remedy.DROP: "ALTER TABLE {relation} DROP COLUMN {column}",
}
"""What the API can't do. It adds columns, and allows nulls, when a table is refreshed."""
DATASETS = (LEDGER, STAGING, QUARANTINE, PRODUCTION)
INSERTED_ROWS = 2000
"""Rows of the ledger that go by a statement: load jobs into one table are limited to 1,500 a day, statements aren't."""
SMALL_RESULT = 10_000
"""Rows that are read over REST; more come over the Storage Read API, as Arrow and in parallel."""
_READ_SESSIONS = "bigquery.readsessions.create (roles/bigquery.readSessionUser)"
_EDITING = "to make and change datasets and tables (roles/bigquery.dataEditor)"
_READING = {"SELECT", "EXPLAIN"}


class BigQueryWarehouse:
    """See `Warehouse`. Every query is a job with labels and, where set, a limit of bytes."""

    dialect = "bigquery"

    def __init__(
        self,
        client: bigquery.Client,
        location: str | None = None,
        production_project: str | None = None,
        maximum_bytes_billed: int | None = None,
        labels: Mapping[str, str] | None = None,
        pause: float = 0.5,
        policy_tags: Mapping[str, str] | None = None,
        read_client: Callable[[], BigQueryReadClient | None] | None = None,
    ) -> None:
        """Args:
        production_project: of the production dataset; default: the client's.
        labels: on every job.
        policy_tags: classification of a column → resource name of the policy tag that it gets.
        read_client: makes a client of the Storage Read API for large results; None: all come over REST.
        """
        self.jobs = Jobs(client, location, maximum_bytes_billed, labels, pause)
        self._client = client
        self._location = location
        self._naming = Naming(client.project, production_project or client.project)
        self._models = ModelTables(self.jobs, self._naming)
        self._rows = Rows(self.jobs, self._naming)
        self._tags = dict(policy_tags or {})
        self.leases = Leases(self.jobs, self._naming)
        self._read_client = read_client
        self._ensured: set[str] = set()

    @property
    def url(self) -> str:
        """`bigquery://project/location`."""
        return f"bigquery://{self._client.project}" + (f"/{self._location}" if self._location else "")

    @contextmanager
    def session(self) -> Iterator[None]:
        """See `Warehouse.session`: there is nothing to keep open."""
        yield

    @contextmanager
    def work(self, step: str, of: str, run_id: str) -> Iterator[Callable[[], Cost]]:
        """See `Warehouse.work`."""
        with self.jobs.work(dataops_step=step, dataops_of=of, dataops_run=run_id) as cost:
            yield cost

    @contextmanager
    def _words(self, what: str, permission: str) -> Iterator[None]:
        """Google's errors in words; see `google_errors`. `NotFound` passes through."""
        where = f"BigQuery project {self._client.project}"
        try:
            with google_errors(what, where, permission):
                yield
        except api.BadRequest as error:
            raise ConfigError(f"can't {what} {where}: {_said(error)}") from error

    def exclusive(self, models: Collection[str], run_id: str) -> AbstractContextManager[Callable[[], bool]]:
        """See `Warehouse.exclusive`: by leases."""
        return self.leases.held(models, f"run {run_id}")

    # -- tables -------------------------------------------------------------------------------------------------------

    def ensure(self, wanted: Collection[Table]) -> Sequence[TableChanges]:
        """See `Warehouse.ensure`. What this object has ensured already is not looked at again."""
        with self._words("prepare", _EDITING), ThreadPoolExecutor(max_workers=8) as pool:
            if not self._ensured:
                self._check_places(list(pool.map(self._ensure_dataset, DATASETS)))
                list(pool.map(self._ensure_ledger, ledger.TABLES))
                self._ensured.add(LEDGER)
            missing = [table for table in wanted if self._mark(table) not in self._ensured]
            found = self._changes(pool, missing)
            anew = [item.table for item in found if item.rebuild]
            if anew:  # as it looks where another process is emptying them: what there is when that is done, counts
                with self._emptying(anew):
                    found = self._changes(pool, missing)
                    self._ensure(pool, found)
            else:
                self._ensure(pool, found)
        self._ensured |= {self._mark(table) for table in missing}
        return found

    def _ensure(self, pool: ThreadPoolExecutor, found: Sequence[TableChanges]) -> None:
        problems = [str(problem) for item in found if (problem := item.refusal()) is not None]
        if problems:
            raise ConfigError("\n".join(problems))
        self._follow(pool, found)

    @contextmanager
    def _emptying(self, of: Collection[Table]) -> Iterator[None]:
        """Be the only one who empties tables of contracts, drops them and makes them anew.

        BigQuery does that in several steps. In between, a table and the ledger are as if somebody had dropped the one
        or emptied the other: who would forget loads for it, could forget those that somebody else has made since.
        """
        names = {str(staging(table.name)) for table in of}
        with self.leases.held(names, f"process {os.getpid()} on {socket.gethostname()}"):
            yield

    def changes(self, wanted: Collection[Table]) -> list[TableChanges]:
        """See `Warehouse.changes`."""
        with self._words("read tables in", "bigquery.tables.get"), ThreadPoolExecutor(max_workers=8) as pool:
            return self._changes(pool, wanted)

    def adopt(self, table: Table) -> None:
        """See `Warehouse.adopt`."""
        self.ensure([])
        with self._words("change tables in", _EDITING), ThreadPoolExecutor(max_workers=2) as pool:
            (found,) = self._changes(pool, [table])
            found.refuse_by_hand()
            if found.rebuild:
                self.reset(table)
            else:
                self._follow(pool, [found])

    def _changes(self, pool: ThreadPoolExecutor, wanted: Collection[Table]) -> list[TableChanges]:
        known = histories(self, [table.name for table in wanted])

        def look(table: Table) -> TableChanges:
            shapes = []
            actual = []
            filled = False
            for made in self._made(table):
                shapes.append(tables.shape_of(made))
                there = self._existing(made.reference)
                actual.append(None if there is None else tables.shape_of(there))
                filled |= there is not None and bool(there.num_rows)
            history = known.get(table.name, UNKNOWN)
            return compare(table, history, (shapes[0], shapes[1]), (actual[0], actual[1]), filled)

        return list(pool.map(look, wanted))

    def _made(self, table: Table) -> list[bigquery.Table]:
        """Staging and quarantine as the contract wants them."""
        makers = ((staging(table.name), tables.staging_table), (quarantine(table.name), tables.quarantine_table))
        return [make(self._naming.reference(relation), table, self._tags) for relation, make in makers]

    def _existing(self, reference: bigquery.TableReference) -> bigquery.Table | None:
        try:
            return self._client.get_table(reference, retry=self.jobs.retry)
        except api.NotFound:
            return None

    def _follow(self, pool: ThreadPoolExecutor, found: Sequence[TableChanges]) -> None:
        """Make tables what the contracts say, as far as they needn't be built anew, and record what applies."""
        list(pool.map(self._follow_one, found))
        self._add_locks([item.table.name for item in found])
        rows = [ledger_row(item.table, ledger.now()) for item in found if not item.recorded]
        if rows:
            self.append("definitions", pa.concat_tables(rows))

    def _follow_one(self, found: TableChanges) -> None:
        table = found.table
        if found.gone:
            self._forget(table, [r for r in (quarantine(table.name),) if self.exists(r)])
        lock = bigquery.Table(self._naming.reference(tables.lock_of(table.name)), schema=tables.LOCK_SCHEMA)
        self._client.create_table(lock, exists_ok=True, retry=self.jobs.retry)
        if any(item.remedy is Remedy.DROP for item in found.differences):
            self._cluster(self._made(table)[0])
        for item in found.differences:
            if item.remedy in _STATEMENTS:
                kind = tables.sql_type(item.wanted)
                column = quote(item.column, self.dialect)
                sql = _STATEMENTS[item.remedy].format(relation=self.sql(item.relation), column=column, kind=kind)
                self.statement("change", sql, {}, ledger.now().isoformat())
        for made in self._made(table):
            self._ensure_as(made)
        if found.unheld and found.found:  # a quarantine that is made anew has the columns that deliveries brought
            there = self._client.get_table(self._naming.reference(staging(table.name)), retry=self.jobs.retry)
            whole = with_brought(table, tables.types_of(there.schema))
            tables.add_columns(self.jobs, self._naming, table, whole.columns[len(table.columns) :])

    def _cluster(self, wanted: bigquery.Table) -> None:
        """Cluster a table as its contract says, before columns go: none goes that the table is clustered by."""
        actual = self._existing(wanted.reference)
        if actual is not None and list(actual.clustering_fields or []) != list(wanted.clustering_fields or []):
            actual.clustering_fields = wanted.clustering_fields
            self._client.update_table(actual, ["clustering_fields"], retry=self.jobs.retry)

    def _mark(self, table: Table) -> str:
        made = tables.staging_table(self._naming.reference(staging(table.name)), table, self._tags)
        return f"{made.to_api_repr()} {Definition.of(table).to_json()}"

    def _ensure_dataset(self, schema: str) -> bigquery.Dataset:
        reference = self._naming.dataset(schema)
        try:
            return self._client.get_dataset(reference, retry=self.jobs.retry)
        except api.NotFound:
            made = bigquery.Dataset(reference)
        if self._location:
            made.location = self._location
        made.labels = {"managed_by": "dataops"}
        try:
            return self._client.create_dataset(made, exists_ok=True, retry=self.jobs.retry)
        except api.NotFound as error:
            setting = "DATAOPS_WAREHOUSE" if reference.project == self._client.project else "DATAOPS_PRODUCTION_PROJECT"
            raise ConfigError(
                f"there is no project {reference.project}, or not for this identity ({_said(error)}):"
                f" correct {setting}, or have the identity granted a role there"
            ) from error

    def _check_places(self, found: Sequence[bigquery.Dataset]) -> None:
        """Refuse datasets that no job could use: a job runs in one location and sees only what is there."""
        for dataset in found:
            if self._location and dataset.location and dataset.location.lower() != self._location.lower():
                raise ConfigError(
                    f"dataset {dataset.project}.{dataset.dataset_id} is in {dataset.location}, not in {self._location}:"
                    f" set DATAOPS_WAREHOUSE to bigquery://{self._client.project}/{dataset.location}, or use another"
                    " project"
                )
        if len({dataset.location.lower() for dataset in found if dataset.location}) > 1:
            places = ", ".join(f"{dataset.project}.{dataset.dataset_id} in {dataset.location}" for dataset in found)
            raise ConfigError(
                f"the datasets are not all in one location: {places}. Use a project that has none of them"
            )

    def _ensure_ledger(self, name: str) -> None:
        made = bigquery.Table(self._naming.reference(Relation(LEDGER, name)), schema=tables.ledger_schema(name))
        # What is read is one table's or model's: BigQuery leaves the others' blocks alone.
        made.clustering_fields = list(ledger.CLUSTERED_BY[name])
        while True:
            found = self._client.create_table(made, exists_ok=True, retry=self.jobs.retry)
            there = {field.name for field in found.schema}
            new = [field for field in made.schema if field.name not in there]
            if not new:
                return
            found.schema = [*found.schema, *new]  # a ledger of an older version
            try:
                self._client.update_table(found, ["schema"], retry=self.jobs.retry)
            except api.PreconditionFailed:  # see `_ensure_as`
                continue
            return

    def _add_locks(self, names: Sequence[str]) -> None:
        """A row for each lock that has none. Two would do no harm: a load updates all of its table's."""
        if not names:
            return
        locks = [self._naming.sql(tables.lock_of(name)) for name in sorted(names)]
        script = "\n".join(
            f"INSERT INTO {lock} (taken) SELECT 0 FROM (SELECT COUNT(*) AS n FROM {lock}) WHERE n = 0;"
            for lock in locks
        )
        config = self.jobs.query_config()
        self.jobs.run(
            job_name("locks", script, ledger.now().isoformat()),
            lambda job_id: self._client.query(
                script, job_config=config, job_id=job_id, location=self._location, retry=ONCE, job_retry=None
            ),
        )

    def _ensure_as(self, wanted: bigquery.Table) -> None:
        """Create a table, or refresh it where that touches no data."""
        retry = self.jobs.retry
        while True:
            actual = self._existing(wanted.reference)
            if actual is None:
                self._client.create_table(wanted, exists_ok=True, retry=retry)
                return
            changed = tables.refreshed(wanted, actual)
            if not changed:
                return
            try:
                self._client.update_table(actual, changed, retry=retry)
            except api.PreconditionFailed:  # the table is another since: by other hands, or by a call of ours whose
                continue  # answer was lost
            return

    def exists(self, relation: Relation) -> bool:
        """See `Warehouse.exists`."""
        with self._words("read", "bigquery.tables.get"):
            try:
                self._client.get_table(self._naming.reference(relation), retry=self.jobs.retry)
            except api.NotFound:
                return False
        return True

    def reset(self, table: Table) -> None:
        """See `Warehouse.reset`. The transaction empties the tables; then they are made anew, as the contract reads."""
        self.ensure([])
        with self._emptying([table]), ThreadPoolExecutor(max_workers=2) as pool:
            self._forget(table, [r for r in (staging(table.name), quarantine(table.name)) if self.exists(r)])
            with self._words("prepare", _EDITING):
                self._ensure(pool, self._changes(pool, [table]))
        self._ensured.add(self._mark(table))

    def _forget(self, table: Table, there: Sequence[Relation]) -> None:
        """Forget a table's loads, and drop those of its tables that are there.

        What was replayed or given up is loaded and judged anew with all the rest; the ledger keeps that it was done.
        """
        loads = self._naming.sql(Relation(LEDGER, "loads"))
        where = in_partitions(table, None, "", self.dialect)
        lines = [
            f"DELETE FROM {self._naming.sql(r)} WHERE {where if r == staging(table.name) else 'TRUE'};" for r in there
        ]
        lines.append(f"DELETE FROM {loads} WHERE table_name = @name;")
        replays = self._naming.sql(Relation(LEDGER, "replays"))
        undone = "undone_at = CURRENT_TIMESTAMP() WHERE table_name = @name AND undone_at IS NULL"
        lines.append(f"UPDATE {replays} SET {undone};")
        # A load that is running is waited for, or aborted and repeated: it changes the same tables.
        script = "\n".join(["BEGIN TRANSACTION;", *lines, "COMMIT TRANSACTION;"])
        self.statement("reset", script, {"name": table.name}, ledger.now().isoformat())
        with self._words("reset a table in", "bigquery.tables.delete"):
            for relation in there:
                self._client.delete_table(self._naming.reference(relation), not_found_ok=True, retry=self.jobs.retry)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def misfits(self, table: Table, schema: pa.Schema) -> Sequence[str]:
        """See `Warehouse.misfits`."""
        return column_misfits(table, {field.name: str(field.type) for field in schema}, UNCHANGED)[0]

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
        return Loader(self.jobs, self._naming, table, uris, checks, run_id, progress, history).load(deliveries)

    def unfit(
        self, table: Table, deliveries: Sequence[Delivery], uris: Mapping[str, str], history: History
    ) -> dict[str, str]:
        """See `Warehouse.unfit`. Answered from the manifests alone."""
        found = {}
        for delivery in sorted(deliveries, key=lambda d: (d.created_at, d.partition)):
            lines, _, grown = judged(table, delivery, history)
            if lines:
                found[delivery.manifest] = "; ".join(lines)
            else:
                table = grown
        return found

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
        """Do something with quarantined rows, as loads do: behind the table's lock, in one transaction.

        Returns:
            The ledger's rows about it, and how many there were by partition.
        """
        held = self._naming.sql(quarantine(table.name))
        where = selected(selection, self.dialect)
        if because is None:
            where = replayable(table, selection, self.dialect, self._naming.sql(Relation(LEDGER, "loads")))
        found = self.query(
            f"SELECT _delivered_partition AS k, COUNT(*) AS n FROM {held} WHERE {where} GROUP BY 1"
        ).to_pylist()
        before = {row["k"]: row["n"] for row in found}
        if not before:
            return [], {}
        act = Act(str(uuid.uuid4()), run_id, ledger.now(), because)
        if table.schema_policy is SchemaPolicy.ADDITIVE:
            with self._words("read a table in", "bigquery.tables.get"):
                actual = self._client.get_table(self._naming.reference(staging(table.name)), retry=self.jobs.retry)
            table = with_brought(table, tables.types_of(actual.schema))
        sql = ReplaySql(table, replace(selection, partitions=set(before)), act, self.dialect, self.sql)
        lock = f"UPDATE {self._naming.sql(tables.lock_of(table.name))} SET taken = taken + 1 WHERE TRUE"
        script = ";\n".join(["BEGIN TRANSACTION", lock, *statements(sql), "COMMIT TRANSACTION"]) + ";"
        try:
            self.statement("replay", script, {}, act.replay_id)
        except JobFailed as error:
            if error.reason in ("invalidQuery", "invalid"):
                raise ConfigError(f"{table.file}: a blocking rule of {table.name} can't run: {error.text}") from error
            raise
        replays = self._naming.sql(Relation(LEDGER, "replays"))
        rows = self.query(f"SELECT * FROM {replays} WHERE replay_id = '{act.replay_id}'").to_pylist()
        return rows, before

    def statement(self, kind: str, sql: str, parameters: Mapping[str, str], *identity: str) -> bigquery.QueryJob:
        """Run one statement to its end, under a name made of its kind and identity."""
        values = [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in parameters.items()]
        config = self.jobs.query_config(query_parameters=values)
        return self.jobs.run(
            job_name(kind, sql, *parameters.values(), *identity),
            lambda job_id: self._client.query(
                sql, job_config=config, job_id=job_id, location=self._location, retry=ONCE, job_retry=None
            ),
        )

    def sql(self, relation: Relation) -> str:
        """See `Warehouse.sql`: with the project."""
        return self._naming.sql(relation)

    def query(self, sql: str) -> pa.Table:
        """See `Warehouse.query`."""
        try:
            job, rows = self.jobs.ask(sql, self.jobs.query_config())
            if (job.statement_type or "SELECT") not in _READING:
                raise ConfigError("a query is one SELECT; what it did is in BigQuery's history")
            with google_errors("read rows in", f"BigQuery project {self._client.project}", _READ_SESSIONS):
                large = self._read_client is not None and (rows.total_rows or 0) > SMALL_RESULT
                reader = self._read_client() if large and self._read_client is not None else None
                return rows.to_arrow(bqstorage_client=reader, create_bqstorage_client=False)
        except api.NotFound as error:
            raise NoSuchTable(_said(error)) from error
        except api.BadRequest as error:
            raise ConfigError(_said(error)) from error

    def estimate(self, sql: str) -> int:
        """See `Warehouse.estimate`: a dry run."""
        config = self.jobs.query_config(dry_run=True, use_query_cache=False)
        try:
            with self.jobs.words("plan a query in"):
                job = self._client.query(
                    sql, job_config=config, location=self._location, retry=self.jobs.retry, job_retry=None
                )
        except api.NotFound as error:
            raise NoSuchTable(_said(error)) from error
        except api.BadRequest as error:
            raise ConfigError(_said(error)) from error
        return int(job.total_bytes_processed or 0)

    def append(self, ledger_table: str, rows: pa.Table) -> None:
        """See `Warehouse.append`: one statement or one load job, each all or nothing."""
        relation, schema = Relation(LEDGER, ledger_table), tables.ledger_schema(ledger_table)
        if rows.num_rows <= INSERTED_ROWS:
            self._rows.insert(relation, rows, schema)
        else:
            reference = self._naming.reference(relation)
            self._rows.load(reference, rows, bigquery.WriteDisposition.WRITE_APPEND, schema)

    def replace_rows(
        self, relation: Relation, rows: pa.Table, window: Share | None, held: HeldRows | None = None
    ) -> None:
        """See `Warehouse.replace_rows`."""
        self._rows.replace(relation, rows, window, held)

    # -- models -------------------------------------------------------------------------------------------------------

    def model_versions(self, model: ModelSlice, partitions: Collection[str] | None) -> dict[str, ModelVersion]:
        """See `Warehouse.model_versions`."""
        return self._models.versions(model, partitions)

    def export(
        self, model: ModelSlice, versions: Mapping[str, ModelVersion], store: ObjectStore, prefix: str
    ) -> dict[str, tuple[str, ...]]:
        """See `Warehouse.export`. The rows are fingerprinted once more when they have been written."""
        written = export(self.jobs, self._naming, model, self._models.table(model), versions, store, prefix)
        found = self._models.versions(model, list(versions))
        other = [key for key, version in versions.items() if found[key] != version]
        if other:
            raise changed(model, ", ".join(other[:3]))
        return written

    def publish(self, model: ModelSlice, items: Sequence[PublicationItem], publication_id: str, run_id: str) -> None:
        """See `Warehouse.publish`."""
        self._models.publish(model, items, publication_id, run_id)


def _said(error: api.GoogleAPICallError) -> str:
    """What Google says, in one line."""
    return " ".join(str(error.message).split())
