"""Declarative automation: staging follows raw, models follow staging, production follows models.

The alternative to the schedules of `jobs`: what has changed is asked for when it has changed, partition by partition,
in whichever order things arrive. Conditions only ask; nothing bad is published whatever they ask for, because the gate
reads verdicts from the ledger. They are made of Dagster's own operands, which its daemon evaluates without this code.

Dagster's `eager()` is not what a platform of deliveries needs: it looks at the latest partition only, so a late
delivery would never be followed; it waits until no partition of a dependency is missing, so nothing made of an
open-ended table as a whole would ever be made; and it rebuilds every partition when an unpartitioned dependency is
renewed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.tags import AUTOMATION_CONDITION_TAG

from dataops_platform.contracts.model import Table
from dataops_platform.orchestration.jobs import due
from dataops_platform.orchestration.run_requests import TABLE_TAG
from dataops_platform.orchestration.table_options import staging_key

SENSOR = "automation"
INTERVAL = 30
"""Seconds between two evaluations."""
_FOLLOWING = ("staging", "transformed", "production")

Condition = dg.AutomationCondition[Any]


def automate(
    assets: Sequence[dg.AssetsDefinition], tables: Mapping[str, Table], models: Collection[dg.AssetKey]
) -> list[dg.AssetsDefinition]:
    """The same assets with their conditions; a project's own assets keep what they say themselves.

    Args:
        models: keys of the dbt models.
    """
    specs = [spec for definition in assets for spec in definition.specs]
    cuts = {spec.key: _way(spec) for spec in specs}
    partitions = {spec.key: spec.partitions_def for spec in specs}
    apart = {staging_key(table.name) for table in tables.values() if table.partitions_per_run is not None}

    def condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        layer, name = spec.key.path[0], spec.key.path[-1]
        if layer == "raw" and name in tables:
            return spec.replace_attributes(automation_condition=_when_due(tables[name]))
        if layer in _FOLLOWING or spec.key in models:
            # Of an asset without partitions, those of what it is made of are never all there; and a table of airports
            # that is delivered each morning, or of a region, is no reason to build all days anew.
            other = {key for key, way in cuts.items() if way != cuts[spec.key]}
            same = {key for key, cut in partitions.items() if cut == spec.partitions_def}
            return spec.replace_attributes(automation_condition=_when_followed(spec, other, same, apart))
        return spec

    return [definition.map_asset_specs(condition) for definition in assets]


def _way(spec: dg.AssetSpec) -> str | None:
    """How an asset is cut: by time, by name, or not at all."""
    if spec.partitions_def is None:
        return None
    return "name" if isinstance(spec.partitions_def, dg.StaticPartitionsDefinition) else "time"


def automation_sensor(assets: Sequence[dg.AssetsDefinition]) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates all conditions; several partitions of one tick are one backfill."""
    return dg.AutomationConditionSensorDefinition(
        SENSOR,
        target=dg.AssetSelection.assets(*(spec.key for definition in assets for spec in definition.specs)),
        minimum_interval_seconds=INTERVAL,
        description="Asks for raw when it is due, and for everything else when what it is made of has changed.",
    )


def _when_due(table: Table) -> Condition:
    """Once a partition is over, as the schedule does; but not again when it was delivered in the meantime.

    What isn't cut by time is never over: it is asked for each day.
    """
    condition = dg.AutomationCondition.on_cron(*due(table))
    return condition & dg.AutomationCondition.missing() if table.by_time else condition


def _any_updated(same: dg.AssetSelection, unrelated: dg.AssetSelection) -> Condition:
    """Whether a dependency was renewed by a run that isn't about this asset, too, or will be.

    `any_deps_updated()` means the same, but of the partitions that were renewed since the last tick it knows the run of
    the last one only. It would ask for the others again where their run failed: as soon as another one passed.

    Args:
        same: assets that can share a run with this one: those with the same partitions.
        unrelated: assets whose renewal is no reason.
    """
    condition = dg.AutomationCondition
    # Who requests them requests this asset, or remembers that it is to follow; a landing sensor requests all that do.
    alone = condition.newly_updated() & ~_by_runs_with(AUTOMATION_CONDITION_TAG) & ~_by_runs_with(TABLE_TAG)
    renewed = (alone & ~condition.executed_with_root_target()) | condition.will_be_requested()
    return (
        condition.any_deps_match(renewed).allow(same) | condition.any_deps_updated().ignore(same | unrelated)
    ).with_label("renewed")


def _by_runs_with(tag: str) -> Condition:
    return dg.AutomationCondition.all_new_updates_have_run_tags(tag_keys={tag})


def _when_followed(
    spec: dg.AssetSpec,
    other: Collection[dg.AssetKey],
    same: Collection[dg.AssetKey],
    apart: Collection[dg.AssetKey],
) -> Condition:
    """When a dependency was renewed, all are there, and no blocking check of any has failed since.

    Args:
        other: assets cut otherwise than this one: with partitions when it has none, without when it has.
        same: assets with the same partitions, or none either.
        apart: staging assets that take several runs for many partitions: nothing shares a run with them.
    """
    others, limited = dg.AssetSelection.assets(*other), dg.AssetSelection.assets(*apart)
    missing, unrelated = dg.AutomationCondition.any_deps_missing(), dg.AssetSelection.assets()
    if spec.partitions_def is None:
        missing = missing.ignore(others)
    else:
        unrelated = others
    updated = _any_updated(dg.AssetSelection.assets(*same), unrelated)
    passed = dg.AutomationCondition.all_checks_match(dg.AutomationCondition.check_passed(), blocking_only=True)
    asked = dg.AutomationCondition.will_be_requested()
    return (
        updated.since_last_handled()
        & ~missing
        # As `all_deps_blocking_checks_passed()`, which lets one run go through only where the checks passed before:
        # within a run, its own checks stop it.
        & dg.AutomationCondition.all_deps_match(passed | asked).ignore(limited).with_label("blocking checks passed")
        & dg.AutomationCondition.all_deps_match(passed & ~asked).allow(limited).with_label("run before, and passed")
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    )
