"""Which texts are values of a type: the engine against a naive reading, in every format that has texts."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataops_platform.contracts.file_formats import FileFormat, FileReading
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.ingestion.reading import to_parquet
from dataops_platform_tests.support import table

TEXTS = (FileFormat.CSV, FileFormat.JSONL, FileFormat.AVRO)


def read(folder: Path, type_: FieldType | Kind, texts: list[str], kind: FileFormat) -> list[Any]:
    """The value of each text; None where it is none, and then the text is kept."""
    source, target = folder / f"t.{kind}", folder / "t.parquet"
    if kind is FileFormat.CSV:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([["n", "v"], *enumerate(texts)])
        source.write_text(out.getvalue(), newline="")
    elif kind is FileFormat.JSONL:
        source.write_text("".join(json.dumps({"n": n, "v": text}) + "\n" for n, text in enumerate(texts)))
    else:
        fields = [{"name": "n", "type": "int"}, {"name": "v", "type": "string"}]
        with source.open("wb") as file:
            schema = {"type": "record", "name": "r", "fields": fields}
            fastavro.writer(file, schema, [{"n": n, "v": text} for n, text in enumerate(texts)])
    to_parquet(table("t", {"n": Kind.INTEGER, "v": type_}), FileReading(kind), source, target)
    rows = pq.read_table(target).to_pylist()
    for row, text in zip(rows, texts, strict=True):
        uncast = row.get("_uncast")
        assert (row["v"] is None) == (uncast is not None), row
        assert uncast is None or json.loads(uncast) == {"v": text}
    return [row["v"] for row in rows]


NO_VALUES = {
    Kind.TIME: (
        "12:00:00+02", "12:00:00-05:00", "12:00Z", "12:00:00 PM", "01:30:00 PM", "2024-01-01 12:00:00", "24:00:00",
        "12:00:00 garbage", "12:00:00xyz", "12:00:00,5", "12", "25:00", "12:60", "12:00:60", "12:00:00.1234567",
    ),
    Kind.DATETIME: (
        "2024-02-29 12:00:00 UTC", "2024-02-29 12:00:00 Europe/Berlin", "2024-02-29 12:00:00Z", "2024-02-29T12:00+02",
        "2024-02-29 24:00:00", "infinity", "epoch", "0044-03-15 (BC)", "99999-01-01", "-0001-01-01", "0000-01-01",
        "2023-02-29", "2024-02-29 12", "2024-02-29 12:00:00.1234567", "13-02-01 00:00:00",
    ),
    Kind.DATE: (
        "infinity", "-infinity", "epoch", "0044-03-15 (BC)", "99999-01-01", "-0001-01-01", "0000-01-01", "13-02-01",
        "2013-02-01 10:00", "2013-02-01 00:00:00+05:00", "2013-02-01 00:00:00+05:30", "2013-02-30", "now", "20130201",
        "2013-02-01 00:00:00.001", "2013-02-01 x", "01-02-2013", "1/2/2013",
    ),
    Kind.TIMESTAMP: (
        "infinity", "epoch", "0044-03-15 (BC) 12:00:00", "12024-02-29 12:00:00", "2024-02-29 12:00:00+99:99",
        "2024-02-29 12:00:00-24:00", "2024-02-29 12:00:00+02:60", "2024-02-29 24:00:00", "2024-02-29 12:00:00 PM",
        "2024-03-31 02:30:00 Europe/Berlin", "2024-02-29 12:00:00 EST", "0001-01-01T00:00:00+02:00", "1700000000",
        "9999-12-31T23:59:59-00:01", "2024-02-29 12:00:00.1234567Z", "0000-12-31 23:00:00-00:30",
    ),
    Kind.JSON: (
        "NaN", '{"a":NaN}', "[nan]", "Infinity", "[1, -Infinity]", '{"a":inf}', "[1,]", '{"a":"b" , }', "{a:1}", "tru",
        " ", "'a'", '{"a":1}x', '{"a": "NaN", "b": NaN}', '["\\"", NaN, "\\""]',
    ),
    Kind.NUMBER: ("1e400", "-1e400", "1,5", "0x10", "1.5f", " ", "9" * 310),
    Kind.INTEGER: ("1e400", "1.5", "9223372036854775808", "1e30", "NaN", "inf", "1e-1", "9223372036854775806.5"),
}  # fmt: skip


NO_TEXTS = [(type_, kind) for type_ in NO_VALUES for kind in TEXTS]
NO_TEXTS.remove((Kind.JSON, FileFormat.JSONL))  # a text there is JSON: a text


@pytest.mark.parametrize(("type_", "kind"), NO_TEXTS)
def test_texts_that_are_no_values(tmp_path, type_, kind):
    texts = list(NO_VALUES[type_])
    assert read(tmp_path, type_, texts, kind) == [None] * len(texts)


BERLIN = timezone(timedelta(hours=2))
VALUES = {
    Kind.TIME: {
        "12:00": time(12), "1:2:3": time(1, 2, 3), "23:59:59.999999": time(23, 59, 59, 999999),
        "00:00:00.5000000": time(0, 0, 0, 500000),
    },
    Kind.DATETIME: {
        "2024-02-29": datetime(2024, 2, 29), " 2024-02-29T12:00 ": datetime(2024, 2, 29, 12),
        "0001-01-01 00:00:00": datetime(1, 1, 1), "9999-12-31 23:59:59.999999000": datetime.max,
    },
    Kind.DATE: {
        "0001-01-01": date.min, "9999-12-31": date.max, "2013-2-1": date(2013, 2, 1), "2013/02/01": date(2013, 2, 1),
        "2013-02-01T00:00:00.000Z": date(2013, 2, 1), "2013-02-01 00:00:00+00:00": date(2013, 2, 1),
    },
    Kind.TIMESTAMP: {
        "2024-02-29": datetime(2024, 2, 29, tzinfo=UTC),
        "2024-02-29 12:00:00 UTC": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "2024-02-29T12:00:00.5+02:00": datetime(2024, 2, 29, 12, 0, 0, 500000, BERLIN),
        "2024-02-29 12:00+0200": datetime(2024, 2, 29, 12, tzinfo=BERLIN),
        "2024-02-29 12:00:00+02": datetime(2024, 2, 29, 12, tzinfo=BERLIN),
        "0001-01-01T00:00:00Z": datetime.min.replace(tzinfo=UTC),
        "9999-12-31T23:59:59.999999Z": datetime.max.replace(tzinfo=UTC),
    },
    Kind.JSON: {
        text: text for text in (
            '"NaN"', '{"inf": "Infinity"}', '["x,]", 1]', '["x"]', '{"a": "\\"NaN", "b": [true, false, null, 1e5]}',
        )
    },
    Kind.NUMBER: {"1.5": 1.5, "inf": float("inf"), "-Infinity": float("-inf"), "1e308": 1e308, "1e-400": 0.0},
    Kind.INTEGER: {
        "7.0": 7, "1e3": 1000, "+7": 7, "10e-1": 1, "9223372036854775807.0": 2**63 - 1, "9007199254740993e0": 2**53 + 1,
    },
}  # fmt: skip


SOME_TEXTS = [(type_, kind) for type_ in VALUES for kind in TEXTS if (type_, kind) != (Kind.JSON, FileFormat.JSONL)]


@pytest.mark.parametrize(("type_", "kind"), SOME_TEXTS)
def test_texts_that_are_values(tmp_path, type_, kind):
    assert read(tmp_path, type_, list(VALUES[type_]), kind) == list(VALUES[type_].values())


# -- a naive reading ---------------------------------------------------------------------------------------------------


def naive_day(text: str) -> date | None:
    parts = text.replace("/", "-").split("-")
    if len(parts) != 3 or not all(part.isdigit() for part in parts) or len(parts[0]) != 4:
        return None
    if any(len(part) > 2 for part in parts[1:]) or ("-" in text and "/" in text):
        return None
    try:
        return date(*map(int, parts))
    except ValueError:
        return None


def naive_clock(text: str) -> time | None:
    parts = text.split(":")
    if len(parts) not in (2, 3):
        return None
    seconds, _, fraction = parts[2].partition(".") if len(parts) == 3 else ("0", "", "")
    digits = [*parts[:2], seconds]
    if not all(part.isdigit() and len(part) <= 2 for part in digits) or not (fraction + "0").isdigit():
        return None
    if fraction[6:].strip("0"):
        return None
    try:
        return time(*map(int, digits), int(fraction[:6].ljust(6, "0")))
    except ValueError:
        return None


def naive_instant(text: str) -> datetime | None:
    match = re.fullmatch(r"(.{8,10}?)(?:[ T](.*?)(Z| UTC|[+-]\d\d(?::?\d\d)?)?)?", text)
    day = naive_day(match[1]) if match else None
    clock = naive_clock(match[2]) if match and match[2] is not None else time()
    if day is None or clock is None:
        return None
    digits = re.sub("[^0-9]", "", match[3] or "").ljust(4, "0")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if int(digits[2:]) > 59 or int(digits[:2]) > 15:
        return None
    try:
        naive = datetime.combine(day, clock, UTC)
        return naive + shift if (match[3] or "").startswith("-") else naive - shift
    except OverflowError:
        return None


def naive_datetime(text: str) -> datetime | None:
    day, _, clock = text.replace("T", " ").partition(" ")
    made = naive_day(day), naive_clock(clock) if clock or " " in text or "T" in text else time()
    return None if None in made else datetime.combine(*made)


def naive_date(text: str) -> date | None:
    if re.search(r"[+-](?!00)\d\d(:?\d\d)?$|[+-]00:?(?!00)\d\d$", text[10:]):
        return None
    made = naive_instant(text)
    return None if made is None or made.time() != time() else made.date()


def naive_number(text: str, scale: int, limit: str) -> Decimal | None:
    try:
        number = Fraction(text)
    except ValueError:
        return None
    whole = (number * 10**scale).denominator == 1 and abs(number) <= Fraction(limit)
    return Decimal(number.numerator) / Decimal(number.denominator) if whole else None


NAIVE = {
    Kind.DATE: naive_date,
    Kind.TIME: naive_clock,
    Kind.DATETIME: naive_datetime,
    Kind.TIMESTAMP: naive_instant,
    Kind.INTEGER: lambda text: naive_number(text, 0, "9223372036854775807"),
    FieldType(Kind.DECIMAL, 20, 4): lambda text: naive_number(text, 4, "9999999999999999.9999"),
}

TEMPORAL = (Kind.DATE, Kind.TIME, Kind.DATETIME, Kind.TIMESTAMP)
DAYS = st.sampled_from(
    ["2024-02-29", "2023-02-29", "2023-2-9", "0001-01-01", "9999-12-31", "10000-01-01", "0000-12-31"]
)
DAYS |= st.dates().map(str) | st.sampled_from(["24-02-29", "2024/02/29", "2024-13-01", "2024-02"])
CLOCKS = st.times().map(str) | st.sampled_from(["00:00", "00:00:00", "23:59:59.9999990", "24:00", "12:60", "1:2", "12"])
CLOCKS |= st.sampled_from(["12:00:00.1234567", "0:0:0.", "12:00:60"])
ZONES = st.sampled_from(
    ["", "", "Z", " UTC", "+00:00", "+02", "-0530", "+15:59", "-16:00", "+01:60", " EST", "x", " (BC)"]
)
NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**21).map(str) | st.sampled_from(["0", "9223372036854775807", "9999999999999999", "1000"]),
    st.sampled_from(["", ".0", ".00000", ".5", ".1234", ".12340", ".12345", ".", ".99999999999999999999999"]),
    st.sampled_from(["", "", "e0", "e3", "E-3", "e-25", "e400", "e"]),
)


def texts_of(type_: FieldType | Kind) -> st.SearchStrategy[str]:
    match type_:
        case Kind.DATE | Kind.DATETIME | Kind.TIMESTAMP:
            return st.builds("".join, st.tuples(DAYS, st.sampled_from([" ", "T"]), CLOCKS, ZONES)) | DAYS
        case Kind.TIME:
            return st.builds("".join, st.tuples(CLOCKS, ZONES))
        case _:
            return NUMBERS


@pytest.mark.parametrize("type_", NAIVE, ids=str)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_as_a_naive_reading_has_it(tmp_path_factory, type_, data):
    texts = data.draw(st.lists(texts_of(type_), min_size=50, max_size=50))
    found = read(tmp_path_factory.mktemp("values"), type_, texts, FileFormat.CSV)
    for text, value in zip(texts, found, strict=True):
        # Of an exponent the engine refuses some that it could hold.
        refused = value is None and "e" in text.lower() and type_ not in TEMPORAL
        assert refused or value == NAIVE[type_](text), text
