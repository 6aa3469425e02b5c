"""A Python asset of one's own: pandas in, pandas out, guarded by a contract.

The IO manager reads the upstream model as the argument's annotation asks (here only the query's result leaves the
warehouse), validates the returned DataFrame with the pandera schema made from `carrier_punctuality.odcs.yaml`, and
writes it to `insights.carrier_punctuality`.
"""

import dagster as dg
import pandas as pd

from dataops_platform.orchestration.io_managers import TableReference


@dg.asset(
    key=["insights", "carrier_punctuality"],
    ins={"delays": dg.AssetIn(key=["mart_daily_delays"], input_manager_key="warehouse_io_manager")},
    io_manager_key="warehouse_io_manager",
    group_name="insights",
    kinds={"pandas"},
    description="Carriers ranked by the share of their departures that left on time.",
)
def carrier_punctuality(delays: TableReference) -> pd.DataFrame:
    """Rank carriers by punctuality, over all days there are."""
    totals: pd.DataFrame = delays.query(
        "SELECT carrier, CAST(SUM(actual_departures) AS BIGINT) AS departures,"
        " CAST(SUM(delayed_departures) AS BIGINT) AS delayed FROM {table} AS t GROUP BY carrier"
    ).to_pandas()
    totals["on_time_rate"] = 1 - totals["delayed"] / totals["departures"]
    totals["rank"] = totals["on_time_rate"].rank(ascending=False, method="first").astype("int64")
    return totals[["carrier", "departures", "on_time_rate", "rank"]].sort_values("rank")
