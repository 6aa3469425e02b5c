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


def sources_yaml(contracts: Contracts, schema: str = "staging") -> str:
    """The text of a dbt sources file for every table that the platform loads (those with a source).

    Args:
        contracts: the contracts.
        schema: the warehouse schema or dataset that the tables are in.
    """
    tables = [_table(table) for table in contracts.sourced.values()]
    document = {"version": 2, "sources": [{"name": "staging", "schema": schema, "tables": tables}]}
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _table(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "description": table.description,
        "config": {"meta": {"dagster": {"asset_key": ["staging", table.name]}}},
        "columns": [_column(column) for column in table.columns],
    }


def _column(column: Column) -> dict[str, Any]:
    return {"name": column.name, "description": column.description, "data_type": column.type.duckdb}
