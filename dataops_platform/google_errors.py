"""What Google's services answer: what is worth another try, and the rest in words a user can act on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import requests
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth import exceptions as auth

from dataops_platform.contracts.problems import ConfigError, Unavailable

_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.JSONDecodeError,  # an answer that was cut off, but not so that its length tells
    ConnectionError,
    TimeoutError,
)
_STATUSES = {408, 429, 500, 502, 503, 504}
_TOO_DEAR = {"bytesBilledLimitExceeded"}
_REASONS = {"rateLimitExceeded", "backendError", "internalError", "badGateway"}


def may_pass(error: BaseException) -> bool:
    """Whether a call that met this error may go better when it is repeated.

    One answer for all of Google's clients: their own ones differ, and none of them thinks of an answer that was cut
    off.
    """
    if isinstance(error, api.GoogleAPICallError):
        if _reasons(error) & _TOO_DEAR:  # the clients make a server's error of it
            return False
        return error.code in _STATUSES or bool(_reasons(error) & _REASONS)
    if isinstance(error, auth.TransportError | requests.exceptions.SSLError):
        return isinstance(error, auth.TransportError)
    if isinstance(error, _NO_ANSWER):
        return True
    # Uploads and downloads of the storage client wrap the response itself.
    return getattr(getattr(error, "response", None), "status_code", None) in _STATUSES


_END: ContextVar[float | None] = ContextVar("end of patience", default=None)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within it no call of this thread is repeated after so many seconds: for who has not much time."""
    token = _END.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _END.reset(token)


def _is_worth_it(error: BaseException) -> bool:
    end = _END.get()
    return (end is None or time.monotonic() < end) and may_pass(error)


RETRY = Retry(predicate=_is_worth_it, initial=0.5, maximum=20.0, multiplier=2.0, timeout=180.0)
"""For calls that may be repeated: reads, writes that only create, and jobs, which have names of our own."""

ONCE = RETRY.with_predicate(lambda error: False)
"""For calls that somebody else repeats."""


@contextmanager
def google_errors(what: str, where: str, permission: str) -> Iterator[None]:
    """Translate errors that no caller can handle better; `NotFound` and conflicts pass through.

    Args:
        what: the action, for messages: "write", "list".
        where: the service's object: a bucket's URL, a dataset.
        permission: what a missing permission is called.

    Raises:
        ConfigError: no credentials, expired or wrong ones, or a permission is missing.
        Unavailable: no answer after all retries.
    """
    try:
        yield
    except api.Unauthorized as error:
        raise ConfigError(
            f"can't {what} {where}: Google rejects the credentials ({_first(error)}). They may have expired:"
            " run `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
        ) from error
    except api.Forbidden as error:
        if _is_quota(error):
            raise Unavailable(
                f"can't {what} {where}: a quota is used up: {_first(error)}. Try again later, or ask for a higher one."
            ) from error
        if "accessNotConfigured" in _reasons(error):
            raise ConfigError(f"can't {what} {where}: the API is turned off: {_first(error)}") from error
        raise ConfigError(
            f"can't {what} {where}: permission {permission} is missing ({_first(error)})."
            " Grant a role that has it; docs/google-cloud.md lists the roles of each identity."
        ) from error
    except auth.DefaultCredentialsError as error:
        raise ConfigError(
            f"can't {what} {where}: there are no Google credentials. Run `gcloud auth application-default login`,"
            " or set DATAOPS_CREDENTIALS."
        ) from error
    except auth.TransportError as error:
        raise Unavailable(f"can't {what} {where}: Google's token service doesn't answer: {_first(error)}") from error
    except auth.GoogleAuthError as error:
        raise ConfigError(
            f"can't {what} {where}: the Google credentials can't be used: {_first(error)}. They may have expired:"
            " run `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
        ) from error
    except (api.ServerError, api.TooManyRequests, api.RetryError, *_NO_ANSWER) as error:
        if isinstance(error, api.GoogleAPICallError) and _reasons(error) & _TOO_DEAR:
            raise ConfigError(
                f"can't {what} {where}: {_first(error)}. DATAOPS_MAXIMUM_BYTES_BILLED forbids it: ask for fewer"
                " partitions, or raise the limit."
            ) from error
        # A retry that gave up says how long it tried; what went wrong is its cause.
        last = getattr(error, "cause", None) or error
        raise Unavailable(f"can't {what} {where}: no good answer after several tries: {_first(last)}") from error


_QUOTAS = {"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded", "responseTooLarge", "resourcesExceeded"}


def _is_quota(error: api.GoogleAPICallError) -> bool:
    return bool(_reasons(error) & _QUOTAS)


def _reasons(error: api.GoogleAPICallError) -> set[str]:
    return {str(item.get("reason")) for item in error.errors or () if isinstance(item, dict)}


_REQUEST = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) https?://\S+: ")
"""What clients put before the service's own words."""


def _first(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return _REQUEST.sub("", " ".join(str(text).split()))[:300]
