"""Scores: how much of what was judged passed, by object, dimension and day.

The score is 100 × passed weight / total weight. Every verdict, one rule on one partition, weighs 1: a partition that
fails counts the same whatever its size, and whoever reads the score can count along. Blocking and warning verdicts are
scored apart. Without verdicts there is no score.

The day is that of the partition. What has no partitions is scored by the day it was judged on (UTC), by its last
verdicts of that day.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from dataops_platform.contracts.model import Dimension, Severity
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.names import LEDGER, literal


def score(passed: int, total: int) -> float | None:
    """The score of some verdicts, from 0 to 100; None without any."""
    return 100 * passed / total if total else None


@dataclass(frozen=True, slots=True)
class DayScore:
    """Verdicts of one object, dimension, severity and day."""

    object_name: str
    dimension: Dimension
    severity: Severity
    day: date
    passed: int
    total: int

    @property
    def score(self) -> float | None:
        """See `score`."""
        return score(self.passed, self.total)


def day_scores(warehouse: Warehouse, objects: Collection[str]) -> list[DayScore]:
    """The scores of some tables and models, day by day, by one query; of several verdicts the newest counts."""
    if not objects:
        return []
    whole = f"partition_key = {literal(UNPARTITIONED)}"
    judged_on = "CAST(evaluated_at AS DATE)"
    day = f"CASE WHEN {whole} THEN {judged_on} ELSE CAST(SUBSTR(partition_key, 1, 10) AS DATE) END"
    newest = (
        "ROW_NUMBER() OVER (PARTITION BY object_name, partition_key, rule_id,"
        f" CASE WHEN {whole} THEN {judged_on} END ORDER BY evaluated_at DESC, run_id DESC)"
    )
    rows = warehouse.query(
        "SELECT object_name, dimension, severity, d, by_partition, SUM(CASE WHEN passed THEN 1 ELSE 0 END) AS passed,"
        f" COUNT(*) AS total FROM (SELECT *, {day} AS d, NOT ({whole}) AS by_partition, {newest} AS n"
        f" FROM {LEDGER}.verdicts WHERE object_name IN ({', '.join(map(literal, sorted(objects)))})) AS v WHERE n = 1"
        " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 4, 2, 3"
    ).to_pylist()
    cut = {row["object_name"] for row in rows if row["by_partition"]}
    return [
        DayScore(
            row["object_name"],
            Dimension(row["dimension"]),
            Severity(row["severity"]),
            row["d"],
            int(row["passed"]),
            int(row["total"]),
        )
        for row in rows
        # What is judged of a partitioned table as a whole has no day among its partitions'.
        if row["by_partition"] or row["object_name"] not in cut
    ]


def trends(scores: Collection[DayScore]) -> Mapping[str, Mapping[Severity, Mapping[date, float]]]:
    """Object → severity → day → score over all dimensions."""
    sums: dict[tuple[str, Severity, date], tuple[int, int]] = {}
    for item in scores:
        key = (item.object_name, item.severity, item.day)
        passed, total = sums.get(key, (0, 0))
        sums[key] = passed + item.passed, total + item.total
    found: dict[str, dict[Severity, dict[date, float]]] = {}
    for (name, severity, day), (passed, total) in sorted(sums.items()):
        value = score(passed, total)
        if value is not None:
            found.setdefault(name, {}).setdefault(severity, {})[day] = value
    return found
