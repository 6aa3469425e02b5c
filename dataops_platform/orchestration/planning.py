"""Which jobs a request means, with which assets, over which partitions, in which order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dataops_platform.contracts.partitions import listed
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
    todo: Mapping[str, Collection[str]] | None,
    loaded: Mapping[str, Collection[str]] | None = None,
) -> RunPlan:
    """Runs for a selection of assets (None: all).

    Args:
        asked: first and last partition.
        todo: where no partitions are asked: table or model → those with something to do. They are run in few ranges
            (see `ranges`); with a selection, and none to do, all partitions are.
        loaded: table → partitions that have rows. Those with nothing to do are settled: a run over them would make them
            anew.

    Raises:
        ConfigError: no job has the partitions asked.
    """
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    wanted: list[PlannedRun] = []
    problems: dict[str, str] = {}
    jobs = sorted((j for j in repository.get_all_jobs() if not j.name.startswith("__")), key=lambda j: j.name)
    names = {job.name: {key.path[-1] for key in job.asset_layer.executable_asset_keys} for job in jobs}
    for job in jobs:
        keys = set(job.asset_layer.executable_asset_keys)
        chosen = keys if selection is None else keys & set(selection)
        cut = next((d for k in chosen if (d := graph.get(k).partitions_def) is not None), None)
        spans, known = list[tuple[str, str]](), list[str]()
        if cut is not None:
            known = list(cut.get_partition_keys())
            if asked is not None:
                missing = [key for key in asked if key not in known]
                if missing:
                    problems[job.name] = f"partition {missing[0]!r} {_where(cut, known, missing[0])}"
                    continue
                spans = [asked]
            else:
                # Of its own tables and models: the first day of a month is spelled as the month is.
                others = set().union(*names.values()) - names[job.name]
                left = {key for name, found in (todo or {}).items() if name not in others for key in found}
                there = {key for name, found in (loaded or {}).items() if name not in others for key in found}
                found = set(known) & left or set(known if selection is not None else ())
                # Where a run takes on only so many, none of them is for what nothing came for.
                settled = there - left if _limit(graph, chosen) is None else set(known) - found
                spans = ranges(known, found, settled)
                if not spans:  # nothing new for what is partitioned
                    chosen = {key for key in chosen if graph.get(key).partitions_def is None}
        if chosen:
            wanted += _by_range(repository, job, chosen, spans, known)
    if not wanted and problems:
        raise ConfigError("; ".join(dict.fromkeys(problems.values())))
    notes = [f"{name} is left out: {problem}" for name, problem in problems.items()]
    return RunPlan(_in_order(repository, wanted), notes)


def _where(cut: dg.PartitionsDefinition[str], known: Sequence[str], wanted: str) -> str:
    """What is said of a partition that isn't there."""
    if isinstance(cut, dg.StaticPartitionsDefinition):
        return f"is not one of {listed(known, wanted)}"
    return f"is not one of {known[0]}..{known[-1]}" if known else "doesn't exist yet: there are none"


BRIDGED = 7
"""So many partitions in a row that nothing came for are always bridged: weekends, holidays."""


def ranges(known: Sequence[str], todo: Collection[str], settled: Collection[str]) -> list[tuple[str, str]]:
    """First and last partition of few ranges that hold all of `todo` and nothing that is settled.

    Partitions that nothing ever came for are in a range where they are no more than those with something to do before
    them there: it costs little to run over a few, and Dagster shows them as materialised then.

    Args:
        known: all partitions, in order.
    """
    found: list[tuple[str, str]] = []
    done, gap, apart = 0, 0, True
    for key in known:
        if key in todo:
            if apart or gap > max(done, BRIDGED):
                found.append((key, key))
                done = 0
            else:
                found[-1] = (found[-1][0], key)
            done, gap, apart = done + 1, 0, False
        else:
            gap += 1
            apart = apart or key in settled
    return found


def _limit(graph: AssetGraph, assets: Collection[dg.AssetKey]) -> int | None:
    """How many partitions a run of some assets takes on at most; None: any number."""
    policies = (graph.get(key).backfill_policy for key in assets)
    return min((p.max_partitions_per_run for p in policies if p and p.max_partitions_per_run), default=None)


def _by_range(
    repository: dg.RepositoryDefinition,
    job: dg.JobDefinition,
    assets: Collection[dg.AssetKey],
    spans: Sequence[tuple[str, str]],
    known: Sequence[str],
) -> list[PlannedRun]:
    """A run for each range, or several where the assets take on no more than some partitions (`maxPartitionsPerRun`).

    What has no partitions is done once: before the others, or with the last of them where it is made of theirs.
    """
    graph = repository.asset_graph
    limit = _limit(graph, assets)
    if limit is not None:
        keys = [[key for key in known if first <= key <= last] for first, last in spans]
        spans = [(k[i], k[min(i + limit, len(k)) - 1]) for k in keys for i in range(0, len(k), limit)]
    if len(spans) < 2:
        return [PlannedRun(job, frozenset(assets), spans[0] if spans else None)]
    cut = {key for key in assets if graph.get(key).partitions_def is not None}
    made_of_them = {key for key in set(assets) - cut if _ancestors(repository, key) & cut}
    plain = set(assets) - cut - made_of_them
    return [
        PlannedRun(
            job,
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
