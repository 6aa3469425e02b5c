"""Models' partitions as parquet objects: extract jobs write them, no row passes through the worker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from google.cloud import bigquery

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake import keys
from dataops_platform.lake.store import ObjectStore
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import EMPTY, ModelSlice, ModelVersion
from dataops_platform.warehouse.bigquery.jobs import Jobs, job_name
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.names import LEDGER, Relation
from dataops_platform.warehouse.partition_sql import in_slice

PARALLEL = 16
"""Extract jobs that run at the same time. They take no slots of queries, and BigQuery allows many."""
COPY_HOURS = 24
"""How long the copy of a partition's rows lives at most that an extract job reads."""


def export(
    jobs: Jobs,
    naming: Naming,
    model: ModelSlice,
    table: bigquery.Table,
    versions: Mapping[str, ModelVersion],
    store: ObjectStore,
    prefix: str,
) -> dict[str, tuple[str, ...]]:
    """See `Warehouse.export`; the caller compares the rows with `versions` afterwards.

    A job writes one object, or several where the rows are more than a gigabyte. Their names hold the job's, so that
    no two jobs meet.

    Args:
        table: the model's table.

    Raises:
        ConfigError: a partition can't be addressed, because the table isn't partitioned as the model says.
    """
    config = bigquery.ExtractJobConfig(  # type: ignore[no-untyped-call]
        destination_format=bigquery.DestinationFormat.PARQUET,
        compression="ZSTD",
        labels=jobs.labels(dataops_model=model.model, dataops_step="export"),
    )
    cut = table.time_partitioning
    if (
        model.field is not None
        and not model.by_name
        and (cut is None or cut.field != model.field or cut.type_ != "DAY")
    ):
        raise ConfigError(
            f"model {model.model} has partition_field {model.field}, but its table {model.relation} isn't partitioned"
            f" by its days: write `partition_by: {{{{ day_partitioned_by('{model.field}') }}}}` into its config,"
            " drop the table, and build the model anew"
        )

    def extract(source: bigquery.TableReference, place: str) -> tuple[str, ...]:
        def start(job_id: str) -> bigquery.ExtractJob:
            return jobs.client.extract_table(
                source, store.uri(f"{place}{job_id}-*.parquet"), job_id=job_id, location=jobs.location,
                job_config=config,
            )  # fmt: skip

        job = jobs.run(job_name("extract", uuid.uuid4()), start)
        written = job.destination_uri_file_counts[0]
        return tuple(f"{place}{job.job_id}-{number:012d}.parquet" for number in range(written))

    def run(item: tuple[str, ModelVersion]) -> tuple[str, tuple[str, ...]]:
        key, version = item
        if version.data_version == EMPTY:
            return key, ()
        with _addressed(jobs, naming, model, table, key) as source:
            return key, extract(source, prefix + keys.model_prefix(model.model, key, version.data_version))

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        return dict(pool.map(run, versions.items()))


@contextmanager
def _addressed(
    jobs: Jobs, naming: Naming, model: ModelSlice, table: bigquery.Table, key: str
) -> Iterator[bigquery.TableReference]:
    """A partition of a model as a table that an extract job can be given.

    A partition by name has no address in BigQuery: its rows are copied into a table of their own, for as long.
    """
    schema, name = model.relation.schema, model.relation.name
    if model.field is None:
        yield naming.reference(model.relation)
    elif not model.by_name:
        yield naming.reference(Relation(schema, f"{name}${key.replace('-', '')}"))
    else:
        identity = uuid.uuid4()
        copy = Relation(LEDGER, f"_extract_{identity.hex}")
        config = jobs.query_config(jobs.labels(dataops_model=model.model, dataops_step="export"))
        config.destination = naming.reference(copy)
        config.write_disposition = bigquery.WriteDisposition.WRITE_TRUNCATE
        made = bigquery.Table(config.destination, schema=table.schema)
        made.expires = ledger.now() + timedelta(hours=COPY_HOURS)  # a process that is killed doesn't delete it
        made.labels = {"dataops_stage": "true"}
        with jobs.words("create a table in"):
            jobs.client.create_table(made, retry=jobs.retry)
        rows = f"SELECT * FROM {naming.sql(model.relation)} WHERE {in_slice(model, [key], 'bigquery')}"
        try:
            jobs.run(
                job_name("rows", identity),
                lambda job_id: jobs.client.query(
                    rows, job_config=config, job_id=job_id, location=jobs.location, job_retry=None
                ),
            )
            yield naming.reference(copy)
        finally:
            with jobs.words("delete a table in"):
                jobs.client.delete_table(naming.reference(copy), not_found_ok=True, retry=jobs.retry)
