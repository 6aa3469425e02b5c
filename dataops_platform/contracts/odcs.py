"""Is a document an Open Data Contract Standard contract? Checked against the standard's own JSON Schema.

The validator (jsonschema-rs) takes about 0.1 ms a contract. `schema_errors` turns what it finds into messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs

from dataops_platform.contracts.document import Document, DocumentPath
from dataops_platform.contracts.schema_errors import SchemaError, explain

OLDEST_VERSION = (3, 0, 2)
WRITTEN_VERSION = "v3.2.0"
"""The version of the standard that new contracts are written in."""

_VERSION = re.compile(r"^v(\d+)\.(\d+)\.(\d+)$")
_ROUNDS = 8  # leaving out a broken part can uncover a few more; a document worse than this is given up


@cache
def _schema() -> dict[str, Any]:
    text = (files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _validator() -> Any:
    return jsonschema_rs.validator_for(_schema())


def validate(document: Document) -> bool:
    """Checks a document against the standard and leaves out the parts that break it.

    The problems are added to the document. What is left is valid, so that it can be checked further in the
    same go; `document.incomplete` tells that something was left out.

    Returns:
        Whether there is anything left to read.
    """
    if not isinstance(document.data, dict):
        if not document.problems:
            document.problem(
                (), "isn't a contract: the file holds no mapping", f"start with `apiVersion: {WRITTEN_VERSION}`"
            )
        return False
    if not _version_fits(document):
        return False
    seen: set[tuple[DocumentPath, str]] = set()
    removed: set[DocumentPath] = set()
    for _ in range(_ROUNDS):
        errors = _errors(document, removed)
        if not errors:
            return True
        document.incomplete = True
        for path, message, suggestion in explain([error for error in errors if not _since_removed(error, removed)]):
            if (path, message) not in seen:
                seen.add((path, message))
                document.problem(path, message, suggestion)
        if not document.problems:  # what can't be explained must still not pass
            document.problem(errors[0].path, errors[0].text, "see the Open Data Contract Standard")
        removed.update(_leave_out(document.data, errors))
    return False


def _version_fits(document: Document) -> bool:
    version = document.data.get("apiVersion")
    advice = f"write `apiVersion: {WRITTEN_VERSION}`; v3.0.2 and later v3 versions are read"
    if version is None:
        document.problem((), "`apiVersion` is missing", advice)
        return True
    match = _VERSION.match(str(version))
    if match is None:
        document.problem(("apiVersion",), f"apiVersion `{version}` isn't of the form v3.2.0", advice)
        return True
    number = tuple(map(int, match.groups()))
    if number < OLDEST_VERSION:
        advice = f"move the contract to {WRITTEN_VERSION} of the Open Data Contract Standard; v3.0.2 is the oldest read"
        document.problem(("apiVersion",), f"apiVersion {version} is too old", advice)
        return False
    if number[0] > OLDEST_VERSION[0]:
        document.problem(("apiVersion",), f"apiVersion {version} isn't known", advice)
        return False
    return True


def _errors(document: Document, removed: Collection[DocumentPath]) -> list[SchemaError]:
    found = []
    for raw in _validator().iter_errors(document.data):
        error = SchemaError(
            path=tuple(raw.instance_path),
            keyword=raw.kind.name,
            where=tuple(raw.schema_path),
            instance=raw.instance,
            details=raw.kind.as_dict(),
            text=raw.message,
            root=_schema(),
        )
        if not error.path and error.keyword == "required":
            _supply(document, error.details["property"], removed)
        elif error.path != ("apiVersion",) and not _left_out(document.data, error.path):
            found.append(error)  # the version is judged by `_version_fits`: the schema can't know later ones
    return found


def _supply(document: Document, key: str, removed: Collection[DocumentPath]) -> None:
    """Reports a key missing at the top, and fills it in: the rest of the contract can still be read."""
    if key != "apiVersion" and (key,) not in removed:
        document.problem((), f"`{key}` is missing", f"add `{key}: …` at the top of the file")
    document.data[key] = {"apiVersion": WRITTEN_VERSION, "kind": "DataContract"}.get(key, "")


def _left_out(data: Any, path: DocumentPath) -> bool:
    """Whether a list item on the path was already replaced by None."""
    return any(isinstance(step, int) and _node(data, path[: depth + 1]) is None for depth, step in enumerate(path))


def _since_removed(error: SchemaError, removed: set[DocumentPath]) -> bool:
    """Whether an error has come up only since a wrong value was left out of the same part of the document."""
    return not error.unknown_keys and any(path[: len(error.path)] == error.path for path in removed)


def _leave_out(data: dict[str, Any], errors: Sequence[SchemaError]) -> Iterator[DocumentPath]:
    """Removes what is in error: unknown keys, values of the wrong shape, incomplete list items.

    List items become None instead of vanishing, so that the paths of their neighbours stay true.

    Yields:
        The paths of the keys that were known and had a wrong value.
    """
    causes = [error for error in errors if error.unknown_keys or not error.about_keys]
    for error in causes or errors:
        node = _node(data, error.path)
        for key in error.unknown_keys if isinstance(node, dict) else ():
            node.pop(key, None)
        if not error.unknown_keys and error.path:
            parent, last = _node(data, error.path[:-1]), error.path[-1]
            if isinstance(parent, list) and isinstance(last, int):
                parent[last] = None
            elif isinstance(parent, dict):
                parent.pop(last, None)
                yield error.path


def _node(data: Any, path: DocumentPath) -> Any:
    """The node at `path`; None where it has been left out already."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
        else:
            return None
    return data
