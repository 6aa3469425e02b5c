"""Opening the embedded warehouse: one file, one writer at a time, errors in words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.warehouse.base import NoSuchTable
from dataops_platform.warehouse.names import literal

LOCK_WAIT_SECONDS = 15.0
"""How long to wait for another process to release the file before giving up; DATAOPS_LOCK_WAIT in the settings."""

_HOLDER = re.compile(r"held in (.*?) ?\(PID (\d+)\)")
_FILE = re.compile(r'file "([^"]+)"')
_FULL = ("No space left on device", "File too large", "Disk quota exceeded")


def _connect(path: Path, lock_wait: float) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + lock_wait
    new = not path.exists()
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return duckdb.connect(str(path))
        except duckdb.Error as error:
            text = str(error)
            if "lock" in text.lower() and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            full = disk_full(error, path)
            if full is not None and new:
                path.unlink(missing_ok=True)  # the beginning of a file, which could never be opened again
            raise full or ConfigError(_explain(path, text)) from error
        except OSError as error:
            raise ConfigError(
                f"the warehouse {path} can't be created: {error.strerror}. Check DATAOPS_HOME."
            ) from error


def disk_full(error: duckdb.Error, path: Path | None = None) -> ConfigError | None:
    """What to tell the user when the engine had no room to write; None when that isn't what happened.

    Told by the text: the same full disk comes as an IOException from a statement, a TransactionException from COMMIT,
    and a FatalException from a checkpoint.
    """
    text = str(error)
    reason = next((reason for reason in _FULL if reason in text), None)
    if reason is None:
        return None
    named = _FILE.search(text)
    return ConfigError(
        f"the disk of {named[1] if named else path or 'the warehouse'} is full: {reason}."
        " Nothing was half done: make room, then run the same again."
    )


@contextmanager
def _full_disk_in_words(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        full = disk_full(error, path)
        if full is None:
            raise
        raise full from error


def _explain(path: Path, text: str) -> str:
    if "lock" in text.lower():
        holder = _HOLDER.search(text)
        who = f"process {holder[2]}" if holder else "another process"
        return (
            f"the warehouse {path} is in use by {who}. DuckDB has one writer at a time:"
            " wait until that run or query ends, or stop it, then try again."
        )
    if "permission denied" in text.lower() or "read-only" in text.lower():
        return f"the warehouse {path} can't be opened for writing: permission denied. Check DATAOPS_HOME."
    if "not a valid duckdb" in text.lower() or "magic bytes" in text.lower():
        return f"{path} is not a DuckDB file. Move it away, or set DATAOPS_HOME to another folder."
    return f"the warehouse {path} can't be opened: {text.splitlines()[0]}"


@contextmanager
def connect(
    path: Path, memory_limit: str | None = None, lock_wait: float = LOCK_WAIT_SECONDS
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for one piece of work, closed after it so that the file is free for the next process.

    Raises:
        ConfigError: the file can't be opened, or its disk is full; the text says why and what to do.
    """
    connection = _connect(path, lock_wait)
    try:
        if memory_limit is not None:
            # Set, not configured: connections of one process to one file must have the same configuration.
            try:
                connection.execute(f"SET memory_limit = {literal(memory_limit)}")
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise ConfigError(f"DATAOPS_MEMORY_LIMIT {memory_limit!r} can't be used: {reason}") from error
        # Times without a zone in SQL mean UTC, wherever the process runs.
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        # What a full disk keeps from being moved into the file when it is closed stays in the log beside it.
        with _full_disk_in_words(path):
            yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Everything inside commits together, or not at all.

    Raises:
        ConfigError: the disk is full.
    """
    with _full_disk_in_words():
        connection.execute("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            # Some errors have ended the transaction already, or the whole connection: then there is nothing to roll
            # back, and saying so would hide what went wrong.
            with suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def translate(error: duckdb.Error) -> ConfigError | NoSuchTable:
    """A user's failed query in one line."""
    full = disk_full(error)
    if full is not None:
        return full
    text = str(error).split("\n\nLINE")[0].strip()
    if isinstance(error, duckdb.CatalogException) and "does not exist" in text:
        return NoSuchTable(" ".join(text.split()))
    return ConfigError(" ".join(text.split()))
