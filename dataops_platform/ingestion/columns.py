"""Which columns of a file that isn't parquet are read."""

from __future__ import annotations

from collections.abc import Sequence

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.lake.deliveries import OWN_COLUMN
from dataops_platform.warehouse.delivered import judge
from dataops_platform.warehouse.names import UNCAST


def beyond(table: Table, names: Sequence[str], shown: str, lines: Sequence[str] = (), hint: str = "") -> list[str]:
    """The columns that a file has beyond the contract: they are delivered as texts, and the load decides about them.

    Args:
        names: the file's columns.
        shown: what messages call the file.
        lines: what else is wrong with them.
        hint: what may have been meant.

    Raises:
        DataRefused: the contract's policy doesn't allow some of them, or that others are missing.
    """
    if UNCAST in names:
        raise DataRefused(f"{shown}: {OWN_COLUMN}")
    found, _ = judge(table, dict.fromkeys(names, "text"), lambda _: FieldType(Kind.STRING))
    if found or lines:
        text = "; ".join([*found, *lines])
        raise DataRefused(f"{shown}: {text}.{hint} Mend the file or the contract {table.file}.")
    wanted = {column.name for column in table.columns}
    return [name for name in names if name not in wanted]
