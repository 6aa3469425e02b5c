"""The job `replay_quarantine`: what `dataops quarantine replay` does, for users of the UI."""

from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.suggest import one_of
from dataops_platform.orchestration.errors import user_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.quality import quarantine
from dataops_platform.warehouse.base import Selection

REPLAY_JOB = "replay_quarantine"


class ReplayConfig(dg.Config):
    """Which rows are judged again."""

    tables: list[str] = Field(default=[], description="Tables of the contracts; none: all.")
    partitions: list[str] = Field(default=[], description="Partitions that the rows were delivered for; none: all.")
    reason: str | None = Field(default=None, description="Only rows that break this rule.")


def replay_job(tables: Mapping[str, Table]) -> dg.JobDefinition:
    """Judges quarantined rows again by the contracts as they read now, and loads what passes."""

    @dg.op(name="replay", description="Quarantined rows are judged again; those that pass now go to staging.")
    def replay(context: dg.OpExecutionContext, config: ReplayConfig, platform: dg.ResourceParam[Platform]) -> None:
        with user_errors():
            for name in config.tables:
                if name not in tables:
                    raise ConfigError(f"there is no table {name!r}: {one_of(name, tables)}")
            selection = Selection(config.partitions or None, config.reason)
            chosen = [table for name, table in tables.items() if not config.tables or name in config.tables]
            if config.tables:
                for table in chosen:
                    quarantine.known(table, selection)
            done = quarantine.replay(platform.warehouse, chosen, selection, context.run_id)
        counts = dict.fromkeys(("loaded", "superseded", "still in quarantine"), 0)
        for name, outcomes in done.items():
            for item in outcomes:
                context.log.info(
                    f"{name} {item.partition_key}: {item.rows_loaded} loaded, {item.rows_superseded} superseded,"
                    f" {item.rows_left} still in quarantine"
                )
                counts["loaded"] += item.rows_loaded
                counts["superseded"] += item.rows_superseded
                counts["still in quarantine"] += item.rows_left
        context.add_output_metadata(counts)
        if counts["loaded"]:
            context.log.info("the next run of the pipeline judges the partitions, builds the models and publishes")

    @dg.job(
        name=REPLAY_JOB,
        description="Judge quarantined rows again by the contracts as they read now, and load what passes.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        replay()

    return job
