"""An extractor that has DataFrames: types are judged at extraction, rows at the load."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pandas as pd
import pytest

from dataops_platform.contracts.model import RuleKind, Source
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.ingestion.batches import write_batch
from dataops_platform.ingestion.extractor import Arrival, extract, extractor_for
from dataops_platform_tests.support import DAY1, Home, rule, table

pytestmark = pytest.mark.usefixtures("open_files")

CONTENT: dict[str, pd.DataFrame] = {}
"""What the source has by partition."""


class FramesExtractor:
    """A source that answers in DataFrames."""

    def __init__(self, options, project):
        pass

    def available(self, table, partitions):
        return [Arrival(key, datetime(2024, 2, 1, tzinfo=UTC)) for key in partitions if key in CONTENT]

    def fetch(self, table, arrivals, folder):
        for arrival in arrivals:
            yield arrival, [write_batch(table, CONTENT[arrival.partition], folder / f"{arrival.partition}.parquet")]


COLUMNS = {"day": Kind.DATE, "id": Kind.INTEGER, "price": FieldType(Kind.DECIMAL, 10, 2), "more": Kind.JSON}
T = replace(
    table("orders", COLUMNS, rules=[rule("price_range", RuleKind.RANGE, "price", minimum=0)]),
    source=Source(f"{__name__}:FramesExtractor"),
)


@pytest.fixture
def home(tmp_path) -> Home:
    CONTENT.clear()
    return Home(tmp_path / "home")


def test_a_batch_has_the_contracts_types(home, tmp_path):
    """Also where pandas has others: a day is a text, an integer a float beside nulls."""
    CONTENT["all"] = pd.DataFrame(
        {"day": ["2024-01-01", None], "id": [1.0, None], "price": ["1.5", -2], "more": [{"a": [1]}, None]}
    )
    done = extract(T, extractor_for(T, tmp_path), home.lake, ["all"])
    assert [d.schema for d in done.delivered] == [
        {"day": "date32[day]", "id": "int64", "price": "decimal128(10, 2)", "more": "string"}
    ]
    (outcome,) = home.load(T)
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (1, 1)
    assert home.rows("SELECT day, id, price, CAST(more AS VARCHAR) FROM staging.orders") == [
        (date(2024, 1, 1), 1, Decimal("1.50"), '{"a": [1]}')
    ]
    assert home.rows("SELECT price, _reasons FROM quarantine.orders") == [(Decimal("-2.00"), ["price_range"])]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"id": ["1", "x"]}, "id [type]: 1 row not of type integer: x"),
        ({"price": [1.005, 1]}, "price [type]: 1 row not of type decimal: 1.005"),
        ({"day": [DAY1, 7]}, "day [type]: 1 row not of type date: 7"),
        ({"extra": [1, 2]}, "extra: isn't a column of the contract"),
    ],
)
def test_another_type_is_refused_early(home, tmp_path, changed, says):
    good = {"day": [DAY1, DAY1], "id": [1, 2], "price": [1, -1]}
    CONTENT["all"] = pd.DataFrame(good | changed)
    done = extract(T, extractor_for(T, tmp_path), home.lake, ["all"])
    assert done.delivered == ()
    assert [found.reason for found in done.refused] == [f"orders: 1 problem in 2 rows\n  {says}"]
    assert list(home.lake.manifests("orders")) == []


def test_a_file_that_can_not_be_written(tmp_path):
    with pytest.raises(ConfigError, match="can't be written"):
        write_batch(T, pd.DataFrame({"id": [1]}), tmp_path / "nowhere" / "x.parquet")
