"""What is estimated for some partitions: what has such, and what has none."""

from dataops_platform.contracts.partitions import Granularity, NamedPartitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.transformation.estimate import estimate
from dataops_platform.transformation.models import Models
from dataops_platform_tests.support import Home, daily, table


def test_tables_that_are_cut_otherwise_are_left_out(tmp_path):
    home = Home(tmp_path)
    tables = [
        table("days", {"day": Kind.DATE}, partitioning=daily()),
        table("months", {"day": Kind.DATE}, partitioning=daily(granularity=Granularity.MONTH)),
        table("regions", {"name": Kind.STRING}, partitioning=NamedPartitioning("name", ("eu", "us"))),
        table("plain", {"id": Kind.INTEGER}),
    ]
    home.warehouse.ensure(tables)

    def names(first, last):
        found = estimate({t.name: t for t in tables}, Models(()), None, home.warehouse, (first, last))
        return {item.name.partition(".")[2] for item in found}

    assert names("2024-01-02", "2024-01-03") == {"days", "plain"}
    assert names("eu", "us") == {"regions", "plain"}
