"""Telling every channel what it doesn't know yet."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dataops_platform.alerts.channels import Channel
from dataops_platform.alerts.facts import facts, record, told
from dataops_platform.alerts.looking import behind
from dataops_platform.alerts.message import compose
from dataops_platform.alerts.problems import news
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.problems import DataOpsError
from dataops_platform.secrets import redact, without_secrets
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import now

log = logging.getLogger("dataops.alerts")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a round.

    Attributes:
        alerts: channel → how many alerts it was told; topic → how many events were published to it.
        failed: channel → why it could not be told; it is tried again at the next round.
        due: when it must be looked again though no run ends until then; None: never.
        more: whether runs have ended that nobody has looked at yet: more than a round takes.
    """

    alerts: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    due: datetime | None = None
    more: bool = False


def send(
    warehouse: Warehouse,
    channels: Sequence[Channel],
    subjects: Subjects,
    environment: str,
    ui_url: str | None = None,
) -> Sent:
    """Tell each channel, in one message, what the ledger says and it doesn't know.

    First the message goes, then it is written down: if the process dies in between, the message goes again. A channel
    that fails, for whatever reason, is logged; what it wasn't told stays for the next round, and the others aren't kept
    from theirs.

    Raises:
        DataOpsError: the ledger can't be read or written.
    """
    moment = now()
    with warehouse.session():
        known = told(warehouse, [channel.name for channel in channels])
        found = facts(warehouse, subjects, min(item.since(moment) for item in known.values()))
    # Not inside the session: nobody waits for the warehouse while a server is slow to answer.
    counts: dict[str, int] = {}
    failed: dict[str, str] = {}
    for channel in channels:
        before = known[channel.name]
        changed = news(found, before.open, subjects)
        if changed.told:
            try:
                channel.send(compose(channel.name, environment, ui_url, changed.told, moment, before.last))
            except Exception as error:
                expected = isinstance(error, DataOpsError)
                failed[channel.name] = redact(str(error) if expected else f"{type(error).__name__}: {error}")
                log.error(
                    "alerts: %s was not told of %d: %s. It is tried again after the next run.",
                    channel.name,
                    len(changed.told),
                    failed[channel.name].rstrip("."),
                    exc_info=None if expected else without_secrets(error),
                )
                continue
        counts[channel.name] = len(changed.told)
        written = [*changed.told, *changed.kept]
        record(warehouse, channel.name, written, moment if written or behind(before.seen, moment) else None, now())
    return Sent(counts, failed)
