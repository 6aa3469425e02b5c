"""What the ledger knows since a moment, read in a few bounded queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dataops_platform.alerts import looking
from dataops_platform.alerts.events import Alert, Kind, Status
from dataops_platform.alerts.looking import SEEN
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.model import Severity
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.ledger import Ledger, Refused, RunEnd
from dataops_platform.warehouse.names import LEDGER, literal


@dataclass(frozen=True, slots=True)
class Judged:
    """The newest verdict of a rule on a partition, as far as alerts need it."""

    object_name: str
    partition_key: str
    rule_id: str
    rule_hash: str
    severity: Severity
    passed: bool
    observed: float | None
    threshold: str
    data_version: str
    details: str | None
    run_id: str
    evaluated_at: datetime


@dataclass(frozen=True, slots=True)
class Loaded:
    """A delivery that was loaded."""

    manifest: str
    run_id: str
    loaded_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What happened since a moment.

    Attributes:
        verdicts: the newest of each rule and partition: all that failed, and those that passed where a channel was
            told of a failure before.
        loaded: by table and partition: the newest delivery of each.
        after_all: manifest → its load, of deliveries that had been refused; others of the partition may be newer.
        runs: how runs ended, the oldest first.
    """

    verdicts: Sequence[Judged] = ()
    refusals: Sequence[Refused] = ()
    loaded: Mapping[tuple[str, str], Loaded] = field(default_factory=dict)
    after_all: Mapping[str, Loaded] = field(default_factory=dict)
    runs: Sequence[RunEnd] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What a channel was told.

    Attributes:
        open: key → the problem that it was told of last, and not yet that it is well again.
        seen: up to when the ledger was looked through for it; None: never.
        last: when it was last written down that it was told of something; None: never.
    """

    open: Mapping[str, Alert]
    seen: datetime | None = None
    last: datetime | None = None

    def since(self, now: datetime) -> datetime:
        """From when on it must be looked."""
        return looking.since(self.seen, now)


def told(warehouse: Warehouse, channels: Collection[str]) -> dict[str, Told]:
    """Channel → what it was told."""
    rows = warehouse.query(
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY channel, key ORDER BY sent_at DESC, happened_at DESC)"
        f" AS newest, MAX(CASE WHEN status <> '{SEEN}' THEN sent_at END) OVER (PARTITION BY channel) AS last"
        f" FROM {LEDGER}.alerts WHERE channel IN ({_list(channels)})) AS ranked"
        f" WHERE newest = 1 AND status IN ('{Status.OPEN}', '{SEEN}')"
    ).to_pylist()
    found: dict[str, Told] = {}
    for channel in channels:
        mine = [row for row in rows if row["channel"] == channel]
        seen = [row["happened_at"].astimezone(UTC) for row in mine if row["status"] == SEEN]
        problems = {row["key"]: _alert(row) for row in mine if row["status"] == Status.OPEN}
        # There is always a row: whoever is told has one that says up to when one has looked.
        last = [row["last"].astimezone(UTC) for row in mine if row["last"] is not None]
        found[channel] = Told(problems, max(seen, default=None), max(last, default=None))
    return found


def facts(warehouse: Warehouse, subjects: Subjects, since: datetime) -> Facts:
    """What the ledger says since a moment. Of rules whose verdict hasn't changed, nothing older is read."""
    moment = ledger.instant(since, warehouse.dialect)
    newest, after_all = _loaded(warehouse, subjects, moment)
    return Facts(
        _verdicts(warehouse, subjects, moment),
        _refusals(warehouse, subjects, moment),
        newest,
        after_all,
        Ledger(warehouse).run_ends(since),
    )


RULE = "rule/"
"""Begins the key of an alert about a rule, or a model's test: its object, its partition and its id follow."""
_JUDGED = [f.name for f in fields(Judged)]


def _verdicts(warehouse: Warehouse, subjects: Subjects, moment: str) -> list[Judged]:
    if not subjects.objects:
        return []
    columns = ", ".join(f"v.{name}" for name in _JUDGED)
    # Of rules that passed only those are of interest that somebody was told of: usually none among thousands.
    rows = warehouse.query(
        f"SELECT {columns} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY object_name, partition_key, rule_id"
        f" ORDER BY evaluated_at DESC, run_id DESC) AS newest FROM {LEDGER}.verdicts"
        f" WHERE object_name IN ({_list(subjects.objects)}) AND evaluated_at >= {moment}) AS v"
        f" LEFT JOIN (SELECT DISTINCT key FROM {LEDGER}.alerts"
        f" WHERE status = '{Status.OPEN}' AND rule_id IS NOT NULL) AS a"
        f" ON a.key = CONCAT('{RULE}', v.object_name, '/', v.partition_key, '/', v.rule_id)"
        " WHERE v.newest = 1 AND (NOT v.passed OR a.key IS NOT NULL)"
    ).to_pylist()
    return [Judged(**{**row, "severity": Severity(row["severity"])}) for row in rows]


def _refusals(warehouse: Warehouse, subjects: Subjects, moment: str) -> list[Refused]:
    if not subjects.tables:
        return []
    rows = warehouse.query(
        f"SELECT {', '.join(f.name for f in fields(Refused))} FROM (SELECT *, ROW_NUMBER() OVER"
        f" (PARTITION BY table_name, partition_key, manifest, file ORDER BY refused_at DESC) AS newest"
        f" FROM {LEDGER}.refusals"
        f" WHERE table_name IN ({_list(subjects.tables)}) AND refused_at >= {moment}) AS ranked WHERE newest = 1"
    ).to_pylist()
    return [Refused(**row) for row in rows]


def _loaded(
    warehouse: Warehouse, subjects: Subjects, moment: str
) -> tuple[dict[tuple[str, str], Loaded], dict[str, Loaded]]:
    """`Facts.loaded` and `Facts.after_all`. Manifests sort by arrival."""
    if not subjects.tables:
        return {}, {}
    mine = f"table_name IN ({_list(subjects.tables)})"
    refused = f"SELECT manifest FROM {LEDGER}.refusals WHERE {mine} AND manifest IS NOT NULL AND file IS NULL"
    rows = warehouse.query(
        "SELECT * FROM (SELECT table_name, partition_key, manifest, run_id, loaded_at, ROW_NUMBER() OVER"
        " (PARTITION BY table_name, partition_key ORDER BY manifest DESC) AS newest,"
        f" manifest IN ({refused}) AS after_all FROM {LEDGER}.loads WHERE {mine} AND loaded_at >= {moment}) AS ranked"
        " WHERE newest = 1 OR after_all"
    ).to_pylist()
    loads = [(row, Loaded(row["manifest"], row["run_id"], row["loaded_at"])) for row in rows]
    return (
        {(row["table_name"], row["partition_key"]): loaded for row, loaded in loads if row["newest"] == 1},
        {loaded.manifest: loaded for row, loaded in loads if row["after_all"]},
    )


def record(
    warehouse: Warehouse, channel: str, alerts: Sequence[Alert], seen: datetime | None, sent_at: datetime
) -> None:
    """Write down what a channel was told, and up to when one has looked for it; all or nothing."""
    names = ledger.TABLES["alerts"]
    rows = [_row(channel, alert, sent_at) for alert in alerts]
    if seen is not None:
        mark = {"channel": channel, "key": SEEN, "status": SEEN, "table_name": "", "happened_at": seen}
        rows.append(dict.fromkeys(names) | mark | {"sent_at": sent_at})
    if rows:
        warehouse.append("alerts", pa.Table.from_pylist(rows, schema=ledger.schema("alerts")))


def _row(channel: str, alert: Alert, sent_at: datetime) -> dict[str, Any]:
    return {
        "channel": channel,
        "key": alert.key,
        "status": str(alert.status),
        "fingerprint": alert.fingerprint,
        "kind": str(alert.kind),
        "severity": str(alert.severity),
        "table_name": alert.table,
        "partition_key": alert.partition,
        "rule_id": alert.rule,
        "observed": alert.observed,
        "expected": alert.expected,
        "details": alert.details,
        "run_id": alert.run_id,
        "happened_at": alert.happened_at,
        "sent_at": sent_at,
    }


def _alert(row: Mapping[str, Any]) -> Alert:
    return Alert(
        key=row["key"],
        status=Status(row["status"]),
        fingerprint=row["fingerprint"],
        kind=Kind(row["kind"]),
        severity=Severity(row["severity"]),
        table=row["table_name"],
        partition=row["partition_key"],
        rule=row["rule_id"],
        observed=row["observed"],
        expected=row["expected"],
        details=row["details"],
        run_id=row["run_id"],
        happened_at=row["happened_at"].astimezone(UTC),
    )


def _list(names: Collection[str]) -> str:
    return ", ".join(map(literal, names))
