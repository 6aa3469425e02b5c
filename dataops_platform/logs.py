"""The process's log: text for people, or one JSON object a line as Cloud Logging reads them.

Cloud Logging takes some fields of such a line for itself: `severity`, `message`, `time`,
`logging.googleapis.com/labels` and `logging.googleapis.com/sourceLocation`. The others stay what they are
(`jsonPayload`), and can be searched for.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.secrets import redact
from dataops_platform.secrets.output import RedactedStream

VARIABLE = "DATAOPS_LOG_FORMAT"
FORMATS = ("text", "json")
LOGGER = "dataops"
"""The platform's own logger, and the parent of its others."""

_FOLDERS = ("raw", "staging", "transformed", "production")
_DAGSTER = ("dagster", "dagster.code_server", "dagster.daemon")


def log_format(environ: Mapping[str, str]) -> str:
    """What DATAOPS_LOG_FORMAT says: text (default) or json.

    Raises:
        ConfigError: it says something else.
    """
    text = environ.get(VARIABLE) or FORMATS[0]
    if text not in FORMATS:
        raise ConfigError(f"{VARIABLE} is {text!r}; use one of {', '.join(FORMATS)}")
    return text


class CloudFormatter(logging.Formatter):
    """One JSON object a line. What `extra={"fields": {…}}` adds, and what Dagster says of a run, become its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        # What is added under a name that has a meaning already must not replace it.
        entry = {name: value for name, value in _fields(record) if value is not None}
        labels = {"logger": record.name} | {
            name: str(entry[name]) for name in ("run_id", "table", "partition") if name in entry
        }
        entry |= {
            "severity": _severity(record.levelno),
            "message": self._message(record),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "logging.googleapis.com/labels": labels,
            "logging.googleapis.com/sourceLocation": {
                "file": record.pathname,
                "line": str(record.lineno),
                "function": record.funcName,
            },
        }
        return redact(json.dumps(entry, ensure_ascii=False, default=str))

    def _message(self, record: logging.LogRecord) -> str:
        """With the traceback: Error Reporting looks for it there."""
        # Of a sensor or a schedule Dagster puts its name, which is a field, before what it says.
        text = _instigated(record).get("orig_message") or record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return f"{text}\n{record.stack_info}" if record.stack_info else text


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    meta = getattr(record, "dagster_meta", None)
    if isinstance(meta, Mapping):
        yield "run_id", meta.get("run_id")
        yield "job", meta.get("job_name")
        yield "step", meta.get("step_key")
        event = meta.get("dagster_event")
        yield "event", getattr(event, "event_type_value", None)
        # Of a check's verdict the event itself doesn't say what it is about.
        about = next((item for item in (event, getattr(event, "event_specific_data", None)) if _key(item)), None)
        yield "table", _key(about) or _table(meta.get("step_key"))
        yield "rule", getattr(about, "check_name", None)
        yield "partition", getattr(about, "partition", None) or _partitions(meta.get("job_tags"))
    yield "instigator", _instigated(record).get("name")
    fields = getattr(record, "fields", None)
    if isinstance(fields, Mapping):
        yield from fields.items()


def _instigated(record: logging.LogRecord) -> Mapping[str, Any]:
    """What Dagster says of a record of a sensor or a schedule; empty for others."""
    meta = getattr(record, "dagster_meta", None)
    return meta if isinstance(meta, Mapping) and "repository_name" in meta else {}


def _key(event: Any) -> str | None:
    key = getattr(event, "asset_key", None)
    return None if key is None else ".".join(key.path)


def _table(step: Any) -> str | None:
    """What a step is about, where its name tells: `staging__orders__checks`."""
    folder, _, name = str(step or "").removesuffix("__checks").partition("__")
    return f"{folder}.{name}" if name and folder in _FOLDERS else None


def _partitions(tags: Any) -> str | None:
    """Those of a run."""
    if not isinstance(tags, Mapping):
        return None
    first = tags.get("dagster/asset_partition_range_start", tags.get("dagster/partition"))
    last = tags.get("dagster/asset_partition_range_end", first)
    return first if first == last else f"{first}..{last}"


def _severity(level: int) -> str:
    for floor, name in (
        (logging.CRITICAL, "CRITICAL"),
        (logging.ERROR, "ERROR"),
        (logging.WARNING, "WARNING"),
        (logging.INFO, "INFO"),
        (logging.DEBUG, "DEBUG"),
    ):
        if level >= floor:
            return name
    return "DEFAULT"


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment: others may have put another stream there.

    Where that is the process's own, it writes past Dagster's capture of a step's output: that one puts a file under the
    descriptor, and lets a `tail` write what is in it to where it belongs. Ending it with the run, it loses what the
    `tail` didn't come to: the last lines, which say why the run failed.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        _own_stderr()  # before a capture begins

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        try:
            own = sys.stderr.fileno() == _STDERR
        except (AttributeError, OSError, ValueError):  # none, closed, or in memory
            own = False
        return _own_stderr() if own else sys.stderr


_STDERR = 2


@functools.cache
def _own_stderr() -> TextIO:
    """What the process's standard error is when this is first asked for; one for the process, never closed."""
    try:
        copy = os.dup(_STDERR)
    except OSError:  # it was started without one
        return open(os.devnull, "w")
    stream = os.fdopen(copy, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    return cast(TextIO, RedactedStream(stream))


def handler(format: str) -> logging.Handler:
    """A handler that writes to standard error in this format."""
    made = _Stderr()
    made.setFormatter(CloudFormatter() if format == "json" else logging.Formatter("%(levelname)s %(message)s"))
    return made


def install_logs(format: str) -> None:
    """Have this process log in this format: the platform's loggers, and with `json` all others, Dagster's included.

    To call it again does no harm, and handlers that came since get the format, too.
    """
    own = logging.getLogger(LOGGER)
    own.setLevel(logging.INFO)
    own.propagate = False
    own.handlers = [handler(format)]
    if format != "json":
        return
    root = logging.getLogger()
    if not root.handlers:  # libraries' warnings would be plain text
        root.addHandler(handler(format))
    for logger in (root, *map(logging.getLogger, _DAGSTER)):
        for found in logger.handlers:
            if isinstance(found, logging.StreamHandler) and not isinstance(found, logging.FileHandler):
                found.setFormatter(CloudFormatter())
