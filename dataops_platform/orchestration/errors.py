"""Errors in Dagster: users' errors are one message without a traceback, and no error shows a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dataops_platform.contracts.problems import DataOpsError, DataRefused, Unavailable
from dataops_platform.secrets import redact, without_secrets

REFUSED = "dataops/refused"
"""Failure metadata: true when data was refused, so that the CLI can tell it from a wrong configuration."""

_OWN = (dg.DagsterError, dg.Failure, dg.RetryRequested)
"""What Dagster reacts to by its type."""


def failure(message: str, refused: bool, again: bool = False) -> dg.Failure:
    """A step failure that says what the user should know; Dagster retries it only if `again` may go better."""
    return dg.Failure(redact(message), metadata={REFUSED: refused}, allow_retries=again)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can mend into step failures with just their message, and keep secrets out of others."""
    with clean_errors():
        try:
            yield
        except DataOpsError as error:
            raise failure(str(error), isinstance(error, DataRefused), isinstance(error, Unavailable)) from None


@contextmanager
def clean_errors() -> Iterator[None]:
    """Let errors pass as they are; in place of one that shows a secret comes a copy that doesn't.

    Dagster reacts to the copy as it would to the error: what is not its own is a failure of the step, tried again
    according to the step's retry policy.
    """
    try:
        yield
    except _OWN:
        raise
    except Exception as error:
        clean = without_secrets(error)
        if clean is error:
            raise
        raise clean from clean.__cause__
