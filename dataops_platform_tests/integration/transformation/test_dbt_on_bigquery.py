"""The demo's dbt project on BigQuery and on DuckDB, on the same deliveries: rows, tests, layout and labels.

The shorter runs of this kind are system/test_parity.py, by the command, and test_engines.py, macro by macro.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dataops_platform.transformation.build import BuildOutcome
from dataops_platform.transformation.dbt import environment
from dataops_platform_tests.integration.transformation.demo import Demo, embedded, on_google_cloud

pytestmark = [pytest.mark.cloud, pytest.mark.long]

WEEK = [f"2013-02-{day:02}" for day in range(8, 15)]
OWN = {"load_id", "loaded_at"}
"""Columns that say which load wrote a row: each warehouse has loads of its own."""


@dataclass
class Both:
    """The demo on both engines, and what became of the first build of everything."""

    bigquery: Demo
    duckdb: Demo
    first: dict[str, BuildOutcome]


@pytest.fixture(scope="module")
def both(gcs_server, bigquery_server, tmp_path_factory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    with on_google_cloud(folder / "bigquery", gcs_server, bigquery_server) as settings:
        made = Both(Demo(settings, WEEK), Demo(embedded(folder / "duckdb"), WEEK), {})
        for name in ("bigquery", "duckdb"):
            made.first[name] = getattr(made, name).build(days=None, run_id="Run-1")
        yield made


def rows(demo: Demo, model: str) -> list[str]:
    """A model's rows in an order of their own, without those columns that differ on purpose."""
    relation = demo.models[model].relation.quoted(demo.warehouse.dialect)
    found = demo.warehouse.query(f"SELECT * FROM {relation}").to_pylist()
    return sorted(repr([(k, _plain(v)) for k, v in sorted(row.items()) if k not in OWN]) for row in found)


def _plain(value):
    return value.timestamp() if hasattr(value, "timestamp") else value


def test_every_model_holds_the_same_rows(both):
    for name, outcome in both.first.items():
        bad = {r.unique_id: r.message for r in outcome.results.values() if r.status in ("error", "fail", "skipped")}
        assert bad == {}, name
    for model in both.bigquery.models.items:
        found = rows(both.bigquery, model.name)
        assert found, model.name
        assert found == rows(both.duckdb, model.name), model.name


def test_every_test_finds_the_same(both):
    found, expected = (
        {r.unique_id: (r.status, r.failures) for r in both.first[name].results.values()}
        for name in ("bigquery", "duckdb")
    )
    assert found == expected
    verdicts, wanted = (
        {(v.object_name, v.rule_id, v.partition_key): (v.passed, v.failed_rows) for v in both.first[name].verdicts}
        for name in ("bigquery", "duckdb")
    )
    assert verdicts == wanted
    builds, there = (
        {(b.model, b.partition_key): b.row_count for b in both.first[name].builds} for name in ("bigquery", "duckdb")
    )
    assert builds == there


def test_failing_rows_are_of_their_days(both):
    """Flights to airports that aren't listed: each day has its own number of them, on both engines."""
    test = "fct_flights__destination_listed"
    found, expected = (
        {v.partition_key: v.failed_rows for v in demo.build(test, run_id="Run-1").verdicts}
        for demo in (both.bigquery, both.duckdb)
    )
    assert found == expected
    assert sorted(found) == both.bigquery.days
    assert all(found.values())
    assert len(set(found.values())) > 1


def test_layout(both):
    client = both.bigquery.client
    for model in both.bigquery.models.items:
        made = client.get_table(f"analytics.{model.name}")
        if model.view:
            assert made.table_type == "VIEW"
        else:
            cut = made.time_partitioning and (made.time_partitioning.field, made.time_partitioning.type_)
            assert cut == (model.partition_field and (model.partition_field, "DAY")), model.name
    # As the contract of the table that it mirrors says.
    assert client.get_table("analytics.fct_flights").clustering_fields == list(
        both.bigquery.tables["flights"].clustering
    )


def test_every_job_is_labelled(both):
    """Jobs of dbt are those with an invocation id."""
    jobs = [job for job in both.bigquery.client.list_jobs(max_results=2000) if "dbt_invocation_id" in job.labels]
    assert len(jobs) > len(both.bigquery.models.items)
    for job in jobs:
        assert {k: v for k, v in job.labels.items() if k in ("dataops_environment", "dataops_run")} == {
            "dataops_environment": "staging",
            "dataops_run": "run-1",
        }
    models = {model.name for model in both.bigquery.models.items}
    assert {job.labels.get("dataops_model") for job in jobs} - {None} == models


def test_a_day_is_built_anew(both):
    """A day's flights change and another's vanish: a range replaces these days, in every model, and no other."""
    demo, (changed, emptied, *others) = both.bigquery, both.bigquery.days
    by_day = ("fct_flights", "mart_daily_delays", "mart_cancellations_by_weather")
    before = {model: counts(demo, model) for model in by_day}
    for one in (both.bigquery, both.duckdb):
        one.execute(f"UPDATE staging.flights SET dep_delay = 100 WHERE flight_date = '{changed}' AND dep_delay > 10")
        one.execute(f"DELETE FROM staging.flights WHERE flight_date = '{emptied}'")
        with environment({"DBT_INDIRECT_SELECTION": "empty"}):
            one.build("fct_flights", "mart_daily_delays", "mart_cancellations_by_weather", days=[changed, emptied])
    for model in by_day:
        found = counts(demo, model)
        assert emptied not in found
        assert {day: found[day] for day in others} == {day: before[model][day] for day in others}
        assert rows(both.bigquery, model) == rows(both.duckdb, model)
    late = demo.rows(
        "SELECT COUNT(*) AS n FROM analytics.fct_flights"
        f" WHERE flight_date = '{changed}' AND departure_delay_minutes BETWEEN 11 AND 99"
    )
    assert late == [(0,)]


def counts(demo: Demo, model: str) -> dict[str, int]:
    field = demo.models[model].partition_field
    found = demo.rows(f"SELECT {field} AS day, COUNT(*) AS n FROM analytics.{model} GROUP BY {field}")
    return {str(day): n for day, n in found}
