"""Nothing bad is published: whatever is done, in whatever order, production holds only what passed."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Scope, Threshold
from dataops_platform.contracts.types import Kind
from dataops_platform.lake import local
from dataops_platform.transformation.build import build
from dataops_platform.transformation.publish import publish
from dataops_platform_tests.fake_dbt import FakeDbt, FakeModel
from dataops_platform_tests.support import BLOCK, DAY1, Home, daily, rule, table

DAYS = [DAY1, DAY1 + timedelta(days=1)]
POSITIVE = rule("positive", RuleKind.RANGE, "amount", minimum=0)
ORDERS = table(
    "orders", {"day": Kind.DATE, "id": Kind.INTEGER, "amount": Kind.INTEGER},
    mode=LoadMode.MERGE, key=["id"], partitioning=daily(), bad_rows=BLOCK,
    rules=[
        POSITIVE,
        rule("few", RuleKind.ROW_COUNT, threshold=Threshold(Operator.BETWEEN, (1, 3))),
        rule("few_in_all", RuleKind.ROW_COUNT, threshold=Threshold(Operator.LESS_EQUAL, (5,)), scope=Scope.TABLE),
    ],
)  # fmt: skip
RATES = table(
    "rates", {"factor": Kind.INTEGER}, mode=LoadMode.REPLACE, bad_rows=BLOCK,
    rules=[rule("factor_range", RuleKind.RANGE, "factor", minimum=1)],
)  # fmt: skip
FCT = FakeModel(
    "fct",
    "SELECT day, id, amount FROM staging.orders",
    ("orders",),
    tests={"small": "SELECT * FROM analytics.fct WHERE amount > 50"},
)
MART = FakeModel(
    "mart",
    "SELECT day, count(*) AS n, CAST(sum(amount) * (SELECT max(factor) FROM staging.rates) AS BIGINT) AS total"
    " FROM analytics.fct GROUP BY day",
    ("orders", "rates"), ("fct",), tests={"total": "SELECT * FROM analytics.mart WHERE total > 90"},
)  # fmt: skip


class Platform:
    """A home with two tables and two models; `act` does what a user may do."""

    def __init__(self, folder: Path, delivered: int = 0) -> None:
        self.home = Home(folder, delivered)
        self.tables = {"orders": ORDERS, "rates": RATES}
        self.dbt = FakeDbt(self.home.warehouse, [FCT, MART])
        self.runs = (f"run {number}" for number in itertools.count())
        self.home.warehouse.ensure([ORDERS, RATES])
        self.origin: dict = {}  # model and day → the rows of staging it was really built from
        self.built: dict = {}  # model and day → the rows as built
        self.judged: set = set()  # (rule fingerprint, staging rows) that an evaluation has seen
        self.tested: set = set()  # (test, model rows) that a build has tested
        self.production: dict = {}  # day → rows last published

    def rows(self, relation: str, day=None) -> tuple:
        where = f" WHERE day = '{day}'" if day else ""
        return tuple(sorted(self.home.rows(f"SELECT * EXCLUDE (_updated_at) FROM {relation}{where}")
                            if relation.startswith("staging") else self.home.rows(f"SELECT * FROM {relation}{where}"),
                            key=repr))  # fmt: skip

    # -- what users do ------------------------------------------------------------------------------------------------

    def deliver(self, day: int, amounts, first: int) -> None:
        rows = [{"day": DAYS[day], "id": first + n, "amount": amount} for n, amount in enumerate(amounts)]
        self.home.deliver(ORDERS, rows, partition=DAYS[day])

    def deliver_rates(self, factor: int) -> None:
        self.home.deliver(RATES, [{"factor": factor}])

    def load(self) -> None:
        for t in self.tables.values():
            self.home.load(t, run_id=next(self.runs))

    def reload(self, action) -> None:
        """Build staging anew from the lake, perhaps with another policy for bad rows."""
        self.tables["orders"] = replace(self.tables["orders"], bad_rows=action)
        self.home.warehouse.reset(self.tables["orders"])
        self.load()

    def judge(self, rules, day=None) -> None:
        for t in self.tables.values():
            chosen = [r for r in t.rules if not rules or r.id in rules]
            asked = [str(DAYS[day])] if day is not None and t.partitioning else None
            if not chosen:
                continue
            self.home.judge(t, *(r.id for r in chosen), run_id=next(self.runs), partitions=asked)
            for r in chosen:
                for one in DAYS if r.scope is Scope.PARTITION and t.partitioning else [None]:
                    if one is None or asked is None or str(one) in asked:
                        self.judged.add((r.fingerprint, self.rows(f"staging.{t.name}", one)))

    def build(self, select, days=None) -> None:
        span = [str(DAYS[d]) for d in days] if days else None
        outcome = build(
            self.dbt, self.dbt.read, self.home.warehouse, self.tables, next(self.runs), select, span
        )  # fmt: skip
        for name in ("fct", "mart"):
            if f"model.{name}" in outcome.results and outcome.results[f"model.{name}"].status == "success":
                for number, day in enumerate(DAYS):
                    if days is None or number in days:
                        rows = self.rows(f"analytics.{name}", day)
                        if name == "fct":
                            self.origin["fct", day] = (self.rows("staging.orders", day), self.rows("staging.orders"))
                        else:
                            self.origin["mart", day] = (
                                *self.origin.get(("fct", day), (None, None)),
                                self.rows("staging.rates"),
                                self.rows("analytics.fct", day) == self.built.get(("fct", day), ()),
                                self.rows("analytics.fct", day),
                            )
                        self.built[name, day] = rows

    def tamper(self, model: str) -> None:
        column = "amount" if model == "fct" else "total"
        if self.home.rows(
            f"SELECT 1 AS x FROM duckdb_tables() WHERE table_name = '{model}' AND schema_name = 'analytics'"
        ):
            with self.home.warehouse.connect() as con:
                con.execute(f"UPDATE analytics.{model} SET {column} = {column} + 1 WHERE day = '{DAYS[0]}'")

    def change_rule(self, minimum: int) -> None:
        changed = replace(POSITIVE, args={"minimum": minimum})
        orders = self.tables["orders"]
        self.tables["orders"] = replace(orders, rules=(changed, *orders.rules[1:]))

    def publish(self, days=None) -> None:
        mart = self.dbt.read["mart"]
        if not self.home.rows(
            "SELECT 1 AS x FROM duckdb_tables() WHERE table_name = 'mart' AND schema_name = 'analytics'"
        ):
            return
        span = [str(DAYS[d]) for d in days] if days else None
        outcome = publish(
            mart, self.dbt.read, self.tables, self.home.warehouse, self.home.lake.store, self.home.production, span,
            next(self.runs),
        )  # fmt: skip
        for key in (*outcome.published, *outcome.unchanged):
            self.must_be_good(next(day for day in DAYS if str(day) == key))
        for key in outcome.published:
            self.production[key] = self.rows("analytics.mart", key)
        self.check_production()

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check_production(self) -> None:
        exists = self.home.rows("SELECT 1 AS x FROM duckdb_tables() WHERE schema_name = 'production'")
        found = {str(day): self.rows("production.mart", day) for day in DAYS} if exists else {}
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in self.production.items() if v}

    def must_be_good(self, day) -> None:
        """The rows of the day, where they came from, and that each of it was judged by the rules of today."""
        rows = self.rows("analytics.mart", day)
        assert rows == self.built["mart", day], "published rows that no build made"
        of_day, of_all, rates, untouched, fct = self.origin["mart", day]
        assert untouched, "published what was built from rows that no build made"
        assert of_day is not None
        positive = self.tables["orders"].rules[0]
        low = positive.args["minimum"]
        assert all(row[2] >= low for row in of_day), "published rows that break a rule"
        assert 1 <= len(of_day) <= 3, "published a day that breaks a rule"
        assert len(of_all) <= 5, "published from a table that breaks a rule"
        assert all(row[0] >= 1 for row in rates)
        assert all(row[2] <= 50 for row in fct), "published over a failed test of an ancestor"
        assert all(row[2] <= 90 for row in rows), "published over a failed test"
        for r in self.tables["orders"].rules:
            assert (r.fingerprint, of_all if r.scope is Scope.TABLE else of_day) in self.judged, f"{r.id} never judged"
        assert (RATES.rules[0].fingerprint, rates) in self.judged

    def everything(self) -> None:
        self.load()
        self.judge(())
        self.build(["fct", "mart"])
        self.publish()


DAY = st.sampled_from([[0], [1], None])
AMOUNTS = st.lists(st.sampled_from([1, 2, 3, 40, -1, 60]), max_size=3)
ACTION = st.one_of(
    st.tuples(st.just("deliver"), st.integers(0, 1), AMOUNTS, st.sampled_from([0, 1, 10])),
    st.tuples(st.just("deliver_rates"), st.sampled_from([1, 1, 2, 0])),
    st.tuples(st.just("load")),
    st.tuples(st.just("reload"), st.sampled_from([BLOCK, replace(BLOCK, action="quarantine")])),
    st.tuples(st.just("judge"), st.sampled_from([(), (), (), ("positive",), ("few", "few_in_all"), ("factor_range",)]),
              st.sampled_from([None, None, 0, 1])),
    st.tuples(st.just("build"), st.sampled_from([["fct"], ["mart"], ["fct", "mart"]]), DAY),
    st.tuples(st.just("build"), st.just(["fct", "mart"]), DAY),
    st.tuples(st.just("tamper"), st.sampled_from(["fct", "mart"])),
    st.tuples(st.just("change_rule"), st.sampled_from([0, -5, 2])),
    st.tuples(st.just("publish"), DAY),
    st.tuples(st.just("publish"), DAY),
    st.tuples(st.just("everything")),
)  # fmt: skip


def run(actions) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_sync", lambda path: None)
        platform = Platform(Path(folder))
        with platform.home.kept_open():
            platform.deliver(0, [1, 2], 0)
            platform.deliver(1, [3], 20)
            platform.deliver_rates(1)
            for name, *arguments in actions:
                getattr(platform, name)(*arguments)
            platform.publish()


QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@settings(QUIET, max_examples=15)
@given(actions=st.lists(ACTION, min_size=4, max_size=14))
def test_production_holds_only_what_passed(actions):
    run(actions)


@pytest.mark.long
@pytest.mark.timeout(6000)
@settings(QUIET, max_examples=1500)
@given(actions=st.lists(ACTION, min_size=4, max_size=25))
def test_production_holds_only_what_passed_long(actions):
    run(actions)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Path:
    """Two good days, loaded. Each test has a copy."""
    folder = tmp_path_factory.mktemp("loaded")
    made = Platform(folder)
    with made.home.kept_open():
        made.deliver(0, [1, 2], 0)
        made.deliver(1, [3], 20)
        made.deliver_rates(1)
        made.load()
    return folder


@pytest.fixture
def platform(loaded, tmp_path) -> Iterator[Platform]:
    shutil.copytree(loaded, tmp_path, dirs_exist_ok=True)
    made = Platform(tmp_path, delivered=3)
    with made.home.kept_open():
        yield made


def refusals(platform: Platform) -> dict[str, str]:
    mart = platform.dbt.read["mart"]
    outcome = publish(
        mart, platform.dbt.read, platform.tables, platform.home.warehouse, platform.home.lake.store,
        platform.home.production, None, "run",
    )  # fmt: skip
    return {refusal.partition_key: "; ".join(refusal.reasons) for refusal in outcome.refusals}


def published(platform: Platform) -> set:
    exists = platform.home.rows("SELECT 1 AS x FROM duckdb_tables() WHERE schema_name = 'production'")
    return {str(row[0]) for row in platform.home.rows("SELECT day FROM production.mart")} if exists else set()


BOTH = {str(day) for day in DAYS}


def test_all_that_passed_is_published(platform):
    platform.everything()
    assert published(platform) == BOTH


def test_without_verdicts(platform):
    platform.build(["fct", "mart"])
    found = refusals(platform)
    assert set(found) == BOTH
    assert all("rule positive of staging.orders has not been checked on this data" in text for text in found.values())
    assert published(platform) == set()


def test_a_table_that_was_never_loaded(tmp_path):
    platform = Platform(tmp_path)
    platform.deliver(0, [5], 1)
    platform.load()
    platform.judge(())
    platform.build(["fct", "mart"])
    said = "nothing was ever loaded into staging.rates, and its blocking rules ask for data"
    assert refusals(platform) == {str(DAYS[0]): said}


@pytest.mark.parametrize("left_out", ["positive", "few", "few_in_all", "factor_range"])
def test_without_one_verdict(platform, left_out):
    rules = {"positive", "few", "few_in_all", "factor_range"} - {left_out}
    platform.judge(rules)
    platform.build(["fct", "mart"])
    found = refusals(platform)
    assert set(found) == BOTH
    assert all(f"rule {left_out} of" in text and text.count("rule ") == 1 for text in found.values())


def test_verdicts_of_an_older_data_version(platform):
    platform.judge(())
    platform.deliver(0, [5], 5)
    platform.load()
    platform.build(["fct", "mart"])
    found = refusals(platform)
    assert "rule positive of staging.orders has not been checked on this data" in found[str(DAYS[0])]
    assert "rule positive" not in found[str(DAYS[1])]


def test_a_rule_that_changed_after_its_verdict(platform):
    platform.judge(())
    platform.build(["fct", "mart"])
    platform.change_rule(-5)
    found = refusals(platform)
    assert set(found) == BOTH
    assert all("rule positive of staging.orders changed after it was checked" in text for text in found.values())


def test_a_test_that_changed_after_its_verdict(platform):
    platform.judge(())
    platform.build(["fct", "mart"])
    platform.dbt.change_test("fct", "small", "SELECT * FROM analytics.fct WHERE amount > 51")
    assert all("test small of fct changed after it was checked" in text for text in refusals(platform).values())


def test_a_model_rebuilt_by_hand_after_its_tests(platform):
    platform.judge(())
    platform.build(["fct", "mart"])
    platform.tamper("mart")
    found = refusals(platform)
    assert list(found) == [str(DAYS[0])]
    assert "not those of its last recorded build" in found[str(DAYS[0])]
    assert published(platform) == {str(DAYS[1])}


def test_a_failing_day_among_good_ones(platform):
    platform.deliver(0, [-1], 7)
    platform.everything()
    found = refusals(platform)
    assert list(found) == [str(DAYS[0])]
    assert "rule positive of staging.orders failed: observed 1, mustBe 0" in found[str(DAYS[0])]
    assert published(platform) == {str(DAYS[1])}


def test_a_failed_test_of_an_ancestor(platform):
    platform.deliver(0, [60], 7)
    platform.load()
    platform.judge(())
    platform.build(["fct"])
    platform.build(["mart"])
    found = refusals(platform)
    assert list(found) == [str(DAYS[0])]
    assert "test small of fct failed: observed 1" in found[str(DAYS[0])]
    assert published(platform) == {str(DAYS[1])}


def test_a_mart_built_from_an_ancestor_of_older_rows(platform):
    """The bad day was corrected, but the mart still stands on the model built before."""
    platform.deliver(0, [-1], 7)
    platform.load()
    platform.judge(())
    platform.build(["fct"])
    platform.deliver(0, [1], 7)
    platform.load()
    platform.judge(())
    platform.build(["mart"])
    found = refusals(platform)
    assert "rule positive of staging.orders has not been checked on this data" in found[str(DAYS[0])]
    assert "rule few_in_all of" in found[str(DAYS[1])]  # a rule about the whole table stands for each of its days
    assert "rule positive" not in found[str(DAYS[1])]
    platform.everything()
    assert published(platform) == BOTH


def test_the_same_rows_loaded_anew_by_other_rules(platform):
    """After `dataops reload`, no verdict or build of before stands for the new rows."""
    platform.judge(())
    platform.build(["fct", "mart"])
    platform.reload(replace(BLOCK, action="quarantine"))
    platform.build(["fct", "mart"])
    assert set(refusals(platform)) == BOTH


def test_production_survives_a_refusal(platform):
    platform.everything()
    before = platform.rows("production.mart")
    platform.deliver(0, [-1], 7)
    platform.load()
    platform.judge(())
    platform.build(["fct", "mart"])
    assert list(refusals(platform)) == [str(DAYS[0])]
    assert platform.rows("production.mart") == before
