"""Quarantined rows judged again: the statements by which those that pass now go to staging, on every engine.

The result is as if the rows had been good when they were delivered: rows of a snapshot that has been replaced stay out,
and of several rows of a key the same one stays as in a load (see `tie_break`). All statements are one transaction.
Nothing here talks to an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dataops_platform.contracts.model import LoadMode, Table
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import Replayed, RowCheck, Selection
from dataops_platform.warehouse.loading import OUTSIDE_PARTITION
from dataops_platform.warehouse.names import (
    LEDGER,
    LINEAGE,
    QUARANTINE_COLUMNS,
    UNCAST,
    Relation,
    literal,
    quarantine,
    quote,
    staging,
)
from dataops_platform.warehouse.partition_sql import in_partitions, key_sql
from dataops_platform.warehouse.tie_break import tie_break


def selected(selection: Selection, dialect: str, prefix: str = "") -> str:
    """A predicate on rows of a quarantine table."""
    terms = []
    if selection.partitions is not None:
        keys = ", ".join(literal(key, dialect) for key in sorted(selection.partitions))
        terms.append(f"{prefix}_delivered_partition IN ({keys})" if keys else "FALSE")
    if selection.reason is not None:
        reason = literal(selection.reason, dialect)
        terms.append(
            f"{reason} IN UNNEST({prefix}_reasons)"
            if dialect == "bigquery"
            else f"list_contains({prefix}_reasons, {reason})"
        )
    return " AND ".join(terms) or "TRUE"


def replayable(table: Table, selection: Selection, dialect: str, loads: str, prefix: str = "") -> str:
    """A predicate on the rows of a quarantine table that can be judged again: those of deliveries.

    Rows that a Python asset made are for its own table, not for staging; the asset is materialised again instead.

    Args:
        loads: the ledger's loads, in SQL.
    """
    load_id = f"CAST({prefix}_load_id AS {'STRING' if dialect == 'bigquery' else 'VARCHAR'})"
    delivered = f"SELECT load_id FROM {loads} WHERE table_name = {literal(table.name, dialect)}"
    return f"{selected(selection, dialect, prefix)} AND {load_id} IN ({delivered})"


def outcome(rows: Sequence[Mapping[str, Any]], before: Mapping[str, int]) -> list[Replayed]:
    """What became of each partition's rows.

    Args:
        rows: the ledger's `replays` of one replay.
        before: partition → quarantined rows that were judged.
    """
    found = []
    for key, count in sorted(before.items()):
        mine = [row for row in rows if row["partition_key"] == key]
        loaded, superseded = (sum(int(row[name]) for row in mine) for name in ("rows_loaded", "rows_superseded"))
        found.append(Replayed(key, loaded, superseded, max(0, count - loaded - superseded)))
    return found


@dataclass(frozen=True, slots=True)
class Act:
    """What is done, as the ledger's `replays` names it.

    Attributes:
        because: why rows are dropped; None where they are replayed.
    """

    replay_id: str
    run_id: str
    at: datetime
    because: str | None = None


class ReplaySql:
    """Makes the statements for one table and selection."""

    def __init__(
        self, table: Table, selection: Selection, act: Act, dialect: str, name: Callable[[Relation], str]
    ) -> None:
        """Args:
        selection: with its partitions named.
        name: makes a relation's name in SQL.
        """
        self._table = table
        self._selection = selection
        self._act = act
        self._dialect = dialect
        self._target = name(staging(table.name))
        self._held = name(quarantine(table.name))
        self._loads = name(Relation(LEDGER, "loads"))
        self._replays = name(Relation(LEDGER, "replays"))
        self._big = dialect == "bigquery"
        self._columns = [column.name for column in table.columns]

    def _q(self, column: str) -> str:
        return quote(column, self._dialect)

    def _lit(self, text: str) -> str:
        return literal(text, self._dialect)

    def _temp(self, name: str, query: str) -> str:
        return f"CREATE {'' if self._big else 'OR REPLACE '}TEMP TABLE {name} AS {query}"

    # -- replay -------------------------------------------------------------------------------------------------------

    def replay(self, checks: Sequence[RowCheck]) -> list[str]:
        """Judge the rows by `checks`, load what passes, and keep what doesn't, with its reasons of today."""
        mode = self._table.load_mode
        statements = [self._judged(checks)]
        if mode is LoadMode.MERGE:
            statements += [self._best(), self._moved()]
        else:
            statements.append(
                self._temp("_best", f"SELECT _row FROM _judged AS g WHERE {self._good()}{self._newest()}")
            )
            statements.append(
                self._temp("_moved", f"SELECT g._load_id, {self._lit('')} AS _from FROM _judged AS g WHERE FALSE")
            )
        statements.append(f"DELETE FROM {self._held} WHERE {self._replayable()}")
        if mode is LoadMode.MERGE:
            statements.append(
                f"DELETE FROM {self._target} AS t WHERE {self._overlap('t.')} AND EXISTS (SELECT 1 FROM _judged AS g"
                f" WHERE g._row IN (SELECT _row FROM _best) AND {self._same('t.', 'g.')})"
            )
        return [*statements, self._load(), self._keep(), self._record()]

    def _good(self, prefix: str = "g.") -> str:
        return f"{'ARRAY_LENGTH' if self._big else 'len'}({prefix}_now) = 0"

    def _judged(self, checks: Sequence[RowCheck]) -> str:
        """Temp table of the rows with what is wrong with them today. Only `q` has the column names that checks use."""
        reasons = ", ".join(
            f"CASE WHEN {bad} THEN {self._lit(reason)} END"
            for reason, bad in [(OUTSIDE_PARTITION, self._outside()), *((c.rule_id, c.bad) for c in checks)]
        )
        now = (
            f"ARRAY(SELECT r FROM UNNEST([{reasons}]) AS r WHERE r IS NOT NULL)"
            if self._big
            else f"list_filter([{reasons}], lambda r: r IS NOT NULL)"
        )
        # What has no value can't be judged: it stays, for the reason it came with.
        now = f"CASE WHEN q.{UNCAST} IS NULL THEN {now} ELSE q._reasons END"
        row = "GENERATE_UUID()" if self._big else "row_number() OVER ()"
        where = self._replayable("q.")
        return self._temp("_judged", f"SELECT q.*, {row} AS _row, {now} AS _now FROM {self._held} AS q WHERE {where}")

    def _replayable(self, prefix: str = "") -> str:
        return replayable(self._table, self._selection, self._dialect, self._loads, prefix)

    def _outside(self) -> str:
        if self._table.partitioning is None:
            return "FALSE"
        return f"{self._partition('q.')} IS DISTINCT FROM q._delivered_partition"

    def _partition(self, prefix: str) -> str:
        """The partition key of a row, as text."""
        if self._table.partitioning is None:
            return f"{prefix}_delivered_partition"
        return key_sql(self._table, prefix, self._dialect)

    def _newest(self) -> str:
        """For `replace`: a condition on `_judged AS g`: of the newest snapshot of its partition."""
        if self._table.load_mode is not LoadMode.REPLACE:
            return ""
        newest = (
            "SELECT load_id FROM (SELECT load_id,"
            " ROW_NUMBER() OVER (PARTITION BY partition_key ORDER BY created_at DESC) AS n"
            f" FROM {self._loads} WHERE table_name = {self._lit(self._table.name)}) AS l WHERE n = 1"
        )
        return f" AND {self._text('g._load_id')} IN ({newest})"

    def _text(self, expression: str) -> str:
        return f"CAST({expression} AS {'STRING' if self._big else 'VARCHAR'})"

    def _same(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}{self._q(key)} = {other}{self._q(key)}" for key in self._table.primary_key)

    def _overlap(self, prefix: str) -> str:
        """A predicate on target rows that the rows' keys could meet: other partitions aren't read."""
        cut = self._table.partitioning
        within = cut is not None and cut.field in self._table.primary_key
        keys = self._selection.partitions if within else None
        return in_partitions(self._table, keys, prefix, self._dialect)

    def _best(self) -> str:
        """Temp table of the rows that stay: for each key the greatest of all, those in staging among them."""
        columns = ", ".join(self._q(name) for name in [*self._columns, "_created_at", "_source_object"])
        keys = ", ".join(self._q(key) for key in self._table.primary_key)
        null = " OR ".join(f"{self._q(key)} IS NULL" for key in self._table.primary_key)
        order = ", ".join(["_created_at DESC", "_source_object DESC", *tie_break(self._table, "", self._dialect)])
        none = f"CAST(NULL AS {'STRING' if self._big else 'BIGINT'})"
        met = (
            f"SELECT {columns}, {none} AS _row FROM {self._target} AS t WHERE {self._overlap('t.')} AND EXISTS"
            f" (SELECT 1 FROM _judged AS g WHERE {self._good()} AND {self._same('t.', 'g.')})"
        )
        rows = f"SELECT {columns}, _row FROM _judged AS g WHERE {self._good()}"
        return self._temp(
            "_best",
            f"SELECT _row FROM (SELECT _row, {null} AS _alone, ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {order})"
            f" AS _place FROM ({rows} UNION ALL {met}) AS a) AS r WHERE _row IS NOT NULL AND (_alone OR _place = 1)",
        )

    def _moved(self) -> str:
        """Temp table of the other partitions that lose a row to one of another partition."""
        other = self._partition("t.") if self._table.partitioning else self._lit("")
        moved = f"{other} <> g._delivered_partition" if self._table.partitioning else "FALSE"
        return self._temp(
            "_moved",
            f"SELECT DISTINCT g._load_id, {other} AS _from FROM _judged AS g"
            f" JOIN {self._target} AS t ON {self._same('t.', 'g.')} WHERE {self._overlap('t.')}"
            f" AND g._row IN (SELECT _row FROM _best) AND {moved}",
        )

    def _load(self) -> str:
        names = [self._q(name) for name in [*self._columns, *LINEAGE]]
        values = [self._now() if name == self._q("_updated_at") else f"g.{name}" for name in names]
        return (
            f"INSERT INTO {self._target} ({', '.join(names)}) SELECT {', '.join(values)} FROM _judged AS g"
            " WHERE g._row IN (SELECT _row FROM _best)"
        )

    def _keep(self) -> str:
        """What still fails goes back, with its reasons of today and the contract that gives them."""
        names = [*self._columns, *LINEAGE, *QUARANTINE_COLUMNS]
        changed = {"_reasons": "g._now", "_contract_version": self._lit(self._table.contract_version)}
        values = ", ".join(changed.get(name, f"g.{self._q(name)}") for name in names)
        listed = ", ".join(map(self._q, names))
        return f"INSERT INTO {self._held} ({listed}) SELECT {values} FROM _judged AS g WHERE NOT ({self._good()})"

    def _record(self) -> str:
        """The ledger's rows, for the deliveries of which rows have left."""
        best = "g._row IN (SELECT _row FROM _best)"
        moved = (
            "TO_JSON_STRING(ARRAY_AGG(DISTINCT _from ORDER BY _from))"
            if self._big
            else "CAST(to_json(list_sort(list_distinct(list(_from)))) AS VARCHAR)"
        )
        counted = (
            "SELECT g._load_id, g._delivered_partition, "
            f"SUM(CASE WHEN {best} THEN 1 ELSE 0 END) AS loaded,"
            f" SUM(CASE WHEN {self._good()} AND NOT ({best}) THEN 1 ELSE 0 END) AS superseded,"
            f" SUM(CASE WHEN {self._good()} THEN 0 ELSE 1 END) AS kept FROM _judged AS g GROUP BY 1, 2"
        )
        return self._into_ledger(
            {
                "load_id": self._text("c._load_id"),
                "partition_key": "c._delivered_partition",
                "rows_loaded": "c.loaded",
                "rows_superseded": "c.superseded",
                "rows_left": "c.kept",
                "rows_dropped": "0",
                "affected_partitions": "m.moved",
            },
            f"({counted}) AS c LEFT JOIN (SELECT _load_id, {moved} AS moved FROM _moved GROUP BY 1) AS m"
            " ON m._load_id = c._load_id WHERE c.loaded + c.superseded > 0",
        )

    # -- drop ---------------------------------------------------------------------------------------------------------

    def drop(self) -> list[str]:
        """Delete the rows, and record that."""
        where = selected(self._selection, self._dialect, "q.")
        counted = (
            f"SELECT q._load_id, q._delivered_partition, COUNT(*) AS n FROM {self._held} AS q"
            f" WHERE {where} GROUP BY 1, 2"
        )
        record = self._into_ledger(
            {
                "load_id": self._text("c._load_id"),
                "partition_key": "c._delivered_partition",
                "rows_loaded": "0",
                "rows_superseded": "0",
                "rows_left": "0",
                "rows_dropped": "c.n",
                "affected_partitions": self._text("NULL"),
            },
            f"({counted}) AS c",
        )
        return [record, f"DELETE FROM {self._held} WHERE {selected(self._selection, self._dialect)}"]

    def _into_ledger(self, values: dict[str, str], source: str) -> str:
        act = self._act
        because = self._text("NULL") if act.because is None else self._lit(act.because)
        every = values | {
            "replay_id": self._lit(act.replay_id),
            "table_name": self._lit(self._table.name),
            "because": because,
            "contract_version": self._lit(self._table.contract_version),
            "run_id": self._lit(act.run_id),
            "replayed_at": self._now(),
            "undone_at": f"CAST(NULL AS {self._instant})",
        }
        names = list(ledger.TABLES["replays"])
        return (
            f"INSERT INTO {self._replays} ({', '.join(names)}) SELECT {', '.join(every[name] for name in names)}"
            f" FROM {source}"
        )

    def _now(self) -> str:
        moment = f"'{self._act.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
        return f"{self._instant} {moment}"

    @property
    def _instant(self) -> str:
        return "TIMESTAMP" if self._big else "TIMESTAMPTZ"
