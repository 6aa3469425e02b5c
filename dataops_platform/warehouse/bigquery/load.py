"""Loading deliveries into staging on BigQuery, each exactly once, without a row passing through the worker.

Each delivered object goes by a load job, with the contract's types, into a table of its own that expires: BigQuery
doesn't tell which object a loaded row came from, and limits how often one table may be loaded. Then one
multi-statement transaction splits the rows, resolves keys, changes staging and quarantine and writes the ledger.

The same rows stay as on the embedded warehouse: see `tie_break`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.model import SchemaPolicy, Table
from dataops_platform.contracts.problems import ConfigError, DataOpsError
from dataops_platform.google_errors import ONCE
from dataops_platform.lake.deliveries import MOST_OBJECTS, DeliveredObject, Delivery
from dataops_platform.progress import Progress, silent
from dataops_platform.secrets import redact
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import LeftOut, LoadOutcome, RowCheck
from dataops_platform.warehouse.bigquery import tables
from dataops_platform.warehouse.bigquery.fit import misfits
from dataops_platform.warehouse.bigquery.jobs import JobFailed, Jobs, job_name
from dataops_platform.warehouse.bigquery.load_sql import BREAKER, LoadSql, Staged
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.definitions import UNKNOWN, History
from dataops_platform.warehouse.delivered import Beyond, since, with_brought
from dataops_platform.warehouse.loading import (
    batches,
    can_do_without,
    foreign_partition,
    too_many_bad_rows,
    why_left_out,
)
from dataops_platform.warehouse.names import LEDGER, Relation, staging

MAX_OBJECTS = MOST_OBJECTS
"""Objects that one transaction loads at most."""
MAX_BATCH_ROWS = 2_000_000_000
"""Rows that one transaction loads at most."""
STAGE_HOURS = 24
"""After this a table of staged rows is dropped by BigQuery, whatever became of the load."""


PARALLEL = 8
"""Objects that are loaded at the same time."""


def judged(table: Table, delivery: Delivery, history: History) -> tuple[list[str], Beyond, Table]:
    """What keeps a delivery from being loaded, what it has beyond the contract, and the table with that."""
    lines, more, grown = misfits(table, delivery, since(table, delivery, history))
    return foreign_partition(table, delivery.partition, delivery.cut) + lines, more, grown


class Loader:
    """Loads deliveries of one table."""

    def __init__(
        self,
        jobs: Jobs,
        naming: Naming,
        table: Table,
        uris: Mapping[str, str],
        checks: Sequence[RowCheck],
        run_id: str,
        progress: Progress = silent,
        history: History = UNKNOWN,
    ) -> None:
        """Args:
        history: of the table's definition; needed where deliveries were made under others than today's.
        """
        self._jobs = jobs
        self._naming = naming
        self._history = history
        self._contract, self._checks = table, checks
        self._table = table  # with the columns that deliveries brought
        self._uris = uris
        self._run_id = run_id
        self._progress = progress
        self._labels = jobs.labels(dataops_table=table.name, dataops_run=run_id, dataops_step="load")
        self._loads = naming.sql(Relation(LEDGER, "loads"))

    def load(self, deliveries: Sequence[Delivery]) -> list[LoadOutcome]:
        """Load all deliveries that the ledger doesn't hold yet, oldest first; see `Warehouse.load`."""
        known = self._known([str(d.load_id) for d in deliveries])
        new = {str(d.load_id): d for d in deliveries if str(d.load_id) not in known}
        outcomes: list[LoadOutcome] = []
        if new and self._contract.schema_policy is SchemaPolicy.ADDITIVE:
            with self._jobs.words("read a table in"):
                actual = self._jobs.client.get_table(
                    self._naming.reference(staging(self._contract.name)), retry=self._jobs.retry
                )
            self._table = with_brought(self._contract, tables.types_of(actual.schema))
        ordered = sorted(new.values(), key=lambda d: (d.created_at, d.partition))
        for batch in batches(ordered, MAX_BATCH_ROWS, MAX_OBJECTS):
            outcomes += self._load_batch(batch)
            self._progress(len(outcomes), len(ordered))
        return outcomes

    # -- a batch ------------------------------------------------------------------------------------------------------

    def _load_batch(self, batch: Sequence[Delivery]) -> list[LoadOutcome]:
        outcomes: list[LoadOutcome] = []
        good: list[Delivery] = []
        beyond: dict[str, Beyond] = {}
        before = len(self._table.columns)
        for delivery in batch:
            lines, more, grown = judged(self._table, delivery, self._history)
            if lines:
                outcomes.append(self._refuse(delivery, "; ".join(lines)))
            else:
                good.append(delivery)
                beyond[str(delivery.load_id)], self._table = more, grown
        # Not in the transaction, where BigQuery changes no tables: columns without values do no harm.
        tables.add_columns(self._jobs, self._naming, self._table, self._table.columns[before:])
        staged, failures = self._stage(good)
        left_out: dict[str, tuple[LeftOut, ...]] = {}
        for delivery in good:
            failed = failures.get(str(delivery.load_id), {})
            damaged = all(error.reason == "invalid" for error in failed.values())  # other failures may pass
            if failed and not (damaged and can_do_without(self._contract, delivery, failed)):
                reason = "; ".join(f"{key}: {error.text}" for key, error in failed.items())
                outcomes.append(self._refuse(delivery, reason))
            else:
                left_out[str(delivery.load_id)] = self._leave_out(delivery, failed)
        good = [d for d in good if str(d.load_id) in left_out]
        readable = [s for s in staged if s.item.key not in failures.get(str(s.delivery.load_id), {})]
        try:
            while good:
                tripped = self._transaction(good, [s for s in readable if s.delivery in good], beyond, left_out)
                known = self._ledger_rows([str(d.load_id) for d in good])
                outcomes += [self._refuse(d, tripped[str(d.load_id)]) for d in good if str(d.load_id) in tripped]
                outcomes += [
                    replace(
                        _outcome(d, known[str(d.load_id)]),
                        beyond=beyond[str(d.load_id)],
                        left_out=left_out[str(d.load_id)],
                    )
                    for d in good
                    if str(d.load_id) in known
                ]
                good = [d for d in good if str(d.load_id) not in {*tripped, *known}]
        finally:
            with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
                list(pool.map(self._drop_stage, staged))
        return outcomes

    def _known(self, load_ids: Sequence[str]) -> set[str]:
        return set(self._ledger_rows(load_ids))

    def _ledger_rows(self, load_ids: Sequence[str]) -> dict[str, bigquery.Row]:
        if not load_ids:
            return {}
        config = self._jobs.query_config(
            self._labels,
            query_parameters=[
                bigquery.ScalarQueryParameter("name", "STRING", self._table.name),
                bigquery.ArrayQueryParameter("ids", "STRING", list(load_ids)),
            ],
        )
        sql = f"SELECT * FROM {self._loads} WHERE table_name = @name AND load_id IN UNNEST(@ids)"
        return {row["load_id"]: row for row in self._jobs.select(sql, config)}

    def _refuse(self, delivery: Delivery, reason: str) -> LoadOutcome:
        """Record a refusal, unless it is known: a delivery that is refused again for the same reason is no news."""
        reason = redact(reason)
        refusals = self._naming.sql(Relation(LEDGER, "refusals"))
        values = {
            "load_id": str(delivery.load_id),
            "table_name": self._table.name,
            "partition_key": delivery.partition,
            "manifest": delivery.manifest,
            "reason": reason,
            "run_id": self._run_id,
        }
        columns = ", ".join(values)
        parameters = [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in values.items()]
        sql = (
            f"INSERT INTO {refusals} ({columns}, refused_at)"
            f" SELECT {', '.join(f'@{name}' for name in values)}, CURRENT_TIMESTAMP() FROM (SELECT 1)"
            f" WHERE NOT EXISTS (SELECT 1 FROM {refusals} WHERE load_id = @load_id AND reason = @reason)"
        )
        # The statement itself can be repeated, and must run to say whether the refusal was known.
        name = job_name("refuse", self._run_id, delivery.load_id, reason, ledger.now())
        job = self._jobs.run(name, lambda job_id: self._start(sql, job_id, parameters))
        known = job.num_dml_affected_rows == 0
        return LoadOutcome(delivery, rows_read=delivery.rows, refused=reason, refused_before=known)

    def _leave_out(self, delivery: Delivery, failed: Mapping[str, JobFailed]) -> tuple[LeftOut, ...]:
        """The files of a delivery that its load is to leave out, and record."""
        if not failed:
            return ()
        config = self._jobs.query_config(
            self._labels, query_parameters=[bigquery.ScalarQueryParameter("id", "STRING", str(delivery.load_id))]
        )
        refusals = self._naming.sql(Relation(LEDGER, "refusals"))
        sql = f"SELECT DISTINCT file FROM {refusals} WHERE load_id = @id AND file IS NOT NULL"
        before = {row["file"] for row in self._jobs.select(sql, config)}
        names = delivery.files()
        return tuple(
            LeftOut(names[key], why_left_out(names[key], key, error.text), names[key] in before)
            for key, error in failed.items()
        )

    def _start(
        self, sql: str, job_id: str, parameters: Sequence[bigquery.ScalarQueryParameter] = ()
    ) -> bigquery.QueryJob:
        config = self._jobs.query_config(self._labels, query_parameters=list(parameters))
        return self._jobs.client.query(
            sql, job_config=config, job_id=job_id, location=self._jobs.location, retry=ONCE, job_retry=None
        )

    # -- staging objects ----------------------------------------------------------------------------------------------

    def _stage(self, deliveries: Sequence[Delivery]) -> tuple[list[Staged], dict[str, dict[str, JobFailed]]]:
        """Load each object into its own table, all at the same time; load id → object key → why it can't be read."""
        staged = [
            Staged(d, item, self._stage_relation(d, item), self._loaded(d.schema_of(item)))
            for d in deliveries
            for item in d.objects
        ]
        failures: dict[str, dict[str, JobFailed]] = {}
        for item, failure in self._run_all(staged):
            if failure is not None:
                failures.setdefault(str(item.delivery.load_id), {})[item.item.key] = failure
        return staged, failures

    def _stage_relation(self, delivery: Delivery, item: DeliveredObject) -> Relation:
        """Each run has its own: none takes the table from under another."""
        digest = job_name("stage", self._run_id, delivery.load_id, item.key).rsplit("-", 1)[1]
        return Relation(LEDGER, f"_stage_{digest}")

    def _loaded(self, schema: Mapping[str, str]) -> frozenset[str]:
        """The columns of an object that are loaded."""
        return frozenset(column.name for column in self._table.columns if column.name in schema)

    def _create_stage(self, item: Staged) -> None:
        schema = tables.stage_schema(self._table, item.delivery.schema_of(item.item), item.item.uncast)
        made = bigquery.Table(self._naming.reference(item.relation), schema=schema)
        made.expires = ledger.now() + timedelta(hours=STAGE_HOURS)
        made.labels = {"dataops_stage": "true"}
        with self._jobs.words("create a table in"):
            self._jobs.client.create_table(made, exists_ok=True, retry=self._jobs.retry)

    def _drop_stage(self, item: Staged) -> None:
        reference = self._naming.reference(item.relation)
        with (
            suppress(DataOpsError, api.GoogleAPICallError),
            self._jobs.words("drop a table in"),
        ):  # it expires by itself
            self._jobs.client.delete_table(reference, not_found_ok=True, retry=self._jobs.retry)

    def _rows_in(self, relation: Relation) -> int | None:
        with self._jobs.words("read a table in"):
            found = self._jobs.client.get_table(self._naming.reference(relation), retry=self._jobs.retry)
        rows: int | None = found.num_rows
        return rows

    def _run_all(self, staged: Sequence[Staged]) -> Iterator[tuple[Staged, JobFailed | None]]:
        def run(item: Staged) -> JobFailed | None:
            self._create_stage(item)
            config = bigquery.LoadJobConfig(
                source_format=bigquery.SourceFormat.PARQUET,
                schema=tables.stage_schema(self._table, item.delivery.schema_of(item.item), item.item.uncast),
                # What the policy leaves in the lake; of parquet files these are columns that the schema doesn't have.
                ignore_unknown_values=len(item.columns) < len(item.delivery.schema_of(item.item)),
                # Whole anew whenever it is repeated, so that repeating is harmless.
                write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
                labels=self._labels,
            )

            def start(job_id: str) -> bigquery.LoadJob:
                return self._jobs.client.load_table_from_uri(
                    self._uris[item.item.key],
                    self._naming.reference(item.relation),
                    job_id=job_id,
                    location=self._jobs.location,
                    job_config=config,
                    retry=ONCE,
                )

            try:
                name = job_name("stage", self._run_id, item.delivery.load_id, item.item.key)
                # A job of an earlier attempt may be found whose table was dropped since, and is empty now.
                job = self._jobs.run(name, start, done=lambda: self._rows_in(item.relation) == item.item.rows)
            except JobFailed as error:
                return error
            if job.output_rows != item.item.rows:
                return JobFailed("rows", f"BigQuery read {job.output_rows} of {item.item.rows} rows")
            return None

        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            yield from zip(staged, pool.map(run, staged), strict=True)

    # -- the transaction ----------------------------------------------------------------------------------------------

    def _transaction(
        self,
        batch: Sequence[Delivery],
        staged: Sequence[Staged],
        beyond: Mapping[str, Beyond],
        left_out: Mapping[str, Sequence[LeftOut]],
    ) -> dict[str, str]:
        """Run the script; load id → why, for deliveries that trip the breaker.

        Then nothing was changed, nor if another process has loaded some of the batch meanwhile: the ledger tells which
        are left.
        """
        ids = [str(d.load_id) for d in batch]
        sql = LoadSql(self._naming, self._table, self._checks, self._run_id).script(batch, staged, beyond, left_out)
        # Of this run: a batch may fail in every run, and jobs that have failed are kept, with their names, for months.
        name = job_name("load", self._table.name, self._run_id, *sorted(ids), self._table.contract_version)
        try:
            self._jobs.run(name, lambda job_id: self._start(sql, job_id), done=lambda: self._known(ids) >= set(ids))
        except JobFailed as error:
            if BREAKER in error.text:
                return self._tripped(error.text)
            if self._known(ids):  # however the transaction says so: by `LOADED`, or by a conflict when it commits
                return {}
            raise self._explain(error) from error
        return {}

    def _tripped(self, text: str) -> dict[str, str]:
        said = json.JSONDecoder().raw_decode(text.split(BREAKER, 1)[1])[0]
        limits = self._table.bad_rows
        return {i["load_id"]: too_many_bad_rows(int(i["bad"]), int(i["n"]), limits) or BREAKER for i in said}

    def _explain(self, error: JobFailed) -> Exception:
        if error.reason in ("invalidQuery", "invalid"):
            what = f"a blocking rule of {self._table.name} can't run"
            return ConfigError(f"{self._table.file}: {what}: {error.text}")
        return error


def _outcome(delivery: Delivery, row: bigquery.Row) -> LoadOutcome:
    """What the ledger says of a delivery."""
    return LoadOutcome(
        delivery,
        rows_read=row["rows_read"],
        rows_loaded=row["rows_loaded"],
        rows_quarantined=row["rows_quarantined"],
        rows_superseded=row["rows_superseded"],
        affected_partitions=tuple(json.loads(row["affected_partitions"] or "[]")),
    )
