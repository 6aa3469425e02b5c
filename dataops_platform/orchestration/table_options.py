"""What the assets of a contract table have in common."""

from typing import Any

import dagster as dg

from dataops_platform.contracts.model import Table
from dataops_platform.orchestration import partitions

SHOWN = 20
"""How many partitions or reasons metadata lists at most."""

ROWS_LEFT = "dataops/rows left"
"""Metadata of an observation of a staging partition that a load took rows from."""


def raw_key(table: str) -> dg.AssetKey:
    """Asset key of a table's raw deliveries."""
    return dg.AssetKey(["raw", table])


def staging_key(table: str) -> dg.AssetKey:
    """Asset key of a table's staging table."""
    return dg.AssetKey(["staging", table])


def asset_options(table: Table) -> dict[str, Any]:
    """Arguments that the raw and the staging asset of a table share."""
    return {
        "partitions_def": partitions.definition(table.partitioning) if table.partitioning else None,
        "backfill_policy": partitions.backfill_policy(table),
        "owners": [f"team:{table.owner}"] if table.owner else None,
        "tags": dict.fromkeys(table.tags, ""),
        # Deliveries, or a load, happen in one step for all partitions asked: partial results are recorded as they are.
        "output_required": False,
    }
