"""Publishing what happened and wasn't published yet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from dataops_platform.alerts.looking import behind
from dataops_platform.alerts.outbox import Sent
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.problems import DataOpsError
from dataops_platform.events.event import Event, message
from dataops_platform.events.facts import events, published, record
from dataops_platform.pubsub import Message
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import now

AT_ONCE = 2000
"""Events that are published before that is written down: as many may come again, at most, where a process dies."""

log = logging.getLogger("dataops.events")


class Publisher(Protocol):
    """Somewhere that events go to."""

    name: str

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages of one key, in order.

        Raises:
            DataOpsError: it can't be told whether all were published, or they weren't.
        """
        ...


def publish(warehouse: Warehouse, topic: Publisher, subjects: Subjects, environment: str) -> Sent:
    """Publish what the ledger says and the topic doesn't know, those of a key in the order in which they happened.

    First events go, then it is written down: if the process dies in between, they go again, with the same ids. At the
    first failure it ends: what is left stays for the next round, and nothing of a key overtakes what failed.

    Raises:
        DataOpsError: the ledger can't be read or written.
    """
    moment = now()
    with warehouse.session():
        known = published(warehouse, topic.name, moment)
        found = [(event.id(environment), event) for event in events(warehouse, subjects, known.since)]
    new = [item for item in found if item[0] not in known.ids]
    # Not inside the session: nobody waits for the warehouse while the service is slow to answer.
    count = 0
    for start in range(0, len(new), AT_ONCE):
        done: list[tuple[str, Event]] = []
        part = new[start : start + AT_ONCE]
        try:
            for key in dict.fromkeys(event.key for _, event in part):
                mine = [item for item in part if item[1].key == key]
                topic.publish([message(event, environment) for _, event in mine])
                done += mine
        except DataOpsError as error:
            log.error("events: %d of %d were not published: %s", len(new) - count - len(done), len(new), error)
            record(warehouse, topic.name, done, None, now())
            return Sent({topic.name: count + len(done)}, {topic.name: str(error)})
        last = start + AT_ONCE >= len(new)
        record(warehouse, topic.name, done, moment if last else None, now())
        count += len(done)
    if not new and behind(known.seen, moment):
        record(warehouse, topic.name, (), moment, now())
    return Sent({topic.name: count})
