"""The shape of a table, wanted or found, in the words of its engine, and what it takes to make one the other."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dataops_platform.warehouse.names import Relation

REQUIRED = " REQUIRED"
"""Behind the type of a column that can't hold null."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A table, as an engine has it.

    Attributes:
        columns: name → type, in order.
        cut: what it is partitioned by; empty where it isn't, or the engine has no such thing.
        kind: TABLE, or what else it is.
    """

    columns: Mapping[str, str]
    cut: str = ""
    kind: str = "TABLE"


class Remedy(StrEnum):
    """What makes a difference go away."""

    ADD = "add the column"
    WIDEN = "widen the column's type"
    RELAX = "allow nulls"
    DROP = "drop the column"
    REBUILD = "build the table anew from the lake"
    BY_HAND = "remove it by hand"

    @property
    def breaking(self) -> bool:
        """Whether data that is there would not survive it, or has to be loaded anew."""
        return self in (Remedy.DROP, Remedy.REBUILD, Remedy.BY_HAND)


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a table that exists is not what the contract says.

    Attributes:
        column: the column; empty for what is about the table.
        wanted: its type as the contract says, empty where the contract hasn't it.
        actual: its type as it is, empty where the table hasn't it.
        spelled: how the table spells the column, where that differs by upper and lower case.
    """

    relation: Relation
    column: str
    wanted: str
    actual: str
    remedy: Remedy
    spelled: str = ""

    def __str__(self) -> str:
        if self.remedy is Remedy.BY_HAND:
            return f"{self.relation} is a {self.actual}, the contract wants a table"
        if not self.column:
            return (
                f"{self.relation} is partitioned by {self.actual or 'nothing'},"
                f" the contract says {self.wanted or 'nothing'}"
            )
        if self.spelled:
            return f"{self.relation}.{self.spelled} is spelled {self.column} in the contract"
        if not self.actual:
            return f"{self.relation} has no column {self.column} ({self.wanted})"
        if not self.wanted:
            return f"{self.relation}.{self.column} is not in the contract"
        return f"{self.relation}.{self.column} is {self.actual}, the contract says {self.wanted}"


def differences(
    relation: Relation, wanted: Shape, actual: Shape, addable: Collection[str], found: Collection[str] = ()
) -> list[Difference]:
    """How an existing table differs from what the contract says.

    A column that may hold nulls where the contract wants none is no difference: the load keeps them out.

    Args:
        addable: columns that rows which are there needn't have.
        found: columns beyond the contract that may stay: deliveries brought them.
    """
    if actual.kind != "TABLE":
        return [Difference(relation, "", "TABLE", actual.kind, Remedy.BY_HAND)]
    result = []
    cases = {name.lower(): name for name in actual.columns}  # engines don't tell upper from lower case
    for name, kind in wanted.columns.items():
        is_kind, spelled = actual.columns.get(name, ""), cases.get(name.lower())
        if not is_kind and spelled:
            result.append(Difference(relation, name, kind, actual.columns[spelled], Remedy.REBUILD, spelled))
        elif not is_kind:
            result.append(Difference(relation, name, kind, "", Remedy.ADD if name in addable else Remedy.REBUILD))
        elif (remedy := _remedy(is_kind, kind)) is not None:
            result.append(Difference(relation, name, kind, is_kind, remedy))
    known = {name.lower() for name in wanted.columns}
    beyond = [name for name in actual.columns if name.lower() not in known and name not in found]
    result += [Difference(relation, name, "", actual.columns[name], Remedy.DROP) for name in beyond]
    if wanted.cut != actual.cut:
        result.append(Difference(relation, "", wanted.cut, actual.cut, Remedy.REBUILD))
    return result


_EXACT = re.compile(r"(?:DECIMAL|NUMERIC|BIGNUMERIC)\((\d+),\s*(\d+)\)")


def _remedy(actual: str, wanted: str) -> Remedy | None:
    is_kind, kind = actual.removesuffix(REQUIRED), wanted.removesuffix(REQUIRED)
    if is_kind == kind:
        return Remedy.RELAX if actual != is_kind and wanted == kind else None
    narrow, wide = _EXACT.fullmatch(is_kind), _EXACT.fullmatch(kind)
    if narrow and wide:
        (digits, scale), (more, finer) = ((int(m[1]), int(m[2])) for m in (narrow, wide))
        if finer >= scale and more - finer >= digits - scale:
            return Remedy.WIDEN
    return Remedy.REBUILD
