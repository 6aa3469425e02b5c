"""Resources: thin Dagster handles on the library's objects. Which adapter they hold is decided by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from dataops_platform.contracts.model import Contracts, Table
from dataops_platform.lake.deliveries import Lake
from dataops_platform.lake.store import ObjectStore
from dataops_platform.settings import Settings
from dataops_platform.transformation.dbt import DbtProject
from dataops_platform.transformation.models import Models
from dataops_platform.warehouse.base import Warehouse
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

    @cached_property
    def production_store(self) -> ObjectStore:
        """The production lake."""
        return self._settings.production_store()

    @cached_property
    def warehouse(self) -> Warehouse:
        """The warehouse, with every contract's tables in place."""
        warehouse = self._settings.warehouse()
        warehouse.ensure(list(self.tables.values()))
        return warehouse

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.warehouse)

    @cached_property
    def dbt(self) -> DbtProject:
        """The dbt project."""
        return dbt_project(self._settings, self._contracts)


def dbt_project(settings: Settings, contracts: Contracts) -> DbtProject:
    """The dbt project of these settings."""
    return DbtProject(settings.dbt_project, settings.dbt_home, settings.warehouse_url, settings.environment, contracts)
