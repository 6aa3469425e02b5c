"""Every format by the contract's types; what can't be cast is quarantined with its text, and no row is lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataops_platform.contracts.file_formats import FileFormat, FileReading
from dataops_platform.contracts.model import BadRowAction, BadRows, LoadMode, RuleKind, SchemaPolicy, Source
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.ingestion.extractor import extract, extractor_for
from dataops_platform.ingestion.landing import deliver_files
from dataops_platform.ingestion.reading import to_parquet
from dataops_platform.quality import quarantine
from dataops_platform.warehouse.base import Selection
from dataops_platform_tests.cloud import ENGINES, engine_home, on_both
from dataops_platform_tests.support import Home, rule, table

pytestmark = pytest.mark.usefixtures("open_files")

TYPES = {
    "name": Kind.STRING,
    "n": Kind.INTEGER,
    "x": Kind.NUMBER,
    "amount": FieldType(Kind.DECIMAL, 30, 6),
    "ok": Kind.BOOLEAN,
    "day": Kind.DATE,
    "at": Kind.TIMESTAMP,
    "local": Kind.DATETIME,
    "clock": Kind.TIME,
    "more": Kind.JSON,
}
T = table("t", TYPES)


@pytest.fixture(params=ENGINES)
def home(request, tmp_path) -> Home:
    return engine_home(request, tmp_path)


def written(kind: FileFormat, rows: list[dict[str, Any]]) -> bytes:
    """Rows of texts and JSON values, in a format."""
    if kind is FileFormat.CSV:
        out = io.StringIO()
        made = csv.DictWriter(out, list(TYPES), lineterminator="\n")
        made.writeheader()
        for row in rows:
            made.writerow({k: json.dumps(v) if isinstance(v, dict | list | bool) else v for k, v in row.items()})
        return out.getvalue().encode()
    if kind is FileFormat.JSONL:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    fields = [{"name": name, "type": ["null", "string"]} for name in TYPES]
    buffer = io.BytesIO()
    texts = [{k: json.dumps(v) if isinstance(v, dict | list | bool) else v for k, v in row.items()} for row in rows]
    fastavro.writer(buffer, {"type": "record", "name": "r", "fields": fields}, texts, codec="deflate")
    return buffer.getvalue()


def deliver(home: Home, t, folder: Path, name: str, content: bytes, **options: Any):
    """Deliver a file as a `source` does, and load it."""
    (folder / name).write_bytes(content)
    made = replace(t, source=Source("files", {"path": name, **options}))
    done = extract(made, extractor_for(made, folder), home.lake, ["all"])
    return made, done


GOOD = {
    "name": "a, \"b\"\nß", "n": "-7", "x": "1.5", "amount": "123456789012345678901234.000001", "ok": True,
    "day": "2024-02-29", "at": "2024-02-29T12:00:00.000001+02:00", "local": "2024-02-29 23:59:59.999999",
    "clock": "23:59:59.5", "more": {"k": [1, None, {"z": "y"}]},
}  # fmt: skip
BAD = {
    "n": "1.5", "x": "much", "amount": "0.1234567", "ok": "perhaps", "day": "2023-02-29", "at": "yesterday",
    "local": "2024-01-01T00:00:00Z", "clock": "25:00", "more": "{not json",
}  # fmt: skip


@pytest.mark.parametrize("kind", [FileFormat.CSV, FileFormat.JSONL, FileFormat.AVRO])
def test_each_type(home, tmp_path, kind):
    """A good row, a row without anything, and for each type a row with one value that can't be cast."""
    wrong = {name: text for name, text in BAD.items() if (name, kind) != ("more", FileFormat.JSONL)}  # a text there
    bad = [GOOD | {name: text} for name, text in wrong.items()]
    content = written(kind, [GOOD, dict.fromkeys(TYPES), *bad])
    t, done = deliver(home, T, tmp_path, f"t.{kind}", content)
    assert done.refused == ()
    (outcome,) = home.load(t)
    assert (outcome.rows_read, outcome.rows_loaded, outcome.rows_quarantined) == (2 + len(bad), 2, len(bad))
    found = home.warehouse.query("SELECT * FROM staging.t WHERE n IS NOT NULL").to_pylist()[0]
    assert {name: found[name] for name in TYPES if name != "more"} == {
        "name": GOOD["name"], "n": -7, "x": 1.5, "amount": Decimal(GOOD["amount"]), "ok": True,
        "day": date(2024, 2, 29), "at": datetime(2024, 2, 29, 10, 0, 0, 1, UTC),
        "local": datetime(2024, 2, 29, 23, 59, 59, 999999), "clock": time(23, 59, 59, 500000),
    }  # fmt: skip
    more = found["more"]
    assert (json.loads(more) if isinstance(more, str) else more) == GOOD["more"]
    held = home.warehouse.query("SELECT * FROM quarantine.t").to_pylist()
    assert {row["_reasons"][0]: json.loads(row["_uncast"]) for row in held} == {
        f"cast_{name}": {name: text} for name, text in wrong.items()
    }
    assert all(len(row["_reasons"]) == 1 for row in held)
    assert all(row[row["_reasons"][0].removeprefix("cast_")] is None for row in held)


def test_a_row_is_judged_by_nothing_else_and_stays_when_it_is_judged_again(home, tmp_path):
    """Its missing value isn't what is wrong with it; the breaker counts it like any other bad row."""
    rules = [rule("n_required", RuleKind.NOT_NULL, "n"), rule("n_range", RuleKind.RANGE, "n", minimum=0)]
    t = table("t", {"id": Kind.INTEGER, "n": Kind.INTEGER}, mode=LoadMode.MERGE, key=("id",), rules=rules)
    content = b"id,n\n1,5\n2,five\n3,\n4,-1\nx,y\n"
    t, _ = deliver(home, t, tmp_path, "t.csv", content)
    home.load(t)
    by_reason = "SELECT r, COUNT(*) AS n FROM quarantine.t, UNNEST(_reasons) AS {} GROUP BY 1 ORDER BY 1"
    sql = by_reason.format("r" if home.warehouse.dialect == "bigquery" else "u(r)")
    expected = [("cast_id", 1), ("cast_n", 2), ("n_range", 1), ("n_required", 1)]
    assert home.rows(sql) == expected
    known = quarantine.known(t, Selection(None, "cast_n"))
    (shown, other) = quarantine.show(home.warehouse, t, known, 10)
    assert {shown["_uncast"], other["_uncast"]} == {'{"n":"five"}', '{"id":"x","n":"y"}'}
    milder = replace(t, rules=())
    (replayed,) = quarantine.replay(home.warehouse, [milder], Selection(), "again")["t"]
    assert (replayed.rows_loaded, replayed.rows_left) == (2, 2)
    assert home.rows(sql) == [("cast_id", 1), ("cast_n", 2)]
    strict = replace(t, bad_rows=BadRows(BadRowAction.QUARANTINE, 10.0))
    (tmp_path / "t.csv").write_bytes(content + b"9,nine\n")
    t, _ = deliver(home, strict, tmp_path, "t.csv", content + b"9,nine\n")
    assert "5 of 6 rows break blocking rules, more than maxPercent 10 allows" in home.load(t)[0].refused


@on_both
def test_objects_of_one_delivery_with_and_without_such_values(home, tmp_path):
    """Each object has the column or not, whichever of them is the first."""
    t = table("t", {"id": Kind.INTEGER, "n": Kind.INTEGER})
    files = {"a.csv": b"id,n\n1,5\n", "b.jsonl": b'{"id": 2, "n": "five"}\n', "c.csv": b"id,n\n3,7\n4,x\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for names in (["a.csv", "b.jsonl"], ["c.csv", "a.csv"]):
        for number, name in enumerate(names):
            os.utime(tmp_path / name, (number, number))  # their order in the delivery
            (tmp_path / name).write_bytes(files[name] + b"\n" * (names[0] == "c.csv"))  # not the same bytes again
        (delivery,) = deliver_files(t, home.lake, "all", [tmp_path / name for name in names]).delivered
        assert sorted(item.uncast for item in delivery.objects) == [False, True]
        assert list(delivery.schema) == ["id", "n"]
    assert [o.refused for o in home.load(t)] == [None, None]
    assert home.rows("SELECT id, n FROM staging.t ORDER BY id, n") == [(1, 5), (1, 5), (3, 7)]
    assert home.rows("SELECT id, n, _uncast FROM quarantine.t ORDER BY id") == [
        (2, None, '{"n":"five"}'), (4, None, '{"n":"x"}')
    ]  # fmt: skip


NO_JSON = ["{not json", "", 'say "\n\\', "{} {}"]
BEYOND_JSON = ["NaN", '{"k": NaN}', "[1,]"]
"""What parsers take that go beyond the standard, also that of the server which stands for BigQuery here."""


@on_both
def test_texts_of_a_parquet_file_that_are_no_json(home):
    """They are delivered as they are, and found when they are loaded; other texts that can't be cast stay with them."""
    t = table("t", {"id": Kind.INTEGER, "one": Kind.JSON, "two": Kind.JSON})
    wrong = NO_JSON + (BEYOND_JSON if home.warehouse.dialect == "duckdb" else [])
    texts = ['{"NaN,]": 1}', None, *wrong]
    ids = list(range(len(texts)))
    plain = home.deliver(t, pa.table({"id": ids, "one": texts, "two": pa.nulls(len(texts), pa.string())}))
    uncast = pa.table({"id": [20, None, 22], "one": ["no", "1", "null"], "two": ["{", "2", None]})
    found = uncast.append_column("_uncast", pa.array([None, '{"id":"x"}', '{"gone":"x"}']))
    assert [o.refused for o in home.load(t, [plain, home.deliver(t, found)])] == [None, None]
    kept = home.rows("SELECT id, one FROM staging.t ORDER BY id")
    assert [(n, json.loads(text) if isinstance(text, str) else text) for n, text in kept] == [
        (0, {"NaN,]": 1}), (1, None), (22, None)
    ]  # fmt: skip
    held = home.warehouse.query("SELECT * FROM quarantine.t ORDER BY id").to_pylist()
    assert [(row["id"], row["_reasons"], json.loads(row["_uncast"])) for row in held if row["id"] is not None] == [
        *((n, ["cast_one"], {"one": text}) for n, text in enumerate(wrong, 2)),
        (20, ["cast_one", "cast_two"], {"one": "no", "two": "{"}),
    ]
    assert [(row["_reasons"], row["_uncast"]) for row in held if row["id"] is None] == [(["cast_id"], '{"id":"x"}')]
    assert all(row["one"] is None for row in held if row["id"] is not None)


def test_nested_values_and_json_of_a_parquet_file_that_are_no_json(tmp_path):
    """NaN in a struct, and in what its file says is JSON; what is none at all the engine reads no file with."""
    home, t = Home(tmp_path / "home"), table("t", {"id": Kind.INTEGER, "one": Kind.JSON, "two": Kind.JSON})

    def load(*two):
        rows = pa.table({"id": [1, 2, 3], "one": [{"x": 0.5}, {"x": float("nan")}, None], "two": [*two]})
        return home.load(t, [home.deliver(t, rows.set_column(2, "two", rows["two"].cast(pa.json_())))])[0].refused

    assert load("[]", "[]", "NaN") is None
    assert home.rows("SELECT id, one, two FROM staging.t") == [(1, '{"x":0.5}', "[]")]
    assert home.rows("SELECT id, one, two, _uncast FROM quarantine.t ORDER BY id") == [
        (2, None, "[]", r'{"one":"{\"x\":NaN}"}'), (3, None, None, '{"two":"NaN"}'),
    ]  # fmt: skip
    assert load("[]", "[]", "secret").endswith(
        ".parquet: it says of a column that it is JSON, and a text there is none. Write the column as plain text: then"
        " the rows with such texts go to quarantine"
    )


CSV = {
    "delimiter": (b"id;name\n1;a\n", {"delimiter": ";"}),
    "tabs": (b"id\tname\n1\ta\n", {"delimiter": "\t"}),
    "quote": (b"id,name\n1,'a'\n", {"quote": "'"}),
    "no quote": (b'id,name\n1,"a\n', {"quote": ""}),
    "escape": (b'id,name\n1,"a\\"b"\n', {"escape": "\\"}),
    "other order": (b"name,id\na,1\n", {}),
    "no header": (b"1,a\n", {"header": False}),
    "windows": (b"id,name\r\n1,a\r\n", {}),
    "mark": (b"\xef\xbb\xbfid,name\n1,a\n", {}),
    "latin-1": ("id,name\n1,é\n".encode("latin-1"), {"encoding": "latin-1"}),
    "cp1252": ("id,name\n1,€\n".encode("cp1252"), {"encoding": "windows-1252"}),
    "utf-16": ("id,name\n1,é\n".encode("utf-16"), {"encoding": "utf-16"}),
}


@pytest.mark.parametrize("name", CSV)
@pytest.mark.parametrize("compressed", [False, True])
def test_how_csv_is_written(tmp_path, name, compressed):
    content, options = CSV[name]
    t = table("t", {"id": Kind.INTEGER, "name": Kind.STRING})
    home = Home(tmp_path / "home")
    file = "t.csv.gz" if compressed else "t.csv"
    t, done = deliver(home, t, tmp_path, file, gzip.compress(content) if compressed else content, **options)
    assert done.refused == ()
    home.load(t)
    text = {"latin-1": "é", "cp1252": "€", "utf-16": "é", "no quote": '"a', "escape": 'a"b'}.get(name, "a")
    assert home.rows("SELECT id, name FROM staging.t") == [(1, text)]


@pytest.mark.parametrize(
    ("end", "quoting"), [("\n", csv.QUOTE_MINIMAL), pytest.param("\r\n", csv.QUOTE_ALL, marks=pytest.mark.long)]
)
def test_breaks_in_quoted_texts_of_large_files(tmp_path, end, quoting):
    """More than the engine gives one thread, and more than it holds at once; read by Python as the naive reader."""
    chance, kinds = random.Random(1), ["1,2\n", 'x"\n"y,z\n', 'he said "yes"\n', "plain", "\r\n", ""]
    rows = [(str(n), chance.choice(kinds) * chance.randint(0, 60)) for n in range(120_000)]
    rows[5000] = ("5000", "1,2\n" * 400_000)
    source, target = tmp_path / "t.csv", tmp_path / "t.parquet"
    with source.open("w", newline="") as file:
        made = csv.writer(file, lineterminator=end, quoting=quoting)
        made.writerow(["id", "name"])
        made.writerows(rows)
    assert source.stat().st_size > 16 << 20
    t = table("t", {"id": Kind.INTEGER, "name": Kind.STRING})
    to_parquet(t, FileReading(FileFormat.CSV), source, target)
    found = pq.read_table(target)
    assert found["id"].to_pylist() == list(range(120_000))
    assert found["name"].to_pylist() == [text or None for _, text in rows]
    with source.open("a", newline="") as file:
        file.write('300001,"open\n1,2\n')
    lines = 1 + sum(text.count("\n") + 1 for _, text in rows)
    with pytest.raises(DataRefused, match=f"line {lines + 1}: unterminated quote"):
        to_parquet(t, FileReading(FileFormat.CSV), source, target)


PIECE = st.sampled_from(["a", '"', '""', ",", "\n", "\r\n", "\r", "b,c\n", 'x,"y"\r\n', "é", " ", ' "', '"a\n",'])
PIECES = st.lists(PIECE, max_size=14)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(PIECES)
def test_csv_is_read_as_python_reads_it_or_refused(tmp_path_factory, pieces):
    """Whatever stands in a file: each of its rows, with any kinds of line ends, or a refusal that says the line."""
    text = "id,name\n" + "".join(pieces)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row][1:]
        rows = [row if any(row[2:]) else row[:2] for row in rows]  # more delimiters at the end say nothing
        expected = [[v or None for v in row] for row in rows] if all(len(row) == 2 for row in rows) else None
    except csv.Error:
        expected = None
    folder = tmp_path_factory.mktemp("csv")
    source, target = folder / "t.csv", folder / "t.parquet"
    source.write_bytes(text.encode())
    t = table("t", {"id": Kind.STRING, "name": Kind.STRING})
    if expected is None:
        with pytest.raises(DataRefused, match=r"line \d+(:| has) "):
            to_parquet(t, FileReading(FileFormat.CSV), source, target)
    else:
        to_parquet(t, FileReading(FileFormat.CSV), source, target)
        assert [list(row.values()) for row in pq.read_table(target).to_pylist()] == expected
    assert {path.name for path in folder.iterdir()} <= {"t.csv", "t.parquet"}


ENDS = {
    "CRLF in an LF file": b"id,name\n1,a\r\n2,b\n",
    "LF in a CRLF file": b"id,name\r\n1,a\n2,b\r\n",
    "CR": b"id,name\n1,a\r2,b\n",
    "only CR": b"id,name\r1,a\r2,b\r",
    "the last one": b"id,name\n1,a\n2,b\r\n",
    "CR CR LF": b"id,name\r\r\n1,a\r\r\n2,b\r\r\n",
    "an empty line": b"id,name\r\n1,a\r\n\n2,b\r\n",
}


@pytest.mark.parametrize("name", ENDS)
def test_line_ends_of_several_kinds(tmp_path, name):
    source, target = tmp_path / "t.csv", tmp_path / "t.parquet"
    source.write_bytes(ENDS[name])
    to_parquet(table("t", {"id": Kind.INTEGER, "name": Kind.STRING}), FileReading(FileFormat.CSV), source, target)
    assert pq.read_table(target).to_pylist() == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


def test_breaks_in_quoted_texts_with_escapes(tmp_path):
    source, target = tmp_path / "t.csv", tmp_path / "t.parquet"
    source.write_bytes(b'id,name\n1,"x\\"\r\ny\\\\"\n')
    t = table("t", {"id": Kind.INTEGER, "name": Kind.STRING})
    to_parquet(t, FileReading(FileFormat.CSV, escape="\\"), source, target)
    assert pq.read_table(target).to_pylist() == [{"id": 1, "name": 'x"\r\ny\\'}]


@pytest.mark.parametrize("content", [b'id,name\n1,"x\r\ny"\n', b'id,name\r\n1,"x\r\ny"\r\n', b'id,name\r"1","x\r\ny"'])
def test_breaks_in_quoted_texts_stay_as_they_are(tmp_path, content):
    source, target = tmp_path / "t.csv", tmp_path / "t.parquet"
    source.write_bytes(content)
    to_parquet(table("t", {"id": Kind.INTEGER, "name": Kind.STRING}), FileReading(FileFormat.CSV), source, target)
    assert pq.read_table(target).to_pylist() == [{"id": 1, "name": "x\r\ny"}]


TEXT = "id,name\n1,é\n".encode()
UTF16 = TEXT.decode().encode("utf-16")
UNREADABLE = {
    "a cut gzip": ("t.csv.gz", gzip.compress(b"id,name\n" + b"1,a\n" * 5000)[:-20], {}, "not a whole gzip file"),
    "no gzip": ("t.csv.gz", b"id,name\n1,a\n", {}, "not a whole gzip file"),
    "another encoding": ("t.csv", "id,name\n1,é\n".encode("latin-1"), {}, "line 2 is not utf-8 encoded: say"),
    "another encoding, declared": (
        "t.csv", b"id,name\n1,\x81\n", {"encoding": "cp1252"}, "not written in cp1252: 'charmap' codec can't decode",
    ),
    "an open quote": ("t.csv", b'id,name\n1,"a\n', {}, "unterminated quote"),
    "a row that is too short": ("t.csv", b"id,name\n1\n", {}, "line 2 has 1 fields instead of 2"),
    "a row that is too long": ("t.csv", b'id,name\r\n1,"a\n\n"\r\n2,b,c\n', {}, "line 5 has 3 fields instead of 2"),
    "no header, too short": ("t.csv", b"1,a\n\n2\n", {"header": False}, "line 3 has 1 fields instead of 2"),
    "ends and escapes": (
        "t.csv", b'id,name\n1,"a\\"b"\r\n2,c\n', {"escape": "\\"}, "its lines end in several ways (LF, CRLF, CR)",
    ),
    "a quote without its escape": (
        "t.csv", b'id,name\n1,"a\nb"\n\n2,"secret""d"\n', {"escape": "\\"},
        'line 5 has a quote within a quoted text that isn\'t escaped: write \\" for it',
    ),
    "a quote and no escape": ("t.csv", b'id,name\n2,"secret""d"\n', {"escape": ""}, "leave `escape` out if it is"),
    "an escape outside of quotes": (
        "t.csv", b'id,name\n1,"a\nb"\n\n2,secret\\,d\n', {"escape": "\\"},
        "line 5 has 3 fields instead of 2: outside of quotes",
    ),
    "a long text": ("t.csv", b'id,name\n1,a\n2,"' + b"x," * 1_200_000 + b'"\n', {}, "line 3: unterminated quote, or a"),
    "a long row": ("t.csv", b"id,name\n1,a\n2,b" + b"," * 2_500_000 + b"\n", {}, "line 3 has more than 2000000 bytes"),
    "a column twice": ("t.csv", b"id,name,id\n1,a,1\n", {}, "column 'id' is there twice"),
    "no json": ("t.jsonl", b'{"id": 1}\n\n{"id": \n', {}, "line 3 isn't JSON: Expecting value, at character 7"),
    "no json at once": ("t.jsonl", b'{"id" 1}\n', {}, "line 1 isn't JSON: Expecting ':' delimiter, at character 7"),
    "a single byte": ("t.jsonl", b"{", {}, "line 1 isn't JSON: Expecting property name"),
    "a single byte behind a mark": ("t.jsonl", b"\xef\xbb\xbf1", {}, "line 1 isn't an object in braces"),
    "no object": ("t.jsonl", b'{"id": 1}\n[2]\n', {}, "line 2 isn't an object in braces"),
    "NaN": ("t.jsonl", b'{"id": 1}\n{"id": 2, "name": [1, NaN]}\n', {}, "line 2 isn't JSON: it has no NaN"),
    "infinity": ("t.jsonl", b'{"name": "\\"", "id":-Infinity}\n', {}, "line 1 isn't JSON: it has no -Infinity"),
    "a comma too many": ("t.jsonl", b'{"id": 1}\n{"id": 2 , }\n', {}, "line 2 isn't JSON: "),
    "two objects": ("t.jsonl", b'{"id": 1}{"id": 2}\n', {}, "line 1 isn't JSON: Extra data, at character 10"),
    "a key twice": ("t.jsonl", b'{"id": 1}\n{"id": 1, "i\\u0064": 2}\n', {}, "line 2 has key 'id' twice"),
    "no utf-8": ("t.jsonl", b'{"id": 1, "name": "\xff"}\n', {}, "line 1 isn't UTF-8: say what it is with"),
    "half a character": ("t.jsonl", b'{"id": 1, "name": "\\ud800"}\n', {}, "line 1 isn't UTF-8"),
    "a long line": ("t.jsonl", b'{"name": "' + b"x" * (33 << 20) + b'"}\n', {}, "line 1 is longer than 32 MB"),
    "another key": ("t.jsonl", b'{"id": 1, "nme": "a"}\n', {}, "column 'nme' is not in the contract"),
    "a cut gzip of json": ("t.jsonl.gz", gzip.compress(b'{"id": 1}\n' * 9999)[:-20], {}, "not a whole gzip file"),
    "blank lines before the header": ("t.csv", b"\n ,\nid,name\n1,a\n", {}, "line 1 is blank: the header comes first"),
    "another encoding of the header": ("t.csv", "id,näme\n".encode("latin-1"), {}, "line 1 is not utf-8 encoded: say"),
    "gzip by another name": ("t.csv", gzip.compress(TEXT), {}, "it is compressed with gzip: let its name end in .gz"),
    "gzip of json by another name": ("t.jsonl", gzip.compress(b"{}\n"), {}, "it is compressed with gzip"),
    "a workbook": ("t.csv", b"PK\x03\x04" + bytes(60), {}, "it is a zip archive or an Excel workbook: unpack it, or"),
    "parquet by another name": ("t.jsonl", b"PAR1\x15\x04", {}, "as jsonl: it is a parquet file: name it so"),
    "utf-16": ("t.csv", UTF16, {}, "it is written in utf-16, not in utf-8: say `encoding: utf-16` in contract."),
    "utf-16 and another one": ("t.csv", UTF16, {"encoding": "latin-1"}, "utf-16, not in iso8859-1: say `encoding"),
    "utf-16 in gzip": ("t.csv.gz", gzip.compress(UTF16), {}, "say `encoding: utf-16` in"),
    "utf-16 of json": ("t.jsonl", '{"id": 1}'.encode("utf-16-le"), {}, "say `encoding: utf-16-le` in"),
    "utf-16 without a mark": ("t.csv", TEXT.decode().encode("utf-16-be"), {}, "say `encoding: utf-16-be` in"),
    "utf-32": ("t.csv", TEXT.decode().encode("utf-32"), {}, "say `encoding: utf-32` in"),
    "no avro": ("t.avro", b"nonsense", {}, "not an Avro file, or a damaged one"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_can_not_be_read_is_refused_whole(tmp_path, name):
    file, content, options, says = UNREADABLE[name]
    t = table("t", {"id": Kind.INTEGER, "name": Kind.STRING})
    _, done = deliver(Home(tmp_path / "home"), t, tmp_path, file, content, **options)
    assert done.delivered == ()
    (reason,) = [refused.reason for refused in done.refused]
    assert reason.startswith(str(tmp_path / file))
    assert says in reason
    assert reason.isprintable()
    assert ".plain" not in reason
    assert "secret" not in reason


def test_a_damaged_avro_file(tmp_path):
    rows = [dict.fromkeys(TYPES, "1") | {"ok": "true"} for _ in range(5000)]
    whole = written(FileFormat.AVRO, rows)
    for content in (whole[:-30], whole[: len(whole) // 2]):
        _, done = deliver(Home(tmp_path / "home"), T, tmp_path, "t.avro", content)
        assert "a damaged one" in done.refused[0].reason
    fields = [{"name": "id", "type": "int"}]
    buffer = io.BytesIO()
    fastavro.writer(buffer, {"type": "record", "name": "r", "fields": fields}, [{"id": 1}])
    _, done = deliver(Home(tmp_path / "home"), T, tmp_path, "t.avro", buffer.getvalue())
    assert "column 'name' is missing" in done.refused[0].reason
    assert "column 'id' is not in the contract" in done.refused[0].reason


ONE = table("t", {"id": Kind.INTEGER})


def avro(kind: Any, values: list[Any], codec: str = "null") -> bytes:
    """A file with one column `id`."""
    buffer = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": "id", "type": kind}]}
    fastavro.writer(buffer, schema, [{"id": value} for value in values], codec=codec)
    return buffer.getvalue()


@pytest.mark.parametrize("codec", ["deflate", "snappy", "zstandard", "bzip2", "xz"])
def test_codecs_of_avro(tmp_path, codec):
    whole = avro("long", list(range(5000)), codec)
    home = Home(tmp_path / "home")
    t, done = deliver(home, ONE, tmp_path, "t.avro", whole)
    assert [d.rows for d in done.delivered] == [5000]
    middle = len(whole) // 2
    _, done = deliver(
        Home(tmp_path / "other"), t, tmp_path, "t.avro", whole[:middle] + b"\xff" * 9 + whole[middle + 9 :]
    )
    assert "not an Avro file, or a damaged one" in done.refused[0].reason


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_in_an_avro_file_is_never_an_error_of_ours(tmp_path, seed):
    """Whatever a byte says: the file is refused with one line, or it still is one."""
    content, chance = bytearray(avro(["null", "long", "string"], [1, None, "a"] * 20)), random.Random(seed)
    for _ in range(chance.choice([1, 3])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    _, done = deliver(Home(tmp_path / "home"), ONE, tmp_path, "t.avro", bytes(content))
    assert len(done.delivered) + len(done.refused) == 1
    assert all("\n" not in refused.reason for refused in done.refused)


def test_bytes_that_are_no_text(tmp_path):
    _, done = deliver(Home(tmp_path / "home"), ONE, tmp_path, "t.avro", avro("bytes", [b"\xff"]))
    assert "column 'id' has bytes that are no text" in done.refused[0].reason


BEYOND_PYTHON = {
    "timestamp-millis": (Kind.TIMESTAMP, "long", 253402300800000, 0),  # the first instant of the year 10000
    "timestamp-micros": (Kind.TIMESTAMP, "long", -(2**62), 1),
    "local-timestamp-micros": (Kind.DATETIME, "long", 2**62, 1),
    "local-timestamp-millis": (Kind.DATETIME, "long", 2**62, 1),
    "date": (Kind.DATE, "int", 2**30, 19000),
    "time-millis": (Kind.TIME, "int", 86_400_000, 0),
    "time-micros": (Kind.TIME, "long", 86_400_000_000, 86_399_999_999),
    "time-millis before midnight": (Kind.TIME, "int", -1, 0),
    "time-micros before midnight": (Kind.TIME, "long", -1, 0),
}


@pytest.mark.parametrize("name", BEYOND_PYTHON)
@pytest.mark.parametrize("nested", [False, True])
def test_avro_values_that_python_can_not_hold(tmp_path, name, nested):
    """They are rows of the quarantine, and the other rows are read."""
    kind, of, beyond, good = BEYOND_PYTHON[name]
    name = name.split()[0]
    logical: Any = {"type": of, "logicalType": name}
    wrap = (lambda value: [value]) if nested else (lambda value: value)
    if nested:
        logical = {"type": "array", "items": logical}
    source, target = tmp_path / "t.avro", tmp_path / "t.parquet"
    source.write_bytes(avro(logical, [wrap(good), wrap(beyond), wrap(good)]))
    t = table("t", {"id": Kind.JSON if nested else kind})
    to_parquet(t, FileReading(FileFormat.AVRO), source, target)
    first, other, last = pq.read_table(target).to_pylist()
    assert first["id"] is not None
    assert first == last
    if nested:
        assert other["id"] == f'["{beyond} {name}"]'
    else:
        assert (first["_uncast"], other["id"]) == (None, None)
        assert json.loads(other["_uncast"]) == {"id": f"{beyond} {name}"}


def test_a_uuid_of_avro_is_the_text_that_it_is(tmp_path):
    """Also one that is none: the column is a text."""
    source, target = tmp_path / "t.avro", tmp_path / "t.parquet"
    values = ["00000000-0000-0000-0000-00000000000A", "none at all"]
    source.write_bytes(avro({"type": "string", "logicalType": "uuid"}, values))
    to_parquet(table("t", {"id": Kind.STRING}), FileReading(FileFormat.AVRO), source, target)
    assert pq.read_table(target)["id"].to_pylist() == values


def test_nested_numbers_of_avro_that_are_no_json(tmp_path):
    values = [[1.5], [float("nan")], [1.5, float("-inf")], None]
    source, target = tmp_path / "t.avro", tmp_path / "t.parquet"
    source.write_bytes(avro(["null", {"type": "array", "items": "double"}], values))
    to_parquet(table("t", {"id": Kind.JSON}), FileReading(FileFormat.AVRO), source, target)
    assert [(row["id"], row["_uncast"]) for row in pq.read_table(target).to_pylist()] == [
        ("[1.5]", None), (None, '{"id":"[NaN]"}'), (None, '{"id":"[1.5, -Infinity]"}'), (None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("of", ["bytes", "fixed"])
def test_decimals_of_avro_keep_their_digits(tmp_path, of):
    """Also those beyond the precision that the file itself says, and very small ones."""
    logical = {"type": of, "logicalType": "decimal", "precision": 30, "scale": 18, "name": "f", "size": 16}
    values = [Decimal("1234567890.123456789012345678"), Decimal("1e-18"), Decimal("-1")]
    content = avro(logical, values).replace(b'"precision": 30', b'"precision": 18')
    source, target = tmp_path / "t.avro", tmp_path / "t.parquet"
    source.write_bytes(content)
    to_parquet(table("t", {"id": FieldType(Kind.DECIMAL, 38, 18)}), FileReading(FileFormat.AVRO), source, target)
    assert pq.read_table(target)["id"].to_pylist() == values


def test_avros_own_types(tmp_path):
    """What other tools write: logical types, unions, records and lists in records."""
    logical = {
        "n": "long", "x": "double", "ok": "boolean", "name": "string",
        "amount": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 6},
        "day": {"type": "int", "logicalType": "date"},
        "at": {"type": "long", "logicalType": "timestamp-micros"},
        "local": {"type": "long", "logicalType": "local-timestamp-micros"},
        "clock": {"type": "long", "logicalType": "time-micros"},
        "more": {"type": "record", "name": "inner", "fields": [{"name": "tags", "type": {"type": "array",
                 "items": "string"}}, {"name": "d", "type": {"type": "int", "logicalType": "date"}},
                 {"name": "net", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]},
    }  # fmt: skip
    row = {
        "n": 2**62, "x": 0.1, "ok": False, "name": "ß", "amount": Decimal("-123456789012345678901234.000001"),
        "day": date(1969, 12, 31), "at": datetime(2024, 1, 1, 0, 0, 0, 1, UTC), "local": datetime(2024, 1, 1, 12),
        "clock": time(1, 2, 3, 4), "more": {"tags": ["a", "b"], "d": date(2024, 1, 1), "net": Decimal("1.50")},
    }  # fmt: skip
    fields = [{"name": name, "type": ["null", kind]} for name, kind in logical.items()]
    buffer = io.BytesIO()
    fastavro.writer(buffer, {"type": "record", "name": "r", "fields": fields}, [row, dict.fromkeys(logical)])
    home = Home(tmp_path / "home")
    t, done = deliver(home, T, tmp_path, "t.avro", buffer.getvalue())
    assert done.refused == ()
    home.load(t)
    found = home.warehouse.query("SELECT * FROM staging.t WHERE n IS NOT NULL").to_pylist()[0]
    assert {name: found[name] for name in TYPES if name != "more"} == {k: v for k, v in row.items() if k != "more"}
    assert json.loads(found["more"]) == {"tags": ["a", "b"], "d": "2024-01-01", "net": 1.5}
    assert home.rows("SELECT count(*) FROM staging.t") == [(2,)]


def test_numbers_of_json_are_exact(tmp_path):
    """The same key further in, and numbers that no double holds."""
    t = table("t", {"amount": FieldType(Kind.DECIMAL, 38, 18), "n": Kind.INTEGER, "more": Kind.JSON})
    lines = (
        b'{"more": {"amount": 1.5}, "amount": 12345678901234567890.123456789012345678, "n": 9007199254740993}\n'
        b'{"amount": "0.100000000000000001", "n": 9223372036854775807}\n'
        b'{"amount": 1e-18, "n": 1e3}\n{"amount": 1.1234567890123456789, "n": 9223372036854775808}\n'
    )
    home = Home(tmp_path / "home")
    t, _ = deliver(home, t, tmp_path, "t.jsonl", lines)
    home.load(t)
    assert home.rows("SELECT amount, n FROM staging.t ORDER BY n") == [
        (Decimal("1e-18"), 1000),
        (Decimal("12345678901234567890.123456789012345678"), 9007199254740993),
        (Decimal("0.100000000000000001"), 9223372036854775807),
    ]
    ((reasons, uncast),) = home.rows("SELECT _reasons, _uncast FROM quarantine.t")
    assert reasons == ["cast_amount", "cast_n"]
    assert json.loads(uncast)["amount"] == "1.1234567890123456789"


def test_numbers_of_json_as_they_are_written(tmp_path):
    """Whatever else the line has: the same key further in, one that is escaped, numbers in texts."""
    source, target = tmp_path / "t.jsonl", tmp_path / "t.parquet"
    t = table("t", {"i": Kind.INTEGER, "s": Kind.STRING, "amount": FieldType(Kind.DECIMAL, 38, 20), "j": Kind.JSON})
    rows = {
        r'{"i": 123456789012345678.123456789}': {"_uncast": '{"i":"123456789012345678.123456789"}'},
        r'{"i": 9007199254740993.0}': {"i": 9007199254740993},
        r'{"i": 1.00000000000000000000001}': {"_uncast": '{"i":"1.00000000000000000000001"}'},
        r'{"i": 9007199254740993e0, "s": -0}': {"i": 9007199254740993, "s": "-0"},
        r'{"s": 1.10}': {"s": "1.10"},
        r'{"s":1e5,"amount":1}': {"s": "1e5", "amount": Decimal(1)},
        r'{"s":0.00001}': {"s": "0.00001"},
        r'{"s": [1, 2.50, "3"]}': {"s": '[1,2.5,"3"]'},
        r'{"s": "1.10e5", "amount": "1.10"}': {"s": "1.10e5", "amount": Decimal("1.1")},
        r'{"am\u006funt":0.12345678901234567890}': {"amount": Decimal("0.12345678901234567890")},
        r'{"j":{"amount":0.10000000000000000001},"amount":0.1}': {"j": '{"amount":0.1}', "amount": Decimal("0.1")},
        r'{"s":"\"amount\":0.10000000000000000001, \\","amount":0.10}': {
            "s": '"amount":0.10000000000000000001, \\', "amount": Decimal("0.1"),
        },
        r'{"s": "[NaN, \", -inf, ], }", "j": ["\\", ",]"]}': {"s": '[NaN, ", -inf, ], }', "j": r'["\\",",]"]'},
        r'{"s": true, "i": 1234567890123456}': {"s": "true", "i": 1234567890123456},
    }  # fmt: skip
    source.write_text("".join(f"{line}\n" for line in rows))
    to_parquet(t, FileReading(FileFormat.JSONL), source, target)
    empty = dict.fromkeys(("i", "s", "amount", "j", "_uncast"))
    for row, (line, expected) in zip(pq.read_table(target).to_pylist(), rows.items(), strict=True):
        assert row == empty | expected, line


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?", fullmatch=True)
NUMBERS |= st.integers(-(2**70), 2**70).map(str) | st.floats(allow_nan=False, allow_infinity=False).map(repr)
ITEMS = st.lists(NUMBERS | st.text(max_size=5).map(json.dumps) | st.sampled_from(["true", "null"]), max_size=3)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.text(max_size=9) | NUMBERS, ITEMS), min_size=1, max_size=20))
def test_no_digit_of_a_number_is_lost(tmp_path_factory, rows):
    """Python's parser with exact numbers as the naive one."""
    folder = tmp_path_factory.mktemp("jsonl")
    source, target = folder / "t.jsonl", folder / "t.parquet"
    with source.open("w") as file:
        for amount, written, text, items in rows:
            file.write(f'{{"s": {written} ,"more": [{",".join(items)}],"t":{json.dumps(text)},"x":{amount}}}\n')
    t = table("t", {"x": FieldType(Kind.DECIMAL, 38, 10), "s": Kind.STRING, "t": Kind.STRING, "more": Kind.JSON})
    to_parquet(t, FileReading(FileFormat.JSONL), source, target)
    for row, (amount, written, text, items) in zip(pq.read_table(target).to_pylist(), rows, strict=True):
        assert (row["s"], row["t"]) == (written, text)
        assert json.loads(row["more"]) == json.loads(f"[{','.join(items)}]")
        if row["x"] is None:
            assert json.loads(row["_uncast"]) == {"x": amount}
        else:
            assert row["x"] == Decimal(amount)


def test_the_mark_of_an_encoding_is_passed_over(tmp_path):
    t = table("t", {"id": Kind.INTEGER})
    for name, content in {"a": b'\xef\xbb\xbf{"id":1}\n', "b": '\ufeff{"id":1}\n'.encode("utf-16-le")}.items():
        source, target = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.parquet"
        source.write_bytes(content)
        to_parquet(t, FileReading(FileFormat.JSONL, encoding="utf-16-le" if name == "b" else "utf-8"), source, target)
        assert pq.read_table(target).to_pylist() == [{"id": 1}]
    assert {path.suffix for path in tmp_path.iterdir()} == {".jsonl", ".parquet"}


def test_a_text_with_the_letters_that_parquet_begins_with(tmp_path):
    source, target = tmp_path / "t.csv", tmp_path / "t.parquet"
    source.write_bytes(b"PAR1,b\n1,2\n")
    to_parquet(table("t", {"PAR1": Kind.INTEGER, "b": Kind.INTEGER}), FileReading(FileFormat.CSV), source, target)
    assert pq.read_table(target).to_pylist() == [{"PAR1": 1, "b": 2}]


# -- properties --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)
VALUES = {
    "name": TEXT.filter(bool), "n": st.integers(-(2**63), 2**63 - 1).map(str),
    "x": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "amount": st.decimals(-(10**23), 10**23, places=6).map(lambda d: f"{d:f}"),
    "ok": st.booleans(), "day": st.dates().map(str),
    "at": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda d: f"{d.isoformat()}+00:00"),
    "local": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(str), "clock": st.times().map(str),
    "more": st.dictionaries(TEXT, st.integers(-1000, 1000) | TEXT | st.none(), max_size=2),
}  # fmt: skip
JUNK = st.sampled_from(["?", "1.5.2", "{", "2024-13-01", "-"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            name: st.none() | made | (JUNK if name not in ("name", "more") else st.none())
            for name, made in VALUES.items()
        }
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def plain(row: tuple[Any, ...]) -> str:
    """A row as text, its JSON without what means nothing."""
    position = len(TYPES) - 1
    return repr([json.loads(v) if i == position and v is not None else v for i, v in enumerate(row)])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(ROWS)
def test_all_formats_say_the_same(tmp_path_factory, rows):
    """The same texts are the same rows, whichever format they came in: the same staging, the same quarantine."""
    tables = []
    folder = tmp_path_factory.mktemp("formats")
    for kind in (FileFormat.CSV, FileFormat.JSONL, FileFormat.AVRO):
        home = Home(folder / kind)
        t, done = deliver(home, T, folder, f"t.{kind}", written(kind, rows))
        assert done.refused == ()
        with home.kept_open():
            (outcome,) = home.load(t)
            assert outcome.rows_read == len(rows)
            names = ", ".join([f'"{name}"' for name in TYPES if name != "more"] + ["CAST(more AS VARCHAR)"])
            staged = home.rows(f"SELECT {names} FROM staging.t ORDER BY ALL")
            held = home.rows(f"SELECT {names}, _reasons, _uncast FROM quarantine.t ORDER BY ALL")
        assert len(staged) + len(held) == len(rows)
        assert all(row[-1] is not None for row in held)
        tables.append((sorted(map(plain, staged)), sorted(map(plain, held))))
    assert tables[0] == tables[1] == tables[2]


def test_rows_keep_their_order(tmp_path):
    """A position in quarantine is one in the file, however many threads read it."""
    lines = [f"{number},{'x' if number % 1000 == 999 else number}" for number in range(300_000)]
    (tmp_path / "t.csv").write_text("\n".join(["id,n", *lines]) + "\n")
    t = table("t", {"id": Kind.INTEGER, "n": Kind.INTEGER})
    home = Home(tmp_path / "home")
    made = replace(t, source=Source("files", {"path": "t.csv"}))
    extract(made, extractor_for(made, tmp_path), home.lake, ["all"])
    home.load(made)
    assert home.rows("SELECT count(*), bool_and(id = _source_row) FROM quarantine.t") == [(300, True)]


BEYOND = {
    "csv": ("t.csv", b"id,more,_tool\n1,x,t\n"),
    "jsonl": ("t.jsonl", b'{"id": 1, "more": "x", "_tool": "t"}\n'),
    "avro": ("t.avro", b""),
}


@pytest.mark.parametrize("policy", SchemaPolicy)
@pytest.mark.parametrize("name", BEYOND)
def test_columns_beyond_the_contract(tmp_path, name, policy):
    """They are texts in the lake, and the load does with them what the policy says. A column may be missing, too."""
    t = replace(table("t", {"id": Kind.INTEGER, "n": Kind.INTEGER}), schema_policy=policy)
    home = Home(tmp_path / "home")
    file, content = BEYOND[name]
    path = tmp_path / file
    path.write_bytes(content)
    if name == "avro":
        fields = [
            {"name": "id", "type": "int"},
            {"name": "more", "type": "string"},
            {"name": "_tool", "type": "string"},
        ]
        with path.open("wb") as out:
            fastavro.writer(
                out, {"type": "record", "name": "t", "fields": fields}, [{"id": 1, "more": "x", "_tool": "t"}]
            )
    done = deliver_files(t, home.lake, "all", [path])
    if policy is SchemaPolicy.STRICT:
        for column in ("more", "_tool"):
            assert f"column {column!r} is not in the contract" in done.refused[0].reason
        return
    assert set(done.delivered[0].schema) == {"id", "n", "more", "_tool"}
    (outcome,) = home.load(t)
    assert outcome.refused is None
    assert home.rows("SELECT id, n FROM staging.t") == [(1, None)]
    if policy is SchemaPolicy.ADDITIVE:
        assert home.rows("SELECT more FROM staging.t") == [("x",)]
        assert outcome.beyond.left == ("_tool",)
    else:
        assert set(outcome.beyond.left) == {"more", "_tool"}


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_names_that_files_may_not_use(tmp_path, name):
    t = replace(table("t", {"id": Kind.INTEGER}), schema_policy=SchemaPolicy.IGNORE)
    files = {
        "csv": [
            (b"id,_uncast\n1,x\n", "column '_uncast' is the platform's own"),
            (b"id,a,a\n1,x,y\n", "column 'a' is there twice"),
        ],
        "jsonl": [(b'{"id": 1, "_uncast": "x"}\n', "column '_uncast' is the platform's own")],
    }  # fmt: skip
    for number, (content, says) in enumerate(files[name]):
        home = Home(tmp_path / f"home{number}")
        path = tmp_path / f"t.{name}"
        path.write_bytes(content)
        assert says in deliver_files(t, home.lake, "all", [path]).refused[0].reason


def test_odd_keys_of_json_stay_in_the_lake(tmp_path):
    t = replace(table("t", {"id": Kind.INTEGER}), schema_policy=SchemaPolicy.IGNORE)
    home = Home(tmp_path / "home")
    odd = {
        "id": 1,
        'a"b': "quoted",
        "a/b~c": "slash",
        "a.b": "dotted",
        "a b": "spaced",
        "$": "dollar",
        "back\\slash": "s",
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(odd) + "\n")
    done = deliver_files(t, home.lake, "all", [tmp_path / "t.jsonl"])
    assert not done.refused, done.refused
    (item,) = done.delivered[0].objects
    rows = pq.read_table(pa.BufferReader(home.lake.store.read(item.key))).to_pylist()
    assert rows == [odd]
