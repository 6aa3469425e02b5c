"""The warehouse on BigQuery: datasets of one project, and a production dataset there or in another one."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import (
    LoadOutcome,
    ModelSlice,
    ModelVersion,
    NoSuchTable,
    PublicationItem,
    RowCheck,
)
from dataops_platform.warehouse.bigquery import tables
from dataops_platform.warehouse.bigquery.jobs import Jobs, job_name
from dataops_platform.warehouse.bigquery.load import Loader
from dataops_platform.warehouse.bigquery.models import ModelTables
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.names import LEDGER, PRODUCTION, QUARANTINE, STAGING, Relation, quarantine, staging

DATASETS = (LEDGER, STAGING, QUARANTINE, PRODUCTION)
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
    ) -> None:
        self.jobs = Jobs(client, location, maximum_bytes_billed, labels, pause)
        self._client = client
        self._location = location
        self._naming = Naming(client.project, production_project or client.project)
        self._models = ModelTables(self.jobs, self._naming)
        self._ensured: set[str] = set()

    @property
    def url(self) -> str:
        """`bigquery://project/location`."""
        return f"bigquery://{self._client.project}" + (f"/{self._location}" if self._location else "")

    @contextmanager
    def session(self) -> Iterator[None]:
        """See `Warehouse.session`: there is nothing to keep open."""
        yield

    # -- tables -------------------------------------------------------------------------------------------------------

    def ensure(self, wanted: Collection[Table]) -> None:
        """See `Warehouse.ensure`. What this object has ensured already is not looked at again."""
        with self.jobs.words("prepare"), ThreadPoolExecutor(max_workers=8) as pool:
            if not self._ensured:
                list(pool.map(self._ensure_dataset, DATASETS))
                list(pool.map(self._ensure_ledger, ledger.TABLES))
                self._ensure_locks()
                self._ensured.add(LEDGER)
            missing = [table for table in wanted if self._mark(table) not in self._ensured]
            problems = [line for lines in pool.map(self._ensure_table, missing) for line in lines]
            if problems:
                raise ConfigError("\n".join(problems))
            self._add_locks([table.name for table in missing])
        self._ensured |= {self._mark(table) for table in missing}

    def _mark(self, table: Table) -> str:
        made = tables.staging_table(self._naming.reference(staging(table.name)), table)
        return str(made.to_api_repr())

    def _ensure_dataset(self, schema: str) -> None:
        reference = self._naming.dataset(schema)
        try:
            found = self._client.get_dataset(reference)
        except api.NotFound:
            made = bigquery.Dataset(reference)
            if self._location:
                made.location = self._location
            made.labels = {"managed_by": "dataops"}
            found = self._client.create_dataset(made, exists_ok=True)
        if self._location and found.location and found.location.lower() != self._location.lower():
            raise ConfigError(
                f"dataset {reference.project}.{reference.dataset_id} is in {found.location}, not in {self._location}:"
                f" set DATAOPS_WAREHOUSE to bigquery://{self._client.project}/{found.location}, or use another project"
            )

    def _ensure_ledger(self, name: str) -> None:
        made = bigquery.Table(self._naming.reference(Relation(LEDGER, name)), schema=tables.ledger_schema(name))
        self._client.create_table(made, exists_ok=True)

    def _ensure_locks(self) -> None:
        schema = [bigquery.SchemaField("table_name", "STRING"), bigquery.SchemaField("taken", "INTEGER")]
        made = bigquery.Table(self._naming.reference(Relation(LEDGER, tables.LOCKS)), schema=schema)
        self._client.create_table(made, exists_ok=True)

    def _add_locks(self, names: Sequence[str]) -> None:
        """A row for each table that has none. Two would do no harm: a load updates all of its table's."""
        if not names:
            return
        locks = self._naming.sql(Relation(LEDGER, tables.LOCKS))
        config = self.jobs.query_config(query_parameters=[bigquery.ArrayQueryParameter("names", "STRING", names)])
        sql = (
            f"INSERT INTO {locks} (table_name, taken) SELECT n, 0 FROM UNNEST(@names) AS n"
            f" WHERE n NOT IN (SELECT table_name FROM {locks})"
        )
        self.jobs.run(
            job_name("locks", self._client.project, *sorted(names), ledger.now().isoformat()),
            lambda job_id: self._client.query(
                sql, job_config=config, job_id=job_id, location=self._location, job_retry=None
            ),
        )

    def _ensure_table(self, table: Table) -> list[str]:
        """Create or refresh a contract's tables; how they differ from it, where they do."""
        lines: list[str] = []
        for relation, make in (
            (staging(table.name), tables.staging_table),
            (quarantine(table.name), tables.quarantine_table),
        ):
            wanted = make(self._naming.reference(relation), table)
            try:
                actual = self._client.get_table(wanted.reference)
            except api.NotFound:
                self._client.create_table(wanted, exists_ok=True)
                continue
            found = tables.differences(wanted, actual, str(relation))
            lines += found
            changed = [] if found else tables.refreshed(wanted, actual)
            if changed:
                self._client.update_table(actual, changed)
        if not lines:
            return []
        return [
            f"{table.file}:{table.line}: the warehouse differs from the contract: {'; '.join(lines)}."
            f" Undo the change in the contract, or run `dataops reload {table.name}`:"
            " the table is then built anew from the lake."
        ]

    def exists(self, relation: Relation) -> bool:
        """See `Warehouse.exists`."""
        with self.jobs.words("read"):
            try:
                self._client.get_table(self._naming.reference(relation))
            except api.NotFound:
                return False
        return True

    def reset(self, table: Table) -> None:
        """See `Warehouse.reset`. The ledger forgets the loads last: a reset that was cut off is repeated."""
        with self.jobs.words("reset a table in"):
            for relation in (staging(table.name), quarantine(table.name)):
                self._client.delete_table(self._naming.reference(relation), not_found_ok=True)
        loads = self._naming.sql(Relation(LEDGER, "loads"))
        self.statement(
            "reset", f"DELETE FROM {loads} WHERE table_name = @name", {"name": table.name}, ledger.now().isoformat()
        )
        self._ensured.discard(self._mark(table))
        self.ensure([table])

    # -- rows ---------------------------------------------------------------------------------------------------------

    def load(
        self,
        table: Table,
        deliveries: Sequence[Delivery],
        uris: Mapping[str, str],
        checks: Sequence[RowCheck],
        run_id: str,
    ) -> list[LoadOutcome]:
        """See `Warehouse.load`."""
        return Loader(self.jobs, self._naming, table, uris, checks, run_id).load(deliveries)

    def statement(self, kind: str, sql: str, parameters: Mapping[str, str], *identity: str) -> bigquery.QueryJob:
        """Run one statement to its end, under a name made of its kind and identity."""
        values = [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in parameters.items()]
        config = self.jobs.query_config(query_parameters=values)
        return self.jobs.run(
            job_name(kind, sql, *parameters.values(), *identity),
            lambda job_id: self._client.query(
                sql, job_config=config, job_id=job_id, location=self._location, job_retry=None
            ),
        )

    def query(self, sql: str) -> pa.Table:
        """See `Warehouse.query`."""
        config = self.jobs.query_config(default_dataset=None)
        try:
            with self.jobs.words("query"):
                job = self._client.query(sql, job_config=config, location=self._location)
                job.result()
                if (job.statement_type or "SELECT") not in _READING:
                    raise ConfigError("a query is one SELECT; what it did is in BigQuery's history")
                return job.to_arrow(create_bqstorage_client=False)
        except api.NotFound as error:
            raise NoSuchTable(" ".join(str(error.message).split())) from error
        except api.BadRequest as error:
            raise ConfigError(" ".join(str(error.message).split())) from error

    def append(self, ledger_table: str, rows: pa.Table) -> None:
        """See `Warehouse.append`: one load job, which is all or nothing."""
        self._load_rows(
            Relation(LEDGER, ledger_table),
            rows,
            bigquery.WriteDisposition.WRITE_APPEND,
            tables.ledger_schema(ledger_table),
        )

    def _load_rows(
        self, relation: Relation, rows: pa.Table, disposition: str, schema: Sequence[bigquery.SchemaField] | None
    ) -> None:
        """Load small results as parquet."""
        content = io.BytesIO()
        pq.write_table(rows, content)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET, write_disposition=disposition, labels=self.jobs.labels()
        )
        if schema is not None:
            config.schema = schema
        name = job_name("rows", relation, content.getvalue(), ledger.now().isoformat())

        def start(job_id: str) -> bigquery.LoadJob:
            content.seek(0)
            return self._client.load_table_from_file(
                content, self._naming.reference(relation), job_id=job_id, location=self._location, job_config=config
            )

        self.jobs.run(name, start)

    # -- models -------------------------------------------------------------------------------------------------------

    def model_versions(self, model: ModelSlice, partitions: Collection[str] | None) -> dict[str, ModelVersion]:
        """See `Warehouse.model_versions`."""
        return self._models.versions(model, partitions)

    def publish(self, model: ModelSlice, items: Sequence[PublicationItem], publication_id: str, run_id: str) -> None:
        """See `Warehouse.publish`."""
        self._models.publish(model, items, publication_id, run_id)
