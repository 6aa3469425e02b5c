"""The values of settings that refer to secrets: in the environment, in a mounted file or in Secret Manager."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from google.auth.credentials import Credentials

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.secrets.manager import ENDPOINT, SecretManager, as_text
from dataops_platform.secrets.redaction import MASK, SHORTEST, hide

LARGEST = 64 << 10
"""Bytes of a secret: the most that Secret Manager holds. A larger file is a mistake in the setting."""


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
        if not self.is_reference:
            hide(text)

    @property
    def is_reference(self) -> bool:
        """Whether the setting says where the value is, not what it is."""
        return self._text.startswith(("sm://", "file://"))

    @property
    def where(self) -> str:
        """The setting and, if its text is one, the reference. Never the value."""
        return f"{self.setting} ({self._text})" if self.is_reference else self.setting

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
        return _mounted(self.setting, self._text) if self.is_reference else self._text

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
    return as_text(content, f"{setting} is {text!r}")
