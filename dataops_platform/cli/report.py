"""`dataops report`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from dataops_platform.cli.inspect import ensure_missing
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration.build import read_project
from dataops_platform.quality.report import report
from dataops_platform.settings import Settings
from dataops_platform.warehouse.base import NoSuchTable
from dataops_platform.warehouse.ledger import now


def write(console: Console, output: Path | None) -> None:
    """Write the page, and say where it is.

    Raises:
        ConfigError: the file can't be written.
    """
    settings = Settings.load()
    contracts = load_contracts(settings.contracts)
    _, models = read_project(settings, contracts)
    warehouse = settings.warehouse()
    tables = contracts.sourced
    if not settings.on_google_cloud:  # there, whoever looks needn't be allowed to make tables
        ensure_missing(warehouse, tables.values())
    shown = [model.name for model in models.items if not model.view]
    try:
        made = report(warehouse, tables, shown, settings.environment, now())
    except NoSuchTable as error:
        raise ConfigError(f"there is no ledger yet ({error}): run `dataops run` first") from error
    path = (output or settings.home / "report.html").expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made.html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output: {path} can't be written: {error.strerror}") from error
    console.print(f"{path.as_uri()}", soft_wrap=True)
