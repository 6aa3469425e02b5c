"""Requests of runs for partitions that something new is there for, from a table's raw asset on."""

import hashlib
from collections.abc import Sequence

import dagster as dg

from dataops_platform.contracts.model import Table
from dataops_platform.ingestion.landing_scan import Ask, neighbour
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.table_options import raw_key

SINGLE_RUNS = 3
"""Up to so many partitions in a row get a run each; more of them are one run over their range."""
TABLE_TAG = "dataops/landing"
"""Run tag: the table that it was asked for."""


def run_requests(
    table: Table, repository: dg.RepositoryDefinition, asks: Sequence[Ask]
) -> list[tuple[Sequence[Ask], dg.RunRequest]]:
    """The runs to request, each with what it was asked for."""
    job, selection = _target(table, repository)
    requests: list[tuple[Sequence[Ask], dg.RunRequest]] = []
    for group in grouped(table, asks):
        first, last = group[0], group[-1]
        tags = {TABLE_TAG: table.name}
        if len(group) > 1:
            together = hashlib.sha256("|".join(ask.identity for ask in group).encode()).hexdigest()[:16]
            key = f"{table.name}|{first.partition}..{last.partition}|{together}"
            tags |= partitions.range_tags(first.partition, last.partition)
            partition = None
        else:
            key = f"{table.name}|{first.partition}|{first.identity}"
            partition = first.partition if table.partitioning else None
        request = dg.RunRequest(
            run_key=key, job_name=job, asset_selection=selection, partition_key=partition, tags=tags
        )
        requests.append((group, request))
    return requests


def grouped(table: Table, asks: Sequence[Ask]) -> list[list[Ask]]:
    """Partitions that follow on one another, where there are more than a few of them; others alone.

    A run takes on no more than the contract allows.
    """
    rows: list[list[Ask]] = []
    for ask in sorted(asks, key=lambda ask: ask.partition):
        room = not rows or table.partitions_per_run is None or len(rows[-1]) < table.partitions_per_run
        if rows and room and neighbour(table, ask.partition) == rows[-1][-1].partition:
            rows[-1].append(ask)
        else:
            rows.append([ask])
    return [group for row in rows for group in ([row] if len(row) > SINGLE_RUNS else [[ask] for ask in row])]


def _target(table: Table, repository: dg.RepositoryDefinition) -> tuple[str, list[dg.AssetKey]]:
    """The job that has the table's raw asset, and what follows from it there.

    A table without partitions doesn't start a run of partitioned models: which of their partitions it changes is
    found by the schedule, or `dataops run`.
    """
    raw, graph = raw_key(table.name), repository.asset_graph
    job = next(
        job
        for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
        if not job.name.startswith("__") and raw in job.asset_layer.executable_asset_keys
    )
    following = dg.AssetSelection.assets(raw).downstream().resolve(graph) & set(job.asset_layer.executable_asset_keys)
    cut = graph.get(raw).partitions_def
    chosen = {key for key in following if graph.get(key).partitions_def in (None, cut)}
    return job.name, sorted(chosen)
