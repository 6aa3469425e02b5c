"""The warehouse's IO manager on BigQuery: what assets of one's own return, and what they get when they ask for it."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.orchestration.io_managers import PARTITION_FIELD, TableReference, WarehouseIOManager
from dataops_platform.orchestration.resources import Platform
from dataops_platform.settings import Settings
from dataops_platform.transformation.models import Models
from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.readme import own_table_files

pytestmark = pytest.mark.cloud
MANAGER = "warehouse_io_manager"
DAYS = dg.DailyPartitionsDefinition("2024-05-01", "2024-06-01")
VISITS = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:visits
name: visits
version: 1.0.0
status: active
schema:
  - name: visits
    properties:
      - {name: day, logicalType: date, required: true}
      - {name: n, logicalType: integer, logicalTypeOptions: {minimum: 0}}
      - {name: price, logicalType: number, physicalType: 'NUMERIC(10,2)'}
      - {name: j, logicalType: object}
"""
FRAME = pd.DataFrame({"Id": [1, 2], "customerName": ["a", None]})
KINDS = (pd.DataFrame, pa.Table, TableReference)


@pytest.fixture(scope="module")
def client(bigquery_server) -> Iterator:
    with new_project(bigquery_server) as project:
        yield bigquery_client(bigquery_server, project)


@pytest.fixture(scope="module")
def platform(gcs_server, bigquery_server, client, tmp_path_factory) -> Platform:
    """The README's own table, on Google Cloud. Nothing is written to its buckets here, so there are none."""
    project = tmp_path_factory.mktemp("shop")
    (project / "contracts").mkdir()
    (project / "contracts/orders.odcs.yaml").write_text(own_table_files()["contracts/orders.odcs.yaml"])
    (project / "contracts/visits.odcs.yaml").write_text(VISITS)
    settings = Settings.load(
        gcs_server.env
        | bigquery_server.env
        | {
            "DATAOPS_PROJECT": str(project),
            "DATAOPS_ENV": "staging",
            "DATAOPS_LAKE": "gs://no-bucket/lake",
            "DATAOPS_PRODUCTION_LAKE": "gs://no-bucket/production",
            "DATAOPS_WAREHOUSE": f"bigquery://{client.project}/US",
        }
    )
    return Platform(settings, load_contracts(settings.contracts), Models(()))


@pytest.fixture(scope="module")
def dagster() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def run(platform, dagster):
    def materialise(*assets, **arguments):
        # The instance would keep what readers return.
        resources = {MANAGER: WarehouseIOManager(platform), "io_manager": dg.mem_io_manager}
        return dg.materialize(list(assets), resources=resources, instance=dagster, **arguments)

    return materialise


def asset(name: str, value: object):
    return dg.asset(key=["own", name], io_manager_key=MANAGER)(lambda: value)


def readers(seen: dict, key: list[str], **options) -> list:
    """Assets that ask for another as each kind, and keep what they got in `seen`."""

    def reader(kind: type):
        def body(upstream):
            assert isinstance(upstream, kind)
            rows = upstream.to_arrow() if kind is TableReference else upstream
            seen[kind] = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)

        body.__annotations__ = {"upstream": kind}
        ins = {"upstream": dg.AssetIn(key=key, input_manager_key=MANAGER)}
        return dg.asset(key=["own", f"{key[-1]}_as_{kind.__name__}"], ins=ins, **options)(body)

    return [reader(kind) for kind in KINDS]


def contents(seen: dict, order: str) -> list[list[dict]]:
    return [seen[kind].sort_by(order).to_pylist() for kind in KINDS]


def test_a_frame_is_read_as_each_kind(run, client):
    """Names keep their case, in the table as in what is read."""
    seen: dict = {}
    made = asset("customers", FRAME)
    assert run(made, *readers(seen, ["own", "customers"])).success
    assert contents(seen, "Id") == [[{"Id": 1, "customerName": "a"}, {"Id": 2, "customerName": None}]] * 3
    assert [(f.name, f.field_type) for f in client.get_table("own.customers").schema] == [
        ("Id", "INTEGER"),
        ("customerName", "STRING"),
    ]


def test_a_reference_is_queried_in_the_warehouse(run):
    answers = []

    @dg.asset(key=["own", "sum"], ins={"numbers": dg.AssetIn(key=["own", "numbers"], input_manager_key=MANAGER)})
    def total(numbers: TableReference):
        answers.append(numbers.query("SELECT SUM(Id) AS total FROM {table} AS t").to_pylist())

    assert run(asset("numbers", FRAME), total).success
    assert answers == [[{"total": 3}]]


def test_partitions_are_replaced_and_read_each_alone(run, platform, client):
    @dg.asset(key=["own", "daily"], partitions_def=DAYS, io_manager_key=MANAGER, metadata={PARTITION_FIELD: "Day"})
    def daily(context: dg.AssetExecutionContext):
        day = date.fromisoformat(context.partition_key)
        return pd.DataFrame({"Day": [day, day], "N": [day.day, day.day + 10]})

    seen: dict = {}
    for key in ("2024-05-01", "2024-05-01"):
        assert run(daily, partition_key=key).success
    assert run(daily, *readers(seen, ["own", "daily"], partitions_def=DAYS), partition_key="2024-05-02").success
    second = date(2024, 5, 2)
    assert contents(seen, "N") == [[{"Day": second, "N": 2}, {"Day": second, "N": 12}]] * 3
    rows = platform.warehouse.query("SELECT N FROM own.daily ORDER BY N").to_pylist()
    assert [row["N"] for row in rows] == [1, 2, 11, 12]
    cut = client.get_table("own.daily").time_partitioning
    assert (cut.field, cut.type_) == ("Day", "DAY")


@pytest.mark.long
def test_partitions_by_name(run, client):
    colours = dg.StaticPartitionsDefinition(["red", "blue"])
    numbers = iter(range(9))

    @dg.asset(
        key=["own", "things"], partitions_def=colours, io_manager_key=MANAGER, metadata={PARTITION_FIELD: "colour"}
    )
    def things(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"colour": [context.partition_key], "n": [next(numbers)]})

    for colour in ("red", "blue", "red"):
        assert run(things, partition_key=colour).success
    rows = client.query_and_wait("SELECT colour, n FROM own.things ORDER BY n")
    assert [tuple(row) for row in rows] == [("blue", 1), ("red", 2)]
    assert client.get_table(f"{client.project}.own.things").clustering_fields == ["colour"]


def test_an_empty_frame_empties_the_table(run, client):
    seen: dict = {}
    assert run(asset("things", FRAME)).success
    assert run(asset("things", FRAME.head(0)), *readers(seen, ["own", "things"])).success
    assert contents(seen, "Id") == [[]] * 3
    assert [field.name for field in client.get_table("own.things").schema] == ["Id", "customerName"]


def existing(key: list[str], **options):
    """An asset whose table somebody else writes."""
    return dg.asset(key=key, **options)(lambda: None)


def test_staging_and_production_are_read(run, platform, client):
    """Of a contract's table only the run's partitions."""
    platform.warehouse.ensure(platform.tables.values())
    client.query_and_wait(
        "INSERT INTO staging.orders (order_id, order_date, country, amount, _created_at, _updated_at, _source_object,"
        " _load_id) SELECT d, DATE(2024, 5, d), 'FR', 1.5, CURRENT_TIMESTAMP(), CURRENT_TIMESTAMP(), 'o', 'l'"
        " FROM UNNEST([1, 2]) AS d"
    )
    client.query_and_wait("CREATE TABLE production.dim_Sizes AS SELECT 'L' AS Size")
    staged: dict = {}
    orders, cut = ["staging", "orders"], {"partitions_def": DAYS}
    assert run(existing(orders, **cut), *readers(staged, orders, **cut), partition_key="2024-05-02").success
    assert [[row["order_id"] for row in rows] for rows in contents(staged, "order_id")] == [[2]] * 3
    published: dict = {}
    sizes = ["production", "dim_Sizes"]
    assert run(existing(sizes), *readers(published, sizes)).success
    assert contents(published, "Size") == [[{"Size": "L"}]] * 3


def held(platform) -> list[tuple]:
    rows = platform.warehouse.query(
        "SELECT CAST(day AS STRING) AS day, n, price, JSON_VALUE(j, '$.a') AS a, _reasons, _source_object AS source,"
        " _delivered_partition AS part FROM quarantine.visits ORDER BY source, day, part"
    ).to_pylist()
    return [tuple(row.values()) for row in rows]


def visits(*days: date | None, sign: int = -1) -> pd.DataFrame:
    """A bad row for each day, and for those that are known a good one."""
    known = [day for day in days if day]
    bad = {
        "day": days,
        "n": [sign * day.day if day else 0 for day in days],
        "price": "1.5",
        "j": [{"a": "b"}] * len(days),
    }
    return pd.concat([pd.DataFrame(bad), pd.DataFrame({"day": known, "n": 100})])


def test_bad_rows_go_to_quarantine(run, platform, client):
    """Of a table without partitions, whether it is there already, and has other columns."""
    platform.warehouse.ensure(platform.tables.values())
    row = ("2024-05-02", -2, Decimal("1.50"), "b", ["n_range"], "own/visits", "all")
    for _ in range(2):
        assert run(asset("visits", visits(date(2024, 5, 2)))).success
        assert held(platform) == [row]
        assert platform.warehouse.query("SELECT n FROM own.visits").to_pylist() == [{"n": 100}]
    client.query_and_wait("ALTER TABLE own.visits DROP COLUMN price")
    assert run(asset("visits", visits(date(2024, 5, 3)))).success
    assert [found[1] for found in held(platform)] == [-3]
    assert platform.warehouse.query("SELECT n, price FROM own.visits").to_pylist() == [{"n": 100, "price": None}]
    assert run(asset("visits", visits(date(2024, 5, 3), sign=1))).success
    assert held(platform) == []


@pytest.mark.long
def test_quarantine_of_partitions_is_replaced_with_them(run, platform):
    platform.warehouse.ensure(platform.tables.values())

    @dg.asset(key=["daily", "visits"], partitions_def=DAYS, io_manager_key=MANAGER, metadata={PARTITION_FIELD: "day"})
    def made(context: dg.AssetExecutionContext):
        return visits(date.fromisoformat(context.partition_key), None)

    for key in ("2024-05-01", "2024-05-02", "2024-05-01"):
        assert run(made, partition_key=key).success
    price, source = Decimal("1.50"), "daily/visits"
    assert held(platform) == [
        *((None, 0, price, "b", ["outside_partition", "day_required"], source, f"2024-05-0{n}") for n in (1, 2)),
        *((f"2024-05-0{n}", -n, price, "b", ["n_range"], source, f"2024-05-0{n}") for n in (1, 2)),
    ]
    rows = platform.warehouse.query("SELECT n FROM daily.visits").to_pylist()
    assert [row["n"] for row in rows] == [100, 100]
