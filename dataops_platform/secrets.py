"""Secret values: where settings get them from, and how they stay out of what is written down.

The value of any setting may be `sm://project/name[#version]`: what Google's Secret Manager holds under that name, by
default its latest version. A setting that is a secret may be `file:///run/secrets/name` too: a mounted file. Anything
else is the value itself. One trailing newline of a file or of Secret Manager's answer is dropped. There is no second
variable like `NAME_FILE`: one setting, one place to look.

What was read so is read once per process: a rotated secret needs a restart.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, quote_plus, unquote, urlsplit

import google.auth
import google_crc32c
import requests
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession

from dataops_platform.contracts.problems import ConfigError, DataOpsError, Unavailable

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""What tokens are asked for; IAM roles decide what they may do."""

LARGEST = 64 << 10
"""Bytes of a secret: the most that Secret Manager holds. A larger file is a mistake in the setting."""

# -- Keeping secrets out of what is written ---------------------------------------------------------------------------

MASK = "***"
SHORTEST = 4
"""Characters of a secret. To hide a shorter value would mask half of every text and protect nothing."""

_LINE = 16
"""Characters from which a line of a longer secret, like a private key, is hidden on its own too."""

_RESERVED_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
"""Left alone by `requests` when it quotes a URL that holds a secret."""

_lock = threading.Lock()
_hidden: tuple[str, ...] = ()  # every form of every known secret, longest first; replaced, never changed


def hide(value: str) -> None:
    """Have a value replaced by `redact` from now on, as it is, quoted for URLs or JSON, and in base64."""
    global _hidden
    if len(value.strip()) < SHORTEST:
        return
    forms = {form for form in (*_forms(value), *_forms(value.strip())) if form not in MASK}
    with _lock:
        _hidden = tuple(sorted(forms.union(_hidden), key=len, reverse=True))


def redact(text: str) -> str:
    """The text with `***` for every secret that this process knows."""
    forms = _hidden
    while True:
        before = text
        for form in forms:
            if form in text:
                text = text.replace(form, MASK)
        # What stood around a replaced secret may, with the mask, be another one.
        if text == before:
            return text


def redacted_traceback(error: BaseException) -> str | None:
    """The error's traceback with `***` for secrets; None if there was none in it."""
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    clean = redact(text)
    return None if clean == text else clean


def _forms(value: str) -> Iterator[str]:
    raw = value.encode(errors="surrogateescape")
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for safe in ("", "/", _RESERVED_IN_URLS):
        yield quote(raw, safe=safe)
    yield quote_plus(raw)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        # Inside a longer text that is encoded as a whole (`user:password`) it can begin at three positions; characters
        # that also hold bits of its neighbours are left out.
        for shift, mixed in ((0, 0), (1, 2), (2, 3)):
            yield encode(bytes(shift) + raw).decode()[mixed : (shift + len(raw)) * 8 // 6]
    for line in value.splitlines():
        if len(line) >= _LINE and not line.startswith("-----"):  # not `-----BEGIN PRIVATE KEY-----`
            yield line


class RedactingFilter(logging.Filter):
    """Replaces secrets in log records: message, traceback, stack and what `extra` added. A clean record stays as is."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without secrets."""
        if not _hidden:
            return True
        try:
            message = record.getMessage()
        except Exception:  # arguments that don't fit the message: logging would print both on stderr
            message = f"{record.msg} {record.args!r}"
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1] is not None:
            text = redacted_traceback(record.exc_info[1])
            if text is not None:
                # Formatters print this text; without the exception none can make its own.
                record.exc_info, record.exc_text = None, text
        for name in record.__dict__.keys() - _PLAIN_FIELDS:
            if isinstance(record.__dict__[name], str):
                record.__dict__[name] = redact(record.__dict__[name])
        return True


_PLAIN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) - {"exc_text", "stack_info"}
_FILTER = RedactingFilter()


class _Records:
    """Makes log records without secrets."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        _FILTER.filter(record)
        return record


def install_redaction() -> None:
    """Redact all that this process logs. To call it again, after handlers were added, does no harm.

    A filter on a logger doesn't see what its children log, and one on a handler misses handlers that come later; so
    records are cleaned where they are made. The filter on the loggers of Dagster, dbt and the root, and on their
    handlers, sees what was added to a record afterwards.
    """
    made_by = logging.getLogRecordFactory()
    if not isinstance(made_by, _Records):
        logging.setLogRecordFactory(_Records(made_by))
    for logger in (logging.getLogger(name) for name in (None, "dagster", "dbt")):
        for place in (logger, *logger.handlers):
            place.addFilter(_FILTER)


# -- Settings ---------------------------------------------------------------------------------------------------------


class Secret:
    """A secret value. Printed, formatted or logged it is `***`; `reveal()` gives it.

    Nothing is read before it is revealed. Two are equal if the same setting says the same.
    """

    __slots__ = ("_manager", "_text", "_value", "setting")

    def __init__(self, setting: str, text: str, manager: SecretManager | None = None) -> None:
        """Take the setting's text: a reference, or the value itself.

        Args:
            setting: the environment variable, for messages.
            text: what it says.
            manager: reads `sm://` references; default: with Application Default Credentials.
        """
        self.setting = setting
        self._text = text
        self._value: str | None = None
        self._manager = manager
        if not self._is_reference:
            hide(text)

    @property
    def _is_reference(self) -> bool:
        return self._text.startswith(("sm://", "file://"))

    @property
    def where(self) -> str:
        """The setting and, if its text is one, the reference. Never the value."""
        return f"{self.setting} ({self._text})" if self._is_reference else self.setting

    def reveal(self) -> str:
        """The value, read at the first call.

        Raises:
            ConfigError: the reference is malformed, leads nowhere or may not be read, or the value is empty or too
                short to be hidden.
            Unavailable: Secret Manager doesn't answer.
        """
        if self._value is None:
            value = self._read()
            if not value.strip():
                raise ConfigError(f"{self.where} is empty; it should be a secret")
            if len(value.strip()) < SHORTEST:
                raise ConfigError(
                    f"{self.where} has fewer than {SHORTEST} characters: too short to be a secret, and to be kept out"
                    " of logs"
                )
            hide(value)
            self._value = value
        return self._value

    def _read(self) -> str:
        if self._text.startswith("sm://"):
            return (self._manager or SecretManager()).read(self.setting, self._text)
        return _mounted(self.setting, self._text) if self._is_reference else self._text

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self.setting, self._text) == (other.setting, other._text)

    def __hash__(self) -> int:
        return hash((self.setting, self._text))

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret can't be pickled: read it again from the settings where it is needed")


class Variables(Mapping[str, str]):
    """Environment variables, with `sm://` references followed when a variable is read.

    What comes from Secret Manager is hidden in logs, whatever the setting is.
    """

    def __init__(
        self, environ: Mapping[str, str] | None = None, credentials: Callable[[], Credentials] | None = None
    ) -> None:
        """Read from `environ`, default `os.environ`.

        Args:
            environ: names and texts.
            credentials: makes the credentials for Secret Manager; default: Application Default Credentials.

        Raises:
            ConfigError: DATAOPS_SECRET_MANAGER_ENDPOINT is no URL.
        """
        self._environ = os.environ if environ is None else environ
        self._manager = SecretManager(credentials, self._environ.get("DATAOPS_SECRET_MANAGER_ENDPOINT") or ENDPOINT)

    def __getitem__(self, name: str) -> str:
        """The setting's value.

        Raises:
            KeyError: it isn't set.
            ConfigError: a reference that is malformed, leads nowhere or may not be read.
            Unavailable: Secret Manager doesn't answer.
        """
        text = self._environ[name]
        if not text.startswith("sm://"):
            return text
        value = self._manager.read(name, text)
        hide(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def raw(self, name: str) -> str:
        """What the variable says, references not followed; empty if it isn't set."""
        return self._environ.get(name, "")

    def secret(self, name: str) -> Secret | None:
        """A setting that is a secret, not read yet; None if it is empty or not set."""
        text = self._environ.get(name)
        return Secret(name, text, self._manager) if text else None


def _mounted(setting: str, text: str) -> str:
    path = Path(unquote(text.removeprefix("file://")))
    if not path.is_absolute():
        raise ConfigError(f"{setting} is {text!r}: write an absolute path, like file:///run/secrets/name")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{setting} is {text!r}: there is no such file; is the secret mounted?") from None
    except PermissionError:
        raise ConfigError(
            f"{setting} is {text!r}: user {os.getuid()} may not read this file; correct its mode or its owner"
        ) from None
    except OSError as error:
        raise ConfigError(f"{setting} is {text!r}: this can't be read as a file ({error.strerror})") from None
    if len(content) > LARGEST:
        raise ConfigError(f"{setting} is {text!r}: the file has more than {LARGEST} bytes; that is no secret")
    return _as_text(content, f"{setting} is {text!r}")


def _as_text(content: bytes, where: str) -> str:
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # Not chained: that exception carries the content.
        raise ConfigError(f"{where}: its content isn't text in UTF-8; store binary data as base64") from None


# -- Secret Manager ---------------------------------------------------------------------------------------------------

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
                    return _as_text(self._ask(session, where, name), where)
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
        return _short(str(response.json()["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        return _short(response.reason or "")


def _retry_after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def brief(error: Exception) -> str:
    """What an exception says, in one line without secrets and without what else it carries."""
    return _short(str(error.args[0] if error.args else "") or type(error).__name__).rstrip(".")


def _short(text: str) -> str:
    return " ".join(redact(text).split())[:300]
