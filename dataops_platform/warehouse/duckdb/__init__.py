"""The embedded warehouse."""

from dataops_platform.warehouse.duckdb.warehouse import DuckDBWarehouse

__all__ = ["DuckDBWarehouse"]
