"""`raw/<table>` of a table whose objects others write: what has landed becomes deliveries."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from dataops_platform.contracts.model import Table
from dataops_platform.ingestion.landing import Registration, register
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.errors import user_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.table_options import SHOWN, asset_options, raw_key

LANDED_CHECK = "landed_objects_readable"
"""The check of a raw asset that fails when a landed object is refused. It blocks nothing: the others go on."""


def landed_raw(table: Table) -> dg.AssetsDefinition:
    """The raw asset of a table with a landing server.

    A landing sensor asks for runs of it; materialised by hand, or in a backfill, it does the same for the partitions
    asked. What is delivered already is not delivered again.
    """
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key=raw_key(table.name),
        description=f"Immutable deliveries of {table.name} in the lake. {table.description}",
        group_name="raw",
        kinds={"parquet", "gcs"},
        metadata={
            "contract": f"{table.contract_id} {table.contract_version}",
            "landing": ", ".join(f"{item.location}/{item.pattern.text}" for item in table.landings),
        },
        check_specs=[
            dg.AssetCheckSpec(
                LANDED_CHECK,
                asset=raw_key(table.name),
                description="Every object that has landed can be read. What can't is refused by itself, and kept.",
                blocking=False,
            )
        ],
        **asset_options(table),
    )

    @decorate
    def raw(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        with user_errors():
            keys = partitions.keys_of_run(table, context.run.tags) or table.partition_keys()
            place = platform.place(table)
            if place is None:
                context.log.info(f"{table.name} lands nowhere in environment {platform.settings.environment}")
                done = Registration()
            else:
                done = register(table, place, platform.lake, keys, platform.settings.git_commit)
        for refusal in done.refused[:SHOWN]:
            context.log.info(f"refused: {table.name} {refusal.partition}: {refusal.reason}")
        if done.refused_before:
            context.log.info(f"{done.refused_before} object(s) of {table.name} are still refused")
        yield dg.MaterializeResult(
            metadata={
                "deliveries": len(done.delivered),
                "objects already delivered": done.existing,
                "objects refused": len(done.refused),
                "objects removed from landing": done.removed,
                "dagster/row_count": sum(delivery.rows for delivery in done.delivered),
                "bytes": sum(delivery.size for delivery in done.delivered),
            }
        )
        yield _checked(table, done)

    return raw


def _checked(table: Table, done: Registration) -> dg.AssetCheckResult:
    listed = [f"{refusal.partition}: {refusal.reason}" for refusal in done.refused]
    what = f"{len(listed)} object(s) of {table.name} refused ({len(done.delivered)} delivery(ies) made):"
    return dg.AssetCheckResult(
        asset_key=raw_key(table.name),
        check_name=LANDED_CHECK,
        passed=not done.refused,
        severity=dg.AssetCheckSeverity.ERROR,
        description="\n".join([what, *listed[:SHOWN]]) if listed else None,
        metadata={"objects refused": len(done.refused), "refused before": done.refused_before},
    )
