"""What runs, sensors and schedules log, one JSON object a line where the settings say so."""

from __future__ import annotations

import logging

import dagster._loggers
from dagster._core.definitions import instigation_logger
from dagster._core.utils import coerce_valid_log_level

from dataops_platform.logs import handler

_STOCK = dagster._loggers.create_console_logger  # type: ignore[attr-defined]


def install_run_logs(format: str) -> None:
    """Have every run in this process log in this format, whichever job and run configuration it has; sensors, too.

    `Definitions(loggers=…)` can't do that: a run has Dagster's own console logger unless its configuration names
    another, which a click on an asset's button doesn't. So what makes the console logger is replaced; that of
    `context.log` of sensors and schedules, too, which nothing else can.
    """
    # It warns of a check without a result that it keeps nothing from going on. There is none where all partitions of a
    # run are refused: of those nothing goes on, and the gate keeps them from production.
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    for module in (dagster._loggers, instigation_logger):
        module.create_console_logger = _console if format == "json" else _STOCK  # type: ignore[attr-defined]


def _console(name: str, level: str | int) -> logging.Logger:
    made = logging.getLoggerClass()(name, level=coerce_valid_log_level(level))
    made.addHandler(handler("json"))
    return made
