"""What patches of extract jobs share."""

from __future__ import annotations

import duckdb
from local_bigquery.jobs import extract
from local_bigquery.models import JobConfigurationExtract, JobStatistics4


def extract_query(cur: duckdb.DuckDBPyConnection, query: str, config: JobConfigurationExtract) -> JobStatistics4:
    """Write a query's rows to where an extract job wants its table."""
    extract.write(cur, query, {}, config)
    uris = config.destinationUris or [config.destinationUri]
    return JobStatistics4(destinationUriFileCounts=["1" for _ in uris], inputBytes="0")
