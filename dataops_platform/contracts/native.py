"""Native ODCS fields of columns as rules: required, unique, primaryKey, enum and logicalTypeOptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dataops_platform.contracts.constraints import (
    check_values_fit,
    read_format,
    read_length,
    read_pattern,
    read_range,
    read_values,
)
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import Column, Rule, RuleKind, Scope, Severity, Threshold
from dataops_platform.contracts.naming import DEFAULT_DIMENSIONS
from dataops_platform.contracts.tables import TableHead
from dataops_platform.contracts.types import Kind


def native_rule(
    rule_id: str,
    kind: RuleKind,
    columns: Sequence[str],
    place: Place,
    description: str,
    args: Mapping[str, Any] | None = None,
    severity: Severity = Severity.ERROR,
    threshold: Threshold | None = None,
    scope: Scope = Scope.PARTITION,
) -> Rule:
    """A rule with the dimension of its kind that allows no failing row, unless told otherwise."""
    dimension = DEFAULT_DIMENSIONS[kind]
    assert dimension is not None  # only queries have none, and those are never native
    return Rule(
        id=rule_id,
        kind=kind,
        dimension=dimension,
        severity=severity,
        description=description,
        columns=tuple(columns),
        args=MappingProxyType(dict(args or {})),
        threshold=threshold or Threshold(),
        scope=scope,
        line=place.line,
    )


def column_rules(head: TableHead) -> Iterator[tuple[Rule, Place]]:
    """The rules that a table's columns and primary key imply, with where each is declared."""
    for name, place in head.properties.items():
        yield from _column(head.columns[name], place)
    if head.primary_key:
        place = head.properties[head.primary_key[0]].at("primaryKey")
        what = f"No two rows have the same {', '.join(head.primary_key)}."
        yield native_rule("primary_key", RuleKind.DUPLICATES, head.primary_key, place, what), place


def _column(column: Column, place: Place) -> Iterator[tuple[Rule, Place]]:
    name, options = column.name, place.at("logicalTypeOptions")

    def rule(
        suffix: str, kind: RuleKind, at: Place, what: str, args: Mapping[str, Any] | None = None
    ) -> tuple[Rule, Place]:
        return native_rule(f"{name}_{suffix}", kind, (name,), at, what, args), at

    if column.required:
        at = place.at("required" if place.get("required") else "primaryKey")
        yield rule("required", RuleKind.NOT_NULL, at, f"Every row has a {name}.")
    bounds = read_range(options, column)
    if bounds is not None:
        yield rule("range", RuleKind.RANGE, options, f"{name} is within its bounds.", bounds)
    lengths = read_length(options, column)
    if lengths is not None:
        yield rule("length", RuleKind.LENGTH, options, f"{name} has an allowed length.", lengths)
    pattern = read_pattern(options.at("pattern"), column)
    if pattern is not None:
        yield rule("pattern", RuleKind.PATTERN, options.at("pattern"), f"{name} is spelled as it must be.", pattern)
    form = read_format(options.at("format"), column, native=True)
    if form is not None:
        what = f"{name} has the form of {form['format']}."
        yield rule("format", RuleKind.FORMAT, options.at("format"), what, form)
    allowed = place.at("enum")
    if allowed.value is not None:
        entries = [entry.at("value") for entry in allowed.items()]
        values = read_values(entries, column, "allowed value")
        if values is not None:
            check_values_fit(zip(entries, values, strict=True), bounds, lengths)
            yield rule(
                "allowed", RuleKind.IN_SET, allowed, f"{name} is one of the allowed values.", {"values": tuple(values)}
            )
    if place.get("unique"):
        if column.type.kind is Kind.JSON:
            place.at("unique").problem(f"JSON column `{name}` can't be unique", "remove `unique`")
        else:
            yield rule("unique", RuleKind.DUPLICATES, place.at("unique"), f"No two rows have the same {name}.")
