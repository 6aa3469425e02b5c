"""Where the warehouse's schemas are on BigQuery: datasets, in one project or two."""

from __future__ import annotations

from dataclasses import dataclass

from google.cloud import bigquery

from dataops_platform.warehouse.names import PRODUCTION, Relation, quote


@dataclass(frozen=True, slots=True)
class Naming:
    """Datasets of an environment: an environment is a project, with one dataset per schema.

    Attributes:
        project: of staging, quarantine, models and the ledger.
        production_project: of the production dataset; may be another one.
    """

    project: str
    production_project: str

    def _project(self, schema: str) -> str:
        return self.production_project if schema == PRODUCTION else self.project

    def dataset(self, schema: str) -> bigquery.DatasetReference:
        """The dataset of a schema."""
        return bigquery.DatasetReference(self._project(schema), schema)

    def reference(self, relation: Relation) -> bigquery.TableReference:
        """A relation for the API."""
        return self.dataset(relation.schema).table(relation.name)

    def sql(self, relation: Relation) -> str:
        """A relation in SQL, with its project."""
        parts = (self._project(relation.schema), relation.schema, relation.name)
        return ".".join(quote(part, "bigquery") for part in parts)
