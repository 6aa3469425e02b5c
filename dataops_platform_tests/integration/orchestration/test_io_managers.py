"""IO managers, as an asset of one's own uses them."""

from datetime import date
from decimal import Decimal

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.orchestration.io_managers import (
    PARTITION_FIELD,
    LakeIOManager,
    TableReference,
    WarehouseIOManager,
)
from dataops_platform.orchestration.resources import Platform
from dataops_platform.transformation.models import Models

DAYS = dg.DailyPartitionsDefinition("2024-05-01", "2024-06-01")
WAREHOUSE, LAKE = "warehouse_io_manager", "lake_io_manager"

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:prices
name: prices
version: 1.0.0
status: active
schema:
  - name: prices
    properties:
      - {name: sku, logicalType: string, primaryKey: true}
      - name: price
        logicalType: number
        physicalType: NUMERIC(10,2)
        required: true
        logicalTypeOptions: {minimum: 0}
"""


@pytest.fixture
def platform(shop, settings):
    (shop / "contracts/prices.odcs.yaml").write_text(CONTRACT)
    return Platform(settings, load_contracts(settings.contracts), Models(()))


@pytest.fixture
def run(platform):
    """Materialise assets; the values they passed on, by name."""

    def materialise(*assets, **arguments):
        resources = {WAREHOUSE: WarehouseIOManager(platform), LAKE: LakeIOManager(platform)}
        return dg.materialize(list(assets), resources=resources, **arguments)

    return materialise


def asset(name, value, *, manager=WAREHOUSE, layer="own", **options):
    @dg.asset(key=[layer, name], io_manager_key=manager, **options)
    def made():
        return value

    return made


def reading(name, kind, seen, *, manager=WAREHOUSE, layer="own", **options):
    """An asset that asks for another as `kind` and keeps what it got in `seen`."""

    def body(upstream):
        seen.append(upstream.to_arrow() if isinstance(upstream, TableReference) else upstream)

    body.__annotations__ = {"upstream": kind}
    ins = {"upstream": dg.AssetIn(key=[layer, name], input_manager_key=manager)}
    return dg.asset(key=["own", f"reader_of_{name}"], ins=ins, **options)(body)


FRAME = pd.DataFrame({"Id": [1, 2], "Name": ["a", None]})
ROWS = pa.table({"Id": [1, 2], "Name": ["a", None]})


@pytest.mark.parametrize("manager", [WAREHOUSE, LAKE])
@pytest.mark.parametrize("value", [FRAME, ROWS], ids=["pandas", "pyarrow"])
@pytest.mark.parametrize("kind", [pd.DataFrame, pa.Table])
def test_round_trip(run, manager, value, kind):
    seen = []
    assert run(asset("things", value, manager=manager), reading("things", kind, seen, manager=manager)).success
    (got,) = seen
    assert isinstance(got, kind)
    rows = got.to_pylist() if kind is pa.Table else got.where(got.notna(), None).to_dict("records")
    assert rows == [{"Id": 1, "Name": "a"}, {"Id": 2, "Name": None}]  # the columns' case is kept, too


def test_a_table_reference_is_read_in_the_warehouse(run):
    answers = []

    @dg.asset(key=["own", "total"], ins={"things": dg.AssetIn(key=["own", "things"], input_manager_key=WAREHOUSE)})
    def total(things: TableReference):
        answers.append(things.query('SELECT sum("Id") AS total FROM {table} AS t').to_pylist())
        answers.append(things.to_arrow().num_rows)

    assert run(asset("things", FRAME), total).success
    assert answers == [[{"total": 3}], 2]


def test_a_second_run_replaces_the_table(run, platform):
    assert run(asset("things", FRAME)).success
    assert run(asset("things", pd.DataFrame({"Id": [7], "Name": ["z"]}))).success
    assert platform.warehouse.query("SELECT * FROM own.things").to_pylist() == [{"Id": 7, "Name": "z"}]


def day_of(context):
    return pa.table({"day": [date.fromisoformat(context.partition_key)], "n": [int(context.partition_key[-2:])]})


@pytest.fixture
def daily():
    @dg.asset(key=["own", "daily"], partitions_def=DAYS, io_manager_key=WAREHOUSE, metadata={PARTITION_FIELD: "day"})
    def made(context: dg.AssetExecutionContext):
        return day_of(context)

    return made


def test_partitions_replace_their_own_rows(run, platform, daily):
    for key in ("2024-05-01", "2024-05-02", "2024-05-01"):
        assert run(daily, partition_key=key).success
    rows = platform.warehouse.query("SELECT CAST(day AS VARCHAR) AS day, n FROM own.daily ORDER BY 1").to_pylist()
    assert rows == [{"day": "2024-05-01", "n": 1}, {"day": "2024-05-02", "n": 2}]


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.Table, TableReference])
def test_a_partition_reads_its_own_rows(run, daily, kind):
    seen = []
    reader = reading("daily", kind, seen, partitions_def=DAYS)
    for key in ("2024-05-01", "2024-05-02"):
        assert run(daily, reader, partition_key=key).success
    assert [len(got) for got in seen] == [1, 1]


def test_partitioned_without_a_partition_field(run):
    made = asset("daily", pa.table({"day": [date(2024, 5, 1)]}), partitions_def=DAYS)
    result = run(made, partition_key="2024-05-01", raise_on_error=False)
    assert "name its date column in metadata 'partition_field'" in message(result)


def test_an_empty_frame_empties_the_table(run, platform):
    assert run(asset("things", FRAME)).success
    assert run(asset("things", FRAME.head(0))).success
    assert platform.warehouse.query("SELECT * FROM own.things").num_rows == 0


def test_decimals_are_exact(run, platform):
    seen = []
    value = pa.table({"sku": ["a"], "price": pa.array([Decimal("0.10")], pa.decimal128(10, 2))})
    assert run(asset("prices", value), reading("prices", pa.Table, seen)).success
    assert seen[0].column("price").to_pylist() == [Decimal("0.10")]
    kind = platform.warehouse.query("SELECT typeof(price) AS kind FROM own.prices").to_pylist()
    assert kind == [{"kind": "DECIMAL(10,2)"}]


@pytest.mark.parametrize("manager", [WAREHOUSE, LAKE])
def test_a_contract_guards_what_an_asset_returns(run, platform, manager):
    good = pd.DataFrame({"sku": ["a", "b"], "price": ["1.50", "2"]})
    assert run(asset("prices", good, manager=manager)).success
    for bad, word in (
        (pd.DataFrame({"sku": ["a", "b"], "price": ["1.50", "-2"]}), "price"),
        (pd.DataFrame({"sku": ["a", "a"], "price": ["1", "2"]}), "sku"),
        (pd.DataFrame({"sku": ["a"]}), "price"),
    ):
        result = run(asset("prices", bad, manager=manager), raise_on_error=False)
        text = message(result)
        assert word in text
        assert "Traceback" not in text
    if manager == WAREHOUSE:
        assert platform.warehouse.query("SELECT count(*) AS n FROM own.prices").to_pylist() == [{"n": 2}]
    else:
        assert len(list(platform.lake.store.list("assets/own/prices/"))) == 1


def test_other_values_are_refused(run):
    result = run(asset("things", [1, 2]), raise_on_error=False)
    assert message(result) == "an asset must return a pandas DataFrame or a pyarrow Table, not list"


def test_a_key_must_have_schema_and_name(run):
    @dg.asset(key=["things"], io_manager_key=WAREHOUSE)
    def made():
        return FRAME

    assert "two parts" in message(run(made, raise_on_error=False))


def test_nothing_is_written_for_none(run, platform):
    assert run(asset("things", None)).success
    assert platform.warehouse.query(
        "SELECT count(*) AS n FROM duckdb_tables() WHERE schema_name = 'own'"
    ).to_pylist() == [{"n": 0}]


def test_the_lake_keeps_every_version_and_reads_the_newest(run, platform):
    seen = []
    for number in (1, 2):
        value = pa.table({"n": [number]})
        made = asset("things", value, manager=LAKE)
        assert run(made, reading("things", pa.Table, seen, manager=LAKE)).success
    assert [got.to_pylist() for got in seen] == [[{"n": 1}], [{"n": 2}]]
    assert len(list(platform.lake.store.list("assets/own/things/all/"))) == 2


def test_partitions_in_the_lake(run):
    seen = []

    @dg.asset(key=["own", "daily"], partitions_def=DAYS, io_manager_key=LAKE)
    def made(context: dg.AssetExecutionContext):
        return day_of(context)

    reader = reading("daily", pa.Table, seen, manager=LAKE, partitions_def=DAYS)
    for key in ("2024-05-01", "2024-05-02"):
        assert run(made, reader, partition_key=key).success
    assert [got.column("n").to_pylist() for got in seen] == [[1], [2]]


def test_what_was_never_materialised_is_said(run):
    seen = []
    upstream = asset("things", FRAME, manager=LAKE)
    reader = reading("things", pa.Table, seen, manager=LAKE)
    result = run(upstream, reader, selection=[reader], raise_on_error=False)
    assert "materialise the asset first" in message(result)


def message(result):
    """The one message of a run that failed."""
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    data = failed.step_failure_data
    return data.user_failure_data.description if data.user_failure_data else data.error.to_string()
