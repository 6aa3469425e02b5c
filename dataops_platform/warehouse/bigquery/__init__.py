"""The warehouse on BigQuery."""

from dataops_platform.warehouse.bigquery.warehouse import BigQueryWarehouse

__all__ = ["BigQueryWarehouse"]
