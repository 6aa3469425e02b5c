"""Shapes compared, definitions kept, and which columns of a delivery are loaded: without an engine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.contracts.model import BadRows, LoadMode, RuleKind, SchemaPolicy, Severity
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.contracts.versions import Step
from dataops_platform.warehouse.changes import compare
from dataops_platform.warehouse.definitions import UNKNOWN, Definition, History
from dataops_platform.warehouse.delivered import UNCHANGED, Since, extended, judge
from dataops_platform.warehouse.names import staging
from dataops_platform.warehouse.shapes import Remedy, Shape, differences
from dataops_platform_tests.support import daily, rule, table

T = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER, "note": Kind.STRING},
    partitioning=daily(),
    key=("id",),
    rules=[rule("id_range", RuleKind.RANGE, "id", minimum=0)],
)
SHAPE = Shape({"day": "DATE", "id": "BIGINT", "note": "VARCHAR"})


def changes(now, before=T, shape=SHAPE, wanted=SHAPE):
    history = UNKNOWN if before is None else History(Definition.of(before))
    return compare(now, history, (wanted, wanted), (shape, shape))


def test_nothing():
    assert changes(T).items == []
    assert changes(T, before=None).items == []  # of before definitions were kept
    assert changes(replace(T, contract_version="1.2.3")).version_wanted() is None


def test_a_definition_is_kept_as_it_is():
    assert Definition.from_json(Definition.of(T).to_json()) == Definition.of(T)


@pytest.mark.parametrize("kind", [Kind.DATE, Kind.DATETIME, Kind.TIMESTAMP])
def test_a_zone_cuts_instants_only(kind):
    before = replace(T, columns=(replace(T.columns[0], type=FieldType(kind)), *T.columns[1:]))
    now = replace(before, partitioning=daily(timezone="Europe/Paris"), contract_version="2.0.0")
    instants = kind is Kind.TIMESTAMP
    assert [item.breaking for item in changes(now, before).items] == [True] * instants
    stored = json.loads(Definition.of(before).to_json())
    assert (stored["partitioning"] == "day of day, UTC") is instants
    # Once the ledger had it always.
    older = json.dumps(stored | {"partitioning": "day of day, UTC"})
    assert Definition.from_json(older) == Definition.of(before)


@pytest.mark.parametrize(
    ("now", "text", "step", "breaks", "remedy"),
    [
        (
            replace(T, rules=()),
            "rule orders.id_range (validity: range of id, minimum 0, error)", Step.MINOR, False, None,
        ),
        (
            replace(T, rules=(replace(T.rules[0], severity=Severity.WARNING),)),
            "rule orders.id_range (validity: range of id, minimum 0, warning),"
            " it was (validity: range of id, minimum 0, error)", Step.MINOR, False, None,
        ),
        (
            replace(T, primary_key=("day", "id")),
            "the key of staging.orders is (day, id), it was (id)", Step.MAJOR, True, None,
        ),
        (
            replace(T, load_mode=LoadMode.MERGE),
            "staging.orders is loaded by merge, it was by append", Step.MINOR, False, None,
        ),
        (
            replace(T, partitioning=None),
            "staging.orders is cut by nothing, it was by day of day", Step.MAJOR, True, Remedy.REBUILD,
        ),
        (
            replace(T, schema_policy=SchemaPolicy.IGNORE),
            "schemaPolicy of orders is ignore, it was strict", Step.PATCH, False, None,
        ),
        (
            replace(T, clustering=("id",)),
            "staging.orders is clustered by id, it was by nothing", Step.PATCH, False, None,
        ),
        (
            replace(T, bad_rows=BadRows(max_percent=5, max_rows=3)),
            "onBadRow of orders is quarantine, maxPercent 5, maxRows 3, it was quarantine, maxPercent 100",
            Step.PATCH, False, None,
        ),
        (
            replace(T, expiration_days=90),
            "partitionExpirationDays of orders is 90, it was never", Step.MAJOR, True, None,
        ),
        (
            replace(T, partition_filter=True),
            "requirePartitionFilter of orders is true, it was false", Step.MAJOR, True, None,
        ),
        (
            replace(T, columns=(*T.columns[:2], replace(T.columns[2], required=True))),
            "column staging.orders.note is required now", Step.MINOR, False, None,
        ),
    ],
)  # fmt: skip
def test_what_a_contract_says_otherwise(now, text, step, breaks, remedy):
    found = changes(now)
    (item,) = found.items
    assert (item.text, item.step, item.breaking, item.remedy) == (text, step, breaks, remedy)
    assert (found.refusal() is not None) is breaks
    assert str(found.version_wanted()) == {Step.MAJOR: "2.0.0", Step.MINOR: "1.1.0", Step.PATCH: "1.0.1"}[step]


@pytest.mark.parametrize(("days", "breaks"), [(59, True), (61, False), (None, False)])
def test_partitions_that_expire(days, breaks):
    """A shorter time takes some that are there."""
    (item,) = changes(replace(T, expiration_days=days), replace(T, expiration_days=60)).items
    assert item.breaking is breaks


def test_a_partition_filter_that_goes():
    (item,) = changes(T, replace(T, partition_filter=True)).items
    assert (item.breaking, item.step) == (False, Step.PATCH)


def test_options_that_older_ledgers_do_not_have():
    stored = json.loads(Definition.of(T).to_json())
    del stored["options"]
    older = Definition.from_json(json.dumps(stored))
    found = compare(replace(T, expiration_days=9), History(older), (SHAPE, SHAPE), (SHAPE, SHAPE))
    assert (found.items, found.recorded) == ([], False)


RULED = replace(T, rules=(*T.rules, rule("few", RuleKind.ROW_COUNT)))
KEYED = replace(T, primary_key=("day", "id"))


@pytest.mark.parametrize(
    ("now", "before", "version", "wanted", "refused"),
    [
        (RULED, "1.0.0", "1.0.0", "1.1.0", False),
        (RULED, "1.0.0", "1.0.1", "1.1.0", False),
        (RULED, "1.0.0", "1.1.0", "", False),
        (KEYED, "1.0.0", "1.1.0", "2.0.0", True),
        (KEYED, "1.0.0", "2.0.0", "", False),
        (T, "1.0.0", "0.9.0", "1.0.0", True),
        (RULED, "1.2.3", "1.2.2", "1.3.0", True),
        # Before 1.0.0 anything may change; but no version goes back.
        (KEYED, "0.1.0", "0.1.0", "", False),
        (KEYED, "0.1.0", "0.0.9", "0.1.0", True),
    ],
)
def test_versions(now, before, version, wanted, refused):
    now = replace(now, contract_version=version, version_line=5)
    found = changes(now, replace(T, contract_version=before))
    problem = f":5: version {version} has to be at least {wanted}: that of orders in the warehouse is {before}."
    assert found.version_problem.endswith(f"{problem} Write `version: {wanted}`" if wanted else "")
    assert bool(found.version_problem) is bool(wanted)
    assert found.version_refused is refused


def test_what_hands_broke_is_refused_for_no_version():
    found = changes(RULED, shape=Shape({"day": "DATE", "id": "BIGINT"}))
    assert len(found.breaking) == 1
    assert (str(found.version_wanted()), found.version_refused) == ("1.1.0", False)  # that is the rule's


def test_an_older_version_is_not_what_applies_from_now_on():
    """A process that has it yet runs, and the ledger keeps the later one."""
    before = replace(T, contract_version="1.1.0")
    assert changes(T, before).recorded
    assert not changes(replace(T, contract_version="1.2.0"), before).recorded


def test_a_key_that_rows_are_merged_by():
    merged = replace(T, load_mode=LoadMode.MERGE)
    found = changes(replace(merged, primary_key=("day", "id")), before=merged)
    assert (found.rebuild, [item.breaking for item in found.items]) == (True, [True])


def test_only_rules_that_are_others_are_judged():
    other = replace(T, rules=(*T.rules, rule("id_set", RuleKind.IN_SET, "id", values=[1])))
    assert [r.id for r in changes(other).judged] == ["id_set"]
    assert [r.id for r in changes(replace(T, rules=(rule("id_range", RuleKind.RANGE, "id", minimum=1),))).judged] == [
        "id_range"
    ]


def test_columns_that_nobody_declared():
    """One that deliveries brought stays where they may; one that the contract had goes."""
    shape = Shape(SHAPE.columns | {"extra": "VARCHAR"})
    additive = replace(T, schema_policy=SchemaPolicy.ADDITIVE)
    assert changes(additive, additive, shape).found == [("extra", "VARCHAR")]
    assert [item.remedy for item in changes(T, T, shape).items] == [Remedy.DROP]
    had = extended(additive, {"extra": FieldType(Kind.STRING)})
    assert [item.remedy for item in changes(additive, had, shape).items] == [Remedy.DROP]


decimals = st.tuples(st.integers(0, 20), st.integers(0, 9)).filter(lambda d: sum(d) > 0)


@given(decimals, decimals)
def test_a_decimal_is_wider_where_it_holds_all_of_the_other(narrow, wide):
    def spelled(kind: tuple[int, int]) -> str:
        return f"DECIMAL({sum(kind)},{kind[1]})"

    found = differences(staging("t"), Shape({"a": spelled(wide)}), Shape({"a": spelled(narrow)}), ())
    remedies = [item.remedy for item in found]
    if wide == narrow:
        assert remedies == []
    else:
        assert remedies == [Remedy.WIDEN if wide[0] >= narrow[0] and wide[1] >= narrow[1] else Remedy.REBUILD]


@pytest.mark.parametrize("actual", ["VARCHAR", "DECIMAL(5,2)", "NUMERIC(5,2) REQUIRED"])
def test_other_types_are_never_wider(actual):
    (found,) = differences(staging("t"), Shape({"a": "BIGINT"}), Shape({"a": actual}), ())
    assert found.remedy is Remedy.REBUILD


names = st.sampled_from(["day", "id", "note", "Note", "extra", "_tool", "a b", "other"])


@given(
    st.sets(names),
    st.sampled_from(SchemaPolicy),
    st.builds(Since, st.just(True), st.none() | st.sets(st.sampled_from(["day", "id", "note", "extra"])))
    | st.just(UNCHANGED),
)
def test_each_column_is_loaded_left_added_or_refused(delivered, policy, earlier):
    contract = replace(
        T, schema_policy=policy, partitioning=None, columns=(replace(T.columns[0], required=True), *T.columns[1:])
    )
    lines, beyond = judge(contract, dict.fromkeys(sorted(delivered), "text"), lambda _: FieldType(Kind.STRING), earlier)
    more = delivered - {"day", "id", "note"}
    refused = {name for name in more if any(line.startswith(f"column {name!r}") for line in lines)}
    assert refused | set(beyond.added) | set(beyond.left) == more
    assert len(refused) + len(beyond.added) + len(beyond.left) == len(more)
    assert not beyond.added or policy is SchemaPolicy.ADDITIVE
    assert "Note" not in {*beyond.added, *beyond.left}  # a name that engines don't tell from the contract's
    if policy is SchemaPolicy.STRICT and earlier == Since(True, None):  # nobody knows what was allowed
        assert refused <= {"Note"}
    missing = {name for name in ("day", "id", "note") if f"column {name!r} is missing" in "; ".join(lines)}
    assert ("day" in missing) == ("day" not in delivered)  # whatever the policy
    assert ("id" in missing) == ("id" not in delivered)  # it is the key
    before = earlier.changed and "note" not in (earlier.declared or ())
    must = "Note" in delivered or (policy is SchemaPolicy.STRICT and not before)
    assert ("note" in missing) == ("note" not in delivered and must)
    assert "_tool" not in beyond.added


def test_new_columns_that_differ_by_case_alone():
    additive = replace(T, schema_policy=SchemaPolicy.ADDITIVE)
    names = dict.fromkeys(["day", "id", "note", "more", "More"], "text")
    lines, beyond = judge(additive, names, lambda _: FieldType(Kind.STRING))
    assert list(beyond.added) == ["more"]
    assert len(lines) == 1
    assert lines[0].startswith("column 'More' can't be added beside 'more'")
