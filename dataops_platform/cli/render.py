"""The scorecard in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dataops_platform.contracts.model import Dimension, Severity
from dataops_platform.quality.scorecard import DimensionScore, Scorecard


def print_scorecard(console: Console, card: Scorecard) -> None:
    """Tables and models, then what failed, what is in quarantine, and which deliveries were refused."""
    table = Table(title="Scorecard", title_justify="left", header_style="bold", row_styles=["", "dim"])
    table.add_column("table or model", no_wrap=True)
    for name in ("parts", "read", "loaded", "quarantined", "published"):
        table.add_column(name, justify="right", no_wrap=True)
    for dimension in Dimension:
        table.add_column(str(dimension)[:12], justify="center", no_wrap=True)
    for line in card.lines:
        numbers = (line.partitions, line.read, line.loaded, line.quarantined, line.published)
        table.add_row(
            line.name,
            *("" if number is None else f"{number:,}" for number in numbers),
            *(_verdict(line.dimensions.get(dimension)) for dimension in Dimension),
        )
    console.print(table)
    console.print(
        "[dim]✓ all rules passed   ⚠ n verdicts warn   ✗ n blocking verdicts failed   n = rule × partition[/]"
    )
    if card.failed_rules:
        failed = Table(title="\nFailed rules", title_justify="left", header_style="bold")
        for name, justify in (
            ("table or model", "left"), ("rule", "left"), ("dimension", "left"), ("severity", "left"),
            ("partitions", "right"), ("rows", "right"), ("first observed", "left"), ("must", "left"),
        ):  # fmt: skip
            failed.add_column(name, justify=justify, no_wrap=name in ("rule", "table or model"))  # type: ignore[arg-type]
        for rule in card.failed_rules:
            colour = "red" if rule.severity is Severity.ERROR else "yellow"
            failed.add_row(
                rule.object_name,
                escape(rule.rule_id),
                str(rule.dimension),
                f"[{colour}]{rule.severity}[/]",
                f"{rule.partitions:,}",
                "" if rule.rows is None else f"{rule.rows:,}",
                escape(rule.example),
                escape(rule.threshold),
            )
        console.print(failed)
    if card.quarantined:
        held = Table(title="\nQuarantine", title_justify="left", header_style="bold")
        held.add_column("table")
        held.add_column("rule")
        held.add_column("rows", justify="right")
        for entry in card.quarantined:
            held.add_row(entry.table, escape(entry.rule_id), f"{entry.rows:,}")
        console.print(held)
    if card.costs:
        spent = Table(title="\nCost", title_justify="left", header_style="bold")
        for name in ("day", "table or model", "jobs", "billed", "slot time"):
            spent.add_column(name, justify="left" if name in ("day", "table or model") else "right")
        for expense in card.costs:
            cost = expense.cost
            seconds = f"{cost.slot_milliseconds / 1000:,.1f} s"
            spent.add_row(str(expense.day), expense.name, f"{cost.jobs:,}", size(cost.bytes_billed), seconds)
        console.print(spent)
    for refusal in card.refusals:
        console.print(
            f"[red]refused delivery[/] {escape(refusal['table_name'])} {escape(refusal['partition_key'])}:"
            f" {escape(refusal['reason'])}"
            f"{' (a later one of its partition is loaded)' if refusal['followed'] else ''}"
        )
    console.print()


def size(count: int) -> str:
    """Bytes as people write them; 1 GB is 2^30 bytes."""
    value, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def _verdict(score: DimensionScore | None) -> str:
    if score is None or score.verdicts == 0:
        return "[dim]·[/]"
    if score.failed:
        return f"[bold red]✗ {score.failed:,}[/]"
    if score.warned:
        return f"[yellow]⚠ {score.warned:,}[/]"
    return "[green]✓[/]"
