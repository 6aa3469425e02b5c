"""Which jobs a request means, with which assets, over which partitions, in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import dagster as dg

from dataops_platform.contracts.problems import ConfigError


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run to start: some assets of a job, over a range of partitions (first and last) or without partitions."""

    job: dg.JobDefinition
    assets: frozenset[dg.AssetKey]
    span: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Runs in the order of their data, and why jobs that were meant too are left out."""

    runs: Sequence[PlannedRun]
    notes: Sequence[str]


def span(text: str) -> tuple[str, str]:
    """First and last partition of `FROM..TO`, or of one partition.

    Raises:
        ConfigError: the text is neither.
    """
    first, dots, last = text.partition("..")
    if not first or (dots and not last):
        raise ConfigError(f"--partitions {text!r}: write FROM..TO, like 2013-01-01..2013-01-31, or one partition")
    if last and last < first:
        raise ConfigError(f"--partitions {text!r} runs backwards")
    return first, last or first


def plan(
    definitions: dg.Definitions,
    selection: Collection[dg.AssetKey] | None,
    asked: tuple[str, str] | None,
    todo: Collection[str] | None,
) -> RunPlan:
    """Runs for a selection of assets (None: all).

    Args:
        asked: first and last partition.
        todo: where no partitions are asked: those with something to do. The range from the first to the last is run;
            with a selection, and none to do, all partitions are.

    Raises:
        ConfigError: no job has the partitions asked.
    """
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    wanted: list[PlannedRun] = []
    problems: dict[str, str] = {}
    for job in sorted((j for j in repository.get_all_jobs() if not j.name.startswith("__")), key=lambda j: j.name):
        keys = set(job.asset_layer.executable_asset_keys)
        chosen = keys if selection is None else keys & set(selection)
        cut = next((d for k in chosen if (d := graph.get(k).partitions_def) is not None), None)
        covered, known = None, list[str]()
        if cut is not None:
            known = list(cut.get_partition_keys())
            if asked is not None:
                missing = [key for key in asked if key not in known]
                if missing:
                    there = f"is not one of {known[0]}..{known[-1]}" if known else "doesn't exist yet: there are none"
                    problems[job.name] = f"partition {missing[0]!r} {there}"
                    continue
                covered = asked
            else:
                found = sorted(set(known) & set(todo or ())) or (known if selection is not None else [])
                if found:
                    covered = (found[0], found[-1])
                else:  # nothing new for what is partitioned
                    chosen = {key for key in chosen if graph.get(key).partitions_def is None}
        if chosen:
            wanted += _in_chunks(repository, PlannedRun(job, frozenset(chosen), covered), known)
    if not wanted and problems:
        raise ConfigError("; ".join(dict.fromkeys(problems.values())))
    notes = [f"{name} is left out: {problem}" for name, problem in problems.items()]
    return RunPlan(_in_order(repository, wanted), notes)


def _in_chunks(repository: dg.RepositoryDefinition, run: PlannedRun, known: Sequence[str]) -> list[PlannedRun]:
    """A run, or several where its assets take on no more than some partitions at once (`maxPartitionsPerRun`).

    What has no partitions is done once: before the others, or with the last of them where it is made of theirs.
    """
    graph = repository.asset_graph
    policies = (graph.get(key).backfill_policy for key in run.assets)
    limit = min((p.max_partitions_per_run for p in policies if p and p.max_partitions_per_run), default=None)
    if run.span is None or limit is None:
        return [run]
    keys = [key for key in known if run.span[0] <= key <= run.span[1]]
    spans = [(keys[i], keys[min(i + limit, len(keys)) - 1]) for i in range(0, len(keys), limit)]
    cut = {key for key in run.assets if graph.get(key).partitions_def is not None}
    made_of_them = {key for key in run.assets - cut if _ancestors(repository, key) & cut}
    plain = run.assets - cut - made_of_them
    return [
        PlannedRun(
            run.job,
            frozenset(cut | (plain if span == spans[0] else set()) | (made_of_them if span == spans[-1] else set())),
            span,
        )
        for span in spans
    ]


def _ancestors(repository: dg.RepositoryDefinition, key: dg.AssetKey) -> set[dg.AssetKey]:
    """Everything that an asset is made of, or compared with."""
    found, left = set[dg.AssetKey](), [key]
    while left:
        new = _parents(repository, left.pop()) - found
        found |= new
        left += new
    return found


def _in_order(repository: dg.RepositoryDefinition, wanted: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs in the order of their data.

    With one job that is one run. Where a table of one job feeds an asset of another, a job is run in parts: what needs
    nothing from the others first.
    """
    every = frozenset().union(*(run.assets for run in wanted))
    parents = {key: _parents(repository, key) & every for key in every}
    left, done, ordered = list(wanted), set[dg.AssetKey](), list[PlannedRun]()
    while left:
        before, rest = len(done), []
        for run in left:
            ready = set(run.assets)
            while late := {key for key in ready if not parents[key] <= done | ready}:
                ready -= late
            if ready:
                ordered.append(PlannedRun(run.job, frozenset(ready), run.span))
                done |= ready
            if run.assets - ready:
                rest.append(PlannedRun(run.job, run.assets - ready, run.span))
        left = rest
        if len(done) == before:  # jobs that need each other: any order is as good
            ordered += left
            break
    return ordered


def _parents(repository: dg.RepositoryDefinition, key: dg.AssetKey) -> set[dg.AssetKey]:
    """What an asset is made of, and what its checks compare it with."""
    node = repository.asset_graph.get(key)
    parents = set(node.parent_keys)
    for check in node.check_keys:
        spec = repository.asset_graph.get_check_spec(check)
        parents |= {dep.asset_key for dep in spec.additional_deps}
    return parents - {key}
