"""The client of Google's Secret Manager."""

from __future__ import annotations

import base64
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import google.auth
import google_crc32c
import requests
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession

from dataops_platform.contracts.problems import ConfigError, DataOpsError, Unavailable
from dataops_platform.secrets.redaction import brief, one_line

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""What tokens are asked for; IAM roles decide what they may do."""

ENDPOINT = "https://secretmanager.googleapis.com"

ATTEMPTS = 6
TIMEOUT = (5.0, 15.0)
"""Seconds to connect, and between two bytes of an answer."""

_RETRIED = {408, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 8.0

_REFERENCE = re.compile(
    r"sm://(?P<project>[a-z0-9][a-z0-9.:-]*)/(?P<name>[A-Za-z0-9_-]{1,255})"
    r"(?:#(?P<version>[0-9]+|[A-Za-z][A-Za-z0-9_-]{0,62}))?"
)


@dataclass(frozen=True, slots=True)
class SecretName:
    """A version of a secret in Secret Manager."""

    project: str
    name: str
    version: str = "latest"

    @classmethod
    def parse(cls, setting: str, reference: str) -> SecretName:
        """Read `sm://project/name[#version]`.

        Raises:
            ConfigError: it is something else.
        """
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise ConfigError(
                f"{setting} is {reference!r}: write sm://project/name or sm://project/name#version, with a version's"
                " number or alias"
            )
        return cls(found["project"], found["name"], found["version"] or "latest")

    @property
    def secret(self) -> str:
        """The resource name of the secret."""
        return f"projects/{self.project}/secrets/{self.name}"

    @property
    def access_path(self) -> str:
        """The path of the call that reads this version."""
        return f"/v1/{self.secret}/versions/{self.version}:access"


class _Again(Exception):
    """An answer that may be better next time."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


class SecretManager:
    """Reads secrets from Google's Secret Manager."""

    # Reentrant: the credentials for one secret may be another one.
    _lock = threading.RLock()
    _known: dict[tuple[str, SecretName], str] = {}  # noqa: RUF012 (of the process, on purpose)

    def __init__(
        self,
        credentials: Callable[[], Credentials] | None = None,
        endpoint: str = ENDPOINT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is asked yet.

        Args:
            credentials: makes the credentials; default: Application Default Credentials. An `http://` endpoint, which
                only a test has, gets none: a token doesn't travel in the clear.
            endpoint: the service's URL.
            sleep: waits between attempts.

        Raises:
            ConfigError: the endpoint is no URL.
        """
        if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).netloc:
            raise ConfigError(f"DATAOPS_SECRET_MANAGER_ENDPOINT is {endpoint!r}: write a URL, like {ENDPOINT}")
        self._endpoint = endpoint.rstrip("/")
        self._credentials = credentials or application_default
        self._sleep = sleep

    def read(self, setting: str, reference: str) -> str:
        """What `sm://project/name[#version]` refers to.

        Raises:
            ConfigError: a malformed reference, no such secret or version, a disabled one, no permission, no
                credentials, or content that isn't text. The text names the setting.
            Unavailable: no good answer after several attempts.
        """
        name = SecretName.parse(setting, reference)
        # One at a time: whoever needs the same secret waits for it instead of asking too.
        with self._lock:
            known = self._known.get((self._endpoint, name))
            if known is None:
                known = self._fetch(f"{setting} is {reference!r}", name)
                self._known[self._endpoint, name] = known
            return known

    def _fetch(self, where: str, name: SecretName) -> str:
        problem = ""
        with AuthorizedSession(self._who(where)) as session:  # type: ignore[no-untyped-call]
            for attempt in range(ATTEMPTS):
                try:
                    return as_text(self._ask(session, where, name), where)
                except _Again as error:
                    problem = str(error)
                    if attempt < ATTEMPTS - 1:
                        growing = random.uniform(0.25, 0.5) * 2**attempt
                        self._sleep(min(max(error.pause, growing), _LONGEST_PAUSE))
        raise Unavailable(
            f"{where}: no good answer from Secret Manager in {ATTEMPTS} attempts; the last one: {problem}"
        )

    def _who(self, where: str) -> Credentials:
        if urlsplit(self._endpoint).scheme == "http":
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        try:
            return self._credentials()
        except (ConfigError, Unavailable) as error:
            raise type(error)(f"{where}: {error}") from None

    def _ask(self, session: requests.Session, where: str, name: SecretName) -> bytes:
        try:
            response = session.get(self._endpoint + name.access_path, timeout=TIMEOUT)
        except (auth.TransportError, requests.ConnectionError, requests.Timeout) as error:
            raise _Again(brief(error)) from None
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            raise _Again("the answer broke off") from None
        except auth.GoogleAuthError as error:
            raise ConfigError(
                f"{where}: the Google credentials can't be used: {brief(error)}. They may have expired: run"
                " `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
            ) from None
        if response.status_code in _RETRIED:
            raise _Again(f"{response.status_code} {_message(response)}".rstrip(), _retry_after(response))
        if response.status_code != 200:
            raise _refusal(where, name, response)
        try:
            payload = response.json()["payload"]
            content = base64.b64decode(payload["data"], validate=True)
            checksum = payload.get("dataCrc32c")
            whole = checksum is None or int(checksum) == google_crc32c.value(content)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _Again("an answer that can't be read") from None
        if not whole:
            raise _Again("its checksum doesn't fit its content")
        return content


def application_default() -> Credentials:
    """Application Default Credentials: Workload Identity, an attached service account, or a person's login.

    Raises:
        ConfigError: there are none, or their file is malformed.
        Unavailable: the service that issues them doesn't answer.
    """
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except auth.TransportError as error:
        raise Unavailable(f"Google's token service doesn't answer: {brief(error)}") from None
    except (auth.GoogleAuthError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if named:
            raise ConfigError(
                f"GOOGLE_APPLICATION_CREDENTIALS is {named!r}, which can't be used: {brief(error)}. Correct it, or"
                " set DATAOPS_CREDENTIALS."
            ) from None
        raise ConfigError(
            "there are no Google credentials that can be used. On Kubernetes, bind the pod's service account by"
            " Workload Identity; on a laptop, run `gcloud auth application-default login`; elsewhere, set"
            f" DATAOPS_CREDENTIALS. ({brief(error)})"
        ) from None
    return credentials


def as_text(content: bytes, where: str) -> str:
    """A secret's content as text, without one trailing newline.

    Raises:
        ConfigError: it isn't text. The message begins with `where`.
    """
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # Not chained: that exception carries the content.
        raise ConfigError(f"{where}: its content isn't text in UTF-8; store binary data as base64") from None


def _refusal(where: str, name: SecretName, response: requests.Response) -> DataOpsError:
    message = _message(response)
    if response.status_code == 404:
        return ConfigError(
            f"{where}: there is no version {name.version} of {name.secret} in Secret Manager. Create it"
            f" (`gcloud secrets versions add {name.name} --project {name.project} --data-file=-`), or correct the"
            " setting."
        )
    if response.status_code == 403 and "SERVICE_DISABLED" in response.text:
        return ConfigError(
            f"{where}: Secret Manager is off in project {name.project}. Turn it on:"
            f" `gcloud services enable secretmanager.googleapis.com --project {name.project}`."
        )
    if response.status_code == 403:
        return ConfigError(
            f"{where}: permission secretmanager.versions.access on {name.secret} is missing. Grant the platform's"
            f" identity roles/secretmanager.secretAccessor on this secret, or correct the setting. ({message})"
        )
    if response.status_code == 401:
        return ConfigError(
            f"{where}: Google rejects the credentials ({message}). They may have expired: run"
            " `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
        )
    if response.status_code == 400 and re.search(r"\b(DISABLED|DESTROYED)\b", message):
        state = "destroyed" if "DESTROYED" in message else "disabled"
        repair = "" if state == "destroyed" else "enable it, or "
        return ConfigError(
            f"{where}: version {name.version} of {name.secret} is {state}; {repair}add a version, or name another one"
        )
    return ConfigError(f"{where}: Secret Manager refuses: {response.status_code} {message}".rstrip())


def _message(response: requests.Response) -> str:
    try:
        return one_line(str(response.json()["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        return one_line(response.reason or "")


def _retry_after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0
