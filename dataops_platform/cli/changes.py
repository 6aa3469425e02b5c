"""Contracts compared with the warehouse, and the warehouse made to fit: the first part of `plan`, and `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Severity
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.suggest import one_of
from dataops_platform.quality.verdicts import foresee
from dataops_platform.settings import Settings
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.changes import Change, TableChanges
from dataops_platform.warehouse.definitions import abandoned
from dataops_platform.warehouse.ledger import Ledger, Verdict
from dataops_platform.warehouse.names import staging

_COLOURS = {"+": "green", "-": "red", "~": "yellow"}


@dataclass(frozen=True, slots=True)
class Review:
    """What was found when contracts were compared with the warehouse.

    Attributes:
        blocked: whether rows that are there break a new blocking rule.
        too_low: tables whose contract's version doesn't say how much has changed.
    """

    changes: Sequence[TableChanges]
    blocked: bool
    too_low: Sequence[str]

    @property
    def breaking(self) -> bool:
        """Whether something would break."""
        return any(item.breaking for item in self.changes)

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against the contracts as they are."""
        return not self.breaking and not self.blocked and not self.too_low


def review(console: Console, warehouse: Warehouse, found: Sequence[TableChanges], known: Sequence[str]) -> Review:
    """Print how contracts and the warehouse differ, and what new rules would say of the rows that are there.

    Args:
        known: all tables of the contracts.
    """
    blocked = False
    too_low: list[str] = []
    for table in found:
        verdicts = foresee(warehouse, table.table, table.judged) if table.judged else []
        blocked |= any(not v.passed and v.severity is Severity.ERROR for v in verdicts)
        for item in table.items:
            _print_change(console, item)
            for rule in table.judged:
                if item.text.startswith(f"rule {table.table.name}.{rule.id} "):
                    _print_foreseen(console, [v for v in verdicts if v.rule_id == rule.id])
        if table.rebuild:
            count = len(Ledger(warehouse).loaded(table.table.name))
            console.print(f"      {count:,} deliveries of {table.table.name} will be loaded anew")
        for name, kind in table.found:
            console.print(
                f"  · column {staging(table.table.name)}.{name} ({kind}) came with deliveries. Add it to the contract,"
                " to describe and judge it.",
                markup=False,
            )
        wanted = table.version_wanted()
        if wanted is not None and table.applied is not None:
            too_low.append(table.table.name)
            console.print(
                f"  · {table.table.file}: version {table.table.contract_version} has to be at least {wanted}: that of"
                f" {table.table.name} in the warehouse is {table.applied.version}",
                markup=False,
            )
    for name in abandoned(warehouse, known):
        console.print(
            f"  · table {staging(name)} is in no contract any more. It stays, with its rows, until you drop it."
        )
    _print_count(console, found)
    return Review(found, blocked, too_low)


def _print_change(console: Console, item: Change) -> None:
    word = "[bold red]breaks:[/] " if item.breaking else ""
    why = f"\n      {word}{escape(item.consequence)}" if item.consequence else ""
    console.print(f"  [{_COLOURS[item.sign]}]{item.sign}[/] {escape(item.text)}{why}", soft_wrap=True)


def _print_foreseen(console: Console, verdicts: Sequence[Verdict]) -> None:
    """What a rule would say; nothing where there are no rows yet, or it can't be told."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if not verdicts:
        return
    if not failed:
        console.print(f"      all rows that are there pass ({len(verdicts):,} partitions)")
        return
    rows = sum(verdict.failed_rows or 0 for verdict in failed)
    counted = f"{rows:,} rows that are there would newly fail" if rows else "what is there would newly fail"
    listed = ", ".join(verdict.partition_key for verdict in failed[:3]) + (", …" if len(failed) > 3 else "")
    console.print(f"      [yellow]{counted}[/] in {len(failed):,} of {len(verdicts):,} partitions: {escape(listed)}")


def _print_count(console: Console, found: Sequence[TableChanges]) -> None:
    items = [item for table in found for item in table.items]
    if not items:
        console.print("[bold green]The warehouse is as the contracts say.[/]")
        return
    counts = [(sum(item.sign == sign for item in items), word) for sign, word in (("+", "add"), ("~", "change"))]
    counts.append((sum(item.sign == "-" for item in items), "remove"))
    breaking = sum(item.breaking for item in items)
    text = ", ".join(f"{count} to {word}" for count, word in counts)
    tail = f"; {breaking} would break something" if breaking else ""
    console.print(f"[bold]{text}{tail}[/]\n")


def apply(console: Console, names: Sequence[str], allow_breaking: bool) -> None:
    """Make the warehouse's tables what the contracts say.

    Args:
        names: of tables; none: all.

    Raises:
        ConfigError: there is no such table, or something would break and that isn't allowed; nothing was changed.
    """
    settings = Settings.load()
    tables = load_contracts(settings.contracts).tables
    for name in names:
        if name not in tables:
            raise ConfigError(f"no contract has a table {name!r}; {one_of(name, tables)}")
    chosen = [table for name, table in tables.items() if not names or name in names]
    warehouse = settings.warehouse()
    found = warehouse.changes(chosen)
    outcome = review(console, warehouse, found, list(tables))
    if outcome.breaking and not allow_breaking:
        broken = ", ".join(item.table.name for item in found if item.breaking)
        raise ConfigError(
            f"something would break ({broken}), so nothing was changed. Undo the change in the contract, or run"
            f" `dataops apply --allow-breaking`"
        )
    for item in found:
        item.refuse_by_hand()
    for item in found:
        if item.breaking:
            warehouse.adopt(item.table)
    warehouse.ensure(chosen)
    if any(item.items for item in found):
        anew = [item.table.name for item in found if item.rebuild]
        tail = f"; `dataops run` loads {', '.join(anew)} anew from the lake" if anew else ""
        console.print(f"[bold green]Applied[/]{tail}.")
