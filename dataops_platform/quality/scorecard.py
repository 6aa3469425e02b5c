"""The scorecard: what the ledger says of every table and model, ready to be shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dataops_platform.contracts.model import Dimension, Severity, Table
from dataops_platform.quality.quarantine import held
from dataops_platform.quality.scores import score
from dataops_platform.warehouse.base import Cost, Warehouse
from dataops_platform.warehouse.ledger import Ledger, Verdict
from dataops_platform.warehouse.names import LEDGER, literal, staging


@dataclass(frozen=True, slots=True)
class DimensionScore:
    """Newest verdicts of one dimension of one object: how many rules, how many partitions failed them.

    `blocking` counts verdicts of severity error, `failed` those of them that failed, `warned` the failed ones of
    severity warning.
    """

    verdicts: int = 0
    failed: int = 0
    warned: int = 0
    blocking: int = 0

    @property
    def blocking_score(self) -> float | None:
        """Of the blocking rules; see `scores`."""
        return score(self.blocking - self.failed, self.blocking)

    @property
    def warning_score(self) -> float | None:
        """Of the rules that only warn."""
        total = self.verdicts - self.blocking
        return score(total - self.warned, total)


@dataclass(frozen=True, slots=True)
class FailedRule:
    """A rule with at least one failing newest verdict.

    Attributes:
        rows: None where the rule doesn't count rows.
        sample: a few of the rows that break it, as JSON, where there are such.
    """

    object_name: str
    rule_id: str
    dimension: Dimension
    severity: Severity
    partitions: int
    rows: int | None
    example: str
    threshold: str
    sample: str | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A drift rule's newest verdict on the partition that is furthest from the reference; shares of rows by bin."""

    object_name: str
    rule_id: str
    partition_key: str
    metric: str
    observed: float
    threshold: str
    passed: bool
    bins: Sequence[str]
    reference: Sequence[float]
    current: Sequence[float]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Rows in quarantine by table and reason."""

    table: str
    rule_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class Expense:
    """What a table or model cost on one day (UTC)."""

    name: str
    day: date
    cost: Cost


@dataclass(frozen=True, slots=True)
class Line:
    """One table or model of the scorecard. Counts are rows; None where the count has no meaning."""

    name: str
    partitions: int
    read: int | None
    loaded: int | None
    quarantined: int | None
    published: int | None
    dimensions: Mapping[Dimension, DimensionScore] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Everything `dataops status` shows."""

    lines: Sequence[Line]
    failed_rules: Sequence[FailedRule]
    quarantined: Sequence[Quarantined]
    refusals: Sequence[Mapping[str, Any]]
    costs: Sequence[Expense]
    drifts: Sequence[Drift] = ()


def scorecard(warehouse: Warehouse, tables: Sequence[Table], models: Sequence[str]) -> Scorecard:
    """Read the scorecard from the ledger.

    Args:
        tables: contract tables, in the order to show. Verdicts of rules that they don't have any more don't count.
        models: models, in the order to show.
    """
    ledger = Ledger(warehouse)
    names = {str(staging(table.name)): table.name for table in tables}
    verdicts = dict(ledger.latest_verdicts([*names, *models]))
    for table in tables:
        name, rules = str(staging(table.name)), {rule.id for rule in table.rules}
        verdicts[name] = {key: [v for v in found if v.rule_id in rules] for key, found in verdicts[name].items()}
    loads = _by(
        warehouse.query(
            "SELECT table_name AS name, COUNT(DISTINCT partition_key) AS partitions, SUM(rows_read) AS rows_read,"
            " SUM(rows_loaded) AS rows_loaded, SUM(rows_quarantined) AS rows_quarantined FROM ("
            f"SELECT table_name, partition_key, rows_read, rows_loaded, rows_quarantined FROM {LEDGER}.loads"
            " UNION ALL SELECT table_name, partition_key, 0, rows_loaded,"  # of a replay, rows leave quarantine
            f" 0 - rows_loaded - rows_superseded - rows_dropped FROM {LEDGER}.replays WHERE undone_at IS NULL) AS moved"
            " GROUP BY table_name"
        ).to_pylist()
    )
    published = _by(
        warehouse.query(
            "SELECT model AS name, COUNT(*) AS partitions, SUM(row_count) AS published FROM (SELECT *, ROW_NUMBER()"
            " OVER (PARTITION BY model, partition_key ORDER BY published_at DESC, publication_id DESC) AS newest"
            f" FROM {LEDGER}.publications) AS ranked WHERE newest = 1 GROUP BY model"
        ).to_pylist()
    )
    lines = []
    for name, table_name in names.items():
        row = loads.get(table_name, {})
        lines.append(
            Line(
                name,
                row.get("partitions", 0),
                int(row.get("rows_read") or 0),
                int(row.get("rows_loaded") or 0),
                int(row.get("rows_quarantined") or 0),
                None,
                _scores(verdicts[name]),
            )
        )
    builds = ledger.latest_builds(models)
    for model in models:
        row = published.get(model, {})
        rows = sum(build.row_count for build in builds[model].values())
        lines.append(
            Line(model, len(builds[model]), None, rows, None, int(row.get("published") or 0), _scores(verdicts[model]))
        )
    return Scorecard(
        lines,
        _failed(verdicts),
        _quarantined(warehouse, list(names.values())),
        _refusals(warehouse, [table.name for table in tables if table.source is not None]),
        _costs(warehouse),
        _drifts(verdicts),
    )


def _by(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


def _scores(partitions: Mapping[str, Sequence[Verdict]]) -> dict[Dimension, DimensionScore]:
    scores: dict[Dimension, DimensionScore] = {}
    for verdict in (v for group in partitions.values() for v in group):
        old = scores.get(verdict.dimension, DimensionScore())
        bad = not verdict.passed
        scores[verdict.dimension] = DimensionScore(
            old.verdicts + 1,
            old.failed + (bad and verdict.severity is Severity.ERROR),
            old.warned + (bad and verdict.severity is Severity.WARNING),
            old.blocking + (verdict.severity is Severity.ERROR),
        )
    return scores


def _failed(verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]) -> list[FailedRule]:
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for name, partitions in verdicts.items():
        for verdict in (v for group in partitions.values() for v in group):
            if not verdict.passed:
                groups.setdefault((name, verdict.rule_id), []).append(verdict)
    result = []
    for (name, rule_id), failed in sorted(groups.items()):
        first = min(failed, key=lambda v: v.partition_key)
        counts = [v.failed_rows for v in failed if v.failed_rows is not None]
        observed = "no value" if first.observed is None else f"{first.observed:g}"
        result.append(
            FailedRule(
                name,
                rule_id,
                first.dimension,
                first.severity,
                len(failed),
                sum(counts) if counts else None,
                f"{first.partition_key}: {observed}",
                first.threshold,
                next((v.sample for v in failed if v.sample), None),
            )
        )
    return result


def _drifts(verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]) -> list[Drift]:
    worst: dict[tuple[str, str], Verdict] = {}
    for name, partitions in verdicts.items():
        for verdict in (v for group in partitions.values() for v in group):
            if verdict.details is None or verdict.observed is None or '"bins"' not in verdict.details:
                continue
            other = worst.get((name, verdict.rule_id))
            if other is None or verdict.observed > (other.observed or 0):
                worst[name, verdict.rule_id] = verdict
    found = []
    for (name, rule_id), verdict in sorted(worst.items()):
        details = json.loads(verdict.details or "{}")
        found.append(
            Drift(
                name,
                rule_id,
                verdict.partition_key,
                details["metric"],
                verdict.observed or 0.0,
                verdict.threshold,
                verdict.passed,
                details["bins"],
                details["reference"],
                details["current"],
            )
        )
    return found


def _quarantined(warehouse: Warehouse, tables: Sequence[str]) -> list[Quarantined]:
    """Rows by reason, for the tables whose ledger says that there were any."""
    some = {
        row["table_name"]
        for row in warehouse.query(
            f"SELECT DISTINCT table_name FROM {LEDGER}.loads WHERE rows_quarantined > 0"
        ).to_pylist()
    }
    counts: dict[tuple[str, str], int] = {}
    for item in held(warehouse, [table for table in tables if table in some]):
        counts[item.table, item.reason] = counts.get((item.table, item.reason), 0) + item.rows
    return [Quarantined(table, reason, count) for (table, reason), count in sorted(counts.items())]


COST_DAYS = 7
"""How many days of costs the scorecard shows: the last ones with any."""


def _costs(warehouse: Warehouse) -> list[Expense]:
    """By object and day, the dearest of a day first."""
    rows = warehouse.query(
        "SELECT object_name, CAST(recorded_at AS DATE) AS spent_on, SUM(jobs) AS jobs, SUM(bytes_billed) AS billed,"
        f" SUM(slot_milliseconds) AS slots FROM {LEDGER}.costs GROUP BY 1, 2 ORDER BY 2 DESC, 4 DESC, 1"
    ).to_pylist()
    days = sorted({row["spent_on"] for row in rows}, reverse=True)[:COST_DAYS]
    return [
        Expense(row["object_name"], row["spent_on"], Cost(int(row["jobs"]), int(row["billed"]), int(row["slots"])))
        for row in rows
        if row["spent_on"] in days
    ]


def _refusals(warehouse: Warehouse, sourced: Sequence[str]) -> list[dict[str, Any]]:
    """Deliveries that were refused and have not been loaded since, newest reason each.

    And files that were left out of a delivery, while no later one of its partition is loaded; and those of a source
    that can't become one, while no later run has loaded anything for their partition. What landed says so itself.

    Returns:
        `table_name`, `partition_key`, `manifest` (or the file), `reason`; `followed`: a later delivery of its partition
        is loaded.
    """
    of_sources = ""
    if sourced:
        of_sources = (
            " UNION ALL SELECT r.table_name, r.partition_key, r.file, r.reason, FALSE FROM (SELECT *, ROW_NUMBER() OVER"
            " (PARTITION BY table_name, partition_key, REGEXP_REPLACE(file, '#[^#]*$', '') ORDER BY refused_at DESC)"
            f" AS newest FROM {LEDGER}.refusals WHERE manifest IS NULL AND file IS NOT NULL"
            f" AND table_name IN ({', '.join(map(literal, sourced))})) AS r WHERE r.newest = 1 AND NOT EXISTS"
            f" (SELECT 1 FROM {LEDGER}.loads AS o WHERE o.table_name = r.table_name"
            " AND o.partition_key = r.partition_key AND o.loaded_at > r.refused_at AND o.run_id <> r.run_id)"
        )
    rows: list[dict[str, Any]] = warehouse.query(
        "SELECT r.table_name, r.partition_key, r.manifest, r.reason, COALESCE(r.manifest < n.newest_load, FALSE)"
        " AS followed FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY manifest"
        f" ORDER BY refused_at DESC) AS newest FROM {LEDGER}.refusals WHERE manifest IS NOT NULL AND file IS NULL) AS r"
        f" LEFT JOIN (SELECT table_name, partition_key, MAX(manifest) AS newest_load FROM {LEDGER}.loads"
        " GROUP BY table_name, partition_key) AS n ON n.table_name = r.table_name AND n.partition_key = r.partition_key"
        f" WHERE r.newest = 1 AND r.manifest NOT IN (SELECT manifest FROM {LEDGER}.loads)"
        " UNION ALL SELECT r.table_name, r.partition_key, r.file, r.reason, FALSE FROM (SELECT *, ROW_NUMBER() OVER"
        f" (PARTITION BY manifest, file ORDER BY refused_at DESC) AS newest FROM {LEDGER}.refusals"
        " WHERE manifest IS NOT NULL AND file IS NOT NULL) AS r"
        f" JOIN {LEDGER}.loads AS l ON l.manifest = r.manifest WHERE r.newest = 1 AND NOT EXISTS"
        f" (SELECT 1 FROM {LEDGER}.loads AS o WHERE o.table_name = l.table_name"
        f" AND o.partition_key = l.partition_key AND o.created_at > l.created_at){of_sources}"
        " ORDER BY table_name, partition_key"
    ).to_pylist()
    return rows
