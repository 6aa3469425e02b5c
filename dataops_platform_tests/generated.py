"""Generated tables and rules: the values and rules on which engines are likeliest to disagree."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from dataops_platform.contracts.arrow import arrow_schema
from dataops_platform.contracts.formats import FORMATS
from dataops_platform.contracts.frames import from_arrow
from dataops_platform.contracts.model import Operator, Rule, RuleKind, Table, Threshold, Unit
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform_tests.support import BLOCK, rule, table

SMALL, WIDE = FieldType(Kind.DECIMAL, 10, 2), FieldType(Kind.DECIMAL, 38, 9)
COLUMNS: dict[str, Kind | FieldType] = {
    "id": Kind.INTEGER, "i": Kind.INTEGER, "k": Kind.INTEGER, "x": Kind.NUMBER, "y": Kind.NUMBER, "d": SMALL, "e": WIDE,
    "s": Kind.STRING, "u": Kind.STRING, "b": Kind.BOOLEAN, "day": Kind.DATE, "due": Kind.DATE, "at": Kind.TIMESTAMP,
    "till": Kind.TIMESTAMP, "local": Kind.DATETIME, "t": Kind.TIME, "j": Kind.JSON,
}  # fmt: skip
TYPES = {name: kind if isinstance(kind, FieldType) else FieldType(kind) for name, kind in COLUMNS.items()}

_EXACT = Context(prec=60)
_GREATEST = 2**63 - 1
_ZONES = [UTC, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York"), timezone(timedelta(hours=-11, minutes=-30))]
_CUT = Decimal("9" * 29 + "." + "9" * 9)
_INSTANTS = [
    datetime(1, 1, 1),
    datetime(9999, 12, 31, 23, 59, 59, 999999),
    datetime(2024, 3, 31, 1),
    datetime(1970, 1, 1),
]

_INTEGERS = st.sampled_from([0, 1, 2, -3, _GREATEST, -_GREATEST - 1, 2**53 + 1]) | st.integers(-(2**63), _GREATEST)
_FLOATS = (
    st.sampled_from([0.0, -0.0, 0.1, 0.3, 1.0, 2.5, 1e300, 5e-324, 2.0**53, math.nan, math.inf, -math.inf])
    | st.floats()
)
_STRINGS = st.sampled_from(
    [
        "", "a", "A", "ab", "é", "e\u0301", "👩\u200d🚀", "🇫🇷", "ß", "ẞ", "İ", "\u00a0", " a ", "N/A",
        "it's", '"', "\\d", "%_",
        "a\n", "\t", "2024-02-29", "2023-02-29", "0000-01-01", "0001-01-01", "9999-12-31", "2024-2-29", "2024-02-29 ",
        "10000-01-01", "a@b.co", "a@b", "a@b.co\n", "https://a.b/c?d=e", "127.0.0.1", "256.0.0.1",
        "123e4567-e89b-12d3-a456-426614174000", "\u0661", "null", "NaN",
    ]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)  # fmt: skip
_DATES = st.sampled_from([date.min, date.max, date(2024, 2, 29), date(1970, 1, 1), date(1582, 10, 10)]) | st.dates()
_MOMENTS = st.sampled_from(_INSTANTS) | st.datetimes()

VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "i": _INTEGERS, "k": _INTEGERS, "x": _FLOATS, "y": _FLOATS,
    "d": st.sampled_from([Decimal("0.10"), Decimal("99999999.99"), Decimal("-99999999.99")])
    | st.integers(-(10**10) + 1, 10**10 - 1).map(lambda n: Decimal(n).scaleb(-2)),
    "e": st.sampled_from([Decimal("0.1"), _CUT, _CUT.copy_negate(), Decimal("1e-9"), Decimal("123456789012.100000001")])
    | st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(n).scaleb(-9, _EXACT)),
    "s": _STRINGS, "u": _STRINGS, "b": st.booleans(), "day": _DATES, "due": _DATES,
    "at": _MOMENTS.map(lambda m: m.replace(tzinfo=UTC)), "till": _MOMENTS.map(lambda m: m.replace(tzinfo=UTC)),
    "local": _MOMENTS, "t": st.sampled_from([time.min, time.max, time(12)]) | st.times(),
    "j": st.sampled_from(['{"a": 1}', "[]", "null", '"é"', "{}"]),
}  # fmt: skip


@st.composite
def rows(draw: st.DrawFn, max_size: int = 8) -> list[dict[str, Any]]:
    """Rows of `COLUMNS`; the ids are their positions, shuffled."""
    pools = {name: [None, *draw(st.lists(VALUES[name], min_size=1, max_size=3))] for name in VALUES}
    size = draw(st.integers(0, max_size))
    ids = draw(st.permutations(range(size)))
    return [{"id": id_} | {name: draw(st.sampled_from(pool)) for name, pool in pools.items()} for id_ in ids]


# -- rules -------------------------------------------------------------------------------------------------------------

_SETS = ["i", "x", "d", "e", "s", "b", "day", "at", "local", "t"]
_ORDERED = ["i", "x", "d", "e", "day", "at", "local", "t"]
_PATTERNS = [
    "^[a-z]*$",
    r"\d",
    r"^\pL",
    "^$",
    "a|é",
    r"\s",
    "(?i)^a",
    "^.$",
    "[^a]",
    r"^\w+@",
    r"'?$",
    "🚀",
    r"\\d",
    "(?s)^..$",
]
_PAIRS = [
    ("i", "k"), ("x", "y"), ("d", "e"), ("i", "x"), ("x", "i"), ("i", "e"), ("e", "i"), ("x", "d"), ("s", "u"),
    ("day", "due"), ("at", "till"), ("local", "local"), ("t", "t"), ("b", "b"),
]  # fmt: skip


def written(name: str, value: Any) -> Any:
    """A value as a contract's arguments have it: numbers, texts, and texts in ISO 8601."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


def _operand(name: str) -> st.SearchStrategy[Any]:
    found = VALUES[name].filter(lambda value: not isinstance(value, float) or math.isfinite(value))
    more: dict[str, list[Any]] = {"i": [0.5], "d": [1e-7, 0.005], "e": [1e-12, 1e28], "x": [10**20]}
    values = found.map(lambda value: written(name, value))
    return values | st.sampled_from(more[name]) if name in more else values


def _comparison(name: str, other: str) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
    return st.builds(lambda operator: f"{name} {operator} {other}", operators)


_ATOMS = st.one_of(
    _comparison("i", "k"), _comparison("i", "1"), _comparison("x", "y"), _comparison("x", "0.5"), _comparison("d", "e"),
    _comparison("s", "u"), _comparison("day", "due"), _comparison("day", "CAST('2024-02-29' AS DATE)"),
    _comparison("at", "till"), _comparison("LENGTH(s)", "1"), _comparison("LENGTH(TRIM(s))", "LENGTH(u)"),
    st.sampled_from(
        [
            "s IS NULL", "j IS NOT NULL", "b", "NOT b", "s IN ('a', 'é')", "s LIKE 'a%'", "s LIKE '%é%'",
            "i BETWEEN 0 AND 2",
            "COALESCE(i, 0) = 0", "UPPER(s) = 'A'", "LOWER(s) = u", "CONCAT(s, u) = 'ab'", "ABS(d) > 1",
            "MOD(k, 3) = 1",
            "NULLIF(i, 0) IS NULL", "CASE WHEN b THEN x > 1 ELSE s = 'a' END", "SUBSTRING(s, 1, 1) = 'a'",
            "EXTRACT(YEAR FROM day) = 2024", "EXTRACT(MONTH FROM day) > 2", "FLOOR(d) = d",
        ]
    ),
)  # fmt: skip
CONDITIONS = st.recursive(
    _ATOMS,
    lambda part: (
        st.builds("({} AND {})".format, part, part)
        | st.builds("({} OR {})".format, part, part)
        | st.builds("NOT ({})".format, part)
    ),
    max_leaves=4,
)

_THRESHOLDS = st.sampled_from(
    [
        None, None, None, Threshold(Operator.LESS_EQUAL, (1,)), Threshold(Operator.BETWEEN, (1, 2)),
        Threshold(Operator.LESS, (50,), Unit.PERCENT), Threshold(Operator.NOT_BE, (0,)),
    ]
)  # fmt: skip


@st.composite
def _range(draw: st.DrawFn) -> tuple[tuple[str, ...], dict[str, Any]]:
    name = draw(st.sampled_from(_ORDERED))
    bounds = draw(st.sets(st.sampled_from(["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"]), max_size=2))
    args = {bound: draw(_operand(name)) for bound in sorted(bounds)}
    if not args or (name in "ixde" and draw(st.booleans())):
        factors = {"i": [2, 3, 10**12, 0.5], "x": [0.1, 3, 2.5, 1e-7], "d": [0.5, 2, 0.01], "e": [0.5, 3, 1e-9]}
        if name in factors:
            args["multipleOf"] = draw(st.sampled_from(factors[name]))
        else:
            args["minimum"] = draw(_operand(name))
    return (name,), args


def _one(names: Sequence[str], **args: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(names).map(lambda name: (name,)), st.fixed_dictionaries(args))


def _listed(argument: str, names: Sequence[str]) -> st.SearchStrategy[Any]:
    def values(name: str) -> st.SearchStrategy[Any]:
        found = st.lists(_operand(name), min_size=1, max_size=4).map(tuple)
        return st.tuples(st.just((name,)), st.fixed_dictionaries({argument: found}))

    return st.sampled_from(names).flatmap(values)


_LENGTH = _one(["s"], minLength=st.integers(0, 3), maxLength=st.integers(0, 4)) | _one(
    ["s"], maxLength=st.integers(0, 3)
)
_KINDS: Mapping[RuleKind, st.SearchStrategy[tuple[tuple[str, ...], dict[str, Any]]]] = {
    RuleKind.NOT_NULL: _one(list(VALUES)),
    RuleKind.MISSING: _listed("sentinels", _SETS),
    RuleKind.RANGE: _range(),
    RuleKind.LENGTH: _LENGTH,
    RuleKind.PATTERN: _one(["s"], pattern=st.sampled_from(_PATTERNS)),
    RuleKind.FORMAT: _one(["s"], format=st.sampled_from(list(FORMATS))),
    RuleKind.IN_SET: _listed("values", _SETS),
    RuleKind.NOT_IN_SET: _listed("values", _SETS),
    RuleKind.COMPARE: st.tuples(
        st.sampled_from(_PAIRS),
        st.fixed_dictionaries({"operator": st.sampled_from(["=", "!=", "<", "<=", ">", ">="])}),
    ),
    RuleKind.CONDITION: st.tuples(st.just(()), st.fixed_dictionaries({"condition": CONDITIONS})),
    RuleKind.DUPLICATES: st.tuples(
        st.lists(st.sampled_from([name for name in VALUES if name != "j"]), min_size=1, max_size=3, unique=True).map(
            tuple
        ),
        st.just({}),
    ),
}


@st.composite
def rules(draw: st.DrawFn, each: int = 1) -> list[Rule]:
    """So many rules of each kind that a frame can be judged by."""
    made = []
    for kind, strategy in _KINDS.items():
        for number in range(each):
            columns, args = draw(strategy)
            made.append(rule(f"{kind}_{number}", kind, *columns, threshold=draw(_THRESHOLDS), **args))
    return made


def generated_table(judged: Sequence[Rule]) -> Table:
    """The table of all generated rows, with these rules; it splits none."""
    return table("generated", COLUMNS, rules=judged, bad_rows=BLOCK)


# -- frames ------------------------------------------------------------------------------------------------------------


def arrow_rows(content: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as Arrow, with the contract's types."""
    return pa.Table.from_pylist(list(content), schema=arrow_schema(generated_table([])))


Content = Sequence[Mapping[str, Any]]


def _from_arrow(content: Content, zone: tzinfo) -> tuple[Content, pd.DataFrame]:
    """As the columns of an Arrow table come to pandas: everything is told apart."""
    return content, from_arrow(arrow_rows(content))


def _of_objects(content: Content, zone: tzinfo) -> tuple[Content, pd.DataFrame]:
    """Python's own objects: instants in some zone, JSON as lists and dictionaries, decimals as texts."""
    content = [_nan_is_null(row) for row in content]
    frame = pd.DataFrame({name: pd.Series([row[name] for row in content], dtype=object) for name in COLUMNS})
    for name in ("at", "till"):
        frame[name] = frame[name].map(lambda value: value and _shown_in(zone, value)).astype(object)
    frame["j"] = frame["j"].map(lambda text: text and _parsed(text)).astype(object)
    frame["e"] = frame["e"].map(lambda value: None if value is None else str(value)).astype(object)
    return content, frame


def _usual(content: Content, zone: tzinfo) -> tuple[Content, pd.DataFrame]:
    """pandas' usual types: in a float column NaN is null, and an instant has the column's zone."""
    content = [_nan_is_null(row) for row in content]
    frame = from_arrow(arrow_rows(content))
    for name in ("x", "y"):
        frame[name] = frame[name].astype("float64")
    for name in ("s", "u"):
        frame[name] = frame[name].astype(object)
    for name in ("at", "till"):
        shown = [row[name] is None or _shown_in(zone, row[name]) is not row[name] for row in content]
        if all(shown):
            frame[name] = frame[name].dt.tz_convert(zone)
    return content, frame


FORMS = (_from_arrow, _of_objects, _usual)
"""How the same rows may come as a frame; each gives the rows as the frame can hold them, too."""


def _nan_is_null(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _shown_in(zone: tzinfo, instant: datetime) -> datetime:
    """The instant in a zone; as it is where the calendar of that zone ends before."""
    inside = datetime(1, 1, 2, tzinfo=UTC) < instant < datetime(9999, 12, 30, tzinfo=UTC)
    return instant.astimezone(zone) if inside else instant


def _parsed(text: str) -> Any:
    """JSON as Python has it; texts and null as JSON text, since a text is taken for that."""
    value = json.loads(text)
    return text if value is None or isinstance(value, str) else value


@st.composite
def frames(draw: st.DrawFn, max_size: int = 8) -> tuple[Content, pd.DataFrame]:
    """The same rows as Python has them, and as a frame."""
    return draw(st.sampled_from(FORMS))(draw(rows(max_size)), draw(st.sampled_from(_ZONES)))
