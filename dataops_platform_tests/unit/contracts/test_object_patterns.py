"""Names of landed objects: which partition they are of, where a listing begins, and whose they could be."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.contracts.object_patterns import Free, PatternError, Unit, compile_pattern, glob, overlap
from dataops_platform.contracts.partitions import Granularity, Partitioning

HOUR, DAY, MONTH = (
    Partitioning("t", g, date(2020, 1, 1)) for g in (Granularity.HOUR, Granularity.DAY, Granularity.MONTH)
)
WORDS = {"table": "flights", "stream": "flights", "namespace": None}
AIRBYTE = "raw/{stream}/{YYYY_MM_DD}_{epoch}_{n}.parquet"


@pytest.mark.parametrize(
    ("pattern", "cut", "name", "partition"),
    [
        ("f/dt={partition}/*.parquet", DAY, "f/dt=2024-05-01/a.parquet", "2024-05-01"),
        ("f/dt={partition}/*.parquet", DAY, "f/dt=2024-05-01/.parquet", "2024-05-01"),
        ("f/dt={partition}/*.parquet", DAY, "f/dt=2024-05-01/a/b.parquet", None),
        ("f/dt={partition}/*.parquet", DAY, "f/dt=2024-02-30/a.parquet", None),
        ("f/dt={partition}/*.parquet", DAY, "f/dt=2024-5-1/a.parquet", None),
        ("f/dt={partition}/*.parquet", DAY, "f/dt=2024-05-01/a.parquet.part", None),
        ("f/dt={partition}/*.parquet", MONTH, "f/dt=2024-05-01/a.parquet", "2024-05-01"),
        ("f/dt={partition}/*.parquet", MONTH, "f/dt=2024-05-02/a.parquet", None),
        ("f/{partition}.csv", HOUR, "f/2024-05-01-07:00.csv", "2024-05-01-07:00"),
        ("f/dt={date:%Y-%m-%d}/part-*.parquet", DAY, "f/dt=2024-05-01/part-0.parquet", "2024-05-01"),
        ("f/dt={date:%Y-%m-%d}/part-*.parquet", MONTH, "f/dt=2024-05-31/part-0.parquet", "2024-05-01"),
        ("f/{date:%Y%m%dT%H%M%S}.csv", HOUR, "f/20240501T235959.csv", "2024-05-01-23:00"),
        ("f/year={YYYY}/month={MM}/day={DD}/*", DAY, "f/year=2024/month=05/day=01/x", "2024-05-01"),
        ("f/{YYYY}/{YYYY}-{MM}-{DD}.csv", DAY, "f/2024/2024-05-01.csv", "2024-05-01"),
        ("f/{YYYY}/{YYYY}-{MM}-{DD}.csv", DAY, "f/2023/2024-05-01.csv", None),
        (AIRBYTE, DAY, "raw/flights/2024_05_01_1714521600000_0.parquet", "2024-05-01"),
        (AIRBYTE, DAY, "raw/flights/2024_05_01_1714521600000_x.parquet", None),
        (AIRBYTE, DAY, "raw/airports/2024_05_01_1714521600000_0.parquet", None),
        ("f/*.csv", None, "f/a b.csv", "all"),
        ("f/{date:%Y}/*.csv", None, "f/2024/x.csv", "all"),
        ("f/{uuid}.csv", None, "f/0b5be46e-4e9c-4f0b-8f3c-7d2b0b7c1a11.csv", "all"),
        ("f/*/a.csv", None, "f//a.csv", None),
        ("f/*/a.csv", None, "f/../a.csv", None),
        ("f/a.b", None, "f/axb", None),
    ],
)  # fmt: skip
def test_names(pattern, cut, name, partition):
    assert compile_pattern(pattern, cut, WORDS).match(name) == partition


@pytest.mark.parametrize(
    ("pattern", "cut", "what", "hint"),
    [
        ("f/{partiton}.csv", DAY, "unknown placeholder {partiton}", "did you mean `{partition}`?"),
        ("f/{tabel}/{partition}.csv", DAY, "unknown placeholder {tabel}", "did you mean `{table}`?"),
        ("f/{namespace}/{partition}.csv", DAY, "nothing says what {namespace} is", "customProperty `namespace`"),
        ("f/{date:%Y-%j}.csv", DAY, "`%j` in {date:%Y-%j} isn't known", "use %Y, %m, %d"),
        ("f/{date:x}.csv", DAY, "{date:x} has no date in it", "{date:%Y-%m-%d}"),
        ("f/*.csv", DAY, "the pattern names no partition", "add {partition}"),
        ("f/{YYYY}-{MM}.csv", DAY, "the pattern doesn't name the day", "partitioned by day"),
        ("f/{partition}.csv", None, "the table has no partitions, the pattern has {partition}", "write `*`"),
        ("*/{partition}.csv", DAY, "the pattern begins with no fixed text", "a folder of their own"),
        ("{partition}/f.csv", DAY, "the pattern begins with no fixed text", "a folder of their own"),
        ("f/**/{partition}.csv", DAY, "`**` isn't known", "write `*` for each folder"),
        ("f/[ab]/{partition}.csv", DAY, "`[` isn't allowed", "other characters are literal"),
        ("f/{partition.csv", DAY, "a `{` without its counterpart", "like {partition}"),
        ("f/{n}{partition}", DAY, "a number directly beside a date", "put something between"),
        ("f/{partition}{epoch}", DAY, "a number directly beside a date", "put something between"),
        ("f/{partition}/", DAY, "the pattern is no name of an object", "separated by single"),
        ("f//{partition}", DAY, "the pattern is no name of an object", "separated by single"),
        ("../f/{partition}", DAY, "the pattern is no name of an object", "separated by single"),
    ],
)  # fmt: skip
def test_what_can_not_be_used(pattern, cut, what, hint):
    with pytest.raises(PatternError) as raised:
        compile_pattern(pattern, cut, WORDS)
    assert what in raised.value.what or what in str(raised.value)
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "cut", "ordered", "narrow", "prefix"),
    [
        ("f/dt={partition}/*", DAY, True, True, "f/dt=2024-05-01/"),
        ("f/{YYYY}/{MM}/{DD}/*", MONTH, True, True, "f/2024/05/"),
        ("f/{YYYY}/{YYYY}-{MM}-{DD}.csv", DAY, False, True, "f/2024/2024-05-01.csv"),
        ("f/{date:%d-%m-%Y}.csv", DAY, False, True, "f/01-05-2024.csv"),
        ("f/*/dt={partition}/*", DAY, False, False, "f/"),
        ("f/{HH}/{YYYY}-{MM}-{DD}.csv", DAY, False, False, "f/"),
        ("f/{epoch}_{partition}.csv", DAY, False, False, "f/"),
        (AIRBYTE, DAY, True, True, "raw/flights/2024_05_01_"),
        ("f/*.csv", None, False, False, "f/"),
    ],
)
def test_listings(pattern, cut, ordered, narrow, prefix):
    made = compile_pattern(pattern, cut, WORDS)
    assert (made.ordered, made.narrow, made.prefix_of("2024-05-01")) == (ordered, narrow, prefix)


FREE = ["x*", "-{n}-", "{uuid}", "-", "x/x", "_", "a", "{YYYY}", "{MM}", "{DD}", "{HH}"]
pieces, free_pieces = st.sampled_from([*FREE, "{partition}"]), st.sampled_from(FREE)
cuts = st.sampled_from([HOUR, DAY, MONTH])
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))


def named(pattern, moment, free):
    """A name of the pattern, of that moment; `free` gives what stands for what is free."""
    texts = {Free.ANY: "q" * free, Free.NUMBER: str(free), Free.UUID: "0b5be46e-4e9c-4f0b-8f3c-7d2b0b7c1a11"}
    return "".join(
        moment.strftime(f"%{t}").zfill(2) if isinstance(t, Unit) else texts[t] if isinstance(t, Free) else t
        for t in pattern.tokens
    )


@given(st.lists(pieces, max_size=5), st.lists(pieces, max_size=5), cuts, moments, moments, st.integers(1, 9))
def test_a_name_leads_to_its_partition_and_back(before, after, cut, moment, other, free):
    pattern = compile_pattern("f/" + "".join([*before, "{partition}", *after]), cut)
    name, key = named(pattern, moment, free), cut.key(moment)
    assert pattern.match(name) == key
    assert name.startswith(pattern.prefix_of(key))
    assert pattern.prefix_of(key).startswith(pattern.prefix)
    if pattern.ordered:  # so a listing from a partition's prefix on finds it and what follows
        later = cut.key(other)
        assert (pattern.prefix_of(key) < pattern.prefix_of(later)) is (key < later)
        following = pattern.prefix_of(cut.key(cut.next(cut.parse(key))))
        assert pattern.prefix_of(key) <= name < following


@given(st.lists(st.tuples(free_pieces, free_pieces, st.booleans()), min_size=1, max_size=8), moments, st.integers(1, 9))
def test_who_has_a_name_in_common_overlaps(parts, moment, free):
    """Two patterns that differ here and there. A name of the one is often one of the other, too."""
    a = compile_pattern("f/" + "".join(one for one, _, _ in parts), None)
    b = compile_pattern("f/" + "".join(other if differs else one for one, other, differs in parts), None)
    if b.match(named(a, moment, free)) is not None:
        assert overlap(a.tokens, b.tokens)
        assert overlap(b.tokens, a.tokens)


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ("a/*.csv", "a/*.csv", True),
        ("a/*.csv", "a/*.parquet", False),
        ("a/x-*.csv", "a/*-y.csv", True),
        ("a/*/b", "a/*", False),
        ("a/*", "b/*", False),
        ("a/*b*c", "a/cb*", True),
    ],
)
def test_overlaps(left, right, both):
    assert overlap(glob(left), glob(right)) is both


def test_a_number_is_no_date():
    dated, numbered = compile_pattern("f/{YYYY}-{MM}-{DD}", DAY), compile_pattern("f/{n}-{n}-{n}", None)
    assert overlap(dated.tokens, numbered.tokens)
    assert not overlap(dated.tokens, compile_pattern("f/{n}-{n}", None).tokens)


@given(st.dates(date(2020, 1, 6), date(2030, 1, 1)))
def test_days_of_a_week(day):
    """Files by day suit a table by week, and are listed as a range."""
    cut = Partitioning("t", Granularity.WEEK, date(2020, 1, 6))
    pattern = compile_pattern("a/{date:%Y-%m-%d}/*.csv", cut)
    name = f"a/{day}/x.csv"
    monday = pattern.match(name)
    assert monday == str(day - timedelta(days=day.weekday()))
    following = cut.key(cut.next(cut.parse(monday)))
    assert pattern.ordered
    assert pattern.narrow
    assert pattern.prefix_of(monday) <= name < pattern.prefix_of(following)
    assert not compile_pattern("a/{date:%d.%m.%Y}.csv", cut).narrow
