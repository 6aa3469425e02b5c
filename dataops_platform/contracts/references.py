"""ODCS `relationships` as rules: no row without its parent. The parent may be declared in another file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dataops_platform.contracts.custom import custom_properties, read_partitioning, read_severity
from dataops_platform.contracts.document import Document, Place
from dataops_platform.contracts.model import Rule, RuleKind, Severity
from dataops_platform.contracts.naming import rule_id
from dataops_platform.contracts.native import native_rule
from dataops_platform.contracts.partitions import Cut
from dataops_platform.contracts.suggest import one_of
from dataops_platform.contracts.tables import TableHead
from dataops_platform.contracts.types import FieldType, Kind

# [file.yaml#][/]schema/<table>/properties/<column>
_QUALIFIED = re.compile(r"^(?:[^#]*#)?/?schema/([^/]+)/properties/([^/]+)$")


class Catalog:
    """Every table that was read, by name."""

    def __init__(self, heads: Mapping[str, TableHead], complete: bool) -> None:
        """Takes the tables; `complete` is False when a file couldn't be read, whose tables seem to be missing."""
        self.heads = heads
        self.complete = complete
        self.by_id = {head.place.get("id"): head for head in heads.values() if "id" in head.place}

    def table(self, name: str) -> TableHead | None:
        """The table of that name, or of that `id`."""
        return self.heads.get(name) or self.by_id.get(name)


def relationship_rules(head: TableHead, catalog: Catalog) -> Iterator[tuple[Rule, Place]]:
    """The rules of a table's relationships and of its columns', with where each is declared."""
    for name, place in head.properties.items():
        for entry in place.at("relationships").items():
            if (rule := _read(entry, head, (name,), catalog)) is not None:
                yield rule, entry
    for entry in head.place.at("relationships").items():
        columns = _own_columns(entry, head, catalog)
        if columns is not None and (rule := _read(entry, head, columns, catalog)) is not None:
            yield rule, entry


def _references(place: Place) -> list[tuple[Place, str]]:
    if isinstance(place.value, list):
        return [(item, str(item.value)) for item in place.items()]
    return [(place, str(place.value))]


def _own_columns(entry: Place, head: TableHead, catalog: Catalog) -> tuple[str, ...] | None:
    columns = []
    for at, reference in _references(entry.at("from")):
        found = _resolve(at, reference, catalog)
        if found is None:
            return None
        if found[0] is not head:
            at.problem(f"`from` names `{found[0].name}`, but stands at `{head.name}`", f"write `{head.name}.column`")
            return None
        columns.append(found[1])
    return tuple(columns)


def _read(entry: Place, head: TableHead, columns: tuple[str, ...], catalog: Catalog) -> Rule | None:
    custom = custom_properties(entry, "relationship")
    severity = read_severity(custom["severity"], Severity.ERROR) if "severity" in custom else Severity.ERROR
    targets = []
    for at, reference in _references(entry.at("to")):
        found = _resolve(at, reference, catalog)
        if found is None:
            return None
        targets.append((at, *found))
    if len(targets) != len(columns):
        message = f"the relationship has {len(columns)} columns on this side and {len(targets)} on the other"
        entry.at("to").problem(message, "name as many columns in `to` as in `from`")
        return None
    parent = targets[0][1]
    for (at, other, target), column in zip(targets, columns, strict=True):
        if other is not parent:
            at.problem(
                f"the relationship leads to `{parent.name}` and `{other.name}`", "write one relationship for each"
            )
            return None
        if not comparable(head.columns[column].type, other.columns[target].type):
            types = head.columns[column].type.kind, other.columns[target].type.kind
            message = f"`{column}` has type {types[0]}, `{other.name}.{target}` {types[1]}: they can't be compared"
            at.problem(message, "give both the same type")
            return None
    args: dict[str, Any] = {"table": parent.name, "columns": tuple(target for *_, target in targets)}
    if (cut := cut_of(parent)) is not None:
        args["partition_field"] = cut.field  # a table may refuse queries that say nothing of it
    identifier = rule_id(entry, f"{'_'.join(columns)}_in_{parent.name}")
    what = f"Every {', '.join(columns)} is in {parent.name}."
    return native_rule(identifier, RuleKind.ORPHANS, columns, entry, what, args, severity)


def cut_of(head: TableHead) -> Cut | None:
    """How another table is cut. What is wrong with that is reported where the table itself is read."""
    unheard = Document(head.place.document.file, head.place.document.data)
    place = custom_properties(Place(unheard, head.place.path, head.place.value), "schema object").get("partitioning")
    cut = read_partitioning(place, head.columns)
    return cut if cut is not None and cut.field in head.columns else None


def comparable(one: FieldType, other: FieldType) -> bool:
    """Whether values of the two types can be compared with each other."""
    if Kind.JSON in (one.kind, other.kind):
        return False
    return one.kind is other.kind or (one.numeric and other.numeric)


def _resolve(at: Place, reference: str, catalog: Catalog) -> tuple[TableHead, str] | None:
    qualified = _QUALIFIED.match(reference)
    table_name, _, column = ".".join(qualified.groups()).partition(".") if qualified else reference.partition(".")
    if not column or "." in column:
        at.problem(f"`{reference}` isn't a reference to a column", "write `table.column`")
        return None
    table = catalog.table(table_name)
    if table is None:
        if catalog.complete:
            hint = one_of(table_name, catalog.heads)
            at.problem(f"table `{table_name}` isn't in any contract", hint)
        return None
    name = column if column in table.columns else table.ids.get(column)
    if name is None:
        if not table.place.document.incomplete:
            at.problem(f"`{column}` is no column of `{table.name}`", one_of(column, table.columns))
        return None
    return table, name
