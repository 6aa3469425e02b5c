"""What staging, quarantine and ledger must hold, one row at a time: from the promise, not from how loads work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dataops_platform.lake import Delivery
from dataops_platform_tests.integration.exactly_once.processes import COLUMNS, Contract

Values = tuple
"""A row as it is delivered: day, id, name, v, n, note."""
Identity = tuple[str, str, int]
"""Load, object, and the row's number: what is delivered twice is two rows."""


@dataclass(frozen=True)
class Row:
    """A row of a delivery that was loaded."""

    identity: Identity
    partition: str
    created_at: datetime
    values: Values

    @property
    def rank(self) -> tuple:
        """Of the rows of a key the greatest stays; nulls are lowest."""
        rest = (v for name, v in zip([*COLUMNS, "note"], self.values, strict=True) if name != "id")
        return (self.created_at, self.identity[1], *((v is not None, v) for v in rest))

    def reasons(self, contract: Contract) -> tuple[str, ...]:
        """What is wrong with it."""
        day, _, name, v, *_ = self.values
        found = [
            ("outside_partition", str(day) != self.partition),
            ("v_range", not contract.milder and v is not None and v < 0),
            ("name_required", name is None),
        ]
        return tuple(reason for reason, wrong in found if wrong)


@dataclass(frozen=True)
class Counts:
    """A load as the ledger counts it."""

    read: int
    loaded: int
    quarantined: int
    superseded: int


GOOD, SUPERSEDED, DROPPED = "good", "superseded", "dropped"
"""What became of a row; one in quarantine has its reasons instead."""


class Model:
    """Rows of what was loaded, each with what became of it."""

    def __init__(self) -> None:
        self.rows: dict[Identity, Row] = {}
        self.state: dict[Identity, str | tuple[str, ...]] = {}
        self.newest: dict[str, datetime] = {}
        self.loads: dict[str, Counts] = {}

    def copy(self) -> Model:
        """Another one that says the same: rows never change."""
        made = Model()
        for name, value in vars(self).items():
            setattr(made, name, dict(value))
        return made

    def load(self, contract: Contract, batch: Sequence[tuple[Delivery, Sequence[Row]]]) -> None:
        """One transaction. Of snapshots only the newest is looked at; others are as if replaced at once."""
        replaces = contract.mode == "replace"
        last = {d.partition: max(o.created_at for o, _ in batch if o.partition == d.partition) for d, _ in batch}
        for delivery, rows in batch:
            newest = self.newest.get(delivery.partition)
            late = delivery.created_at < last[delivery.partition] or (newest and delivery.created_at < newest)
            for row in rows:
                self.rows[row.identity] = row
                self.state[row.identity] = SUPERSEDED if replaces and late else row.reasons(contract) or GOOD
        for partition, moment in last.items():
            self.newest[partition] = max(moment, self.newest.get(partition, moment))
        staged = self.staged(contract)
        for delivery, rows in batch:
            loaded = sum(row.identity in staged for row in rows)
            held = sum(isinstance(self.state[row.identity], tuple) for row in rows)
            self.loads[str(delivery.load_id)] = Counts(len(rows), loaded, held, len(rows) - loaded - held)

    def replay(self, contract: Contract, partitions: Iterable[str] | None) -> None:
        """Judge quarantined rows again."""
        for identity in self._held(partitions):
            self.state[identity] = self.rows[identity].reasons(contract) or GOOD

    def drop(self, partitions: Iterable[str] | None) -> None:
        """Give quarantined rows up."""
        for identity in self._held(partitions):
            self.state[identity] = DROPPED

    def _held(self, partitions: Iterable[str] | None) -> list[Identity]:
        return [
            identity for identity in self.held() if partitions is None or self.rows[identity].partition in partitions
        ]

    def staged(self, contract: Contract) -> Mapping[Identity, Row]:
        """What staging holds: all good rows, the greatest of each key, or those of each day's newest snapshot."""
        good = [row for identity, row in self.rows.items() if self.state[identity] == GOOD]
        if contract.mode == "replace":
            good = [row for row in good if row.created_at == self.newest[row.partition]]
        elif contract.mode == "merge":
            best: dict[object, Row] = {}
            for row in good:
                key = row.identity if row.values[1] is None else row.values[1]  # a key with a null is no key
                if key not in best or row.rank > best[key].rank:
                    best[key] = row
            good = list(best.values())
        return {row.identity: row for row in good}

    def held(self) -> Mapping[Identity, tuple[str, ...]]:
        """What quarantine holds, with reasons."""
        return {identity: state for identity, state in self.state.items() if isinstance(state, tuple)}
