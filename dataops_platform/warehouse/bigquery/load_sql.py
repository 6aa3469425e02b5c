"""The statements of a load's transaction on BigQuery: from staged objects to staging, quarantine and ledger.

What they say is explained in `load`, which runs them. Nothing here talks to BigQuery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dataops_platform.contracts.model import Column, LoadMode, Table
from dataops_platform.contracts.partitions import NamedPartitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.lake.deliveries import INT96, DeliveredObject, Delivery
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import LeftOut, RowCheck
from dataops_platform.warehouse.bigquery import tables
from dataops_platform.warehouse.bigquery.naming import Naming
from dataops_platform.warehouse.delivered import Beyond
from dataops_platform.warehouse.loading import OUTSIDE_PARTITION, cast_reasons, uncast_now
from dataops_platform.warehouse.names import LEDGER, LINEAGE, QUARANTINE_COLUMNS, UNCAST, Relation, quarantine, staging
from dataops_platform.warehouse.names import literal as _literal
from dataops_platform.warehouse.names import quote as _quote
from dataops_platform.warehouse.partition_sql import boundary, in_partitions, key_sql
from dataops_platform.warehouse.tie_break import tie_break

DIALECT = "bigquery"
BREAKER = "dataops.breaker:"
"""Begins the message by which the transaction says that too many rows are bad."""
LOADED = "dataops.loaded:"
"""The message by which the transaction says that a delivery of the batch has been loaded meanwhile."""


def quote(name: str) -> str:
    """A quoted identifier."""
    return _quote(name, DIALECT)


def literal(text: str) -> str:
    """A quoted string."""
    return _literal(text, DIALECT)


@dataclass(frozen=True, slots=True)
class Staged:
    """One delivered object in its own table, with those of its columns that are loaded."""

    delivery: Delivery
    item: DeliveredObject
    relation: Relation
    columns: frozenset[str]


class LoadSql:
    """Makes the script that loads a batch of staged deliveries into one table."""

    def __init__(self, naming: Naming, table: Table, checks: Sequence[RowCheck], run_id: str) -> None:
        self._naming = naming
        self._table = table
        self._checks = list(checks)
        self._run_id = run_id
        self._target = naming.sql(staging(table.name))
        self._held = naming.sql(quarantine(table.name))
        self._loads = naming.sql(Relation(LEDGER, "loads"))

    def script(
        self,
        batch: Sequence[Delivery],
        staged: Sequence[Staged],
        beyond: Mapping[str, Beyond],
        left_out: Mapping[str, Sequence[LeftOut]],
    ) -> str:
        """One transaction. It raises an error with `BREAKER` or `LOADED` in it when there is nothing to be done.

        Args:
            beyond: load id → what the delivery has beyond the contract.
            left_out: load id → the files of the delivery that aren't staged.
        """
        mode = self._table.load_mode
        before = ["DECLARE _tripped STRING", self._incoming(staged)]
        inside = [self._lock(), self._not_loaded(batch)]
        if mode is LoadMode.APPEND:
            change = [self._insert("_incoming AS i WHERE ARRAY_LENGTH(i._reasons) = 0")]
        elif mode is LoadMode.REPLACE:
            inside.append(self._newest(batch))
            change = self._replace(batch)
        else:
            before.append(self._kept())
            change = self._merge(batch)
        inside += [*self._breaker(), *change, self._quarantine(), self._record(batch, staged, beyond)]
        inside += self._left_out(batch, left_out)
        # A script that ends with an error is rolled back by BigQuery. A handler that does it fails where the commit
        # itself was refused, and then hides why.
        return ";\n".join([*before, "BEGIN TRANSACTION", *inside, "COMMIT TRANSACTION"]) + ";"

    def _texts(self, item: Staged) -> str:
        """SQL of the texts of a staged row that can't be cast; JSON is text there."""
        json = [c.name for c in self._table.columns if c.type.kind is Kind.JSON and c.name in item.columns]
        texts = {name: quote(name) for name in json}
        return uncast_now(self._table, UNCAST if item.item.uncast else None, texts, DIALECT)

    def _incoming(self, staged: Sequence[Staged]) -> str:
        """Temp table of all rows with where they come from and the reasons against them."""
        parts = [
            f"SELECT {number} AS _file, {self._columns(item)}, {self._texts(item)} AS {UNCAST}"
            f" FROM {self._naming.sql(item.relation)}"
            for number, item in enumerate(staged)
        ]
        files = ", ".join(self._file(number, item) for number, item in enumerate(staged))
        reasons = ", ".join(
            f"IF({bad}, {literal(reason)}, NULL)"
            for reason, bad in [(OUTSIDE_PARTITION, self._outside()), *((c.rule_id, c.bad) for c in self._checks)]
        )
        uncast = ", ".join(cast_reasons(self._table, f"p.{UNCAST}", DIALECT))
        parsed = ", ".join(
            f"SAFE.PARSE_JSON(p.{quote(c.name)}, wide_number_mode => 'round') AS {quote(c.name)}"
            if c.type.kind is Kind.JSON
            else f"p.{quote(c.name)}"
            for c in self._table.columns
        )
        # Checks refer to bare column names, which only `p` has.
        rows = "\nUNION ALL ".join(parts)
        return (
            f"CREATE TEMP TABLE _incoming AS\nSELECT {parsed}, d._created, d._object, d._load, d._part, p.{UNCAST},"
            f" ARRAY(SELECT r FROM UNNEST(IF(p.{UNCAST} IS NULL, [{reasons}], [{uncast}])) AS r WHERE r IS NOT NULL)"
            f" AS _reasons\n"
            f"FROM ({rows}) AS p\nJOIN UNNEST([{files}]) AS d ON p._file = d._number"
        )

    def _columns(self, item: Staged) -> str:
        """The table's columns of a staged object; null where it hasn't one."""

        def null(column: Column) -> str:
            # JSON is text there; and a cast takes no number of digits.
            kind = "STRING" if column.type.kind is Kind.JSON else column.type.bigquery.partition("(")[0]
            return f"CAST(NULL AS {kind}) AS {quote(column.name)}"

        def staged(column: Column) -> str:
            if column.type.kind is Kind.DATETIME and schema[column.name] == INT96:
                return f"DATETIME({quote(column.name)}) AS {quote(column.name)}"
            return quote(column.name)

        schema = item.delivery.schema_of(item.item)
        return ", ".join(staged(c) if c.name in item.columns else null(c) for c in self._table.columns)

    def _file(self, number: int, item: Staged) -> str:
        low, high = self._bounds(item.delivery.partition)
        return (
            f"STRUCT({number} AS _number, {_instant(item.delivery.created_at)} AS _created,"
            f" {literal(item.item.key)} AS _object, {literal(str(item.delivery.load_id))} AS _load,"
            f" {literal(item.delivery.partition)} AS _part, {low} AS _low, {high} AS _high)"
        )

    def _bounds(self, partition: str) -> tuple[str, str]:
        partitioning = self._table.partitioning
        if partitioning is None:
            return "0", "0"
        if isinstance(partitioning, NamedPartitioning):
            return literal(partition), literal(partition)
        start = partitioning.parse(partition)
        kind = self._table.column(partitioning.field).type.kind
        local = Kind.DATE if kind is Kind.DATE else Kind.DATETIME
        return (
            boundary(partitioning, local, start, DIALECT),
            boundary(partitioning, local, partitioning.next(start), DIALECT),
        )

    def _outside(self) -> str:
        """True for a row that doesn't belong to the partition it was delivered for."""
        partitioning = self._table.partitioning
        if partitioning is None:
            return "FALSE"
        column = f"p.{quote(partitioning.field)}"
        if isinstance(partitioning, NamedPartitioning):
            return f"({column} = d._low) IS NOT TRUE"
        kind = self._table.column(partitioning.field).type.kind
        if kind is Kind.TIMESTAMP:
            column = f"DATETIME({column}, {literal(partitioning.timezone)})"
        return f"({column} >= d._low AND {column} < d._high) IS NOT TRUE"

    def _kept(self) -> str:
        """Temp table of the good rows of the batch, the newest of each key. A key with a null is no key."""
        keys = [quote(name) for name in self._table.primary_key]
        null = " OR ".join(f"{key} IS NULL" for key in keys)
        order = ", ".join(["_created DESC", "_object DESC", *tie_break(self._table, "", DIALECT)])
        part = ", ".join(self._comparable(name) for name in self._table.primary_key)
        return (
            "CREATE TEMP TABLE _kept AS\nSELECT *, GENERATE_UUID() AS _row FROM _incoming"
            f" WHERE ARRAY_LENGTH(_reasons) = 0\nQUALIFY {null}"
            f" OR ROW_NUMBER() OVER (PARTITION BY {part} ORDER BY {order}) = 1"
        )

    def _comparable(self, name: str) -> str:
        """A key column as something that rows can be grouped by: BigQuery doesn't group by floating point."""
        column = quote(name)
        if self._table.column(name).type.kind is Kind.NUMBER:
            return f"CAST(IF({column} = 0, 0.0, {column}) AS STRING)"
        return column

    def _breaker(self) -> list[str]:
        """Raises an error that names the deliveries with too many bad rows, twenty at most."""
        limits = self._table.bad_rows
        tripped = f"100 * s.bad > {limits.max_percent!r} * s.n"
        if limits.max_rows is not None:
            tripped = f"({tripped} OR s.bad > {limits.max_rows})"
        return [
            "SET _tripped = (SELECT IF(COUNT(*) = 0, NULL, TO_JSON_STRING("
            "ARRAY_AGG(STRUCT(s.load_id AS load_id, s.bad AS bad, s.n AS n) ORDER BY s.load_id LIMIT 20)))"
            " FROM (SELECT i._load AS load_id, COUNTIF(ARRAY_LENGTH(i._reasons) > 0) AS bad, COUNT(*) AS n"
            f" FROM _incoming AS i{self._current('WHERE')} GROUP BY 1) AS s WHERE {tripped})",
            f"IF _tripped IS NOT NULL THEN RAISE USING MESSAGE = CONCAT({literal(BREAKER)}, _tripped); END IF",
        ]

    def _current(self, word: str) -> str:
        """A condition on `_incoming AS i`: rows of snapshots that a newer one replaces at once are not looked at."""
        return f" {word} i._load IN (SELECT _load FROM _newest)" if self._table.load_mode is LoadMode.REPLACE else ""

    def _lock(self) -> str:
        """Loads of one table follow each other: a second one that overlaps is aborted by BigQuery and tried again."""
        return f"UPDATE {self._naming.sql(tables.lock_of(self._table.name))} SET taken = taken + 1 WHERE TRUE"

    def _not_loaded(self, batch: Sequence[Delivery]) -> str:
        """Raises an error if the ledger holds one of the batch: a load that the lock made wait may come too late."""
        ids = ", ".join(literal(str(d.load_id)) for d in batch)
        return (
            f"IF EXISTS (SELECT 1 FROM {self._loads} WHERE table_name = {literal(self._table.name)}"
            f" AND load_id IN ({ids})) THEN RAISE USING MESSAGE = {literal(LOADED)}; END IF"
        )

    def _insert(self, source: str) -> str:
        names = [c.name for c in self._table.columns]
        columns = ", ".join(quote(name) for name in [*names, *LINEAGE])
        values = ", ".join(f"i.{quote(name)}" for name in names)
        return (
            f"INSERT INTO {self._target} ({columns})\n"
            f"SELECT {values}, i._created, CURRENT_TIMESTAMP(), i._object, i._load FROM {source}"
        )

    def _newest(self, batch: Sequence[Delivery]) -> str:
        """Temp table of the deliveries whose rows stay: the newest of each partition, unless a newer one was loaded."""
        newest = {d.partition: d for d in batch}  # oldest first: later ones overwrite
        news = ", ".join(
            f"STRUCT({literal(d.partition)} AS _part, {literal(str(d.load_id))} AS _load,"
            f" {_instant(d.created_at)} AS _created)"
            for d in newest.values()
        )
        return (
            f"CREATE TEMP TABLE _newest AS\nSELECT n._part, n._load FROM UNNEST([{news}]) AS n LEFT JOIN"
            f" (SELECT partition_key, MAX(created_at) AS last FROM {self._loads}"
            f" WHERE table_name = {literal(self._table.name)} GROUP BY 1) AS l ON l.partition_key = n._part\n"
            "WHERE l.last IS NULL OR l.last < n._created"
        )

    def _replace(self, batch: Sequence[Delivery]) -> list[str]:
        """The partitions' rows are deleted and the newest delivery's inserted."""
        partitioning = self._table.partitioning
        if partitioning is None:
            where = "EXISTS (SELECT 1 FROM _newest)"
        else:
            # Constants first: other partitions aren't read.
            key = key_sql(self._table, "", DIALECT)
            among = in_partitions(self._table, {d.partition for d in batch}, "", DIALECT)
            where = f"{among} AND {key} IN (SELECT _part FROM _newest)"
        return [
            f"DELETE FROM {self._target} WHERE {where}",
            self._insert(f"_incoming AS i WHERE ARRAY_LENGTH(i._reasons) = 0{self._current('AND')}"),
        ]

    def _merge(self, batch: Sequence[Delivery]) -> list[str]:
        same = " AND ".join(f"t.{quote(name)} = i.{quote(name)}" for name in self._table.primary_key)
        overlap = self._overlap(batch)
        older = "(t._created_at < i._created OR (t._created_at = i._created AND t._source_object <= i._object))"
        moved = "''"
        if self._table.partitioning is not None:
            moved = key_sql(self._table, "t.", DIALECT)
        return [
            f"CREATE TEMP TABLE _met AS SELECT i._row, i._load, i._part, {older} AS _wins, {moved} AS _from\n"
            f"FROM _kept AS i JOIN {self._target} AS t ON {same} WHERE {overlap}",
            # Not a MERGE: where a table holds a key twice (it was appended to once), all of the older rows go.
            f"DELETE FROM {self._target} AS t WHERE {overlap}"
            f" AND EXISTS (SELECT 1 FROM _kept AS i WHERE {same} AND {older})",
            self._insert(f"_kept AS i WHERE NOT EXISTS (SELECT 1 FROM {self._target} AS t WHERE {overlap} AND {same})"),
        ]

    def _overlap(self, batch: Sequence[Delivery]) -> str:
        """A predicate on target rows (`t`) that the batch's keys could meet: other partitions aren't read."""
        partitioning = self._table.partitioning
        if partitioning is None or partitioning.field not in self._table.primary_key:
            return in_partitions(self._table, None, "t.", DIALECT)
        return in_partitions(self._table, {d.partition for d in batch}, "t.", DIALECT)

    def _quarantine(self) -> str:
        names = [c.name for c in self._table.columns]
        more = list(QUARANTINE_COLUMNS)
        columns = ", ".join(quote(name) for name in [*names, *LINEAGE, *more])
        values = ", ".join(f"i.{quote(name)}" for name in names)
        return (
            f"INSERT INTO {self._held} ({columns})\nSELECT {values}, i._created, CURRENT_TIMESTAMP(), i._object,"
            f" i._load, i._reasons, CAST(NULL AS INT64), i._part, {literal(self._table.contract_version)},"
            f" {literal(self._run_id)}, CURRENT_TIMESTAMP(), i.{UNCAST} FROM _incoming AS i"
            f" WHERE ARRAY_LENGTH(i._reasons) > 0{self._current('AND')}"
        )

    def _record(self, batch: Sequence[Delivery], staged: Sequence[Staged], beyond: Mapping[str, Beyond]) -> str:
        """The ledger's rows, with what became of each delivery's rows."""

        def said(delivery: Delivery) -> str:
            text = beyond[str(delivery.load_id)].to_json()
            return "CAST(NULL AS STRING)" if text is None else literal(text)

        mode = self._table.load_mode
        sizes = {str(d.load_id): [s.item.size for s in staged if s.delivery == d] for d in batch}
        known = ", ".join(
            f"STRUCT({literal(str(d.load_id))} AS load_id, {literal(d.partition)} AS partition_key,"
            f" {_instant(d.created_at)} AS created_at, {literal(d.manifest)} AS manifest, {len(sizes[str(d.load_id)])}"
            f" AS objects, {sum(sizes[str(d.load_id)])} AS bytes, {said(d)} AS columns_beyond)"
            for d in batch
        )
        read = "SELECT _load, COUNT(*) AS n, COUNTIF(ARRAY_LENGTH(_reasons) > 0) AS bad FROM _incoming GROUP BY 1"
        bad, loaded = "IFNULL(r.bad, 0)", "IFNULL(r.n, 0) - IFNULL(r.bad, 0)"
        affected, joins = "CAST(NULL AS STRING)", ""
        if mode is LoadMode.MERGE:
            kept = "SELECT k._load, COUNT(*) AS n FROM _kept AS k GROUP BY 1"
            met = (
                "SELECT _load, COUNT(DISTINCT IF(_wins, NULL, _row)) AS lost,"
                " ARRAY_AGG(DISTINCT IF(_wins AND _from != _part, _from, NULL) IGNORE NULLS) AS moved"
                " FROM _met GROUP BY 1"
            )
            joins = f"\nLEFT JOIN ({kept}) AS k ON k._load = d.load_id\nLEFT JOIN ({met}) AS m ON m._load = d.load_id"
            loaded = "IFNULL(k.n, 0) - IFNULL(m.lost, 0)"
            if self._table.partitioning and self._table.partitioning.field not in self._table.primary_key:
                affected = (
                    "IF(ARRAY_LENGTH(m.moved) > 0,"
                    " TO_JSON_STRING(ARRAY(SELECT x FROM UNNEST(m.moved) AS x ORDER BY x)), NULL)"
                )
        elif mode is LoadMode.REPLACE:
            stays = "d.load_id IN (SELECT _load FROM _newest)"
            loaded, bad = f"IF({stays}, {loaded}, 0)", f"IF({stays}, {bad}, 0)"
        columns = ", ".join(ledger.TABLES["loads"])
        return (
            f"INSERT INTO {self._loads} ({columns})\n"
            f"SELECT d.load_id, {literal(self._table.name)}, d.partition_key, d.created_at, d.manifest,"
            f" {literal(str(mode))}, d.objects, d.bytes, IFNULL(r.n, 0), {loaded}, {bad},"
            f" IFNULL(r.n, 0) - ({loaded}) - ({bad}), {affected}, {literal(self._table.contract_version)},"
            f" {literal(self._run_id)}, CURRENT_TIMESTAMP(), d.columns_beyond\n"
            f"FROM UNNEST([{known}]) AS d\nLEFT JOIN ({read}) AS r ON r._load = d.load_id{joins}"
        )

    def _left_out(self, batch: Sequence[Delivery], left_out: Mapping[str, Sequence[LeftOut]]) -> list[str]:
        """The refusals of files that are left out."""
        columns = ("load_id", "table_name", "partition_key", "manifest", "file", "reason", "run_id")
        rows = [
            (str(d.load_id), self._table.name, d.partition, d.manifest, left.file, left.reason, self._run_id)
            for d in batch
            for left in left_out.get(str(d.load_id), ())
        ]
        if not rows:
            return []
        values = ", ".join(f"({', '.join(map(literal, row))}, CURRENT_TIMESTAMP())" for row in rows)
        refusals = self._naming.sql(Relation(LEDGER, "refusals"))
        return [f"INSERT INTO {refusals} ({', '.join(columns)}, refused_at) VALUES {values}"]


def _instant(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
