"""Native ODCS fields as rules: required, unique, primaryKey, enum, logicalTypeOptions and slaProperties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dataops_platform.contracts.constraints import (
    check_values_fit,
    read_length,
    read_pattern,
    read_range,
    read_values,
)
from dataops_platform.contracts.custom import custom_properties, read_severity
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import Column, Operator, Rule, RuleKind, Severity, Threshold
from dataops_platform.contracts.naming import DEFAULT_DIMENSIONS, rule_id
from dataops_platform.contracts.partitions import Partitioning
from dataops_platform.contracts.suggest import one_of
from dataops_platform.contracts.tables import TableHead
from dataops_platform.contracts.types import Kind

_HOURS = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
    **dict.fromkeys(("w", "week", "weeks"), 168.0),
}


def native_rule(
    rule_id: str,
    kind: RuleKind,
    columns: Sequence[str],
    place: Place,
    description: str,
    args: Mapping[str, Any] | None = None,
    severity: Severity = Severity.ERROR,
    threshold: Threshold | None = None,
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


def latency_rules(
    contract: Place, heads: Mapping[str, TableHead], partitionings: Mapping[str, Partitioning | None]
) -> Iterator[tuple[str, Rule, Place]]:
    """The rules of a contract's `latency` SLA: for each table named, with where it is declared.

    Args:
        contract: the document.
        heads: the contract's own tables by name.
        partitionings: how each of them is cut by time.
    """
    for entry in contract.at("slaProperties").items():
        custom = custom_properties(entry, "SLA property")
        if entry.get("property") != "latency":
            continue
        severity = read_severity(custom["severity"], Severity.WARNING) if "severity" in custom else Severity.WARNING
        hours = _hours(entry)
        for name in _elements(contract, entry, heads):
            partitioning = partitionings.get(name)
            if partitioning is None:
                message = f"latency is counted from the end of a partition, and `{name}` has none"
                entry.absent(message, "add the customProperty `partitioning` to the table, or remove the latency")
            elif hours is not None:
                what = entry.get("description", f"A partition is delivered within {hours:g} hours of its end.")
                threshold = Threshold(Operator.LESS_EQUAL, (hours,))
                columns = (partitioning.field,)
                identifier = rule_id(entry, "latency")
                yield (
                    name,
                    native_rule(identifier, RuleKind.LATENCY, columns, entry, what, None, severity, threshold),
                    entry,
                )


def _hours(entry: Place) -> float | None:
    value, unit = entry.get("value"), str(entry.get("unit", ""))
    factor = _HOURS.get(unit.lower())
    if factor is None:
        at, what = (entry.at("unit"), f"unit `{unit}` isn't known") if unit else (entry, "the latency has no unit")
        at.problem(what, one_of(unit, ("minutes", "hours", "days", "weeks")))
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        entry.at("value").problem(f"latency `{value}` isn't a number", "write a number and its unit")
        return None
    if isinstance(value, bool) or number < 0:
        entry.at("value").problem(f"latency `{value}` isn't a length of time", "write a number from 0")
        return None
    hours = number * factor
    return int(hours) if hours.is_integer() else hours


def _elements(contract: Place, entry: Place, heads: Mapping[str, TableHead]) -> Iterator[str]:
    """The tables that an SLA is about: those named, or the contract's only one."""
    text = entry.get("element", contract.get("slaDefaultElement"))
    if text is None:
        if len(heads) == 1:
            yield from heads
        else:
            entry.absent("the latency doesn't say which table it is about", "add `element: table.column`")
        return
    at = entry.at("element") if "element" in entry else entry
    for element in str(text).split(","):
        table, _, column = element.strip().partition(".")
        if table not in heads:
            at.absent(f"latency is about `{table}`, which is no table of this contract", one_of(table, heads))
        elif column and column not in heads[table].columns:
            at.absent(f"`{column}` is no column of `{table}`", one_of(column, heads[table].columns))
        else:
            yield table
