"""Charts of the report, as SVG to be put into a page: colours are those of the page, whichever it has."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from dataops_platform.contracts.model import Severity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, GRID, BLOCKING, WARNING, REFERENCE, CURRENT = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
"""Stand for the page's colours while a chart is drawn."""
_VARIABLES = {
    INK: "--ink",
    GRID: "--line",
    BLOCKING: "--accent",
    WARNING: "--warn",
    REFERENCE: "--quiet",
    CURRENT: "--accent",
}


def trend(name: str, scores: Mapping[Severity, Mapping[date, float]]) -> str:
    """A line for each severity: scores from 0 to 100 over days."""
    figure = _figure(7.2, 1.7)
    axes = figure.subplots()
    for severity, colour in ((Severity.WARNING, WARNING), (Severity.ERROR, BLOCKING)):
        days = scores.get(severity, {})
        marker = "o" if len(days) == 1 else ""
        moments: Any = list(days)
        axes.plot(moments, list(days.values()), color=colour, linewidth=1.4, marker=marker, markersize=4)
    every = sorted({day for days in scores.values() for day in days})
    if len(every) == 1:
        axes.set_xlim(every[0] - timedelta(days=3), every[0] + timedelta(days=3))  # type: ignore[arg-type]
        axes.set_xticks(every, [every[0].isoformat()])  # type: ignore[arg-type]
    lowest = min((value for days in scores.values() for value in days.values()), default=100.0)
    axes.set_ylim(min(lowest, 90) - 2, 102)
    _quiet(figure)
    return _svg(figure, f"Scores of {name} by day")


def histogram(name: str, bins: Sequence[str], reference: Sequence[float], current: Sequence[float]) -> str:
    """Two bars for each bin: the share of the reference's rows, and of the partition's."""
    figure = _figure(7.2, 2.4)
    axes = figure.subplots()
    places = range(len(bins))
    axes.bar([x - 0.2 for x in places], [100 * share for share in reference], 0.38, color=REFERENCE)
    axes.bar([x + 0.2 for x in places], [100 * share for share in current], 0.38, color=CURRENT)
    shown = [label if len(label) < 18 else label[:17] + "…" for label in bins]
    axes.set_xticks(list(places), shown, rotation=30, ha="right")
    axes.set_ylabel("% of rows", color=INK, fontsize=8)
    _quiet(figure)
    return _svg(figure, f"Drift of {name}: share of rows by bin, reference and current")


def _figure(width: float, height: float) -> Figure:
    # Imported here: it takes half a second, and only the report draws. No state of pyplot: nothing is left behind.
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"  # texts stay texts: they are found, read out, and small
    matplotlib.rcParams["svg.hashsalt"] = "dataops"
    return Figure(figsize=(width, height), layout="constrained")


def _quiet(figure: Figure) -> None:
    """No frame, and marks in the page's colours."""
    for axes in figure.axes:
        axes.set_facecolor("none")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.tick_params(colors=INK, labelsize=8, length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def _svg(figure: Figure, title: str) -> str:
    """The figure as an element of a page, with a title for those who don't see it."""
    target = io.StringIO()
    figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
