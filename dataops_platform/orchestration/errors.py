"""Errors in Dagster: users' errors are one message without a traceback, and no error shows a secret."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from dataops_platform.contracts.problems import DataOpsError, DataRefused, Unavailable
from dataops_platform.google_errors import patience
from dataops_platform.secrets import redact, without_secrets

REFUSED = "dataops/refused"
"""Failure metadata: true when data was refused, so that the CLI can tell it from a wrong configuration."""
PARTS = "dataops/failed"
"""Metadata of a step's failure: table or model → the partitions that it failed for, if not for all it is about; and of
an asset check that failed: the partitions."""

SENSOR_PATIENCE = 30.0
"""Seconds that a tick repeats calls; the last pause before one may be 20 more."""

_OWN = (dg.DagsterError, dg.Failure, dg.RetryRequested)
"""What Dagster reacts to by its type."""


def failure(
    message: str, refused: bool, again: bool = False, parts: Mapping[str, Collection[str]] | None = None
) -> dg.Failure:
    """A step failure that says what the user should know; Dagster retries it only if `again` may go better.

    Args:
        parts: table or model → the partitions that it failed for, none for all; None: all that the step is about.
    """
    metadata: dict[str, Any] = {REFUSED: refused}
    if parts is not None:
        metadata[PARTS] = dg.MetadataValue.json({name: sorted(keys) for name, keys in parts.items()})
    return dg.Failure(redact(message), metadata=metadata, allow_retries=again)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can mend into step failures with just their message, and keep secrets out of others."""
    with clean_errors():
        try:
            yield
        except DataOpsError as error:
            raise failure(str(error), isinstance(error, DataRefused), isinstance(error, Unavailable)) from None


@contextmanager
def sensor_errors() -> Iterator[None]:
    """As `clean_errors`; of errors that a user can mend only the message: Dagster shows all that led to an error.

    A service that doesn't answer is given up in time to say so: Dagster's daemon ends a tick after a minute.
    """
    with clean_errors(), patience(SENSOR_PATIENCE):
        try:
            yield
        except DataOpsError as error:
            raise error.with_traceback(None) from None


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
