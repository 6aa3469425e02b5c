"""What `--partitions` means, and the runs that it is made into."""

from dataclasses import replace

import dagster as dg
import pytest

from dataops_platform.contracts import Kind
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration.jobs import jobs
from dataops_platform.orchestration.planning import plan, span
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
