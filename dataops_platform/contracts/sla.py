"""A contract's `slaProperties` as rules of timeliness: latency, freshness and arrival.

- `latency`: how long a delivery may take: from the end of a partition to its first delivery; where the element is
  another column than the partition's, from that time of a row to its delivery.
- `freshness`: how old the newest value of a column may be.
- `arrival`: how long after its end a partition may still be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dataops_platform.contracts.custom import custom_properties, read_severity
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.model import Operator, Rule, RuleKind, Scope, Severity, Threshold
from dataops_platform.contracts.naming import rule_id
from dataops_platform.contracts.native import native_rule
from dataops_platform.contracts.partitions import Cut, NamedPartitioning
from dataops_platform.contracts.suggest import one_of
from dataops_platform.contracts.tables import TableHead
from dataops_platform.contracts.types import Kind

_HOURS = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
    **dict.fromkeys(("w", "week", "weeks"), 168.0),
}
_LONGEST = 1000 * 366 * 24
"""Hours."""
_KINDS = {
    "latency": RuleKind.LATENCY,
    "freshness": RuleKind.FRESHNESS,
    "arrival": RuleKind.ARRIVAL,
}
_MOMENTS = (Kind.DATE, Kind.DATETIME, Kind.TIMESTAMP)


def sla_rules(
    contract: Place, heads: Mapping[str, TableHead], partitionings: Mapping[str, Cut | None]
) -> Iterator[tuple[str, Rule, Place]]:
    """The rules of a contract's SLA: for each table named, with where it is declared.

    Args:
        contract: the document.
        heads: the contract's own tables by name.
        partitionings: how each of them is cut.
    """
    for entry in contract.at("slaProperties").items():
        custom = custom_properties(entry, "SLA property")
        kind = _KINDS.get(entry.get("property"))
        if kind is None:
            continue
        severity = read_severity(custom["severity"], Severity.WARNING) if "severity" in custom else Severity.WARNING
        hours = _hours(entry)
        for name, column in _elements(contract, entry, heads):
            found = _rule(entry, kind, heads[name], column, partitionings.get(name), hours, severity)
            if found is not None:
                yield name, found, entry


def _rule(
    entry: Place,
    kind: RuleKind,
    head: TableHead,
    column: str | None,
    partitioning: Cut | None,
    hours: float | None,
    severity: Severity,
) -> Rule | None:
    threshold, columns, what = Threshold(Operator.LESS_EQUAL, (hours or 0,)), (column or "",), ""
    args: dict[str, Any] = {}
    scope, name = Scope.PARTITION, str(entry.get("property"))
    if kind is RuleKind.FRESHNESS:
        if not _is_moment(entry, head, column, "freshness"):
            return None
        scope = Scope.TABLE
        what = f"The newest {column} is no more than {hours:g} hours old." if hours is not None else ""
    elif kind is RuleKind.LATENCY and column is not None and (partitioning is None or column != partitioning.field):
        if not _is_moment(entry, head, column, "latency"):
            return None
        kind, name = RuleKind.EVENT_LATENCY, f"{column}_latency"
        what = f"Rows are delivered within {hours:g} hours of {column}." if hours is not None else ""
    elif partitioning is None:
        message = f"{name} is counted from the end of a partition, and `{head.name}` has none"
        entry.absent(message, f"add the customProperty `partitioning` to the table, or remove the {name}")
        return None
    elif isinstance(partitioning, NamedPartitioning):
        message = f"{name} is counted from the end of a partition, and those of `{head.name}` are names"
        entry.problem(message, f"use the freshness of a column, or remove the {name}")
        return None
    else:
        columns = (partitioning.field,)
        if kind is RuleKind.ARRIVAL:
            scope, threshold, args = Scope.TABLE, Threshold(), {"hours": hours}
            what = f"Every partition is there {hours:g} hours after its end." if hours is not None else ""
        elif hours is not None:
            what = f"A partition is delivered within {hours:g} hours of its end."
    if hours is None:
        return None
    text = entry.get("description", what)
    return native_rule(rule_id(entry, name), kind, columns, entry, text, args, severity, threshold, scope)


def _is_moment(entry: Place, head: TableHead, column: str | None, what: str) -> bool:
    at = entry.at("element") if "element" in entry else entry
    if column is None:
        hint = f"add `element: {head.name}.column`, a column that holds a date or a time"
        at.absent(f"{what} is about a column, and none of `{head.name}` is named", hint)
        return False
    if head.columns[column].type.kind not in _MOMENTS:
        message = f"{what} is about `{column}`, which has type {head.columns[column].type.kind}"
        at.problem(message, "name a date, timestamp or datetime column")
        return False
    return True


def _hours(entry: Place) -> float | None:
    what, value, unit = entry.get("property"), entry.get("value"), str(entry.get("unit", ""))
    factor = _HOURS.get(unit.lower())
    if factor is None:
        at, message = (entry.at("unit"), f"unit `{unit}` isn't known") if unit else (entry, f"the {what} has no unit")
        at.problem(message, one_of(unit, ("minutes", "hours", "days", "weeks")))
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        entry.at("value").problem(f"{what} `{value}` isn't a number", "write a number and its unit")
        return None
    hours = number * factor
    if isinstance(value, bool) or not 0 <= hours <= _LONGEST:
        entry.at("value").problem(
            f"{what} `{value}` isn't a length of time", "write a number from 0, up to a thousand years"
        )
        return None
    return int(hours) if hours.is_integer() else hours


def _elements(contract: Place, entry: Place, heads: Mapping[str, TableHead]) -> Iterator[tuple[str, str | None]]:
    """The tables, with their columns, that an SLA is about: those named, or the contract's only table."""
    what, text = entry.get("property"), entry.get("element", contract.get("slaDefaultElement"))
    if text is None:
        if len(heads) == 1:
            yield from ((name, None) for name in heads)
        else:
            entry.absent(f"the {what} doesn't say which table it is about", "add `element: table.column`")
        return
    at = entry.at("element") if "element" in entry else entry
    for element in str(text).split(","):
        table, _, column = element.strip().partition(".")
        if table not in heads:
            at.absent(f"{what} is about `{table}`, which is no table of this contract", one_of(table, heads))
        elif column and column not in heads[table].columns:
            at.absent(f"`{column}` is no column of `{table}`", one_of(column, heads[table].columns))
        else:
            yield table, column or None
