"""Errors that show no secrets, for whoever writes down their text and their traceback."""

from __future__ import annotations

import traceback
from typing import TypeVar

from dataops_platform.secrets.redaction import knows_secrets, redact

E = TypeVar("E", bound=BaseException)


def without_secrets(error: E) -> E | Exception:
    """The error itself, or, if its text, its traceback or what led to it shows a secret, a copy with `***`.

    The copy's type has the name of the error's, but isn't it: only that type's own code could make one, and might show
    the secret again. It has the error's traceback, and copies of what led to it.
    """
    if not knows_secrets() or _redacted_traceback(error) is None:
        return error
    copy = _copy(error, {})
    # A line of source code in the traceback may hold a secret, too: then the traceback becomes text.
    text = _redacted_traceback(copy)
    return copy if text is None else _named(error, f"{copy}\n{text}")


def _redacted_traceback(error: BaseException) -> str | None:
    """The traceback as text with `***` for secrets; None if there was none in it."""
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    clean = redact(text)
    return None if clean == text else clean


def _copy(error: BaseException, done: dict[int, Exception]) -> Exception:
    if id(error) in done:  # errors can lead to each other
        return done[id(error)]
    text = str(traceback.TracebackException(type(error), error, None))  # also where the error's own __str__ fails
    copy = done[id(error)] = _named(error, redact(text))
    copy.__traceback__ = error.__traceback__
    for note in getattr(error, "__notes__", ()):
        copy.add_note(redact(str(note)))
    led_to_it = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    copy.__cause__ = None if led_to_it is None else _copy(led_to_it, done)
    return copy


def _named(error: BaseException, text: str) -> Exception:
    """An exception with this text and the name of the error's type."""
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made: Exception = type(kind.__name__, (Exception,), names)(text)
    return made
