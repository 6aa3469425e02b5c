"""Each patch of the BigQuery server: what it gives, and that the server alone doesn't.

A test of the server alone that fails is good news: the server has learned it, and the patch can go. These are asked
when the server is upgraded: they are in the long suite.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud import bigquery, storage

from dataops_platform_tests.emulators.bigquery_server import PATCHES
from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.emulators.servers import BigQueryServer, GcsServer

pytestmark = pytest.mark.cloud

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
TRUNCATE = bigquery.WriteDisposition.WRITE_TRUNCATE


@pytest.fixture(scope="module")
def bare_server(gcs_server: GcsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    with BigQueryServer(tmp_path_factory.mktemp("bare"), gcs_server, without=PATCHES) as server:
        yield server


@pytest.fixture(scope="module")
def patched_client(bigquery_server: BigQueryServer) -> Iterator[bigquery.Client]:
    with new_project(bigquery_server) as project:
        yield bigquery_client(bigquery_server, project)


@pytest.fixture(scope="module")
def bare_client(bare_server: BigQueryServer) -> Iterator[bigquery.Client]:
    with new_project(bare_server) as project:
        yield bigquery_client(bare_server, project)


@contextmanager
def dataset(client: bigquery.Client) -> Iterator[bigquery.Client]:
    """A dataset `d` for one test, which is quicker than a project for each."""
    client.create_dataset("d")
    yield client
    client.delete_dataset("d", delete_contents=True)


@pytest.fixture
def patched(patched_client: bigquery.Client) -> Iterator[bigquery.Client]:
    with dataset(patched_client) as client:
        yield client


@pytest.fixture
def bare(bare_client: bigquery.Client) -> Iterator[bigquery.Client]:
    with dataset(bare_client) as client:
        yield client


@pytest.fixture
def parquet(gcs_client: storage.Client, bucket: str) -> Callable[..., str]:
    """Makes an object of rows (day, n) and gives its URI."""

    def write(name: str, *rows: tuple[str, int]) -> str:
        data = io.BytesIO()
        days = pa.array([date.fromisoformat(day) for day, _ in rows], pa.date32())
        pq.write_table(pa.table({"day": days, "n": pa.array([n for _, n in rows], pa.int64())}), data)
        gcs_client.bucket(bucket).blob(name).upload_from_string(data.getvalue())
        return f"gs://{bucket}/{name}"

    return write


def rows(client: bigquery.Client, sql: str) -> list[tuple]:
    return [tuple(row.values()) for row in client.query(sql).result()]


def make_days(client: bigquery.Client, name: str = "t") -> str:
    """A table of three days, partitioned by day, with a row for each."""
    table = bigquery.Table(
        f"{client.project}.d.{name}",
        [
            bigquery.SchemaField("day", "DATE", "REQUIRED"),
            bigquery.SchemaField("n", "INT64", description="a number"),
        ],
    )
    table.time_partitioning = bigquery.TimePartitioning(field="day")
    table.clustering_fields = ["n"]
    client.create_table(table)
    values = ", ".join(f"(DATE '{day}', {n})" for n, day in enumerate(DAYS, start=1))
    client.query(f"INSERT d.{name} (day, n) VALUES {values}").result()
    return f"{client.project}.d.{name}"


def load(client: bigquery.Client, uri: str, table: str, **config: object) -> bigquery.LoadJob:
    config = {"source_format": "PARQUET", **config}
    return client.load_table_from_uri(uri, table, job_config=bigquery.LoadJobConfig(**config)).result()


def numbers(client: bigquery.Client, name: str = "t") -> list[int]:
    return [n for (n,) in rows(client, f"SELECT n FROM d.{name} ORDER BY n")]


# ctas_destination


def create_as_select(client: bigquery.Client) -> bigquery.QueryJob:
    job = client.query("CREATE TABLE d.made AS SELECT 1 AS a UNION ALL SELECT 2")
    assert list(job.result()) == []
    return client.get_job(job.job_id)


def test_ctas_names_its_destination(patched):
    destination = create_as_select(patched).destination
    assert (destination.dataset_id, destination.table_id) == ("d", "made")
    assert patched.get_table(destination).num_rows == 2


@pytest.mark.long
def test_bare_ctas_names_no_destination(bare):
    assert create_as_select(bare).destination is None


# row_counts


def rows_after_changes(client: bigquery.Client) -> int:
    client.query("CREATE TABLE d.t AS SELECT n FROM UNNEST(GENERATE_ARRAY(1, 10)) AS n").result()
    client.query("DELETE d.t WHERE n <= 4").result()
    client.query("UPDATE d.t SET n = n + 100 WHERE n <= 6").result()
    return client.get_table("d.t").num_rows


def test_row_counts_know_what_was_deleted(patched):
    assert rows_after_changes(patched) == 6


@pytest.mark.long
def test_bare_row_counts_do_not(bare):
    assert rows_after_changes(bare) != 6


# bytes_processed


def bytes_of_queries(client: bigquery.Client) -> list[int]:
    make_days(client)
    query = "SELECT SUM(n) FROM d.t"
    dry = client.query(query, bigquery.QueryJobConfig(dry_run=True))
    run, script = client.query(query), client.query(f"{query}; {query};")
    run.result()
    script.result()
    reloaded = client.get_job(run.job_id)
    return [dry.total_bytes_processed, reloaded.total_bytes_processed, script.total_bytes_processed]


def test_bytes_processed(patched):
    one, again, both = bytes_of_queries(patched)
    assert one == again == patched.get_table("d.t").num_bytes > 0
    assert both == 2 * one


@pytest.mark.long
def test_bare_bytes_processed_are_none(bare):
    assert bytes_of_queries(bare) == [0, 0, 0]


# copied_layout


def copies(client: bigquery.Client) -> list[bigquery.Table]:
    source = make_days(client)
    client.copy_table(source, f"{client.project}.d.copied").result()
    client.query("CREATE TABLE d.cloned CLONE d.t").result()
    client.query("CREATE TABLE d.alike LIKE d.t").result()
    return [client.get_table(f"d.{name}") for name in ("copied", "cloned", "alike")]


def test_copies_keep_the_layout(patched):
    found = copies(patched)
    assert [table.num_rows for table in found] == [3, 3, 0]
    for table in found:
        assert table.time_partitioning.field == "day"
        assert table.clustering_fields == ["n"]
        assert [field.mode for field in table.schema] == ["REQUIRED", "NULLABLE"]
        assert table.schema[1].description == "a number"


def test_copies_by_ingestion_time(patched):
    table = make_ingestion(patched)
    patched.query("CREATE TABLE d.empty COPY d.t").result()
    patched.query("INSERT d.t (n) VALUES (1)").result()
    patched.copy_table(table, f"{patched.project}.d.full").result()
    for name in ("empty", "full"):
        patched.query(f"INSERT d.{name} (n) VALUES (2)").result()
    assert rows(patched, TODAY.format("empty")) == [(2, True)]
    assert rows(patched, TODAY.format("full")) == [(1, True), (2, True)]


@pytest.mark.long
def test_bare_copies_lose_the_layout(bare):
    for table in copies(bare):
        assert table.time_partitioning is None
        assert table.clustering_fields is None
        assert [field.mode for field in table.schema] == ["NULLABLE", "NULLABLE"]


# ingestion_time


def make_ingestion(client: bigquery.Client) -> str:
    table = bigquery.Table(f"{client.project}.d.t", [bigquery.SchemaField("n", "INT64")])
    table.time_partitioning = bigquery.TimePartitioning()
    client.create_table(table)
    return f"{client.project}.d.t"


TODAY = "SELECT n, TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), DAY) - _PARTITIONTIME < INTERVAL 25 HOUR FROM d.{} ORDER BY n"


def test_ingestion_time_of_a_table_made_by_the_api(patched, gcs_client, bucket):
    make_ingestion(patched)
    patched.query("INSERT d.t (n) VALUES (1)").result()
    load_config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON")
    patched.load_table_from_json([{"n": 2}], f"{patched.project}.d.t", job_config=load_config).result()
    assert rows(patched, TODAY.format("t")) == [(1, True), (2, True)]
    assert rows(patched, "SELECT * FROM d.t ORDER BY n") == [(1,), (2,)]
    assert [field.name for field in patched.get_table("d.t").schema] == ["n"]
    uri = f"gs://{bucket}/out.parquet"
    extract = bigquery.ExtractJobConfig(destination_format="PARQUET")
    patched.extract_table(f"{patched.project}.d.t", uri, job_config=extract).result()
    data = gcs_client.bucket(bucket).blob("out.parquet").download_as_bytes()
    assert pq.read_table(io.BytesIO(data)).column_names == ["n"]


def test_ingestion_time_of_a_table_made_by_a_load(patched, parquet):
    config = {"time_partitioning": bigquery.TimePartitioning(), "write_disposition": TRUNCATE}
    for _ in range(2):
        load(patched, parquet("a", (DAYS[0], 1)), f"{patched.project}.d.t", **config)
    patched.query("INSERT d.t (n) VALUES (2)").result()
    assert rows(patched, TODAY.format("t")) == [(1, True), (2, True)]


@pytest.mark.long
def test_bare_ingestion_time_is_missing(bare, parquet):
    make_ingestion(bare)
    bare.query("INSERT d.t (n) VALUES (1)").result()
    load(bare, parquet("a", (DAYS[0], 1)), f"{bare.project}.d.l", time_partitioning=bigquery.TimePartitioning())
    for name in ("t", "l"):
        with pytest.raises(BadRequest, match="_PARTITIONTIME"):
            rows(bare, TODAY.format(name))


# partition_decorators


def test_load_replaces_one_partition(patched, parquet):
    table = make_days(patched)
    load(patched, parquet("a", (DAYS[1], 20), (DAYS[1], 21)), f"{table}$20240102", write_disposition=TRUNCATE)
    assert numbers(patched) == [1, 3, 20, 21]
    load(patched, parquet("b", (DAYS[1], 22)), f"{table}$20240102", write_disposition="WRITE_APPEND")
    assert numbers(patched) == [1, 3, 20, 21, 22]
    assert patched.get_table(f"{table}$20240102").num_rows == 3
    assert [item.table_id for item in patched.list_tables("d")] == ["t"]


def test_rows_of_another_partition_are_refused_and_nothing_changes(patched, parquet):
    table = make_days(patched)
    with pytest.raises(BadRequest, match="other partitions"):
        load(patched, parquet("a", (DAYS[1], 20), (DAYS[2], 21)), f"{table}$20240102", write_disposition=TRUNCATE)
    with pytest.raises(BadRequest, match="Invalid partition"):
        load(patched, parquet("b", (DAYS[1], 20)), f"{table}$202401", write_disposition=TRUNCATE)
    config = bigquery.QueryJobConfig(destination=f"{table}$20240102", write_disposition=TRUNCATE)
    with pytest.raises(BadRequest, match="Cannot add fields"):  # noticed after the old rows are deleted
        patched.query(f"SELECT DATE '{DAYS[1]}' AS day, 20 AS n, 1 AS more", config).result()
    assert numbers(patched) == [1, 2, 3]


def test_load_into_a_partition_makes_the_table(patched, parquet):
    table, config = f"{patched.project}.d.t", {"time_partitioning": bigquery.TimePartitioning(field="day")}
    load(patched, parquet("a", (DAYS[0], 1)), f"{table}$20240101", write_disposition=TRUNCATE, **config)
    load(patched, parquet("b", (DAYS[1], 2)), f"{table}$20240102", write_disposition=TRUNCATE, **config)
    with pytest.raises(BadRequest, match="other partitions"):
        load(patched, parquet("c", (DAYS[1], 2)), f"{patched.project}.d.u$20240101", **config)
    assert numbers(patched) == [1, 2]
    assert [item.table_id for item in patched.list_tables("d")] == ["t"]


def test_query_replaces_the_partition_it_reads(patched):
    table = make_days(patched)
    config = bigquery.QueryJobConfig(destination=f"{table}$20240102", write_disposition=TRUNCATE)
    done = patched.query(f"SELECT day, n * 10 AS n FROM d.t WHERE day = '{DAYS[1]}'", config).result()
    assert [tuple(row.values()) for row in done] == [(date(2024, 1, 2), 20)]
    assert numbers(patched) == [1, 3, 20]
    empty = bigquery.QueryJobConfig(destination=f"{table}$20240102", write_disposition="WRITE_EMPTY")
    with pytest.raises(GoogleAPICallError, match="Already Exists"):
        patched.query(f"SELECT * FROM d.t WHERE day = '{DAYS[1]}'", empty).result()


def test_copy_of_a_partition(patched):
    table = make_days(patched)
    other = make_days(patched, "other")
    patched.query("UPDATE d.t SET n = n + 100 WHERE TRUE").result()
    config = bigquery.CopyJobConfig(write_disposition=TRUNCATE)
    patched.copy_table(f"{table}$20240102", f"{other}$20240102", job_config=config).result()
    assert numbers(patched, "other") == [1, 3, 102]
    patched.copy_table(f"{table}$20240103", f"{patched.project}.d.fresh").result()
    assert numbers(patched, "fresh") == [103]
    assert patched.get_table("d.fresh").time_partitioning.field == "day"


def test_extract_of_a_partition(patched, gcs_client, bucket):
    table = make_days(patched)
    config = bigquery.ExtractJobConfig(destination_format="PARQUET")
    patched.extract_table(f"{table}$20240102", f"gs://{bucket}/out.parquet", job_config=config).result()
    data = gcs_client.bucket(bucket).blob("out.parquet").download_as_bytes()
    assert pq.read_table(io.BytesIO(data)).to_pylist() == [{"day": date(2024, 1, 2), "n": 2}]


def test_deleted_partition_leaves_the_rest(patched):
    table = make_days(patched)
    patched.delete_table(f"{table}$20240102")
    assert numbers(patched) == [1, 3]


def test_partitions_by_ingestion_time(patched, parquet):
    table = make_ingestion(patched)
    schema = [bigquery.SchemaField("n", "INT64")]
    for n in (1, 2):
        load(patched, parquet("a", (DAYS[0], n)), f"{table}$20240102", write_disposition=TRUNCATE, schema=schema)
    patched.query("INSERT d.t (n) VALUES (3)").result()
    days = rows(patched, "SELECT n, CAST(_PARTITIONTIME AS DATE) = '2024-01-02' FROM d.t ORDER BY n")
    assert days == [(2, True), (3, False)]
    patched.delete_table(f"{table}$20240102")
    assert numbers(patched) == [3]


def test_overwrites_of_several_partitions_at_once(patched, parquet):
    table = make_days(patched)
    uris = [parquet(day, (day, 10 * n)) for n, day in enumerate(DAYS, start=1)]
    targets = [f"{table}${day.replace('-', '')}" for day in DAYS]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(2):
            list(pool.map(lambda uri, to: load(patched, uri, to, write_disposition=TRUNCATE), uris, targets))
    assert numbers(patched) == [10, 20, 30]


@pytest.mark.long
def test_bare_decorator_writes_to_another_table(bare, parquet):
    table = make_days(bare)
    load(bare, parquet("a", (DAYS[1], 20)), f"{table}$20240102", write_disposition=TRUNCATE)
    config = bigquery.QueryJobConfig(destination=f"{table}$20240103", write_disposition=TRUNCATE)
    bare.query(f"SELECT DATE '{DAYS[2]}' AS day, 30 AS n", config).result()
    assert numbers(bare) == [1, 2, 3]
    assert [item.table_id for item in bare.list_tables("d")] == ["t", "t$20240102", "t$20240103"]


@pytest.mark.long
def test_bare_decorator_finds_no_partition(bare, bucket):
    table = make_days(bare)
    with pytest.raises(NotFound):
        bare.copy_table(f"{table}$20240102", f"{bare.project}.d.copied").result()
    with pytest.raises(NotFound):
        bare.extract_table(f"{table}$20240102", f"gs://{bucket}/out.csv").result()
    with pytest.raises(NotFound):
        bare.delete_table(f"{table}$20240102")


# set_struct

SET = """
DECLARE a INT64; DECLARE b STRING; DECLARE c INT64;
SET (a, b) = (SELECT AS STRUCT COUNT(*) AS counted, MAX(s) FROM UNNEST(['x', 'y']) AS s);
SET (c) = (SELECT AS STRUCT 3);
SELECT a, b, c;
"""
SWAP = "DECLARE a INT64 DEFAULT 1; DECLARE b INT64 DEFAULT 2; SET (a, b) = STRUCT(b, a); SELECT a, b;"


def test_set_from_a_struct(patched):
    assert rows(patched, SET) == [(2, "y", 3)]
    assert rows(patched, SWAP) == [(2, 1)]


@pytest.mark.long
def test_bare_set_from_a_struct_fails(bare):
    for script in (SET, SWAP):
        with pytest.raises(BadRequest, match="STRUCT"):
            rows(bare, script)


# widened_numerics


def widen(client, to: str) -> list[tuple]:
    client.create_dataset("d", exists_ok=True)
    reference = client.dataset("d").table("priced")
    client.delete_table(reference, not_found_ok=True)
    client.create_table(bigquery.Table(reference, [bigquery.SchemaField("price", "NUMERIC", precision=5, scale=2)]))
    rows(client, "INSERT INTO d.priced VALUES (1.25)")
    rows(client, f"ALTER TABLE d.priced ALTER COLUMN price SET DATA TYPE {to}")
    (field,) = client.get_table(reference).schema
    shape = (field.field_type, field.precision, field.scale)
    return [shape, *rows(client, "SELECT CAST(price AS FLOAT64) FROM d.priced")]


def test_a_wider_numeric(patched):
    assert widen(patched, "NUMERIC(9, 3)") == [("NUMERIC", 9, 3), (1.25,)]
    with pytest.raises(BadRequest):
        widen(patched, "NUMERIC(4, 2)")


@pytest.mark.long
def test_bare_a_wider_numeric_fails(bare):
    with pytest.raises(BadRequest, match="widening"):
        widen(bare, "NUMERIC(9, 3)")
