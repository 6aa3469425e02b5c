"""The same rule, the same rows: DuckDB, BigQuery and pandera agree on every verdict and on the failing rows.

On DuckDB and BigQuery the rows are in the staging table, and the planner's statements decide. In pandera they are a
frame, in one of the forms in which such rows come to Python.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pandera.errors import SchemaErrors

from dataops_platform.contracts.model import Rule, RuleKind, Table, Threshold, Unit
from dataops_platform.quality.frame_problems import broken_rules, only_rules_broken
from dataops_platform.quality.frame_rules import columns_read
from dataops_platform.quality.pandera_schema import pandera_schema
from dataops_platform.quality.planner import plan, render_bad
from dataops_platform.warehouse.duckdb import tables
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import unique
from dataops_platform_tests.generated import Content, arrow_rows, frames, generated_table, rules

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)

Failing = dict[str, frozenset[int]]
"""Rule → ids of the rows that break it; for keys these can't be told."""
Verdicts = dict[str, tuple[float, bool]]
"""Rule → what was observed, and whether it passed."""


def verdicts(judged: Sequence[Rule], failed: Mapping[str, int], count: int) -> Verdicts:
    """What the numbers of failing rows mean."""
    found = {}
    for r in judged:
        rows = failed.get(r.id, 0)
        observed = rows if r.threshold.unit is Unit.ROWS else 100 * rows / count if count else 0
        found[r.id] = (observed, r.threshold.holds(observed))
    return found


def on_duckdb(t: Table, content: pa.Table) -> tuple[Failing, Verdicts]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA staging; CREATE SCHEMA quarantine")
        con.execute(tables.table_ddl(t)[0])
        con.register("_content", content)
        con.execute(f"INSERT INTO staging.{t.name} BY NAME SELECT * FROM _content")
        failing = {
            r.id: frozenset(
                row[0]
                for row in con.execute(f"SELECT id FROM staging.{t.name} WHERE {render_bad(t, r, 'duckdb')}").fetchall()
            )
            for r in t.rules
            if r.kind.row_level
        }
        failed: dict[str, int] = {}
        for statement in plan(t, None):
            for number, _, rows, _ in con.execute(statement.sql).fetchall():
                if number >= 0 and rows is not None:
                    failed[statement.rules[number].id] = rows
    return failing, verdicts(t.rules, failed, content.num_rows)


def in_pandera(t: Table, frame: pd.DataFrame) -> tuple[Failing, Verdicts]:
    """With thresholds, the verdicts; without, the rows as well."""
    bare = generated_table([rule_without_threshold(r) for r in t.rules])
    rows, count = broken(bare, frame), len(frame)
    ids = frame["id"].astype("int64").to_numpy()
    failing = {r.id: frozenset(ids[rows[r.id]].tolist()) if r.id in rows else frozenset() for r in bare.rules}
    found = verdicts(t.rules, {name: len(ids) for name, ids in failing.items()}, count)
    refused = set(broken(t, frame))
    assert {r.id for r in t.rules if not found[r.id][1]} == refused
    return {r.id: failing[r.id] for r in t.rules if r.kind.row_level}, found


def rule_without_threshold(r: Rule) -> Rule:
    return Rule(r.id, r.kind, r.dimension, r.severity, r.description, r.columns, r.args, Threshold(), r.scope)


def broken(t: Table, frame: pd.DataFrame) -> dict[str, Any]:
    """The rules that pandera finds broken, each with its rows."""
    try:
        pandera_schema(t).validate(frame, lazy=True)
    except SchemaErrors as found:
        errors = found
    else:
        return {}
    assert only_rules_broken(t, errors), errors
    return {b.rule.id: b.rows for b in broken_rules(t, errors)}


def compare(judged: Sequence[Rule], made: tuple[Any, pd.DataFrame]) -> None:
    content, frame = made
    t = generated_table(judged)
    wanted, found = on_duckdb(t, arrow_rows(content)), in_pandera(t, frame)
    for r in judged:
        explained = (r.kind, r.columns, r.args)
        assert found[0].get(r.id) == wanted[0].get(r.id), explained
        assert found[1][r.id] == wanted[1][r.id], explained


@settings(QUIET, max_examples=20)
@given(rules(), frames())
def test_pandera_agrees_with_duckdb(judged, made):
    compare(judged, made)


@pytest.mark.long
@settings(QUIET, max_examples=500)
@given(rules(2), frames(20))
def test_pandera_agrees_with_duckdb_long(judged, made):
    compare(judged, made)


# -- BigQuery ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cloud(gcs_server, bigquery_server, bq_ledger, cloud_env, tmp_path) -> CloudHome:
    storage = storage_client(gcs_server)
    bucket = storage.create_bucket(unique("bucket")).name
    return CloudHome(tmp_path / "cloud", storage, bucket, bigquery_client(bigquery_server, bq_ledger))


def on_bigquery(home: CloudHome, t: Table, content: pa.Table) -> tuple[Failing, Verdicts]:
    """Loaded, and judged by all rules together; one more query for the rows that break each."""
    (outcome,) = home.load(t, [home.deliver(t, content)])
    assert outcome.rows_loaded == content.num_rows
    found: Verdicts = {v.rule_id: (v.observed, v.passed) for v in home.judge(t)}
    rows = [r for r in t.rules if r.kind.row_level]
    flags = ", ".join(f"IF({render_bad(t, r, 'bigquery')}, {n}, NULL)" for n, r in enumerate(rows))
    broken = home.rows(
        f"SELECT n, ARRAY_AGG(id) AS ids FROM (SELECT id, [{flags}] AS broken FROM staging.{t.name}) AS s,"
        " UNNEST(s.broken) AS n WHERE n IS NOT NULL GROUP BY n"
    )
    failing = dict.fromkeys([r.id for r in rows], frozenset[int]())
    return failing | {rows[n].id: frozenset(ids) for n, ids in broken}, found


def of_nan(t: Table, r: Rule, content: Content) -> bool:
    """Whether a condition meets NaN. To DuckDB it is greater than any number; on BigQuery it compares with none."""
    read = columns_read(t, r) if r.kind is RuleKind.CONDITION else ()
    return any(isinstance(row[name], float) and math.isnan(row[name]) for row in content for name in read)


def compare_all(home: CloudHome, judged: Sequence[Rule], made: tuple[Content, pd.DataFrame], number: int) -> None:
    content, frame = made
    t = replace(generated_table(judged), name=f"generated_{number}")
    if not content:
        return
    rows = arrow_rows(content)
    found, wanted, framed = on_bigquery(home, t, rows), on_duckdb(t, rows), in_pandera(t, frame)
    for r in judged:
        if of_nan(t, r, content):
            continue
        explained = (r.kind, r.columns, r.args)
        assert found[0].get(r.id) == wanted[0].get(r.id) == framed[0].get(r.id), explained
        assert found[1][r.id] == wanted[1][r.id] == framed[1][r.id], explained


ONCE = settings(QUIET, phases=[Phase.generate], database=None)
"""Each example is a table of its own on a server: they are made large, and not made smaller."""


@pytest.mark.cloud
def test_bigquery_agrees(cloud):
    numbers = itertools.count()

    @settings(ONCE, max_examples=1)
    @given(rules(3), frames(40))
    def agrees(judged, made):
        compare_all(cloud, judged, made, next(numbers))

    agrees()


@pytest.mark.cloud
@pytest.mark.long
def test_bigquery_agrees_long(cloud):
    numbers = itertools.count()

    @settings(ONCE, max_examples=30)
    @given(rules(5), frames(60))
    def agrees(judged, made):
        compare_all(cloud, judged, made, next(numbers))

    agrees()
