"""`dataops run`, `demo` and `status`."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Collection, Mapping, Sequence

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dataops_platform import assets
from dataops_platform.cli.changes import follow
from dataops_platform.cli.inspect import ensure_missing
from dataops_platform.cli.land import print_landing
from dataops_platform.cli.plan import estimates, print_foreign
from dataops_platform.cli.render import print_scorecard, size
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.deliveries import Lake
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.alerting import publish_events, subjects, tell
from dataops_platform.orchestration.build import assemble, read_project
from dataops_platform.orchestration.event_log import enable_batching
from dataops_platform.orchestration.planning import PlannedRun, RunPlan, plan, span
from dataops_platform.orchestration.run_launcher import fail_dead_runs
from dataops_platform.orchestration.run_logs import install_run_logs
from dataops_platform.quality.scorecard import scorecard
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models
from dataops_platform.transformation.pending import Pending, arrived, pending
from dataops_platform.warehouse.base import NoSuchTable

REFUSED, MISCONFIGURED, UNEXPECTED = 1, 2, 3
_PROGRESS = re.compile(r"\d+ of \d+ ")
"""How a step's messages begin that say how far it is."""

MAX_ROUNDS = 3
"""How often a run over what is new looks again whether something is left."""


def run(console: Console, select: str | None, partitions: str | None) -> int:
    """Run the pipeline and print the scorecard.

    Args:
        select: assets; None: all.
        partitions: `FROM..TO` or one key; None: what is new, or, for named assets, everything.

    Returns:
        The exit code.
    """
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    settings = Settings.load()
    install_run_logs(settings.log_format)
    as_json = settings.log_format == "json"
    started = time.monotonic()
    contracts = load_contracts(settings.contracts)
    with console.status("Reading contracts and the dbt project"):
        runs.prepare_instance(settings)
        enable_batching()
        manifest, models = read_project(settings, contracts)
        definitions = assemble(settings, contracts, manifest, models, assets)
        about = subjects(contracts, models, [*(definitions.assets or ()), *(definitions.asset_checks or ())])
        selection = runs.resolve_selection(definitions, select) if select is not None else None
        todo: Mapping[str, Collection[str]] | None = None
        loaded: Mapping[str, Collection[str]] | None = None
        told: Collection[str] = ()
        if partitions is None and selection is None:
            told = follow(console, settings.warehouse(), contracts.tables.values())
            left = _left(settings, contracts, models)
            todo, loaded = left.partitions(), left.loaded
            print_foreign(console, left)
            if not left.any:
                with dg.DagsterInstance.get() as instance:  # what a run that was killed didn't come to say
                    fail_dead_runs(instance)
                    tell(instance, settings, about)
                    publish_events(instance, settings, about)
                console.print(f"[bold green]Nothing new[/] since the last run ({time.monotonic() - started:.1f} s).\n")
                _scorecard(console, settings, contracts, models)
                return 0
        elif partitions is None:
            places = settings.places(contracts.sourced.values())
            todo = arrived(contracts.sourced, Lake(settings.lake_store()), settings.project, places)
    asked = span(partitions) if partitions is not None else None
    if asked and asked[0] != asked[1] and settings.on_google_cloud:
        with console.status("Estimating by dry runs"):
            total = sum(item.bytes_read or 0 for item in estimates(settings, contracts, models, asked))
        console.print(f"About [bold]{size(total)}[/] would be read by rules and models; `dataops plan` lists them.")
    code = 0
    with dg.DagsterInstance.get() as instance:
        for _ in range(MAX_ROUNDS):
            planned = plan(definitions, selection, asked, todo, loaded)
            code = max(code, _round(console, instance, planned, as_json, told))
            if partitions is not None or selection is not None or code > REFUSED:
                break
            # What was loaded may have changed more than it was loaded for: a row that moved from one day to another
            # leaves the first one to be built anew.
            before, left = left, _left(settings, contracts, models)
            todo, loaded = left.partitions(), left.loaded
            if code:  # what is refused stays, and isn't tried again
                tried = before.partitions()
                todo = {name: new for name, keys in todo.items() if (new := set(keys) - set(tried.get(name, ())))}
            if not left.any or left == before or not todo:
                break
        console.print()
        with console.status("Telling what is new"):
            fail_dead_runs(instance)
            tell(instance, settings, about)
            publish_events(instance, settings, about)
    _scorecard(console, settings, contracts, models)
    verdict = "[bold green]All well[/]" if code == 0 else "[bold red]Not all well[/]"
    console.print(f"{verdict} after {time.monotonic() - started:.1f} s. `dataops ui` shows the run in Dagster.")
    return code


def _round(
    console: Console, instance: dg.DagsterInstance, planned: RunPlan, as_json: bool, told: Collection[str]
) -> int:
    """Execute planned runs, saying what goes wrong; the exit code.

    Args:
        as_json: whether runs log, as JSON, what is said here otherwise.
        told: warnings that were said before.
    """
    for note in planned.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    code = 0
    for number, step in enumerate(planned.runs, start=1):
        if len(planned.runs) > 1 and not console.is_terminal and not as_json:  # else the bar says it
            about = "..".join(dict.fromkeys(step.span)) if step.span else "without partitions"
            console.print(f"run {number} of {len(planned.runs)}: {step.job.name} {about}", markup=False)
        outcome, warned = _execute(console, instance, step, as_json)
        for text in [text for text in dict.fromkeys(warned) if text not in told]:
            console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)
        for failure in outcome.failures:
            console.print(f"\n[bold red]{escape(failure.step)} failed:[/] {escape(failure.message)}")
            code = max(code, UNEXPECTED if failure.unexpected else REFUSED if failure.refused else MISCONFIGURED)
        if not outcome.success and not outcome.failures:
            code = max(code, UNEXPECTED)
    return code


def status(console: Console) -> None:
    """Print the scorecard from the ledger."""
    settings = Settings.load()
    contracts = load_contracts(settings.contracts)
    _, models = read_project(settings, contracts)
    _scorecard(console, settings, contracts, models)
    print_landing(console, settings, contracts)


def _scorecard(console: Console, settings: Settings, contracts: Contracts, models: Models) -> None:
    warehouse = settings.warehouse()
    tables = contracts.sourced
    if not settings.on_google_cloud:  # there, whoever looks needn't be allowed to make tables
        ensure_missing(warehouse, tables.values())
    try:
        with warehouse.session():
            card = scorecard(warehouse, list(tables.values()), [m.name for m in models.items if not m.view])
    except NoSuchTable as error:
        raise ConfigError(f"there is no ledger yet: `dataops run` makes it ({error})") from error
    print_scorecard(console, card)


def _left(settings: Settings, contracts: Contracts, models: Models) -> Pending:
    """What there is to do."""
    warehouse = settings.warehouse()
    with warehouse.session():
        return pending(
            contracts.sourced,
            models,
            Lake(settings.lake_store()),
            warehouse,
            settings.project,
            settings.places(contracts.sourced.values()),
        )


def _execute(
    console: Console, instance: dg.DagsterInstance, planned: PlannedRun, as_json: bool
) -> tuple[runs.RunOutcome, Sequence[str]]:
    """Run with a progress bar; what came of it, and the warnings of its steps."""
    warned: list[str] = []
    job, keys, asked = planned.job, planned.assets, planned.span
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task(f"{job.name} {'..'.join(dict.fromkeys(asked)) if asked else ''}".strip(), total=None)

        def on_event(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is None and entry.level == logging.WARNING:
                warned.append(entry.user_message)
            elif event is None and _PROGRESS.match(entry.user_message):
                progress.update(task, description=f"{(entry.step_key or '').replace('__', '/')}: {entry.user_message}")
                if not console.is_terminal and not as_json:
                    console.print(progress.tasks[task].description, markup=False)
            if event is None or event.step_key is None:
                return
            if event.is_step_start:
                progress.update(task, description=event.step_key.replace("__", "/"))
            elif event.is_step_success or event.is_step_failure or event.is_step_skipped:
                progress.advance(task)

        selection = None if keys == set(job.asset_layer.executable_asset_keys) else keys
        outcome = runs.execute(
            job,
            instance,
            asked,
            selection,
            on_start=lambda total: progress.update(task, total=total),
            on_event=on_event,
            log_level="INFO" if as_json else None,  # people see what happens
        )
    return outcome, warned
