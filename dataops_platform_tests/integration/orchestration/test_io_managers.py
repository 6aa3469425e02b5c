"""IO managers, as an asset of one's own uses them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.orchestration.io_managers import (
    PARTITION_FIELD,
    LakeIOManager,
    TableReference,
    WarehouseIOManager,
)
from dataops_platform.orchestration.resources import Platform
from dataops_platform.quality import quarantine
from dataops_platform.transformation.models import Model, Models
from dataops_platform.warehouse.base import Selection, Window
from dataops_platform.warehouse.names import Relation
from dataops_platform_tests.support import file_size_limit

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


@pytest.fixture(scope="module")
def dagster():
    """Of all tests: making one takes as long as a run, and what is in it is nothing to IO managers."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def opened(settings):
    """The warehouse's file stays open: it is asked many small things."""
    with settings.warehouse().connect():
        yield settings


@pytest.fixture
def platform(shop, opened):
    (shop / "contracts/prices.odcs.yaml").write_text(CONTRACT)
    return Platform(opened, load_contracts(opened.contracts), Models(()))


@pytest.fixture
def run(platform, dagster):
    """Materialise assets; the values they passed on, by name."""

    def materialise(*assets, **arguments):
        resources = {WAREHOUSE: WarehouseIOManager(platform), LAKE: LakeIOManager(platform)}
        resources["io_manager"] = dg.mem_io_manager  # of readers: the instance would keep what they return
        return dg.materialize(list(assets), resources=resources, instance=dagster, **arguments)

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
def test_a_contract_guards_what_an_asset_returns(run, platform, shop, manager):
    """Wrong keys, columns and types refuse the whole; bad rows do where they can't go to quarantine."""
    good = pd.DataFrame({"sku": ["a", "b"], "price": ["1.50", "2"]})
    assert run(asset("prices", good, manager=manager)).success
    refused = [
        (pd.DataFrame({"sku": ["a", "a"], "price": ["1", "2"]}), "sku"),
        (pd.DataFrame({"sku": ["a"]}), "price"),
        (
            pd.DataFrame({"sku": ["a", "b"], "price": ["1.50", "cheap"]}),
            "price [type]: 1 row not of type decimal: cheap",
        ),
    ]
    if manager == LAKE:
        refused.append((pd.DataFrame({"sku": ["a", "b"], "price": ["1.50", "-2"]}), "price"))
    for bad, word in refused:
        result = run(asset("prices", bad, manager=manager), raise_on_error=False)
        text = message(result)
        assert word in text
        assert "Traceback" not in text
    if manager == WAREHOUSE:
        assert platform.warehouse.query("SELECT count(*) AS n FROM own.prices").to_pylist() == [{"n": 2}]
    else:
        assert len(list(platform.lake.store.list("assets/own/prices/"))) == 1


HELD = (
    "SELECT sku, CAST(price AS VARCHAR) AS price, _reasons, _source_row, _source_object, _delivered_partition,"
    " _contract_version FROM quarantine.prices ORDER BY _source_row"
)


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.Table])
def test_bad_rows_go_to_quarantine(run, platform, kind):
    """With the reasons that a load would give; the next run of the asset replaces them, and not those of another."""
    bad = pd.DataFrame({"sku": ["a", None, "b", None], "price": [Decimal("1.50"), Decimal(1), Decimal(-2), None]})
    value = bad if kind is pd.DataFrame else pa.Table.from_pandas(bad)
    found = [
        {"sku": None, "price": "1.00", "_reasons": ["sku_required"], "_source_row": 1},
        {"sku": "b", "price": "-2.00", "_reasons": ["price_range"], "_source_row": 2},
        {"sku": None, "price": None, "_reasons": ["sku_required", "price_required"], "_source_row": 3},
    ]
    marks = {"_source_object": "own/prices", "_delivered_partition": "all", "_contract_version": "1.0.0"}
    for _ in range(2):
        result = run(asset("prices", value))
        assert result.success
        (handled,) = [event for event in result.all_events if event.event_type_value == "HANDLED_OUTPUT"]
        assert handled.event_specific_data.metadata["rows quarantined"].value == 3
        assert platform.warehouse.query("SELECT sku FROM own.prices").to_pylist() == [{"sku": "a"}]
        assert platform.warehouse.query(HELD).to_pylist() == [row | marks for row in found]
    runs = platform.warehouse.query("SELECT DISTINCT _run_id, _load_id FROM quarantine.prices").to_pylist()
    assert [row["_run_id"] for row in runs] == [result.run_id]
    assert run(asset("prices", value, layer="other")).success
    assert run(asset("prices", bad.head(1))).success
    assert {row["_source_object"] for row in platform.warehouse.query(HELD).to_pylist()} == {"other/prices"}


def test_too_many_bad_rows_refuse_the_whole(platform, dagster, settings, shop):
    (shop / "contracts/prices.odcs.yaml").write_text(
        CONTRACT.replace(
            "    properties:",
            "    customProperties:\n"
            "      - {property: onBadRow, vendor: dataops, value: {action: quarantine, maxPercent: 50}}\n"
            "    properties:",
        )
    )
    manager = {WAREHOUSE: WarehouseIOManager(Platform(settings, load_contracts(settings.contracts), Models(())))}
    for prices, success in ((["1", "-1"], True), (["1", "-1", "-2"], False)):
        value = pd.DataFrame({"sku": list("abc")[: len(prices)], "price": prices})
        result = dg.materialize([asset("prices", value)], resources=manager, instance=dagster, raise_on_error=False)
        assert result.success is success
        if not success:
            assert "2 of 3 rows break blocking rules, more than maxPercent 50 allows" in message(result)
            assert "price [price_range]: 2 rows failing" in message(result)
        assert platform.warehouse.query("SELECT sku FROM own.prices").to_pylist() == [{"sku": "a"}]
        assert [row["price"] for row in platform.warehouse.query(HELD).to_pylist()] == ["-1.00"]


def test_keys_are_about_the_good_rows(run, platform):
    """As after a load: a row that is in quarantine repeats no key."""
    value = pd.DataFrame({"sku": ["a", "a"], "price": ["-1", "1"]})
    assert run(asset("prices", value)).success
    assert platform.warehouse.query("SELECT sku FROM own.prices").to_pylist() == [{"sku": "a"}]
    worse = pd.DataFrame({"sku": ["a", "a", "a"], "price": ["-1", "1", "2"]})
    text = message(run(asset("prices", worse), raise_on_error=False))
    assert text == "prices: 1 problem in 2 rows\n  sku [primary_key]: 1 row failing (No two rows have the same sku): a"
    assert len(platform.warehouse.query(HELD).to_pylist()) == 1


def test_a_replay_leaves_an_assets_rows_alone(run, platform):
    """They are for the asset's own table, not for staging."""
    assert run(asset("prices", pd.DataFrame({"sku": ["a"], "price": ["-1"]}))).success
    before = platform.warehouse.query(HELD).to_pylist()
    relaxed = replace(platform.tables["prices"], rules=())
    assert quarantine.replay(platform.warehouse, [relaxed], Selection(), "run") == {"prices": []}
    assert platform.warehouse.query(HELD).to_pylist() == before
    assert platform.warehouse.query("SELECT * FROM staging.prices").num_rows == 0


def test_good_and_bad_rows_are_written_together(run, platform):
    """Where quarantine can't be written, nothing is."""
    assert run(asset("prices", pd.DataFrame({"sku": ["a"], "price": ["1"]}))).success
    with platform.warehouse.connect() as con:
        con.execute("ALTER TABLE quarantine.prices DROP COLUMN price")
    text = message(run(asset("prices", pd.DataFrame({"sku": ["b", "c"], "price": ["1", "-1"]})), raise_on_error=False))
    assert "own.prices can't be written" in text
    assert platform.warehouse.query("SELECT sku FROM own.prices").to_pylist() == [{"sku": "a"}]


OF_DAYS = """\
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
      - {name: j, logicalType: object}
"""


def test_quarantine_of_partitions_is_replaced_with_them(opened, dagster, shop):
    """A row that lies in no partition of the run, for want of a date, belongs to those it was made with."""
    (shop / "contracts/visits.odcs.yaml").write_text(OF_DAYS)
    platform = Platform(opened, load_contracts(opened.contracts), Models(()))
    factor = [-1]

    @dg.asset(
        key=["own", "visits"], partitions_def=DAYS, io_manager_key=WAREHOUSE, metadata={PARTITION_FIELD: "day"},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )  # fmt: skip
    def visits(context: dg.AssetExecutionContext):
        days = [date.fromisoformat(key) for key in context.partition_keys]
        bad = pd.DataFrame(
            {"day": [*days, None], "n": [factor[0] * day.day for day in days] + [0], "j": [{"a": 1}] * (len(days) + 1)}
        )
        return pd.concat([bad, pd.DataFrame({"day": days, "n": 100})])

    def made(first, last=None):
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        resources = {WAREHOUSE: WarehouseIOManager(platform)}
        return dg.materialize([visits], resources=resources, instance=dagster, tags=tags).success

    def held():
        rows = platform.warehouse.query(
            "SELECT CAST(day AS VARCHAR) AS day, n, _reasons, _delivered_partition AS part, CAST(j AS VARCHAR) AS j"
            " FROM quarantine.visits ORDER BY day NULLS FIRST, part"
        ).to_pylist()
        assert {row["j"] for row in rows} == {'{"a": 1}'}
        return [(row["day"], row["n"], row["_reasons"], row["part"]) for row in rows]

    for _ in range(2):
        assert made("2024-05-01", "2024-05-03")
        span = "2024-05-01...2024-05-03"
        assert held() == [
            (None, 0, ["outside_partition", "day_required"], span),
            *((f"2024-05-0{n}", -n, ["n_range"], span) for n in (1, 2, 3)),
        ]
    factor[0] = 1
    for _ in range(2):
        assert made("2024-05-02")
        assert held() == [
            (None, 0, ["outside_partition", "day_required"], span),
            (None, 0, ["outside_partition", "day_required"], "2024-05-02"),
            *((f"2024-05-0{n}", -n, ["n_range"], span) for n in (1, 3)),
        ]
    assert made("2024-05-01", "2024-05-03")
    assert held() == [(None, 0, ["outside_partition", "day_required"], span)]
    counts = platform.warehouse.query("SELECT count(*) AS n FROM own.visits WHERE n = 100").to_pylist()
    assert counts == [{"n": 3}]


def test_other_values_are_refused(run):
    result = run(asset("things", [1, 2]), raise_on_error=False)
    assert message(result) == "an asset must return a pandas DataFrame or a pyarrow Table, not list"


def test_a_key_must_have_schema_and_name(run):
    @dg.asset(key=["things"], io_manager_key=WAREHOUSE)
    def made():
        return FRAME

    assert "two parts" in message(run(made, raise_on_error=False))


# -- tables that are not the asset's to write --------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["staging", "quarantine", "production", "dataops", "Production"])
def test_the_platforms_schemas_are_not_written(run, platform, layer):
    rows = pa.table({"n": [1]})
    name = "verdicts" if layer == "dataops" else "prices"
    text = message(run(asset(name, rows, layer=layer), raise_on_error=False))
    assert f"asset {layer}/{name}: the schema {layer} is written by the platform only" in text
    written = platform.warehouse.query(
        f"SELECT count(*) AS n FROM dataops.{'verdicts' if layer == 'dataops' else 'loads'}"
    )
    assert written.to_pylist() == [{"n": 0}]
    assert not platform.warehouse.exists(Relation("production", "prices"))


def test_the_platforms_tables_are_read(run, platform):
    seen = []

    @dg.asset(key=["staging", "prices"])
    def staged():
        platform.warehouse.query("SELECT 1")  # makes the contract's tables

    assert run(staged, reading("prices", pa.Table, seen, layer="staging")).success
    assert seen[0].num_rows == 0


@pytest.mark.parametrize("key", [["fct_sales"], ["main", "fct_sales"], ["MAIN", "Fct_Sales"]])
def test_a_dbt_models_table_is_not_written(opened, dagster, key):
    model = Model("model.shop.fct_sales", "fct_sales", Relation("main", "fct_sales"), None, False, False, (), (), ())
    platform = Platform(opened, load_contracts(opened.contracts), Models((model,)))

    @dg.asset(key=key, io_manager_key=WAREHOUSE)
    def made():
        return FRAME

    resources = {WAREHOUSE: WarehouseIOManager(platform)}
    result = dg.materialize([made], resources=resources, instance=dagster, raise_on_error=False)
    assert "is the dbt model fct_sales" in message(result)
    assert not platform.warehouse.exists(Relation("main", "fct_sales"))


# -- windows of partitions ---------------------------------------------------------------------------------------------

NEW_YORK = "America/New_York"


def cut(definition, content, name="cut"):
    """A partitioned asset whose rows are `content(start of the partition)`."""

    @dg.asset(key=["own", name], partitions_def=definition, io_manager_key=WAREHOUSE, metadata={PARTITION_FIELD: "at"})
    def made(context: dg.AssetExecutionContext):
        return content(context.partition_time_window.start)

    return made


COLUMN_TYPES = {
    # In UTC: once pandera is imported, pyarrow takes a datetime of another zone for one in UTC.
    "instant": lambda at: pa.array([at.astimezone(UTC)], pa.timestamp("us", "UTC")),
    "instant elsewhere": lambda at: pa.array([at.astimezone(UTC)], pa.timestamp("ms", "Asia/Kolkata")),
    "local": lambda at: pa.array([at.replace(tzinfo=None)], pa.timestamp("us")),
    "pandas": lambda at: pa.array([at.replace(tzinfo=None)], pa.timestamp("ns")),
    "date": lambda at: pa.array([at.date()], pa.date32()),
}


@pytest.mark.parametrize(
    ("zone", "kind"),
    [
        *((NEW_YORK, kind) for kind in ("instant", "instant elsewhere", "local", "pandas")),
        ("UTC", "instant"),
        *(pytest.param("UTC", kind, marks=pytest.mark.long) for kind in ("instant elsewhere", "local", "pandas")),
    ],
)
def test_hours_replace_and_read_their_own_rows(run, platform, kind, zone):
    hours, seen = dg.HourlyPartitionsDefinition("2024-05-01-00:00", timezone=zone), []
    made = cut(
        hours, lambda start: pa.table({"at": COLUMN_TYPES[kind](start + timedelta(minutes=59)), "n": [start.hour]})
    )
    reader = reading("cut", pa.Table, seen, partitions_def=hours)
    for hour in (22, 23, 22):
        assert run(made, reader, partition_key=f"2024-05-01-{hour}:00").success
    assert [got.column("n").to_pylist() for got in seen] == [[22], [23], [22]]
    assert platform.warehouse.query("SELECT count(*) AS n FROM own.cut").to_pylist() == [{"n": 2}]


LONG_CUTS = {
    "weeks": dg.WeeklyPartitionsDefinition("2024-04-28", timezone=NEW_YORK),
    "months": dg.MonthlyPartitionsDefinition("2024-05-01", timezone=NEW_YORK),
}


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        *(
            pytest.param(dg.DailyPartitionsDefinition("2024-05-01", timezone=NEW_YORK), kind, id=f"days-{kind}")
            for kind in COLUMN_TYPES
        ),
        *(
            # What a type needs is the same for each cut: of one all types, of the others one are seen each time.
            pytest.param(definition, kind, id=f"{name}-{kind}", marks=() if kind == "instant" else pytest.mark.long)
            for name, definition in LONG_CUTS.items()
            for kind in COLUMN_TYPES
        ),
    ],
)
def test_days_begin_in_the_zone_of_the_partitions(run, platform, kind, definition):
    """The last minute of a day in New York is the next day in UTC."""
    seen = []
    last = timedelta(hours=23, minutes=59)
    made = cut(definition, lambda start: pa.table({"at": COLUMN_TYPES[kind](start + last), "n": [start.day]}))
    reader = reading("cut", pa.Table, seen, partitions_def=definition)
    keys = definition.get_partition_keys(current_time=datetime(2024, 7, 15, tzinfo=ZoneInfo(NEW_YORK)))[:2]
    for key in (*keys, keys[0]):
        assert run(made, reader, partition_key=key).success
    assert [got.num_rows for got in seen] == [1, 1, 1]
    assert platform.warehouse.query("SELECT count(*) AS n FROM own.cut").to_pylist() == [{"n": 2}]


def test_an_hour_that_comes_twice(run):
    hours = dg.HourlyPartitionsDefinition("2024-11-03-00:00", "2024-11-03-05:00", timezone=NEW_YORK)
    keys = hours.get_partition_keys()
    assert len(keys) == 6  # two of them begin at one o'clock
    instants = cut(hours, lambda start: pa.table({"at": COLUMN_TYPES["instant"](start)}), "instants")
    for key in keys * 2:
        assert run(instants, partition_key=key).success
    local = cut(hours, lambda start: pa.table({"at": COLUMN_TYPES["local"](start)}), "local")
    found = [run(local, partition_key=key, raise_on_error=False) for key in keys]
    assert [result.success for result in found].count(False) == 1
    assert "comes twice" in message(next(result for result in found if not result.success))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (COLUMN_TYPES["date"], "the date column at can't tell parts of a day from each other"),
        (lambda at: pa.array(["2024-05-01"]), "column at is string; partitions need a date or a timestamp"),
    ],
)
def test_columns_that_can_not_tell_hours(run, values, expected):
    hours = dg.HourlyPartitionsDefinition("2024-05-01-00:00")
    result = run(
        cut(hours, lambda at: pa.table({"at": values(at)})), partition_key="2024-05-01-23:00", raise_on_error=False
    )
    assert expected in message(result)


def test_a_partition_field_that_is_no_column(run):
    result = run(cut(DAYS, lambda _: pa.table({"day": [1]})), partition_key="2024-05-01", raise_on_error=False)
    assert "own.cut has no column 'at', which the metadata 'partition_field' names" in message(result)


COLOURS = dg.StaticPartitionsDefinition(["red", "blue", "o'green"])


def coloured(content, **more):
    """An asset cut by name, whose rows are `content(name)`."""

    @dg.asset(key=["own", "things"], partitions_def=COLOURS, io_manager_key=WAREHOUSE,
              metadata={PARTITION_FIELD: "colour"}, **more)  # fmt: skip
    def made(context: dg.AssetExecutionContext):
        return pa.table(content(context.partition_key))

    return made


def test_partitions_by_name(run, platform):
    seen = []
    reader = reading("things", pa.Table, seen, partitions_def=COLOURS)
    for number, colour in enumerate(("red", "o'green", "red")):
        made = coloured(lambda name, n=number: {"colour": [name], "n": [n]})
        assert run(made, reader, partition_key=colour).success
    assert [got.to_pylist() for got in seen] == [
        [{"colour": "red", "n": 0}], [{"colour": "o'green", "n": 1}], [{"colour": "red", "n": 2}],
    ]  # fmt: skip
    rows = platform.warehouse.query("SELECT colour, n FROM own.things ORDER BY n").to_pylist()
    assert rows == [{"colour": "o'green", "n": 1}, {"colour": "red", "n": 2}]
    result = run(coloured(lambda name: {"colour": ["blue"], "n": [0]}), partition_key="red", raise_on_error=False)
    assert "1 of 1 rows are outside the partitions of this run" in message(result)
    result = run(coloured(lambda name: {"colour": [1], "n": [0]}), partition_key="red", raise_on_error=False)
    assert "column colour is int64; partitions by name need a text" in message(result)


def test_partitions_of_several_dimensions(run):
    both = dg.MultiPartitionsDefinition({"day": DAYS, "colour": COLOURS})
    made = asset("things", ROWS, partitions_def=both, metadata={PARTITION_FIELD: "Id"})
    result = run(made, partition_key=dg.MultiPartitionKey({"day": "2024-05-01", "colour": "red"}), raise_on_error=False)
    assert "is cut by time or by names" in message(result)


# -- rows that don't fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stray", [date(2024, 5, 2), date(2024, 4, 30), None])
def test_rows_outside_the_partition_are_refused(run, platform, daily, stray):
    assert run(daily, partition_key="2024-05-01").success
    value = pa.table({"day": [date(2024, 5, 1), stray, date(2024, 5, 1)], "n": [7, 8, 9]})
    made = asset("daily", value, partitions_def=DAYS, metadata={PARTITION_FIELD: "day"})
    for _ in range(2):
        text = message(run(made, partition_key="2024-05-01", raise_on_error=False))
        assert "own.daily: 1 of 3 rows are outside the partitions of this run" in text
        assert f"day: {stray or 'null'}, n: 8" in text
    assert platform.warehouse.query("SELECT n FROM own.daily").to_pylist() == [{"n": 1}]


def test_rows_outside_the_partition_make_no_table(run, platform):
    value = pa.table({"day": [date(2024, 6, 1)]})
    made = asset("daily", value, partitions_def=DAYS, metadata={PARTITION_FIELD: "day"})
    assert not run(made, partition_key="2024-05-01", raise_on_error=False).success
    assert not platform.warehouse.exists(Relation("own", "daily"))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"n": [1], "extra": ["x"]}, "column extra is new"),
        ({}, "column n is missing"),
        ({"n": ["1"]}, "column n is VARCHAR, the table has BIGINT"),
        ({"n": [1.5]}, "column n is DOUBLE, the table has BIGINT"),
        ({"m": [{"a": 1}]}, "column m is new; column n is missing"),
    ],
)
def test_another_schema_is_refused(run, platform, daily, changed, expected):
    assert run(daily, partition_key="2024-05-01").success
    value = pa.table({"day": [date(2024, 5, 2)], **changed})
    made = asset("daily", value, partitions_def=DAYS, metadata={PARTITION_FIELD: "day"})
    text = message(run(made, partition_key="2024-05-02", raise_on_error=False))
    assert expected in text
    assert "Return the same columns and types as before" in text
    assert "Traceback" not in text
    assert platform.warehouse.query("SELECT n FROM own.daily").to_pylist() == [{"n": 1}]


@pytest.mark.parametrize("values", [pa.array([3], pa.int8()), pa.array([3], pa.uint32()), pa.nulls(1), pa.array([3])])
def test_narrower_numbers_and_nulls_fit(run, platform, daily, values):
    assert run(daily, partition_key="2024-05-01").success
    value = pa.table({"N": values, "day": [date(2024, 5, 2)]})  # the order and case of columns are free
    made = asset("daily", value, partitions_def=DAYS, metadata={PARTITION_FIELD: "Day"})
    assert run(made, partition_key="2024-05-02").success
    found = platform.warehouse.query("SELECT n FROM own.daily ORDER BY day").column("n").to_pylist()
    assert found == [1, values[0].as_py()]


def test_a_whole_table_may_change_its_columns(run, platform):
    assert run(asset("things", ROWS)).success
    assert run(asset("things", pa.table({"other": ["x"]}))).success
    assert platform.warehouse.query("SELECT * FROM own.things").to_pylist() == [{"other": "x"}]


def test_what_the_engine_refuses_is_one_message(run, platform):
    platform.warehouse.query("SELECT 1")
    with platform.warehouse.connect() as con:
        con.execute("CREATE SCHEMA own; CREATE VIEW own.things AS SELECT 1 AS n")
    text = message(run(asset("things", ROWS), raise_on_error=False))
    assert text.startswith("own.things can't be written: ")
    assert "Traceback" not in text


@pytest.mark.parametrize("field", [None, "at", "nope"])
def test_nothing_stays_registered(platform, field):
    """Also where the write fails, and the connection is shared."""
    with platform.warehouse.session(), platform.warehouse.connect() as con:
        try:
            window = (
                Window(field, datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)) if field else None
            )
            platform.warehouse.replace_rows(Relation("own", "t"), pa.table({"at": [datetime(2024, 1, 1)]}), window)
        except (ConfigError, DataRefused):
            assert field is not None
        else:
            assert field is None
        assert con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == []


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


def test_a_full_disk_below_the_lake(run, platform):
    value = pa.table({"n": list(range(100_000))})
    warm = asset("small", pa.table({"n": [1]}), manager=LAKE)
    assert run(warm).success
    with file_size_limit(90_000):
        result = run(asset("things", value, manager=LAKE), raise_on_error=False)
    text = message(result)
    assert "can't be written" in text
    assert "File too large" in text
    assert "Traceback" not in text
    assert list(platform.lake.store.list("assets/own/things/")) == []


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
