"""What the platform needs of a warehouse, whichever it is. Data moves inside the engine, never through here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import pyarrow as pa

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.lake.store import ObjectStore
from dataops_platform.progress import Progress, silent
from dataops_platform.warehouse.delivered import NOTHING, Beyond
from dataops_platform.warehouse.held import HeldRows
from dataops_platform.warehouse.names import Relation

if TYPE_CHECKING:
    from dataops_platform.warehouse.changes import TableChanges
    from dataops_platform.warehouse.definitions import History

EXCLUSIVE_WAIT_SECONDS = 600.0
"""How long a run waits for another one that builds the same models."""


def busy(by: str) -> str:
    """What to say when others don't let go of models or tables in time.

    Args:
        by: who has what, and since when.
    """
    return (
        f"somebody else is at work: {by}. Wait for that run to end, or end it, then run this again;"
        f" one that died is forgotten after some minutes"
    )


class NoSuchTable(DataRefused):
    """A table or view that was asked for is not in the warehouse."""


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A rule that splits rows at load: `bad` is an SQL boolean, in the warehouse's dialect, true for a bad row."""

    rule_id: str
    bad: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A landed file that can't be read, of a delivery whose other files are loaded.

    Attributes:
        file: as `Delivery.files` says it.
        before: whether an earlier load had left it out for the same reason.
    """

    file: str
    reason: str
    before: bool


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What became of one delivery. rows_read = rows_loaded + rows_quarantined + rows_superseded.

    Attributes:
        rows_superseded: rows that gave way to a later row of the same key, or a whole snapshot to a later one.
        beyond: the columns that it has beyond the contract.
        left_out: those of its files that can't be read; their rows aren't counted.
        refused: why nothing of it was loaded, if so.
        refused_before: whether an earlier attempt had been refused for the same reason.
    """

    delivery: Delivery
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    rows_superseded: int = 0
    affected_partitions: tuple[str, ...] = ()
    beyond: Beyond = NOTHING
    left_out: tuple[LeftOut, ...] = ()
    refused: str | None = None
    refused_before: bool = False

    @property
    def load_id(self) -> UUID:
        """The delivery's load id."""
        return self.delivery.load_id


@dataclass(frozen=True, slots=True)
class ModelSlice:
    """A model's relation and how it is cut: `field` is None for a model without partitions.

    Attributes:
        by_name: whether a row's partition is the value of the field; else it is the day, or the like, of it.
    """

    model: str
    relation: Relation
    field: str | None = None
    granularity: Granularity = Granularity.DAY
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which quarantined rows are meant.

    Attributes:
        partitions: of their deliveries; None: all.
        reason: a rule that they break, whichever others too; None: any.
    """

    partitions: Collection[str] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the quarantined rows of one partition that were judged again.

    Attributes:
        rows_superseded: rows that pass, but gave way to a later row of their key, or to a later snapshot.
        rows_left: rows that still fail.
    """

    partition_key: str
    rows_loaded: int
    rows_superseded: int
    rows_left: int


EMPTY = "empty"
"""Data version of a partition without rows."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """Fingerprint and size of one partition of a model, as it stands in the warehouse."""

    data_version: str
    row_count: int


@dataclass(frozen=True, slots=True)
class PublicationItem:
    """One partition to publish: the version that passed the gate, and the prefix of its objects there."""

    partition_key: str
    data_version: str
    object_prefix: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What work in the warehouse cost; nothing where an engine doesn't charge.

    Attributes:
        jobs: how many statements, loads and extracts.
        bytes_billed: bytes that the engine charges for (BigQuery: on demand).
        slot_milliseconds: compute time.
    """

    jobs: int = 0
    bytes_billed: int = 0
    slot_milliseconds: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.jobs + other.jobs,
            self.bytes_billed + other.bytes_billed,
            self.slot_milliseconds + other.slot_milliseconds,
        )

    def __sub__(self, other: Cost) -> Cost:
        return self + Cost(-other.jobs, -other.bytes_billed, -other.slot_milliseconds)


@dataclass(frozen=True, slots=True)
class Window:
    """The rows whose `field` lies in [start, end); both with a time zone, which dates and local times are in."""

    field: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Names:
    """The rows whose `field` is one of some names, letter by letter."""

    field: str
    names: tuple[str, ...]


Share = Window | Names
"""Which rows of a table a run writes."""


class Warehouse(Protocol):
    """Tables in an engine. Every method is one transaction, or a sequence of whole ones."""

    @property
    def url(self) -> str:
        """The warehouse's address, as in the settings, without secrets."""
        ...

    @property
    def dialect(self) -> str:
        """The engine's sqlglot dialect."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """Makes the calls inside share one connection, where the engine has one. Not around `load`, nor around dbt."""
        ...

    def work(self, step: str, of: str, run_id: str) -> AbstractContextManager[Callable[[], Cost]]:
        """Labels for all that is asked inside, where the engine has such; gives a function that tells its cost so far.

        Args:
            step: what is done: load, rules, export, publish.
            of: table or model.
        """
        ...

    def ensure(self, tables: Collection[Table]) -> Sequence[TableChanges]:
        """Create what is missing: schemas, ledger, staging and quarantine tables of the contracts.

        Tables that are there are changed where that breaks nothing: see `changes`. Returns what was found and done;
        nothing of tables that were looked at before.

        Raises:
            ConfigError: an existing table differs from its contract in what would break; every difference is listed.
        """
        ...

    def changes(self, tables: Collection[Table]) -> list[TableChanges]:
        """How contracts and the warehouse differ, for each of the tables, in their order. Nothing is changed."""
        ...

    def adopt(self, table: Table) -> None:
        """Make a table what its contract says, whatever that breaks.

        A column that goes is dropped. Where the table has to be built anew, it is reset: see `reset`.

        Raises:
            ConfigError: something has to be done by hand.
        """
        ...

    def misfits(self, table: Table, schema: pa.Schema) -> Sequence[str]:
        """What keeps parquet of a schema from being loaded under the contract; nothing where it fits.

        The warehouse is not asked: columns that earlier deliveries brought are not known.
        """
        ...

    def load(
        self,
        table: Table,
        deliveries: Sequence[Delivery],
        uris: Mapping[str, str],
        checks: Sequence[RowCheck],
        run_id: str,
        progress: Progress = silent,
    ) -> list[LoadOutcome]:
        """Load deliveries by the table's load mode, exactly once each.

        Rows that a check finds bad go to quarantine. Data, quarantine and ledger rows of a batch of deliveries commit
        together; deliveries that the ledger holds already are left out. An unreadable delivery, or one that doesn't
        fit the contract, is refused and recorded as such; the others are loaded. Of a delivery of several files that
        landed, one that is damaged inside is left out, and recorded in the same way; not where a delivery
        replaces the one before.

        Args:
            uris: object key → address the engine reads it at.
            progress: told after each batch how many deliveries are done.
        """
        ...

    def unfit(
        self, table: Table, deliveries: Sequence[Delivery], uris: Mapping[str, str], history: History
    ) -> dict[str, str]:
        """Manifest → why the delivery would be refused by a table that is made anew: columns and partition, not rows.

        Nothing is written, not even refusals.

        Args:
            uris: as for `load`.
            history: of the table's definitions.
        """
        ...

    def replay(self, table: Table, checks: Sequence[RowCheck], selection: Selection, run_id: str) -> list[Replayed]:
        """Judge quarantined rows again, in one transaction: those that no check finds bad any more go to staging.

        Data versions of the partitions that they go to change, so that rules and models are asked again.

        Args:
            checks: the table's splitting rules as they are now.
        """
        ...

    def drop(self, table: Table, selection: Selection, because: str, run_id: str) -> int:
        """Delete quarantined rows, and record that in the ledger, in one transaction; how many there were."""
        ...

    def sql(self, relation: Relation) -> str:
        """A relation as the engine's SQL names it."""
        ...

    def query(self, sql: str) -> pa.Table:
        """The result of a SELECT.

        Raises:
            NoSuchTable: a table in it doesn't exist.
            ConfigError: the statement isn't valid.
        """
        ...

    def estimate(self, sql: str) -> int:
        """Bytes that a SELECT would be charged for; 0 where the engine doesn't charge. Nothing is run.

        Raises:
            NoSuchTable: a table in it doesn't exist.
            ConfigError: the statement isn't valid.
        """
        ...

    def append(self, ledger_table: str, rows: pa.Table) -> None:
        """Append rows to a table of the ledger, all or none."""
        ...

    def exclusive(self, models: Collection[str], run_id: str) -> AbstractContextManager[Callable[[], bool]]:
        """Keeps other runs from building these models meanwhile; waits for those that do.

        Two builds of one model at the same time would judge each other's rows. The function that it gives ends that,
        and tells whether it was so all the time.

        Raises:
            Unavailable: others don't end in time; see `busy`.
        """
        ...

    def exists(self, relation: Relation) -> bool:
        """Whether the table or view exists."""
        ...

    def replace_rows(
        self, relation: Relation, rows: pa.Table, window: Share | None, held: HeldRows | None = None
    ) -> None:
        """Write a small result: create the table if need be, delete the rows of the window and insert `rows`, in one
        transaction. Without a window (of time, or names) the table is made anew, with the columns of `rows`.

        Args:
            held: rows that go to quarantine instead, in the same transaction, and replace what was held before. On
                BigQuery, where a whole table gets other columns, they are written in a transaction of their own first.

        Raises:
            DataRefused: some of `rows` lie outside the window: writing them again would double them.
            ConfigError: the table has other columns or types, or can't hold such rows; nothing was changed.
        """
        ...

    def model_versions(self, model: ModelSlice, partitions: Collection[str] | None) -> dict[str, ModelVersion]:
        """Partition key → version, of those asked that have rows (None: all). Unpartitioned models have one key.

        Raises:
            NoSuchTable: the model has not been built.
        """
        ...

    def export(
        self, model: ModelSlice, versions: Mapping[str, ModelVersion], store: ObjectStore, prefix: str
    ) -> dict[str, tuple[str, ...]]:
        """Write partitions as parquet objects of names that nobody used before, without passing through the worker
        where the engine can.

        Args:
            versions: the partitions, as `model_versions` found them; those without rows have no objects.
            prefix: before `keys.model_prefix` of each.

        Returns:
            Partition key → keys of its objects, in order.

        Raises:
            DataRefused: the rows are no longer those versions; what was written is to be ignored.
        """
        ...

    def publish(self, model: ModelSlice, items: Sequence[PublicationItem], publication_id: str, run_id: str) -> None:
        """Replace the given partitions of the production table and record it, in one transaction.

        Raises:
            DataRefused: the model's rows are not those of the versions asked; nothing was changed.
        """
        ...

    def reset(self, table: Table) -> None:
        """Forget a table's staging rows, quarantine and loads, in one transaction; the lake still has everything.

        What was done with quarantined rows stays in the ledger, as undone.
        """
        ...
