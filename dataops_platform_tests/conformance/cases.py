"""Definition files as Great Expectations has them: one expectation, data sets, and tests with their outcomes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Unreadable(Exception):
    """There are no definitions; the message says where."""


@dataclass(frozen=True)
class Dataset:
    """Columns with their values, and what types some engines give them.

    Attributes:
        others: further tables of the test, by name.
    """

    data: Mapping[str, Sequence[Any]]
    schemas: Mapping[str, Mapping[str, str]]
    others: Mapping[str, Mapping[str, Sequence[Any]]]


@dataclass(frozen=True)
class Case:
    """One test: an expectation with its arguments, and what must come of it.

    Attributes:
        only_for: engines that the test is for; none: all.
        suppressed_for: engines that it isn't for.
    """

    expectation: str
    title: str
    arguments: Mapping[str, Any]
    out: Mapping[str, Any]
    error: bool
    only_for: frozenset[str]
    suppressed_for: frozenset[str]
    file: Path


def read(folder: Path, unreadable: list[str]) -> Iterator[tuple[Dataset, list[Case]]]:
    """The data sets of all JSON files below a folder, with their tests.

    Args:
        unreadable: gets a line for each file, or data set, that isn't in the format; the others are read.

    Raises:
        Unreadable: there is no JSON file.
    """
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise Unreadable(f"{folder}: there is no JSON file in it")
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            unreadable.append(f"{file}: can't be read as JSON: {error}")
            continue
        if not isinstance(content, dict) or not isinstance(content.get("datasets"), list):
            unreadable.append(f"{file}: isn't a definition: it has no list of `datasets`")
            continue
        for number, item in enumerate(content["datasets"]):
            try:
                found = _dataset(item), [_case(content["expectation_type"], t, item, file) for t in item["tests"]]
            except (KeyError, TypeError, AttributeError) as error:
                what = f"{type(error).__name__}: {error}"
                unreadable.append(f"{file}: data set {number} isn't in the format ({what})")
            else:
                yield found


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def safe(name: str) -> str:
    """A column's name as a table of ours may have it."""
    return name if _NAME.fullmatch(name) else "c_" + re.sub(r"[^A-Za-z0-9_]", "_", name)


def _renamed(arguments: Any) -> Any:
    """Arguments with the columns they name as they are called here."""
    if not isinstance(arguments, dict):
        return {}
    changed = dict(arguments)
    for key in ("column", "column_A", "column_B"):
        if isinstance(changed.get(key), str):
            changed[key] = safe(changed[key])
    for key in ("column_list", "column_set"):
        if isinstance(changed.get(key), list):
            changed[key] = [safe(name) if isinstance(name, str) else name for name in changed[key]]
    return changed


def _dataset(item: Mapping[str, Any]) -> Dataset:
    data, others = item["data"], {}
    if isinstance(data, list):  # several tables: the first is the one that is looked at
        others = {other["dataset_name"]: other["data"] for other in data[1:]}
        item, data = data[0], data[0]["data"]
    schemas = item.get("schemas") or {}
    return Dataset(
        {safe(name): values for name, values in data.items()},
        {
            engine: {safe(name): kind for name, kind in types.items()}
            for engine, types in schemas.items()
            if isinstance(types, dict)
        },
        others,
    )


def _engines(test: Mapping[str, Any], item: Mapping[str, Any], key: str) -> frozenset[str]:
    """What a test says of engines, or else its data set."""
    named = test.get(key) or item.get(key) or ()
    return frozenset([named] if isinstance(named, str) else named)


def _case(expectation: str, test: Mapping[str, Any], item: Mapping[str, Any], file: Path) -> Case:
    arguments = test.get("in", test.get("kwargs")) or {}
    return Case(
        expectation=expectation,
        title=str(test.get("title", "")),
        arguments=_renamed(arguments),
        out=test.get("out") or {},
        error=bool(test.get("error")) or "traceback_substring" in (test.get("out") or {}),
        only_for=_engines(test, item, "only_for"),
        suppressed_for=_engines(test, item, "suppress_test_for"),
        file=file,
    )
