"""Expectations as rules of a contract, as a user of ours would write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dataops_platform_tests.conformance import aggregates, several_columns, tables, values
from dataops_platform_tests.conformance.columns import Typed
from dataops_platform_tests.conformance.rules import (
    Translation,
    Unsupported,
    literal,
)


def translate(expectation: str, arguments: Mapping[str, Any], table: Typed) -> Translation:
    """The expectation as rules.

    Raises:
        Unsupported: there are none that say the same.
    """
    if expectation in WITHOUT:
        raise Unsupported(WITHOUT[expectation])
    if expectation not in RULES:
        raise Unsupported("no rule of this kind")
    used = [arguments.get(name) for name in ("column", "column_A", "column_B")] + list(
        arguments.get("column_list") or ()
    )
    for name in filter(None, used):
        if name in table.without:
            raise Unsupported(f"no table can hold it: {table.without[name]}")
    made = RULES[expectation](dict(arguments), table)
    condition = arguments.get("row_condition")
    if condition and arguments.get("condition_parser") not in _PARSERS:
        raise Unsupported(f"condition_parser {arguments.get('condition_parser')!r}")
    return made if not condition else _conditional(made, str(condition), table)


WITHOUT = {
    name: reason
    for names, reason in {
        (
            "expect_column_kl_divergence_to_be_less_than",
        ): "KL divergence has no bound where a bin is empty: drift is judged by PSI or Jensen-Shannon",
        (
            "expect_column_chisquare_test_p_value_to_be_greater_than",
            "expect_column_bootstrapped_ks_test_p_value_to_be_greater_than",
            "expect_column_parameterized_distribution_ks_test_p_value_to_be_greater_than",
            "expect_column_pair_cramers_phi_value_to_be_less_than",
            "expect_column_pair_values_to_be_independent",
        ): "p-values fall with the number of rows: drift is judged by PSI or Jensen-Shannon",
        (
            "expect_column_values_to_be_increasing",
            "expect_column_values_to_be_decreasing",
        ): "rows of a table have no order",
        (
            "expect_column_values_to_be_json_parseable",
            "expect_column_values_to_match_json_schema",
        ): "JSON in texts: declare the column as an object",
        ("expect_column_values_to_be_dateutil_parseable",): "what a Python library guesses to be a date",
        ("expect_table_columns_to_match_ordered_list",): "the order of columns: they are found by name",
        (
            "expect_table_column_count_to_be_between",
            "expect_table_column_count_to_equal",
        ): "the number of columns without their names: a contract names them",
        ("unexpected_rows_expectation",): "a query over another tool's batch: written as a rule of type sql",
    }.items()
    for name in names
}
"""Expectations that the catalogue leaves out on purpose."""

RULES: Mapping[str, Callable[[dict[str, Any], Typed], Translation]] = {
    "expect_column_values_to_not_be_null": values.not_null,
    "expect_column_values_to_be_null": values.null,
    "expect_column_values_to_be_unique": values.unique,
    "expect_column_values_to_be_in_set": values.in_set,
    "expect_column_values_to_not_be_in_set": lambda a, t: values.in_set(a, t, "invalidValues"),
    "expect_column_values_to_be_between": values.between,
    "expect_column_value_lengths_to_be_between": values.lengths,
    "expect_column_value_lengths_to_equal": values.length,
    "expect_column_values_to_match_regex": values.regex,
    "expect_column_values_to_not_match_regex": values.no_regex,
    "expect_column_values_to_match_regex_list": lambda a, t: values.patterns(
        a, t, "regex_list", values.as_regex, False
    ),
    "expect_column_values_to_not_match_regex_list": lambda a, t: values.patterns(
        a, t, "regex_list", values.as_regex, True
    ),
    "expect_column_values_to_match_like_pattern": values.like,
    "expect_column_values_to_not_match_like_pattern": values.no_like,
    "expect_column_values_to_match_like_pattern_list": lambda a, t: values.patterns(
        a, t, "like_pattern_list", values.as_like, False
    ),
    "expect_column_values_to_not_match_like_pattern_list": lambda a, t: values.patterns(
        a, t, "like_pattern_list", values.as_like, True
    ),
    "expect_column_values_to_match_strftime_format": values.date_format,
    "expect_column_value_z_scores_to_be_less_than": values.z_scores,
    "expect_column_mean_to_be_between": aggregates.aggregate("avg"),
    "expect_column_median_to_be_between": aggregates.aggregate("median"),
    "expect_column_min_to_be_between": aggregates.aggregate("min"),
    "expect_column_max_to_be_between": aggregates.aggregate("max"),
    "expect_column_sum_to_be_between": aggregates.aggregate("sum"),
    "expect_column_stdev_to_be_between": aggregates.aggregate("stddev"),
    "expect_column_unique_value_count_to_be_between": aggregates.aggregate("distinct"),
    "expect_column_quantile_values_to_be_between": aggregates.quantiles,
    "expect_column_proportion_of_unique_values_to_be_between": aggregates.proportion,
    "expect_column_distinct_values_to_be_in_set": aggregates.distinct("within"),
    "expect_column_distinct_values_to_contain_set": aggregates.distinct("contains"),
    "expect_column_distinct_values_to_equal_set": aggregates.distinct("equal"),
    "expect_column_most_common_value_to_be_in_set": aggregates.most_common,
    "expect_column_pair_values_to_be_equal": several_columns.pair_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": several_columns.pair_greater,
    "expect_column_pair_values_A_to_be_greater_than_B": several_columns.pair_greater,
    "expect_column_pair_values_to_be_in_set": several_columns.pair_in_set,
    "expect_multicolumn_sum_to_equal": several_columns.sum_of_columns,
    "expect_select_column_values_to_be_unique_within_record": several_columns.within_record,
    "expect_multicolumn_values_to_be_unique": several_columns.within_record,
    "expect_compound_columns_to_be_unique": several_columns.compound,
    "expect_table_row_count_to_be_between": tables.row_count,
    "expect_table_row_count_to_equal": tables.row_count,
    "expect_table_row_count_to_equal_other_table": tables.same_count,
    "expect_column_to_exist": tables.exists,
    "expect_table_columns_to_match_set": tables.column_set,
    "expect_column_values_to_be_of_type": tables.of_type,
    "expect_column_values_to_be_in_type_list": tables.of_types,
}
"""Expectation → how it is written in a contract."""

_PARSERS = ("pandas", "great_expectations", "great_expectations__experimental__", "python", "spark", None)
_CONDITION = re.compile(r"""^\s*(?:col\(["'](\w+)["']\)|(\w+))\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*$""")


def _conditional(made: Translation, condition: str, table: Typed) -> Translation:
    """Only rows that meet a condition count: the rule's own condition and this one, in SQL.

    Raises:
        Unsupported: the condition is more than comparisons with values, or the rule isn't about rows.
    """
    terms = []
    for part in condition.split("&"):
        match = _CONDITION.match(part.strip().removeprefix("(").removesuffix(")") if "col(" not in part else part)
        column = match and (match[1] or match[2])
        if match is None or column not in table.types or made.shows is None:
            raise Unsupported(f"row_condition {condition!r}: write the rule as an SQL condition")
        try:
            value = json.loads(match[4].replace("'", '"'))
        except ValueError as error:
            raise Unsupported(f"row_condition {condition!r}: write the rule as an SQL condition") from error
        operator = {"==": "=", "!=": "<>"}.get(match[3], match[3])
        terms.append(f"{column} {operator} {literal(value, table.types[str(column)])}")
    return replace(made, where=" AND ".join(terms))
