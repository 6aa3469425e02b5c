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


def _connect(path: Path, lock_wait: float) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + lock_wait
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return duckdb.connect(str(path))
        except duckdb.Error as error:
            text = str(error)
            if "lock" in text.lower() and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise ConfigError(_explain(path, text)) from error
        except OSError as error:
            raise ConfigError(
                f"the warehouse {path} can't be created: {error.strerror}. Check DATAOPS_HOME."
            ) from error


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
        ConfigError: the file can't be opened; the text says why and what to do.
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
        yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Everything inside commits together, or not at all."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        # A failed statement has already aborted the transaction on some errors; then there is nothing to roll back.
        with suppress(duckdb.TransactionException):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def translate(error: duckdb.Error) -> ConfigError | NoSuchTable:
    """A user's failed query in one line."""
    text = str(error).split("\n\nLINE")[0].strip()
    if isinstance(error, duckdb.CatalogException) and "does not exist" in text:
        return NoSuchTable(" ".join(text.split()))
    return ConfigError(" ".join(text.split()))
