"""Contracts compared with the warehouse, and the warehouse made to fit: the first part of `plan`, and `apply`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.suggest import one_of
from dataops_platform.lake.deliveries import Lake
from dataops_platform.quality.verdicts import Foreseen, foresee
from dataops_platform.settings import Settings
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.changes import Change, TableChanges
from dataops_platform.warehouse.definitions import abandoned
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform.warehouse.loss import Loss, loss
from dataops_platform.warehouse.names import staging
from dataops_platform.words import counted

_COLOURS = {"+": "green", "-": "red", "~": "yellow"}


@dataclass(frozen=True, slots=True)
class Review:
    """What was found when contracts were compared with the warehouse.

    Attributes:
        blocked: whether rows that are there break a new blocking rule.
        lost: tables that are to be loaded anew, and what of them can't be.
    """

    changes: Sequence[TableChanges]
    blocked: bool
    lost: Mapping[str, Loss]

    @property
    def breaking(self) -> bool:
        """Whether something would break."""
        return any(item.breaking for item in self.changes)

    @property
    def version_refused(self) -> bool:
        """Whether `apply` refuses a contract for its version."""
        return any(item.version_refused for item in self.changes)

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against the contracts as they are."""
        return not self.breaking and not self.blocked and not any(item.version_problem for item in self.changes)


def review(
    console: Console, warehouse: Warehouse, lake: Lake, found: Sequence[TableChanges], known: Sequence[str]
) -> Review:
    """Print how contracts and the warehouse differ, and what new rules would say of the rows that are there.

    Args:
        known: all tables of the contracts.
    """
    blocked = False
    lost: dict[str, Loss] = {}
    changing = {item.table.name for item in found if not item.exists or item.differences or item.rebuild}
    for table in found:
        # Where the table is loaded anew there is nothing to judge yet, and columns may be of other types.
        others = changing - {table.table.name}
        foreseen = foresee(warehouse, table.table, table.judged, others) if table.judged and not table.rebuild else {}
        before = _failed_before(warehouse, table) if foreseen else {}
        blocked |= any(item.refuses for item in foreseen.values())
        for item in table.items:
            _print_change(console, item)
            for rule_id, said in foreseen.items():
                if item.text.startswith(f"rule {table.table.name}.{rule_id} "):
                    _print_foreseen(console, said, before.get(rule_id))
        if table.exists and table.rebuild and table.table.delivered:
            lost[table.table.name] = loss(warehouse, lake, table.table)
            _print_loss(console, table.table, lost[table.table.name])
        for name, kind in table.found:
            console.print(
                f"  · column {staging(table.table.name)}.{name} ({kind}) came with deliveries. Add it to the contract,"
                " to describe and judge it.",
                markup=False,
            )
        if table.version_problem:
            console.print(f"  [yellow]· {escape(table.version_problem)}[/]", soft_wrap=True)
    for name in abandoned(warehouse, known):
        console.print(
            f"  · table {staging(name)} is in no contract any more. It stays, with its rows, until you drop it."
        )
    _print_count(console, found)
    return Review(found, blocked, lost)


def _failed_before(warehouse: Warehouse, table: TableChanges) -> dict[str, int]:
    """Rule id → rows that failed it when it was last judged, of rules that were others before."""
    name = str(staging(table.table.name))
    known = table.applied.rules if table.applied is not None else {}
    failed: dict[str, int] = {}
    for verdicts in Ledger(warehouse).latest_verdicts([name])[name].values():
        for verdict in verdicts:
            if verdict.rule_id in known:
                failed[verdict.rule_id] = failed.get(verdict.rule_id, 0) + (verdict.failed_rows or 0)
    return failed


def _print_loss(console: Console, table: Table, found: Loss) -> None:
    fitting = f"{found.deliveries - len(found.refused):,} of " if found.refused else ""
    if found.deliveries or not found.retried:
        console.print(f"      {fitting}{counted(found.deliveries, 'delivery')} of {table.name} will be loaded anew")
    if found.retried:
        was = "was refused before, and is" if found.retried == 1 else "were refused before, and are"
        console.print(f"      {counted(found.retried, 'delivery')} of {table.name} {was} tried again")
    if found.refused:
        console.print(f"      [bold red]{escape(found.summary)}[/]", soft_wrap=True)


def _print_change(console: Console, item: Change) -> None:
    word = "[bold red]breaks:[/] " if item.breaking else ""
    why = f"\n      {word}{escape(item.consequence)}" if item.consequence else ""
    console.print(f"  [{_COLOURS[item.sign]}]{item.sign}[/] {escape(item.text)}{why}", soft_wrap=True)


def _print_foreseen(console: Console, said: Foreseen, before: int | None) -> None:
    """What a rule would say; nothing where there are no rows yet.

    Args:
        before: how many rows failed it as it was; None: it is new.
    """
    if said.untold:
        console.print(f"      {'[yellow]' if said.refuses else '[default]'}{escape(said.untold)}[/]", soft_wrap=True)
    failed = [verdict for verdict in said.verdicts if not verdict.passed]
    if not said.verdicts:
        return
    partitions = counted(len(said.verdicts), "partition")
    if not failed:
        console.print(f"      all rows that are there pass ({partitions})")
        return
    rows = sum(verdict.failed_rows or 0 for verdict in failed)
    how = "newly fail" if before is None else f"fail, where {before:,} did before,"
    what = f"{counted(rows, 'row')} that {'is' if rows == 1 else 'are'} there" if rows else "what is there"
    listed = ", ".join(verdict.partition_key for verdict in failed[:3]) + (", …" if len(failed) > 3 else "")
    console.print(f"      [yellow]{what} would {how}[/] in {len(failed):,} of {partitions}: {escape(listed)}")


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


def follow(console: Console, warehouse: Warehouse, tables: Collection[Table]) -> list[str]:
    """Make tables what the contracts say, as far as that breaks nothing; say, and return, what isn't merely new."""
    told = [line for item in warehouse.ensure(tables) for line in item.told]
    for line in told:
        console.print(f"[yellow]note:[/] {escape(line)}", soft_wrap=True)
    return told


def apply(console: Console, names: Sequence[str], allow_breaking: bool, allow_refusals: bool) -> None:
    """Make the warehouse's tables what the contracts say.

    Args:
        names: of tables; none: all.
        allow_breaking: drop columns, and empty tables that must be loaded anew.
        allow_refusals: empty tables although not all of their deliveries fit.

    Raises:
        ConfigError: there is no such table, or something would break and that isn't allowed, or not under the
            contract's version; nothing was changed.
    """
    settings = Settings.load()
    tables = load_contracts(settings.contracts).tables
    for name in names:
        if name not in tables:
            raise ConfigError(f"no contract has a table {name!r}; {one_of(name, tables)}")
    chosen = [table for name, table in tables.items() if not names or name in names]
    warehouse = settings.warehouse()
    found = warehouse.changes(chosen)
    outcome = review(console, warehouse, Lake(settings.lake_store()), found, list(tables))
    broken = [item.table.name for item in found if item.breaking]
    low = "\n".join(item.version_problem for item in found if item.version_refused)
    if broken and not allow_breaking:
        first = "write the version that is asked for, then " if low else ""
        raise ConfigError(
            f"something would break ({', '.join(broken)}), so nothing was changed. Undo the change in the contract, or"
            f" {first}run `dataops apply --allow-breaking {' '.join(broken)}`"
        )
    if low:
        raise ConfigError(f"{low}. Nothing was changed")
    lost = [f"{name}: {item.summary}" for name, item in outcome.lost.items() if item.refused]
    if lost and not allow_refusals:
        raise ConfigError(
            f"{'; '.join(lost)}. Their rows would go, so nothing was changed. Change the contract so that they fit, or,"
            " where they can go, or will be delivered again, run"
            f" `dataops apply --allow-breaking --allow-refusals {' '.join(broken)}`"
        )
    for item in found:
        item.refuse_by_hand()
    for item in found:
        if item.breaking:
            warehouse.adopt(item.table)
    warehouse.ensure(chosen)
    if any(item.items for item in found):
        anew = [item.table.name for item in found if item.rebuild and item.table.delivered]
        tail = f"; `dataops run` loads {', '.join(anew)} anew from the lake" if anew else ""
        console.print(f"[bold green]Applied[/]{tail}.")
