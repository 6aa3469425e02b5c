"""Users' errors in Dagster: one message, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dataops_platform.contracts.problems import DataOpsError, DataRefused, Unavailable

REFUSED = "dataops/refused"
"""Failure metadata: true when data was refused, so that the CLI can tell it from a wrong configuration."""


def failure(message: str, refused: bool, again: bool = False) -> dg.Failure:
    """A step failure that says what the user should know; Dagster retries it only if `again` may go better."""
    return dg.Failure(message, metadata={REFUSED: refused}, allow_retries=again)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can mend into step failures with just their message."""
    try:
        yield
    except DataOpsError as error:
        raise failure(str(error), isinstance(error, DataRefused), isinstance(error, Unavailable)) from None
