"""Says what the errors of the ODCS JSON Schema mean.

Raw errors tell how the schema is built, not what to do: a quality entry without a threshold fails a `oneOf` of
eight branches, and as a consequence every other key of the entry is "unevaluated". Here each cause becomes one
message with a suggestion, and consequences are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataops_platform.contracts.document import DocumentPath
from dataops_platform.contracts.model import Operator
from dataops_platform.contracts.suggest import closest, one_of

Explanation = tuple[DocumentPath, str, str]
"""Where, what is wrong, what to do."""

_OPERATORS = [operator.value for operator in Operator]
_BY_TYPE = {
    "query": "`type: sql`",
    "engine": "`type: custom`",
    "implementation": "`type: custom`",
    "metric": "`type: library`",
    "arguments": "`type: library`",
    "rule": "`type: library`",
    **dict.fromkeys(_OPERATORS, "`type: library` or `type: sql`; a custom rule has it in its `implementation`"),
}
_KIND_NAMES = {
    "boolean": "true or false",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class SchemaError:
    """One raw error of the validator.

    Attributes:
        path: where in the document.
        keyword: the schema keyword that failed, like `required`.
        where: path of that keyword in the schema.
        instance: the value that failed.
        details: what the validator knows about the failure.
        text: the validator's own words.
        root: the whole schema.
    """

    path: DocumentPath
    keyword: str
    where: tuple[str | int, ...]
    instance: Any
    details: Mapping[str, Any]
    text: str
    root: Mapping[str, Any]

    @property
    def schema(self) -> Any:
        """The schema object whose keyword failed."""
        node: Any = self.root
        for step in self.where[:-1]:
            node = node[step]
        return node

    @property
    def known_keys(self) -> list[str]:
        """Every key that the schema object knows, whatever other keys it depends on."""
        return list(dict.fromkeys(_keys(self.schema, self.root)))

    @property
    def about_keys(self) -> bool:
        """Whether keys are in error that aren't allowed, or that only seem so because something else failed."""
        return self.keyword in ("additionalProperties", "unevaluatedProperties")

    @property
    def unknown_keys(self) -> list[str]:
        """The keys in error that the schema object doesn't know at all."""
        if not self.about_keys:
            return []
        known = set(self.known_keys)
        return [key for key in self.details["unexpected"] if key not in known]


def _keys(schema: Any, root: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    yield from schema.get("properties", ())
    if "$ref" in schema:
        yield from _keys(_resolved(schema["$ref"], root), root)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for branch in schema.get(keyword, ()):
            yield from _keys(branch, root)
    yield from _keys(schema.get("then"), root)
    yield from _keys(schema.get("else"), root)


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    """What a `$ref` stands for; some stand deeper than others, like `#/$defs/ServerSource/LocalServer`."""
    node: Any = root
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def explain(errors: Sequence[SchemaError]) -> list[Explanation]:
    """One message per cause."""
    mistyped = {error.path for error in errors if error.keyword == "type"}
    errors = [error for error in errors if error.keyword == "type" or error.path not in mistyped]
    found: list[Explanation] = []
    typos: set[DocumentPath] = set()  # what misspelled keys were meant to be
    for error in errors:
        for key in error.unknown_keys:
            meant = closest(key, (name for name in error.known_keys if name not in error.instance))
            hint = f"did you mean `{meant}`?" if meant else _where_else(error, key)
            found.append(((*error.path, key), f"unknown property `{key}`", hint))
            if meant:
                typos.add((*error.path, meant))
    for error in errors:
        if not error.about_keys and not _by_typo(error, typos):
            found.extend(_explain(error))
    explained = {path for path, *_ in found}
    for error in errors:
        # Keys that are known but not allowed together with the others: only a cause when nothing else is.
        if error.about_keys and not any(path[: len(error.path)] == error.path for path in explained):
            found.extend(_misplaced(error))
    return list(dict.fromkeys(found))


def _by_typo(error: SchemaError, typos: Collection[DocumentPath]) -> bool:
    """Whether something is missing because its key is misspelled."""
    missing = [error.details["property"], "logicalType"] if error.keyword == "required" else _OPERATORS
    return error.keyword in ("required", "oneOf") and any((*error.path, key) in typos for key in missing)


def _explain(error: SchemaError) -> Iterator[Explanation]:
    match error.keyword:
        case "required":
            yield from _required(error)
        case "enum":
            yield _enum(error)
        case "type":
            yield error.path, f"{_shown(error.instance)} isn't {_types(error.details['types'])}", _type_hint(error)
        case "oneOf" | "anyOf":
            yield from _alternatives(error)
        case "not":
            hint = "remove it: the relationship starts at the property it stands at"
            yield (*error.path, "from"), "`from` isn't allowed in the relationship of a property", hint
        case "pattern":
            hint = "use letters, digits, `_` and `-` only" if error.path[-1:] == ("id",) else ""
            yield error.path, f"{_shown(error.instance)} isn't spelled as it must be", hint or error.text
        case "constant":
            yield error.path, f"{_shown(error.instance)} isn't allowed", error.text
        case _:
            yield error.path, error.text, ""


def _required(error: SchemaError) -> Iterator[Explanation]:
    key, instance = error.details["property"], error.instance
    if key in ("map", "dimensions") and "logicalType" not in instance:
        # Without a logicalType every `if` on it holds, and those two `then` ask for more keys.
        yield error.path, "`logicalType` is missing", "add it, for example `logicalType: string`"
    elif key == "metric" and "rule" in instance:
        yield error.path, "`rule` is no longer part of the standard", "rename it to `metric` (since v3.1.0)"
    else:
        yield error.path, f"`{key}` is missing", f"add `{key}: …`"


def _enum(error: SchemaError) -> Explanation:
    name = error.path[-1] if error.path and isinstance(error.path[-1], str) else "value"
    options = [str(option) for option in error.details["options"]]
    message = f"{name} {_shown(error.instance)} isn't known"
    if name == "dimension" and error.instance == "validity":
        return error.path, message, "the standard calls validity `conformity`"
    return error.path, message, one_of(error.instance, options)


def _types(types: Sequence[str]) -> str:
    return " or ".join(_KIND_NAMES.get(kind, kind) for kind in types)


def _type_hint(error: SchemaError) -> str:
    types, value = error.details["types"], error.instance
    if "boolean" in types and isinstance(value, str):
        return f"write {'true' if value.lower() in ('yes', 'on', 'y', 'true', '1') else 'false'} without quotes"
    if "string" in types and isinstance(value, int | float):
        return f"put it in quotes: '{value}'"
    if "array" in types:
        return f"make it a list: [{value}]" if not isinstance(value, dict) else "start each item with `- `"
    return f"write {_types(types)}"


def _alternatives(error: SchemaError) -> Iterator[Explanation]:
    place = error.where[1] if len(error.where) > 1 and error.where[0] == "$defs" else ""
    if place == "DataQualityOperators":
        yield from _operators(error)
    elif place == "RelationshipBase":
        name = error.path[-1]
        yield error.path, f"{_shown(error.instance)} isn't a reference", f"write `{name}: table.column`"
    elif place == "RelationshipSchemaLevel":
        hint = "make both a text (`table.column`) or both a list of as many"
        yield error.path, "`from` and `to` aren't of the same form", hint
    elif error.path == ("team",):
        yield error.path, "team isn't a mapping", "write `team: {name: …}`"
    else:
        yield error.path, f"{_shown(error.instance)} isn't of a form that is allowed here", ""


def _operators(error: SchemaError) -> Iterator[Explanation]:
    given = [key for key in error.instance if key in _OPERATORS]
    if not given:
        hint = f"add one of {', '.join(_OPERATORS)}, for example `mustBe: 0`"
        yield error.path, "the rule has no threshold", hint
    elif len(given) > 1:
        hint = "keep one, or use mustBeBetween"
        yield error.path, f"the rule has more than one threshold: {', '.join(given)}", hint
    else:
        form = "two different numbers, like [1, 10]" if given[0].endswith("Between") else "a number"
        value = _shown(error.instance[given[0]])
        yield (*error.path, given[0]), f"{given[0]} {value} isn't {form}", f"write `{given[0]}` with {form}"


def _misplaced(error: SchemaError) -> Iterator[Explanation]:
    kind = error.instance.get("type")
    for key in error.details["unexpected"]:
        belongs = _BY_TYPE.get(key)
        if belongs is None:
            yield (*error.path, key), f"`{key}` isn't allowed here", "remove it"
        elif kind is None and "metric" not in error.instance:
            hint = "add `metric: …`, `type: sql` with a query, or `type: custom` with an engine"
            yield error.path, "the rule says neither `type` nor `metric`", hint
            return
        else:
            yield (
                (*error.path, key),
                f"`{key}` isn't allowed in a rule of type {kind or 'library'}",
                f"it belongs to {belongs}",
            )


def _where_else(error: SchemaError, key: str) -> str:
    """Where a key belongs that is unknown here."""
    options = error.root["$defs"]["SchemaBaseProperty"]["allOf"]
    in_options = {
        name
        for branch in options
        for name in branch.get("then", {}).get("properties", {}).get("logicalTypeOptions", {}).get("properties", ())
    }
    if key in in_options and "logicalTypeOptions" not in error.path:
        return "it belongs below `logicalTypeOptions`"
    return "remove it, or move it to `customProperties`"


def _shown(value: Any) -> str:
    """A value as it can be recognised in a file, on one short line."""
    text = f"`{value}`" if isinstance(value, str) else str(value).replace("True", "true").replace("False", "false")
    return text if len(text) <= 60 else f"{text[:57]}..."
