"""The `dataops` command.

Exit codes: 0 all well, 1 data refused (by a gate, a blocking check, or unreadable), 2 usage or configuration error,
3 an error nobody expected.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from dataops_platform.contracts.problems import ConfigError, ContractErrors, DataOpsError, DataRefused
from dataops_platform.logs import install_logs, log_format
from dataops_platform.secrets import install_redaction, redact

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Data pipelines from contracts: run them, look at them.",
)
contract_app = typer.Typer(no_args_is_help=True, help="Check contracts, and show what they become.")
app.add_typer(contract_app, name="contract")
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows that broke a blocking rule: see, replay, drop them.")
app.add_typer(quarantine_app, name="quarantine")

WIDTH_WITHOUT_TERMINAL = 170
"""Columns of output to a file or a pipe: a table that is cut off is worse than a wide one."""


class RedactedConsole(Console):
    """A console that replaces secrets before it breaks lines: afterwards no piece of a long one could be recognised."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text with its markup as styles; without styles if it held a secret."""
        rendered = super().render_str(text, **options)
        clean = redact(rendered.plain)
        if clean == rendered.plain:
            return rendered
        return Text(clean, style=rendered.style, justify=rendered.justify, overflow=rendered.overflow)


out = RedactedConsole(highlight=False)
if not out.is_terminal:
    out = RedactedConsole(highlight=False, width=WIDTH_WITHOUT_TERMINAL)
err = RedactedConsole(stderr=True, highlight=False, soft_wrap=True)

Partitions = Annotated[
    str | None,
    typer.Option("--partitions", metavar="FROM..TO", help="Partitions to run, like 2013-01-01..2013-01-31, or one."),
]


@app.command()
def demo() -> None:
    """Run the whole demo: a year of New York flights, source to production. Run again, it does only what is new."""
    from dataops_platform.cli import run

    out.print("[bold]New York flights of 2013[/]: five tables, source → lake → staging → dbt → production\n")
    raise typer.Exit(run.run(out, None, None))


@app.command("run")
def run_command(
    select: Annotated[
        str | None,
        typer.Option("--select", metavar="ASSETS", help="Assets to run, like staging/flights or 'key:\"raw/*\"+'."),
    ] = None,
    partitions: Partitions = None,
) -> None:
    """Run the pipeline: what is new, or the partitions and assets that are named."""
    from dataops_platform.cli import run

    raise typer.Exit(run.run(out, select, partitions))


@app.command()
def plan(
    select: Annotated[
        str | None, typer.Option("--select", metavar="ASSETS", help="Assets, as `dataops run` takes them.")
    ] = None,
    partitions: Partitions = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only compare; fail where something breaks, rows would newly fail, or a version is too low."
        ),
    ] = False,
) -> None:
    """Show what contracts would change in the warehouse, what a run would do, and on BigQuery how much it would read.

    Nothing is run, and nothing changed.
    """
    from dataops_platform.cli import plan as planning

    raise typer.Exit(planning.show(out, select, partitions, check))


@app.command("apply")
def apply_command(
    tables: Annotated[list[str] | None, typer.Argument(metavar="TABLE…", help="Tables; by default all.")] = None,
    allow_breaking: Annotated[
        bool,
        typer.Option(
            "--allow-breaking",
            help="Also do what breaks, under a new major version: drop columns, empty tables to load them anew.",
        ),
    ] = False,
    allow_refusals: Annotated[
        bool,
        typer.Option("--allow-refusals", help="Also empty tables of which not all deliveries can be loaded anew."),
    ] = False,
) -> None:
    """Make the warehouse's tables what the contracts say: what `dataops plan` shows."""
    from dataops_platform.cli import changes

    changes.apply(out, tables or [], allow_breaking, allow_refusals)


@app.command()
def land(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Parquet or CSV files.")],
    table: Annotated[str, typer.Option("--table", metavar="TABLE", help="The table that they are for.")],
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="KEY", help="Their partition, where their names don't say it."),
    ] = None,
) -> None:
    """Deliver files by hand. The same file again is no second delivery."""
    from dataops_platform.cli import land as landing

    raise typer.Exit(landing.land(out, files, table, partition))


@app.command()
def status() -> None:
    """Show the scorecard: each table and model, its rows, its verdicts by dimension, and what failed."""
    from dataops_platform.cli import run

    run.status(out)


@app.command()
def report(
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write; default: report.html in DATAOPS_HOME.")
    ] = None,
) -> None:
    """Write the quality report: one HTML page with scores, trends, failed rules, quarantine and drift."""
    from dataops_platform.cli import report as reporting

    reporting.write(out, output)


@app.command()
def doctor() -> None:
    """Check everything that this deployment needs, in order, and say what to do about what is missing."""
    from dataops_platform.cli import doctor as checks

    raise typer.Exit(checks.doctor(out))


@app.command()
def query(sql: Annotated[str, typer.Argument(help="A SELECT over the warehouse.")]) -> None:
    """Run a query on the warehouse and print the result."""
    from dataops_platform.cli import inspect

    inspect.query(out, sql)


@app.command()
def reload(
    table: Annotated[str, typer.Argument(help="A table of the contracts.")],
    allow_refusals: Annotated[
        bool, typer.Option("--allow-refusals", help="Although not all of its deliveries can be loaded anew.")
    ] = False,
) -> None:
    """Forget what was loaded into a staging table, so that the next run loads it anew from the lake."""
    from dataops_platform.cli import inspect

    inspect.reload(out, table, allow_refusals)


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Start Dagster's UI with its daemon on this project."""
    from dataops_platform.cli import inspect

    inspect.ui(host, port)


@contract_app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Contract files or folders; by default the project's.")
    ] = None,
) -> None:
    """Check contracts; print every problem with file, line and what to do."""
    from dataops_platform.cli import inspect

    inspect.check(out, paths or [])


@contract_app.command()
def show(
    table: Annotated[str, typer.Argument(help="A table of the contracts, or a contract file.")],
    partitions: Partitions = None,
) -> None:
    """Show what a contract becomes: tables, rules, statements."""
    from dataops_platform.cli import inspect

    inspect.show(out, table, partitions)


Reason = Annotated[str | None, typer.Option("--reason", metavar="RULE", help="Only rows that break this rule.")]
Held = Annotated[str, typer.Argument(metavar="TABLE", help="A table of the contracts.")]


@quarantine_app.command("list")
def quarantine_list() -> None:
    """List what is in quarantine, by table, partition and reason."""
    from dataops_platform.cli import quarantine

    quarantine.show_all(out)


@quarantine_app.command("show")
def quarantine_show(
    table: Held,
    partitions: Partitions = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show at most.")] = 20,
) -> None:
    """Show rows in quarantine: their values, all reasons, and where they come from."""
    from dataops_platform.cli import quarantine

    quarantine.show(out, table, partitions, reason, limit)


@quarantine_app.command("replay")
def quarantine_replay(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="A table of the contracts.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of every table.")] = False,
    partitions: Partitions = None,
    reason: Reason = None,
) -> None:
    """Judge rows in quarantine again by the contract as it reads now, and load what passes."""
    from dataops_platform.cli import quarantine

    quarantine.replay(out, table, everything, partitions, reason)


@quarantine_app.command("drop")
def quarantine_drop(
    table: Held,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why; the ledger keeps it.")],
    partitions: Partitions = None,
    reason: Reason = None,
) -> None:
    """Delete rows from quarantine. The lake keeps its deliveries."""
    from dataops_platform.cli import quarantine

    quarantine.drop(out, table, partitions, reason, because)


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _disk_full(error: BaseException) -> str | None:
    """What to say when there was no room to write, for the lake's files or for Dagster's storage; None otherwise.

    Dagster and SQLAlchemy wrap the error in their own: what caused an error is looked at, too.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            return f"the disk of {cause.filename or _home()} is full: {cause.strerror}. {_MAKE_ROOM}"
        if isinstance(cause, sqlite3.OperationalError):
            text = str(cause)
            if "disk is full" in text:
                return f"the disk of {_home()} is full: {text}. {_MAKE_ROOM}"
            if "disk I/O error" in text:  # a quota, or a limit of the process, comes as this
                return f"the disk of {_home()} is full or broken: {text}. {_MAKE_ROOM}"
        cause = cause.__cause__ or cause.__context__
    return None


_MAKE_ROOM = "Nothing was half done: make room, then run the same again."


def _home() -> str:
    from dataops_platform.settings import Settings

    return f"DATAOPS_HOME {Settings.load().home}"


def main() -> None:
    """Entry point of the `dataops` command: users' errors are one message and an exit code."""
    install_redaction()
    try:
        install_logs(log_format(os.environ))
        app(standalone_mode=True)
    except ContractErrors as error:
        for problem in error.problems:
            err.print(str(problem), markup=False)
        count = len(error.problems)
        err.print(f"[bold red]{count} problem{'s' if count > 1 else ''} in contracts[/]")
        sys.exit(2)
    except DataRefused as error:
        err.print("[bold red]refused:[/]", end=" ")
        err.print(str(error), markup=False)
        sys.exit(1)
    except (ConfigError, DataOpsError) as error:
        err.print("[bold red]error:[/]", end=" ")
        err.print(str(error), markup=False)
        sys.exit(2)
    except Exception as error:
        full = _disk_full(error)
        if full is not None:
            err.print("[bold red]error:[/]", end=" ")
            err.print(full, markup=False)
            sys.exit(2)
        traceback.print_exc()
        err.print("[bold red]This is a bug in dataops:[/] please report it with the lines above.")
        sys.exit(3)
