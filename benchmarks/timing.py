"""Timing rivals in turn, each run in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS, WARM = (1, 0) if os.environ.get("DATAOPS_BENCH_QUICK") else (3, 1)
"""Rounds that count, and before them those that don't."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians over the runs: wall seconds, and peak resident memory in megabytes."""

    seconds: float
    megabytes: float
    all_seconds: tuple[float, ...]


def _child(prepare: Callable[[Path], Any], work: Callable[[Any], None], folder: Path) -> None:
    state = prepare(folder)
    started = time.perf_counter()
    work(state)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (folder / "result.json").write_text(json.dumps([seconds, peak]))


def once(prepare: Callable[[Path], Any], work: Callable[[Any], None]) -> tuple[float, float]:
    """One run in a new process and a new folder: seconds of `work`, peak megabytes of the process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = multiprocessing.get_context("spawn").Process(target=_child, args=(prepare, work, folder))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"{work.__qualname__} failed with exit code {process.exitcode}")
        seconds, peak = json.loads((folder / "result.json").read_text())
        return seconds, peak


def rivals(
    contestants: Mapping[str, tuple[Callable[[Path], Any], Callable[[Any], None]]], runs: int = RUNS
) -> dict[str, Measured]:
    """Run all contestants in turn, `runs` times over, after a round that isn't counted."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(WARM + runs):
        for name, (prepare, work) in contestants.items():
            measured = once(prepare, work)
            if turn >= WARM:
                results[name].append(measured)
    return {
        name: Measured(
            statistics.median(seconds for seconds, _ in values),
            statistics.median(peak for _, peak in values),
            tuple(seconds for seconds, _ in values),
        )
        for name, values in results.items()
    }


def ratio(ours: Measured, theirs: Measured) -> float:
    """Median of the ratios of neighbouring runs, so that a drift of the machine's speed cancels out."""
    return statistics.median(a / b for a, b in zip(ours.all_seconds, theirs.all_seconds, strict=True))
