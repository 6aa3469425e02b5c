"""The sensors `alerts` and `events`: they tell what happened in runs that the daemon started.

They look whether a run has ended since; only then the ledger is read. Every end of a run counts, not only failures: a
warning is in a run that succeeded, and so is what is well again. A deadline passes without a run: since the last look
it is known when the next one does, and that is reason enough for another.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dataops_platform.alerts.events import fingerprint
from dataops_platform.alerts.outbox import Sent
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.problems import DataOpsError
from dataops_platform.orchestration.alerting import publish_events, tell
from dataops_platform.orchestration.errors import sensor_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.run_ends import ENDED
from dataops_platform.quality.deadlines import deadline_rules
from dataops_platform.settings import Settings

ALERT_SENSOR = "alerts"
EVENT_SENSOR = "events"
INTERVAL_SECONDS = 30
LONGEST_WAIT = 3600.0
"""Seconds between attempts to reach a channel that doesn't answer: each asks the warehouse, which may charge for it."""

clock = time.time


def alert_sensor(about: Subjects) -> dg.SensorDefinition:
    """The sensor of alerts.

    Args:
        about: what alerts may be about.
    """
    description = "Tells the channels of DATAOPS_ALERTS what went wrong in runs, and what is well again."
    return _sensor(ALERT_SENSOR, description, about, tell, _deadlines(about))


def event_sensor(about: Subjects) -> dg.SensorDefinition:
    """The sensor of events.

    Args:
        about: what events may tell of.
    """
    description = (
        "Publishes to the topic of DATAOPS_EVENTS what was published, refused, quarantined, and how runs ended."
    )
    return _sensor(EVENT_SENSOR, description, about, publish_events)


def _sensor(
    name: str,
    description: str,
    about: Subjects,
    tell: Callable[[dg.DagsterInstance, Settings, Subjects], Sent],
    deadlines: str | None = None,
) -> dg.SensorDefinition:
    """A sensor that calls `tell` where there may be something to tell.

    Args:
        deadlines: which there are, so that it has to look before a run has ended, and when they change; None: none.
    """
    log = logging.getLogger(f"dataops.{name}")

    @dg.sensor(
        name=name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
    )
    def made(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SkipReason:
        state = _state(context)
        seen, again, wait = state.get("seen", 0.0), state.get("again"), state.get("wait", float(INTERVAL_SECONDS))
        newest = context.instance.get_run_records(
            dg.RunsFilter(statuses=list(ENDED), updated_after=datetime.fromtimestamp(seen, UTC)),
            limit=1,
            order_by="update_timestamp",
        )
        ended = newest[0].update_timestamp.timestamp() if newest else seen
        # Where it isn't known yet when the next deadline passes, one may have. A channel that doesn't answer keeps no
        # other from hearing of it.
        passed = deadlines is not None and clock() >= _due(state, deadlines) and (again is None or "due" in state)
        if ended <= seen and not passed and (again is None or clock() < again):
            return dg.SkipReason("no run has ended since" if again is None else "waiting to try a channel again")
        try:
            with sensor_errors():
                sent = tell(context.instance, platform.settings, about)
            problems = [f"{name}: {text}" for name, text in sent.failed.items()]
        except DataOpsError as error:  # the warehouse is busy or away
            problems, sent = [str(error)], None
            log.error("%s: %s. It is tried again.", name, error)
        if sent is not None and sent.more:
            ended = seen  # the next tick goes on with them
        if problems:
            # What wasn't told is still to be told, and a run that ends meanwhile is reason enough to try at once.
            if again is None or clock() >= again:  # not where only a deadline passed
                wait = min(2 * wait, LONGEST_WAIT) if again is not None else float(INTERVAL_SECONDS)
                again = clock() + wait
            context.update_cursor(json.dumps({"seen": ended, "again": again, "wait": wait} | _known(sent, deadlines)))
            return dg.SkipReason(f"not told, tried again in {wait:.0f} s: {'; '.join(problems)}")
        context.update_cursor(json.dumps({"seen": ended} | _known(sent, deadlines)))
        told = ", ".join(f"{name}: {count}" for name, count in sent.alerts.items()) if sent else ""
        return dg.SkipReason(f"{name} told: {told}")

    return made


def _deadlines(about: Subjects) -> str | None:
    """What the deadlines are, in short; None where there are none."""
    found = deadline_rules(about.tables.values())
    if not found:
        return None
    return fingerprint(
        *((name, about.tables[name].partitioning, [r.fingerprint for r in found[name]]) for name in sorted(found))
    )


def _state(context: dg.SensorEvaluationContext) -> Mapping[str, Any]:
    """What the last tick left. A cursor that can't be read is the beginning: nothing is told twice by that."""
    try:
        state = json.loads(context.cursor or "{}")
    except ValueError:
        state = None
    if isinstance(state, Mapping):
        return state
    context.log.warning(f"the cursor {context.cursor!r} isn't this sensor's: beginning anew")
    return {}


def _known(sent: Sent | None, deadlines: str | None) -> dict[str, Any]:
    """What a tick leaves of deadlines: when the next one passes, if the warehouse said it."""
    if deadlines is None or sent is None:
        return {}
    return {"due": sent.due.timestamp() if sent.due else None, "deadlines": deadlines}


def _due(state: Mapping[str, Any], deadlines: str) -> float:
    """When the next deadline passes: at once where nobody has looked at these yet, never where there is none."""
    if state.get("deadlines") != deadlines:
        return 0.0
    due: float | None = state.get("due", 0.0)
    return math.inf if due is None else due
