"""A nullable column that is new in the contract is added to the warehouse's tables, behind the others; rows stay."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from dataops_platform.contracts.model import Column, LoadMode, RuleKind
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform_tests.cloud import ENGINES, engine_home
from dataops_platform_tests.support import DAY1, DAY2, Home, daily, rule, table

pytestmark = pytest.mark.usefixtures("open_files")

T = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER},
    partitioning=daily(),
    mode=LoadMode.MERGE,
    key=("id",),
    rules=[rule("id_range", RuleKind.RANGE, "id", minimum=0)],
)


@pytest.fixture(params=ENGINES)
def home(request, tmp_path) -> Home:
    return engine_home(request, tmp_path)


def wider(**more: bool):
    """The table with columns more, in front of one that it has: required or not."""
    added = [Column(name, FieldType(Kind.STRING), required=required) for name, required in more.items()]
    return replace(T, columns=(T.columns[0], *added, *T.columns[1:]), contract_version="1.1.0")


def test_a_column_is_added(home):
    home.load(T, [home.deliver(T, [{"day": DAY1, "id": 1}, {"day": DAY1, "id": -1}], partition=DAY1)])
    new = wider(note=False)
    rows = [{"day": DAY2, "note": "n", "id": 2}, {"day": DAY2, "note": "bad", "id": -2}]
    (outcome,) = home.load(new, [home.deliver(new, rows, partition=DAY2)])
    assert (outcome.refused, outcome.rows_loaded, outcome.rows_quarantined) == (None, 1, 1)
    assert home.rows("SELECT id, note FROM staging.orders ORDER BY id") == [(1, None), (2, "n")]
    assert home.rows("SELECT id, note FROM quarantine.orders ORDER BY id") == [(-2, "bad"), (-1, None)]
    assert home.warehouse.changes([new])[0].items == []
    (outcome,) = home.load(new, [home.deliver(new, [{"day": DAY2, "note": "m", "id": 2}], partition=DAY2)])
    assert outcome.rows_loaded == 1
    assert home.rows("SELECT id, note FROM staging.orders ORDER BY id") == [(1, None), (2, "m")]


def test_a_required_column_is_not_added(home):
    """Rows that are there already would have none."""
    home.warehouse.ensure([T])
    with pytest.raises(ConfigError, match=r"staging\.orders has no column note \(.*--allow-breaking orders`"):
        home.warehouse.ensure([wider(note=True, other=False)])
    assert home.rows("SELECT * FROM staging.orders") == []
    with pytest.raises(ConfigError, match="note"):  # nothing was half done: not even the other one was added
        home.warehouse.ensure([wider(note=True, other=False)])


@pytest.mark.parametrize("reset", [False, True])
def test_what_was_delivered_before_lacks_the_column(home, reset):
    """It is loaded under the new contract: in the next run, or because the table is built anew. It has no value."""
    older = home.deliver(T, [{"day": DAY1, "id": 1}, {"day": DAY1, "id": -1}], partition=DAY1)
    if reset:
        home.load(T, [older])
        home.warehouse.reset(wider(note=False))
    new = wider(note=False)
    newer = home.deliver(new, [{"day": DAY2, "note": "n", "id": 2}], partition=DAY2)
    outcomes = home.load(new, [older, newer])
    assert [(o.refused, o.rows_loaded, o.rows_quarantined) for o in outcomes] == [(None, 1, 1), (None, 1, 0)]
    assert home.rows("SELECT id, note FROM staging.orders ORDER BY id") == [(1, None), (2, "n")]
    assert home.rows("SELECT id, note FROM quarantine.orders") == [(-1, None)]


def test_what_is_delivered_since_has_the_column(home):
    new = wider(note=False)
    lacking = pa.table({"day": pa.array([DAY1]), "id": pa.array([1])})
    (outcome,) = home.load(new, [home.deliver(new, lacking, partition=DAY1)])
    assert "column 'note' is missing" in outcome.refused


def test_columns_of_any_type_may_lack(home):
    older = home.deliver(T, [{"day": DAY1, "id": 1}], partition=DAY1)
    kinds = [FieldType(kind) for kind in Kind if kind is not Kind.DECIMAL]
    kinds += [FieldType(Kind.DECIMAL, 10, 2), FieldType(Kind.DECIMAL, 38, 20)]
    more = [Column(f"c{number}", kind) for number, kind in enumerate(kinds)]
    new = replace(T, columns=(*T.columns, *more), contract_version="1.1.0")
    (outcome,) = home.load(new, [older])
    assert (outcome.refused, outcome.rows_loaded) == (None, 1)
    listed = ", ".join(column.name for column in more)
    assert home.rows(f"SELECT id, {listed} FROM staging.orders") == [(1, *[None] * len(more))]


def test_quarantine_of_an_earlier_version(home):
    home.load(T, [home.deliver(T, [{"day": DAY1, "id": -1}], partition=DAY1)])
    home.by_hand("ALTER TABLE quarantine.orders DROP COLUMN _uncast")
    home.load(wider(note=False), [])
    assert home.rows("SELECT id, _uncast FROM quarantine.orders") == [(-1, None)]
