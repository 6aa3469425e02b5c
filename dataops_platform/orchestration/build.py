"""Assembly: settings, contracts and dbt models become Dagster definitions."""

from __future__ import annotations

import gc
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.logs import install_logs
from dataops_platform.orchestration.alert_sensor import alert_sensor, event_sensor
from dataops_platform.orchestration.alerting import subjects
from dataops_platform.orchestration.automation import automate, automation_sensor
from dataops_platform.orchestration.event_log import enable_batching
from dataops_platform.orchestration.io_managers import LakeIOManager, WarehouseIOManager
from dataops_platform.orchestration.jobs import jobs
from dataops_platform.orchestration.landing_sensor import landing_sensor
from dataops_platform.orchestration.notification_sensor import notification_sensor
from dataops_platform.orchestration.refused import deliveries_check
from dataops_platform.orchestration.replay import replay_job
from dataops_platform.orchestration.report_asset import report_asset
from dataops_platform.orchestration.resources import Platform, dbt_project
from dataops_platform.orchestration.rows_left import can_lose_rows, rows_left_sensor
from dataops_platform.orchestration.run_logs import install_run_logs
from dataops_platform.orchestration.table_assets import table_assets, table_checks
from dataops_platform.secrets import install_redaction
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models, read_models


def build_definitions(settings: Settings, own_assets: ModuleType | None = None) -> dg.Definitions:
    """The code location of a project.

    Reads files (contracts, the dbt project) and parses dbt when its project changed; opens neither lake nor warehouse.

    Args:
        own_assets: package of Python assets, unless DATAOPS_ASSETS names another. Those that read what this project
            doesn't have are left out: the demo's assets in another project.

    Raises:
        ConfigError: a contract or the dbt project can't be used; every problem is in the text.
    """
    install_logs(settings.log_format)
    install_run_logs(settings.log_format)
    install_redaction()
    enable_batching()
    with _quick_imports():
        contracts = load_contracts(settings.contracts)
        manifest, models = read_project(settings, contracts)
        return assemble(settings, contracts, manifest, models, own_assets)


def read_project(settings: Settings, contracts: Contracts) -> tuple[Mapping[str, Any], Models]:
    """The dbt manifest and its models; nothing when there is no dbt project."""
    if not settings.dbt_project.exists():
        return {}, Models(())
    try:
        installed = importlib.util.find_spec("dbt.cli") is not None
    except ImportError:
        installed = False
    if not installed:  # said before anything runs, not by the step that would need it
        adapter = "dbt-bigquery" if settings.on_google_cloud else "dbt-duckdb"
        raise ConfigError(f"dbt is not installed; run `pip install dbt-core {adapter}`")
    try:
        manifest = dbt_project(settings, contracts).manifest()
    except OSError as error:
        raise ConfigError(f"DATAOPS_HOME {settings.home} can't be written: {error.strerror or error}") from error
    return manifest, read_models(manifest, contracts.tables)


def assemble(
    settings: Settings,
    contracts: Contracts,
    manifest: Mapping[str, Any],
    models: Models,
    own_assets: ModuleType | None = None,
) -> dg.Definitions:
    """Definitions from what was read; does no I/O."""
    tables = contracts.tables
    sourced = contracts.sourced.values()
    assets: list[dg.AssetsDefinition] = [asset for table in sourced for asset in table_assets(table)]
    checks = [made for table in sourced if (made := table_checks(table)) is not None]
    if deliveries := deliveries_check(list(sourced)):
        checks.append(deliveries)
    keys: Mapping[str, dg.AssetKey] = {}
    if models.items:
        # dagster-dbt takes over a second to import: a project without dbt doesn't wait for it.
        from dataops_platform.orchestration.model_assets import dbt_model_assets, model_keys, publication_assets

        try:
            keys = model_keys(manifest, models, tables)
        except ValueError as error:
            raise ConfigError(f"{settings.dbt_project}: {error}") from error
        assets.append(dbt_model_assets(manifest, models, tables))
        assets += publication_assets(models, tables, keys)
    own, own_checks = _own(settings, own_assets, {spec.key for definition in assets for spec in definition.specs})
    assets += own
    checks += own_checks
    by_conditions = settings.automation == "conditions"
    if by_conditions:
        assets = automate(assets, tables, set(keys.values()))
    made_jobs, schedules = jobs(assets, tables, models)
    automatic = [automation_sensor(assets)] if by_conditions else []
    every = [spec.key for definition in assets for spec in definition.specs]
    # After the jobs: nobody waits for the report who doesn't ask for it.
    assets.append(report_asset(contracts.sourced, [k for k in every if k.path[0] == "production"] or every))
    platform = Platform(settings, contracts, models)
    about = subjects(contracts, models, [*assets, *checks])
    landing = {
        name: table
        for name, table in tables.items()
        if table.landing(settings.environment, settings.on_google_cloud) is not None
    }
    notified = settings.notifications is not None
    unwatched = [] if by_conditions else [t for t in sourced if t.name not in landing and can_lose_rows(t)]
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*made_jobs, replay_job(tables)],
        schedules=[] if by_conditions else schedules,
        sensors=[
            *(landing_sensor(table, made_jobs, notified, by_conditions) for table in landing.values()),
            *([notification_sensor(landing, made_jobs)] if notified and landing else []),
            *([rows_left_sensor(unwatched, made_jobs)] if unwatched else []),
            *automatic,
            alert_sensor(about),
            *([event_sensor(about)] if settings.events else []),
        ],
        executor=dg.in_process_executor,
        resources={
            "platform": platform,
            "warehouse_io_manager": WarehouseIOManager(platform),
            "lake_io_manager": LakeIOManager(platform),
            **_google_resources(settings),
        },
    )


def _google_resources(settings: Settings) -> Mapping[str, Any]:
    """`gcs` and `bigquery`, where the platform is on Google Cloud."""
    if not settings.on_google_cloud:
        return {}
    # Imported here: it takes a second, needlessly in embedded mode.
    from dataops_platform.orchestration.google_resources import PlatformBigQuery, PlatformGCS

    place = settings.bigquery
    return {
        "gcs": PlatformGCS(settings.identity, place.project),
        "bigquery": PlatformBigQuery(settings.identity, place.project, place.location),
    }


def _own(
    settings: Settings, default: ModuleType | None, known: Set[dg.AssetKey]
) -> tuple[Sequence[dg.AssetsDefinition], Sequence[dg.AssetChecksDefinition]]:
    """The project's own Python assets and asset checks: those of DATAOPS_ASSETS, or of the default package as far as
    they fit.

    Raises:
        ConfigError: the module can't be imported, or an asset of DATAOPS_ASSETS reads what the project doesn't have.
    """
    module = _imported(settings.assets, settings.project) if settings.assets else default
    if module is None:
        return [], []
    load = dg.load_assets_from_package_module if hasattr(module, "__path__") else _of_module
    found = [item for item in load(module) if isinstance(item, dg.AssetsDefinition)]
    checks = _checks_of(module)
    known = known | {spec.key for item in found for spec in item.specs}
    missing = {
        item: sorted(k.to_user_string() for k in set(item.keys_by_input_name.values()) - known) for item in found
    }
    if settings.assets and any(missing.values()):
        lines = [
            f"asset {key.to_user_string()} reads {', '.join(names)}"
            for item, names in missing.items()
            if names
            for key in item.keys
        ]
        raise ConfigError(f"DATAOPS_ASSETS {settings.assets}: {'; '.join(lines)}: the project has no such asset")
    assets = [item for item in found if not missing[item]]
    there = known - {key for item in found if missing[item] for key in item.keys}
    return assets, [check for check in checks if all(key.asset_key in there for key in check.check_keys)]


def _checks_of(module: ModuleType) -> Sequence[dg.AssetChecksDefinition]:
    if hasattr(module, "__path__"):
        return dg.load_asset_checks_from_package_module(module)
    return dg.load_asset_checks_from_modules([module])


def _of_module(module: ModuleType) -> Sequence[Any]:
    return dg.load_assets_from_modules([module])


def _imported(name: str, project: Path) -> ModuleType:
    if str(project) not in sys.path:
        sys.path.append(str(project))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"DATAOPS_ASSETS is {name!r}, which can't be imported: {error}") from error


_PATIENT = (100_000, 50, 100)
"""Thresholds of the garbage collector once definitions are loaded."""


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
                # What was built lives as long as the process: walk it rarely from now on, too.
                gc.set_threshold(*_PATIENT)
                gc.enable()
