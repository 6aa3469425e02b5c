"""The score's formula."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.contracts.model import Dimension, Severity
from dataops_platform.quality.report import _points
from dataops_platform.quality.scorecard import DimensionScore
from dataops_platform.quality.scores import DayScore, score, trends

COUNTS = st.integers(0, 10**9).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(COUNTS)
def test_a_score_is_the_share_that_passed(counts):
    passed, total = counts
    found = score(passed, total)
    if not total:
        assert found is None
        return
    assert 0 <= found <= 100
    assert (found == 100) == (passed == total)
    assert (found == 0) == (passed == 0)


@given(COUNTS)
def test_a_score_reads_100_only_if_everything_passed(counts):
    passed, total = counts
    if total:
        assert (_points(100 * passed / total) == "100") == (passed == total)


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_a_day_weighs_its_dimensions_by_their_verdicts(counts):
    day = date(2024, 1, 1)
    given_scores = [
        DayScore("t", dimension, Severity.ERROR, day, *count)
        for dimension, count in zip(Dimension, counts, strict=False)
    ]
    expected = score(sum(s.passed for s in given_scores), sum(s.total for s in given_scores))
    found = trends(given_scores).get("t", {}).get(Severity.ERROR, {})
    assert found == ({} if expected is None else {day: expected})


def test_severities_are_scored_apart():
    both = DimensionScore(verdicts=10, failed=1, warned=3, blocking=4)
    assert (both.blocking_score, both.warning_score) == (75, 50)
    assert DimensionScore(verdicts=2, warned=2).blocking_score is None
    assert DimensionScore(verdicts=2, blocking=2).warning_score is None
