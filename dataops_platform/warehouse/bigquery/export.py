"""Models' partitions as parquet objects: extract jobs write them, no row passes through the worker."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from google.cloud import bigquery

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake import keys
from dataops_platform.lake.store import ObjectStore
from dataops_platform.warehouse.base import EMPTY, ModelSlice, ModelVersion
from dataops_platform.warehouse.bigquery.jobs import Jobs, job_name
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.names import Relation

PARALLEL = 16
"""Extract jobs that run at the same time. They take no slots of queries, and BigQuery allows many."""


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
    if model.field is not None and (cut is None or cut.field != model.field or cut.type_ != "DAY"):
        raise ConfigError(
            f"model {model.model} has partition_field {model.field}, but its table {model.relation} isn't partitioned"
            f" by its days: write `partition_by: {{{{ day_partitioned_by('{model.field}') }}}}` into its config,"
            " drop the table, and build the model anew"
        )

    def run(item: tuple[str, ModelVersion]) -> tuple[str, tuple[str, ...]]:
        key, version = item
        if version.data_version == EMPTY:
            return key, ()
        place = prefix + keys.model_prefix(model.model, key, version.data_version)
        name = model.relation.name if model.field is None else f"{model.relation.name}${key.replace('-', '')}"
        source = naming.reference(Relation(model.relation.schema, name))

        def start(job_id: str) -> bigquery.ExtractJob:
            return jobs.client.extract_table(
                source, store.uri(f"{place}{job_id}-*.parquet"), job_id=job_id, location=jobs.location,
                job_config=config,
            )  # fmt: skip

        job = jobs.run(job_name("extract", uuid.uuid4()), start)
        written = job.destination_uri_file_counts[0]
        return key, tuple(f"{place}{job.job_id}-{number:012d}.parquet" for number in range(written))

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        return dict(pool.map(run, versions.items()))
