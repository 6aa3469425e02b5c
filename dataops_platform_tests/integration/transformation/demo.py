"""Days of the demo, loaded by the library alone, embedded or on Google Cloud, and its dbt project on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts, Table
from dataops_platform.ingestion.extractor import extract, extractor_for
from dataops_platform.lake import Lake
from dataops_platform.orchestration.resources import dbt_project
from dataops_platform.quality.planner import render_bad
from dataops_platform.quality.verdicts import evaluate
from dataops_platform.settings import Settings
from dataops_platform.transformation.build import BuildOutcome, build
from dataops_platform.transformation.models import read_models
from dataops_platform.transformation.publish import PublishOutcome, publish
from dataops_platform.warehouse.base import RowCheck
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform_tests.emulators.fixtures import new_project, unique
from dataops_platform_tests.emulators.servers import BigQueryServer, GcsServer

if TYPE_CHECKING:  # most tests that use the demo need no client, which takes a second
    from google.cloud import bigquery

REPO = Path(__file__).parents[3]


def embedded(home: Path, **more: str) -> Settings:
    """Settings of the demo, embedded."""
    return Settings.load({"DATAOPS_PROJECT": str(REPO), "DATAOPS_HOME": str(home), **more})


@contextmanager
def on_google_cloud(home: Path, gcs: GcsServer, server: BigQueryServer, **more: str) -> Iterator[Settings]:
    """Settings of the demo on the servers, in a bucket and a project of its own."""
    from dataops_platform_tests.emulators.clients import storage_client

    emulators = gcs.env | server.env
    with pytest.MonkeyPatch.context() as patch, new_project(server) as project:
        for name, value in emulators.items():
            patch.setenv(name, value)
        bucket = storage_client(gcs).create_bucket(unique("bucket")).name
        yield Settings.load(
            emulators
            | {"DATAOPS_ENV": "staging", "DATAOPS_PROJECT": str(REPO), "DATAOPS_HOME": str(home)}
            | {"DATAOPS_LAKE": f"gs://{bucket}/lake", "DATAOPS_PRODUCTION_LAKE": f"gs://{bucket}/production"}
            | {"DATAOPS_WAREHOUSE": f"bigquery://{project}/US", **more}
        )


class Demo:
    """Some days of the demo, loaded."""

    def __init__(self, settings: Settings, days: Sequence[str]) -> None:
        self.settings = settings
        self.days = list(days)
        self.contracts: Contracts = load_contracts(settings.contracts)
        self.tables: Mapping[str, Table] = self.contracts.sourced
        self.dbt = dbt_project(settings, self.contracts)
        self.models = read_models(self.dbt.manifest())
        self.warehouse: Any = settings.warehouse()
        self.warehouse.ensure(list(self.contracts.tables.values()))
        self.ledger = Ledger(self.warehouse)
        for table in self.tables.values():
            self._load(table)

    def judge(self) -> None:
        """Decide the rules of the contracts."""
        for table in self.tables.values():
            evaluate(self.warehouse, table, "run", self.days if table.partitioning else None)

    def _load(self, table: Table) -> None:
        lake = Lake(self.settings.lake_store())
        days = self.days if table.partitioning else table.partition_keys()
        done = extract(table, extractor_for(table, REPO), lake, days)
        uris = {item.key: lake.store.uri(item.key) for d in done.delivered for item in d.objects}
        checks = [RowCheck(r.id, render_bad(table, r, self.warehouse.dialect)) for r in table.splitting_rules]
        self.warehouse.load(table, done.delivered, uris, checks, "run")

    def build(self, *select: str, days: Sequence[str] | None = (), run_id: str = "run") -> BuildOutcome:
        """Build models, by default all, for some days, by default those loaded; None: for everything."""
        names = select or [model.name for model in self.models.items]
        span = self.days if days == () else days
        return build(self.dbt, self.models, self.warehouse, self.tables, run_id, names, span)

    def publish(self, model: str) -> PublishOutcome:
        return publish(
            self.models[model], self.models, self.tables, self.warehouse, self.settings.lake_store(),
            self.settings.production_store(), self.days if self.models[model].partition_field else None, "run",
        )  # fmt: skip

    @property
    def client(self) -> bigquery.Client:
        """Of the project, on Google Cloud."""
        return self.settings.identity.bigquery_client(self.settings.bigquery.project)

    def execute(self, sql: str) -> None:
        """Run a statement as somebody from outside would."""
        if self.settings.on_google_cloud:
            self.client.query(sql).result()
        else:
            with self.warehouse.connect() as con:
                con.execute(sql)

    def rows(self, sql: str) -> list[tuple]:
        return [tuple(row.values()) for row in self.warehouse.query(sql).to_pylist()]
