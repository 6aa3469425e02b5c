"""What the server found out about a project is known until something is committed to it.

The server asks DuckDB the same few things at every statement, and DuckDB compiles each question anew: without this it
is half of the server's work. A commit shows in the files of the project's DuckLake; one that another thread is making
just now may be in the files before others see it, so meanwhile nothing new is remembered.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from local_bigquery.catalog import metadata, row_access, tabledata
from local_bigquery.engine import database
from local_bigquery.jobs import runner
from local_bigquery.settings import settings

Rows = list[tuple[Any, ...]]
Stamp = tuple[tuple[int, int] | None, ...]

_fetch = database.fetch
_answers: defaultdict[str, dict[Any, tuple[Stamp, Rows]]] = defaultdict(dict)
_guard = threading.Lock()
_writing: Counter[int] = Counter()
"""How deep each thread is in what may write."""

_resources: dict[tuple[str, ...], tuple[int, Any]] = {}
_changes: Counter[str] = Counter()
"""How often resources of a kind were saved or deleted."""


def apply() -> None:
    for module, name in ((runner, "_execute"), (database, "execute"), (tabledata, "insert_all")):
        setattr(module, name, _writes(getattr(module, name)))
    _remember_resources()


def fetch(project_id: str, sql: str, params: Sequence[Any] = ()) -> Rows:
    """The rows of a question about what is committed to a project, and about nothing else."""
    key, stamp = (sql, *params), _stamp(project_id)
    known = _answers[project_id].get(key)
    if known and known[0] == stamp:
        return known[1]
    alone = _alone()
    rows = _fetch(sql, list(params))
    if alone and _alone() and _stamp(project_id) == stamp:
        _answers[project_id][key] = stamp, rows
    return rows


def forget(project_id: str) -> None:
    """A project that is gone, or made in another way than by statements."""
    _answers.pop(project_id, None)
    _changes.update(metadata.KINDS.values())


def _stamp(project_id: str) -> Stamp:
    return tuple(_state(f"{project_id}.ducklake{suffix}") for suffix in ("", ".wal"))


def _state(name: str) -> tuple[int, int] | None:
    try:
        found = (settings.data_dir / name).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _alone() -> bool:
    with _guard:
        return not (_writing.keys() - {threading.get_ident()})


@contextmanager
def _in_writing() -> Iterator[None]:
    thread = threading.get_ident()
    with _guard:
        _writing[thread] += 1
    try:
        yield
    finally:
        with _guard:
            _writing[thread] -= 1
            if not _writing[thread]:
                del _writing[thread]


def _writes(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def writing(*args: Any, **options: Any) -> Any:
        with _in_writing():
            return function(*args, **options)

    return writing


def _remember_resources() -> None:
    """Of tables, datasets and so on, which are rows of a table of their own. The server replaces what it changes."""
    list_, secured = metadata.list_, row_access.secured

    def listed(model: type[Any], *keys: str) -> list[Any]:
        return list(_unchanged(metadata.KINDS[model], keys, lambda: list_(model, *keys)))

    metadata.list_ = listed
    row_access.secured = lambda: _unchanged("row_access_policies", ("secured",), secured)
    for name in ("save", "delete"):
        setattr(metadata, name, _counted(getattr(metadata, name)))


def _unchanged(kind: str, keys: Sequence[str], ask: Callable[[], Any]) -> Any:
    changes = _changes[kind]
    known = _resources.get((kind, *keys))
    if known is None or known[0] != changes:
        known = _resources[(kind, *keys)] = changes, ask()
    return known[1]


def _counted(change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def changing(subject: Any, *keys: str) -> Any:
        try:
            return change(subject, *keys)
        finally:
            _changes[metadata.KINDS[subject if isinstance(subject, type) else type(subject)]] += 1

    return changing
