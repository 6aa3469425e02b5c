"""One job and one schedule for each way that tables are cut."""

from __future__ import annotations

import dagster as dg
import pytest

from dataops_platform.contracts import Granularity, Kind
from dataops_platform.orchestration.jobs import jobs
from dataops_platform.orchestration.table_assets import table_assets
from dataops_platform.transformation.models import Models
from dataops_platform_tests.support import daily, table

CRONS = {
    Granularity.HOUR: "15 * * * *",
    Granularity.DAY: "0 7 * * *",
    Granularity.WEEK: "0 7 * * 1",
    Granularity.MONTH: "0 7 1 * *",
}


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_schedule_runs_when_a_partition_is_over(granularity):
    t = table("t", {"at": Kind.DATETIME}, partitioning=daily("at", granularity=granularity))
    assets = table_assets(t)
    made, schedules = jobs(assets, {t.name: t}, Models(()))
    definitions = dg.Definitions(assets, jobs=made, schedules=schedules, resources={"platform": object()})
    (schedule,) = definitions.get_repository_def().schedule_defs
    assert schedule.cron_schedule == CRONS[granularity]
