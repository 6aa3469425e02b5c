"""The asset `quality/report`: the page of `dataops report`, one click away in the UI."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from dataops_platform.contracts.model import Table
from dataops_platform.lake import keys
from dataops_platform.orchestration.errors import user_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.quality.report import report
from dataops_platform.warehouse.ledger import now

REPORT_KEY = dg.AssetKey(["quality", "report"])
CONSOLE = "https://storage.cloud.google.com/"
"""Where a browser finds an object of Cloud Storage."""


def report_asset(tables: Mapping[str, Table], published: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """The report as an asset behind what is published. It is part of no job: it is made when somebody asks for it.

    Args:
        tables: contract tables that are filled from a source.
        published: assets of production, which it tells about.
    """

    @dg.asset(
        key=REPORT_KEY,
        deps=list(published),
        group_name="quality",
        kinds={"html"},
        description="Scores, trends, failed rules, quarantine and drift on one page.",
    )
    def quality_report(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[Any]:
        with user_errors(), platform.work("report", "report", context.run_id):
            models = [model.name for model in platform.models.items if not model.view]
            moment = now()
            made = report(platform.warehouse, tables, models, platform.settings.environment, moment)
            if platform.settings.on_google_cloud:
                store = platform.settings.production_store()
                key = f"_reports/{keys.timestamp(moment)}.html"
                store.create(key, made.html.encode())
                url = CONSOLE + store.uri(key).removeprefix("gs://")
            else:
                path = platform.settings.home / "report.html"
                path.write_text(made.html, encoding="utf-8")
                url = path.as_uri()
        scores = {"blocking score": made.blocking, "warning score": made.warning}
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.url(url),
                **{name: round(value, 2) for name, value in scores.items() if value is not None},
            }
        )

    return quality_report
