"""Gap: every query reports 0 bytes processed, in a dry run as well.

The project shows what a step costs and plans by it. With this patch a statement's bytes are the logical bytes of all
tables it names: whole tables, for the server prunes neither partitions nor columns. A script's are the sum of its
statements'.
"""

from __future__ import annotations

from typing import Any

from local_bigquery.api import jobs as api
from local_bigquery.catalog import tables
from local_bigquery.errors import BigQueryError
from local_bigquery.jobs import query, runner
from local_bigquery.models import Job, JobStatistics, JobStatistics2, TableReference


def apply() -> None:
    _count_statements()
    _sum_scripts()
    _report_jobs()
    _report_results()


def _count_statements() -> None:
    original = query._statement

    def statement(*args: Any) -> JobStatistics2:
        statistics = original(*args)
        if not statistics.referencedTables:
            return statistics
        return _with_bytes(statistics, sum(map(_size, statistics.referencedTables)))

    query._statement = statement


def _sum_scripts() -> None:
    original = query.execute

    def execute(*args: Any, **options: Any) -> tuple[JobStatistics2, list[JobStatistics2], TableReference | None]:
        statistics, children, destination = original(*args, **options)
        if children:
            statistics = _with_bytes(statistics, sum(int(child.totalBytesProcessed or 0) for child in children))
        return statistics, children, destination

    query.execute = execute


def _report_jobs() -> None:
    original = runner._done

    def done(job: Job, statistics: JobStatistics, error: BigQueryError | None = None) -> Job:
        finished = original(job, statistics, error)
        size = statistics.query and statistics.query.totalBytesProcessed
        if not size:
            return finished
        return finished.replace(statistics=finished.statistics.replace(totalBytesProcessed=size))

    runner._done = done


def _report_results() -> None:
    original = api.results

    def results(job: Job, *args: Any) -> tuple[dict[str, Any], list[str]]:
        payload, rows = original(job, *args)
        size = job.statistics.query and job.statistics.query.totalBytesProcessed
        if size and payload["jobComplete"]:
            payload["totalBytesProcessed"] = size
        return payload, rows

    api.results = results


def _size(table: TableReference) -> int:
    try:
        return int(tables.load(*tables.reference(table)).numBytes or 0)
    except BigQueryError:  # made in a transaction that is still open, or dropped by the statement itself
        return 0


def _with_bytes(statistics: JobStatistics2, size: int) -> JobStatistics2:
    return statistics.replace(totalBytesProcessed=str(size), totalBytesBilled=str(size))
