"""Gap: `maximumBytesBilled` has no effect.

The project has BigQuery refuse queries that would cost too much, and says what to do then. With this patch a statement
is refused before it runs if the tables that its query reads, through views too, are larger: whole tables, as in
`bytes_processed`.
"""

from __future__ import annotations

from typing import Any

from local_bigquery import errors
from local_bigquery.catalog import tables
from local_bigquery.errors import BigQueryError
from local_bigquery.jobs import query
from local_bigquery.models import JobConfigurationQuery, JobStatistics2
from local_bigquery.sql.translate import Context, parse, translate
from sqlglot import exp

REASON = "bytesBilledLimitExceeded"


def apply() -> None:
    errors.STATUSES[REASON] = (400, "INVALID_ARGUMENT")
    original = query._run

    def run(
        cursor: Any,
        tree: exp.Expression,
        context: Context,
        destination: Any,
        config: JobConfigurationQuery,
        dry_run: bool,
        isolated: bool,
    ) -> JobStatistics2:
        limit = int(config.maximumBytesBilled or 0)
        if limit and not dry_run:
            needed = _bytes(tree, context)
            if needed > limit:
                raise BigQueryError(
                    REASON, f"Query exceeded limit for bytes billed: {limit}. {needed} or higher required."
                )
        return original(cursor, tree, context, destination, config, dry_run, isolated)

    query._run = run


def _bytes(tree: exp.Expression, context: Context) -> int:
    """Bytes of the tables that a statement's query reads. Translating it collects them."""
    read = tree if isinstance(tree, exp.Query) else tree.find(exp.Query)
    if read is None:
        return 0
    translate(read, context)
    found = set(context.referenced)
    context.referenced.clear()
    return sum(_size(reference, context) for reference in found)


def _size(reference: tuple[str, str, str], context: Context) -> int:
    try:
        table = tables.load(*reference)
    except BigQueryError:  # a temporary table, or none at all: the statement itself says so
        return 0
    return _bytes(parse(table.view.query)[0], context) if table.view else int(table.numBytes or 0)
