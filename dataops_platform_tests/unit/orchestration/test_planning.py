"""What `--partitions` means, and the runs that it is made into."""

from dataclasses import replace

import dagster as dg
import pytest

from dataops_platform.contracts import Kind
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration.jobs import jobs
from dataops_platform.orchestration.planning import plan, ranges, span
from dataops_platform.orchestration.table_assets import raw_key, staging_key, table_assets
from dataops_platform.transformation.models import Models
from dataops_platform_tests.support import daily, table


def test_one_partition_is_a_range_of_one():
    assert span("2013-01-01") == ("2013-01-01", "2013-01-01")
    assert span("2013-01-01..2013-01-31") == ("2013-01-01", "2013-01-31")


@pytest.mark.parametrize("text", ["", "..", "2013-01-01..", "..2013-01-01", "2013-02-01..2013-01-01"])
def test_ranges_that_make_no_sense(text):
    with pytest.raises(ConfigError, match="--partitions"):
        span(text)


def test_more_partitions_than_a_run_takes_on_are_several_runs():
    """What has no partitions is done once: with the first, or with the last if it is made of partitions."""
    orders = replace(table("orders", {"day": Kind.DATE}, partitioning=daily()), partitions_per_run=2)
    shops = table("shops", {"id": Kind.INTEGER})

    @dg.asset(deps=[staging_key("orders")])
    def total() -> None: ...

    assets = [*table_assets(orders), *table_assets(shops), total]
    made, schedules = jobs(assets, {"orders": orders, "shops": shops}, Models(()))
    definitions = dg.Definitions(assets, jobs=made, schedules=schedules, resources={"platform": object()})
    planned = plan(definitions, None, ("2024-01-01", "2024-01-05"), None)
    cut = {raw_key("orders"), staging_key("orders")}
    assert [(run.span, run.assets - cut) for run in planned.runs] == [
        (("2024-01-01", "2024-01-02"), {raw_key("shops"), staging_key("shops")}),
        (("2024-01-03", "2024-01-04"), set()),
        (("2024-01-05", "2024-01-05"), {total.key}),
    ]
    assert all(cut <= run.assets for run in planned.runs)


DAYS = [f"2024-01-0{day}" for day in range(1, 8)]


@pytest.mark.parametrize(
    ("todo", "settled", "expected"),
    [
        ("", "1234567", []),
        ("3", "124567", ["33"]),
        ("26", "13457", ["22", "66"]),
        ("236", "1457", ["23", "66"]),
        ("26", "", ["26"]),  # nothing was ever loaded between: there is nothing to touch
        ("26", "17", ["26"]),
        ("27", "4", ["22", "77"]),
        ("1234567", "", ["17"]),
    ],
)
def test_what_is_settled_is_in_no_range(todo, settled, expected):
    day = {key[-1]: key for key in DAYS}
    found = ranges(DAYS, [day[n] for n in todo], [day[n] for n in settled])
    assert found == [(day[first], day[last]) for first, last in expected]


@pytest.mark.parametrize(
    ("gap", "before", "expected"), [(7, 1, 1), (8, 1, 2), (30, 30, 1), (31, 30, 2)], ids=lambda n: str(n)
)
def test_long_gaps_are_not_run_over(gap, before, expected):
    """Nothing came for them, and Dagster would show them as materialised."""
    days = [f"{number:03}" for number in range(before + gap + 1)]
    assert len(ranges(days, [*days[:before], days[-1]], [])) == expected


def test_a_limited_run_takes_on_only_what_has_something_to_do():
    orders = replace(table("orders", {"day": Kind.DATE}, partitioning=daily()), partitions_per_run=2)
    assets = table_assets(orders)
    made, schedules = jobs(assets, {"orders": orders}, Models(()))
    definitions = dg.Definitions(assets, jobs=made, schedules=schedules, resources={"platform": object()})
    planned = plan(definitions, None, None, {"orders": {DAYS[0], DAYS[2], DAYS[3], DAYS[4]}})
    assert [run.span for run in planned.runs] == [
        (DAYS[0], DAYS[0]), (DAYS[2], DAYS[3]), (DAYS[4], DAYS[4]),
    ]  # fmt: skip


def test_late_partitions_are_runs_of_their_own():
    orders = table("orders", {"day": Kind.DATE}, partitioning=daily())
    assets = table_assets(orders)
    made, schedules = jobs(assets, {"orders": orders}, Models(()))
    definitions = dg.Definitions(assets, jobs=made, schedules=schedules, resources={"platform": object()})
    planned = plan(definitions, None, None, {"orders": {DAYS[1], DAYS[4], DAYS[5]}}, {"orders": DAYS})
    assert [run.span for run in planned.runs] == [(DAYS[1], DAYS[1]), (DAYS[4], DAYS[5])]


def test_a_month_is_no_day():
    """Though its first day is spelled so: each job runs what its own tables have left."""
    tables = {
        "orders": table("orders", {"day": Kind.DATE}, partitioning=daily()),
        "stock": table("stock", {"day": Kind.DATE}, partitioning=daily(granularity=Granularity.MONTH)),
    }
    assets = [asset for item in tables.values() for asset in table_assets(item)]
    made, schedules = jobs(assets, tables, Models(()))
    definitions = dg.Definitions(assets, jobs=made, schedules=schedules, resources={"platform": object()})
    loaded = {"orders": ["2024-02-01", "2024-02-02"], "stock": ["2024-02-01", "2024-03-01"]}

    def planned(todo):
        return {
            (key.path[-1], run.span) for run in plan(definitions, None, None, todo, loaded).runs for key in run.assets
        }

    assert planned({"stock": {"2024-02-01"}}) == {("stock", ("2024-02-01", "2024-02-01"))}
    both = {"stock": {"2024-02-01"}, "orders": {"2024-02-29"}}
    assert planned(both) == {("stock", ("2024-02-01", "2024-02-01")), ("orders", ("2024-02-29", "2024-02-29"))}
    assert planned({"of somebody": {"2024-03-01"}}) == {
        ("stock", ("2024-03-01", "2024-03-01")), ("orders", ("2024-03-01", "2024-03-01")),
    }  # fmt: skip
