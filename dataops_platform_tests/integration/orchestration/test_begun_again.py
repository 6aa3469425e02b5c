"""A run that was begun again knows what was refused in those that it goes on with, which may not have said so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetObservationData, DagsterEvent
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.utils import make_new_run_id

from dataops_platform.contracts.types import Kind
from dataops_platform.orchestration import refused
from dataops_platform.orchestration.refused import refused_in_run
from dataops_platform.orchestration.table_assets import load_new
from dataops_platform.orchestration.table_options import raw_key, staging_key
from dataops_platform_tests.support import DAY1, Home, daily, table

T = table("orders", {"day": Kind.DATE, "id": Kind.INTEGER}, partitioning=daily())
ASSETS = [raw_key("orders"), staging_key("orders")]


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def begun(instance: dg.DagsterInstance, again: DagsterRun | None = None, steps: list[str] | None = None) -> Any:
    """The context of a run; of one that goes on with another, with the steps that are done again."""
    more: dict[str, Any] = {"parent_run_id": again.run_id, "root_run_id": again.run_id} if again else {}
    run = DagsterRun("pipeline", make_new_run_id(), step_keys_to_execute=steps, **more)
    instance.add_run(run)
    return SimpleNamespace(instance=instance, run=run)


def refuses(context: Any, asset: dg.AssetKey, partition: str) -> None:
    """A step of the run refuses a partition."""
    metadata = {
        refused._REFUSED: dg.MetadataValue.json({partition: [f"why {partition}"]}),
        refused._NEW: dg.MetadataValue.json([partition]),
    }
    observed = AssetObservationData(dg.AssetObservation(asset, metadata=metadata))
    step = "__".join(asset.path)
    context.instance.report_dagster_event(
        DagsterEvent("ASSET_OBSERVATION", "pipeline", step_key=step, event_specific_data=observed), context.run.run_id
    )


def test_steps_that_were_not_done_again(instance):
    first = begun(instance)
    refuses(first, raw_key("orders"), "a")
    refuses(first, staging_key("orders"), "b")
    assert refused_in_run(first, ASSETS).keys() == {"a", "b"}
    second = begun(instance, first.run, ["staging__orders", "deliveries"])
    assert refused_in_run(second, ASSETS).keys() == {"a"}
    refuses(second, staging_key("orders"), "c")
    assert refused_in_run(second, ASSETS) == {"a": ["why a"], "c": ["why c"]}
    third = begun(instance, second.run, ["deliveries"])
    assert refused_in_run(third, ASSETS).keys() == {"a", "c"}
    assert refused.earlier_runs(third) == {first.run.run_id, second.run.run_id}


def test_everything_was_done_again(instance):
    first = begun(instance)
    refuses(first, raw_key("orders"), "a")
    assert refused_in_run(begun(instance, first.run), ASSETS) == {}


def test_a_run_that_is_gone(instance):
    first = begun(instance)
    second = begun(instance, first.run, ["deliveries"])
    instance.delete_run(first.run.run_id)
    assert refused_in_run(second, ASSETS) == {}
    assert refused.earlier_runs(second) == {first.run.run_id}


def test_a_refusal_is_said_by_the_run_that_goes_on(tmp_path):
    """Of other runs it is known to have been said."""
    home = Home(tmp_path)
    platform: Any = SimpleNamespace(warehouse=home.warehouse, lake=home.lake, ledger=home.ledger)
    home.warehouse.ensure([T])
    home.deliver(T, [{"day": DAY1, "id": 1}], partition="2023-01-01")

    def before(run_id: str, *earlier: str) -> list[bool]:
        return [refusal.before for refusal in load_new(platform, T, None, run_id, earlier=earlier)[1]]

    assert before("died") == [False]
    assert before("goes on", "died") == [False]
    assert before("another") == [True]
    assert before("goes on with another", "another") == [True]
