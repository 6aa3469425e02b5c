"""The contracts' tables as a dbt source, so that models name them and Dagster sees where they come from."""

from __future__ import annotations

from typing import Any

import yaml

from dataops_platform.contracts.model import Column, Contracts, Table

HEADER = "# Generated from contracts/; edit those.\n"


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as dbt's own files do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def sources_yaml(contracts: Contracts, schema: str = "staging", dialect: str = "duckdb") -> str:
    """The text of a dbt sources file for every table that the platform loads (those with a source).

    No database is named: it is the one of dbt's target, which on BigQuery is a project.

    Args:
        contracts: the contracts.
        schema: the warehouse schema or dataset that the tables are in.
        dialect: the engine whose types the columns have: duckdb or bigquery.
    """
    tables = [_table(table, dialect) for table in contracts.sourced.values()]
    document = {"version": 2, "sources": [{"name": "staging", "schema": schema, "tables": tables}]}
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def clustering(contracts: Contracts) -> dict[str, list[str]]:
    """Table → the columns that its contract clusters it by, for models that mirror it; tables without are left out."""
    return {name: list(table.clustering) for name, table in contracts.sourced.items() if table.clustering}


def _table(table: Table, dialect: str) -> dict[str, Any]:
    return {
        "name": table.name,
        "description": table.description,
        "config": {"meta": {"dagster": {"asset_key": ["staging", table.name]}}},
        "columns": [_column(column, dialect) for column in table.columns],
    }


def _column(column: Column, dialect: str) -> dict[str, Any]:
    data_type = column.type.bigquery if dialect == "bigquery" else column.type.duckdb
    return {"name": column.name, "description": column.description, "data_type": data_type}
