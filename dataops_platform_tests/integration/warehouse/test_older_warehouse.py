"""A warehouse that an older version made is brought up to date, with what it holds."""

from __future__ import annotations

import pytest

from dataops_platform.contracts.model import RuleKind
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.duckdb import DuckDBWarehouse
from dataops_platform_tests.support import DAY1, Home, daily, rule, table

T = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER},
    partitioning=daily(),
    rules=[rule("id_required", RuleKind.NOT_NULL, "id")],
)


@pytest.fixture
def home(tmp_path) -> Home:
    made = Home(tmp_path)
    made.load(T, [made.deliver(T, [{"day": DAY1, "id": 1}, {"day": DAY1, "id": None}], partition=DAY1)])
    return made


def test_a_column_of_the_ledger_that_came_later(home):
    with home.warehouse.connect() as con:
        con.execute("ALTER TABLE dataops.publications RENAME COLUMN object_prefix TO object_key")
        con.execute("DROP TABLE dataops.costs")
    DuckDBWarehouse(home.warehouse.path).ensure([T])
    assert home.rows("SELECT count(object_prefix) FROM dataops.publications") == [(0,)]
    assert home.rows("SELECT count(*) FROM dataops.costs") == [(0,)]


def test_a_column_of_quarantine_that_is_called_otherwise(home):
    with home.warehouse.connect() as con:
        con.execute("ALTER TABLE quarantine.orders RENAME COLUMN _delivered_partition TO _partition")
    DuckDBWarehouse(home.warehouse.path).ensure([T])
    assert home.rows("SELECT _delivered_partition FROM quarantine.orders") == [(str(DAY1),)]
