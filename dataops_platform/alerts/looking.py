"""How far the ledger is looked through for those who are told of it, and from where on it must be looked again."""

from __future__ import annotations

from datetime import datetime, timedelta

OVERLAP = timedelta(days=1)
"""How far before the last look one looks again: what is written has the time at which its work began, and commits
later. What was told already isn't told again."""
LOOK_BACK = timedelta(days=7)
"""How far one looks back for somebody who was never told anything."""
STEP = timedelta(hours=1)
"""How far the ledger is looked through before that is written down, where there is no news."""
SEEN = "seen"
"""Names the row that says only how far one has looked for somebody, in `happened_at`."""


def since(seen: datetime | None, now: datetime) -> datetime:
    """From when on it must be looked.

    Args:
        seen: up to when it was looked; None: never.
    """
    return now - LOOK_BACK if seen is None else seen - OVERLAP


def behind(seen: datetime | None, now: datetime) -> bool:
    """Whether it is worth writing down that one has looked."""
    return seen is None or now - seen >= STEP
