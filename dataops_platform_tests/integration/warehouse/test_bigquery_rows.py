"""Small results and exports on BigQuery: explicit schemas, whole or not at all, nothing through the worker."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.lake.gcs import GcsStore
from dataops_platform.warehouse.base import EMPTY, ModelSlice, ModelVersion, Window
from dataops_platform.warehouse.bigquery import BigQueryWarehouse
from dataops_platform.warehouse.bigquery import warehouse as warehouse_module
from dataops_platform.warehouse.bigquery.rows import schema_of
from dataops_platform.warehouse.ledger import schema as ledger_schema
from dataops_platform.warehouse.names import Relation
from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.emulators.fixtures import ledger_project, unique

pytestmark = pytest.mark.cloud
DAY = Window("Day", datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC))


@pytest.fixture(scope="module")
def warehouse(gcs_server, bigquery_server):
    with pytest.MonkeyPatch.context() as patch, ledger_project(bigquery_server) as project:
        for name, value in (gcs_server.env | bigquery_server.env).items():
            patch.setenv(name, value)
        made = BigQueryWarehouse(bigquery_client(bigquery_server, project), pause=0.05)
        made.ensure([])
        yield made


@pytest.fixture
def store(gcs_client, bucket) -> GcsStore:
    return GcsStore(gcs_client, bucket, "lake")


@pytest.fixture
def relation() -> Relation:
    return Relation("own", unique("t").replace("-", "_"))


def days(*pairs, **columns) -> pa.Table:
    made = {"Day": [date(2024, 1, day) for day, _ in pairs], "n": [n for _, n in pairs]}
    return pa.table({"Day": pa.array(made["Day"], pa.date32()), "n": pa.array(made["n"], pa.int64()), **columns})


def found(warehouse, relation) -> list[dict]:
    return warehouse.query(f"SELECT * FROM {warehouse.sql(relation)} ORDER BY 1, 2").to_pylist()


def test_every_type_arrives_as_it_is(warehouse, relation):
    """Of binary columns only the schema is looked at: the server here can't load them."""
    assert schema_of(pa.schema([("raw", pa.binary())]))[0].field_type == "BYTES"
    values = {
        "Whole": (pa.int32(), 7),
        "big": (pa.uint64(), 2**64 - 1),
        "real": (pa.float32(), 0.5),
        "yes": (pa.bool_(), True),
        "Text": (pa.large_string(), "ü"),
        "day": (pa.date32(), date(2024, 2, 29)),
        "at": (pa.timestamp("us", "UTC"), datetime(2024, 1, 1, 12, tzinfo=UTC)),
        "local": (pa.timestamp("us"), datetime(2024, 1, 1, 12)),
        "clock": (pa.time64("us"), time(1, 2, 3)),
        "price": (pa.decimal128(10, 2), Decimal("1.25")),
        "nothing": (pa.null(), None),
        "code": (pa.dictionary(pa.int32(), pa.string()), "a"),
        "many": (pa.list_(pa.int64()), [1, 2]),
    }
    rows = pa.table({name: pa.array([value], kind) for name, (kind, value) in values.items()})
    warehouse.replace_rows(relation, rows, None)
    made = warehouse.jobs.client.get_table(f"{relation}")
    assert {f.name: f.field_type for f in made.schema} == {
        "Whole": "INTEGER", "big": "NUMERIC", "real": "FLOAT", "yes": "BOOLEAN", "Text": "STRING",
        "day": "DATE", "at": "TIMESTAMP", "local": "DATETIME", "clock": "TIME", "price": "NUMERIC",
        "nothing": "STRING", "code": "STRING", "many": "INTEGER",
    }  # fmt: skip
    assert found(warehouse, relation) == [{name: value for name, (_, value) in values.items()}]


@pytest.mark.parametrize("kind", [pa.duration("s"), pa.list_(pa.list_(pa.int64()))])
def test_a_type_that_has_no_counterpart(warehouse, relation, kind):
    with pytest.raises(ConfigError, match="column odd: BigQuery has no"):
        warehouse.replace_rows(relation, pa.table({"odd": pa.array([None], kind)}), None)
    assert not warehouse.exists(relation)


def test_a_window_is_replaced_and_nothing_else(warehouse, relation):
    wide = Window("Day", datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC))
    warehouse.replace_rows(relation, days((1, 1), (2, 2), (3, 3)), wide)
    made = warehouse.jobs.client.get_table(f"{relation}")
    assert (made.time_partitioning.field, made.time_partitioning.type_) == ("Day", "DAY")
    warehouse.replace_rows(relation, days((2, 5), (2, 6)), DAY)
    assert [(row["Day"].day, row["n"]) for row in found(warehouse, relation)] == [(1, 1), (2, 5), (2, 6), (3, 3)]
    warehouse.replace_rows(relation, days(), DAY)  # an empty result is a result
    assert [(row["Day"].day, row["n"]) for row in found(warehouse, relation)] == [(1, 1), (3, 3)]


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        (days((2, 9), (3, 9)), DataRefused, "1 of 2 rows are outside the partitions of this run"),
        (days((2, 9), Extra=pa.array([1])), ConfigError, "column Extra is new"),
        (days((2, 9)).rename_columns(["Day", "N"]), ConfigError, "column N is new; column n is missing"),
        (days((2, 9)).set_column(1, "n", pa.array(["x"])), ConfigError, "column n is STRING, the table has INTEGER"),
        (days((2, 9)).rename_columns(["other", "n"]), ConfigError, "has no column 'Day'"),
    ],
)
def test_rows_that_do_not_fit_change_nothing(warehouse, relation, rows, error, says):
    warehouse.replace_rows(relation, days((2, 2)), DAY)
    with pytest.raises(error) as caught:
        warehouse.replace_rows(relation, rows, DAY)
    assert says in str(caught.value)
    assert [row["n"] for row in found(warehouse, relation)] == [2]
    tables = warehouse.jobs.client.list_tables("dataops")
    assert not [item.table_id for item in tables if item.table_id.startswith("_stage_")]


@pytest.mark.parametrize("limit", [10_000, 0])
def test_ledger_rows_arrive_as_they_are(warehouse, monkeypatch, limit):
    """By a statement, or by a load job where they are many."""
    monkeypatch.setattr(warehouse_module, "INSERTED_ROWS", limit)
    moment = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    name = unique("o")
    values = [1.5, float("nan"), float("-inf"), None, 0.1]
    rows = [
        {"object_name": name, "rule_id": f"{n} 'quoted' \\ \n ü", "passed": n % 2 == 0, "observed": value,
         "scanned_rows": 2**53 + n, "evaluated_at": moment, "sample": '{"a": [1]}'}
        for n, value in enumerate(values)
    ]  # fmt: skip
    warehouse.append("verdicts", pa.Table.from_pylist(rows, schema=ledger_schema("verdicts")))
    sql = f"SELECT * FROM dataops.verdicts WHERE object_name = '{name}' ORDER BY rule_id"
    back = warehouse.query(sql).to_pylist()
    keys = list(rows[0])
    assert [[str(row[key]) for key in keys] for row in back] == [[str(row[key]) for key in keys] for row in rows]


def model_of(warehouse, sql: str, cut: bool = True) -> ModelSlice:
    name = unique("m").replace("-", "_")
    warehouse.jobs.client.create_dataset("analytics", exists_ok=True)
    by = " PARTITION BY day" if cut else ""
    warehouse.jobs.client.query_and_wait(f"CREATE TABLE analytics.{name}{by} AS {sql}")
    return ModelSlice(name, Relation("analytics", name), "day" if cut else None)


ROWS = (
    "SELECT DATE '2024-01-01' AS day, 1 AS Id UNION ALL SELECT DATE '2024-01-01', 2"
    " UNION ALL SELECT DATE '2024-01-02', 3"
)


def read(gcs_client, store, key) -> list[dict]:
    return pq.read_table(pa.BufferReader(store.read(key))).to_pylist()


def test_an_export(warehouse, gcs_client, store):
    model = model_of(warehouse, ROWS)
    versions = warehouse.model_versions(model, ["2024-01-01", "2024-01-02", "2024-01-03"])
    written = warehouse.export(model, versions, store, "transformed/")
    assert {key: len(objects) for key, objects in written.items()} == {
        "2024-01-01": 1, "2024-01-02": 1, "2024-01-03": 0,
    }  # fmt: skip
    (key,) = written["2024-01-02"]
    assert key.startswith(f"transformed/{model.model}/2024-01-02/{versions['2024-01-02'].data_version}/")
    assert read(gcs_client, store, key) == [{"day": date(2024, 1, 2), "Id": 3}]
    again = warehouse.export(model, versions, store, "transformed/")
    assert not set(again["2024-01-02"]) & set(written["2024-01-02"])  # never over one another


def test_a_whole_table_is_exported(warehouse, gcs_client, store):
    model = model_of(warehouse, "SELECT 1 AS n UNION ALL SELECT 2", cut=False)
    (objects,) = warehouse.export(model, warehouse.model_versions(model, None), store, "x/").values()
    assert sorted(row["n"] for key in objects for row in read(gcs_client, store, key)) == [1, 2]


def test_rows_that_change_during_an_export(warehouse, store, monkeypatch):
    model = model_of(warehouse, ROWS)
    versions = warehouse.model_versions(model, ["2024-01-01"])
    real = warehouse_module.export

    def disturbed(*args):
        written = real(*args)
        warehouse.jobs.client.query_and_wait(f"UPDATE {model.relation} SET Id = 9 WHERE Id = 1")
        return written

    monkeypatch.setattr(warehouse_module, "export", disturbed)
    with pytest.raises(DataRefused, match="the rows of 2024-01-01 changed"):
        warehouse.export(model, versions, store, "transformed/")


def test_a_table_that_is_cut_otherwise(warehouse, store):
    model = model_of(warehouse, "SELECT DATE '2024-01-01' AS day", cut=False)
    cut = ModelSlice(model.model, model.relation, "day")
    with pytest.raises(ConfigError, match=r"isn't partitioned by its days: write `partition_by: \{\{ day_partitioned"):
        warehouse.export(cut, warehouse.model_versions(cut, None), store, "transformed/")


def test_a_partition_without_rows_has_no_object(warehouse, store):
    model = model_of(warehouse, ROWS)
    assert warehouse.export(model, {"2024-01-09": ModelVersion(EMPTY, 0)}, store, "x/") == {"2024-01-09": ()}
