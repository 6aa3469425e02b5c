"""Schema objects of a contract: names, columns and keys.

A table is read in two steps, because a rule of one table may refer to a column of another file's: first every
table's `TableHead`, then, with all heads at hand, rules and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dataops_platform.contracts.custom import custom_properties
from dataops_platform.contracts.document import Place
from dataops_platform.contracts.file_formats import ROW_NUMBER
from dataops_platform.contracts.model import Column
from dataops_platform.contracts.types import Kind, parse_type

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TABLE_LIKE = frozenset({"table", "view", "external table", "materialized view", "base table"})


@dataclass(slots=True)
class TableHead:
    """A table's name, columns and key, and where they are declared."""

    name: str
    place: Place
    columns: dict[str, Column] = field(default_factory=dict)
    properties: dict[str, Place] = field(default_factory=dict)  # by column name
    primary_key: tuple[str, ...] = ()

    @property
    def ids(self) -> Mapping[str, str]:
        """Column names by the property's `id`, as fully qualified references write them."""
        return {place.get("id"): name for name, place in self.properties.items() if "id" in place}


def read_head(place: Place) -> TableHead | None:
    """Reads a schema object's columns and primary key; None when its name or kind rules it out as a table."""
    name = str(place.get("name"))
    physical = place.get("physicalType", "table")
    if physical.lower().replace("_", " ") not in _TABLE_LIKE:
        place.at("physicalType").problem(f"`{name}` is a {physical}, not a table", "write `physicalType: table`")
        return None
    if not _check_name(place.at("name"), "table"):
        return None
    head = TableHead(name, place)
    taken: dict[str, str] = {}  # BigQuery and DuckDB don't tell columns apart by case
    for entry in place.at("properties").items():
        column = _read_column(entry)
        if column is None:
            place.document.incomplete = True
            continue
        if (other := taken.get(column.name.lower())) is not None:
            same = "" if other == column.name else " (engines don't tell upper from lower case)"
            message = f"column `{column.name}` is already declared on line {head.columns[other].line}{same}"
            entry.at("name").problem(message, "rename one of them")
            continue
        taken[column.name.lower()] = column.name
        head.columns[column.name] = column
        head.properties[column.name] = entry
    if not head.columns:
        place.absent(f"table `{name}` has no columns", "list them under `properties`")
    head.primary_key = _read_primary_key(head)
    return head


def _check_name(place: Place, what: str) -> bool:
    name = str(place.value)
    if _NAME.fullmatch(name):
        return True
    if name.startswith("_"):
        hint = f"rename it to `{name.lstrip('_') or 'name'}`: names that start with `_` are kept for lineage columns"
    else:
        hint = f"rename it to `{re.sub('[^A-Za-z0-9_]+', '_', name).strip('_') or 'name'}`"
        if name[:1].isdigit():
            hint = f"rename it to `{what[0]}_{name}`" if name.isalnum() else "start it with a letter"
    place.problem(f"{what} name `{name}` isn't allowed: letters, digits and `_`, starting with a letter", hint)
    return False


def _read_column(place: Place) -> Column | None:
    if not _check_name(place.at("name"), "column"):
        return None
    if (name := str(place.get("name"))).lower() == ROW_NUMBER:
        message = f"column name `{name}` isn't allowed: DuckDB calls the number of a row in its file so"
        place.at("name").problem(message, "rename it, here and in the data, to `row_number` for example")
        return None
    custom_properties(place, "property")  # there are none; reports those that stand here by mistake
    if "logicalType" not in place:
        place.absent("`logicalType` is missing", "add it, for example `logicalType: string`")
        return None
    try:
        field_type = parse_type(place.get("logicalType"), place.get("physicalType"))
    except ValueError as error:
        key = "physicalType" if "physicalType" in str(error) else "logicalType"
        what, _, hint = str(error).partition("; ")
        place.at(key).problem(what, hint or "make the two agree, or leave physicalType out")
        return None
    return Column(
        name=place.get("name"),
        type=field_type,
        required=bool(place.get("required") or place.get("primaryKey")),
        description=place.get("description", ""),
        classification=place.get("classification"),
        line=place.line,
    )


def _read_primary_key(head: TableHead) -> tuple[str, ...]:
    positions: dict[str, int | None] = {}
    for name, place in head.properties.items():
        position = place.get("primaryKeyPosition", -1)
        if not place.get("primaryKey"):
            if position > 0:
                hint = "set `primaryKey: true`, or remove the position"
                place.at("primaryKeyPosition").absent(f"`{name}` has a primaryKeyPosition but isn't in the key", hint)
            continue
        if head.columns[name].type.kind in (Kind.JSON, Kind.NUMBER):
            message = f"a {head.columns[name].type.kind} column can't be part of the primary key"
            place.at("primaryKey").problem(message, "use a column whose values can be compared exactly")
        positions[name] = None if position == -1 else position
    given = {name: position for name, position in positions.items() if position is not None}
    if given and not head.place.document.incomplete:
        _check_positions(head, positions, given)
    return tuple(sorted(positions, key=lambda name: positions[name] or 0))


def _check_positions(head: TableHead, positions: Mapping[str, int | None], given: Mapping[str, int]) -> None:
    seen: dict[int, str] = {}
    for name in positions:
        if name not in given:
            hint = f"number all columns of the key from 1 to {len(positions)}, or none"
            head.properties[name].at("primaryKey").problem(f"`{name}` has no primaryKeyPosition, others have", hint)
            continue
        position, place = given[name], head.properties[name].at("primaryKeyPosition")
        if position in seen:
            message = f"primaryKeyPosition {position} is also that of `{seen[position]}`"
            place.problem(message, f"number the key from 1 to {len(positions)}")
        elif not 1 <= position <= len(positions):
            message = f"primaryKeyPosition {position} leaves a gap: the key has {len(positions)} columns"
            place.problem(message, f"number the key from 1 to {len(positions)}")
        seen.setdefault(position, name)
