"""`raw/<table>` of a table whose objects others write: what has landed becomes deliveries."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from dataops_platform.contracts.model import LoadMode, Table
from dataops_platform.ingestion.landing import register
from dataops_platform.ingestion.landing_log import LandingLog, Refusal
from dataops_platform.ingestion.registrar import Registration
from dataops_platform.orchestration import partitions, refused
from dataops_platform.orchestration.errors import user_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.table_options import SHOWN, asset_options, raw_key
from dataops_platform.progress import by_tenths
from dataops_platform.warehouse.ledger import Refused


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
        **asset_options(table),
    )

    @decorate
    def raw(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        def tell(refusals: Sequence[Refusal]) -> None:
            platform.ledger.refuse(
                [Refused(table.name, r.partition, r.reason, context.run_id, file=r.file) for r in refusals]
            )

        unknown: set[str] = set()  # partitions of which nobody knows whether what was refused is still there
        with user_errors():
            keys = partitions.keys_of_run(table, context.run.tags) or table.partition_keys()
            place = platform.place(table)
            if place is None:
                context.log.info(f"{table.name} lands nowhere in environment {platform.settings.environment}")
                done = Registration()
            else:
                progress = by_tenths(context.log.info, "partitions of landing delivered")
                done = register(
                    table,
                    place,
                    platform.lake,
                    keys,
                    platform.settings.git_commit,
                    progress,
                    tell,
                    lambda schema: platform.warehouse.misfits(table, schema),
                )
                if (nowhere := place.inbox.missing()) is not None:
                    context.log.warning(f"landing of {table.name}: {nowhere}")
                    unknown = LandingLog(platform.lake.store, table).refused_partitions(keys)
            # A run that died may have remembered an object, and not have lived to fail for it.
            runs = refused.earlier_runs(context) if done.refused_before else set()
            earlier = platform.ledger.refused_in(table.name, runs) if runs else []
        said = {(item.partition, item.reason) for item in done.refused}
        said |= {(item.partition_key, item.reason) for item in earlier if item.file in done.refused_before}
        if done.refused_before:
            files = list(done.refused_before)
            context.log.warning(f"{len(files)} object(s) of {table.name} are still refused, such as {files[-1]}")
        for partition, names in list(done.replaced.items())[:SHOWN]:
            context.log.warning(
                f"{table.name} {partition}: what landed now replaces what was there (loadMode: replace), without"
                f" {names[-1]}, which landed before. What belongs together must land together, as one object at best"
            )
        for warning in done.warnings[:SHOWN]:
            context.log.warning(warning)
        # An object that can't be read stops nothing else, not even what else has landed for its partition. That one is
        # not whole, though, until something later of it is delivered.
        delivered = {delivery.partition for delivery in done.delivered}
        incomplete = {partition for partition, _ in said} | (set(done.refused_before.values()) - delivered)
        reasons: dict[str, list[str]] = {}
        for partition, reason in sorted(said):
            if partition not in delivered:
                reasons.setdefault(partition, []).append(reason)
        new = [f"{partition}: {reason}" for partition, reason in sorted(said)]
        # Where objects add rows, what else landed doesn't stand for those of a refused one: they are missing still.
        adds = table.load_mode is not LoadMode.REPLACE
        still = incomplete | unknown | (set(done.refused_before.values()) if adds else set())
        refused.report(context, reasons, new, incomplete, still)
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

    return raw
