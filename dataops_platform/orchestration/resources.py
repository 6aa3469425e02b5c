"""Resources: thin Dagster handles on the library's objects. Which adapter they hold is decided by the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import dagster as dg

from dataops_platform import addresses
from dataops_platform.contracts.model import Contracts, Table
from dataops_platform.ingestion.landing import Place
from dataops_platform.lake.deliveries import Lake
from dataops_platform.lake.store import ObjectStore
from dataops_platform.settings import Settings
from dataops_platform.transformation.dbt import DbtProject
from dataops_platform.transformation.models import Models
from dataops_platform.transformation.target import DbtTarget
from dataops_platform.warehouse.base import Cost, Warehouse
from dataops_platform.warehouse.ledger import Ledger


class Platform:
    """The lake, the warehouse and the dbt project of one environment: the resource that every asset uses.

    A plain object: it is made from settings, contracts and models that were read already. Nothing is opened before it
    is used, and each run's process has its own.
    """

    def __init__(self, settings: Settings, contracts: Contracts, models: Models) -> None:
        self._settings = settings
        self._contracts = contracts
        self._models = models

    @property
    def settings(self) -> Settings:
        """All settings."""
        return self._settings

    @property
    def models(self) -> Models:
        """The dbt models."""
        return self._models

    @property
    def tables(self) -> Mapping[str, Table]:
        """Contract tables by name."""
        return self._contracts.tables

    @cached_property
    def lake(self) -> Lake:
        """Raw deliveries."""
        return Lake(self._settings.lake_store())

    def place(self, table: Table) -> Place | None:
        """Where others write a table's objects in this environment, if anywhere."""
        return self._settings.place(table, self.tables.values())

    @cached_property
    def production_store(self) -> ObjectStore:
        """The production lake."""
        return self._settings.production_store()

    @cached_property
    def warehouse(self) -> Warehouse:
        """The warehouse, with every contract's tables in place. The step that asks first tells what that changed."""
        warehouse = self._settings.warehouse()
        for item in warehouse.ensure(list(self.tables.values())):
            for line in item.told:
                dg.get_dagster_logger().warning(line)
        return warehouse

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.warehouse)

    @contextmanager
    def work(self, step: str, of: str, run_id: str) -> Iterator[Callable[[], dict[str, int]]]:
        """Work in the warehouse: labelled there, its cost written to the ledger when it is done.

        Gives a function that tells the cost so far, as metadata.
        """
        with self.warehouse.work(step, of, run_id) as cost:
            yield lambda: cost_metadata(cost())
            self.ledger.record_costs({of: cost()}, step, run_id)

    @cached_property
    def dbt(self) -> DbtProject:
        """The dbt project."""
        return dbt_project(self._settings, self._contracts)


def cost_metadata(cost: Cost) -> dict[str, int]:
    """A cost as asset metadata; empty where nothing was charged for."""
    if not cost.jobs:
        return {}
    return {"bytes billed": cost.bytes_billed, "slot milliseconds": cost.slot_milliseconds}


def dbt_project(settings: Settings, contracts: Contracts) -> DbtProject:
    """The dbt project of these settings."""
    if settings.on_google_cloud:
        place = settings.bigquery
        target = DbtTarget.bigquery(
            settings.environment, settings.identity, place.project, place.location, settings.maximum_bytes_billed
        )
    else:
        path = addresses.local_path("DATAOPS_WAREHOUSE", settings.warehouse_url)
        target = DbtTarget.duckdb(settings.environment, path)
    return DbtProject(settings.dbt_project, settings.dbt_home, target, contracts)
