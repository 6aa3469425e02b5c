"""What Google's services answer, in words a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from dataops_platform.contracts.problems import ConfigError, Unavailable

_TRANSIENT = (
    api.ServerError,
    api.TooManyRequests,
    api.RetryError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    ConnectionError,
    TimeoutError,
)


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
            raise Unavailable(f"can't {what} {where}: a quota is used up: {_first(error)}") from error
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
    except _TRANSIENT as error:
        raise Unavailable(f"can't {what} {where}: no good answer after several tries: {_first(error)}") from error


_QUOTAS = {"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded", "responseTooLarge", "resourcesExceeded"}


def _is_quota(error: api.GoogleAPICallError) -> bool:
    reasons = {item.get("reason") for item in error.errors or () if isinstance(item, dict)}
    return bool(reasons & _QUOTAS)


def _first(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]
