"""Models on BigQuery: their fingerprint and their publication."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import timedelta

from google.api_core import exceptions as api
from google.cloud import bigquery

from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import EMPTY, ModelSlice, ModelVersion, NoSuchTable, PublicationItem
from dataops_platform.warehouse.bigquery.jobs import JobFailed, Jobs, job_name
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.bigquery.tables import CLUSTERING_COLUMNS
from dataops_platform.warehouse.names import LEDGER, Relation, production
from dataops_platform.warehouse.names import literal as _literal
from dataops_platform.warehouse.names import quote as _quote
from dataops_platform.warehouse.partition_sql import in_slice

DIALECT = "bigquery"
CHANGED = "dataops.changed:"
"""Begins the message by which a publication says which partitions are not those that were checked."""
KEPT_DAYS = 7
"""How long production can be put back to what it was before a publication."""
_MODULUS = 9223372036854775783
"""The largest prime below 2^63: sums of hashes are kept modulo it."""


def _q(name: str) -> str:
    return _quote(name, DIALECT)


def _lit(text: str) -> str:
    return _literal(text, DIALECT)


class ModelTables:
    """The models' tables in a project, and their production tables."""

    def __init__(self, jobs: Jobs, naming: Naming) -> None:
        self._jobs = jobs
        self._naming = naming

    def versions(self, model: ModelSlice, partitions: Collection[str] | None) -> dict[str, ModelVersion]:
        """Fingerprint per partition: row count, XOR and sum of the rows' hashes, and columns; see `Warehouse`.

        Raises:
            NoSuchTable: the model has not been built.
            DataRefused: rows belong to no partition.
        """
        shape = self._shape(self.table(model))
        rows = self._rows(self._fingerprints(model, partitions, homeless=True))
        homeless = next((row["n"] for row in rows if row["key"] is None), 0)
        if homeless:
            raise DataRefused(
                f"{homeless} row(s) of {model.model} belong to no partition, because {model.field} is null:"
                " leave such rows out of the model, and test it for not_null"
            )
        found = {row["key"]: ModelVersion(f"{row['version']}-{shape}", row["n"]) for row in rows if row["n"]}
        asked = [UNPARTITIONED] if model.field is None else (partitions or [])
        return {key: ModelVersion(EMPTY, 0) for key in asked} | found

    def table(self, model: ModelSlice) -> bigquery.Table:
        """A model's table.

        Raises:
            NoSuchTable: the model has not been built.
        """
        with self._jobs.words("read a table in"):
            try:
                return self._jobs.client.get_table(self._naming.reference(model.relation), retry=self._jobs.retry)
            except api.NotFound as error:
                raise NoSuchTable(f"{model.relation} doesn't exist; build the model {model.model} first") from error

    def _rows(self, sql: str) -> list[bigquery.Row]:
        config = self._jobs.query_config(self._jobs.labels(dataops_step="models"))
        try:
            return self._jobs.select(sql, config)
        except api.BadRequest as error:  # a partition field that is no date, for example
            raise ConfigError(f"the model's rows can't be read by partition: {error.message}") from error

    @staticmethod
    def _shape(table: bigquery.Table) -> str:
        columns = [(field.name, field.field_type, field.mode == "REPEATED") for field in table.schema]
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:8]

    def _key(self, model: ModelSlice) -> str:
        return f"CAST({_q(model.field)} AS STRING)" if model.field is not None else _lit(UNPARTITIONED)

    def _fingerprints(self, model: ModelSlice, partitions: Collection[str] | None, homeless: bool = False) -> str:
        """A query of key, version (without the columns' part) and rows of each partition that has rows.

        Args:
            homeless: also of rows that belong to no partition, under the key NULL.
        """
        row_hash = "FARM_FINGERPRINT(TO_JSON_STRING(_row))"
        where = in_slice(model, partitions, DIALECT)
        if homeless and model.field is not None:
            where = f"({where} OR {_q(model.field)} IS NULL)"
        return (
            "SELECT _key AS key, FORMAT('%d-%016x-%016x', _n, _xor, _sum) AS version, _n AS n FROM"
            f" (SELECT {self._key(model)} AS _key, COUNT(*) AS _n, BIT_XOR({row_hash}) AS _xor,"
            f" CAST(MOD(SUM(CAST({row_hash} AS NUMERIC)), {_MODULUS}) AS INT64) AS _sum"
            f" FROM {self._naming.sql(model.relation)} AS _row"
            f" WHERE {where} GROUP BY _key)"
        )

    # -- publication --------------------------------------------------------------------------------------------------

    def publish(self, model: ModelSlice, items: Sequence[PublicationItem], publication_id: str, run_id: str) -> None:
        """See `Warehouse.publish`: one transaction, which fingerprints the rows once more before it moves them.

        BigQuery itself rolls back a transaction that fails; a handler of ours would hide why it did.
        """
        source = self.table(model)
        shape = self._shape(source)
        other = [i.partition_key for i in items if i.data_version != EMPTY and not i.data_version.endswith(f"-{shape}")]
        if other:
            raise changed(model, ", ".join(other[:3]))
        target = production(model.model)
        if self._prepare(model, source, target).num_rows:
            self._keep(model, target, publication_id)
        sql = self._script(model, source, target, items, publication_id, run_id)
        config = self._jobs.query_config(
            self._jobs.labels(dataops_model=model.model, dataops_run=run_id, dataops_step="publish")
        )

        def start(job_id: str) -> bigquery.QueryJob:
            return self._jobs.client.query(
                sql, job_config=config, job_id=job_id, location=self._jobs.location, job_retry=None
            )

        try:
            self._jobs.run(job_name("publish", publication_id), start)
        except JobFailed as error:
            if CHANGED in error.text:
                named = error.text.split(CHANGED, 1)[1].split(";")[0].split(" at [")[0]  # BigQuery appends a place
                raise changed(model, named.strip()) from error
            raise

    def _keep(self, model: ModelSlice, target: Relation, publication_id: str) -> None:
        """Keep production as it is now; BigQuery stores only what changes from then on.

        A clone, not a snapshot: one that expires needs a permission that only owners of a dataset have.
        """
        config = bigquery.CopyJobConfig(
            operation_type=bigquery.OperationType.CLONE,
            labels=self._jobs.labels(dataops_model=model.model, dataops_step="keep"),
        )
        expires = ledger.now() + timedelta(days=KEPT_DAYS)
        # The client has no property for it.
        config._properties["copy"]["destinationExpirationTime"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ")

        def start(job_id: str) -> bigquery.CopyJob:
            return self._jobs.client.copy_table(
                self._naming.reference(target), self._naming.reference(before(publication_id)),
                job_id=job_id, location=self._jobs.location, job_config=config,
            )  # fmt: skip

        self._jobs.run(job_name("keep", publication_id), start)

    def _prepare(self, model: ModelSlice, source: bigquery.Table, target: Relation) -> bigquery.Table:
        """Create the production table, or add columns to it that the model has got.

        Raises:
            DataRefused: the model has lost or changed columns: readers of production would break.
        """
        wanted = bigquery.Table(self._naming.reference(target), schema=[_nullable(field) for field in source.schema])
        wanted.description = source.description
        if model.field is not None and not model.by_name:
            wanted.time_partitioning = bigquery.TimePartitioning(field=model.field)
        clustering = list(source.clustering_fields or ())
        if model.field is not None and model.by_name:  # BigQuery has no partitions by name
            clustering = list(dict.fromkeys([model.field, *clustering]))[:CLUSTERING_COLUMNS]
        if clustering:
            wanted.clustering_fields = clustering
        with self._jobs.words("prepare"):
            actual = self._jobs.client.create_table(wanted, exists_ok=True, retry=self._jobs.retry)
        there = {field.name: field for field in actual.schema}
        kept = {field.name: field for field in wanted.schema}
        broken = [n for n, f in there.items() if n not in kept or kept[n].field_type != f.field_type]
        if broken:
            raise DataRefused(
                f"{target}: columns {', '.join(broken)} are gone from {model.model}, or of another type. Whoever reads"
                f" production would break: give the model another name, or drop {target} and publish all its partitions"
            )
        new = [field for name, field in kept.items() if name not in there]
        if new:
            actual.schema = [*actual.schema, *new]
            with self._jobs.words("add columns to a table in"):
                return self._jobs.client.update_table(actual, ["schema"], retry=self._jobs.retry)
        return actual

    def _script(
        self,
        model: ModelSlice,
        source: bigquery.Table,
        target: Relation,
        items: Sequence[PublicationItem],
        publication_id: str,
        run_id: str,
    ) -> str:
        partitions = [item.partition_key for item in items]
        where = in_slice(model, partitions, DIALECT)
        columns = ", ".join(_q(field.name) for field in source.schema)
        expected = ", ".join(
            f"STRUCT({_lit(i.partition_key)} AS key, {_lit(_rows_part(i.data_version))} AS version,"
            f" {_lit(i.data_version)} AS data_version, {_lit(i.object_prefix)} AS object_prefix)"
            for i in items
        )
        into = self._naming.sql(target)
        records = self._naming.sql(Relation(LEDGER, "publications"))
        names = ", ".join(ledger.TABLES["publications"])
        return f"""DECLARE _changed STRING;
CREATE TEMP TABLE _expected AS SELECT * FROM UNNEST([{expected}]);
BEGIN TRANSACTION;
CREATE TEMP TABLE _found AS {self._fingerprints(model, partitions)};
SET _changed = (SELECT STRING_AGG(e.key, ', ') FROM _expected AS e LEFT JOIN _found AS f ON f.key = e.key
  WHERE IFNULL(f.version, {_lit(EMPTY)}) != e.version);
IF _changed IS NOT NULL THEN RAISE USING MESSAGE = CONCAT({_lit(CHANGED)}, _changed); END IF;
DELETE FROM {into} WHERE {where};
INSERT INTO {into} ({columns}) SELECT {columns} FROM {self._naming.sql(model.relation)} WHERE {where};
INSERT INTO {records} ({names})
  SELECT {_lit(publication_id)}, {_lit(model.model)}, e.key, e.data_version, IFNULL(f.n, 0), e.object_prefix,
  {_lit(run_id)}, CURRENT_TIMESTAMP() FROM _expected AS e LEFT JOIN _found AS f ON f.key = e.key;
COMMIT TRANSACTION;"""


def before(publication_id: str) -> Relation:
    """The clone of a production table as it was before a publication."""
    return Relation(LEDGER, f"_before_{publication_id.replace('-', '_')}")


def _rows_part(version: str) -> str:
    """A version without the part that the columns make."""
    return version if version == EMPTY else version.rsplit("-", 1)[0]


def _nullable(field: bigquery.SchemaField) -> bigquery.SchemaField:
    body = field.to_api_repr()
    if body.get("mode") == "REQUIRED":
        body["mode"] = "NULLABLE"
    return bigquery.SchemaField.from_api_repr(body)


def changed(model: ModelSlice, partitions: str) -> DataRefused:
    """The error for partitions whose rows are not those that were asked for."""
    return DataRefused(
        f"{model.model}: the rows of {partitions} changed after they were checked; build the model again"
    )
