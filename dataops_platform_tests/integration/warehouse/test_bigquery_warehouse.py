"""Tables and loads on BigQuery: what follows from a contract, what is refused, and that nothing is done twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pyarrow as pa
import pytest
from google.cloud import bigquery

from dataops_platform.contracts import arrow_schema
from dataops_platform.contracts.model import BadRowAction, BadRows, Column, LoadMode, RuleKind
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import NoSuchTable
from dataops_platform.warehouse.bigquery import BigQueryWarehouse, tables
from dataops_platform.warehouse.bigquery.jobs import JobFailed
from dataops_platform.warehouse.names import Relation, staging
from dataops_platform.warehouse.partition_sql import in_partitions
from dataops_platform_tests.cloud import CloudHome
from dataops_platform_tests.emulators.clients import bigquery_client, storage_client
from dataops_platform_tests.emulators.fixtures import new_project, unique
from dataops_platform_tests.support import DAY1, DAY2, daily, moment, rule, table

pytestmark = pytest.mark.cloud

COLUMNS = {"day": Kind.DATE, "id": Kind.INTEGER, "amount": FieldType(Kind.DECIMAL, 10, 2), "Name": Kind.STRING}
RULES = [rule("id_required", RuleKind.NOT_NULL, "id"), rule("amount_range", RuleKind.RANGE, "amount", minimum=0)]


def orders(name: str = "orders", **more):
    made = table(name, COLUMNS, partitioning=daily(), rules=RULES, **more)
    columns = tuple(
        Column(c.name, c.type, c.name == "id", f"About {c.name}.") if c.name in ("id", "Name") else c
        for c in made.columns
    )
    return replace(made, columns=columns, clustering=("id",), description="One row per order.", tags=("tier1",))


@pytest.fixture(scope="module")
def client(bigquery_server):
    with new_project(bigquery_server) as project:
        yield bigquery_client(bigquery_server, project)


@pytest.fixture
def home(gcs_server, client, cloud_env, tmp_path) -> CloudHome:
    storage = storage_client(gcs_server)
    return CloudHome(tmp_path, storage, storage.create_bucket(unique("bucket")).name, client)


def rows(*ids, day=DAY1, amount=1):
    """A table without constraints: data that is yet to be checked."""
    made = [{"day": day, "id": number, "amount": amount, "Name": "n"} for number in ids]
    return pa.Table.from_pylist(made, schema=arrow_schema(orders(), enforce_required=False))


def test_tables_follow_from_the_contract(home, client):
    home.warehouse.ensure([orders()])
    made = client.get_table("staging.orders")
    assert [(f.name, f.field_type, f.mode) for f in made.schema] == [
        ("day", "DATE", "NULLABLE"), ("id", "INTEGER", "REQUIRED"), ("amount", "NUMERIC", "NULLABLE"),
        ("Name", "STRING", "NULLABLE"), ("_created_at", "TIMESTAMP", "REQUIRED"),
        ("_updated_at", "TIMESTAMP", "REQUIRED"), ("_source_object", "STRING", "REQUIRED"),
        ("_load_id", "STRING", "REQUIRED"),
    ]  # fmt: skip
    assert (made.schema[2].precision, made.schema[2].scale, made.schema[1].description) == (10, 2, "About id.")
    assert (made.time_partitioning.field, made.time_partitioning.type_) == ("day", "DAY")
    assert (made.clustering_fields, made.labels) == (["id"], {"dataops_table": "orders", "tag_tier1": "true"})
    assert made.description == "One row per order. Contract contract 1.0.0."
    assert client.get_table("dataops.verdicts").clustering_fields == ["object_name", "evaluated_at"]
    held = client.get_table("quarantine.orders")
    assert {f.name: f.mode for f in held.schema}["id"] == "NULLABLE"
    assert {f.name: f.mode for f in held.schema}["_reasons"] == "REPEATED"


def test_what_may_follow_the_contract_does(home, client):
    home.warehouse.ensure([orders("described")])
    BigQueryWarehouse(client).ensure([replace(orders("described"), description="Another text.", clustering=("Name",))])
    made = client.get_table("staging.described")
    assert (made.description.split(".")[0], made.clustering_fields) == ("Another text", ["Name"])


TAG = "projects/p/locations/eu/taxonomies/1/policyTags/{}"


def test_options_of_a_table(home, client):
    """What a contract says about filters, expiration and classified columns; all of it may change later."""

    def options(name, days, tag):
        columns = tuple(replace(c, classification="secret") if c.name == "Name" else c for c in orders().columns)
        wanted = replace(orders(name), columns=columns, partition_filter=bool(days), expiration_days=days)
        BigQueryWarehouse(client, policy_tags={"secret": TAG.format(tag)}).ensure([wanted])
        made, held = client.get_table(f"staging.{name}"), client.get_table(f"quarantine.{name}")
        tags = [{f.name: f.policy_tags for f in t.schema}["Name"].names for t in (made, held)]
        tags.append({f.name: f.policy_tags for f in held.schema}["_uncast"].names)  # texts of that column, too
        assert tags == [(TAG.format(tag),)] * 3
        return made.require_partition_filter, made.time_partitioning.expiration_ms

    assert options("optional", 30, 1) == (True, 30 * 24 * 60 * 60 * 1000)
    assert options("optional", 31, 2) == (True, 31 * 24 * 60 * 60 * 1000)
    assert options("optional", None, 2) in ((False, None), (None, None))


@pytest.mark.parametrize("kind", [Kind.DATE, Kind.TIMESTAMP])
def test_the_statement_that_is_shown_makes_the_same_table(home, client, kind):
    """What `dataops contract show` prints, beside what the API was told."""
    columns = COLUMNS | {"day": kind}
    wanted = replace(table("shown", columns, partitioning=daily()), clustering=("id",), expiration_days=9)
    made = tables.staging_table(bigquery.TableReference.from_string(f"{client.project}.staging.{unique('t')}"), wanted)
    home.warehouse.ensure([])
    client.query_and_wait(tables.as_sql(made))
    actual = client.get_table(made.reference)
    assert tables.shape_of(made) == tables.shape_of(actual)
    assert actual.clustering_fields == ["id"]
    assert "partition_expiration_days = 9" in tables.as_sql(made)  # the server here passes over it


def test_a_table_that_wants_its_partitions_named(home):
    """Also a statement about all of them says something of the partition column."""
    wanted = replace(orders("filtered"), partition_filter=True)
    assert in_partitions(wanted, None, "t.", "bigquery") == "(t.`day` IS NULL OR t.`day` IS NOT NULL)"
    home.fill(wanted, [{"day": DAY1, "id": 1, "amount": 1, "Name": "n"}])
    assert [verdict.passed for verdict in home.judge(wanted)] == [True, True]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Name": Kind.INTEGER}, "staging.{} is STRING, the contract says INTEGER"),
        ({"Name": None}, "staging.{}.Name is not in the contract"),
        ("partitioning", "is partitioned by DAY of day, the contract says nothing"),
    ],
)
def test_a_table_that_differs(home, client, change, says):
    name = unique("t").replace("-", "_")
    home.warehouse.ensure([table(name, COLUMNS, partitioning=daily())])
    if change == "partitioning":
        wanted = table(name, COLUMNS)
    else:
        columns = {n: k for n, k in (COLUMNS | change).items() if k is not None}
        wanted = table(name, columns, partitioning=daily())
    with pytest.raises(ConfigError, match="the warehouse differs from the contract") as error:
        BigQueryWarehouse(client).ensure([wanted])
    assert says.format(name).replace(f"staging.{name} is STRING", f"staging.{name}.Name is STRING") in str(error.value)
    assert f"`dataops apply --allow-breaking {name}`" in str(error.value)


def test_a_dataset_elsewhere(bigquery_server, cloud_env):
    with new_project(bigquery_server) as project:
        client = bigquery_client(bigquery_server, project)
        made = bigquery.Dataset(f"{project}.staging")
        made.location = "EU"
        client.create_dataset(made)
        with pytest.raises(
            ConfigError, match=r"staging is in EU, not in US: set DATAOPS_WAREHOUSE to bigquery://.*/EU"
        ):
            BigQueryWarehouse(client, "US").ensure([])


def test_a_delivery_that_does_not_fit(home):
    t = orders("fits")
    text = pa.table({"day": [DAY1], "id": ["1"], "amount": [1.5], "name": ["n"]})
    bad = home.deliver(t, text, partition=DAY1)
    good = home.deliver(t, rows(1, 2, day=DAY2), partition=DAY2)
    foreign = home.deliver(t, rows(1), partition="2023-01-01")
    outcomes = {o.delivery.partition: o for o in home.load(t, [bad, good, foreign])}
    reason = outcomes[str(DAY1)].refused
    for part in (
        "column 'id' is string, the contract wants integer",
        "column 'amount' is double, the contract wants decimal: DECIMAL(10,2) or a smaller decimal. Write it so and"
        " deliver it again, or declare it as it is: `logicalType: number`",
        "column 'Name' is missing (the file has 'name')",
    ):
        assert part in reason
    assert "outside 2024-01-01..2024-12-31" in outcomes["2023-01-01"].refused
    assert outcomes[str(DAY2)].rows_loaded == 2
    again = home.load(t, [bad])
    assert (again[0].refused, again[0].refused_before) == (reason, True)
    assert home.rows("SELECT COUNT(*) FROM dataops.refusals WHERE table_name = 'fits'") == [(2,)]


def test_an_object_that_is_not_parquet(home):
    """Its footer was good when it was delivered; what BigQuery says of it goes into the refusal."""
    t = orders("damaged")
    bad, good = home.deliver(t, rows(1), partition=DAY1), home.deliver(t, rows(2, day=DAY2), partition=DAY2)
    blob = home.lake.store._bucket.blob(f"lake/{bad.objects[0].key}")
    blob.upload_from_string(b"PAR1 and then nothing of the kind")
    outcomes = {o.delivery.partition: o for o in home.load(t, [bad, good])}
    assert bad.objects[0].key in outcomes[str(DAY1)].refused
    assert outcomes[str(DAY2)].rows_loaded == 1


def test_a_file_that_is_damaged_inside_keeps_out_no_other_that_landed_with_it(home):
    t = orders("divided")
    bad = home.deliver(t, rows(1, 2), rows(3), rows(4), partition=DAY1, landed=["a.parquet", "b.parquet", "c.parquet"])
    good = home.deliver(t, rows(5, day=DAY2), partition=DAY2)
    home.lake.store._bucket.blob(f"lake/{bad.objects[1].key}").upload_from_string(b"PAR1 and then nothing of the kind")
    outcomes = {o.delivery.partition: o for o in home.load(t, [bad, good], run_id="first")}
    assert outcomes[str(DAY2)].rows_loaded == 1
    outcome = outcomes[str(DAY1)]
    (left,) = outcome.left_out
    assert (outcome.refused, outcome.rows_read, outcome.rows_loaded) == (None, 3, 3)
    assert (left.file, left.before) == ("b.parquet#7", False)
    assert left.reason.endswith(f" (kept as {bad.objects[1].key})")
    refusals = "SELECT load_id, manifest, file, reason, run_id FROM dataops.refusals WHERE table_name = 'divided'"
    known = (str(bad.load_id), bad.manifest, left.file, left.reason)
    assert home.rows(refusals) == [(*known, "first")]
    loads = "SELECT manifest, objects, bytes, rows_read, rows_loaded FROM dataops.loads WHERE load_id = '{}'"
    sizes = sum(item.size for item in (bad.objects[0], bad.objects[2]))
    assert home.rows(loads.format(bad.load_id)) == [(bad.manifest, 2, sizes, 3, 3)]
    assert home.rows("SELECT id FROM staging.divided ORDER BY id") == [(1,), (2,), (4,), (5,)]
    assert home.load(t, [bad, good]) == []

    home.warehouse.reset(t)
    (outcome,) = home.load(t, [bad], run_id="second")
    assert outcome.left_out == (replace(left, before=True),)
    assert home.rows(f"{refusals} ORDER BY run_id") == [(*known, "first"), (*known, "second")]

    home.warehouse.reset(t)  # where the breaker refuses all of it, nothing is left out
    strict = replace(t, rules=(rule("none", RuleKind.RANGE, "amount", maximum=0),), bad_rows=BadRows(max_rows=0))
    (outcome,) = home.load(strict, [bad], run_id="third")
    assert (bool(outcome.refused), outcome.left_out) == (True, ())
    assert home.rows(f"{refusals} AND run_id = 'third'") == [(*known[:2], None, outcome.refused, "third")]


def test_the_breaker(home):
    """Too many bad rows refuse the delivery as a whole, and only that one."""
    t = orders("breaker", bad_rows=BadRows(BadRowAction.QUARANTINE, 40.0))
    bad = home.deliver(t, rows(1, None), partition=DAY1)
    good = home.deliver(t, rows(1, 2, None, day=DAY2), partition=DAY2)
    outcomes = {o.delivery.partition: o for o in home.load(t, [bad, good])}
    assert outcomes[str(DAY1)].refused == "1 of 2 rows break blocking rules, more than maxPercent 40 allows"
    assert (outcomes[str(DAY2)].rows_loaded, outcomes[str(DAY2)].rows_quarantined) == (2, 1)
    assert home.rows("SELECT id, _reasons FROM quarantine.breaker") == [(None, ["id_required"])]


@pytest.mark.parametrize("mode", [LoadMode.APPEND, pytest.param(LoadMode.MERGE, marks=pytest.mark.long)])
def test_the_same_delivery_from_several_processes(home, client, mode):
    """Each with a client of its own, all at once: the rows are there once, and so is the ledger's."""
    t = orders(f"race_{mode}", mode=mode, key=("day", "id") if mode is LoadMode.MERGE else ())
    given = home.deliver(t, rows(1, 2, 3), partition=DAY1)
    home.warehouse.ensure([t])
    barrier = Barrier(4)

    def load(number: int) -> int:
        barrier.wait()
        warehouse = BigQueryWarehouse(bigquery.Client(client.project, client._credentials), pause=0.05)
        uris = {item.key: home.lake.store.uri(item.key) for item in given.objects}
        return len(warehouse.load(t, [given], uris, [], f"run{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load, range(4)))
    assert home.rows(f"SELECT id FROM staging.race_{mode} ORDER BY id") == [(1,), (2,), (3,)]
    assert home.rows(f"SELECT rows_loaded FROM dataops.loads WHERE table_name = 'race_{mode}'") == [(3,)]


def test_a_job_whose_answer_was_lost_is_found(home, client):
    home.warehouse.ensure([orders()])
    jobs = home.warehouse.jobs
    calls = []

    def start(job_id: str) -> bigquery.QueryJob:
        calls.append(job_id)
        sql = "INSERT INTO dataops._lock_orders (taken) VALUES (77)"
        return client.query(sql, job_id=job_id, job_retry=None)

    name = unique("job")
    assert jobs.run(name, start).job_id == jobs.run(name, start).job_id == f"{name}-0"
    assert len(calls) == 2
    assert home.rows("SELECT COUNT(*) FROM dataops._lock_orders WHERE taken = 77") == [(1,)]
    # A job that was found, but whose work is gone (a reset), is done anew.
    assert jobs.run(name, start, done=lambda: False).job_id == f"{name}-1"
    with pytest.raises(JobFailed, match="nothing"):
        jobs.run(unique("job"), lambda job_id: client.query("SELECT nothing", job_id=job_id, job_retry=None))


def test_a_load_is_few_jobs(home, client):
    """One for each object, the transaction, and looks at the ledger: whatever the number of rows and rules."""
    t = orders("counted")
    given = [home.deliver(t, rows(1, day=day), partition=day) for day in (DAY1, DAY2)]
    home.load(t, given, run_id="count-me")
    jobs = [j for j in client.list_jobs(all_users=True) if (j.labels or {}).get("dataops_run") == "count-me"]
    kinds = sorted(j.job_type for j in jobs if j.parent_job_id is None)
    assert kinds == ["load", "load", "query", "query", "query"]
    assert {j.labels["dataops_table"] for j in jobs} == {"counted"}


def test_reload(home):
    t = orders("again")
    home.load(t, [home.deliver(t, rows(1, 2), partition=DAY1, at=moment(1))])
    home.warehouse.reset(t)
    assert home.rows("SELECT * FROM staging.again") == []
    assert sum(o.rows_loaded for o in home.load(t)) == 2
    assert home.warehouse.exists(staging("again"))
    assert not home.warehouse.exists(Relation("staging", "aga"))


@pytest.mark.parametrize(
    ("sql", "kind", "says"),
    [
        ("SELECT * FROM staging.nothing", NoSuchTable, "staging.nothing was not found"),
        ("SELEC 1", ConfigError, "Syntax error"),
        ("SELECT nope FROM dataops.loads", ConfigError, "Unrecognized name: nope"),
    ],
)
def test_bad_queries(home, sql, kind, says):
    home.warehouse.ensure([])
    with pytest.raises(kind, match=says):
        home.warehouse.query(sql)


def test_no_column_begins_as_bigquery_forbids():
    """Its documentation of column names lists these prefixes; the server here takes them."""
    reserved = ("_partition", "_table_", "_file_", "_row_timestamp", "__root__", "_colidentifier")
    wanted = orders()
    schemas = [tables.staging_schema(wanted, {}), tables.quarantine_schema(wanted, {}), tables.LOCK_SCHEMA]
    schemas += [tables.ledger_schema(name) for name in ledger.TABLES]
    assert [f.name for schema in schemas for f in schema if f.name.lower().startswith(reserved)] == []


def test_types_that_a_load_job_does_not_convert(home):
    """Integers under floating point numbers are converted by the statement; nanoseconds are refused."""
    wanted = table("floats", {"n": Kind.NUMBER, "at": Kind.DATETIME})
    whole = {"n": pa.array([1, None], pa.int32()), "at": pa.array([None, None], pa.timestamp("us"))}
    fine = {"n": pa.array([0.5]), "at": pa.array([None], pa.timestamp("ns"))}
    first, second = home.deliver(wanted, pa.table(whole)), home.deliver(wanted, pa.table(fine))
    assert tables.stage_schema(wanted, first.schema, False)[0].field_type == "INTEGER"
    refused, loaded = home.load(wanted, [first, second])
    assert loaded.rows_loaded == 2
    assert refused.refused is not None
    assert refused.refused.endswith(
        "column 'at' is timestamp[ns], the contract wants datetime: a timestamp without time zone, no finer than µs."
        " Write it so and deliver it again"
    )
    assert home.rows("SELECT n FROM staging.floats ORDER BY n") == [(None,), (1.0,)]
