"""`dataops run`, `demo` and `status`."""

from __future__ import annotations

import logging
import time
import warnings

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dataops_platform import assets
from dataops_platform.cli.render import print_scorecard
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Contracts
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.deliveries import Lake
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import assemble, read_project
from dataops_platform.orchestration.event_log import enable_batching
from dataops_platform.quality.scorecard import scorecard
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models
from dataops_platform.transformation.pending import pending

REFUSED, MISCONFIGURED, UNEXPECTED = 1, 2, 3


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
    started = time.monotonic()
    contracts = load_contracts(settings.contracts)
    with console.status("Reading contracts and the dbt project"):
        runs.prepare_instance(settings)
        enable_batching()
        manifest, models = read_project(settings, contracts)
        definitions = assemble(settings, contracts, manifest, models, assets)
        selection = runs.resolve_selection(definitions, select) if select else None
        if partitions is None and selection is None:
            todo = _new(settings, contracts, models)
            if todo is None:
                console.print(f"[bold green]Nothing new[/] since the last run ({time.monotonic() - started:.1f} s).\n")
                _scorecard(console, settings, contracts, models)
                return 0
        else:
            todo = None
    plan, notes = _plan(definitions, selection, partitions, todo)
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    code = 0
    with dg.DagsterInstance.get() as instance:
        for job, keys, span in plan:
            outcome = _execute(console, job, instance, span, keys)
            for failure in outcome.failures:
                console.print(f"\n[bold red]{escape(failure.step)} failed:[/] {escape(failure.message)}")
                code = max(code, UNEXPECTED if failure.unexpected else REFUSED if failure.refused else MISCONFIGURED)
            if not outcome.success and not outcome.failures:
                code = max(code, UNEXPECTED)
    console.print()
    _scorecard(console, settings, contracts, models)
    verdict = "[bold green]All well[/]" if code == 0 else "[bold red]Not all well[/]"
    console.print(f"{verdict} after {time.monotonic() - started:.1f} s. `dataops ui` shows the run in Dagster.")
    return code


def status(console: Console) -> None:
    """Print the scorecard from the ledger."""
    settings = Settings.load()
    contracts = load_contracts(settings.contracts)
    _, models = read_project(settings, contracts)
    _scorecard(console, settings, contracts, models)


def _scorecard(console: Console, settings: Settings, contracts: Contracts, models: Models) -> None:
    warehouse = settings.warehouse()
    sourced = [table for table in contracts.tables.values() if table.source is not None]
    warehouse.ensure(sourced)
    with warehouse.session():
        card = scorecard(warehouse, [table.name for table in sourced], [m.name for m in models.items if not m.view])
    print_scorecard(console, card)


def _new(settings: Settings, contracts: Contracts, models: Models) -> set[str] | None:
    """Partitions with work left; None when there is none at all."""
    warehouse = settings.warehouse()
    warehouse.ensure(list(contracts.tables.values()))
    with warehouse.session():
        left = pending(contracts.tables, models, Lake(settings.lake_store()), warehouse, settings.project)
    return left.partitions() if left.any else None


Planned = tuple[dg.JobDefinition, set[dg.AssetKey], tuple[str, str] | None]


def _plan(
    definitions: dg.Definitions, selection: set[dg.AssetKey] | None, partitions: str | None, todo: set[str] | None
) -> tuple[list[Planned], list[str]]:
    """Which jobs to run, with which assets, over which partitions; and why others are left out."""
    first, last = _span(partitions) if partitions else (None, None)
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    wanted_by_job: list[Planned] = []
    problems: dict[str, str] = {}
    for job in sorted((j for j in repository.get_all_jobs() if not j.name.startswith("__")), key=lambda j: j.name):
        keys = set(job.asset_layer.executable_asset_keys)
        chosen = keys if selection is None else keys & selection
        cut = next((d for k in chosen if (d := graph.get(k).partitions_def) is not None), None)
        span = None
        if cut is not None:
            known = cut.get_partition_keys()
            if first is not None and last is not None:
                missing = [key for key in (first, last) if key not in known]
                if missing:
                    there = f"is not one of {known[0]}..{known[-1]}" if known else "doesn't exist yet: there are none"
                    problems[job.name] = f"partition {missing[0]!r} {there}"
                    continue
                span = (first, last)
            else:
                wanted = known if todo is None else sorted(set(known) & todo)
                if wanted:
                    span = (wanted[0], wanted[-1])
                else:  # nothing new for what is partitioned
                    chosen = {key for key in chosen if graph.get(key).partitions_def is None}
        if chosen:
            wanted_by_job.append((job, chosen, span))
    if not wanted_by_job and problems:
        raise ConfigError("; ".join(dict.fromkeys(problems.values())))
    notes = [f"{name} is left out: {problem}" for name, problem in problems.items()]
    return _in_order(repository, wanted_by_job), notes


def _in_order(repository: dg.RepositoryDefinition, wanted: list[Planned]) -> list[Planned]:
    """Runs in the order of their data.

    With one job that is one run. Where a table of one job feeds an asset of another, a job is run in parts: what needs
    nothing from the others first.
    """
    planned = set().union(*(chosen for _, chosen, _ in wanted))
    parents = {key: _parents(repository, key) & planned for key in planned}
    left, done, plan = [(job, set(chosen), span) for job, chosen, span in wanted], set[dg.AssetKey](), list[Planned]()
    while left:
        before = len(done)
        for job, chosen, span in left:
            ready = set(chosen)
            while late := {key for key in ready if not parents[key] <= done | ready}:
                ready -= late
            if ready:
                plan.append((job, ready, span))
                chosen -= ready
                done |= ready
        if len(done) == before:  # jobs that need each other: any order is as good
            plan += left
            break
        left = [item for item in left if item[1]]
    return plan


def _parents(repository: dg.RepositoryDefinition, key: dg.AssetKey) -> set[dg.AssetKey]:
    """What an asset is made of, and what its checks compare it with."""
    node = repository.asset_graph.get(key)
    parents = set(node.parent_keys)
    for check in node.check_keys:
        spec = repository.asset_graph.get_check_spec(check)
        parents |= {dep.asset_key for dep in spec.additional_deps}
    return parents - {key}


def _span(text: str) -> tuple[str, str]:
    first, dots, last = text.partition("..")
    if not first or (dots and not last):
        raise ConfigError(f"--partitions {text!r}: write FROM..TO, like 2013-01-01..2013-01-31, or one partition")
    if last and last < first:
        raise ConfigError(f"--partitions {text!r} runs backwards")
    return first, last or first


def _execute(
    console: Console,
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    span: tuple[str, str] | None,
    keys: set[dg.AssetKey],
) -> runs.RunOutcome:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task(f"{job.name} {'..'.join(dict.fromkeys(span)) if span else ''}".strip(), total=None)

        def on_event(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is None or event.step_key is None:
                return
            if event.is_step_start:
                progress.update(task, description=event.step_key.replace("__", "/"))
            elif event.is_step_success or event.is_step_failure or event.is_step_skipped:
                progress.advance(task)

        selection = None if keys == set(job.asset_layer.executable_asset_keys) else keys
        return runs.execute(
            job, instance, span, selection, on_start=lambda total: progress.update(task, total=total), on_event=on_event
        )
