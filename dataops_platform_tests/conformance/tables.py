"""Expectations about a table: its rows, columns and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataops_platform_tests.conformance.columns import Typed, logical
from dataops_platform_tests.conformance.rules import (
    Translation,
    Unsupported,
    bounds_of,
    column_of,
    thresholds,
)


def row_count(arguments: dict[str, Any], table: Typed) -> Translation:
    if "value" in arguments:
        low = high = arguments["value"]
    else:
        low, high = bounds_of(arguments)
    entries = [
        {"id": f"rule_{number}", "metric": "rowCount", **threshold}
        for number, threshold in enumerate(thresholds(low, high))
    ]
    return Translation(rules=entries, observes=True)


def same_count(arguments: dict[str, Any], table: Typed) -> Translation:
    implementation = {"rule": "reconcile", "function": "rowCount", "with": arguments["other_table_name"], "mustBe": 0}
    return Translation(rules=[{"id": "rule", "type": "custom", "engine": "dataops", "implementation": implementation}])


def schema(declared: Mapping[str, str], only_missing: bool) -> Translation:
    implementation = {"rule": "schema", "mustBe": 0}
    return Translation(
        rules=[{"id": "rule", "type": "custom", "engine": "dataops", "implementation": implementation}],
        declared=declared, only_missing=only_missing,
    )  # fmt: skip


def exists(arguments: dict[str, Any], table: Typed) -> Translation:
    if arguments.get("column_index") is not None:
        raise Unsupported("the order of columns: they are found by name")
    name = str(arguments.get("column"))
    return schema({name: table.types.get(name, "string")}, True)


def column_set(arguments: dict[str, Any], table: Typed) -> Translation:
    names = arguments.get("column_set")
    if names is None:
        raise Unsupported("no set of columns")
    return schema({name: table.types.get(name, "string") for name in names}, arguments.get("exact_match") is False)


def of_type(arguments: dict[str, Any], table: Typed) -> Translation:
    return of_types(arguments | {"type_list": [arguments.get("type_")]}, table)


def of_types(arguments: dict[str, Any], table: Typed) -> Translation:
    """A contract declares one type: of those given the column's own, if it is among them."""
    column, given = column_of(arguments, table), arguments.get("type_list")
    if not isinstance(given, list):
        raise Unsupported("no list of types")
    kinds = {kind for name in given for kind in logical(str(name))}
    if not kinds:
        raise Unsupported(f"types {', '.join(map(str, given))} are one engine's own")
    kind = table.types[column] if table.types[column] in kinds else min(kinds)
    return schema(dict(table.types) | {column: kind}, False)
