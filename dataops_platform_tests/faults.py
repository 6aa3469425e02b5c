"""Operations under faults: what they must come to, whatever happens between client and server."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.api_core.retry import Retry

from dataops_platform.contracts.problems import DataOpsError
from dataops_platform.google_errors import RETRY
from dataops_platform_tests.emulators.proxy import Call, Fault, Only, Proxy, calm, sensible


def quick(timeout: float) -> Retry:
    """Retries that don't make a test wait; they give up after that many seconds, as the real ones after minutes."""
    return RETRY.with_delay(initial=0.005, maximum=0.05, multiplier=1.5).with_timeout(timeout)


@dataclass(frozen=True)
class Operation:
    """Something that is done through a proxy.

    Attributes:
        scene: makes the place where it is done, without faults. Places don't share anything that it changes.
        act: does it there; what it returns must be the same in each place.
        state: everything that it could have changed, read past the proxy, by names that are the same in each place.
    """

    name: str
    scene: Callable[[], Any]
    act: Callable[[Any], object]
    state: Callable[[Any], object]


@dataclass
class Undisturbed:
    """What an operation comes to when nothing goes wrong, and the requests it is made of."""

    result: object
    state: object
    requests: Counter[Call]

    @classmethod
    def of(cls, operation: Operation, proxy: Proxy) -> Undisturbed:
        scene = operation.scene()
        with proxy.faults(calm):
            result, requests = operation.act(scene), proxy.seen
        return cls(result, operation.state(scene), requests)

    def cases(self, source: random.Random) -> Iterator[Only]:
        """Each call type under each fault, which one request of its type meets; and under one that all of them meet."""
        for call, count in self.requests.items():
            faults = sorted(sensible(call))
            for fault in faults:
                yield Only(call, fault, (source.randrange(count),))
            yield Only(call, source.choice([fault for fault in faults if fault is not Fault.LATE]), None)


def check(
    operation: Operation, proxy: Proxy, schedule: Only, wanted: Undisturbed, patience: float
) -> Counter[tuple[Call, Fault]]:
    """The operation does what it does undisturbed, or fails in words; then a repeat does. The faults that it met.

    One fault it must bear, unless the servers are so slow that it runs out of patience; but for a body that only its
    reader finds cut off: the client's own retries don't know of it, and not every call has ours.

    Args:
        patience: seconds that the operation's retries go on for.
    """
    scene = operation.scene()
    where, begun = f"{operation.name} under {schedule}", time.monotonic()
    with proxy.faults(schedule) as met:
        try:
            assert operation.act(scene) == wanted.result, where
            failed = False
        except DataOpsError as error:
            failed = True
            one = schedule.numbers is not None and schedule.fault is not Fault.SHORT
            if one and time.monotonic() - begun < patience:
                raise AssertionError(where) from error
    if failed:
        operation.act(scene)
    state = operation.state(scene)
    assert state == wanted.state, f"{where}: {state}, not {wanted.state}"
    return met
