"""ODCS `quality` entries as rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from dataops_platform.contracts.constraints import (
    BOUNDS,
    LENGTHS,
    check_keys,
    read_format,
    read_length,
    read_pattern,
    read_range,
    read_values,
)
from dataops_platform.contracts.custom import VENDOR, custom_properties, read_scope, read_severity
from dataops_platform.contracts.custom_rules import About, Found, read_custom
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import Column, Rule, RuleKind, Severity
from dataops_platform.contracts.naming import dimension_of, rule_id
from dataops_platform.contracts.suggest import one_of
from dataops_platform.contracts.tables import TableHead
from dataops_platform.contracts.thresholds import read_threshold
from dataops_platform.contracts.types import Kind


def quality_rules(about: About) -> Iterator[tuple[Rule, Place]]:
    """The rules of a table's `quality` entries and of its columns', with where each is declared."""
    head = about.head
    for name, place in head.properties.items():
        for entry in place.at("quality").items():
            if (rule := _read(entry, about, head.columns[name])) is not None:
                yield rule, entry
    for entry in head.place.at("quality").items():
        if (rule := _read(entry, about, None)) is not None:
            yield rule, entry


def _read(entry: Place, about: About, column: Column | None) -> Rule | None:
    head = about.head
    kind = entry.get("type", "library")
    custom = custom_properties(entry, "quality entry")
    severity = read_severity(entry.at("severity"), Severity.ERROR)
    scope = read_scope(custom.get("scope"))
    match kind:
        case "text":
            return None  # for people
        case "sql":
            found = _sql(entry, head, column)
        case "custom":
            if entry.get("engine") != VENDOR:
                return None  # another tool's
            found = read_custom(entry, about, column, scope)
        case _:
            if "metric" not in entry:
                entry.absent("the rule names no metric", "add `metric: nullValues`, or another")
                return None
            found = _METRICS[entry.get("metric")](entry, head, column)
    if found is None:
        return None
    at = found.threshold_at or entry
    threshold = read_threshold(at, found.kind, at.at("unit") if "unit" in at else entry.at("unit"))
    dimension = dimension_of(entry, found.kind)
    if threshold is None or dimension is None:
        return None
    return Rule(
        id=rule_id(entry, found.fallback_id),
        kind=found.kind,
        dimension=dimension,
        severity=severity,
        description=entry.get("description", "") or entry.get("name", ""),
        columns=found.columns,
        args=MappingProxyType(dict(found.args or {})),
        threshold=threshold,
        scope=scope,
        line=entry.line,
    )


def _needs_column(entry: Place, column: Column | None) -> None:
    if column is None:
        entry.problem(f"metric {entry.get('metric')} is about a column", "move the rule to the `quality` of a property")


def _arguments(entry: Place, known: tuple[str, ...]) -> Place | None:
    """The metric's arguments; None when there are some that it doesn't have."""
    arguments = entry.at("arguments")
    if arguments.value is None or check_keys(arguments, known, f"argument of {entry.get('metric')}"):
        return arguments
    return None


def _null_values(entry: Place, head: TableHead, column: Column | None) -> Found | None:
    if _arguments(entry, ()) is None or column is None:
        _needs_column(entry, column)
        return None
    return Found(RuleKind.NOT_NULL, f"{column.name}_nullValues", (column.name,))


def _missing_values(entry: Place, head: TableHead, column: Column | None) -> Found | None:
    arguments = _arguments(entry, ("missingValues",))
    if arguments is None or column is None:
        _needs_column(entry, column)
        return None
    listed = arguments.at("missingValues")
    sentinels: list[Any] = []
    if listed.value is not None:
        if not isinstance(listed.value, list):
            listed.problem("missingValues isn't a list", f"make it a list: [{listed.value}]")
            return None
        if any(value is not None for value in listed.value):  # null is always missing
            read = read_values(listed.items(), column, "missing value")
            if read is None:
                return None
            sentinels = read
    args = {"sentinels": tuple(sentinels)}
    return Found(RuleKind.MISSING, f"{column.name}_missingValues", (column.name,), args)


def _invalid_values(entry: Place, head: TableHead, column: Column | None) -> Found | None:
    arguments = _arguments(entry, ("validValues", "invalidValues", "pattern", "format", *BOUNDS, *LENGTHS))
    if arguments is None or column is None:
        _needs_column(entry, column)
        return None
    families = [
        name
        for name, keys in {
            "validValues": ("validValues",),
            "invalidValues": ("invalidValues",),
            "pattern": ("pattern",),
            "format": ("format",),
            "bounds": BOUNDS,
            "lengths": LENGTHS,
        }.items()
        if any(key in arguments for key in keys)
    ]
    if len(families) != 1:
        what = f"mixes {' and '.join(families)}" if families else "doesn't say what is valid"
        hint = (
            "write one rule for each"
            if families
            else f"add arguments: validValues, invalidValues, pattern, format, {', '.join((*BOUNDS, *LENGTHS))}"
        )
        (entry.problem if families else entry.absent)(f"the rule {what}", hint)
        return None
    kind, args = _constraint(arguments, column, families[0])
    return None if args is None else Found(kind, f"{column.name}_invalidValues", (column.name,), args)


def _constraint(arguments: Place, column: Column, family: str) -> tuple[RuleKind, Mapping[str, Any] | None]:
    match family:
        case "bounds":
            return RuleKind.RANGE, read_range(arguments, column)
        case "lengths":
            return RuleKind.LENGTH, read_length(arguments, column)
        case "pattern":
            return RuleKind.PATTERN, read_pattern(arguments.at("pattern"), column)
        case "format":
            return RuleKind.FORMAT, read_format(arguments.at("format"), column, native=False)
    kind, what = (RuleKind.IN_SET, "valid value") if family == "validValues" else (RuleKind.NOT_IN_SET, "invalid value")
    listed = arguments.at(family)
    if not isinstance(listed.value, list) or not listed.value:
        listed.problem(f"{family} isn't a list of values", f"make it a list: [{listed.value}]")
        return kind, None
    values = read_values(listed.items(), column, what)
    return kind, None if values is None else {"values": tuple(values)}


def _duplicate_values(entry: Place, head: TableHead, column: Column | None) -> Found | None:
    arguments = _arguments(entry, ("properties",))
    if arguments is None:
        return None
    listed = arguments.at("properties")
    if listed.value is None:
        if column is None:
            hint = "add `arguments: {properties: [column, …]}`, or move the rule to a property"
            entry.absent("the rule doesn't say which columns must be unique", hint)
            return None
        names: tuple[str, ...] = (column.name,)
    elif not isinstance(listed.value, list) or not listed.value:
        listed.problem("properties isn't a list of columns", f"make it a list: [{listed.value}]")
        return None
    else:
        names = tuple(str(item.value) for item in listed.items())
        if not _all_columns(listed, head):
            return None
    for name in names:
        if head.columns[name].type.kind is Kind.JSON:
            entry.problem(f"JSON column `{name}` can't be a key", "use columns whose values can be compared")
            return None
    return Found(RuleKind.DUPLICATES, f"{'_'.join(names)}_duplicateValues", names)


def _all_columns(listed: Place, head: TableHead) -> bool:
    fits = True
    seen: set[str] = set()
    for item in listed.items():
        if str(item.value) not in head.columns:
            item.absent(f"`{item.value}` is no column of `{head.name}`", one_of(item.value, head.columns))
            fits = False
        elif item.value in seen:
            item.problem(f"`{item.value}` is given twice", "name each column once")
            fits = False
        seen.add(str(item.value))
    return fits


def _row_count(entry: Place, head: TableHead, column: Column | None) -> Found | None:
    if _arguments(entry, ()) is None:
        return None
    if column is not None:
        entry.problem("metric rowCount is about the table", "move the rule to the `quality` of the table")
        return None
    return Found(RuleKind.ROW_COUNT, "rowCount")


_METRICS: Mapping[str, Callable[[Place, TableHead, Column | None], Found | None]] = {
    "nullValues": _null_values,
    "missingValues": _missing_values,
    "invalidValues": _invalid_values,
    "duplicateValues": _duplicate_values,
    "rowCount": _row_count,
}


def _sql(entry: Place, head: TableHead, column: Column | None) -> Found | None:
    # sqlglot takes 0.2 s to import: only contracts with SQL pay for it.
    from dataops_platform.contracts.sql import SqlProblem, read_query

    try:
        query = read_query(entry.get("query"), head.name, head.columns, column.name if column else None)
    except SqlProblem as error:
        place = entry.at("query")
        (place.absent if error.may_be_left_out else place.problem)(error.message, error.suggestion)
        return None
    fallback = f"{column.name}_sql" if column else "sql"
    if query.condition is not None:
        return Found(RuleKind.CONDITION, fallback, query.columns, {"condition": query.condition})
    return Found(RuleKind.QUERY, fallback, query.columns, {"query": query.text})
