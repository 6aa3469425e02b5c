"""Which row of a key stays, when a batch of deliveries is merged into staging."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import duckdb

from dataops_platform.contracts.model import Table
from dataops_platform.warehouse.names import LEDGER, quote, staging
from dataops_platform.warehouse.partition_sql import in_partitions, key_of, partition_start
from dataops_platform.warehouse.tie_break import tie_break


class KeyResolver:
    """Finds the rows that lose to another of the same key, inside the load's open transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        keys: str,
        source: str,
        bad: str,
        object_key: Callable[[str], str],
    ) -> None:
        """Args:
        keys: a subquery with the key columns of all incoming rows.
        source: incoming rows `p` joined with their files `d`, as the FROM of a SELECT.
        bad: true for a row of `source` that goes to quarantine.
        object_key: makes of a column with a file's address the key of the lake object.
        """
        self._con = connection
        self._table = table
        self._target = staging(table.name).sql
        self._keys = [quote(name) for name in table.primary_key]
        self._narrow, self._source, self._object = keys, source, object_key
        self._eligible = " AND ".join([f"p.{key} IS NOT NULL" for key in self._keys] + [f"NOT {bad}"])

    def resolve(self, partitions: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Fill `_skip` with rows that lose to another of the same key, and delete target rows that lose to the batch.

        Rows with a null in the key are nobody's duplicate and are left alone.

        Args:
            partitions: those the batch was delivered for.

        Returns:
            Load id → other partitions that lost a row to it.
        """
        keys = ", ".join(f"p.{key}" for key in self._keys)
        self._skip_repeated(keys)
        overlap = self._overlap(partitions)
        if overlap is None:
            return {}
        self._con.execute(
            f"CREATE OR REPLACE TEMP TABLE _incoming AS SELECT {keys}, d._created, {self._object('p._dataops_path')}"
            f" AS _object, d._load, d._part, p._dataops_path AS _file, p._position AS _row FROM {self._source}"
            f" ANTI JOIN _skip AS s ON p._dataops_path = s._file AND p._position = s._row WHERE {self._eligible}"
        )
        same = " AND ".join(f"t.{key} = i.{key}" for key in self._keys)
        newer = "(t._created_at > i._created OR (t._created_at = i._created AND t._source_object > i._object))"
        pairs = f"{self._target} AS t JOIN _incoming AS i ON {same}"
        self._con.execute(f"INSERT INTO _skip SELECT DISTINCT i._file, i._row FROM {pairs} WHERE {overlap} AND {newer}")
        moved = self._moved(f"{pairs} WHERE {overlap} AND NOT {newer}")
        self._con.execute(
            f"DELETE FROM {self._target} AS t USING _incoming AS i WHERE {same} AND {overlap} AND NOT {newer}"
        )
        return moved

    def _skip_repeated(self, keys: str) -> None:
        """Of the incoming rows of one key, the newest stays."""
        # Bad rows may count here: this only narrows down which keys are worth ranking, on nothing but the key columns.
        self._con.execute(
            f"CREATE OR REPLACE TEMP TABLE _duplicated AS SELECT {keys} FROM {self._narrow} AS p"
            " GROUP BY ALL HAVING count(*) > 1"
        )
        if not self._scalar("SELECT count(*) FROM _duplicated"):
            return
        same = " AND ".join(f"p.{key} = k.{key}" for key in self._keys)
        order = ", ".join(["d._created DESC", "p._dataops_path DESC", *tie_break(self._table, "p.", "duckdb")])
        self._con.execute(
            "INSERT INTO _skip SELECT _dataops_path, _position FROM (SELECT p._dataops_path, p._position,"
            f" row_number() OVER (PARTITION BY {keys} ORDER BY {order}, p._position DESC) AS place"
            f" FROM {self._source} SEMI JOIN _duplicated AS k ON {same}"
            f" WHERE {self._eligible}) WHERE place > 1"
        )

    def _overlap(self, partitions: Collection[str]) -> str | None:
        """A predicate on target rows (`t`) that the batch's keys could meet; None when there can't be any.

        Where the key holds the partition column, keys can't meet rows of other partitions.
        """
        if not self._scalar(f"SELECT EXISTS (SELECT 1 FROM {self._target})"):
            return None
        partitioning = self._table.partitioning
        if partitioning is None or partitioning.field not in self._table.primary_key:
            return "TRUE"
        rows = self._con.execute(
            f"SELECT DISTINCT partition_key FROM {LEDGER}.loads WHERE table_name = ?", [self._table.name]
        ).fetchall()
        shared = {row[0] for row in rows} & set(partitions)
        return in_partitions(self._table, shared, "t.") if shared else None

    def _moved(self, pairs: str) -> dict[str, tuple[str, ...]]:
        """Where a key moves between partitions, the partition that loses the row has changed too."""
        partitioning = self._table.partitioning
        if partitioning is None or partitioning.field in self._table.primary_key:
            return {}
        rows = self._con.execute(
            f"SELECT DISTINCT CAST(i._load AS VARCHAR), i._part, {partition_start(self._table, 't.')} FROM {pairs}"
        ).fetchall()
        moved: dict[str, set[str]] = {}
        for load_id, own, start in rows:
            key = key_of(self._table, start)
            if key is not None and key != own:
                moved.setdefault(load_id, set()).add(key)
        return {load_id: tuple(sorted(keys)) for load_id, keys in moved.items()}

    def _scalar(self, sql: str) -> Any:
        row = self._con.execute(sql).fetchone()
        return row[0] if row else None
