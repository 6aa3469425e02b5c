"""`dataops contract check|show`, `query`, `reload` and `ui`."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts, Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.deliveries import Lake
from dataops_platform.quality.planner import plan
from dataops_platform.settings import Settings
from dataops_platform.warehouse.base import NoSuchTable, Warehouse
from dataops_platform.warehouse.duckdb.tables import table_ddl
from dataops_platform.warehouse.loss import loss
from dataops_platform.words import counted

ROWS_SHOWN = 100


def check(console: Console, paths: Sequence[Path]) -> None:
    """Check contracts; with single files, references to tables of the project's other contracts are known too."""
    settings = Settings.load()
    contracts = load_contracts(list(paths) if paths else settings.contracts)
    tables = contracts.tables
    rules = sum(len(table.rules) for table in tables.values())
    console.print(
        f"[green]✓[/] {counted(len(contracts.items), 'contract')}: {counted(len(tables), 'table')},"
        f" {counted(sum(len(t.columns) for t in tables.values()), 'column')}, {counted(rules, 'rule')}"
    )


def _find(settings: Settings, name: str) -> tuple[Contracts, list[Table]]:
    contracts = load_contracts(settings.contracts)
    if name in contracts.tables:
        return contracts, [contracts.tables[name]]
    path = Path(name)
    found = [t for c in contracts.items if c.file.resolve() == path.resolve() for t in c.tables]
    if found:
        return contracts, found
    if path.is_file():
        contracts = load_contracts([path])
        return contracts, list(contracts.tables.values())
    raise ConfigError(f"there is no table {name!r}; there are {', '.join(contracts.tables)}")


def show(console: Console, name: str, partitions: str | None) -> None:
    """Print DDL, rules and statements of a table."""
    settings = Settings.load()
    _, tables = _find(settings, name)
    for table in tables:
        keys: list[str] | None = None
        if table.partitioning:
            first, _, last = (partitions or table.partitioning.example).partition("..")
            try:
                keys = table.partitioning.keys(first, last or first)
            except ValueError as error:
                raise ConfigError(f"--partitions: {error}") from error
        console.print(f"[bold]{table.name}[/]  {escape(table.description)}")
        console.print(f"contract {table.contract_id} {table.contract_version}, load mode {table.load_mode}\n")
        console.print("[bold]Tables[/]")
        ddl = _ddl(settings, table)
        shown = [statement for statement in ddl if not statement.startswith("COMMENT ON COLUMN")]
        for statement in shown:
            console.print(f"  {statement};", markup=False, soft_wrap=True)
        if len(shown) < len(ddl):
            console.print(f"  and {len(ddl) - len(shown)} comments on columns")
        _print_rules(console, table)
        statements = plan(table, keys, "bigquery" if settings.on_google_cloud else "duckdb")
        asked = f" for {keys[0]}..{keys[-1]}" if keys else ""
        console.print(f"\n[bold]{len(statements)} statements[/] decide {len(table.rules)} rules{asked}")
        for planned in statements:
            console.print(f"\n  [bold]{planned.id}[/] ({', '.join(rule.id for rule in planned.rules)})")
            for proof in planned.proofs:
                console.print(f"    {proof.sql}", markup=False, soft_wrap=True)
                told = "where that is true" if proof.then is None else "where a map of that size gets as many bits,"
                console.print(f"    {told} no key repeats; else:")
            for line in planned.sql.splitlines():
                console.print(f"    {line}", markup=False, soft_wrap=True)


def _ddl(settings: Settings, table: Table) -> list[str]:
    """Statements that make a table and its quarantine as they are in the warehouse."""
    if not settings.on_google_cloud:
        return table_ddl(table)
    from google.cloud import bigquery

    from dataops_platform.warehouse.bigquery import tables
    from dataops_platform.warehouse.names import quarantine, staging

    dataset, tags = bigquery.DatasetReference(settings.bigquery.project, "staging"), settings.policy_tags
    held = bigquery.DatasetReference(settings.bigquery.project, "quarantine")
    return [
        tables.as_sql(tables.staging_table(dataset.table(staging(table.name).name), table, tags)),
        tables.as_sql(tables.quarantine_table(held.table(quarantine(table.name).name), table, tags)),
    ]


def _print_rules(console: Console, table: Table) -> None:
    grid = Grid(title="\nRules", title_justify="left", header_style="bold")
    for name in ("rule", "dimension", "severity", "kind", "columns", "must", "bad rows", "line"):
        grid.add_column(name)
    splitting = {rule.id for rule in table.splitting_rules}
    for rule in table.rules:
        grid.add_row(
            rule.id,
            str(rule.dimension),
            str(rule.severity),
            str(rule.kind),
            ", ".join(rule.columns),
            str(rule.threshold),
            "quarantine" if rule.id in splitting else "block" if rule.severity == "error" else "report",
            str(rule.line),
        )
    console.print(grid)


def ensure_missing(warehouse: Warehouse, tables: Collection[Table]) -> None:
    """Create the tables of contracts that aren't there yet, for whoever looks.

    Not those that differ from their contracts, or were dropped: to look at them may be how one finds out what to do.
    """
    found = warehouse.changes(list(tables))
    warehouse.ensure([item.table for item in found if not item.exists and not item.gone])


def query(console: Console, sql: str) -> None:
    """Print a query's result, at most `ROWS_SHOWN` rows."""
    settings = Settings.load()
    warehouse = settings.warehouse()
    ensure_missing(warehouse, load_contracts(settings.contracts).tables.values())
    try:
        result = warehouse.query(sql)
    except NoSuchTable as error:  # here it's the query that is wrong, not data
        raise ConfigError(str(error)) from error
    grid = Grid(header_style="bold")
    for field in result.schema:
        numeric = field.type in ("int64", "int32", "double", "float")
        grid.add_column(escape(field.name), justify="right" if numeric else "left")
    for row in result.slice(0, ROWS_SHOWN).to_pylist():
        grid.add_row(*("[dim]null[/]" if value is None else escape(str(value)) for value in row.values()))
    console.print(grid)
    more = f", {ROWS_SHOWN} shown" if result.num_rows > ROWS_SHOWN else ""
    console.print(f"{counted(result.num_rows, 'row')}{more}")


def reload(console: Console, name: str, allow_refusals: bool) -> None:
    """Empty a staging table and forget its loads; the lake still has every delivery.

    Args:
        allow_refusals: although not all of them can be loaded anew.

    Raises:
        ConfigError: it isn't loaded from the lake, something would break, or deliveries would be refused; nothing was
            changed.
    """
    settings = Settings.load()
    _, tables = _find(settings, name)
    warehouse = settings.warehouse()
    for changes in warehouse.changes(tables):
        table = changes.table
        if (refusal := changes.refusal()) is not None:
            raise refusal
        if not table.delivered:
            raise ConfigError(
                f"{table.file}:{table.line}: an asset of yours writes {table.name}, no load: materialise that again"
            )
        found = loss(warehouse, Lake(settings.lake_store()), table)
        if found.refused and not allow_refusals:
            raise ConfigError(
                f"{found.summary}. Their rows would go, so nothing was changed. Where they can go, run"
                f" `dataops reload --allow-refusals {table.name}`"
            )
    for table in tables:
        warehouse.reset(table)
        console.print(f"staging.{table.name} is empty; `dataops run` loads it anew from the lake")


def _check_port(host: str, port: int) -> None:
    """Dagster's services would start, and stay, without the web server."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror or error}"
        raise ConfigError(f"port {port} of {host} {reason}; name another with --port") from error


def ui(host: str, port: int) -> None:
    """Replace this process by `dagster dev` on this project.

    Raises:
        ConfigError: the contracts or the dbt project can't be used: said here, not in a browser.
    """
    from dataops_platform.orchestration.build import read_project
    from dataops_platform.orchestration.runs import prepare_instance

    settings = Settings.load()
    read_project(settings, load_contracts(settings.contracts))
    prepare_instance(settings)
    _check_port(host, port)
    dagster = Path(sys.executable).with_name("dagster")
    command = str(dagster) if dagster.exists() else shutil.which("dagster")
    if command is None:
        raise ConfigError("the command `dagster` is not installed; run `pip install dagster dagster-webserver`")
    arguments = ["dev", "--host", host, "--port", str(port)]
    workspace = settings.project / "workspace.yaml"
    arguments += (
        ["--workspace", str(workspace)] if workspace.is_file() else ["--module-name", "dataops_platform.definitions"]
    )
    if settings.log_format == "json":  # what isn't the platform's process; see `logs`
        arguments += ["--log-format", "json"]
    os.environ["DATAOPS_PROJECT"] = str(settings.project)
    os.environ["DATAOPS_HOME"] = str(settings.home)
    sys.stdout.flush()
    os.execv(command, [command, *arguments])
