"""Extraction from files: what can't be read is refused by name, everything else is delivered, each arrival once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.contracts.model import LoadMode, Source
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.ingestion.extractor import extract, extractor_for
from dataops_platform_tests.support import DAY1, DAY2, DAY3, Home, daily, file_size_limit, table

pytestmark = pytest.mark.usefixtures("open_files")

COLUMNS = {"day": Kind.DATE, "id": Kind.INTEGER, "name": Kind.STRING, "at": Kind.TIMESTAMP}
HEAD = "day,id,name,at\n"
DAYS = [str(DAY1), str(DAY2), str(DAY3)]


def source(path: str, **options):
    made = table("orders", COLUMNS, partitioning=daily())
    return replace(made, source=Source("files", {"path": path, **options}))


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def run(home: Home, t, folder: Path, days=DAYS):
    return extract(t, extractor_for(t, folder), home.lake, days)


def write(folder: Path, day: str, text: str | bytes, ending: str = "csv", at: int = 1_700_000_000) -> Path:
    path = folder / f"{day}.{ending}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (at, at))
    return path


def test_csv(home, tmp_path):
    t = source("{partition}.csv")
    write(tmp_path, DAYS[0], HEAD + '2024-01-01,1,"a, ""b""",2024-01-01T12:00:00+02:00\n2024-01-01,2,,\n')
    write(tmp_path, DAYS[1], HEAD)
    done = run(home, t, tmp_path)
    assert ([d.rows for d in done.delivered], done.existing, done.without_data, done.refused) == (
        [2, 0],
        0,
        (DAYS[2],),
        (),
    )
    assert [o.refused for o in home.load(t)] == [None, None]
    rows = home.rows('SELECT id, name, CAST("at" AS VARCHAR) AS t FROM staging.orders ORDER BY id')
    assert rows == [(1, 'a, "b"', "2024-01-01 10:00:00+00"), (2, None, None)]


def test_a_folder_named_like_a_column_is_only_a_folder(home, tmp_path):
    folder = tmp_path / f"day={DAYS[0]}"
    folder.mkdir()
    write(folder, "orders", HEAD + "2024-01-01,1,a,\n")
    done = run(home, source("day={partition}/orders.csv"), tmp_path)
    assert ([d.rows for d in done.delivered], done.refused) == ([1], ())


def test_each_arrival_once(home, tmp_path):
    t = source("{partition}.csv")
    write(tmp_path, DAYS[0], HEAD)
    assert len(run(home, t, tmp_path).delivered) == 1
    again = run(home, t, tmp_path)
    assert (again.delivered, again.existing) == ((), 1)
    write(tmp_path, DAYS[0], HEAD + "2024-01-01,1,a,\n", at=1_700_000_001)
    assert [d.rows for d in run(home, t, tmp_path).delivered] == [1]
    assert len(list(home.lake.manifests("orders"))) == 2


def test_a_correction_that_is_older(home, tmp_path):
    """The file that is there counts, whatever its time: copied with its time, from an archive, or put back."""
    t = replace(source("{partition}.csv"), load_mode=LoadMode.REPLACE)
    for number, at in enumerate((5, 3, 5, 9, 3, 3)):
        write(tmp_path, DAYS[0], HEAD + f"2024-01-01,{at},a,\n", at=1_700_000_000 + at)
        delivered = run(home, t, tmp_path).delivered
        assert [d.origin.get("made_at") for d in delivered] == {
            0: [None], 1: ["2023-11-14T22:13:23.000Z"], 2: ["2023-11-14T22:13:25.000Z"], 3: [None],
            4: ["2023-11-14T22:13:23.000Z"], 5: [],
        }[number]  # fmt: skip
        home.load(t)
        assert home.rows("SELECT id FROM staging.orders") == [(at,)]
        assert run(home, t, tmp_path).delivered == ()


def test_a_damaged_manifest_stops_no_other_arrival(home, tmp_path):
    t = source("{partition}.csv")
    for day in DAYS[:2]:
        write(tmp_path, day, HEAD)
    damaged = run(home, t, tmp_path, DAYS[:1]).delivered[0].manifest
    path = Path(home.lake.store.uri(damaged))
    path.unlink()
    path.write_text("{")
    write(tmp_path, DAYS[0], HEAD + "2024-01-01,1,a,\n", at=1_600_000_000)
    assert {d.partition: d.rows for d in run(home, t, tmp_path).delivered} == {DAYS[0]: 1, DAYS[1]: 0}


def test_a_file_stays_behind_what_came_by_hand(home, tmp_path):
    t = replace(source("{partition}.csv"), load_mode=LoadMode.REPLACE)
    write(tmp_path, DAYS[0], HEAD + "2024-01-01,1,a,\n")
    run(home, t, tmp_path)
    home.deliver(t, [{"day": DAY1, "id": 2}], partition=DAY1)  # later
    assert run(home, t, tmp_path).delivered == ()
    home.load(t)
    assert home.rows("SELECT id FROM staging.orders") == [(2,)]
    write(tmp_path, DAYS[0], HEAD + "2024-01-01,3,a,\n", at=1_600_000_000)
    assert len(run(home, t, tmp_path).delivered) == 1
    home.load(t)
    assert home.rows("SELECT id FROM staging.orders") == [(3,)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("day,id,name\n2024-01-02,1,a\n", "column 'at' is missing"),
        ("day,id,name,at,note\n2024-01-02,1,a,,x\n", "column 'note' is not in the contract"),
        (HEAD + "2024-01-02,1,a\n", "can't be read as csv: line 2 has 3 fields instead of 4"),
        (HEAD + "2024-01-02,1,a,,x\n", "line 2 has 5 fields instead of 4"),
        (b"PAR1\x00\xff\xfe" * 50, "2024-01-02.csv: "),
    ],
)
def test_a_bad_csv_among_good_ones(home, tmp_path, text, says):
    t = source("{partition}.csv")
    for day in DAYS:
        write(tmp_path, day, text if day == DAYS[1] else HEAD + f"{day},1,a,\n")
    done = run(home, t, tmp_path)
    assert [d.partition for d in done.delivered] == [DAYS[0], DAYS[2]]
    (message,) = [refused.reason for refused in done.refused]
    assert message.startswith(str(tmp_path / f"{DAYS[1]}.csv"))
    assert says in message
    assert "\n" not in message
    assert [ref.partition for ref in home.lake.manifests("orders")] == [DAYS[0], DAYS[2]]
    write(tmp_path, DAYS[1], HEAD + f"{DAYS[1]},1,a,\n", at=1_700_000_009)  # mended
    assert [d.partition for d in run(home, t, tmp_path).delivered] == [DAYS[1]]


LOSSY = {
    "amount": FieldType(Kind.DECIMAL, 10, 2), "id": Kind.INTEGER, "day": Kind.DATE, "at": Kind.TIMESTAMP,
    "local": Kind.DATETIME, "clock": Kind.TIME,
}  # fmt: skip


def lossy(column: str, *values: str):
    """A table with one column of each type that can lose something, and a CSV with texts in one of them."""
    made = replace(table("orders", LOSSY), source=Source("files", {"path": "orders.csv"}))
    rows = [",".join(f'"{value}"' if name == column else "" for name in LOSSY) for value in values]
    return made, "\n".join([",".join(LOSSY), *rows]) + "\n"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("amount", "1.005"),
        ("amount", "-0.001"),
        ("amount", "1e-3"),
        ("amount", "1.0005e1"),
        ("amount", "1.00000000000000000000000000000000000000001"),
        ("id", "1.5"),
        ("id", "15e-1"),
        ("day", "2024-01-01 12:00:00"),
        ("day", "2024-01-01T00:00:01"),
        ("at", "2024-01-01 12:00:00.1234567+02:00"),
        ("local", "2024-01-01 12:00:00.1234567"),
        ("local", "2024-01-01 12:00:00+02:00"),
        ("local", "2024-01-01T12:00:00Z"),
        ("clock", "12:00:00.1234567"),
    ],
)
def test_a_csv_value_that_would_be_rounded_is_quarantined(home, tmp_path, column, value):
    good = {"amount": "1.50", "id": "1", "day": "2024-01-01", "clock": "12:00"}.get(column, "2024-01-01 12:00:00")
    t, text = lossy(column, good, value, good, value)
    (tmp_path / "orders.csv").write_text(text)
    done = run(home, t, tmp_path, ["all"])
    assert [item.uncast for delivery in done.delivered for item in delivery.objects] == [True]
    (outcome,) = home.load(t)
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (2, 2)
    held = home.rows("SELECT _reasons, _uncast, _source_row FROM quarantine.orders ORDER BY 3")
    assert held == [([f"cast_{column}"], json.dumps({column: value}, separators=(",", ":")), row) for row in (1, 3)]


@pytest.mark.parametrize(
    ("column", "values", "read"),
    [
        ("amount", ["1.500", " 1.5 ", "5.", ".5", "1_0.5", "1.005e1", "100e-2", "0e-9", "", "+1.00"],
         [None, 0, 0.5, 1, 1, 1.5, 1.5, 5, 10.05, 10.5]),
        ("id", ["1.0", "1e3", "10e-1", "7.", "1_0", "0x1E", "9223372036854775807"],
         [1, 1, 7, 10, 30, 1000, 9223372036854775807]),
        ("day", ["2024-01-01", "2024-01-02 00:00:00", "2024-01-03T00:00:00"], None),
        ("at", ["2024-01-01 12:00:00.123456", "2024-01-01T12:00:00Z", "2024-01-01 12:00:00.1234560+02:00"], None),
        ("local", ["2024-01-01 12:00:00.123456", "2024-01-02", "2024-01-01T12:00:00.1200000"], None),
        ("clock", ["12:00", "12:00:00.123456"], None),
    ],
)  # fmt: skip
def test_csv_values_written_otherwise_lose_nothing(home, tmp_path, column, values, read):
    t, text = lossy(column, *values)
    (tmp_path / "orders.csv").write_text(text)
    assert [d.rows for d in run(home, t, tmp_path, ["all"]).delivered] == [len(values)]
    assert [o.refused for o in home.load(t)] == [None]
    if read is not None:
        found = home.rows(f"SELECT {column} FROM staging.orders ORDER BY 1 NULLS FIRST")
        assert [None if v is None else float(v) if column == "amount" else v for (v,) in found] == read


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_full_disk_is_not_the_files_fault(home, tmp_path, ending):
    """A limit on the size of files stands for the full disk; it works without privileges."""
    t = source("{partition}." + ending)
    if ending == "csv":
        digests = (f"{DAYS[0]},{n},{hashlib.sha256(str(n).encode()).hexdigest()},\n" for n in range(5_000))
        write(tmp_path, DAYS[0], HEAD + "".join(digests))
    else:
        names = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(5_000)]
        pq.write_table(pa.table({"name": names}), tmp_path / f"{DAYS[0]}.parquet")
    with file_size_limit(50_000), pytest.raises(ConfigError, match=r"the folder .* can't be written: .*File too large"):
        run(home, t, tmp_path)
    assert list(home.lake.manifests("orders")) == []
    assert len(run(home, t, tmp_path).delivered if ending == "csv" else [1]) == 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[:-10], "damaged or truncated"),
        (lambda data: HEAD.encode(), "not a parquet file"),
        (lambda data: b"", "the file is empty (0 bytes)"),
    ],
)
def test_a_bad_parquet_among_good_ones(home, tmp_path, spoil, says):
    t = source("{partition}.parquet")
    for day in DAYS:
        pq.write_table(pa.table({"day": [DAY1], "id": [1], "name": ["a"]}), tmp_path / f"{day}.parquet")
    path = tmp_path / f"{DAYS[1]}.parquet"
    path.write_bytes(spoil(path.read_bytes()))
    done = run(home, t, tmp_path)
    assert [d.partition for d in done.delivered] == [DAYS[0], DAYS[2]]
    (message,) = [refused.reason for refused in done.refused]
    assert message.startswith(str(path))
    assert says in message


def test_a_parquet_file_with_a_column_of_ours(home, tmp_path):
    """By `_uncast` the load knows rows whose values couldn't be cast: nobody else may say so."""
    t = source("{partition}.parquet")
    pq.write_table(pa.table({"id": [1], "_uncast": ["{}"]}), tmp_path / f"{DAYS[0]}.parquet")
    done = run(home, t, tmp_path)
    (message,) = [refused.reason for refused in done.refused]
    assert message.endswith("column '_uncast' is the platform's own; call it something else")


def test_a_file_that_vanishes(home, tmp_path):
    t = source("{partition}.parquet")
    for day in DAYS[:2]:
        pq.write_table(pa.table({"id": [1]}), tmp_path / f"{day}.parquet")
    extractor = extractor_for(t, tmp_path)
    arrivals = extractor.available(t, DAYS)
    (tmp_path / f"{DAYS[0]}.parquet").unlink()
    extractor.available = lambda *_: arrivals
    done = extract(t, extractor, home.lake, DAYS)
    assert ([d.partition for d in done.delivered], len(done.refused)) == ([DAYS[1]], 1)
    assert f"{DAYS[0]}.parquet: can't be read: No such file" in done.refused[0].reason


def test_nothing_is_left_behind(home, tmp_path):
    t = source("{partition}.csv")
    write(tmp_path, DAYS[0], HEAD)
    write(tmp_path, DAYS[1], "nonsense")
    run(home, t, tmp_path)
    assert list((home.lake.store.root / ".scratch").iterdir()) == []


def test_a_lake_that_can_not_be_written(tmp_path):
    t = source("{partition}.csv")
    write(tmp_path, DAYS[0], HEAD)
    home = Home(tmp_path / "home")
    (tmp_path / "home" / "lake").write_text("")
    with pytest.raises(ConfigError, match=r"the lake .* can't be"):
        run(home, t, tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "it needs a `path`"),
        ({"path": "x.json"}, "nothing says which format"),
        ({"path": "x.csv", "format": "json"}, "format `json` can't be read; did you mean `jsonl`"),
        ({"path": "x.csv", "delimiter": ""}, "delimiter '' isn't one character"),
        ({"path": "x.csv", "glob": 1}, "unknown option glob"),
        ({"path": "{partition}/*.csv"}, r"`\*` in its `path` '\{partition\}/\*\.csv' stands for nothing"),
        ({"path": "{date}.csv"}, r"`\{date\}` in its `path`"),
    ],
)
def test_options(tmp_path, options, says):
    t = replace(source("x.csv"), source=Source("files", options))
    with pytest.raises(ConfigError, match=says) as error:
        extractor_for(t, tmp_path)
    assert "contract.odcs.yaml" in str(error.value)


def test_a_partitioned_table_needs_a_path_per_partition(home, tmp_path):
    with pytest.raises(ConfigError, match=r"needs \{partition\}"):
        run(home, source("orders.csv"), tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [("file", "unknown extractor 'file'; use files, nycflights13"), ("no.such:Thing", "can't be imported")],
)
def test_unknown_extractors(tmp_path, name, says):
    with pytest.raises(ConfigError, match=says):
        extractor_for(replace(source("x.csv"), source=Source(name, {})), tmp_path)
