"""Rows of what an asset of one's own made that break its contract's rules: they go to quarantine, as a load's do."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from dataops_platform.contracts.model import Table
from dataops_platform.warehouse.loading import OUTSIDE_PARTITION
from dataops_platform.warehouse.names import REASONS, SOURCE_OBJECT, UNCAST, literal, quote

DELIVERED_PARTITION = "_delivered_partition"
_INSTANT = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Rows kept out of what an asset writes, for the quarantine of its contract's table.

    What was held of the same asset and partitions before is replaced, like the good rows.

    Attributes:
        table: the contract's table.
        rows: the contract's columns, then `_reasons` and `_source_row`; none, where all rows are good.
        source: the asset, which `_source_object` names.
        partitions: keys of the run's partitions, in order; none for an asset without.
        run_id: the run that made the rows.
    """

    table: Table
    rows: pa.Table
    source: str
    partitions: Sequence[str]
    run_id: str

    @property
    def partition(self) -> str:
        """What `_delivered_partition` says: the run's partition, or its first and last."""
        if len(self.partitions) > 1:
            return f"{self.partitions[0]}...{self.partitions[-1]}"
        return self.partitions[0] if self.partitions else "all"

    def quarantined(self, moment: datetime) -> pa.Table:
        """The rows with all columns of a quarantine table.

        Args:
            moment: when they are written.
        """
        identity = hashlib.sha256("\0".join((self.source, self.partition, self.run_id)).encode()).digest()
        constants = {
            "_created_at": pa.scalar(moment, _INSTANT),
            "_updated_at": pa.scalar(moment, _INSTANT),
            SOURCE_OBJECT: pa.scalar(self.source),
            "_load_id": pa.scalar(str(uuid.UUID(bytes=identity[:16]))),
            DELIVERED_PARTITION: pa.scalar(self.partition),
            "_contract_version": pa.scalar(self.table.contract_version),
            "_run_id": pa.scalar(self.run_id),
            "_quarantined_at": pa.scalar(moment, _INSTANT),
            UNCAST: pa.scalar(None, pa.string()),
        }
        rows = self.rows
        for name, value in constants.items():
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
        return rows

    def replaced(self, window: str | None, dialect: str) -> str:
        """An SQL predicate for what was held before of the same asset and partitions.

        Args:
            window: a predicate for the rows of the run's partitions; None for an asset without. A row that lies in
                no partition, its date may be null, belongs to those it was made with.
        """
        same = f"{quote(SOURCE_OBJECT, dialect)} = {literal(self.source, dialect)}"
        if window is None:
            return same
        keys = ", ".join(literal(key, dialect) for key in dict.fromkeys((*self.partitions, self.partition)))
        return f"{same} AND (({window}) IS TRUE OR {quote(DELIVERED_PARTITION, dialect)} IN ({keys}))"


def reasons_sql(window: str | None, dialect: str) -> str:
    """The reasons of a held row; that it lies outside the run's partitions comes first, as in a load."""
    column = quote(REASONS, dialect)
    if window is None:
        return column
    outside = literal(OUTSIDE_PARTITION, dialect)
    added = f"ARRAY_CONCAT([{outside}], {column})" if dialect == "bigquery" else f"list_prepend({outside}, {column})"
    return f"CASE WHEN ({window}) IS TRUE THEN {column} ELSE {added} END"
