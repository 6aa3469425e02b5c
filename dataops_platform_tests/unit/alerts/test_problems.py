"""From what the ledger says to what a channel is told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from dataops_platform.alerts.events import GONE, TAKEN_AWAY, Kind, Status
from dataops_platform.alerts.facts import Facts, Judged, Loaded, Refused
from dataops_platform.alerts.problems import news
from dataops_platform.alerts.subjects import WITHHELD, Subjects
from dataops_platform.contracts.model import MASK, BadRows, Landing, LoadMode, RuleKind, Scope, Severity
from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.contracts.types import Kind as Type
from dataops_platform.warehouse.ledger import CheckEnd, RunEnd, RunStatus
from dataops_platform.warehouse.loading import too_many_bad_rows
from dataops_platform_tests.support import daily, moment, rule, table

RULES = (
    rule("amounts", RuleKind.RANGE, "amount"),
    rule("fresh", RuleKind.FRESHNESS, "day"),
    rule("usual", RuleKind.ANOMALY, function="row_count"),
    rule("come", RuleKind.ARRIVAL, hours=1),
    rule("late", RuleKind.LATENCY),
    rule("highest", RuleKind.AGGREGATE, "amount", function="max"),
    rule("own", RuleKind.QUERY, query="SELECT max(secret) FROM {object}"),
)
ORDERS = replace(
    table("orders", {"day": Type.DATE, "amount": Type.INTEGER, "secret": Type.INTEGER}, rules=RULES), owner="shop"
)
HIDING = replace(
    ORDERS, columns=tuple(replace(c, classification="confidential" * (c.name == "secret")) for c in ORDERS.columns)
)
HIDING = replace(HIDING, columns=tuple(replace(c, classification=c.classification or None) for c in HIDING.columns))
ABOUT = Subjects({"orders": ORDERS}, {"sales": ("orders",), "lonely": ()})
DAYS = [f"2024-01-0{day}" for day in range(1, 7)]
JUDGED = Judged(
    "staging.orders", "2024-01-01", "amounts", "hash", Severity.ERROR, False, 3.0, "mustBe 0", "v1", None, "run1",
    moment(1),
)  # fmt: skip


def tell(facts, known=(), about=ABOUT):
    """What is told, to who was told before as the ledger remembers it."""
    return news(facts, {alert.key: replace(alert, owner=None) for alert in known}, about).told


def judged(known=(), about=ABOUT, **changes):
    """What is told of one verdict."""
    found = tell(Facts([replace(JUDGED, **changes)]), known, about)
    assert len(found) <= 1
    return found[0] if found else None


def test_a_failed_rule_is_told_with_everything():
    found = judged()
    assert (found.status, found.kind, found.severity) == (Status.OPEN, Kind.CHECK_FAILED, Severity.ERROR)
    assert (found.table, found.partition, found.rule) == ("staging.orders", "2024-01-01", "amounts")
    assert (found.observed, found.expected, found.owner, found.run_id) == ("3", "mustBe 0", "shop", "run1")


def test_a_rule_that_passes_is_told_only_to_who_knows_that_it_failed():
    assert judged(passed=True) is None
    failed = judged()
    found = judged([failed], passed=True, observed=0.0, run_id="run2")
    assert (found.status, found.key, found.observed, found.run_id) == (Status.RECOVERED, failed.key, "0", "run2")


@pytest.mark.parametrize("changes", [{"observed": 4.0}, {"rule_hash": "other"}, {"severity": Severity.WARNING}])
def test_a_problem_is_told_again_when_it_changes(changes):
    failed = judged()
    assert judged([failed], run_id="run2", data_version="v2", evaluated_at=moment(9)) is None
    assert judged([failed], **changes).status is Status.OPEN


@pytest.mark.parametrize(("rule_id", "again"), [("usual", False), ("amounts", True)])
def test_what_moves_with_other_partitions_is_another_problem_only_with_other_data(rule_id, again):
    failed = judged(rule_id=rule_id)
    assert (judged([failed], rule_id=rule_id, observed=5.0) is not None) is again
    assert (judged([failed], rule_id=rule_id, data_version="v2") is not None) is not again


def test_what_is_not_fresh_is_another_problem_only_with_a_newer_value():
    failed = judged(rule_id="fresh", observed=30.0, evaluated_at=moment(0))
    assert (failed.observed, failed.expected) == ("30.0 hours", "mustBe 0 hours")
    assert judged(rule_id="fresh", observed=0.0003).observed == "0.0003 hours"  # not 0, which it must be
    later = {"rule_id": "fresh", "evaluated_at": moment(0) + timedelta(hours=5), "data_version": "v2"}
    assert judged([failed], **later, observed=35.0001) is None  # loaded anew, and the newest value is as it was
    assert judged([failed], **later, observed=33.0).status is Status.OPEN
    assert judged([failed], **later, observed=None).status is Status.OPEN
    for never in (-1e8, 1e8, float("-inf"), float("nan")):  # in hours: 9999-12-31 and the like
        assert judged([failed], **later, observed=never, passed=True).status is Status.RECOVERED


def test_another_partition_that_is_missing_is_another_problem():
    one, other = '{"missing": ["2024-01-02", "2024-01-03"]}', '{"missing": ["2024-01-02", "2024-01-04"]}'
    failed = judged(rule_id="come", observed=2.0, details=one, partition_key="all")
    assert failed.kind is Kind.DEADLINE_MISSED
    assert (failed.partition, failed.observed) == ("2024-01-03", "2 (2024-01-02, 2024-01-03)")
    assert failed.expected == "every partition within 1 hours of its end"
    many = json.dumps({"missing": DAYS})
    assert judged(rule_id="come", observed=6.0, details=many).observed == "6 (…, 2024-01-04, 2024-01-05, 2024-01-06)"
    assert judged(rule_id="come", observed=9.0, details=one).observed == "9 (…, 2024-01-02, 2024-01-03)"
    well = judged([failed], rule_id="come", observed=0.0, passed=True, partition_key="all")
    assert (well.status, well.key, well.observed) == (Status.RECOVERED, failed.key, "0")
    assert well.partition == failed.partition  # as it was told
    assert judged([failed], rule_id="come", observed=2.0, details=one, partition_key="all") is None
    assert judged([failed], rule_id="come", observed=2.0, details=other, partition_key="all") is not None


def test_fewer_partitions_that_are_missing_are_no_news():
    """But remembered: one that came, and is missing again, is."""

    def missing(count, keys, known=None, **changes):
        details = json.dumps({"missing": keys}) if keys else None
        changes = {"rule_id": "come", "partition_key": "all", "observed": count, "details": details} | changes
        found = news(Facts([replace(JUDGED, **changes)]), {known.key: known} if known else {}, ABOUT)
        return found.told, found.kept

    ((failed,), _) = missing(3.0, DAYS[:3])
    told, (kept,) = missing(2.0, DAYS[:2], failed)
    assert (told, kept.partition) == ([], failed.partition)
    assert missing(2.0, DAYS[:2], kept) == ([], [])
    ((well,), _) = missing(0.0, [], kept, passed=True)
    assert (well.status, well.partition) == (Status.RECOVERED, DAYS[2])
    for count, keys in ((3.0, DAYS[:3]), (2.0, [DAYS[0], DAYS[4]])):
        ((again,), _) = missing(count, keys, kept)
        assert (again.status, again.partition) == (Status.OPEN, keys[-1])
    assert len(missing(2.0, DAYS[:2], failed, severity=Severity.WARNING)[0]) == 1
    # Of many the newest are listed; those before come into view.
    ((many,), _) = missing(6.0, DAYS[3:])
    assert missing(5.0, DAYS[2:5], many)[0] == []
    assert len(missing(7.0, DAYS[3:], many)[0]) == 1
    # Told by a version that didn't remember which.
    assert len(missing(2.0, DAYS[:2], replace(failed, details=None))[0]) == 1


@pytest.mark.parametrize(
    ("rule_id", "kind"), [("fresh", Kind.DEADLINE_MISSED), ("late", Kind.DEADLINE_MISSED), ("own", Kind.CHECK_FAILED)]
)
def test_deadlines(rule_id, kind):
    assert judged(rule_id=rule_id).kind is kind


def test_a_rule_that_the_contract_has_no_more_is_not_told():
    assert judged(rule_id="forgotten") is None


def test_what_is_not_asked_for_any_more_is_no_problem_any_more():
    """Nothing would ever say that it is well."""
    without = Subjects({"orders": replace(ORDERS, rules=RULES[1:])}, {})
    sales = judged(object_name="sales", rule_id="sales__unique", threshold="no failing rows")
    (refusal,) = tell(Facts(refusals=[REFUSED]))
    for known, about in (
        (judged(), without),
        (sales, without),
        (judged(), Subjects({}, {})),
        (refusal, Subjects({}, {})),
    ):
        (found,) = tell(Facts(), [known], about)
        assert (found.key, found.status, found.observed) == (known.key, Status.RECOVERED, GONE)
        assert found.owner == ("shop" if about.owner(known.table) else None)
    asking = replace(ABOUT, tests=["sales__unique"])
    assert tell(Facts(), [judged(), sales, refusal], asking) == []
    # Only the old one, where a rule was renamed.
    (new, old) = tell(Facts([replace(JUDGED, rule_id="fresh")]), [judged()], without)
    assert [(a.rule, a.status) for a in (new, old)] == [("fresh", Status.OPEN), ("amounts", Status.RECOVERED)]
    assert [a.owner for a in (new, old)] == ["shop", "shop"]


def test_what_was_wrong_before_a_table_had_partitions_is_no_problem_any_more():
    failed = judged(partition_key="all")
    (refusal,) = tell(Facts(refusals=[replace(REFUSED, partition_key="all")]))
    days = replace(ABOUT, tables={"orders": replace(ORDERS, partitioning=daily())})
    for known in (failed, refusal):
        assert tell(Facts(), [known]) == []
        (found,) = tell(Facts(refusals=[replace(REFUSED, partition_key="all")]), [known], days)
        assert (found.key, found.status, found.observed) == (known.key, Status.RECOVERED, GONE)
    # A rule of the table as a whole goes on.
    whole = replace(ORDERS, partitioning=daily(), rules=(replace(RULES[0], scope=Scope.TABLE),))
    assert tell(Facts(), [failed], replace(ABOUT, tables={"orders": whole})) == []


def test_a_models_test_has_the_owners_of_its_sources():
    found = judged(object_name="sales", rule_id="sales__unique", threshold="no failing rows")
    assert (found.kind, found.owner, found.observed) == (Kind.CHECK_FAILED, "shop", "3")
    assert judged(object_name="lonely", rule_id="x").owner is None


def test_values_of_columns_that_are_not_public_are_masked():
    """A count of rows tells no value; a maximum is one, and a query may be."""
    about = Subjects({"orders": HIDING}, {})
    assert judged(about=about).observed == "3"
    assert judged(about=about, rule_id="highest").observed == "3"  # of a public column
    assert judged(about=about, rule_id="own").observed == MASK
    assert judged(rule_id="own").observed == "3"
    hidden = replace(HIDING, rules=(rule("highest", RuleKind.AGGREGATE, "secret", function="max"),))
    assert judged(about=Subjects({"orders": hidden}, {}), rule_id="highest").observed == MASK


# -- deliveries -------------------------------------------------------------------------------------------------------

MANIFEST = "_deliveries/raw_orders/2024-01-01/2024-02-01T00:01:00.000Z.json"
LATER = MANIFEST.replace("00:01", "00:02")
REFUSED = Refused("orders", "2024-01-01", "orders.parquet can't be read: 'abc'", "run1", MANIFEST, refused_at=moment(1))


def loaded(manifest=MANIFEST, run_id="run2", at=2):
    return {("orders", "2024-01-01"): Loaded(manifest, run_id, moment(at))}


def test_a_refused_delivery():
    (found,) = tell(Facts(refusals=[REFUSED]))
    assert (found.kind, found.table, found.partition, found.rule) == (
        Kind.DELIVERY_REFUSED, "staging.orders", "2024-01-01", None,
    )  # fmt: skip
    assert (found.observed, found.owner) == (REFUSED.reason, "shop")
    assert tell(Facts(refusals=[REFUSED]), [found]) == []
    (again,) = tell(Facts(refusals=[replace(REFUSED, reason="another")]), [found])
    assert (again.status, again.observed) == (Status.OPEN, "another")


def test_the_reason_of_a_refusal_is_withheld_where_columns_are_not_public():
    (found,) = tell(Facts(refusals=[REFUSED]), about=Subjects({"orders": HIDING}, {}))
    assert found.observed == WITHHELD


@pytest.mark.parametrize(
    ("limits", "expected"), [(BadRows(max_rows=2), "maxRows 2"), (BadRows(max_percent=12.5), "maxPercent 12.5")]
)
def test_a_tripped_breaker_says_what_was_found_and_what_is_allowed(limits, expected):
    reason = too_many_bad_rows(3, 5, limits)
    (found,) = tell(Facts(refusals=[replace(REFUSED, reason=reason)]), about=Subjects({"orders": HIDING}, {}))
    assert found.kind is Kind.BREAKER_TRIPPED
    assert (found.observed, found.expected) == ("3 of 5 rows break blocking rules", expected)


@pytest.mark.parametrize(
    ("what", "well"),
    [
        (loaded(), True),
        (loaded(LATER), True),
        (loaded(LATER, run_id="run1"), False),  # came together with the refused one: doesn't stand for it
        (loaded(LATER, at=0), False),
        (loaded(MANIFEST.replace("00:01", "00:00")), False),
    ],
)
def test_a_refused_delivery_is_well_again_when_it_or_a_later_one_is_loaded(what, well):
    (known,) = tell(Facts(refusals=[REFUSED]))
    found = tell(Facts(loaded=what), [known])
    assert [(a.status, a.key, a.run_id, a.owner) for a in found] == (
        [(Status.RECOVERED, known.key, "run2", "shop")] if well else []
    )
    # Who never heard of it isn't told that it is well.
    assert tell(Facts(refusals=[REFUSED], loaded=what)) == ([] if well else [known])


def test_a_refused_delivery_that_is_loaded_after_a_newer_one():
    (known,) = tell(Facts(refusals=[REFUSED]))
    newer = loaded(LATER, run_id="run1")
    assert tell(Facts(loaded=newer), [known]) == []
    (well,) = tell(Facts(loaded=newer, after_all={MANIFEST: Loaded(MANIFEST, "run2", moment(5))}), [known])
    assert (well.status, well.run_id, well.happened_at) == (Status.RECOVERED, "run2", moment(5))


NO_CSV = replace(REFUSED, manifest=None, file="gs://acme/orders/a.csv#7")


@pytest.mark.parametrize(
    ("what", "well"), [(loaded(), True), (loaded(run_id="run1"), False), (loaded(at=0), False), ({}, False)]
)
def test_a_file_that_can_not_become_a_delivery(what, well):
    """It is well again when a later run loaded something of its partition."""
    (known,) = tell(Facts(refusals=[NO_CSV]))
    assert (known.kind, known.table, known.partition) == (Kind.DELIVERY_REFUSED, "staging.orders", "2024-01-01")
    assert tell(Facts(refusals=[replace(NO_CSV, file="gs://acme/orders/a.csv#8")]), [known]) == []  # as bad as before
    assert [a.status for a in tell(Facts(loaded=what), [known])] == ([Status.RECOVERED] if well else [])


def test_one_file_that_several_tables_read_or_that_was_delivered_for_several_partitions():
    about = Subjects({"orders": ORDERS, "customers": replace(ORDERS, name="customers")}, {})
    each = [NO_CSV, replace(NO_CSV, table_name="customers"), replace(NO_CSV, partition_key="2024-01-02")]
    found = tell(Facts(refusals=each), about=about)
    assert len({alert.key for alert in found}) == 3
    (orders,) = [a for a in found if (a.table, a.partition) == ("staging.orders", "2024-01-01")]
    # An older version told of it under a key without them. It goes on under that one, and is well under it.
    old = replace(orders, key="file/gs://acme/orders/a.csv")
    again = tell(Facts(refusals=each), [old], about)
    assert {alert.key for alert in again} == {alert.key for alert in found} - {orders.key}
    (well,) = tell(Facts(refusals=[NO_CSV], loaded=loaded()), [old], about)
    assert (well.key, well.status) == (old.key, Status.RECOVERED)


def looked(number=2, partition="2024-01-01", done=True, refused=(), steps=("raw__orders", "staging__orders")):
    parts = ("deliveries/orders",) if done else ()
    failed = {"deliveries/orders": refused} if refused else {}
    return RunEnd(
        f"run{number}", "pipeline", partition, RunStatus.SUCCESS, steps, {}, moment(number), (), parts, failed
    )


@pytest.mark.parametrize(
    ("runs", "well"),
    [
        ([looked()], True),
        ([looked(partition="2023-12-30..2024-01-02")], True),
        ([looked(partition="2023-12-30..2024-01-02", done=False, refused=["2024-01-02"])], True),
        ([looked(done=False, refused=["2024-01-01"])], False),
        ([looked(), looked(3, done=False, refused=["2024-01-01"])], False),
        ([looked(partition="2024-01-02")], False),
        ([looked(steps=("staging__orders",))], False),  # nobody looked what there is
        ([looked(done=False)], False),  # it died before it said what is refused
        ([looked(0)], False),
        ([looked(1)], False),  # the run that found it
    ],
)
def test_a_refused_file_that_was_taken_away(runs, well):
    days = Subjects({"orders": replace(ORDERS, partitioning=daily())}, {})
    (known,) = tell(Facts(refusals=[NO_CSV]), about=days)
    found = tell(Facts(runs=runs), [known], days)
    run_id = runs[-1].run_id
    assert [(a.status, a.observed, a.run_id) for a in found] == (
        [(Status.RECOVERED, TAKEN_AWAY, run_id)] if well else []
    )
    # Looked at anew, it isn't told again; by hand, and in the lake, it isn't where runs look.
    assert tell(Facts(refusals=[NO_CSV], runs=runs), about=days) == ([] if well else [known])
    for kept in (replace(NO_CSV, run_id="by-hand-1"), REFUSED):
        (known,) = tell(Facts(refusals=[kept]), about=days)
        assert tell(Facts(runs=runs), [known], days) == []
    # Written anew, and no better.
    later = replace(NO_CSV, file="gs://acme/orders/a.csv#8", run_id="run9", refused_at=moment(9))
    for refusals in ([NO_CSV, later], [later, NO_CSV]):
        assert [a.run_id for a in tell(Facts(refusals=refusals, runs=runs), about=days)] == ["run9"]


LANDING = (Landing("landing", compile_pattern("orders/{partition}/*.csv", daily())),)


@pytest.mark.parametrize("mode", [LoadMode.APPEND, LoadMode.REPLACE])
def test_what_else_lands_stands_for_a_refused_file_only_where_it_replaces_it(mode):
    """Rows that are added to others are missing until the file is written anew, or taken away."""
    days = Subjects({"orders": replace(ORDERS, partitioning=daily(), landings=LANDING, load_mode=mode)}, {})
    (known,) = tell(Facts(refusals=[NO_CSV]), about=days)
    still = looked(done=False, refused=["2024-01-01"])

    def said(known, **facts):
        return [(a.status, a.observed, a.run_id) for a in tell(Facts(**facts), [known], days)]

    well = [(Status.RECOVERED, "loaded", "run2")]
    assert said(known, loaded=loaded(), runs=[still]) == (well if mode is LoadMode.REPLACE else [])
    assert said(known, loaded=loaded(), runs=[looked()]) == well  # nothing is refused any more: it was written anew
    taken = [(Status.RECOVERED, TAKEN_AWAY, "run3")]
    assert said(known, loaded=loaded(), runs=[still, looked(3)]) == (well if mode is LoadMode.REPLACE else taken)
    # No run looks for what was delivered by hand.
    (by_hand,) = tell(Facts(refusals=[replace(NO_CSV, run_id="by-hand-1")]), about=days)
    assert said(by_hand, loaded=loaded(), runs=[still]) == well


def test_a_check_of_ones_own_has_the_tables_owner_when_it_passes_too():
    def ended(number, passed):
        check = CheckEnd("staging/orders", "plausible", "all", passed, Severity.WARNING)
        return RunEnd(f"run{number}", "pipeline", "all", RunStatus.SUCCESS, (), {}, moment(number), [check])

    (failed,) = tell(Facts(runs=[ended(1, False)]))
    (well,) = tell(Facts(runs=[ended(2, True)]), [failed])
    assert [(a.status, a.owner) for a in (failed, well)] == [(Status.OPEN, "shop"), (Status.RECOVERED, "shop")]


def test_problems_come_first_and_blocking_ones_before_warnings():
    passed = replace(JUDGED, rule_id="late", passed=True)
    warning = replace(JUDGED, rule_id="amounts", severity=Severity.WARNING)
    blocking = replace(JUDGED, rule_id="fresh")
    known = judged(rule_id="late")
    found = tell(Facts([passed, warning, blocking]), [known])
    assert [alert.rule for alert in found] == ["fresh", "amounts", "late"]
