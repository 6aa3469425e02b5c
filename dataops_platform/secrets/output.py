"""Keeping secrets out of what a process writes: its log, and its standard output and error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from dataops_platform.secrets.errors import without_secrets
from dataops_platform.secrets.redaction import knows_secrets, redact


class RedactingFilter(logging.Filter):
    """Replaces secrets in log records: message, traceback, stack and what `extra` added. A clean record stays as is."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without secrets."""
        if not knows_secrets():
            return True
        try:
            message = record.getMessage()
        except Exception:  # arguments that don't fit the message: logging would print both on stderr
            message = f"{record.msg} {record.args!r}"
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1] is not None:
            error = without_secrets(record.exc_info[1])
            record.exc_info = (type(error), error, error.__traceback__)
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


class RedactedStream:
    """A text stream that gets `***` for secrets.

    Each write is looked at for itself: print() hands on every argument whole, and so do logging and tracebacks. A
    secret that is written in pieces is not found.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text without secrets; the number of characters that were taken."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def install_redaction() -> None:
    """Redact all that this process logs and prints. To call it again, after handlers were added, does no harm.

    A filter on a logger doesn't see what its children log, and one on a handler misses handlers that come later; so
    records are cleaned where they are made. The filter on the loggers of Dagster, dbt and the root, and on their
    handlers, sees what was added to a record afterwards.

    What users' own code prints inside a step goes through here too, and from here to Dagster's compute logs, a pod's
    log or a terminal. Out of reach is what their code writes elsewhere: to files of its own, to `sys.stdout.buffer`,
    or by a subprocess or a C library to the file descriptors. Whoever writes there must leave secrets out.
    """
    made_by = logging.getLogRecordFactory()
    if not isinstance(made_by, _Records):
        logging.setLogRecordFactory(_Records(made_by))
    for logger in (logging.getLogger(name) for name in (None, "dagster", "dbt")):
        for place in (logger, *logger.handlers):
            place.addFilter(_FILTER)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactedStream):
            setattr(sys, name, RedactedStream(stream))
