"""`dataops plan`: what contracts would change, what a run would do, and what it would be charged for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from dataops_platform import assets
from dataops_platform.cli.changes import review
from dataops_platform.cli.render import size
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts
from dataops_platform.lake.deliveries import Lake
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import assemble, read_project
from dataops_platform.orchestration.planning import RunPlan, plan, span
from dataops_platform.orchestration.resources import dbt_project
from dataops_platform.settings import Settings
from dataops_platform.transformation.estimate import Estimate, estimate
from dataops_platform.transformation.models import Models
from dataops_platform.transformation.pending import Pending, pending
from dataops_platform.words import counted


def show(console: Console, select: str | None, partitions: str | None, check: bool) -> int:
    """Print how the contracts and the warehouse differ, the runs that `dataops run` would start with the same
    arguments, the work left, and an estimate.

    Args:
        check: only compare; something that breaks, a version that is too low, or rows that newly fail are an error.

    Returns:
        The exit code.
    """
    warnings.simplefilter("ignore")
    settings = Settings.load()
    contracts = load_contracts(settings.contracts)
    asked = span(partitions) if partitions is not None else None
    warehouse = settings.warehouse()
    tables = list(contracts.tables.values())
    with console.status("Comparing the contracts with the warehouse"):
        changes = warehouse.changes(tables)
    lake = Lake(settings.lake_store())
    found = review(console, warehouse, lake, changes, [table.name for table in tables])
    if found.breaking:
        first = "write the version that is asked for, then " if found.version_refused else ""
        console.print(
            f"Runs are refused until the tables fit: {first}`dataops apply --allow-breaking`, or undo the change.",
            soft_wrap=True,
        )
    if check:  # by an identity that may only read, perhaps
        return 0 if found.fits else 1
    if found.breaking:
        return 0
    with console.status("Comparing the source, the lake and the warehouse"):
        manifest, models = read_project(settings, contracts)
        definitions = assemble(settings, contracts, manifest, models, assets)
        selection = runs.resolve_selection(definitions, select) if select is not None else None
        warehouse.ensure([])
        with warehouse.session():
            left = pending(
                contracts.sourced,
                models,
                lake,
                warehouse,
                settings.project,
                settings.places(contracts.sourced.values()),
            )
        planned = plan(definitions, selection, asked, left.partitions(), left.loaded if selection is None else None)
    print_foreign(console, left)
    if asked is None and selection is None and not left.any:
        console.print("[bold green]Nothing new[/] since the last run.")
        return 0
    _print_runs(console, planned)
    _print_pending(console, left)
    print_estimate(console, _estimates_of(settings, contracts, models, [asked] if asked else covered(planned)))
    return 0


def covered(planned: RunPlan) -> list[tuple[str, str] | None]:
    """For each way of cutting tables, the first and the last partition that is run; None where there are none.

    Of several ranges, what lies between is estimated too: what is said is read at most.
    """
    spans: dict[str, list[tuple[str, str]]] = {}
    for run in planned.runs:
        if run.span is not None:
            spans.setdefault(run.job.name, []).append(run.span)
    return [(min(first for first, _ in found), max(last for _, last in found)) for found in spans.values()] or [None]


def _estimates_of(
    settings: Settings, contracts: Contracts, models: Models, spans: Sequence[tuple[str, str] | None]
) -> list[Estimate]:
    """What is read over several spans; what has no partitions is read once."""
    found = (item for span in spans for item in estimates(settings, contracts, models, span))
    return list({(item.name, item.step): item for item in found}.values())


def estimates(
    settings: Settings, contracts: Contracts, models: Models, partitions: tuple[str, str] | None
) -> list[Estimate]:
    """What rules, models and tests would read on the project's warehouse; empty where nothing is charged for."""
    if not settings.on_google_cloud:
        return []
    dbt = dbt_project(settings, contracts) if models.items else None
    return list(estimate(contracts.sourced, models, dbt, settings.warehouse(), partitions))


def print_estimate(console: Console, found: Sequence[Estimate]) -> None:
    """Bytes by table and model, and in all."""
    if not found:
        return
    grid = Grid(title="\nWould be read", title_justify="left", header_style="bold")
    grid.add_column("table or model")
    grid.add_column("by")
    grid.add_column("bytes", justify="right")
    for item in found:
        amount = "not there yet" if item.bytes_read is None else size(item.bytes_read)
        grid.add_row(item.name, item.step, amount)
    total = sum(item.bytes_read or 0 for item in found)
    console.print(grid)
    console.print(f"About [bold]{size(total)}[/], by dry runs. Loads and exports are free, the ledger costs little.")


def _print_runs(console: Console, planned: RunPlan) -> None:
    for note in planned.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    for run in planned.runs:
        over = f" over {'..'.join(dict.fromkeys(run.span))}" if run.span else ""
        console.print(f"[bold]run[/] {run.job.name}{over}: {len(run.assets)} assets")


def print_foreign(console: Console, left: Pending) -> None:
    """Say which deliveries are passed over."""
    for table, keys in left.foreign.items():
        listed = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
        console.print(
            f"[yellow]note:[/] the lake has deliveries of {table} for {counted(len(keys), 'partition')} that the"
            f" contract doesn't have, and nothing loads them: {escape(listed)}",
            soft_wrap=True,
        )


def _print_pending(console: Console, left: Pending) -> None:
    groups = (
        ("to deliver", left.undelivered), ("to load", left.unloaded), ("to judge", left.unjudged),
        ("to build", left.unbuilt), ("to publish", left.unpublished),
    )  # fmt: skip
    grid = Grid(title="\nWork left", title_justify="left", header_style="bold")
    for name in ("", "table or model", "partitions", "first", "last"):
        grid.add_column(name, justify="right" if name == "partitions" else "left")
    for what, found in groups:
        for name, keys in found.items():
            grid.add_row(what, name, f"{len(keys):,}", keys[0], keys[-1])
    if grid.row_count:
        console.print(grid)
