"""Which columns of a delivery are loaded: the contract's, and beyond them what its policy says.

- A column that may be null may be missing, unless the policy is strict: its values are null then.
- A column beyond the contract is refused (strict), becomes a column of the warehouse's tables (additive), or stays in
  the lake (ignore). Under `additive`, those whose names begin with `_` stay in the lake: tools call their own
  bookkeeping so (`_airbyte_raw_id`, `_dlt_load_id`).
- What a delivery was allowed to have, or to lack, by the version of the contract that it was made under, it still is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dataops_platform.contracts.model import Column, SchemaPolicy, Table
from dataops_platform.contracts.types import FieldType
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.warehouse.names import LINEAGE, UNCAST

if TYPE_CHECKING:
    from dataops_platform.warehouse.definitions import History

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a delivery has beyond the contract.

    Attributes:
        added: columns that the warehouse's tables get for it.
        left: columns that stay in the lake.
    """

    added: Mapping[str, FieldType] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def __or__(self, other: Beyond) -> Beyond:
        return Beyond({**self.added, **other.added}, tuple(dict.fromkeys([*self.left, *other.left])))

    def to_json(self) -> str | None:
        """As the ledger holds it; None where there is nothing."""
        if not self.added and not self.left:
            return None
        return json.dumps({"added": {name: str(kind) for name, kind in self.added.items()}, "left": list(self.left)})


NOTHING = Beyond()


@dataclass(frozen=True, slots=True)
class Since:
    """What a delivery's contract was, where it has changed since.

    Attributes:
        changed: whether it has other columns now, as far as anybody knows.
        declared: the columns that it had; None: unknown, or those of now.
        lenient: whether its policy let deliveries have other columns than it did.
    """

    changed: bool = False
    declared: Collection[str] | None = None
    lenient: bool = False


UNCHANGED = Since()


def since(table: Table, delivery: Delivery, history: History) -> Since:
    """What has changed in a table's contract since a delivery: by its manifest; an older one has just the version."""
    if delivery.declared is not None:
        now = {column.name for column in table.columns if column.declared}
        lenient = delivery.policy not in (None, SchemaPolicy.STRICT)
        same = now == set(delivery.declared) and not (lenient and table.schema_policy is SchemaPolicy.STRICT)
        return UNCHANGED if same else Since(True, delivery.declared, lenient)
    if delivery.contract_version == table.contract_version:
        return UNCHANGED
    return Since(True, history.declared(delivery.contract_version))


def extended(table: Table, columns: Mapping[str, FieldType]) -> Table:
    """A table with columns that deliveries brought, behind its own."""
    more = [Column(name, kind, declared=False) for name, kind in columns.items()]
    return replace(table, columns=(*table.columns, *more)) if more else table


def with_brought(table: Table, actual: Mapping[str, FieldType | None]) -> Table:
    """A table with the columns that its staging table has beyond the contract, where its policy lets it have such."""
    if table.schema_policy is not SchemaPolicy.ADDITIVE:
        return table
    known = {column.name for column in table.columns} | LINEAGE.keys()
    return extended(table, {name: kind for name, kind in actual.items() if kind is not None and name not in known})


def judge(
    table: Table,
    delivered: Mapping[str, str],
    type_of: Callable[[str], FieldType | None],
    earlier: Since = UNCHANGED,
) -> tuple[list[str], Beyond]:
    """What keeps the columns of a delivered object from being loaded, types apart; and what it has beyond the contract.

    Args:
        table: with the columns that earlier deliveries brought.
        delivered: column → type, as the engine reads the object.
        type_of: the type of the column that a delivered one would become; None: there is none.
        earlier: what the contract was when the delivery was made.
    """
    names = {column.name.lower(): column for column in table.columns}
    lines = []
    for column in table.columns:
        if column.name in delivered:
            continue
        other = next((name for name in delivered if name.lower() == column.name.lower()), None)
        if other is not None or not _may_be_missing(table, column, earlier):
            hint = f" (the file has {other!r})" if other is not None else ""
            lines.append(f"column {column.name!r} is missing{hint}")
    added: dict[str, FieldType] = {}
    left: list[str] = []
    for name, actual in delivered.items():
        if name == UNCAST or (name.lower() in names and name == names[name.lower()].name):
            continue
        if name.lower() in names:  # an engine that is asked for the one may give the other
            lines.append(
                f"column {name!r} is the contract's {names[name.lower()].name!r} but for its case, and engines don't"
                " tell upper from lower. Rename it in the data, or leave it out"
            )
        elif table.schema_policy is SchemaPolicy.IGNORE or _was_allowed(table, name, earlier):
            left.append(name)
        elif table.schema_policy is SchemaPolicy.STRICT:
            lines.append(f"column {name!r} is not in the contract")
        elif name.startswith("_"):
            left.append(name)
        elif _NAME.fullmatch(name) is None:
            lines.append(
                f"column {name!r} can't be added: names are letters, digits and `_`, starting with a letter. Rename it"
                " in the data, or set `schemaPolicy: ignore`"
            )
        elif (kind := type_of(actual)) is None:
            lines.append(
                f"column {name!r} can't be added: no type of a contract holds {actual}. Write it as another type, or"
                " set `schemaPolicy: ignore`"
            )
        elif (like := next((other for other in added if other.lower() == name.lower()), None)) is not None:
            lines.append(
                f"column {name!r} can't be added beside {like!r}: engines don't tell upper from lower case. Rename one"
                " of them in the data, or set `schemaPolicy: ignore`"
            )
        else:
            added[name] = kind
    return lines, Beyond(added, tuple(left))


def _may_be_missing(table: Table, column: Column, earlier: Since) -> bool:
    if not column.declared:
        return True
    cut = table.partitioning is not None and column.name == table.partitioning.field
    if column.required or cut or column.name in table.primary_key:
        return False
    # Where nobody knows what the contract was: a lake that is older than this warehouse, say.
    before = earlier.changed and (earlier.declared is None or column.name not in earlier.declared)
    return before or earlier.lenient or table.schema_policy is not SchemaPolicy.STRICT


def _was_allowed(table: Table, name: str, earlier: Since) -> bool:
    """Whether a column beyond the contract was no reason to refuse the delivery when it was made."""
    if earlier.declared is not None:
        lenient = earlier.lenient and table.schema_policy is SchemaPolicy.STRICT
        return lenient or name in earlier.declared
    return earlier.changed and table.schema_policy is SchemaPolicy.STRICT


def misfit(column: Column, actual: str, accepted: str, natural: FieldType | None) -> str:
    """What to say of a column that is delivered with another type than it has, and what to do.

    Args:
        actual: its type, as the engine reads the object.
        accepted: types that can be loaded without losing anything.
        natural: the type of the column that it would fit; None: there is none.
    """
    whose = "the contract wants" if column.declared else "an earlier delivery brought it as"
    done = (
        f"column {column.name!r} is {actual}, {whose} {column.type.kind}: {accepted}. Write it so and deliver it again"
    )
    if not column.declared:
        return f"{done}, or declare the column in the contract"
    return done if natural is None else f"{done}, or declare it as it is: `{natural.declaration}`"
