"""One message about some alerts, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from urllib.parse import quote

from dataops_platform.alerts.events import GONE, TAKEN_AWAY, Alert, Kind, Status, fingerprint
from dataops_platform.alerts.problems import OWN_CHECK
from dataops_platform.contracts.model import Severity
from dataops_platform.warehouse.ledger import BY_HAND

LISTED = 50
"""Alerts that a message lists at most: whoever gets it isn't to be flooded. `dataops status` has them all."""
LINES = 20
"""Lines of a message to people; the log has them all."""
VERSION = 1
"""Of the webhook's body; a field that is added leaves it as it is."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel is told at once.

    Attributes:
        id: the same for the same news: a receiver that gets a message twice can tell.
        environment: as in the settings.
        ui_url: where Dagster's UI is, if the settings say so.
        alerts: the news, problems first.
        created_at: when it was made.
    """

    id: str
    environment: str
    ui_url: str | None
    alerts: Sequence[Alert]
    created_at: datetime

    @property
    def listed(self) -> list[Alert]:
        """Those that are listed: of each rule its first partitions, so that one that fails for all hides no other."""
        places: dict[tuple[str, ...], int] = {}
        ranked = []
        for position, alert in enumerate(self.alerts):
            place = places[_group(alert)] = places.get(_group(alert), -1) + 1
            ranked.append((place, position, alert))
        chosen = sorted(ranked, key=lambda item: item[:2])[:LISTED]
        return [alert for _, _, alert in sorted(chosen, key=lambda item: item[1])]

    @property
    def open(self) -> int:
        """How many problems are told."""
        return sum(alert.status is Status.OPEN for alert in self.alerts)

    @property
    def summary(self) -> str:
        """How many problems, and how many that are well again."""
        parts = []
        if self.open:
            parts.append(f"{self.open} problem{'s' if self.open > 1 else ''}")
        if len(self.alerts) > self.open:
            parts.append(f"{len(self.alerts) - self.open} recovered")
        return ", ".join(parts)


def compose(
    channel: str,
    environment: str,
    ui_url: str | None,
    alerts: Sequence[Alert],
    created_at: datetime,
    last: datetime | None = None,
) -> Message:
    """The message about some alerts.

    Its id is made of what is told, not of the runs that found it: what is judged again, the same, is the same news.

    Args:
        last: when the channel was told before. Until this message is written down that stays, so it is the same where
            the message must be sent again, and another one where a problem that was well comes back.
    """
    parts = sorted(f"{alert.key} {alert.status} {alert.fingerprint}" for alert in alerts)
    return Message(fingerprint(channel, last, *parts), environment, ui_url, alerts, created_at)


def link(alert: Alert, ui_url: str | None) -> str | None:
    """Where Dagster shows it: the check of a table, else the run; the table's deliveries where there was no run."""
    if ui_url is None:
        return None
    if alert.key.startswith(OWN_CHECK) and alert.rule is not None:
        return f"{ui_url}/assets/{quote(alert.table)}?view=checks&checkDetail={quote(alert.rule)}"
    schema, _, table = alert.table.partition(".")
    if alert.rule is not None and schema == "staging":
        return f"{ui_url}/assets/staging/{quote(table)}?view=checks&checkDetail={quote(alert.rule)}"
    if alert.run_id.startswith(BY_HAND):
        return f"{ui_url}/assets/raw/{quote(table)}"
    return f"{ui_url}/runs/{quote(alert.run_id)}"


def body(message: Message) -> dict[str, Any]:
    """What the channel `webhook` posts, as JSON; docs/alerts.md has its schema."""
    listed = message.listed
    return {
        "version": VERSION,
        "id": message.id,
        "environment": message.environment,
        "created_at": _time(message.created_at),
        "summary": message.summary,
        "open": message.open,
        "recovered": len(message.alerts) - message.open,
        "omitted": len(message.alerts) - len(listed),
        "alerts": [
            {
                "key": alert.key,
                "status": str(alert.status),
                "kind": str(alert.kind),
                "severity": str(alert.severity),
                "table": alert.table,
                "partition": alert.partition,
                "rule": alert.rule,
                "observed": alert.observed,
                "expected": alert.expected,
                "owner": alert.owner,
                "run_id": alert.run_id,
                "happened_at": _time(alert.happened_at),
                "url": link(alert, message.ui_url),
            }
            for alert in listed
        ],
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Line:
    """What people read of one problem, in all its partitions; `alert` is that of the first."""

    alert: Alert
    text: str


def lines(message: Message, each: bool = False) -> list[Line]:
    """What people read of a message.

    Args:
        each: whether every alert has its own line; else those of a rule share one.
    """
    ordered = sorted(message.alerts, key=_order)
    groups = ([alert] for alert in ordered) if each else (list(found) for _, found in groupby(ordered, _group))
    return list(map(_line, groups))


def _group(alert: Alert) -> tuple[str, ...]:
    whole = alert.rule is None
    gone = "gone" if alert.status is Status.RECOVERED and alert.observed == GONE else ""
    return (alert.status, alert.kind, alert.table, alert.rule or "", alert.key if whole else "", alert.severity, gone)


def _order(alert: Alert) -> tuple[Any, ...]:
    return (
        alert.status is Status.RECOVERED,
        alert.severity is not Severity.ERROR,
        alert.table,
        alert.kind,
        alert.rule or "",
        alert.key if alert.rule is None else "",
        alert.observed == GONE,
        alert.partition,
    )


_DID = {
    Kind.CHECK_FAILED: "failed",
    Kind.DEADLINE_MISSED: "missed its deadline",
    Kind.DELIVERY_REFUSED: "a delivery was refused",
    Kind.BREAKER_TRIPPED: "the breaker refused a delivery",
    Kind.RUN_FAILED: "the run failed",
}
_DOES = {
    Kind.CHECK_FAILED: "passes again",
    Kind.DEADLINE_MISSED: "is in time again",
    Kind.DELIVERY_REFUSED: "what was refused, or a later delivery, is loaded",
    Kind.BREAKER_TRIPPED: "what was refused, or a later delivery, is loaded",
    Kind.RUN_FAILED: "runs again",
}
_TAKEN_AWAY = "what was refused is delivered by now, or isn't there any more"


def _line(group: Sequence[Alert]) -> Line:
    first = group[0]
    name = f"{first.table} {first.rule}" if first.rule else first.table
    where = "" if first.partition == "all" else f" for {first.partition}"
    if len(group) > 1:
        where = f" for {len(group)} partitions, {first.partition} to {group[-1].partition}"
    owner = f" (owner {first.owner})" if first.owner else ""
    if first.status is Status.RECOVERED and first.observed == GONE:
        return Line(first, f"{name}: {GONE}{where}{owner}")
    if first.status is Status.RECOVERED:
        does = _TAKEN_AWAY if first.observed == TAKEN_AWAY else _DOES[first.kind]
        return Line(first, f"{name}{':' * (first.rule is None)} {does}{where}{owner}")
    begin = "first " if len(group) > 1 else ""
    text = f"{name}{':' * (first.rule is None)} {_DID[first.kind]}{where}: {begin}observed {first.observed}"
    return Line(first, f"{text}, expected {first.expected}{owner}")
