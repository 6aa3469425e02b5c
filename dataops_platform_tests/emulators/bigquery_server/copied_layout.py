"""Gap: copy jobs, CLONE, COPY and LIKE lose partitioning, clustering, REQUIRED and the descriptions of columns.

The project publishes by copying: a production table that isn't partitioned any more refuses `$YYYYMMDD` from then on,
and its schema differs from the contract's.
"""

from __future__ import annotations

import re
from typing import Any

import duckdb
from local_bigquery.catalog import ddl, metadata, names, tables
from local_bigquery.engine import database, types
from local_bigquery.engine.database import quote
from local_bigquery.jobs import copy, runner
from local_bigquery.models import JobConfigurationTableCopy, JobStatistics5, Table
from sqlglot import exp

from bigquery_server.ingestion_time import column_definition, set_default

DECORATOR = re.compile(r"[$@].*")

Reference = tuple[str, str, str]


def apply() -> None:
    _copy_jobs()
    _statements()


def _copy_jobs() -> None:
    original = runner.HANDLERS["copy"]

    def run(cur: duckdb.DuckDBPyConnection, config: JobConfigurationTableCopy, upload: str | None) -> JobStatistics5:
        destination = tables.reference(config.destinationTable)
        appended = config.writeDisposition == "WRITE_APPEND" and tables.exists(*destination)
        statistics = original(cur, config, upload)
        partition = "$" in destination[2]
        if not (appended or partition or config.operationType in copy.CLONES):  # clones are statements
            first = tables.reference((config.sourceTables or [config.sourceTable])[0])
            _inherit(first, destination)
        return statistics

    runner.HANDLERS["copy"] = run


def _statements() -> None:
    original = ddl.apply

    def apply_ddl(tree: exp.Expression, project_id: str, dataset_id: str, *args: Any) -> None:
        original(tree, project_id, dataset_id, *args)
        source = tree.args.get("clone") or tree.find(exp.LikeProperty)
        if isinstance(tree, exp.Create) and source:
            destination = names.reference(tree.find(exp.Table), project_id, dataset_id)
            _inherit(names.reference(source.this, project_id, dataset_id), destination)

    ddl.apply = apply_ddl


def _inherit(source: Reference, destination: Reference) -> None:
    source = (*source[:2], DECORATOR.sub("", source[2]))
    fields = tables.fields(tables.load(*source))
    layout = (metadata.load(Table, *source) or Table()).only(*tables.LAYOUT)
    ingestion = layout.timePartitioning and not layout.timePartitioning.field
    name = tables.name(*destination)
    if not database.fetch(f"SELECT 1 FROM {name} LIMIT 1"):  # DuckLake can't alter it: there are no statistics
        columns = [types.column(field) for field in fields]
        if ingestion:
            columns.append(column_definition(layout.timePartitioning))
        database.execute(f"CREATE OR REPLACE TABLE {name} ({', '.join(columns)})")
    else:
        for field in fields:
            if field.mode == "REQUIRED":
                database.execute(f"ALTER TABLE {name} ALTER COLUMN {quote(field.name)} SET NOT NULL")
        if ingestion:
            set_default(destination, layout.timePartitioning)
    schema = {"schema": {"fields": [field.dump() for field in fields]}}
    tables.annotate(destination, Table.model_validate(layout.dump() | schema))
