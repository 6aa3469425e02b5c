"""Scores day by day, from the ledger; and what samples show. On both engines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from dataops_platform.contracts.model import MASK, Dimension, Operator, RuleKind, Scope, Severity, Threshold
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.scorecard import scorecard
from dataops_platform.quality.scores import day_scores, trends
from dataops_platform.warehouse.ledger import now
from dataops_platform_tests.conftest import REPO
from dataops_platform_tests.support import BLOCK, DAY1, daily, rule, table

DAYS = [DAY1 + timedelta(days=n) for n in range(3)]
WARN = Severity.WARNING
RULES = (
    rule("v_range", RuleKind.RANGE, "v", minimum=0),
    rule("v_high", RuleKind.RANGE, "v", maximum=9),
    rule("name_known", RuleKind.NOT_NULL, "name", severity=WARN, dimension=Dimension.COMPLETENESS),
    rule("many", RuleKind.ROW_COUNT, severity=WARN, scope=Scope.TABLE, threshold=Threshold(Operator.GREATER, (99,))),
)
T = table(
    "t", {"day": Kind.DATE, "v": Kind.INTEGER, "name": Kind.STRING}, partitioning=daily(), rules=RULES, bad_rows=BLOCK
)


def test_the_example_of_the_docs(engine):
    home = engine
    home.fill(T, [
        {"day": DAYS[0], "v": 1, "name": "a"}, {"day": DAYS[1], "v": -1, "name": None},
        {"day": DAYS[2], "v": 2, "name": None},
    ])  # fmt: skip
    home.judge(T)
    home.judge(T)  # of several verdicts the newest counts
    found = {(s.dimension, s.severity, s.day): (s.passed, s.total) for s in day_scores(home.warehouse, ["staging.t"])}
    assert found == {
        (Dimension.VALIDITY, Severity.ERROR, DAYS[0]): (2, 2),
        (Dimension.VALIDITY, Severity.ERROR, DAYS[1]): (1, 2),
        (Dimension.VALIDITY, Severity.ERROR, DAYS[2]): (2, 2),
        (Dimension.COMPLETENESS, WARN, DAYS[0]): (1, 1),
        (Dimension.COMPLETENESS, WARN, DAYS[1]): (0, 1),
        (Dimension.COMPLETENESS, WARN, DAYS[2]): (0, 1),
    }
    of_table = trends(day_scores(home.warehouse, ["staging.t"]))["staging.t"]
    assert of_table[Severity.ERROR] == {DAYS[0]: 100, DAYS[1]: 50, DAYS[2]: 100}
    (line,) = scorecard(home.warehouse, [T], []).lines
    page = (REPO / "docs" / "quality.md").read_text()
    validity, completeness = (line.dimensions[d] for d in (Dimension.VALIDITY, Dimension.COMPLETENESS))
    assert f"| validity | error | {validity.blocking - validity.failed} | {validity.blocking} |" in page
    assert f"| {validity.blocking_score:.1f} |" in page
    assert completeness.warning_score == pytest.approx(100 / 3)
    assert f"| completeness | warning | 1 | 3 | {completeness.warning_score:.1f} |" in page
    # One more warning of validity is about the table as a whole: it counts in the overview, and in no day's score.
    assert (validity.verdicts, validity.blocking, validity.warning_score) == (7, 6, 0)


def test_without_partitions_the_day_is_that_of_judgement(engine):
    whole = replace(T, name="w", partitioning=None, rules=RULES[:1])
    engine.fill(whole, [{"day": DAYS[0], "v": 1, "name": "a"}])
    engine.judge(whole)
    (found,) = day_scores(engine.warehouse, ["staging.w"])
    assert isinstance(found.day, date)
    assert abs((found.day - now().date()).days) <= 1
    assert (found.passed, found.total, found.score) == (1, 1, 100)


def test_nothing_was_judged(engine):
    engine.warehouse.ensure([T])
    assert day_scores(engine.warehouse, ["staging.t"]) == []
    assert day_scores(engine.warehouse, []) == []


def test_samples_hold_nothing_that_is_not_public(engine):
    columns = tuple(replace(c, classification="Confidential" if c.name == "name" else "PUBLIC") for c in T.columns)
    rules = (
        rule("name_known", RuleKind.IN_SET, "name", values=("a",), severity=WARN),
        rule("names", RuleKind.DUPLICATES, "name", "v", severity=WARN),
        rule(
            "shape", RuleKind.DRIFT, "name", severity=WARN, metric="psi", bins=2,
            first=str(DAYS[0]), last=str(DAYS[0]), threshold=Threshold(Operator.LESS, (0.1,)),
        ),
    )  # fmt: skip
    secret = replace(T, name="s", columns=columns, rules=rules)
    engine.fill(secret, [{"day": DAYS[0], "v": 7, "name": "top-secret"}] * 2)
    verdicts = {v.rule_id: v for v in engine.judge(secret)}
    assert all(
        row["name"] == MASK for rule_id in ("name_known", "names") for row in json.loads(verdicts[rule_id].sample)
    )
    assert json.loads(verdicts["name_known"].sample)[0]["day"] == str(DAYS[0])
    assert json.loads(verdicts["shape"].details)["bins"] == ["missing", "bin 1", "bin 2"]
    assert "top-secret" not in str(engine.rows("SELECT sample, details FROM dataops.verdicts"))
