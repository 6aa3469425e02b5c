"""The project's macros and generic tests, in a small project, on both engines: what they give is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dataops_platform.contracts.model import Contract, Contracts, Source
from dataops_platform.contracts.types import Kind
from dataops_platform.identity import Identity
from dataops_platform.transformation.dbt import DbtProject, NodeResult, environment
from dataops_platform.transformation.target import DbtTarget
from dataops_platform.warehouse.duckdb import DuckDBWarehouse
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.support import daily, table

REPO = Path(__file__).parents[3]
GOOD, BAD, OUTSIDE = "2024-01-01", "2024-01-02", "2024-01-03"

EVENTS = replace(
    table(
        "events",
        {
            "day": Kind.DATE,
            "id": Kind.INTEGER,
            "kind": Kind.STRING,
            "value": Kind.INTEGER,
            "moment": Kind.TIMESTAMP,
            "minute": Kind.INTEGER,
            "number": Kind.STRING,
        },
        partitioning=daily(),
    ),
    source=Source("files", {"path": "events.csv"}),
    clustering=("kind", "id"),
)

MODELS = {
    "kinds.sql": "select 'a' as kind union all select 'b'",
    # Its rows break no test on the first day, and every test on the two others.
    "tested.sql": "select * from {{ source('staging', 'events') }}",
    "percentiles.sql": """
        select
            kind,
            {{ percentile('value', 50) }} as median,
            {{ percentile('value', 90) }} as p90,
            {{ percentile('value', 100) }} as greatest,
            {{ count_where('value > 2') }} as above
        from {{ source('staging', 'events') }}
        group by kind
    """,
    "later.sql": "select id, {{ add_minutes('moment', 'minute') }} as later from {{ source('staging', 'events') }}",
    "words.sql": """
        select
            '{{ tojson(day_partitioned_by('day')) }}' as partitioned,
            '{{ tojson(clustered_as('events')) }}' as clustered,
            '{{ tojson(clustered_as('others')) }}' as others,
            '{{ job_labels(model) }}' as model_labels,
            '{{ job_labels(none) }}' as labels
    """,
    "by_day.sql": """
        {{ config(
            materialized='incremental', incremental_strategy='replace_range', on_schema_change='fail',
            partition_by=day_partitioned_by('day'), cluster_by=clustered_as('events')
        ) }}
        select day, id, value, cast(number as int64) as number {{ env_var('MORE_COLUMNS', '') }}
        from {{ source('staging', 'events') }}
        where {{ in_partition_range('day') }}
    """,
    "models.yml": """
models:
  - name: by_day
    config: {contract: {enforced: true}, meta: {dataops: {partition_field: day}}}
    columns:
      - {name: day, data_type: date}
      - {name: id, data_type: int64}
      - {name: value, data_type: int64}
      - {name: number, data_type: int64}
  - name: tested
    config: {meta: {dataops: {partition_field: day}}}
    data_tests:
      - unique_combination: {name: t_combination, arguments: {columns: [kind, id]}}
      - expression_is_true: {name: t_expression, arguments: {expression: value < 100}}
      - expression_is_true:
          name: t_where
          arguments: {expression: value > 600}
          config: {where: value > 10}
      - share_at_least: {name: t_share, arguments: {condition: minute > 0, by: [day], min_share: 0.6}}
      - reconciles_with:
          name: t_reconciles
          arguments: {compare_to: ref('twin'), by: [day], measures: {count(*): count(*), sum(value): sum(value)}}
    columns:
      - name: id
        data_tests:
          - unique: {name: t_unique}
      - name: value
        data_tests:
          - not_null: {name: t_not_null}
          - accepted_range: {name: t_range, arguments: {min_value: 0, max_value: 99}}
          - accepted_range: {name: t_minimum, arguments: {min_value: 0}}
          - mean_in_range: {name: t_mean, arguments: {by: [day], min_value: 1, max_value: 10}}
      - name: kind
        data_tests:
          - accepted_values: {name: t_accepted, arguments: {values: [a, b]}}
          - relationships: {name: t_relationships, arguments: {to: ref('kinds'), field: kind}}
      - name: minute
        data_tests:
          - accepted_values: {name: t_accepted_numbers, arguments: {values: [1, 2, 3], quote: false}}
""",
    "twin.sql": "select day, value from {{ source('staging', 'events') }} where id < 6 or id > 10",
}

ROWS = [
    # day, id, kind, value, minute, number
    (GOOD, 1, "a", 1, 1, "11"),
    (GOOD, 2, "a", 2, 2, "12"),
    (GOOD, 3, "b", 3, 3, "13"),
    (GOOD, 4, "b", 4, 1, "14"),
    (BAD, 5, "a", 5, 1, "15"),
    (BAD, 5, "a", 500, -5, "16"),
    (BAD, 6, "c", None, None, "17"),
    (BAD, 7, "b", -7, 0, "18"),
    (OUTSIDE, 8, "z", None, -9, "19"),
    (OUTSIDE, 8, "z", 999, -9, "20"),
]
FAILING = {
    "t_combination": 2, "t_unique": 2, "t_expression": 1, "t_where": 1, "t_share": 1, "t_reconciles": 1,
    "t_not_null": 1, "t_range": 2, "t_minimum": 1, "t_mean": 1, "t_accepted": 1, "t_relationships": 1,
    "t_accepted_numbers": 2,
}  # fmt: skip
"""Failing rows, or days, of the bad day."""


class Engine:
    """The small project on one engine."""

    def __init__(self, dialect: str, folder: Path, target: DbtTarget, warehouse: Any) -> None:
        self.first: dict[str, NodeResult] = {}
        self.dialect = dialect
        self.warehouse = warehouse
        project = folder / "dbt_project"
        shutil.copytree(
            REPO / "dbt_project", project, ignore=shutil.ignore_patterns("models", "target", "logs", "generated")
        )
        (project / "tests" / "tests.yml").unlink()
        (project / "tests" / "fct_flights__aircraft_in_one_place.sql").unlink()
        settings = project / "dbt_project.yml"
        settings.write_text(settings.read_text().split("\nmodels:")[0] + "\nmodels:\n  +materialized: table\n")
        (project / "models").mkdir()
        for name, text in MODELS.items():
            (project / "models" / name).write_text(text)
        contract = Contract("contract", "events", "1.0.0", Path("events.odcs.yaml"), (EVENTS,))
        self.dbt = DbtProject(project, folder / "dbt", target, Contracts((contract,)))
        self.dbt.manifest()
        warehouse.ensure([EVENTS])

    def build(self, *select: str, days: tuple[str, str] | None = None) -> dict[str, NodeResult]:
        """Results by the node's name."""
        with environment({"DATAOPS_DBT_RUN": "Run-1"}):
            results = self.dbt.build(select, days)
        return {result.unique_id.split(".")[2]: result for result in results}

    def execute(self, sql: str) -> None:
        if self.dialect == "bigquery":
            assert self.dbt.target.client is not None
            self.dbt.target.client().query(sql).result()
        else:
            with self.warehouse.connect() as con:
                con.execute(sql)

    def fill(self, rows: Sequence[tuple]) -> None:
        """Have these rows in staging, and no others."""
        values = ", ".join(
            f"(DATE '{day}', {id_}, '{kind}', {_sql(value)}, TIMESTAMP '2024-02-29 23:59:00+00', {_sql(minute)},"
            f" '{number}', TIMESTAMP '2024-02-01 00:00:00+00', TIMESTAMP '2024-02-01 00:00:00+00', 'o', {_LOAD})"
            for day, id_, kind, value, minute, number in rows
        )
        names = ", ".join([column.name for column in EVENTS.columns] + list(_LINEAGE))
        self.execute("DELETE FROM staging.events WHERE true")
        self.execute(f"INSERT INTO staging.events ({names}) VALUES {values}")

    def rows(self, sql: str) -> list[tuple]:
        return [tuple(row.values()) for row in self.warehouse.query(sql).to_pylist()]

    def by_day(self) -> dict[str, list[tuple]]:
        """Day → (id, value, number) of the incremental model."""
        found: dict[str, list[tuple]] = {}
        for day, *rest in self.rows("SELECT day, id, value, number FROM analytics.by_day ORDER BY id, number"):
            found.setdefault(str(day), []).append(tuple(rest))
        return found


_LINEAGE = ("_created_at", "_updated_at", "_source_object", "_load_id")
_LOAD = "'00000000-0000-0000-0000-000000000000'"


def _sql(value: Any) -> str:
    return "NULL" if value is None else str(value)


@contextmanager
def opened(dialect: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    if dialect == "duckdb":
        path = folder / "warehouse.duckdb"
        yield Engine("duckdb", folder, DbtTarget.duckdb("local", path), DuckDBWarehouse(path, "1GB"))
        return
    from dataops_platform.warehouse.bigquery import BigQueryWarehouse

    server = request.getfixturevalue("bigquery_server")
    with new_project(server) as project:
        identity = Identity.load(server.env)
        target = DbtTarget.bigquery("staging", identity, project)
        yield Engine("bigquery", folder, target, BigQueryWarehouse(identity.bigquery_client(project), pause=0.05))


@pytest.fixture(scope="module")
def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """An engine by its name: made when a test asks for it first, for all of them."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(opened(name, request, tmp_path_factory.mktemp(name))))


@pytest.fixture(params=["duckdb", pytest.param("bigquery", marks=pytest.mark.cloud)])
def engine(request: pytest.FixtureRequest, engines: Callable[[str], Engine]) -> Engine:
    return engines(request.param)


@pytest.fixture
def built(engine: Engine) -> Engine:
    if not engine.first:
        engine.fill(ROWS)
        engine.first = engine.build("*")
        models = {name: r for name, r in engine.first.items() if not name.startswith("t_")}
        assert {name: (r.status, r.message) for name, r in models.items() if r.status != "success"} == {}
    return engine


def test_the_target_can_be_reached(engine):
    engine.dbt.debug()


def test_percentiles_and_counts(built):
    found = built.rows("SELECT kind, median, p90, greatest, above FROM analytics.percentiles ORDER BY kind")
    assert found == [("a", 2, 500, 500, 2), ("b", 3, 4, 4, 2), ("c", None, None, None, 0), ("z", 999, 999, 999, 1)]


def test_minutes_are_added(built):
    found = dict(built.rows("SELECT id, later FROM analytics.later WHERE id IN (1, 6, 7)"))
    found = {key: value and value.astimezone(UTC) for key, value in found.items()}
    assert found == {
        1: datetime(2024, 3, 1, tzinfo=UTC),
        6: None,
        7: datetime(2024, 2, 29, 23, 59, tzinfo=UTC),
    }


def test_layout_and_labels_in_words(built):
    ((partitioned, clustered, others, of_model, of_nothing),) = built.rows(
        "SELECT partitioned, clustered, others, model_labels, labels FROM analytics.words"
    )
    by_day = {"field": "day", "data_type": "date", "granularity": "day"}
    assert json.loads(partitioned) == (by_day if built.dialect == "bigquery" else None)
    assert (json.loads(clustered), json.loads(others)) == (["kind", "id"], None)
    labels = {"dataops_environment": built.dbt.target.name, "dataops_step": "dbt", "dataops_run": "Run-1"}
    assert json.loads(of_model) == labels | {"dataops_model": "words"}
    assert json.loads(of_nothing) == labels


NONE_FAILING = dict.fromkeys(FAILING, 0)


@pytest.mark.parametrize(
    ("engine", "day", "failing"),
    [
        ("duckdb", GOOD, NONE_FAILING),
        ("duckdb", BAD, FAILING),
        pytest.param("bigquery", GOOD, NONE_FAILING, marks=[pytest.mark.cloud, pytest.mark.long]),
        pytest.param("bigquery", BAD, FAILING, marks=pytest.mark.cloud),
    ],
    indirect=["engine"],
    ids=["duckdb-good", "duckdb-bad", "bigquery-good", "bigquery-bad"],
)
def test_generic_tests_see_their_days_only(built, day, failing):
    results = built.build(*FAILING, days=(day, day))
    assert {name: (result.failures, result.status) for name, result in results.items()} == {
        name: (count, "fail" if count else "pass") for name, count in failing.items()
    }


def test_generic_tests_without_a_range_see_everything(built):
    found = {name: built.first[name].failures for name in ("t_unique", "t_reconciles", "t_range", "t_where")}
    assert found == {"t_unique": 4, "t_reconciles": 2, "t_range": 3, "t_where": 1}


def test_a_range_is_replaced_and_the_rest_stays(built):
    """One day changes, one becomes smaller and one empty; a change outside the range isn't seen."""
    built.fill(ROWS)
    built.build("by_day")
    before = built.by_day()
    assert {day: len(rows) for day, rows in before.items()} == {GOOD: 4, BAD: 4, OUTSIDE: 2}
    changed = [
        (GOOD, 1, "a", 100, 1, "11"),
        (GOOD, 2, "a", 2, 2, "12"),
        (OUTSIDE, 9, "b", 9, 1, "99"),
    ]
    built.fill(changed)
    assert built.build("by_day", days=(GOOD, BAD))["by_day"].status == "success"
    after = built.by_day()
    assert after == {GOOD: [(1, 100, 11), (2, 2, 12)], OUTSIDE: before[OUTSIDE]}
    built.build("by_day")
    assert built.by_day() == {GOOD: after[GOOD], OUTSIDE: [(9, 9, 99)]}


VALUE, COLUMN = ("", "no number", "no number"), (", 1 as unknown", "15", "contract")


@pytest.mark.parametrize(
    ("engine", "more", "number", "says"),
    [
        ("duckdb", *VALUE),
        ("duckdb", *COLUMN),
        pytest.param("bigquery", *VALUE, marks=pytest.mark.cloud),
        pytest.param("bigquery", *COLUMN, marks=[pytest.mark.cloud, pytest.mark.long]),
    ],
    indirect=["engine"],
    ids=["duckdb-value", "duckdb-column", "bigquery-value", "bigquery-column"],
)
def test_a_failing_model_leaves_its_table_as_it_was(built, monkeypatch, more, number, says):
    built.fill(ROWS)
    built.build("by_day")
    before = built.by_day()
    built.fill([(GOOD, 1, "a", 100, 1, number)])
    monkeypatch.setenv("MORE_COLUMNS", more)
    result = built.build("by_day", days=(GOOD, GOOD))["by_day"]
    assert result.status == "error"
    assert says in result.message
    assert "\n" not in result.message
    assert built.by_day() == before
