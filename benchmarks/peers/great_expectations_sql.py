"""Great Expectations 1: a suite over DuckDB, by SQLAlchemy."""

import enum
import logging
import os
import warnings

os.environ["GX_ANALYTICS_ENABLED"] = "false"
warnings.simplefilter("ignore")

import common
import great_expectations as gx
from great_expectations import expectations as e
from great_expectations.execution_engine import sqlalchemy_execution_engine as engine

logging.disable(logging.CRITICAL)
# It fetches rows after it has closed the connection they come from, unless the dialect is one of these: DuckDB's has none then.
Dialect = enum.Enum("Dialect", {"DUCKDB": "duckdb"}, type=str)
engine._PERSISTED_CONNECTION_DIALECTS = (*engine._PERSISTED_CONNECTION_DIALECTS, Dialect.DUCKDB)
R = common.RULES
PATH = common.load(common.FOLDER / "gx.duckdb")
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
source = context.data_sources.add_sql("duckdb", connection_string=f"duckdb:///{PATH}", create_temp_table=False)
definition = source.add_table_asset("lineitem", table_name="lineitem").add_batch_definition_whole_table("whole")


def doubled(pattern):
    """Its queries have placeholders in braces."""
    return pattern.replace("{", "{{").replace("}", "}}")


suite = context.suites.add(gx.ExpectationSuite(name="rules"))
child, parent = R["reference"]
day, days = R["fresh"]
for item in [
    *(e.ExpectColumnValuesToNotBeNull(column=name) for name in R["not_null"]),
    *(e.ExpectColumnValuesToBeBetween(column=n, min_value=a, max_value=b) for n, (a, b) in R["ranges"].items()),
    *(e.ExpectColumnValuesToBeInSet(column=name, value_set=values) for name, values in R["sets"].items()),
    # It has no regular expressions on DuckDB.
    *(
        e.UnexpectedRowsExpectation(
            unexpected_rows_query=f"SELECT {name} FROM {{batch}} WHERE NOT regexp_matches({name}, '{doubled(pattern)}')"
        )
        for name, pattern in R["patterns"].items()
    ),
    *(e.ExpectColumnValuesToBeUnique(column=name) for name in R["unique"]),
    e.ExpectCompoundColumnsToBeUnique(column_list=R["composite"]),
    e.UnexpectedRowsExpectation(
        unexpected_rows_query=f"SELECT * FROM {{batch}} WHERE {child} NOT IN (SELECT {parent} FROM suppliers)"
    ),
    e.UnexpectedRowsExpectation(
        unexpected_rows_query=f"SELECT 1 FROM (SELECT max({day}) AS d FROM {{batch}}) WHERE d < current_date - {days}"
    ),
    e.ExpectTableRowCountToBeBetween(min_value=R["rows"]),
]:
    suite.add_expectation(item)
validation = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=definition, suite=suite))


def check():
    result = validation.run(result_format="BOOLEAN_ONLY")
    wrong = [r.exception_info for r in result.results if "'raised_exception': True" in str(r.exception_info)]
    assert not wrong, wrong[:1]
    names = [
        r.expectation_config.kwargs.get("unexpected_rows_query", r.expectation_config.type) for r in result.results
    ]
    failed = [
        f"{name} {r.expectation_config.kwargs.get('column')}"
        for name, r in zip(names, result.results, strict=True)
        if not r.success
    ]
    return len(result.results), failed


common.tell(check)
