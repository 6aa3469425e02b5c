"""What each rule means: the planner's SQL against a naive evaluator, partition by partition."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataops_platform.contracts.frames import convert_series
from dataops_platform.contracts.model import Operator, RuleKind, Scope, Severity, Threshold, Unit
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.types import Kind
from dataops_platform.lake import local
from dataops_platform.quality.duckdb_proofs import BITS_PER_ROW
from dataops_platform.quality.frame_rules import failing_rows
from dataops_platform.quality.planner import plan, render_bad
from dataops_platform_tests.support import BLOCK, DAY1, Home, daily, moment, rule, table

DAYS = [DAY1 + timedelta(days=n) for n in range(3)]
COLUMNS = {
    "day": Kind.DATE, "i": Kind.INTEGER, "x": Kind.NUMBER, "s": Kind.STRING, "b": Kind.BOOLEAN, "at": Kind.TIMESTAMP,
}  # fmt: skip
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
PARENT = table("parent", {"code": Kind.STRING, "number": Kind.INTEGER})
PARENTS = [{"code": "a", "number": 1}, {"code": "é", "number": 2}, {"code": None, "number": None}]


def both(*args, **options):
    """A rule for each partition, and the same for the whole table."""
    name, *rest = args
    return [rule(name, *rest, **options), rule(f"{name}_all", *rest, scope=Scope.TABLE, **options)]


PARENT_CUT = {"table": "parent", "column": None, "cut": None, "field_kind": None}

RULES = [
    *both("not_null", RuleKind.NOT_NULL, "s"),
    *both("missing", RuleKind.MISSING, "s", sentinels=("", "N/A")),
    *both("bounds", RuleKind.RANGE, "x", minimum=-1, maximum=10),
    *both("bounds_open", RuleKind.RANGE, "x", exclusiveMinimum=0, exclusiveMaximum=10),
    *both("multiple", RuleKind.RANGE, "i", multipleOf=2),
    *both("multiple_x", RuleKind.RANGE, "x", multipleOf=0.1),
    *both("since", RuleKind.RANGE, "at", minimum="2024-01-01T12:00:00+00:00"),
    *both("length", RuleKind.LENGTH, "s", minLength=1, maxLength=2),
    *both("pattern", RuleKind.PATTERN, "s", pattern="^[a-z]"),
    *both("digits", RuleKind.PATTERN, "s", pattern=r"\d'?$"),
    *both("allowed", RuleKind.IN_SET, "s", values=("a", "it's", "é")),
    *both("allowed_i", RuleKind.IN_SET, "i", values=(1, 2)),
    *both("allowed_b", RuleKind.IN_SET, "b", values=(True,)),
    *both("formatted", RuleKind.FORMAT, "s", format="date"),
    *both("address", RuleKind.FORMAT, "s", format="email"),
    *both("forbidden", RuleKind.NOT_IN_SET, "s", values=("a", "N/A")),
    *both("in_order", RuleKind.COMPARE, "i", "x", operator="<="),
    *both("different", RuleKind.COMPARE, "x", "i", operator="!="),
    *both("condition", RuleKind.CONDITION, "x", "i", condition="x > i OR s IS NULL"),
    *both("unique", RuleKind.DUPLICATES, "s", "i"),
    *both("orphans", RuleKind.ORPHANS, "s", table="parent", columns=("code",)),
    *both("orphans_2", RuleKind.ORPHANS, "s", "i", table="parent", columns=("code", "number")),
    *both("count", RuleKind.ROW_COUNT, threshold=Threshold(Operator.GREATER, (1,))),
    *both("average", RuleKind.AGGREGATE, "i", function="avg"),
    *both("least", RuleKind.AGGREGATE, "i", function="min"),
    *both("middle", RuleKind.AGGREGATE, "i", function="median"),
    *both("third", RuleKind.AGGREGATE, "i", function="quantile", quantile=0.3),
    *both("distinct", RuleKind.AGGREGATE, "s", function="distinct"),
    *both("lowest", RuleKind.AGGREGATE, "x", function="min"),
    *both("highest", RuleKind.AGGREGATE, "x", function="max"),
    *both("late", RuleKind.EVENT_LATENCY, "at"),
    rule("parents", RuleKind.RECONCILE, scope=Scope.TABLE, function="row_count", **PARENT_CUT),
    rule("numbers", RuleKind.RECONCILE, "i", scope=Scope.TABLE, function="sum", **PARENT_CUT | {"column": "number"}),
    rule("delivered", RuleKind.RECONCILE, function="row_count", **PARENT_CUT | {"table": None}),
    *both("spread", RuleKind.AGGREGATE, "i", function="stddev"),
    *both("query", RuleKind.QUERY, query="SELECT COUNT(DISTINCT s) FROM {object} WHERE i > 0"),
]
T = table("t", COLUMNS, partitioning=daily(), rules=RULES, bad_rows=BLOCK)

ROW = st.fixed_dictionaries(
    {
        "day": st.sampled_from(DAYS),
        "i": st.sampled_from([None, 0, 1, 1, 2, 3, -4]),
        "x": st.sampled_from([None, -1.0, 0.0, -0.0, 0.3, 3.5, 3.55, 10.0, 10.5, 1e300, math.nan, math.inf, -math.inf]),
        "s": st.sampled_from(
            [
                None,
                "",
                "a",
                "a",
                "é",
                "it's",
                "N/A",
                "👩‍🚀",
                "z9",
                "9'",
                "A\n",
                "%_",
                "\\d",
                "2024-02-29",
                "2023-02-29",
                "a@b.co",
                "a@b.co\n",
            ]
        ),
        "b": st.sampled_from([None, True, False]),
        "at": st.sampled_from([None, NOON, NOON - timedelta(microseconds=1), NOON + timedelta(hours=1)]),
    }
)


def matches(text: str, pattern: str) -> bool:
    return pc.match_substring_regex(pa.array([text]), pattern)[0].as_py()


def rows_that(predicate, column):
    """A value rule: nulls break nothing."""
    return lambda rows: sum(row[column] is not None and predicate(row[column]) for row in rows)


def surplus(rows, columns) -> int:
    keys = Counter(tuple(row[c] for c in columns) for row in rows if all(row[c] is not None for c in columns))
    return sum(keys.values()) - len(keys)


def orphans(rows, columns, parents) -> int:
    known = {tuple(parent[p] for p in parents) for parent in PARENTS}
    return sum(
        all(row[c] is not None for c in columns) and tuple(row[c] for c in columns) not in known for row in rows
    )  # fmt: skip


def aggregate(function, least=1):
    return lambda rows: function(v) if len(v := [r["i"] for r in rows if r["i"] is not None]) >= least else None


def extreme(function):
    """NaN if there is one among the values."""

    def of(rows):
        values = [row["x"] for row in rows if row["x"] is not None]
        return math.nan if any(map(math.isnan, values)) else function(values, default=None)

    return of


def ordered(operator):
    """Rows with both values that don't compare so; NaN never does."""

    def count(rows):
        pairs = [(row["i"], row["x"]) for row in rows if row["i"] is not None and row["x"] is not None]
        return sum(math.isnan(x) or not operator(i, x) for i, x in pairs)

    return count


def quantile(share):
    """Interpolated between neighbours."""

    def of(values):
        ordered, place = sorted(values), share * (len(values) - 1)
        low = math.floor(place)
        return ordered[low] + (place - low) * (ordered[math.ceil(place)] - ordered[low])

    return of


def hours_late(rows):
    """Deliveries come in the days' order, after that of the parents."""
    waits = [moment(1 + DAYS.index(row["day"])) - row["at"] for row in rows if row["at"] is not None]
    return max(waits).total_seconds() / 3600 if waits else None


def condition(row) -> bool:
    if row["s"] is None:
        return True
    x, i = row["x"], row["i"]
    return x is not None and i is not None and (math.isnan(x) or x > i)  # NaN is greater than any number


NAIVE = {
    "not_null": lambda rows: sum(row["s"] is None for row in rows),
    "missing": lambda rows: sum(row["s"] in (None, "", "N/A") for row in rows),
    "bounds": rows_that(lambda v: not -1 <= v <= 10, "x"),
    "bounds_open": rows_that(lambda v: not 0 < v < 10, "x"),
    "multiple": rows_that(lambda v: v % 2 != 0, "i"),
    "multiple_x": rows_that(lambda v: not math.isfinite(v) or not abs(v / 0.1 - round(v / 0.1)) <= 1e-9, "x"),
    "since": rows_that(lambda v: v < NOON, "at"),
    "length": rows_that(lambda v: not 1 <= len(v) <= 2, "s"),
    "pattern": rows_that(lambda v: not matches(v, "^[a-z]"), "s"),
    "digits": rows_that(lambda v: not matches(v, r"\d'?$"), "s"),
    "allowed": rows_that(lambda v: v not in ("a", "it's", "é"), "s"),
    "allowed_i": rows_that(lambda v: v not in (1, 2), "i"),
    "allowed_b": rows_that(lambda v: v is not True, "b"),
    "formatted": rows_that(lambda v: v != "2024-02-29", "s"),
    "address": rows_that(lambda v: v != "a@b.co", "s"),
    "forbidden": rows_that(lambda v: v in ("a", "N/A"), "s"),
    "in_order": ordered(lambda i, x: i <= x),
    "different": ordered(lambda i, x: i != x),
    "condition": lambda rows: sum(map(condition, rows)),
    "unique": lambda rows: surplus(rows, ("s", "i")),
    "orphans": lambda rows: orphans(rows, ("s",), ("code",)),
    "orphans_2": lambda rows: orphans(rows, ("s", "i"), ("code", "number")),
    "count": len,
    "average": aggregate(statistics.fmean),
    "least": aggregate(min),
    "middle": aggregate(statistics.median),
    "third": aggregate(quantile(0.3)),
    "distinct": lambda rows: len({row["s"] for row in rows} - {None}) if rows else None,
    "lowest": extreme(min),
    "highest": extreme(max),
    "late": hours_late,
    "parents": lambda rows: len(rows) - len(PARENTS),
    "numbers": lambda rows: sum(row["i"] or 0 for row in rows) - 3,
    "delivered": lambda rows: 0,
    "spread": aggregate(statistics.stdev, 2),
    "query": lambda rows: len({r["s"] for r in rows if r["s"] is not None and r["i"] is not None and r["i"] > 0}),
}


def run(rows, rules) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_sync", lambda path: None)
        home = Home(Path(folder))
        with home.kept_open():
            home.fill(PARENT, PARENTS)
            deliveries = [home.deliver(T, [r for r in rows if r["day"] == day], partition=day) for day in DAYS[:2]]
            deliveries += (
                [home.deliver(T, found, partition=DAYS[2])]
                if (found := [r for r in rows if r["day"] == DAYS[2]])
                else []
            )
            home.load(T, deliveries)
            verdicts = home.judge(T, *rules)
            assert Counter(home.rows("SELECT rule_id, partition_key, passed FROM dataops.verdicts")) == Counter(
                (v.rule_id, v.partition_key, v.passed) for v in verdicts
            )
        loaded = {d.partition for d in deliveries}
        for r in RULES:
            if rules and r.id not in rules:
                continue
            found = {v.partition_key: v for v in verdicts if v.rule_id == r.id}
            assert set(found) == (loaded if r.scope is Scope.PARTITION else {"all"})
            for key, verdict in found.items():
                here = [row for row in rows if key in ("all", str(row["day"]))]
                expected = NAIVE[r.id.removesuffix("_all")](here)
                if expected is None:
                    assert (verdict.observed, verdict.passed) == (None, not here), r.id
                    continue
                assert verdict.observed == pytest.approx(expected, nan_ok=True), (r.id, key)
                assert verdict.passed == r.threshold.holds(verdict.observed)
                assert verdict.scanned_rows == len(here)
                assert verdict.failed_rows == (
                    expected if r.kind.row_level or r.kind in (RuleKind.DUPLICATES, RuleKind.ORPHANS) else None
                )
                assert verdict.rule_hash == r.fingerprint


QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@settings(QUIET, max_examples=12)
@given(
    rows=st.lists(ROW, max_size=12),
    rules=st.just(()) | st.sets(st.sampled_from([r.id for r in RULES]), min_size=1, max_size=4),
)
def test_rules_mean_what_the_naive_evaluator_says(rows, rules):
    run(rows, rules)


@pytest.mark.long
@settings(QUIET, max_examples=800)
@given(
    rows=st.lists(ROW, max_size=25),
    rules=st.just(()) | st.sets(st.sampled_from([r.id for r in RULES]), min_size=1, max_size=4),
)
def test_rules_mean_what_the_naive_evaluator_says_long(rows, rules):
    run(rows, rules)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


def only(home, t, *rows, key="all"):
    """The verdict of a table's only rule over some rows."""
    home.fill(t, [dict(zip((c.name for c in t.columns), row, strict=True)) for row in rows])
    return next(v for v in home.judge(t) if v.partition_key == key)


@pytest.mark.parametrize(
    ("operator", "values", "unit", "passed"),
    [
        (Operator.BE, (1,), Unit.ROWS, True),
        (Operator.NOT_BE, (1,), Unit.ROWS, False),
        (Operator.LESS, (1,), Unit.ROWS, False),
        (Operator.LESS_EQUAL, (1,), Unit.ROWS, True),
        (Operator.GREATER, (1,), Unit.ROWS, False),
        (Operator.GREATER_EQUAL, (1,), Unit.ROWS, True),
        (Operator.BETWEEN, (1, 2), Unit.ROWS, True),
        (Operator.NOT_BETWEEN, (0, 1), Unit.ROWS, False),
        (Operator.LESS_EQUAL, (25,), Unit.PERCENT, True),
        (Operator.LESS, (25,), Unit.PERCENT, False),
    ],
)
def test_thresholds(home, operator, values, unit, passed):
    """One of four rows is bad."""
    r = rule("v", RuleKind.RANGE, "v", minimum=0, threshold=Threshold(operator, values, unit))
    verdict = only(home, table("t", {"v": Kind.INTEGER}, rules=[r], bad_rows=BLOCK), (1,), (2,), (None,), (-1,))
    assert (verdict.passed, verdict.failed_rows, verdict.scanned_rows) == (passed, 1, 4)
    assert verdict.observed == (25 if unit is Unit.PERCENT else 1)


def test_nan_makes_nan(engine):
    """Which satisfies nothing, whatever the function and the operator; as one of the values it is one."""
    functions = {"avg": {}, "min": {}, "max": {}, "sum": {}, "stddev": {}, "median": {}, "quantile": {"quantile": 0.4}}
    rules = [
        rule(name, RuleKind.AGGREGATE, "x", function=name, threshold=Threshold(Operator.NOT_BE, (0,)), **more)
        for name, more in {**functions, "distinct": {}}.items()
    ]
    t = table("t", {"x": Kind.NUMBER}, rules=rules)
    engine.fill(t, [{"x": value} for value in (1.0, 2.0, 3.0, 4.0, math.nan, math.nan, None)])
    found = {v.rule_id: (v.observed, v.passed) for v in engine.judge(t)}
    assert found.pop("distinct") == (5, True)
    assert found == {name: (pytest.approx(math.nan, nan_ok=True), False) for name in functions}


def test_a_percentage_of_no_rows_is_zero(home):
    r = rule("v", RuleKind.NOT_NULL, "v", threshold=Threshold(Operator.LESS, (1,), Unit.PERCENT))
    t = table("t", {"v": Kind.INTEGER}, rules=[r])
    home.load(t, [home.deliver(t, [])])
    (verdict,) = home.judge(t)
    assert (verdict.observed, verdict.passed) == (0, True)


def test_a_day_without_rows_is_judged(home):
    """Nothing can be wrong with its rows, but too few they may be; also for a query of the contract's own."""
    at_least = Threshold(Operator.GREATER_EQUAL, (1,))
    t = table(
        "t", {"day": Kind.DATE, "v": Kind.INTEGER}, partitioning=daily(),
        rules=[
            rule("v_required", RuleKind.NOT_NULL, "v"),
            rule("volume", RuleKind.ROW_COUNT, threshold=at_least),
            rule("query", RuleKind.QUERY, query="SELECT COUNT(*) FROM {object}", threshold=at_least),
            rule("highest", RuleKind.AGGREGATE, "v", function="max", threshold=at_least),
        ],
    )  # fmt: skip
    home.load(t, [home.deliver(t, [], partition=DAYS[0])])
    found = {v.rule_id: (v.passed, v.observed) for v in home.judge(t)}
    assert found == {"v_required": (True, 0), "volume": (False, 0), "query": (False, 0), "highest": (True, None)}


def test_a_partition_never_loaded_has_no_verdict(home):
    t = table("t", {"day": Kind.DATE}, partitioning=daily(), rules=[rule("volume", RuleKind.ROW_COUNT)])
    home.fill(t, [{"day": DAYS[0]}])
    assert {v.partition_key for v in home.judge(t, partitions=[str(day) for day in DAYS])} == {str(DAYS[0])}
    assert home.judge(t, partitions=[str(DAYS[2])]) == []


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("kind", [Kind.TIMESTAMP, Kind.DATETIME])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_partitions_of_a_time_begin_in_the_contracts_zone(home, granularity, kind, zone):
    """A row goes to the partition of its local time, at load and at judgement, on both sides of a boundary."""
    from zoneinfo import ZoneInfo

    cut = daily("at", zone, granularity)
    t = table("t", {"at": kind, "v": Kind.INTEGER}, partitioning=cut, bad_rows=BLOCK, rules=[
        rule("v_range", RuleKind.RANGE, "v", minimum=0),
        rule("highest", RuleKind.AGGREGATE, "v", function="max"),
        rule("query", RuleKind.QUERY, query="SELECT MIN(v) FROM {object}"),
    ])  # fmt: skip
    end = datetime(2024, 7, 1)
    local_times = [end - timedelta(microseconds=1), end]
    values = [m.replace(tzinfo=ZoneInfo(zone)) if kind is Kind.TIMESTAMP else m for m in local_times]
    keys = [cut.key(m) for m in local_times]
    content = [{"at": value, "v": -1 - number} for number, value in enumerate(values)]
    outcomes = home.load(t, [home.deliver(t, content, partition=key) for key in keys])
    assert [(o.rows_loaded, o.rows_quarantined) for o in outcomes] == [(1, 1), (1, 1)]
    found = {(v.rule_id, v.partition_key): v.observed for v in home.judge(t)}
    assert found == {
        ("v_range", keys[0]): 1, ("v_range", keys[1]): 1, ("highest", keys[0]): -1, ("highest", keys[1]): -2,
        ("query", keys[0]): -1, ("query", keys[1]): -2,
    }  # fmt: skip


def test_latency(home):
    """Hours from the end of the partition, in the contract's zone, to its first delivery."""
    r = rule(
        "latency", RuleKind.LATENCY, "day", threshold=Threshold(Operator.LESS_EQUAL, (12,)), severity=Severity.WARNING
    )
    t = table("t", {"day": Kind.DATE}, partitioning=daily(timezone="America/New_York"), rules=[r])
    ends = datetime(2024, 1, 2, 5, tzinfo=UTC)  # midnight in New York
    home.load(
        t, [home.deliver(t, [{"day": DAYS[0]}], partition=DAYS[0], at=ends + timedelta(hours=h)) for h in (30, 12)]
    )
    home.load(t, [home.deliver(t, [{"day": DAYS[1]}], partition=DAYS[1], at=ends + timedelta(days=1, hours=13))])
    found = {v.partition_key: (v.observed, v.passed) for v in home.judge(t)}
    assert found == {str(DAYS[0]): (12, True), str(DAYS[1]): (13, False)}


def test_nan_among_many_rows(home):
    """DuckDB skips blocks by their minimum and maximum; those of parquet files know nothing of NaN."""
    import numpy as np

    values = np.ones(300_000)
    values[[0, 250_000]] = [np.inf, np.nan]
    t = table("t", {"v": Kind.NUMBER}, rules=[rule("v_range", RuleKind.RANGE, "v", minimum=0, maximum=5)])
    content = pa.table({"v": values})
    (outcome,) = home.load(t, [home.deliver(t, content, row_group_size=50_000)])
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (299_998, 2)
    blocking = table("u", {"v": Kind.NUMBER}, rules=t.rules, bad_rows=BLOCK)
    home.load(blocking, [home.deliver(blocking, content)])
    assert home.judge(blocking)[0].failed_rows == 2


def test_samples_of_failed_rules_only(home):
    t = table(
        "t", {"day": Kind.DATE, "id": Kind.INTEGER, "v": Kind.INTEGER},
        key=["id"], partitioning=daily(), bad_rows=BLOCK,
        rules=[
            rule("v_range", RuleKind.RANGE, "v", minimum=0), rule("v_high", RuleKind.RANGE, "v", maximum=100),
            rule("unique", RuleKind.DUPLICATES, "id"),
            rule("orphans", RuleKind.ORPHANS, "id", table="parent", columns=("number",)),
            rule("volume", RuleKind.ROW_COUNT),
        ],
    )  # fmt: skip
    home.fill(PARENT, PARENTS)
    home.fill(t, [{"day": DAYS[n % 2], "id": 1 if n < 4 else n, "v": -n if n % 2 else n} for n in range(14)])
    verdicts = home.judge(t)
    samples = {v.rule_id: json.loads(v.sample) for v in verdicts if v.sample}
    assert set(samples) == {"v_range", "unique", "orphans"}
    assert all(1 <= len(sample) <= 5 for sample in samples.values())
    assert all(row["v"] < 0 and row["day"] == str(DAYS[1]) for row in samples["v_range"])
    assert all(row["id"] == 1 for row in samples["unique"])
    assert all(row["id"] > 2 for row in samples["orphans"])


def test_the_number_of_statements_does_not_follow_the_partitions():
    few, many = [len(plan(T, [str(date(2024, 1, 1) + timedelta(days=n)) for n in range(count)])) for count in (1, 365)]
    assert few == many
    scans = [s for s in plan(T, [str(DAYS[0])]) if s.id.startswith("t.scan")]
    assert len(scans) == 2  # one for each scope


def test_a_column_may_be_called_anything(home):
    """Also what the planner calls its own."""
    for name in ("n", "part", "parts", "rows", "rule", "failed", "observed", "c", "r", "object", "select"):
        t = table(
            f"t_{name}", {"day": Kind.DATE, name: Kind.STRING}, partitioning=daily(), bad_rows=BLOCK,
            rules=[
                rule("allowed", RuleKind.IN_SET, name, values=("x",)),
                rule("pattern", RuleKind.PATTERN, name, pattern="x"),
                rule("unique", RuleKind.DUPLICATES, name), rule("known", RuleKind.NOT_NULL, name),
                rule("orphans", RuleKind.ORPHANS, name, table="parent", columns=("code",)),
                rule("query", RuleKind.QUERY, query=f'SELECT COUNT("{name}") FROM {{object}}'),
            ],
        )  # fmt: skip
        home.fill(PARENT, PARENTS[:1])
        home.fill(t, [{"day": DAYS[0], name: value} for value in ("x", "z", "z", "a", None)])
        found = {v.rule_id: v.observed for v in home.judge(t)}
        assert found == {"allowed": 3, "pattern": 3, "unique": 1, "known": 1, "orphans": 3, "query": 4}, name


def test_the_newest_verdict_counts(home):
    t = table(
        "t",
        {"day": Kind.DATE, "v": Kind.INTEGER},
        partitioning=daily(),
        rules=[rule("few", RuleKind.ROW_COUNT, threshold=Threshold(Operator.LESS, (2,)))],
    )
    home.fill(t, [{"day": DAYS[0], "v": 1}])
    home.judge(t)
    home.load(t, [home.deliver(t, [{"day": DAYS[0], "v": 2}], partition=DAYS[0], at=moment(99))])
    home.judge(t)
    ((verdict,),) = home.ledger.latest_verdicts(["staging.t"])["staging.t"].values()
    assert (verdict.passed, verdict.observed, verdict.data_version) == (
        False,
        2,
        home.ledger.data_versions("t")[str(DAYS[0])],
    )


KEYS = st.lists(
    st.tuples(
        st.sampled_from([None, 1, 2, 3, 4]), st.sampled_from([None, -0.0, 0.0, 1.5, math.nan]), st.sampled_from("ab")
    ),
    max_size=8,
)
IN_MEMORY = duckdb.connect()


@pytest.mark.parametrize("columns", [("i",), ("x",), ("i", "x"), ("s", "x", "i")])
@given(rows=KEYS, in_order=st.booleans())
def test_the_proof_that_keys_are_in_order(rows, in_order, columns):
    """True only where no key is there twice; and true wherever rows without nulls lie in order without repeats."""
    keyed = table("k", {"i": Kind.INTEGER, "x": Kind.NUMBER, "s": Kind.STRING})
    (statement,) = [s for s in plan(keyed, None, rules=[rule("u", RuleKind.DUPLICATES, *columns)]) if s.proofs]
    with IN_MEMORY.cursor() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS staging")
        connection.execute("CREATE OR REPLACE TABLE staging.k (i BIGINT, x DOUBLE, s VARCHAR)")
        if rows:
            connection.executemany("INSERT INTO staging.k VALUES (?, ?, ?)", rows)
        if in_order:
            names = ", ".join(columns)
            present = " AND ".join(f"{name} IS NOT NULL" for name in columns)
            connection.execute(
                f"CREATE OR REPLACE TABLE staging.k AS SELECT DISTINCT ON ({names}) * FROM staging.k WHERE {present}"
                f" ORDER BY {names}"
            )
        (proven,) = connection.execute(statement.proofs[0].sql).fetchone()
        found = connection.execute(statement.sql).fetchall()
    assert proven or not in_order
    assert not (proven and found and found[0][2])


@settings(QUIET, max_examples=300)
@given(
    factor=st.sampled_from([0.1, 0.01, 0.3, 2.5, 3, 1e-7, 123456.789]),
    times=st.integers(-(10**7), 10**7),
    off=st.sampled_from([0.0, 1e-10, 1e-8, 0.5]),
    other=st.floats(allow_nan=True, allow_infinity=True),
)
def test_multiples_of_a_float_are_the_same_for_engines_and_frames(factor, times, off, other):
    r = rule("v", RuleKind.RANGE, "v", multipleOf=factor)
    t = table("t", {"v": Kind.NUMBER}, rules=[r])
    values = [times * factor, (times + off) * factor, times / (1 / factor), other]
    listed = ", ".join(f"({n}, CAST('{value!r}' AS DOUBLE))" for n, value in enumerate(values))
    with IN_MEMORY.cursor() as connection:
        sql = f"SELECT {render_bad(t, r, 'duckdb')} FROM (VALUES {listed}) AS t(n, v) ORDER BY n"
        found = [row[0] for row in connection.execute(sql).fetchall()]
    frame = pd.DataFrame({"v": convert_series(pd.Series(values, dtype="Float64"), t.columns[0].type)})
    # In a plain float column pandas can't tell NaN from null; in SQL it is a value that lies within nothing.
    assert found == [
        math.isnan(value) or bad for value, bad in zip(values, failing_rows(t, r, frame).tolist(), strict=True)
    ]


def test_a_multiple_of_a_float_is_valid_on_bigquery():
    r = rule("v", RuleKind.RANGE, "v", multipleOf=0.1)
    sql = render_bad(table("t", {"v": Kind.NUMBER}, rules=[r]), r, "bigquery")
    assert "CAST('0.1' AS FLOAT64)" in sql
    assert "IS_NAN(`v`)" in sql
    sqlglot.parse_one(f"SELECT {sql} FROM t", dialect="bigquery")


@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1, 10**6]),
            st.none() | st.dates(date(2024, 2, 27), date(2024, 3, 2)) | st.sampled_from([date.min, date.max]),
        ),
        max_size=8,
    )
)
@pytest.mark.parametrize("columns", [("i",), ("d",), ("i", "d"), ("d", "i")])
def test_the_proof_that_keys_are_close_together(rows, columns):
    """True where no key is there twice, if there isn't too much room between them; and nowhere else."""
    keyed = table("k", {"i": Kind.INTEGER, "d": Kind.DATE, "s": Kind.STRING})
    (statement,) = [s for s in plan(keyed, None, rules=[rule("u", RuleKind.DUPLICATES, *columns)]) if s.proofs]
    with IN_MEMORY.cursor() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS staging")
        connection.execute("CREATE OR REPLACE TABLE staging.k (i BIGINT, d DATE)")
        if rows:
            connection.executemany("INSERT INTO staging.k VALUES (?, ?)", rows)
        proven = statement.proofs[1].holds(lambda sql: connection.sql(sql).to_arrow_table())
        failed = connection.execute(statement.sql).fetchall()
    named = [{"i": i, "d": None if d is None else d.toordinal()} for i, d in rows]
    keys = [key for row in named if None not in (key := tuple(row[name] for name in columns))]
    values = [[row[name] for row in named if row[name] is not None] for name in columns]
    room = math.prod(max(found) - min(found) + 1 for found in values if found)
    repeats = len(keys) - len(set(keys))
    assert (failed[0][2] or 0) == repeats
    assert proven == (not repeats and all(values) and bool(keys) and room <= BITS_PER_ROW * len(rows))


def test_keys_that_are_texts_are_in_no_map():
    keyed = table("k", {"i": Kind.INTEGER, "s": Kind.STRING})
    (statement,) = [s for s in plan(keyed, None, rules=[rule("u", RuleKind.DUPLICATES, "i", "s")]) if s.proofs]
    assert len(statement.proofs) == 1


def test_keys_out_of_order_are_counted(home):
    keyed = table("k", {"i": Kind.INTEGER}, rules=[rule("u", RuleKind.DUPLICATES, "i")], bad_rows=BLOCK)
    home.fill(keyed, [{"i": i} for i in (1, 2, 3, 2, 3)])
    (verdict,) = home.judge(keyed)
    assert (verdict.failed_rows, verdict.passed) == (2, False)
