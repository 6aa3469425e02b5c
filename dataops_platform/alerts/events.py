"""What an alert is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dataops_platform.contracts.model import Severity

GONE = "not asked for any more"
"""What is observed of a problem whose rule, table or model the project doesn't have any more."""
TAKEN_AWAY = "not refused any more"
"""What is observed of a refused file that a later run doesn't find among the refused: delivered, or gone."""


class Kind(StrEnum):
    """What went wrong."""

    CHECK_FAILED = "check_failed"
    DEADLINE_MISSED = "deadline_missed"
    DELIVERY_REFUSED = "delivery_refused"
    BREAKER_TRIPPED = "breaker_tripped"
    RUN_FAILED = "run_failed"


class Status(StrEnum):
    """Whether it is wrong, or well again."""

    OPEN = "open"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Alert:
    """One problem, as it stands.

    Attributes:
        key: names the problem: rule, object and partition; or the delivery; or the job and its partitions.
        fingerprint: changes when the problem does. The same problem with the same fingerprint is told once.
        table: `staging.<table>`, a model's name, or, of a failed run, the job's.
        partition: its key; of a run over several, the first and the last.
        run_id: the run that found it.
        happened_at: when that run judged, refused or ended.
        details: as JSON, what later decides whether a failed run is well again (see `failed_runs`), or whether other
            partitions are missing.
    """

    key: str
    status: Status
    fingerprint: str
    kind: Kind
    severity: Severity
    table: str
    partition: str
    rule: str | None
    observed: str
    expected: str
    run_id: str
    happened_at: datetime
    owner: str | None = None
    details: str | None = None


def fingerprint(*parts: object) -> str:
    """A short hash of what makes a problem another one."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
