"""Gap: the job of a CREATE TABLE … AS SELECT doesn't name the table it made as its destination.

dbt-bigquery asks for the rows of `job.destination` after each table it builds: without it every table model fails.
"""

from __future__ import annotations

from typing import Any

from local_bigquery.api import jobs as api
from local_bigquery.jobs import query
from local_bigquery.models import Job, JobStatistics2, TableReference

STATEMENT = "CREATE_TABLE_AS_SELECT"


def apply() -> None:
    _name_destination()
    _return_no_rows()


def _name_destination() -> None:
    original = query.execute

    def execute(*args: Any, **options: Any) -> tuple[JobStatistics2, list[JobStatistics2], TableReference | None]:
        statistics, children, destination = original(*args, **options)
        made = statistics.statementType == STATEMENT and statistics.ddlTargetTable
        if made and destination is None and not options.get("dry_run"):
            destination = made
        return statistics, children, destination

    query.execute = execute


def _return_no_rows() -> None:
    """The statement has no result, although its job has a destination now."""
    original = api.results

    def results(job: Job, *args: Any) -> tuple[dict[str, Any], list[str]]:
        config, statistics = job.configuration.query, job.statistics.query
        if config and statistics and statistics.statementType == STATEMENT:
            config = config.replace(destinationTable=None)
            job = job.replace(configuration=job.configuration.replace(query=config))
        return original(job, *args)

    api.results = results
