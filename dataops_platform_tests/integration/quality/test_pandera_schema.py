"""A table as a pandera schema: which frames it takes, what it says of the others, and what it holds back of them."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from dataops_platform.contracts import (
    Column,
    DataRefused,
    Dimension,
    FieldType,
    Kind,
    Operator,
    Rule,
    RuleKind,
    Severity,
    Table,
    Threshold,
    Unit,
    arrow_schema,
    load_contracts,
)
from dataops_platform.contracts.frames import from_arrow
from dataops_platform.quality.pandera_schema import pandera_schema, split, validate
from dataops_platform_tests import support
from dataops_platform_tests.readme import REPO

ALL_KINDS = support.table(
    "t",
    {
        "s": Kind.STRING, "i": Kind.INTEGER, "n": Kind.NUMBER, "d": FieldType(Kind.DECIMAL, 10, 2), "b": Kind.BOOLEAN,
        "day": Kind.DATE, "at": Kind.TIMESTAMP, "local": Kind.DATETIME, "t": Kind.TIME, "j": Kind.JSON,
    },
)  # fmt: skip

NAN = float("nan")


def single(kind: Kind, *rules: Rule, required: bool = False) -> Table:
    """A table of one column `x`."""
    return Table("t", (Column("x", FieldType(kind, 10, 2) if kind is Kind.DECIMAL else FieldType(kind), required),),
                 rules=rules)  # fmt: skip


def rule(kind: RuleKind, *, threshold: Threshold | None = None, severity: Severity = Severity.ERROR, **args) -> Rule:
    return Rule("r", kind, Dimension.VALIDITY, severity, "", ("x",), args, threshold or Threshold())


def accepts(table: Table, values, dtype=None) -> bool:
    try:
        validate(table, pd.DataFrame({"x": pd.Series(values, dtype=dtype)}))
    except DataRefused:
        return False
    return True


def test_a_normal_frame_becomes_what_arrow_wants():
    loaded = ALL_KINDS
    zone = dt.timezone(dt.timedelta(hours=-5))
    frame = pd.DataFrame(
        {
            "s": ["a", "b"],
            "i": [1.0, None],
            "n": [1, 2],
            "d": [1.25, None],
            "b": [True, None],
            "day": pd.to_datetime(["2024-01-01", None]),
            "at": pd.to_datetime(["2024-01-01 10:00", None]).tz_localize(zone),
            "local": pd.to_datetime(["2024-01-01 10:00", None]),
            "t": [dt.time(1), None],
            "j": ['{"a": 1}', None],
        }
    )
    before = frame.copy()
    clean = validate(loaded, frame)
    pd.testing.assert_frame_equal(frame, before)
    assert [str(dtype) for dtype in clean.dtypes] == [
        "string", "Int64", "Float64", "object", "boolean", "object", "datetime64[us, UTC]", "datetime64[us]", "object",
        "object",
    ]  # fmt: skip
    arrow = pa.Table.from_pandas(clean, arrow_schema(loaded), preserve_index=False)
    assert arrow.to_pylist()[0] == {
        "s": "a", "i": 1, "n": 1.0, "d": Decimal("1.25"), "b": True, "day": dt.date(2024, 1, 1),
        "at": dt.datetime(2024, 1, 1, 15, tzinfo=dt.UTC), "local": dt.datetime(2024, 1, 1, 10), "t": dt.time(1),
        "j": '{"a": 1}',
    }  # fmt: skip
    assert {value for name, value in arrow.to_pylist()[1].items() if name not in "sn"} == {None}
    pd.testing.assert_frame_equal(validate(loaded, clean), clean)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Kind.STRING, ["a", "", None], [1, 1.5, True, "\ud800"]),
        (Kind.INTEGER, [1, 2.0, "3", Decimal(4), None], [1.5, "x", True, 2**63, float("inf")]),
        (Kind.NUMBER, [1, 2.5, "3.5", "inf", Decimal("1.1"), None], ["x", "nan", True, dt.date(2024, 1, 1)]),
        (Kind.DECIMAL, [1, "2.50", 2.25, Decimal("99999999.99"), None], ["x", 1.001, 10**8, float("inf"), True]),
        (Kind.BOOLEAN, [True, 0, 1, None], ["true", 2]),
        (
            Kind.DATE,
            [dt.date(2024, 1, 1), "2024-01-01", dt.datetime(2024, 1, 1), None],
            ["x", dt.datetime(2024, 1, 1, 9)],
        ),
        (Kind.TIMESTAMP, [dt.datetime(2024, 1, 1), "2024-01-01T10:00:00+01:00", dt.date(2024, 1, 1), None], ["x", 7]),
        (Kind.DATETIME, [dt.datetime(2024, 1, 1), "2024-01-01T10:00:00"], [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]),
        (Kind.TIME, [dt.time(1), "10:00:00", None], ["x", 7]),
        (Kind.JSON, [{"a": 1}, [1], "{}", 1, None], ["{", "NaN", {"a": NAN}, {1, 2}]),
    ],
)
def test_types_are_exact_or_refused(kind, good, bad):
    assert accepts(single(kind), good, object)
    for value in bad:
        with pytest.raises(DataRefused, match=rf"x \[type\]: 1 row not of type {kind}: "):
            validate(single(kind), pd.DataFrame({"x": pd.Series([*good, value], dtype=object)}))


@pytest.mark.parametrize(
    ("kind", "checked", "good", "bad"),
    [
        (Kind.INTEGER, rule(RuleKind.NOT_NULL), 1, None),
        (Kind.STRING, rule(RuleKind.MISSING, sentinels=("", "n/a")), "a", "n/a"),
        (Kind.STRING, rule(RuleKind.MISSING, sentinels=("",)), "a", None),
        (Kind.INTEGER, rule(RuleKind.RANGE, minimum=1, maximum=3), 3, 4),
        (Kind.INTEGER, rule(RuleKind.RANGE, minimum=1, maximum=3), None, 0),
        (Kind.NUMBER, rule(RuleKind.RANGE, exclusiveMinimum=1, exclusiveMaximum=3), 2, 3),
        (Kind.NUMBER, rule(RuleKind.RANGE, multipleOf=0.1), 0.3, 0.35),
        (Kind.DECIMAL, rule(RuleKind.RANGE, minimum=0.1), Decimal("0.1"), Decimal("0.09")),
        (Kind.DATE, rule(RuleKind.RANGE, maximum="2024-01-01"), dt.date(2024, 1, 1), dt.date(2024, 1, 2)),
        (Kind.TIME, rule(RuleKind.RANGE, maximum="12:00:00"), dt.time(12), dt.time(12, 1)),
        (Kind.TIMESTAMP, rule(RuleKind.RANGE, minimum="2024-01-01T00:00:00+00:00"), dt.datetime(2024, 1, 1),
         dt.datetime(2023, 12, 31, 23)),
        (Kind.STRING, rule(RuleKind.LENGTH, minLength=2, maxLength=3), "äöü", "a"),
        (Kind.STRING, rule(RuleKind.LENGTH, maxLength=1), "😀", "ab"),
        (Kind.STRING, rule(RuleKind.PATTERN, pattern="[0-9]"), "a1b", "ab"),
        (Kind.STRING, rule(RuleKind.PATTERN, pattern="^a$"), "a", "a\n"),
        (Kind.STRING, rule(RuleKind.PATTERN, pattern=r"\pL\z"), "é", "1"),
        (Kind.STRING, rule(RuleKind.IN_SET, values=("a", "b")), "b", "c"),
        (Kind.DATE, rule(RuleKind.IN_SET, values=("2024-01-01",)), dt.date(2024, 1, 1), dt.date(2024, 1, 2)),
        (Kind.DECIMAL, rule(RuleKind.IN_SET, values=(0.5,)), Decimal("0.50"), Decimal("0.51")),
        (Kind.STRING, rule(RuleKind.NOT_IN_SET, values=("a", "b")), "c", "b"),
        (Kind.STRING, rule(RuleKind.FORMAT, format="date"), "2024-02-29", "2023-02-29"),
        (Kind.STRING, rule(RuleKind.FORMAT, format="email"), "a@b.co", "a@b"),
        (Kind.INTEGER, rule(RuleKind.CONDITION, condition="x % 2 = 1"), 2, 3),
        (Kind.STRING, rule(RuleKind.CONDITION, condition="LENGTH(x) > 2 OR x = 'no'"), "ab", "no"),
        (Kind.STRING, rule(RuleKind.DUPLICATES), "b", "a"),
    ],
)  # fmt: skip
def test_rules(kind, checked, good, bad):
    """`good` passes beside the first value, `bad` doesn't; a null passes all but the rules on completeness."""
    other = "a" if checked.kind is RuleKind.DUPLICATES else good
    if checked.kind not in (RuleKind.NOT_NULL, RuleKind.MISSING):
        assert accepts(single(kind, checked), [good, None, None], object)
    assert accepts(single(kind, checked), [good], object)
    with pytest.raises(DataRefused, match=r"x \[r\]: 1 row failing"):
        validate(single(kind, checked), pd.DataFrame({"x": pd.Series([other, bad], dtype=object)}))


def test_nan_in_pandas_is_null_unless_the_type_tells_them_apart():
    table = single(Kind.NUMBER, rule(RuleKind.RANGE, minimum=0))
    assert accepts(table, [1.0, NAN])
    zero = pd.Series([0.0, 1.0], dtype="Float64")
    assert not accepts(table, zero / zero * 0)  # 0/0 is NaN, and not NA


@given(st.lists(st.none() | st.integers(-5, 5)), st.integers(-5, 5), st.integers(-5, 5))
def test_range_is_that_of_plain_python(values, low, high):
    table = single(Kind.INTEGER, rule(RuleKind.RANGE, minimum=low, maximum=high))
    assert accepts(table, values, object) is all(value is None or low <= value <= high for value in values)


@given(st.lists(st.none() | st.sampled_from("abc")), st.integers(0, 4))
def test_duplicates_are_rows_minus_distinct_keys(values, allowed):
    threshold = Threshold(Operator.LESS_EQUAL, (allowed,))
    table = single(Kind.STRING, rule(RuleKind.DUPLICATES, threshold=threshold))
    keys = [value for value in values if value is not None]
    assert accepts(table, values, object) is (len(keys) - len(set(keys)) <= allowed)


def test_thresholds_of_the_whole_frame():
    half = Threshold(Operator.LESS_EQUAL, (50,), Unit.PERCENT)
    table = single(Kind.INTEGER, rule(RuleKind.NOT_NULL, threshold=half))
    assert accepts(table, [1, None], object)
    assert accepts(table, [], object)
    with pytest.raises(DataRefused, match=r"x \[r\]: failing rows: not mustBeLessOrEqualTo 50 %"):
        validate(table, pd.DataFrame({"x": [1, None, None]}))


def test_warnings_and_rules_of_the_engine_refuse_nothing():
    warning = rule(RuleKind.RANGE, severity=Severity.WARNING, minimum=10)
    of_engine = rule(RuleKind.QUERY, query="SELECT COUNT(*) FROM {object}"), rule(RuleKind.AGGREGATE, function="min")
    assert accepts(single(Kind.INTEGER, warning, *of_engine, rule(RuleKind.ROW_COUNT)), [1])
    assert pandera_schema(single(Kind.INTEGER, warning)).columns["x"].checks[0].name == "type"


def test_one_message_for_everything():
    airlines = load_contracts(REPO / "contracts").tables["airlines"]
    frame = pd.DataFrame(
        {"carrier": ["AA", "abc", "AA", None], "name": ["A", "B", 3, "D"], "extra": 1}, index=[0, 0, 1, 2]
    )
    with pytest.raises(DataRefused) as caught:
        validate(airlines, frame)
    assert str(caught.value).splitlines() == [
        "airlines: 5 problems in 4 rows",
        "  extra: isn't a column of the contract",
        "  carrier [carrier_required]: 1 row failing (Every row has a carrier): null",
        "  carrier [carrier_pattern]: 1 row failing (carrier is spelled as it must be): abc",
        "  name [type]: 1 row not of type string: 3",
        "  carrier [primary_key]: 1 row failing (No two rows have the same carrier): AA",
    ]
    with pytest.raises(DataRefused, match=r"airlines: 1 problem in 0 rows\n  name: the column is missing"):
        validate(airlines, pd.DataFrame({"carrier": []}))


def test_the_documentations_example_runs(tmp_path, monkeypatch):
    """Of docs/contracts.md, over the contract that it shows."""
    text = (REPO / "docs" / "contracts.md").read_text(encoding="utf-8")
    (contract,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "orders.odcs.yaml").write_text(contract, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(
        {
            "order_date": ["2024-01-01"], "order_id": [1], "customer_id": [1], "country": ["NO"], "amount": ["9.90"],
            "email": ["a@b.co"], "paid_at": ["2024-01-01T10:00:00+01:00"],
        }
    )  # fmt: skip
    names = {"frame": frame}
    exec(code, names)
    assert names["clean"].iloc[0].to_dict() == {
        "order_date": dt.date(2024, 1, 1), "order_id": 1, "customer_id": 1, "country": "NO", "amount": Decimal("9.90"),
        "email": "a@b.co", "paid_at": pd.Timestamp("2024-01-01 09:00", tz="UTC"),
    }  # fmt: skip
    with pytest.raises(DataRefused, match="paid_orders_have_an_amount"):
        exec(code, {"frame": frame.assign(amount=None)})


def test_columns_are_compared_row_by_row():
    """Nulls pass; NaN satisfies no comparison, not even with itself."""
    frame = from_arrow(pa.table({"a": [1.0, 3.0, None, NAN, NAN], "b": [2.0, 2.0, 1.0, NAN, None]}))
    compared = support.rule("r", RuleKind.COMPARE, "a", "b", operator="<=")
    t = support.table("t", {"a": Kind.NUMBER, "b": Kind.NUMBER}, rules=[compared])
    parts = split(t, frame)
    assert parts.positions.to_pylist() == [1, 3]
    assert parts.reasons.to_pylist() == [["r"], ["r"]]
    assert parts.good.num_rows == 3
    with pytest.raises(DataRefused, match=r"  a, b \[r\]: 2 rows failing: 3.0 2.0, NaN NaN"):
        validate(t, frame)


def test_a_condition_that_fails_is_said():
    t = support.table("t", {"s": Kind.STRING}, rules=[
        support.rule("r", RuleKind.CONDITION, condition="CAST(s AS BIGINT) > 1"),
        support.rule("q", RuleKind.CONDITION, condition="no_such_function(s)"),
    ])  # fmt: skip
    frame = pd.DataFrame({"s": ["x"]})
    for judge in (validate, split):
        with pytest.raises(DataRefused) as caught:
            judge(t, frame)
        assert "s [r]: the rule can't be computed for these rows: Conversion Error: Could not convert" in str(
            caught.value
        )
        assert "s [q]: the rule can't be computed for these rows: Catalog Error" in str(caught.value)


def test_pandera_itself_names_rules_and_rows():
    """With an index of the frame's own, and every failure case."""
    t = support.table("t", {"a": Kind.INTEGER, "b": Kind.INTEGER}, rules=[
        support.rule("positive", RuleKind.RANGE, "a", minimum=1), support.rule("unique", RuleKind.DUPLICATES, "a", "b"),
    ])  # fmt: skip
    frame = pd.DataFrame({"a": [0, 0, 2] + [-1] * 20, "b": 1}, index=[*"xyz", *range(20)])
    with pytest.raises(SchemaErrors) as caught:
        pandera_schema(t).validate(frame, lazy=True)
    cases = caught.value.failure_cases
    assert set(cases["check"]) == {"positive", "unique"}
    assert set(cases[cases["check"] == "positive"]["index"]) == {"x", "y", *range(20)}
    assert set(cases[cases["check"] == "unique"]["index"]) == {"y", *range(1, 20)}


def test_absent_columns_are_null():
    t = support.table("t", {"a": Kind.INTEGER, "b": Kind.INTEGER}, rules=[
        support.rule("known", RuleKind.NOT_NULL, "b"),
        support.rule("either", RuleKind.CONDITION, condition="a IS NULL AND b IS NULL"),
    ])  # fmt: skip
    parts = split(t, pd.DataFrame({"a": [1, None]}))
    assert parts.bad.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": None}]
    assert parts.reasons.to_pylist() == [["known"], ["known", "either"]]
    assert parts.good.schema.names == ["a", "b"]


def test_a_decimal_of_any_length_is_exact_or_refused():
    """Python rounds to 28 digits by itself."""
    most = "99999999999999999999999999999.999999999"
    t = support.table("t", {"x": FieldType(Kind.DECIMAL, 38, 9)})
    assert validate(t, pd.DataFrame({"x": [most]}))["x"].tolist() == [Decimal(most)]
    with pytest.raises(DataRefused, match="not of type decimal"):
        validate(t, pd.DataFrame({"x": ["1234567890123456789012345.0123456789"]}))


def test_messages_show_no_value_of_a_column_that_is_not_public():
    secret = Column("x", FieldType(Kind.STRING), classification="confidential")
    t = Table("t", (secret,), rules=(rule(RuleKind.LENGTH, maxLength=3),))
    for values in (["secret"], ["abc", 12345]):
        with pytest.raises(DataRefused) as caught:
            validate(t, pd.DataFrame({"x": values}))
        assert str(caught.value).endswith(": •••")
