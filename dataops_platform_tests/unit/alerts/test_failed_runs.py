"""Failed runs: what is told of them, and when they are well again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.alerts.events import GONE, Kind, Status
from dataops_platform.alerts.facts import Facts
from dataops_platform.alerts.failed_runs import why_failed
from dataops_platform.alerts.problems import news
from dataops_platform.alerts.subjects import WITHHELD, Subjects
from dataops_platform.contracts.partitions import Granularity, Partitioning
from dataops_platform.contracts.types import Kind as Type
from dataops_platform.warehouse.ledger import RunEnd, RunStatus
from dataops_platform_tests.support import moment, table

DAILY = Partitioning("day", Granularity.DAY, date(2024, 1, 1), date(2024, 12, 31))
MONTHLY = replace(DAILY, granularity=Granularity.MONTH)
COLUMNS = {"day": Type.DATE, "secret": Type.INTEGER}
ORDERS = replace(table("orders", COLUMNS, partitioning=DAILY), owner="shop")
STOCK = replace(table("stock", COLUMNS, partitioning=MONTHLY), owner="store")
ABOUT = Subjects(
    {"orders": ORDERS, "stock": STOCK}, {"sales": ("orders",), "levels": ("stock", "orders")}, whole={"levels"}
)
HIDING = replace(ORDERS, columns=tuple(replace(c, classification="confidential") for c in ORDERS.columns))

CHECKS = "staging__orders__checks"
ORDERS_LOADED, STOCK_LOADED = "deliveries/orders", "deliveries/stock"


def end(
    number,
    partition="2024-01-01",
    failures=None,
    steps=(),
    job="pipeline",
    status=None,
    parts=(),
    failed=None,
    whole=(),
):
    status = status or (RunStatus.FAILURE if failures else RunStatus.SUCCESS)
    ended = moment(number)
    return RunEnd(f"run{number}", job, partition, status, steps, failures or {}, ended, (), parts, failed or {}, whole)


class Channel:
    """A channel that remembers what it was told, as the ledger does."""

    def __init__(self, about=ABOUT):
        self.about, self.open = about, {}

    def tell(self, *ends):
        """What it is told of some runs: key, whether it is well again, and by which run."""
        changed = news(Facts(runs=ends), self.open, self.about)
        for alert in (*changed.told, *changed.kept):
            self.open[alert.key] = replace(alert, owner=None)
            if alert.status is Status.RECOVERED:
                del self.open[alert.key]
        self.told = changed.told
        return [(alert.key, str(alert.status), alert.run_id) for alert in changed.told]

    @property
    def left(self):
        return {key: json.loads(alert.details)["left"] for key, alert in self.open.items()}


@pytest.fixture
def channel():
    return Channel()


FAILED = end(1, failures={CHECKS: "amounts failed\nat 0x7f00aa11bb22 after 12 s"}, steps=("raw",))
KEY = "run/pipeline/2024-01-01"


def test_a_failed_run(channel):
    assert channel.tell(FAILED) == [(KEY, "open", "run1")]
    (found,) = channel.told
    assert (found.kind, found.table, found.partition, found.owner) == (
        Kind.RUN_FAILED, "pipeline", "2024-01-01", "shop",
    )  # fmt: skip
    assert found.observed == "staging/orders/checks: amounts failed at 0x7f00aa11bb22 after 12 s"
    assert channel.tell(FAILED) == []


def test_numbers_in_a_text_make_no_other_problem(channel):
    channel.tell(end(1, failures={"a": "lost after 12 s in run 8f00aa11-bb22"}))
    assert channel.tell(end(2, failures={"a": "lost after 13 s in run 9f00aa11-cc33"})) == []
    assert channel.tell(end(3, failures={"a": "found"})) == [(KEY, "open", "run3")]
    assert channel.tell(end(4, failures={"b": "found"})) == [(KEY, "open", "run4")]


def test_what_steps_say_is_withheld_where_columns_are_not_public():
    channel = Channel(Subjects({"orders": HIDING, "plain": table("plain", {"id": Type.INTEGER})}, {}))
    channel.tell(end(1, failures=dict.fromkeys(("staging__orders", "raw__plain", "dbt_build"), "value 17")))
    assert channel.told[0].observed == f"staging/orders: {WITHHELD}; raw/plain: value 17; dbt_build: {WITHHELD}"


@pytest.mark.parametrize(
    ("ended", "shown"),
    [
        (end(1, failures={"dbt_build": "17"}, failed={"dbt_build/plain": ()}), "dbt_build: 17"),
        (end(1, failures={"dbt_build": "17"}, failed={"dbt_build/plain": ()}, parts=("dbt_build/sales",)), None),
        (end(1, failures={"dbt_build": "17"}, failed={"dbt_build/tested": ()}), None),
        (end(1, failures={"dbt_build": "17"}, failed={"dbt_build/unknown": ()}), None),
        (end(1, failures={"dbt_build": "17"}), None),
        (end(1, failures={"deliveries": "17"}, failed={"deliveries/plain": ()}), "deliveries: 17"),
        (end(1, failures={"deliveries": "17"}, failed={"deliveries/orders": ()}), None),
        (end(1, failures={"": "the process is gone\nits log: 17"}, failed={"raw__orders": ()}), "the process is gone"),
    ],
)
def test_what_steps_say_is_shown_where_what_they_were_about_is_public(ended, shown):
    tables = {"orders": HIDING, "plain": table("plain", {"id": Type.INTEGER})}
    read = {"sales": ["orders"], "plain": ["plain"], "tested": ["plain", "orders"]}
    said = why_failed(ended, Subjects(tables, {}, read=read))
    assert said == (shown or f"{next(iter(ended.failures))}: {WITHHELD}")


@pytest.mark.parametrize(
    ("later", "well"),
    [
        (end(2, steps=("raw", CHECKS)), True),
        (end(2, "2023-12-31..2024-01-02", steps=(CHECKS,)), True),
        (end(2, "2024-01-01", {"production": "no"}, (CHECKS,), job="other"), True),
        (end(2, steps=("raw",)), False),  # another selection
        (end(2, "2024-01-02", steps=(CHECKS,)), False),
        (end(0, steps=(CHECKS,)), False),  # ended before
    ],
)
def test_a_failed_run_is_well_again_when_its_steps_succeeded_for_its_partitions(channel, later, well):
    channel.tell(FAILED)
    found = [item for item in channel.tell(later) if item[0] == KEY and item[1] == "recovered"]
    assert found == ([(KEY, "recovered", "run2")] if well else [])
    assert [alert.owner for alert in channel.told if alert.key == KEY] == (["shop"] if well else [])


def refused(number, partition, *keys, name="orders", job="daily"):
    """A run whose deliveries were refused for some partitions."""
    text = f"{len(keys)} delivery(ies) refused; the others went on:\n{keys[0]}: bad"
    return end(number, partition, {"deliveries": text}, ("raw__" + name,), job, failed={f"deliveries/{name}": keys})


def loaded(number, partition, name="orders", job="daily"):
    return end(number, partition, None, ("raw__" + name, "deliveries"), job, parts=(f"deliveries/{name}",))


def test_another_tables_run_mends_nothing(channel):
    """The step is every table's; a month's name lies within the days'."""
    assert channel.tell(refused(1, "2024-01-01..2024-01-05", "2024-01-03")) != []
    assert channel.told[0].owner == "shop"
    assert channel.tell(loaded(2, "2024-01-01", "stock", "monthly")) == []
    # Both before anybody was told.
    assert len(Channel().tell(refused(1, "2024-02-01", "2024-02-01"), loaded(2, "2024-02-01", "stock", "monthly"))) == 1
    assert channel.tell(loaded(3, "2024-01-01..2024-01-05")) == [
        ("run/daily/2024-01-01..2024-01-05", "recovered", "run3")
    ]


def test_a_range_is_mended_by_narrower_runs(channel):
    key = "run/daily/2024-01-01..2024-01-05"
    channel.tell(refused(1, "2024-01-01..2024-01-05", "2024-01-02", "2024-01-03", "2024-01-05"))
    assert channel.left == {key: {ORDERS_LOADED: ["2024-01-02..2024-01-03", "2024-01-05"]}}
    assert channel.tell(loaded(2, "2024-01-02")) == []
    assert channel.left == {key: {ORDERS_LOADED: ["2024-01-03", "2024-01-05"]}}
    assert channel.open[key].partition == "2024-01-01..2024-01-05"
    # What fails still, under another range, is no other problem; what was well and fails again is one.
    assert channel.tell(refused(3, "2024-01-03..2024-01-05", "2024-01-03", "2024-01-05")) == []
    assert channel.tell(loaded(2, "2024-01-02"), refused(3, "2024-01-03..2024-01-05", "2024-01-03")) == []  # seen anew
    assert channel.tell(refused(4, "2024-01-01..2024-01-05", "2024-01-02", "2024-01-03", "2024-01-05")) == [
        (key, "open", "run4")
    ]
    assert channel.tell(loaded(5, "2024-01-01..2024-01-04"), loaded(6, "2024-01-05")) == [(key, "recovered", "run6")]


def test_another_partition_of_the_same_range_is_another_problem(channel):
    key = "run/daily/2024-01-01..2024-01-05"
    channel.tell(refused(1, "2024-01-01..2024-01-05", "2024-01-02"))
    assert channel.tell(refused(2, "2024-01-01..2024-01-05", "2024-01-04")) == [(key, "open", "run2")]
    assert channel.left == {key: {ORDERS_LOADED: ["2024-01-04"]}}


def test_a_run_that_fails_otherwise_keeps_what_it_did_not_come_to(channel):
    """Its other step was skipped: that one isn't well yet."""
    channel.tell(end(1, failures={CHECKS: "amounts failed", "production__sales": "no"}))
    assert channel.tell(end(2, failures={"staging__orders": "the disk is full"}, steps=("raw__orders",))) != []
    assert channel.tell(end(3, steps=("staging__orders", CHECKS))) == []
    assert channel.left == {KEY: {"production__sales": ["2024-01-01"]}}
    assert channel.tell(end(4, steps=("production__sales",))) == [(KEY, "recovered", "run4")]


def test_a_failed_step_has_done_its_other_partitions(channel):
    """As the gate does: what passes is published."""
    failing = {"production__sales": ("2024-01-04",)}
    channel.tell(end(1, "2024-01-01..2024-01-05", {"production__sales": "no"}))
    channel.tell(end(2, "2024-01-01..2024-01-05", {"production__sales": "no"}, failed=failing))
    assert channel.left == {"run/pipeline/2024-01-01..2024-01-05": {"production__sales": ["2024-01-04"]}}


def test_a_model_that_is_built_as_a_whole_is_well_after_any_run_of_it(channel):
    channel.tell(end(1, failures={"dbt_build": "no", "production__sales": "no"}, failed={"dbt_build/levels": ()}))
    assert channel.told[0].owner == "shop, store"
    channel.tell(end(2, "2024-01-02", steps=("dbt_build", "production__sales"), parts=("dbt_build/levels",)))
    assert channel.left == {KEY: {"production__sales": ["2024-01-01"]}}


def test_a_run_of_which_nothing_is_known_is_well_again_when_its_job_succeeds(channel):
    died = end(1, failures={"": "the process is gone"})
    assert channel.tell(died) == [(KEY, "open", "run1")]
    assert channel.told[0].observed == "the process is gone"
    assert channel.tell(end(2, job="other")) == []
    assert channel.tell(died, end(2)) == [(KEY, "recovered", "run2")]


def test_a_run_that_died_is_well_again_when_what_it_did_not_come_to_is_done(channel):
    left = {CHECKS: (), "production__sales": ()}
    channel.tell(end(1, "2024-01-01..2024-01-05", {"": "the process is gone"}, ("raw__orders",), failed=left))
    assert channel.told[0].owner == "shop"
    assert channel.tell(end(2, "2024-01-01..2024-01-05", steps=("raw__orders",))) == []
    assert channel.tell(end(3, "2024-01-01..2024-01-03", steps=(CHECKS, "production__sales"), job="other")) == []
    (found,) = channel.tell(end(4, "2024-01-04..2024-01-05", steps=(CHECKS, "production__sales"), job="other"))
    assert found[1:] == ("recovered", "run4")


def test_a_run_that_failed_and_succeeded_before_anybody_was_told_is_no_news(channel):
    assert channel.tell(FAILED, end(2, steps=(CHECKS,))) == []
    again = replace(FAILED, run_id="run3", ended_at=moment(3))
    assert channel.tell(FAILED, end(2, steps=(CHECKS,)), again) == [(KEY, "open", "run3")]


def test_a_run_that_failed_for_what_there_is_no_more(channel):
    channel.tell(end(1, failures={CHECKS: "no", "deliveries": "no", "own__report": "no"}, failed={STOCK_LOADED: ()}))
    channel.about = Subjects({"orders": ORDERS}, {}, steps={CHECKS: DAILY, "deliveries": None, "own__report": None})
    assert channel.tell() == []
    assert channel.left[KEY].keys() == {CHECKS, "own__report"}
    channel.about = replace(channel.about, steps={"own__report": None})
    channel.tell()
    assert channel.tell(end(2, steps=("own__report",))) == [(KEY, "recovered", "run2")]
    channel.about = replace(channel.about, steps={"own__report": None, CHECKS: DAILY})
    failed = end(3, failures={"own__report": "no", CHECKS: "no"})
    channel.tell(failed)
    channel.about = replace(channel.about, steps={"raw__orders": None})
    assert channel.tell() == [(KEY, "recovered", "run3")]
    assert (channel.told[0].observed, channel.told[0].owner) == (GONE, "shop")
    assert channel.tell(failed) == []  # looked at again


def test_partitions_that_there_are_no_more(channel):
    key = "run/daily/2024-01-01..2024-01-05"
    channel.tell(refused(1, "2024-01-01..2024-01-05", "2024-01-01", "2024-01-02", "2024-01-04"))
    later = replace(ORDERS, partitioning=replace(DAILY, start=date(2024, 1, 2)))
    channel.about = replace(ABOUT, tables={"orders": later})
    channel.tell()
    assert channel.left == {key: {ORDERS_LOADED: ["2024-01-02", "2024-01-04"]}}
    channel.tell(loaded(2, "2024-01-02"))
    assert channel.tell(loaded(3, "2024-01-04")) == [(key, "recovered", "run3")]


def test_assets_of_ones_own(channel):
    """Cut as a table is, and as a whole."""
    channel.about = replace(ABOUT, steps={"summary": DAILY, "top": None})
    channel.tell(end(1, "2024-01-01..2024-01-06", {"summary": "no", "top": "no"}, whole=("top",)))
    assert channel.left == {
        "run/pipeline/2024-01-01..2024-01-06": {"summary": ["2024-01-01..2024-01-06"], "top": ["all"]}
    }
    assert channel.tell(end(2, "2024-01-07", {"top": "no"}, whole=("top",))) == []  # as before
    channel.tell(end(3, "2024-01-01..2024-01-03", steps=("summary", "top"), whole=("top",)))
    assert channel.left == {"run/pipeline/2024-01-01..2024-01-06": {"summary": ["2024-01-04..2024-01-06"]}}
    assert len(channel.tell(end(4, "2024-01-04..2024-01-06", steps=("summary",)))) == 1


def test_what_stays_refused_is_not_mended_by_a_run_that_succeeds(channel):
    """A refusal fails one run; the run after it has done everything else."""
    channel.tell(refused(1, "2024-01-01..2024-01-03", "2024-01-01", "2024-01-02"))
    still = {ORDERS_LOADED: ("2024-01-02",)}
    assert channel.tell(end(2, "2024-01-01..2024-01-03", steps=("deliveries",), job="daily", failed=still)) == []
    assert channel.left == {"run/daily/2024-01-01..2024-01-03": {ORDERS_LOADED: ["2024-01-02"]}}
    assert len(channel.tell(loaded(3, "2024-01-02"))) == 1
    # Nor is it what a run failed for that failed otherwise.
    channel.tell(end(4, "2024-01-01..2024-01-03", {CHECKS: "no"}, ("deliveries",), "daily", failed=still))
    assert channel.left == {"run/daily/2024-01-01..2024-01-03": {CHECKS: ["2024-01-01..2024-01-03"]}}


BUILT = replace(ABOUT, ancestors={"sales": ["base"]}, model_ids={"model.sales": "sales", "model.base": "base"})
BUILD, GATE = "dbt_build/sales", "production__sales"


def gate(number, partition, *keys, text="the gate refused 1 partition(s) of sales:\n…", **failed):
    """A run whose gate refuses some partitions."""
    return end(number, partition, {GATE: text}, ("dbt_build", CHECKS), failed={GATE: keys} | failed)


def test_a_check_that_leaves_its_partitions_to_the_gate_has_not_passed(channel):
    channel.about = BUILT
    channel.tell(end(1, failures={"dbt_build": "dbt: 1 of 3 nodes failed"}, failed={BUILD: ("2024-01-01",)}))
    left = {BUILD: ("2024-01-01",)}
    assert channel.tell(gate(2, "2024-01-01..2024-01-02", "2024-01-01", **left)) == []
    assert channel.left == {KEY: {BUILD: ["2024-01-01"]}}
    # Whatever else becomes of the run: that there is no gate in it, or that it dies.
    for number, status in ((3, RunStatus.SUCCESS), (4, RunStatus.CANCELED)):
        more = end(number, "2024-01-01..2024-01-02", None, ("dbt_build",), status=status, failed=left)
        assert channel.tell(more) == []
    assert channel.left == {KEY: {BUILD: ["2024-01-01"]}}
    died = end(5, "2024-01-02..2024-01-03", {"": "gone"}, ("dbt_build",), failed={BUILD: ("2024-01-03",), GATE: ()})
    channel.tell(died)
    assert channel.left["run/pipeline/2024-01-02..2024-01-03"] == {GATE: ["2024-01-02..2024-01-03"]}
    assert channel.tell(end(6, steps=("dbt_build",), parts=(BUILD,))) == [(KEY, "recovered", "run6")]


def failing(number, *keys, part=CHECKS, text="no"):
    """A run whose checks fail for some partitions; none: a step that didn't come to judge."""
    return end(number, failures={part.partition("/")[0]: text}, failed={part: keys})


@pytest.mark.parametrize(
    ("known", "failed", "news"),
    [
        (failing(1, "2024-01-01"), gate(2, "2024-01-01", "2024-01-01"), False),
        (gate(1, "2024-01-01", "2024-01-01"), failing(2, "2024-01-01"), False),
        (failing(1, "2024-01-01", part="dbt_build/base"), gate(2, "2024-01-01", "2024-01-01"), False),
        # Another day, a model as a whole, what is no check of what it is made of; and what didn't come to judge.
        (failing(1, "2024-01-02"), gate(2, "2024-01-01", "2024-01-01"), True),
        (gate(1, "all", "all"), failing(2, "2024-01-01"), True),
        (failing(1, "2024-01-01", part="staging__stock__checks"), gate(2, "2024-01-01", "2024-01-01"), True),
        (failing(1, "2024-01-01", part=ORDERS_LOADED), gate(2, "2024-01-01", "2024-01-01"), True),
        (failing(1, "2024-01-01"), gate(2, "2024-01-01", text="no disk"), True),
        (failing(1), gate(2, "2024-01-01", "2024-01-01"), True),
        (gate(1, "2024-01-01", "2024-01-01"), failing(2, text="no disk"), True),
    ],
)
def test_what_is_known_of_one_side_of_a_gate_is_known_of_the_other(channel, known, failed, news):
    channel.about = BUILT
    channel.tell(replace(known, steps=()))
    told = channel.tell(replace(failed, steps=(), job="other"))
    assert told == ([("run/other/2024-01-01", "open", "run2")] if news else [])


def test_a_gate_that_refuses_what_its_checks_passed_is_told(channel):
    channel.tell(end(1, failures={CHECKS: "no"}, failed={CHECKS: ("2024-01-01",)}))
    assert channel.tell(gate(2, "2024-01-01", "2024-01-01")) == [(KEY, "open", "run2")]
    assert channel.left == {KEY: {GATE: ["2024-01-01"]}}


def test_a_canceled_run_is_no_problem(channel):
    assert channel.tell(end(1, status=RunStatus.CANCELED)) == []


DAYS = DAILY.keys("2024-01-01", "2024-01-06")
SPANS = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted)
RUNS = st.lists(st.tuples(SPANS, st.sets(st.sampled_from(DAYS))), max_size=8)


@given(RUNS, st.data())
def test_however_it_is_looked_at_a_channel_knows_what_fails_still(runs, data):
    """Runs over ranges, some days refused: what is left is the days whose newest run failed, and those only."""
    ends, failing = [], set()
    for number, ((first, last), bad) in enumerate(runs):
        keys = DAYS[first : last + 1]
        span = keys[0] if first == last else f"{keys[0]}..{keys[-1]}"
        bad = sorted(bad & set(keys))
        ends.append(refused(number, span, *bad) if bad else loaded(number, span))
        failing = (failing - set(keys)) | set(bad)
    channel, seen = Channel(), 0
    while seen < len(ends):
        upto = data.draw(st.integers(seen + 1, len(ends)))
        channel.tell(*ends[data.draw(st.integers(0, seen)) : upto])  # a look overlaps those before
        seen = upto
    known = {
        key
        for left in channel.left.values()
        for item in left.get(ORDERS_LOADED, ())
        for key in DAILY.keys(*(item.split("..") * 2)[:2])
    }
    assert known == failing
