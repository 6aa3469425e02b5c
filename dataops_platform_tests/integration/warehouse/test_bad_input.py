"""Bad deliveries: each refused with one message that names it, nothing lost, nothing half done."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.contracts.model import BadRows, LoadMode, RuleKind, SchemaPolicy
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.quality.quarantine import held
from dataops_platform.quality.scorecard import scorecard
from dataops_platform.warehouse.duckdb import DuckDBWarehouse, files
from dataops_platform.warehouse.duckdb.load import Loader
from dataops_platform_tests.cloud import engine_home, on_both
from dataops_platform_tests.support import BLOCK, DAY1, DAY2, DAY3, Home, daily, middle, moment, rule, table

T = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER, "amount": Kind.NUMBER},
    mode=LoadMode.MERGE,
    key=["day", "id"],
    partitioning=daily(),
    rules=[rule("amount_range", RuleKind.RANGE, "amount", minimum=0)],
)
TABLES = ("staging.orders", "quarantine.orders", "dataops.loads")


def rows(day, amounts=(1.0, 2.0, 3.0)):
    return [{"day": day, "id": number, "amount": amount} for number, amount in enumerate(amounts)]


@pytest.fixture
def home(request, tmp_path) -> Home:
    return engine_home(request, tmp_path) if hasattr(request, "param") else Home(tmp_path)


def damage(home: Home, delivery, content) -> None:
    """Change a delivered object behind the lake's back."""
    path = Path(home.lake.store.uri(delivery.objects[0].key))
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(content(data) if callable(content) else content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda data: data[: len(data) // 2], "cut off at the end"),
        (lambda data: b"day,id,amount\n2024-01-01,1,2.5\n", "not a parquet file"),
        (b"", "not a parquet file"),
        (None, "gone from the lake"),
        (middle, "a damaged parquet file"),
        (
            lambda data: data[:4] + b"\x1f" + data[5:],
            "a damaged parquet file: its structure can't be read. Write it again",
        ),
    ],
    ids=["truncated", "csv", "empty", "gone", "page", "page's header"],
)
def test_an_object_damaged_in_the_lake(home, content, says):
    many = [{"day": DAY2, "id": n, "amount": n * 0.37} for n in range(3000)]
    good, bad = home.deliver(T, rows(DAY1), partition=DAY1), home.deliver(T, many, partition=DAY2)
    other = home.deliver(T, rows(DAY3), partition=DAY3)
    path = Path(home.lake.store.uri(bad.objects[0].key))
    original = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        damage(home, bad, content)

    outcomes = {o.delivery.partition: o for o in home.load(T)}
    assert {key: o.refused is None for key, o in outcomes.items()} == {
        str(DAY1): True,
        str(DAY2): False,
        str(DAY3): True,
    }
    reason = outcomes[str(DAY2)].refused
    assert bad.objects[0].key in reason
    assert says in reason
    assert "\n" not in reason
    assert home.rows("SELECT manifest, reason FROM dataops.refusals") == [(bad.manifest, reason)]
    assert {row[0] for row in home.rows("SELECT manifest FROM dataops.loads")} == {good.manifest, other.manifest}
    assert home.rows("SELECT day, count(*) AS n FROM staging.orders GROUP BY 1 ORDER BY 1") == [(DAY1, 3), (DAY3, 3)]

    path.unlink(missing_ok=True)
    path.write_bytes(original)
    (mended,) = home.load(T)
    assert (mended.refused, mended.rows_loaded) == (None, 3000)
    assert home.rows("SELECT count(*) AS n FROM staging.orders") == [(3006,)]


def test_a_text_that_is_not_utf_8(home):
    """It is shown nowhere: it may be confidential."""
    t = table("t", {"name": Kind.STRING})
    text = b"secret\xff"
    offsets = pa.array([0, len(text)], pa.int32()).buffers()[1]
    name = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(text)])
    (outcome,) = home.load(t, [home.deliver(t, pa.table({"name": name}))])
    assert outcome.refused.endswith(
        ".parquet: a text in it isn't UTF-8, which parquet wants. Write it again, with texts in UTF-8"
    )


FILES = ("dt=1/a.parquet", "dt=1/b.parquet", "dt=1/c.parquet")


def landed(home: Home, t, day=DAY1, files=FILES):
    """A delivery of files that landed, each with 1,000 rows of their own."""
    first = [1000 * FILES.index(file) for file in files]
    parts = [[{"day": day, "id": start + n, "amount": n * 0.37} for n in range(1000)] for start in first]
    return home.deliver(t, *parts, partition=day, landed=files)


@pytest.mark.parametrize("mode", [LoadMode.APPEND, LoadMode.MERGE])
def test_a_file_that_is_damaged_inside_keeps_out_no_other_that_landed_with_it(home, mode):
    t = replace(T, load_mode=mode)
    good = home.deliver(t, rows(DAY2), partition=DAY2)
    bad = landed(home, t)
    home.break_page(bad, 1)
    outcomes = {o.delivery.partition: o for o in home.load(t, run_id="first")}
    outcome = outcomes[str(DAY1)]
    assert (outcome.refused, outcome.rows_read, outcome.rows_loaded) == (None, 2000, 2000)
    (left,) = outcome.left_out
    assert (left.file, left.before) == ("dt=1/b.parquet#7", False)
    assert left.reason.startswith("dt=1/b.parquet: a damaged parquet file: ")
    assert left.reason.endswith(f" (kept as {bad.objects[1].key})")
    assert home.rows("SELECT load_id, partition_key, manifest, file, reason, run_id FROM dataops.refusals") == [
        (str(bad.load_id), str(DAY1), bad.manifest, left.file, left.reason, "first")
    ]
    sizes = sum(item.size for item in (bad.objects[0], bad.objects[2]))
    loads = "SELECT manifest, objects, bytes, rows_read, rows_loaded FROM dataops.loads WHERE partition_key = '{}'"
    assert home.rows(loads.format(DAY1)) == [(bad.manifest, 2, sizes, 2000, 2000)]
    objects = {row[0] for row in home.rows("SELECT DISTINCT _source_object FROM staging.orders")}
    assert objects == {good.objects[0].key, bad.objects[0].key, bad.objects[2].key}

    before = home.rows("SELECT * FROM staging.orders ORDER BY ALL")
    assert home.load(t) == []  # it is loaded, and not asked again
    shown = scorecard(home.warehouse, [t], []).refusals
    assert [(r["partition_key"], r["manifest"], r["reason"]) for r in shown] == [(str(DAY1), left.file, left.reason)]

    home.warehouse.reset(t)
    anew = {o.delivery.partition: o for o in home.load(t, run_id="second")}
    assert anew[str(DAY1)].left_out == (replace(left, before=True),)
    assert sorted(home.rows("SELECT day, id, amount FROM staging.orders")) == sorted({row[:3] for row in before})
    assert [r["reason"] for r in scorecard(home.warehouse, [t], []).refusals] == [left.reason]

    mended = landed(home, t, files=FILES[1:2])
    (outcome,) = home.load(t, run_id="third")
    assert (outcome.delivery, outcome.left_out, outcome.rows_loaded) == (mended, (), 1000)
    assert home.rows("SELECT count(*) FROM staging.orders WHERE day = DATE '2024-01-01'") == [(3000,)]
    assert scorecard(home.warehouse, [t], []).refusals == []

    home.warehouse.reset(t)  # both at once, and by one run
    assert len(home.load(t, run_id="fourth")) == 3
    assert scorecard(home.warehouse, [t], []).refusals == []


def test_part_of_a_snapshot_is_none(home):
    """Where a delivery replaces the one before, that one stays."""
    t = replace(T, load_mode=LoadMode.REPLACE)
    landed(home, t)
    home.load(t)
    bad = landed(home, t)
    home.break_page(bad, 1)
    (outcome,) = home.load(t)
    assert bad.objects[0].key in outcome.refused
    assert home.rows("SELECT count(*) FROM staging.orders") == [(3000,)]
    assert [r["manifest"] for r in scorecard(home.warehouse, [t], []).refusals] == [bad.manifest]


@pytest.mark.parametrize(
    "said", [2, None, ["a", "b"], [{"name": "a"}, {"name": "b"}], [{"name": "a", "generation": 1}]]
)
def test_what_others_say_of_the_origin_is_theirs(home, said):
    made = landed(home, T, files=FILES[:2])
    home.break_page(made, 1)
    other = replace(made, origin={"objects": said})
    (outcome,) = home.load(T, [other])
    assert "a damaged parquet file" in outcome.refused


def test_a_page_that_would_end_behind_its_file(home, monkeypatch):
    """DuckDB's word for it is that of a disk that fails."""
    bad = landed(home, T)

    class Connection(nullcontext):
        def __enter__(self):
            return self

        def execute(self, sql):
            raise duckdb.IOException('IO Error: Could not read enough bytes from file "x": attempted to read 9 bytes')

    path = home.lake.store.uri(bad.objects[0].key)
    with home.warehouse.connect() as connection:
        schemas, _ = files.inspect(connection, [path])
    monkeypatch.setattr(files.duckdb, "connect", Connection)
    assert files.damaged(T, schemas).keys() == {path}


def varint(number: int) -> bytes:
    """As parquet's footer writes a whole number that isn't negative."""
    return (bytes([number & 127 | 128]) + varint(number >> 7)) if number > 127 else bytes([number])


def negative_size(data: bytes) -> bytes:
    """Parquet whose footer says that the last column takes less than no bytes: two bits of difference."""
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(2)
    sizes = [b"\x16" + varint(2 * size) for size in (column.total_uncompressed_size, column.total_compressed_size)]
    at = data.rindex(b"".join(sizes)) + len(sizes[0]) + 1
    return data[:at] + bytes([data[at] | 1]) + data[at + 1 :]


def test_a_file_that_breaks_the_engine(home):
    """DuckDB closes the database to the whole process after an internal error: what can be loaded is, all the same."""
    good, refused = home.deliver(T, rows(DAY2), partition=DAY2), home.deliver(T, rows(DAY3), partition=DAY3)
    bad = landed(home, T)
    for delivery, number in ((bad, 1), (refused, 0)):
        path = Path(home.lake.store.uri(delivery.objects[number].key))
        path.write_bytes(negative_size(path.read_bytes()))
        with duckdb.connect() as connection, pytest.raises(duckdb.InternalException):
            connection.execute(f"SELECT sum(amount) FROM '{path}'").fetchall()
    told = []
    outcomes = {o.delivery.partition: o for o in home.load(T, progress=lambda *numbers: told.append(numbers))}
    assert told[-1] == (3, 3)
    (left,) = outcomes[str(DAY1)].left_out
    assert (outcomes[str(DAY1)].rows_loaded, outcomes[str(DAY2)].rows_loaded) == (2000, 3)
    assert outcomes[str(DAY2)].delivery == good
    says = "a damaged parquet file: its structure can't be read. Write it again, and deliver that"
    assert left.reason == f"dt=1/b.parquet: {says} (kept as {bad.objects[1].key})"
    assert outcomes[str(DAY3)].refused == f"{refused.objects[0].key}: {says}"
    assert home.rows("SELECT count(*) FROM staging.orders") == [(2003,)]
    assert len(home.rows("SELECT 1 FROM dataops.refusals")) == 2
    (again,) = home.load(T)
    assert (again.delivery, again.refused_before) == (refused, True)


def test_an_error_of_the_engine_that_is_no_file_s(home, monkeypatch):
    landed(home, T)

    def fail(*_):
        raise duckdb.InternalException("INTERNAL Error: something else")

    monkeypatch.setattr(Loader, "_load_together", fail)
    with pytest.raises(duckdb.InternalException, match="something else"):
        home.load(T)


@pytest.mark.parametrize(
    ("size", "damaged"), [("1.0 TiB", True), ("128.0 GiB", True), ("2.0 GiB", False), ("900.0 MiB", False)]
)
def test_a_page_of_impossible_size_is_no_want_of_memory(size, damaged):
    error = duckdb.OutOfMemoryException(
        f"Out of Memory Error: failed to allocate data of size {size} (1 KiB/8 GiB used)"
    )
    assert (files.data_error(error) is not None) is damaged


def test_files_that_are_all_damaged_or_aren_t_files_by_themselves_are_refused_whole(home):
    """Parts of one file belong together: half a file is not what somebody delivered."""
    many = [{"day": DAY2, "id": n, "amount": n * 0.37} for n in range(1000)]
    parts = home.deliver(T, many, many, partition=DAY2)
    all_bad = landed(home, T, files=FILES[:2])
    for delivery, numbers in ((parts, [1]), (all_bad, [0, 1])):
        for number in numbers:
            home.break_page(delivery, number)
    outcomes = home.load(T)
    assert [(bool(o.refused), o.left_out) for o in outcomes] == [(True, ()), (True, ())]
    assert home.rows("SELECT count(*) FROM staging.orders") == [(0,)]
    assert {row[0] for row in home.rows("SELECT manifest FROM dataops.refusals")} == {parts.manifest, all_bad.manifest}


def test_damage_and_too_many_bad_rows(home):
    """The breaker refuses the delivery: then nothing of it is loaded, and nothing left out."""
    bad = landed(home, T)
    home.break_page(bad, 1)
    strict = rule("amount_range", RuleKind.RANGE, "amount", minimum=300)
    (outcome,) = home.load(replace(T, rules=(strict,), bad_rows=BadRows(max_percent=40)))
    assert "break blocking rules" in outcome.refused
    assert outcome.left_out == ()
    assert home.rows("SELECT manifest, file FROM dataops.refusals") == [(bad.manifest, None)]
    assert [r["manifest"] for r in scorecard(home.warehouse, [T], []).refusals] == [bad.manifest]
    (outcome,) = home.load(T)
    assert (outcome.rows_loaded, len(outcome.left_out)) == (2000, 1)


def test_what_the_machine_can_not_read_now_is_no_damage(home):
    delivery = home.deliver(T, rows(DAY1), partition=DAY1)
    path = home.lake.store.uri(delivery.objects[0].key)
    with home.warehouse.connect() as connection:
        schemas, _ = files.inspect(connection, [path])
    assert files.damaged(T, schemas) == {}
    assert files.damaged(T, {f"{path}.gone": schemas[path]}) == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"day": [DAY1], "id": [1]}, "column 'amount' is missing"),
        ({"day": [DAY1], "id": [1], "Amount": [1.0]}, "column 'amount' is missing (the file has 'Amount')"),
        ({"day": [DAY1], "id": [1], "amount": [1.0], "note": ["x"]}, "column 'note' is not in the contract"),
        (
            {"day": [DAY1], "id": ["1"], "amount": [1.0]},
            "column 'id' is VARCHAR, the contract wants integer: an integer type. Write it so and deliver it again, or"
            " declare it as it is: `logicalType: string`",
        ),
        (
            {"day": [datetime(2024, 1, 1)], "id": [1], "amount": [Decimal("1.50")]},
            "wants date: DATE. Write it so and deliver it again, or declare it as it is: `logicalType: timestamp,"
            " physicalType: DATETIME`",
        ),
        (
            {"day": [DAY1], "id": [1], "amount": [Decimal("1.50")]},
            "or declare it as it is: `logicalType: number, physicalType: 'NUMERIC(3,2)'`",
        ),
        (
            {"day": [DAY1], "id": pa.array([Decimal("1.5")], pa.decimal256(40, 2)), "amount": ["x"]},
            "column 'id' is DECIMAL(40,2), the contract wants integer: an integer type. Write it so and deliver it"
            " again; raw_orders",
        ),
        ({"day": [DAY1], "id": [{"a": 1}], "amount": [1.0]}, "or declare it as it is: `logicalType: object`"),
        ({"day": ["2024-01-01"], "id": [1], "amount": [1.0]}, "column 'day' is VARCHAR, the contract wants date"),
        ({"day": [DAY1], "id": [1], "amount": [10**12]}, "column 'amount' is BIGINT, the contract wants number"),
    ],
)
def test_a_file_that_does_not_fit_the_contract(home, content, says):
    bad = home.deliver(T, pa.table(content), partition=DAY1)
    home.deliver(T, rows(DAY2), partition=DAY2)
    refused, loaded = home.load(T)
    assert says in refused.refused
    assert refused.refused.startswith(bad.objects[0].key)
    assert loaded.rows_loaded == 3
    assert home.rows("SELECT DISTINCT day FROM staging.orders") == [(DAY2,)]


def test_a_refused_delivery_is_loaded_once_the_contract_fits(tmp_path):
    home = Home(tmp_path)
    home.deliver(T, pa.table({"day": [DAY1], "id": [1], "amount": [10**12]}), partition=DAY1)
    assert home.load(T)[0].refused
    wider = table("orders", {"day": Kind.DATE, "id": Kind.INTEGER, "amount": Kind.INTEGER}, partitioning=daily())
    home.warehouse.reset(wider)
    (outcome,) = home.load(wider)
    assert (outcome.refused, outcome.rows_loaded) == (None, 1)


@pytest.mark.parametrize("small", [pa.int8(), pa.int16(), pa.int32(), pa.uint32()])
def test_narrower_types_fit(home, small):
    content = pa.table({"day": [DAY1], "id": pa.array([7], small), "amount": pa.array([1.5], pa.float32())})
    home.deliver(T, content, partition=DAY1)
    (outcome,) = home.load(T)
    assert outcome.refused is None
    assert home.rows("SELECT id, amount FROM staging.orders") == [(7, 1.5)]


def test_what_pandas_writes_of_itself_fits(home):
    """Nanoseconds, in a column that a delivery brings, too, and no type where no row has a value."""
    kinds = {"seen": Kind.TIMESTAMP, "naive": Kind.DATETIME, "text": Kind.STRING, "n": Kind.DECIMAL, "doc": Kind.JSON}
    t = table("frames", {**kinds, "n": FieldType(Kind.DECIMAL, 10, 2)})
    t = replace(t, schema_policy=SchemaPolicy.ADDITIVE)
    nanoseconds = {"seen": pa.timestamp("ns", "UTC"), "naive": pa.timestamp("ns"), "more": pa.timestamp("ns", "UTC")}
    content = pa.table(
        {name: pa.array([moment(1).replace(tzinfo=None)], kind) for name, kind in nanoseconds.items()}
        | dict.fromkeys(("text", "n", "doc"), pa.nulls(1))
    )
    home.deliver(t, content)
    (outcome,) = home.load(t)
    assert outcome.refused is None
    assert home.rows(
        "SELECT seen = '2024-02-01 00:01:00+00', more = seen, naive, text, n, doc FROM staging.frames"
    ) == [(True, True, moment(1).replace(tzinfo=None), None, None, None)]


@pytest.mark.parametrize("int96", [False, True])
def test_what_is_finer_than_a_microsecond_is_cut_off(home, int96):
    """Never rounded: that may be another day. Before 1970, too, and in a column that a delivery brings."""
    t = table("t", {"at": Kind.TIMESTAMP, "local": Kind.DATETIME})
    t = replace(t, schema_policy=SchemaPolicy.ADDITIVE)
    nanoseconds = [1_704_067_199_999_999_999, 1_500, 1_000, 0, -1, -1_000, -1_001, None]
    local, zoned = (pa.array(nanoseconds, pa.timestamp("ns", zone)) for zone in (None, "UTC"))
    rows = pa.table({"at": zoned, "local": local, "more": zoned})
    assert [o.refused for o in home.load(t, [home.deliver(t, rows, use_deprecated_int96_timestamps=int96)])] == [None]
    cut = [None if number is None else number // 1000 for number in nanoseconds]
    found = home.rows("SELECT epoch_us(t.at), epoch_us(local), epoch_us(more) FROM staging.t")
    assert sorted(found, key=str) == sorted(zip(cut, cut, cut, strict=True), key=str)


def test_dates_and_instants_of_other_years(home):
    """Of years that only DuckDB holds: their rows go to quarantine with the text, as of the formats that have texts."""
    t = table("t", {"id": Kind.INTEGER, "day": Kind.DATE, "at": Kind.TIMESTAMP, "doc": Kind.JSON})
    t = replace(t, schema_policy=SchemaPolicy.ADDITIVE)
    days, ends = [-719_162, 2_932_896], [-62_135_596_800_000_000, 253_402_300_799_999_999]
    (low, high), (first, last) = days, ends
    columns = {
        "id": pa.array(range(6)),
        "day": pa.array([*days, None, low - 1, high + 1, 2**31 - 1], pa.date32()),
        "at": pa.array([*ends, None, first - 1, last + 1, None], pa.timestamp("us", "UTC")),
        "doc": pa.array(["1", None, None, "no", None, None]),
        "local": pa.array([*ends, None, first - 1, None, None], pa.timestamp("us")),
        "fine": pa.array([None, 0, None, None, None, 2**63 - 1], pa.timestamp("ns")),
    }
    assert [o.refused for o in home.load(t, [home.deliver(t, pa.table(columns))])] == [None]
    held = home.warehouse.query("SELECT * FROM quarantine.t ORDER BY id").to_pylist()
    assert [(row["id"], json.loads(row["_uncast"])) for row in held] == [
        (3, {
            "doc": "no", "day": "0001-12-31 (BC)", "at": "0001-12-31 (BC) 23:59:59.999999+00",
            "local": "0001-12-31 (BC) 23:59:59.999999",
        }),
        (4, {"day": "10000-01-01", "at": "10000-01-01 00:00:00+00"}),
        (5, {"day": "infinity", "fine": "infinity"}),
    ]  # fmt: skip
    assert held[1]["_reasons"] == ["cast_day", "cast_at"]
    assert all(row[name] is None for row in held for name in columns if name != "id")
    assert home.rows("SELECT id, day, epoch_us(local) FROM staging.t ORDER BY id") == [
        (0, date.min, first), (1, date.max, last), (2, None, None)
    ]  # fmt: skip


@on_both
def test_timestamps_as_spark_and_hive_write_them(home):
    """INT96 is an instant in UTC, in a column that a delivery brings, too; as a wall-clock time it is that of UTC."""
    t = table("t", {"at": Kind.TIMESTAMP, "local": Kind.DATETIME})
    t = replace(t, schema_policy=SchemaPolicy.ADDITIVE)
    first, last = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)
    values = [first, datetime(1969, 12, 31, 23, 59, 59, 123456), datetime(2024, 3, 31, 2, 30), last, None]
    column = pa.array(values, pa.timestamp("us"))
    rows = pa.table({"at": column, "local": column, "more": column})
    assert [o.refused for o in home.load(t, [home.deliver(t, rows, use_deprecated_int96_timestamps=True)])] == [None]
    instants = [None if value is None else value.replace(tzinfo=UTC) for value in values]
    found = home.rows("SELECT t.at, local, more FROM staging.t")
    found = sorted(found, key=lambda row: (row[1] is None, row[1]))
    assert found == list(zip(instants, values, instants, strict=True))


@on_both
def test_a_column_may_be_called_as_the_platform_calls_things(home):
    """In one letter, for example; or as an engine calls what it adds to a table or a file, or as words of SQL."""
    names = ("r", "n", "q", "u", "t", "rowid", "filename", "file_index", "delivery", "key", "select", "Group")
    ranges = [rule(f"{name}_range", RuleKind.RANGE, name, minimum=0) for name in names]
    unique = [rule(f"{name}_unique", RuleKind.DUPLICATES, name) for name in names]
    t = table("t", dict.fromkeys(names, Kind.INTEGER), mode=LoadMode.MERGE, key=("rowid",), rules=[*ranges, *unique])
    for _ in range(2):
        home.load(t, [home.deliver(t, [dict.fromkeys(names, number) for number in (1, 1, 2, -1)])])
    found = [(item.reason, item.rows) for item in held(home.warehouse, ["t"])]
    assert sorted(found) == sorted((f"{name}_range", 2) for name in names)
    assert all(verdict.passed for verdict in home.judge(t))
    assert home.rows("SELECT rowid, filename FROM staging.t ORDER BY 1") == [(1, 1), (2, 2)]


def test_zero_rows_are_a_delivery(home):
    home.deliver(T, [], partition=DAY1)
    (outcome,) = home.load(T)
    assert (outcome.refused, outcome.rows_read, outcome.rows_loaded) == (None, 0, 0)
    assert list(home.ledger.data_versions("orders")) == [str(DAY1)]
    assert home.load(T) == []


@pytest.mark.parametrize(
    ("partition", "says"),
    [
        ("2025-01-01", "partition '2025-01-01' is outside 2024-01-01..2024-12-31"),
        ("2023-12-31", "partition '2023-12-31' is outside"),
        ("2024-1-1", "isn't of the form 2024-01-01"),
        ("all", "isn't of the form 2024-01-01"),
    ],
)
def test_a_partition_that_the_contract_has_not(home, partition, says):
    home.deliver(T, rows(DAY1), partition=partition)
    home.deliver(T, rows(DAY2), partition=DAY2)
    outcomes = {o.delivery.partition: o for o in home.load(T)}
    assert says in outcomes[partition].refused
    assert outcomes[str(DAY2)].rows_loaded == 3
    assert home.rows("SELECT count(*) AS n FROM staging.orders") == [(3,)]


def test_a_day_for_a_table_without_partitions(home):
    plain = table("plain", {"id": Kind.INTEGER})
    home.deliver(plain, [{"id": 1}], partition=DAY1)
    (outcome,) = home.load(plain)
    assert "no partitions" in outcome.refused


@pytest.mark.parametrize("mode", [LoadMode.APPEND, LoadMode.MERGE, LoadMode.REPLACE])
def test_breaker(home, mode):
    strict = replace(T, load_mode=mode, bad_rows=BadRows(max_percent=40))
    home.deliver(strict, rows(DAY1, [1, -1, -1]), partition=DAY1)  # 67 % bad
    home.deliver(strict, rows(DAY2, [1, 1, 1, -1, -1]), partition=DAY2)  # 40 %: just allowed
    home.deliver(strict, rows(DAY3), partition=DAY3)
    outcomes = {o.delivery.partition: o for o in home.load(strict)}
    assert outcomes[str(DAY1)].refused == "2 of 3 rows break blocking rules, more than maxPercent 40 allows"
    assert (outcomes[str(DAY2)].rows_loaded, outcomes[str(DAY2)].rows_quarantined) == (3, 2)
    assert outcomes[str(DAY3)].rows_loaded == 3
    assert home.rows("SELECT DISTINCT day FROM staging.orders ORDER BY 1") == [(DAY2,), (DAY3,)]
    assert home.rows("SELECT day, count(*) AS n FROM quarantine.orders GROUP BY 1") == [(DAY2, 2)]
    assert set(home.ledger.data_versions("orders")) == {str(DAY2), str(DAY3)}

    shown = scorecard(home.warehouse, [strict], []).refusals
    assert [(r["partition_key"], r["followed"]) for r in shown] == [(str(DAY1), False)]
    lenient = replace(strict, bad_rows=BadRows(max_percent=70))
    (retried,) = home.load(lenient)
    assert (retried.rows_loaded, retried.rows_quarantined) == (1, 2)
    assert home.load(lenient) == []


def test_breaker_leaves_the_earlier_snapshot(home):
    strict = replace(T, load_mode=LoadMode.REPLACE, bad_rows=BadRows(max_percent=10))
    home.deliver(strict, rows(DAY1, [1, 2]), partition=DAY1)
    home.deliver(strict, rows(DAY1, [-1, 2]), partition=DAY1)
    first, second = sorted(home.load(strict), key=lambda o: o.delivery.created_at)
    assert (first.rows_loaded, second.refused is None) == (2, False)
    assert home.rows("SELECT amount FROM staging.orders ORDER BY 1") == [(1.0,), (2.0,)]


def test_block_splits_no_row_but_those_of_another_day(home):
    blocking = replace(T, bad_rows=BLOCK)
    home.deliver(blocking, [*rows(DAY1, [1, -1]), {"day": DAY2, "id": 9, "amount": 1.0}], partition=DAY1)
    (outcome,) = home.load(blocking)
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (2, 1)
    assert home.rows("SELECT id, _reasons FROM quarantine.orders") == [(9, ["outside_partition"])]
    (verdict,) = home.judge(blocking)
    assert (verdict.passed, verdict.failed_rows) == (False, 1)


def test_a_rule_that_can_not_be_computed_for_a_row(home):
    t = table(
        "codes", {"code": Kind.STRING},
        rules=[rule("positive", RuleKind.CONDITION, "code", condition="CAST(code AS BIGINT) < 0")],
    )  # fmt: skip
    bad = home.deliver(t, [{"code": "x"}])
    home.deliver(t, [{"code": "1"}])
    refused, loaded = home.load(t)
    assert "can't be computed for a row" in refused.refused
    assert bad.objects[0].key in refused.refused
    assert loaded.rows_loaded == 1


def test_a_rule_that_the_engine_does_not_accept(home):
    t = table(
        "codes", {"code": Kind.STRING},
        rules=[rule("year", RuleKind.CONDITION, "code", condition="EXTRACT(YEAR FROM code) < 0")],
    )  # fmt: skip
    home.deliver(t, [{"code": "x"}])
    with pytest.raises(ConfigError, match=r"contract\.odcs\.yaml: a blocking rule of codes can't run"):
        home.load(t)
    assert home.rows("SELECT count(*) AS n FROM dataops.refusals") == [(0,)]


def test_columns_named_like_what_the_loader_uses(home):
    """The lake's keys hold `created_at=…`, which DuckDB takes for a column unless told otherwise."""
    names = ("created_at", "filename", "n", "part", "k", "p", "d", "s", "t", "rows")
    t = table(
        "names", dict.fromkeys(names, Kind.STRING), mode=LoadMode.MERGE, key=["n"],
        rules=[rule(f"{name}_x", RuleKind.NOT_NULL, name) for name in names],
    )  # fmt: skip
    home.deliver(
        t, [{name: f"{name} {number}" for name in names} for number in (1, 2)], [dict.fromkeys(names[1:], "3")]
    )
    (outcome,) = home.load(t)
    assert (outcome.refused, outcome.rows_loaded, outcome.rows_quarantined) == (None, 2, 1)
    assert home.rows(f"SELECT {', '.join(names)} FROM staging.names ORDER BY n") == [
        tuple(f"{name} {number}" for name in names) for number in (1, 2)
    ]
    assert home.rows("SELECT _reasons FROM quarantine.names") == [(["created_at_x"],)]


def test_the_warehouse_is_locked_by_another_process(home):
    home.warehouse = DuckDBWarehouse(home.warehouse.path, "1GB", lock_wait=0.5)
    home.deliver(T, rows(DAY1), partition=DAY1)
    code = "import duckdb, sys\nc = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home.warehouse.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ConfigError, match=f"in use by process {other.pid}") as error:
            home.load(T)
        assert "\n" not in str(error.value)
        other.stdin.close()
    assert home.load(T)[0].rows_loaded == 3


def test_what_stands_where_the_warehouse_should_be(tmp_path):
    home = Home(tmp_path)
    home.warehouse.path.write_bytes(b"no database at all, " * 1000)
    with pytest.raises(ConfigError, match="is not a DuckDB file"):
        home.load(T, [])
    home.warehouse.path.unlink()
    home.warehouse.path = tmp_path / "file" / "warehouse.duckdb"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be created"):
        home.load(T, [])


def test_a_changed_contract_is_told(home):
    home.load(T, [])
    changed = table("orders", {"day": Kind.DATE, "id": Kind.STRING, "extra": Kind.DATE}, partitioning=daily())
    with pytest.raises(ConfigError) as error:
        home.load(changed, [])
    for text in ("staging.orders.id is BIGINT, the contract says VARCHAR", "dataops apply --allow-breaking orders"):
        assert text in str(error.value)


def test_a_bad_row_of_a_key_that_staging_holds_twice(tmp_path):
    """A table that was appended to until its contract said merge: every row of an older delivery is accounted for."""
    home, columns = Home(tmp_path), {"id": Kind.INTEGER, "v": Kind.INTEGER}
    rules = [rule("v_range", RuleKind.RANGE, "v", minimum=0)]
    appended = table("t", columns, key=("id",), rules=rules)
    home.load(appended, [home.deliver(appended, [{"id": 1, "v": 1}, {"id": 1, "v": 2}], at=moment(5))])
    merged = table("t", columns, mode=LoadMode.MERGE, key=("id",), rules=rules)
    rows = [{"id": 1, "v": 3}, {"id": 5, "v": -9}, {"id": 6, "v": 4}]
    (outcome,) = home.load(merged, [home.deliver(merged, rows, at=moment(1))])
    assert (outcome.rows_read, outcome.rows_loaded, outcome.rows_quarantined, outcome.rows_superseded) == (3, 1, 1, 1)
    assert home.rows("SELECT id, v FROM quarantine.t") == [(5, -9)]
