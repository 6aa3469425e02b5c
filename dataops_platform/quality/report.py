"""The report: one HTML page, whole in itself, of what the ledger says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from dataops_platform.contracts.model import Dimension, Severity, Table
from dataops_platform.quality import charts
from dataops_platform.quality.scorecard import Scorecard, scorecard
from dataops_platform.quality.scores import day_scores, score, trends
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.names import staging

TEMPLATE = "report.html.j2"


@dataclass(frozen=True, slots=True)
class Report:
    """The page, and its headline: scores over everything, from 0 to 100; None where nothing was judged."""

    html: str
    blocking: float | None
    warning: float | None


def report(
    warehouse: Warehouse, tables: Mapping[str, Table], models: Sequence[str], title: str, now: datetime
) -> Report:
    """Make the page from the ledger, by a fixed number of queries.

    Args:
        tables: contract tables by name, in the order to show.
        models: models, in the order to show.
        title: names the deployment.
    """
    with warehouse.session():
        card = scorecard(warehouse, list(tables.values()), models)
        names = [line.name for line in card.lines]
        days = trends(day_scores(warehouse, [*(str(staging(name)) for name in tables), *models]))
    page = _environment().get_template(TEMPLATE)
    html = page.render(
        title=title,
        made_at=f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        warehouse=warehouse.url,
        contracts=sorted({(table.contract_id, table.contract_version) for table in tables.values()}),
        dimensions=list(Dimension),
        card=card,
        judged=any(line.dimensions for line in card.lines),
        trends=[(name, charts.trend(name, days[name])) for name in names if name in days],
        samples=_samples(card),
        drifts=[
            (item, charts.histogram(f"{item.object_name} {item.rule_id}", item.bins, item.reference, item.current))
            for item in card.drifts
        ],
    )
    return Report(html, *(_overall(card, severity) for severity in (Severity.ERROR, Severity.WARNING)))


def _overall(card: Scorecard, severity: Severity) -> float | None:
    scores = [item for line in card.lines for item in line.dimensions.values()]
    if severity is Severity.ERROR:
        return score(sum(s.blocking - s.failed for s in scores), sum(s.blocking for s in scores))
    return score(sum(s.verdicts - s.blocking - s.warned for s in scores), sum(s.verdicts - s.blocking for s in scores))


def _samples(card: Scorecard) -> list[tuple[str, Collection[Mapping[str, Any]]]]:
    """Rows that break rules, as they were sampled: what isn't public was masked then."""
    found = []
    for rule in card.failed_rules:
        rows = json.loads(rule.sample) if rule.sample else []
        if rows:
            found.append((f"{rule.object_name} {rule.rule_id}", rows))
    return found


def _environment() -> Any:
    # Imported here: only the report needs it.
    import jinja2

    loader = jinja2.FunctionLoader(lambda name: files(__package__).joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["count"] = lambda value: "" if value is None else f"{value:,}"
    environment.filters["points"] = _points
    return environment


def _points(value: float) -> str:
    """A score that is 100 only if everything passed."""
    return "100" if value == 100 else f"{min(value, 99.9):.1f}"
