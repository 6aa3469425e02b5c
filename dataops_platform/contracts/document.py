"""A YAML file as plain data, with a way back from every node to its line.

The file is composed into nodes by libyaml and turned into data here instead of by PyYAML's constructor, which
is three times slower, would drop duplicate keys, and reads YAML 1.1: there `NO` is false, `12:30` is 750 and
`2013-01-01` is a date object. This reader follows the YAML 1.2 core schema, where all three are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs leave it out

from dataops_platform.contracts.problems import Problem

DocumentPath = tuple[str | int, ...]
"""Keys and indexes from the root of a document to a node."""

_MERGE = "tag:plain:merge"
_PLAIN = "tag:plain"
_TEXT = "tag:yaml.org,2002:str"
_TYPED = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
_COLLECTIONS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})

_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_NUMBER_STARTS = frozenset("+-.0123456789")


class _Composer(CParser):
    """Composes nodes without PyYAML's resolver: only remembers whether a scalar was written plain."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            if not implicit[0]:
                return _TEXT
            return _MERGE if value == "<<" else _PLAIN
        return "tag:yaml.org,2002:map" if kind is yaml.MappingNode else "tag:yaml.org,2002:seq"

    def descend_resolver(self, parent: object, index: object) -> None:
        """Nothing to keep: tags don't depend on the place."""

    def ascend_resolver(self) -> None:
        """See `descend_resolver`."""


def path_text(path: DocumentPath) -> str:
    """A document path in the spelling of messages: `schema[0].properties[2].logicalType`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


@dataclass(slots=True)
class Document:
    """A contract file as data, and the problems found in it so far.

    Attributes:
        file: where it was read from.
        data: dicts, lists, str, int, float, bool and None; None as a whole when the YAML couldn't be read.
        problems: what is wrong, in the order found.
        incomplete: parts were left out because they break the ODCS schema. What seems to be missing may
            just be misspelled, so nothing is reported as missing any more (see `Place.absent`).
    """

    file: Path
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    incomplete: bool = False
    _root: yaml.Node | None = None
    _located: dict[DocumentPath, tuple[Any, yaml.Node | None]] = field(default_factory=dict)

    def line(self, path: DocumentPath) -> int:
        """The 1-based line of a node: that of its key, or of the start of a list item.

        A path that leaves the document gives the line of the deepest node that exists.
        """
        return 1 if self._root is None else int(self._locate(path)[0].line) + 1

    def _locate(self, path: DocumentPath) -> tuple[Any, yaml.Node | None]:
        """The mark and the node at `path`; no node when the path leaves the document."""
        if (known := self._located.get(path)) is not None:
            return known
        if not path:
            found: tuple[Any, yaml.Node | None] = (self._root.start_mark, self._root) if self._root else (None, None)
        else:
            mark, parent = self._locate(path[:-1])
            found = (parent is not None and _child(parent, path[-1])) or (mark, None)
        self._located[path] = found
        return found

    def problem(self, path: DocumentPath, message: str, suggestion: str = "") -> None:
        """Records something wrong at `path`."""
        self.problems.append(Problem(self.file, self.line(path), path_text(path), message, suggestion))


def _child(node: yaml.Node, step: str | int) -> tuple[Any, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode):
        if isinstance(step, int) and step < len(node.value):
            item = node.value[step]
            return item.start_mark, item
        return None
    if not isinstance(node, yaml.MappingNode):
        return None
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.value == step:
            return key.start_mark, value
        if key.tag == _MERGE:
            merged.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
    for source in merged:
        if (found := _child(source, step)) is not None:
            return found
    return None


def parse_document(text: str, file: Path) -> Document:
    """Reads one YAML document; anything wrong with it as YAML is among the document's problems."""
    document = Document(file)
    try:
        root = _Composer(text).get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        message, hint = f"isn't valid YAML: {what}", "check the indentation, colons and quotes near here"
        if "another document" in what:
            message, hint = "the file holds more than one YAML document", "write each contract to a file of its own"
        document.problems.append(Problem(file, mark.line + 1 if mark else 1, "", message, hint))
        return document
    document._root = root
    if root is not None:
        document.data = _Builder(document).value(root, ())
    return document


def read_document(file: Path) -> Document:
    """Reads one YAML file; anything wrong with it is among the document's problems."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"isn't UTF-8 text (byte {error.start})"
        return Document(file, problems=[Problem(file, 1, "", message, "save the file as UTF-8")])
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        return Document(file, problems=[Problem(file, 1, "", message, "check the path and its permissions")])
    return parse_document(text, file)


class _Builder:
    """Turns nodes into data."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.done: dict[int, Any] = {}  # by node: an alias means the same data again, built once
        self.open: set[int] = set()

    def value(self, node: yaml.Node, path: DocumentPath) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        known = id(node)
        if known in self.done:
            return self.done[known]
        if known in self.open:
            self.document.problem(path, "an alias stands inside what it refers to", "write the value out")
            return None
        if node.tag not in _COLLECTIONS:
            self.document.problem(path, f"the YAML tag {node.tag} isn't supported", "remove the tag")
        self.open.add(known)
        if isinstance(node, yaml.SequenceNode):
            result: Any = [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            result = self.mapping(node, path)
        self.open.discard(known)
        self.done[known] = result
        return result

    def mapping(self, node: yaml.Node, path: DocumentPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                value = self.value(value_node, (*path, "<<"))
                for source in reversed(value if isinstance(value, list) else [value]):
                    if isinstance(source, dict):
                        merged |= source
                    else:
                        self.document.problem(path, "`<<` merges mappings only", "refer to a mapping")
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.report(key_node, path, "a key is a list or a mapping", "use a text as the key")
                continue
            key = str(key_node.value)
            if key in result:
                message = f"`{key}` is given twice, first on line {self.document.line((*path, key))}"
                self.report(key_node, (*path, key), message, "keep one of them")
                continue
            result[key] = self.value(value_node, (*path, key))
        return {**merged, **result} if merged else result

    def report(self, key: yaml.Node, path: DocumentPath, message: str, suggestion: str) -> None:
        """Like `Document.problem`, for keys that have no path of their own."""
        line = key.start_mark.line + 1
        self.document.problems.append(Problem(self.document.file, line, path_text(path), message, suggestion))

    def scalar(self, node: yaml.Node, path: DocumentPath) -> Any:
        text, tag = node.value, node.tag
        if tag == _TEXT:
            return text
        if tag in (_PLAIN, _MERGE) or tag in _TYPED:
            if text in _CONSTANTS:
                return _CONSTANTS[text]
            if text[0] not in _NUMBER_STARTS:
                return text
            if _INTEGER.fullmatch(text):
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            if _FLOAT.fullmatch(text):
                number = float(text if text[-1].lower() not in "fn" else "nan")  # .inf and .nan end so
                if math.isfinite(number):
                    return number
                self.document.problem(path, f"{text} isn't a number a contract can hold", "leave the key out")
                return None
            return text
        self.document.problem(path, f"the YAML tag {tag} isn't supported", "remove the tag, or quote the value")
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """A node of a document: its value, and how to complain about it."""

    document: Document
    path: DocumentPath
    value: Any

    @classmethod
    def root(cls, document: Document) -> Place:
        """The document as a whole."""
        return cls(document, (), document.data)

    @property
    def line(self) -> int:
        """The node's 1-based line."""
        return self.document.line(self.path)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value below `key`; null counts as not given."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return default if value is None else value

    def at(self, key: str) -> Place:
        """The node below `key`; its value is None when there is none."""
        return Place(self.document, (*self.path, key), self.get(key))

    def items(self) -> Iterator[Place]:
        """The items of a list. Items left out because they break the ODCS schema (None) are passed over."""
        for index, value in enumerate(self.value if isinstance(self.value, list) else ()):
            if value is not None:
                yield Place(self.document, (*self.path, index), value)

    def problem(self, message: str, suggestion: str = "") -> None:
        """Records something wrong here."""
        self.document.problem(self.path, message, suggestion)

    def absent(self, message: str, suggestion: str = "") -> None:
        """Records that something is missing, unless it may just have been left out (`Document.incomplete`)."""
        if not self.document.incomplete:
            self.problem(message, suggestion)
