"""Tables, deliveries and a small platform, made in code: what tests of the library share."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataops_platform.contracts import arrow_schema
from dataops_platform.contracts.model import (
    BadRowAction,
    BadRows,
    Column,
    Dimension,
    LoadMode,
    Rule,
    RuleKind,
    Scope,
    Severity,
    Table,
    Threshold,
)
from dataops_platform.contracts.partitions import UNPARTITIONED, Granularity, Partitioning
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.lake import Delivery, Lake, LocalStore, ObjectStore
from dataops_platform.lake.deliveries import OBJECTS
from dataops_platform.progress import Progress, silent
from dataops_platform.quality.quarantine import row_checks
from dataops_platform.quality.verdicts import evaluate
from dataops_platform.warehouse.base import LoadOutcome
from dataops_platform.warehouse.duckdb import DuckDBWarehouse
from dataops_platform.warehouse.duckdb import load as duckdb_load
from dataops_platform.warehouse.ledger import Ledger, Verdict


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


DAY1, DAY2, DAY3 = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)
BLOCK = BadRows(BadRowAction.BLOCK)


def daily(field: str = "day", timezone: str = "UTC", granularity: Granularity = Granularity.DAY) -> Partitioning:
    return Partitioning(field, granularity, date(2024, 1, 1), date(2024, 12, 31), timezone)


def rule(
    id: str,
    kind: RuleKind,
    *columns: str,
    severity: Severity = Severity.ERROR,
    threshold: Threshold | None = None,
    scope: Scope = Scope.PARTITION,
    dimension: Dimension = Dimension.VALIDITY,
    **args: Any,
) -> Rule:
    return Rule(id, kind, dimension, severity, "", columns, args, threshold or Threshold(), scope)


def table(
    name: str,
    columns: Mapping[str, Kind | FieldType],
    *,
    mode: LoadMode = LoadMode.APPEND,
    key: Sequence[str] = (),
    partitioning: Partitioning | None = None,
    rules: Sequence[Rule] = (),
    bad_rows: BadRows | None = None,
) -> Table:
    return Table(
        name,
        tuple(Column(n, k if isinstance(k, FieldType) else FieldType(k)) for n, k in columns.items()),
        primary_key=tuple(key),
        load_mode=mode,
        partitioning=partitioning,
        rules=tuple(rules),
        bad_rows=bad_rows or BadRows(),
        contract_id="contract",
        contract_version="1.0.0",
        file=Path("contract.odcs.yaml"),
    )


def moment(number: int) -> datetime:
    """When the delivery of that number is made."""
    return datetime(2024, 2, 1, tzinfo=UTC) + timedelta(minutes=number)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process, and of those it starts, can grow beyond `size` bytes: a full disk without privileges.

    Python ignores the signal that goes with it; writes fail with EFBIG.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def middle(data: bytes) -> bytes:
    """The bytes of a parquet file with another page, and the same footer."""
    start = 4 + (len(data) - 4) // 4
    return data[:start] + bytes(255 - byte for byte in data[start : start + 200]) + data[start + 200 :]


class Home:
    """A lake, a production lake and a warehouse: below one folder, unless others are given."""

    loading: ModuleType = duckdb_load
    """The module that loads, with its limits."""

    def __init__(self, folder: Path, delivered: int = 0) -> None:
        """With `delivered`, so many deliveries are there already, as in a copy: those of this home are later."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lake = Lake(LocalStore(folder / "lake"))
        self.production: ObjectStore = LocalStore(folder / "production_lake")
        self.warehouse: Any = DuckDBWarehouse(folder / "warehouse.duckdb", "1GB")
        self._clock = itertools.count(delivered)
        self._names = itertools.count()

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the warehouse's file open: many small steps are several times faster than with it opened for each."""
        with self.warehouse.connect():
            yield

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.warehouse)

    def file(self, rows: pa.Table | Sequence[Mapping[str, Any]], table: Table, **options: Any) -> Path:
        """A parquet file on the lake's disk, ready to be delivered."""
        if not isinstance(rows, pa.Table):
            # In UTC: once pandera is imported, pyarrow takes a datetime of another zone for one in UTC.
            rows = [{name: _utc(value) for name, value in row.items()} for row in rows]
            rows = pa.Table.from_pylist(rows, schema=arrow_schema(table))
        path = self.lake.store.scratch() / f"{next(self._names)}.parquet"
        pq.write_table(rows, path, **options)
        return path

    def deliver(
        self,
        table: Table,
        *objects: pa.Table | Sequence[Mapping[str, Any]],
        partition: date | str = UNPARTITIONED,
        at: datetime | None = None,
        landed: Sequence[str] = (),
        **options: Any,
    ) -> Delivery:
        """Deliver one file for each of `objects`; later calls are later deliveries, unless `at` says otherwise.

        With `landed`, names, the objects are as many files that landed.
        """
        return self.lake.deliver(
            table.name,
            str(partition),
            at or moment(next(self._clock)),
            [self.file(rows, table, **options) for rows in objects],
            origin={"file": "test"} | ({OBJECTS: [{"name": n, "generation": 7} for n in landed]} if landed else {}),
            contract_version=table.contract_version,
            declared=[column.name for column in table.columns],
            cut=table.cut,
            policy=table.schema_policy,
        )

    def break_page(self, delivery: Delivery, number: int) -> None:
        """Damage an object inside, as whoever wrote the file may have: its footer is good."""
        path = Path(self.lake.store.uri(delivery.objects[number].key))
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(middle(data))

    def load(
        self,
        table: Table,
        deliveries: Sequence[Delivery] | None = None,
        run_id: str = "run",
        progress: Progress = silent,
    ) -> list[LoadOutcome]:
        """Load deliveries, by default all that the lake has."""
        if deliveries is None:
            deliveries = [self.lake.read(ref.key) for ref in self.lake.manifests(table.name)]
        self.warehouse.ensure([table])
        uris = {item.key: self.lake.store.uri(item.key) for d in deliveries for item in d.objects}
        return self.warehouse.load(table, deliveries, uris, row_checks(table, self.warehouse.dialect), run_id, progress)

    def fill(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Deliver and load rows, each to the day of its partition column."""
        field = table.partitioning.field if table.partitioning else None
        groups: dict[Any, list[Mapping[str, Any]]] = {}
        for row in rows:
            groups.setdefault(row[field] if field else UNPARTITIONED, []).append(row)
        outcomes = self.load(table, [self.deliver(table, group, partition=key) for key, group in groups.items()])
        assert all(outcome.rows_loaded == outcome.rows_read for outcome in outcomes), outcomes

    def judge(self, table: Table, *rules: str, run_id: str = "run", partitions: Any = None) -> list[Verdict]:
        """Evaluate a table's rules, or those named."""
        chosen = [r for r in table.rules if r.id in rules] if rules else None
        return evaluate(self.warehouse, table, run_id, partitions, chosen)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.warehouse.query(sql).to_pylist()]

    def by_hand(self, statement: str) -> None:
        """What somebody does to the warehouse past the platform."""
        with self.warehouse.connect() as connection:
            connection.execute(statement)

    def dump(self, *relations: str) -> dict[str, list[str]]:
        """Everything in some tables, in an order of its own: equal dumps, equal tables."""
        return {name: sorted(map(repr, self.rows(f"SELECT * FROM {name}"))) for name in relations}
