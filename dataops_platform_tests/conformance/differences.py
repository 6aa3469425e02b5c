"""Where outcomes differ because rules mean something else here: documented in docs/conformance.md, and no failure."""

from __future__ import annotations

from dataclasses import dataclass

from dataops_platform_tests.conformance.cases import Case


@dataclass(frozen=True)
class Difference:
    """A documented difference.

    Attributes:
        expectation: what it is about.
        titles: of the tests it shows in.
        why: in words.
    """

    expectation: str
    titles: frozenset[str]
    why: str


EMPTY = "of no rows there is nothing to judge, and the rule passes; `rowCount` sees that there are none"
LAST_DIGITS = "the bound is another engine's result to the last digit; floating point differs there"
DIFFERENCES = (
    Difference(
        "expect_column_mean_to_be_between",
        frozenset({"test_empty_column_should_be_false_no_observed_value_with_which_to_compare"}),
        EMPTY,
    ),
    Difference(
        "expect_column_median_to_be_between",
        frozenset({"test_empty_column_should_be_false_no_observed_value_with_which_to_compare"}),
        EMPTY,
    ),
    Difference(
        "expect_column_stdev_to_be_between",
        frozenset(
            {
                "positive_test__exact_min_and_max_redshift",
                "positive_test__exact_min_and_max_snowflake",
                "positive_test__exact_min_and_max_sqlalchemy",
            }
        ),
        LAST_DIGITS,
    ),
    Difference(
        "expect_column_values_to_be_of_type",
        frozenset({"negative_pandas_datetime_with_timezone"}),
        "pandas has types of its own for times with and without a zone; a timestamp here is an instant",
    ),
)


def documented(case: Case) -> str | None:
    """Why a case may come out differently; None if it may not."""
    for difference in DIFFERENCES:
        if difference.expectation == case.expectation and case.title in difference.titles:
            return difference.why
    return None
