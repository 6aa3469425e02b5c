"""`dataops quarantine list|show|replay|drop`."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from dataops_platform.cli.changes import follow
from dataops_platform.cli.inspect import ensure_missing
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.suggest import one_of
from dataops_platform.quality import quarantine
from dataops_platform.settings import Settings
from dataops_platform.warehouse.base import Selection, Warehouse
from dataops_platform.warehouse.names import CAST


def _open(console: Console, looking: bool = False) -> tuple[Warehouse, dict[str, Table]]:
    """The warehouse and the contracts' tables.

    Args:
        looking: tables may differ from their contracts.
    """
    settings = Settings.load()
    tables = load_contracts(settings.contracts).tables
    warehouse = settings.warehouse()
    if looking:
        ensure_missing(warehouse, tables.values())
    else:
        follow(console, warehouse, tables.values())
    return warehouse, tables


def _find(tables: dict[str, Table], name: str) -> Table:
    if name not in tables:
        raise ConfigError(f"there is no table {name!r}: {one_of(name, tables)}")
    return tables[name]


def _selection(table: Table, partitions: str | None, reason: str | None) -> Selection:
    """What the options say, for one table.

    Raises:
        ConfigError: there is no such partition, or no such rule.
    """
    keys: Collection[str] | None = None
    if partitions is not None:
        if table.partitioning is None:
            raise ConfigError(f"{table.name} has no partitions: leave --partitions out")
        first, _, last = partitions.partition("..")
        try:
            keys = table.partitioning.keys(first, last or first)
        except ValueError as error:
            raise ConfigError(f"--partitions: {error}") from error
    return quarantine.known(table, Selection(keys, reason))


def show_all(console: Console) -> None:
    """Print what is in quarantine, by table, partition and reason."""
    warehouse, tables = _open(console, looking=True)
    found = quarantine.held(warehouse, list(tables))
    if not found:
        console.print("Nothing is in quarantine.")
        return
    grid = Grid(header_style="bold")
    for name in ("table", "partition", "reason", "rows", "since", "latest"):
        grid.add_column(name, justify="right" if name == "rows" else "left")
    for item in found:
        since, latest = (f"{moment:%Y-%m-%d %H:%M}" for moment in (item.oldest, item.newest))
        grid.add_row(item.table, item.partition_key, item.reason, f"{item.rows:,}", since, latest)
    console.print(grid)


def show(console: Console, name: str, partitions: str | None, reason: str | None, limit: int) -> None:
    """Print some quarantined rows of a table, with their reasons and where they come from."""
    warehouse, tables = _open(console)
    table = _find(tables, name)
    rows = quarantine.show(warehouse, table, _selection(table, partitions, reason), limit)
    if not rows:
        console.print(f"Nothing of {name} is in quarantine" + (" by that selection." if partitions or reason else "."))
        return
    for row in rows:
        place = "" if row["_source_row"] is None else f", row {row['_source_row']}"
        console.print(f"[bold]{escape(', '.join(row['_reasons']))}[/]  partition {row['_delivered_partition']}")
        console.print(f"  {row['_source_object']}{place}", markup=False, soft_wrap=True)
        console.print(f"  contract {row['_contract_version']}, {row['_quarantined_at']:%Y-%m-%d %H:%M}", markup=False)
        if row["_uncast"] is not None:
            console.print(f"  as written: {row['_uncast']}", markup=False, soft_wrap=True)
        values = ", ".join(
            f"{key}={'null' if value is None else value}" for key, value in row.items() if not key.startswith("_")
        )
        console.print(f"  {values}", markup=False, soft_wrap=True)


def replay(console: Console, name: str | None, everything: bool, partitions: str | None, reason: str | None) -> None:
    """Judge quarantined rows again by the contracts as they read now, and load what passes."""
    if (name is None) == (not everything):
        raise ConfigError("name one table, or write --all for every table")
    warehouse, tables = _open(console)
    chosen: Sequence[Table] = list(tables.values()) if name is None else [_find(tables, name)]
    run_id = str(uuid.uuid4())
    loaded = 0
    for table in chosen:
        if name is None and (partitions is not None and table.partitioning is None):
            continue
        selection = _selection(table, partitions, reason) if name is not None else _loosely(table, partitions, reason)
        if selection is None:
            continue
        replayed = quarantine.replay(warehouse, [table], selection, run_id)[table.name]
        for item in replayed:
            loaded += item.rows_loaded
            console.print(
                f"{table.name} {item.partition_key}: {item.rows_loaded:,} loaded, {item.rows_superseded:,} superseded,"
                f" {item.rows_left:,} still in quarantine"
            )
        _say_uncast(console, table.name, quarantine.uncast(warehouse, table, {item.partition_key for item in replayed}))
    if loaded:
        console.print("`dataops run` judges the partitions, builds the models and publishes.")
    else:
        console.print("Nothing that is in quarantine passes.")


def _say_uncast(console: Console, name: str, columns: Collection[str]) -> None:
    """What to do about rows that no judging again can help."""
    if columns:
        console.print(
            f"{name}: rows whose {', '.join(sorted(columns))} can't be cast have no value to be judged: correct the"
            f" values where they come from and deliver those rows again, then give these up: `dataops"
            f" quarantine drop {name} --reason {CAST}{min(columns)} --because …`",
            soft_wrap=True,
        )


def _loosely(table: Table, partitions: str | None, reason: str | None) -> Selection | None:
    """The selection for one of many tables; None where it has no such partitions or rule."""
    try:
        return _selection(table, partitions, reason)
    except ConfigError:  # it is another table's
        return None


def drop(console: Console, name: str, partitions: str | None, reason: str | None, because: str) -> None:
    """Delete quarantined rows; the ledger keeps how many, and why."""
    if not because.strip():
        raise ConfigError("--because is empty: say why the rows are given up")
    warehouse, tables = _open(console)
    table = _find(tables, name)
    count = warehouse.drop(table, _selection(table, partitions, reason), because, str(uuid.uuid4()))
    rows = "1 row" if count == 1 else f"{count:,} rows"
    console.print(f"{rows} of {name} dropped from quarantine; the lake still has them")
