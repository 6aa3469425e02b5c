"""Assembly: settings, contracts and dbt models become Dagster definitions."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import dagster as dg

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration.event_log import enable_batching
from dataops_platform.orchestration.io_managers import LakeIOManager, WarehouseIOManager
from dataops_platform.orchestration.jobs import jobs
from dataops_platform.orchestration.model_assets import (
    ModelTranslator,
    dbt_model_assets,
    model_partitioning,
    publication_assets,
)
from dataops_platform.orchestration.resources import Platform, dbt_project
from dataops_platform.orchestration.table_assets import table_assets, table_checks
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models, read_models


def build_definitions(settings: Settings, own_assets: ModuleType | None = None) -> dg.Definitions:
    """The code location of a project.

    Reads files (contracts, the dbt project) and parses dbt when its project changed; opens neither lake nor warehouse.

    Args:
        own_assets: package of the project's own Python assets.

    Raises:
        ConfigError: a contract or the dbt project can't be used; every problem is in the text.
    """
    enable_batching()
    with _quick_imports():
        contracts = load_contracts(settings.contracts)
        manifest, models = read_project(settings, contracts)
        return assemble(settings, contracts, manifest, models, own_assets)


def read_project(settings: Settings, contracts: Contracts) -> tuple[Mapping[str, Any], Models]:
    """The dbt manifest and its models; nothing when there is no dbt project."""
    if not settings.dbt_project.exists():
        return {}, Models(())
    manifest = dbt_project(settings, contracts).manifest()
    return manifest, read_models(manifest)


def assemble(
    settings: Settings,
    contracts: Contracts,
    manifest: Mapping[str, Any],
    models: Models,
    own_assets: ModuleType | None = None,
) -> dg.Definitions:
    """Definitions from what was read; does no I/O."""
    tables = contracts.tables
    sourced = [table for table in tables.values() if table.source is not None]
    assets: list[dg.AssetsDefinition] = [asset for table in sourced for asset in table_assets(table)]
    checks = [made for table in sourced if (made := table_checks(table)) is not None]
    if models.items:
        try:
            keys = _model_keys(manifest, models, ModelTranslator(models, model_partitioning(models, tables)))
        except ValueError as error:
            raise ConfigError(f"{settings.dbt_project}: {error}") from error
        assets.append(dbt_model_assets(manifest, models, tables))
        assets += publication_assets(models, tables, keys)
    if own_assets is not None:
        assets += _own(own_assets)
    made_jobs, schedules = jobs(assets, tables, models)
    platform = Platform(settings, contracts, models)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=made_jobs,
        schedules=schedules,
        executor=dg.in_process_executor,
        resources={
            "platform": platform,
            "warehouse_io_manager": WarehouseIOManager(platform),
            "lake_io_manager": LakeIOManager(platform),
        },
    )


def _model_keys(manifest: Mapping[str, Any], models: Models, translator: ModelTranslator) -> dict[str, dg.AssetKey]:
    return {model.name: translator.get_asset_key(manifest["nodes"][model.unique_id]) for model in models.items}


def _own(package: ModuleType) -> Sequence[dg.AssetsDefinition]:
    found = dg.load_assets_from_package_module(package)
    return [item for item in found if isinstance(item, dg.AssetsDefinition)]


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Definitions are millions of long-lived objects, which the garbage collector would walk in vain."""
    enabled = gc.isenabled()
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        try:
            yield
        finally:
            if enabled:
                gc.enable()
