"""What runs log, one JSON object a line where the settings say so."""

import logging
from collections.abc import Mapping

import dagster as dg

from dataops_platform.logs import handler


def loggers(format: str) -> Mapping[str, dg.LoggerDefinition]:
    """Loggers of all jobs: Dagster's own, or, with `json`, one in its place under the same name and configuration."""
    if format != "json":
        return {}

    @dg.logger(
        {
            "log_level": dg.Field(str, is_required=False, default_value="INFO"),
            "name": dg.Field(str, is_required=False, default_value="dagster"),
        },
        description="One JSON object a line, as Cloud Logging reads them.",
    )
    def console(context: dg.InitLoggerContext) -> logging.Logger:
        made = logging.getLoggerClass()(context.logger_config["name"], level=context.logger_config["log_level"])
        made.addHandler(handler(format))
        return made

    return {"console": console}
