"""The ledger: what was loaded, judged, built and published. The gate and the scorecard read nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from dataops_platform.contracts.model import Dimension, Severity
from dataops_platform.secrets import redact
from dataops_platform.warehouse.names import LEDGER, literal

if TYPE_CHECKING:
    from dataops_platform.warehouse.base import Cost, Warehouse

_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")

TABLES: dict[str, dict[str, pa.DataType]] = {
    "loads": {
        "load_id": _TEXT,
        "table_name": _TEXT,
        "partition_key": _TEXT,
        "created_at": _TIME,
        "manifest": _TEXT,
        "mode": _TEXT,
        "objects": _INT,
        "bytes": _INT,
        "rows_read": _INT,
        "rows_loaded": _INT,
        "rows_quarantined": _INT,
        "rows_superseded": _INT,
        "affected_partitions": _TEXT,
        "contract_version": _TEXT,
        "run_id": _TEXT,
        "loaded_at": _TIME,
        "columns_beyond": _TEXT,
    },
    "refusals": {
        "load_id": _TEXT,
        "table_name": _TEXT,
        "partition_key": _TEXT,
        "manifest": _TEXT,
        "reason": _TEXT,
        "run_id": _TEXT,
        "refused_at": _TIME,
        "file": _TEXT,
        "data_version": _TEXT,
    },
    "verdicts": {
        "object_name": _TEXT,
        "partition_key": _TEXT,
        "rule_id": _TEXT,
        "rule_hash": _TEXT,
        "dimension": _TEXT,
        "severity": _TEXT,
        "passed": _BOOL,
        "observed": _FLOAT,
        "threshold": _TEXT,
        "failed_rows": _INT,
        "scanned_rows": _INT,
        "data_version": _TEXT,
        "reference_version": _TEXT,
        "contract_version": _TEXT,
        "statement_id": _TEXT,
        "sample": _TEXT,
        "details": _TEXT,
        "run_id": _TEXT,
        "evaluated_at": _TIME,
    },
    "builds": {
        "model": _TEXT,
        "partition_key": _TEXT,
        "data_version": _TEXT,
        "row_count": _INT,
        "inputs": _TEXT,
        "run_id": _TEXT,
        "built_at": _TIME,
    },
    "costs": {
        "object_name": _TEXT,
        "step": _TEXT,
        "jobs": _INT,
        "bytes_billed": _INT,
        "slot_milliseconds": _INT,
        "run_id": _TEXT,
        "recorded_at": _TIME,
    },
    "replays": {
        "replay_id": _TEXT,
        "table_name": _TEXT,
        "load_id": _TEXT,
        "partition_key": _TEXT,
        "rows_loaded": _INT,
        "rows_superseded": _INT,
        "rows_left": _INT,
        "rows_dropped": _INT,
        "affected_partitions": _TEXT,
        "because": _TEXT,
        "contract_version": _TEXT,
        "run_id": _TEXT,
        "replayed_at": _TIME,
        "undone_at": _TIME,
    },
    "runs": {
        "run_id": _TEXT,
        "job": _TEXT,
        "partition_key": _TEXT,
        "status": _TEXT,
        "steps": _TEXT,
        "failures": _TEXT,
        "checks": _TEXT,
        "parts": _TEXT,
        "ended_at": _TIME,
        "recorded_at": _TIME,
    },
    "alerts": {
        "channel": _TEXT,
        "key": _TEXT,
        "status": _TEXT,
        "fingerprint": _TEXT,
        "kind": _TEXT,
        "severity": _TEXT,
        "table_name": _TEXT,
        "partition_key": _TEXT,
        "rule_id": _TEXT,
        "observed": _TEXT,
        "expected": _TEXT,
        "details": _TEXT,
        "run_id": _TEXT,
        "happened_at": _TIME,
        "sent_at": _TIME,
    },
    "events": {
        "topic": _TEXT,
        "event_id": _TEXT,
        "event": _TEXT,
        "table_name": _TEXT,
        "partition_key": _TEXT,
        "run_id": _TEXT,
        "happened_at": _TIME,
        "sent_at": _TIME,
    },
    "leases": {
        "name": _TEXT,
        "holder": _TEXT,
        "token": _TEXT,
        "taken_at": _TIME,
        "until": _TIME,
    },
    "baselines": {
        "table_name": _TEXT,
        "rule_id": _TEXT,
        "rule_hash": _TEXT,
        "bins": _TEXT,
        "shares": _TEXT,
        "row_count": _INT,
        "run_id": _TEXT,
        "frozen_at": _TIME,
    },
    "definitions": {
        "table_name": _TEXT,
        "contract_version": _TEXT,
        "definition": _TEXT,
        "applied_at": _TIME,
    },
    "publications": {
        "publication_id": _TEXT,
        "model": _TEXT,
        "partition_key": _TEXT,
        "data_version": _TEXT,
        "row_count": _INT,
        "object_prefix": _TEXT,
        "run_id": _TEXT,
        "published_at": _TIME,
    },
}
"""The ledger's tables: column → type, the same on every engine."""


CLUSTERED_BY: dict[str, tuple[str, ...]] = {
    "loads": ("table_name", "loaded_at"),
    "refusals": ("table_name", "refused_at"),
    "verdicts": ("object_name", "evaluated_at"),
    "builds": ("model",),
    "costs": ("object_name",),
    "replays": ("table_name",),
    "runs": ("job", "recorded_at"),
    "alerts": ("channel", "table_name"),
    "events": ("topic", "sent_at"),
    "leases": ("name",),
    "baselines": ("table_name",),
    "definitions": ("table_name",),
    "publications": ("model",),
}
"""Which column of a ledger table says whose row it is; then, where what is new is asked for, the time."""


def schema(table: str) -> pa.Schema:
    """Arrow schema of a ledger table."""
    return pa.schema(list(TABLES[table].items()))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's outcome for one object, partition and data version; fields as in `dataops.verdicts`.

    `object_name` is `staging.<table>` or a model's name. `failed_rows` is None where a rule doesn't count rows.
    `reference_version` is the data version of the other table that was read, if any. `details` is JSON: what a rule
    compared with (see `anomaly`, `drift`), or what it misses (see `arrivals`).
    """

    object_name: str
    partition_key: str
    rule_id: str
    rule_hash: str
    dimension: Dimension
    severity: Severity
    passed: bool
    observed: float | None
    threshold: str
    failed_rows: int | None
    scanned_rows: int | None
    data_version: str
    contract_version: str
    statement_id: str
    run_id: str
    evaluated_at: datetime
    sample: str | None = None
    details: str | None = None
    reference_version: str | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """One partition of a model as dbt left it.

    Attributes:
        data_version: fingerprint of the rows.
        inputs: `<staging table>` → data version it was built from (of the same partition, or of the whole table).
    """

    model: str
    partition_key: str
    data_version: str
    row_count: int
    inputs: Mapping[str, str]
    run_id: str
    built_at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """What was refused, and why.

    Attributes:
        table_name: a contract's table; `production.<model>` where a gate refused a model's partition.
        run_id: the run that found it first.
        manifest: of a delivery that is in the lake.
        file: of what can't become a delivery: the address of the object or file, `#`, and which one of that name it is.
            With a manifest: the landed file that was left out of that delivery, by its name.
        data_version: of the rows that a gate refused.
    """

    table_name: str
    partition_key: str
    reason: str
    run_id: str
    manifest: str | None = None
    file: str | None = None
    data_version: str | None = None
    refused_at: datetime = field(default_factory=lambda: now())

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", redact(self.reason))


BY_HAND = "by-hand-"
"""Begins what stands for a run where a file was refused that somebody delivered by hand."""


class RunStatus(StrEnum):
    """How a run ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class CheckEnd:
    """What an asset check said that somebody wrote in Python: neither a contract's rule nor a test of dbt.

    Attributes:
        asset: its path, joined by `/`.
        partition_key: the partition that was checked; without one, those of the run.
    """

    asset: str
    check: str
    partition_key: str
    passed: bool
    severity: Severity
    description: str = ""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended.

    Attributes:
        partition_key: the partition, or `first..last`; `all` for a run without partitions.
        steps: those that succeeded.
        failures: step → what it said. Where a run failed without a step (its process died), under the empty name.
        checks: those of one's own, as they said last.
        parts: `<step>/<table or model>` that succeeded, of steps that are about several.
        failed: the same, of those that failed, or a step → the partitions it failed for; none: all of the run's. Of a
            run that failed without a step, what it didn't come to; of any, also what steps that succeeded left out:
            what stays refused from before, and what is left to a gate because checks failed for it.
        whole: steps and parts that have no partitions, whichever the run is about.
    """

    run_id: str
    job: str
    partition_key: str
    status: RunStatus
    steps: Sequence[str]
    failures: Mapping[str, str]
    ended_at: datetime
    checks: Sequence[CheckEnd] = ()
    parts: Sequence[str] = ()
    failed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    whole: Sequence[str] = ()


def _run_end(row: Mapping[str, Any]) -> RunEnd:
    checks = [CheckEnd(**{**c, "severity": Severity(c["severity"])}) for c in json.loads(row["checks"] or "[]")]
    parts = json.loads(row["parts"] or "{}")
    return RunEnd(
        run_id=row["run_id"],
        job=row["job"],
        partition_key=row["partition_key"],
        status=RunStatus(row["status"]),
        steps=tuple(json.loads(row["steps"])),
        failures=json.loads(row["failures"]),
        ended_at=row["ended_at"],
        checks=tuple(checks),
        parts=tuple(parts.get("done", ())),
        failed=parts.get("failed", {}),
        whole=tuple(parts.get("whole", ())),
    )


def version_of(load_ids: Iterable[str | UUID]) -> str:
    """Data version of a staging partition: a hash of the loads it is made of, in no particular order."""
    text = ",".join(sorted(map(str, load_ids)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


NEVER_LOADED = version_of(())
"""The data version of a staging partition, or table, that nothing was ever loaded into."""


def rows_of(table: str, items: Sequence[Any]) -> pa.Table:
    """Ledger rows from dataclass items; mappings become JSON."""
    available = {f.name for f in fields(items[0])} if items else set()
    columns = {}
    for name, kind in TABLES[table].items():
        if name not in available:
            columns[name] = pa.nulls(len(items), kind)
            continue
        values = list(map(attrgetter(name), items))
        try:
            columns[name] = pa.array(values, kind)
        except pa.ArrowTypeError:  # not texts yet; most are, and there may be thousands
            columns[name] = pa.array(map(_text, values), kind)
    return pa.table(columns, schema=schema(table))


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    return json.dumps(dict(value), sort_keys=True) if isinstance(value, Mapping) else str(value)


class Ledger:
    """Typed reading and writing of the ledger, on any warehouse."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._warehouse.query(sql).to_pylist()
        return rows

    def loaded(self, table: str) -> set[str]:
        """Manifest keys of all deliveries loaded into a table."""
        rows = self._rows(f"SELECT manifest FROM {LEDGER}.loads WHERE table_name = {literal(table)}")
        return {row["manifest"] for row in rows}

    def refused(self, table: str) -> set[str]:
        """Manifest keys of all deliveries of a table that were refused as a whole once."""
        rows = self._rows(
            f"SELECT DISTINCT manifest FROM {LEDGER}.refusals WHERE table_name = {literal(table)}"
            " AND manifest IS NOT NULL AND file IS NULL"
        )
        return {row["manifest"] for row in rows}

    def incomplete(self, table: str) -> set[str]:
        """Partitions of a table whose last delivery was loaded without some of its files: those were refused."""
        rows = self._rows(
            f"SELECT l.partition_key FROM (SELECT partition_key, max(manifest) AS manifest FROM {LEDGER}.loads"
            f" WHERE table_name = {literal(table)} GROUP BY partition_key) AS l WHERE l.manifest IN"
            f" (SELECT manifest FROM {LEDGER}.refusals WHERE table_name = {literal(table)} AND file IS NOT NULL)"
        )
        return {row["partition_key"] for row in rows}

    def refused_last(self, table: str) -> set[str]:
        """Partitions of a table whose newest delivery is refused as a whole."""
        rows = self._rows(
            f"SELECT DISTINCT r.partition_key FROM {LEDGER}.refusals AS r LEFT JOIN (SELECT partition_key,"
            f" max(manifest) AS newest FROM {LEDGER}.loads WHERE table_name = {literal(table)} GROUP BY partition_key)"
            f" AS l ON l.partition_key = r.partition_key WHERE r.table_name = {literal(table)}"
            " AND r.manifest IS NOT NULL AND r.file IS NULL AND (l.newest IS NULL OR l.newest < r.manifest)"
        )
        return {row["partition_key"] for row in rows}

    def refuse(self, refusals: Sequence[Refused]) -> list[bool]:
        """Record what was refused, all or nothing; of each, whether that was known, for the same reason.

        Loads record their refusals themselves.
        """
        if not refusals:
            return []
        tables = ", ".join(sorted({literal(item.table_name) for item in refusals}))
        partitions = ", ".join(sorted({literal(item.partition_key) for item in refusals}))
        columns = ("table_name", "partition_key", "manifest", "file", "data_version", "reason")
        rows = self._rows(
            f"SELECT {', '.join(columns)} FROM {LEDGER}.refusals"
            f" WHERE table_name IN ({tables}) AND partition_key IN ({partitions})"
        )
        known = {tuple(row[column] for column in columns) for row in rows}
        said = [tuple(getattr(item, column) for column in columns) in known for item in refusals]
        new = [item for item, before in zip(refusals, said, strict=True) if not before]
        if new:
            self._warehouse.append("refusals", rows_of("refusals", new))
        return said

    def refused_in(self, table: str, run_ids: Collection[str]) -> list[Refused]:
        """What was refused of a table for the first time in one of these runs."""
        if not run_ids:
            return []
        rows = self._rows(
            f"SELECT {', '.join(f.name for f in fields(Refused))} FROM {LEDGER}.refusals"
            f" WHERE table_name = {literal(table)} AND run_id IN ({', '.join(map(literal, sorted(run_ids)))})"
            " ORDER BY refused_at, reason"
        )
        return [Refused(**row) for row in rows]

    def data_versions(self, table: str) -> dict[str, str]:
        """Partition key → data version, for every partition of a table that has been loaded."""
        return self.all_data_versions([table]).get(table, {})

    def all_data_versions(self, tables: Collection[str]) -> dict[str, dict[str, str]]:
        """Table → partition key → data version.

        A load counts for its own partition and for those it took rows from (a key that moved between partitions), and
        so does a replay that brought rows.
        When it was loaded counts too: a delivery that is loaded anew after a reset, under other rules perhaps, may
        leave other rows, and no verdict or build of before may stand for them.
        """
        if not tables:
            return {}
        names = ", ".join(map(literal, tables))
        rows = self._rows(
            f"SELECT table_name, partition_key, load_id, loaded_at, affected_partitions FROM {LEDGER}.loads"
            f" WHERE table_name IN ({names})"
            f" UNION ALL SELECT table_name, partition_key, replay_id, replayed_at, affected_partitions"
            f" FROM {LEDGER}.replays WHERE table_name IN ({names}) AND rows_loaded > 0 AND undone_at IS NULL"
        )
        loads: dict[str, dict[str, set[str]]] = {table: {} for table in tables}
        for row in rows:
            touched = {row["partition_key"], *json.loads(row["affected_partitions"] or "[]")}
            load = f"{row['load_id']} {row['loaded_at'].astimezone(UTC).isoformat()}"
            for partition in touched:
                loads[row["table_name"]].setdefault(partition, set()).add(load)
        return {
            table: {partition: version_of(ids) for partition, ids in partitions.items()}
            for table, partitions in loads.items()
        }

    def robbed(self, table: str, run_ids: Collection[str]) -> set[str]:
        """Partitions of a table that loads of some runs took rows from: their keys moved to another partition."""
        rows = self._rows(
            f"SELECT affected_partitions FROM {LEDGER}.loads WHERE table_name = {literal(table)}"
            f" AND run_id IN ({', '.join(map(literal, sorted(run_ids)))})"
        )
        return {key for row in rows for key in json.loads(row["affected_partitions"] or "[]")}

    def table_versions(self, tables: Collection[str]) -> dict[str, str]:
        """Table → data version of all its rows; that of a table that was never loaded is one too."""
        return {table: version_of(found.values()) for table, found in self.all_data_versions(tables).items()}

    def record_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Append verdicts, in one transaction."""
        if verdicts:
            self._warehouse.append("verdicts", rows_of("verdicts", verdicts))

    def record_builds(self, builds: Sequence[Build]) -> None:
        """Append builds, in one transaction."""
        if builds:
            self._warehouse.append("builds", rows_of("builds", builds))

    def record_run_ends(self, ends: Sequence[RunEnd]) -> None:
        """Append how runs ended, in one transaction."""
        moment = now()
        rows = [
            {
                "run_id": end.run_id,
                "job": end.job,
                "partition_key": end.partition_key,
                "status": str(end.status),
                "steps": json.dumps(list(end.steps)),
                "failures": redact(json.dumps(dict(end.failures), ensure_ascii=False)),
                "checks": redact(json.dumps([asdict(check) for check in end.checks], ensure_ascii=False)),
                "parts": json.dumps({"done": end.parts, "failed": end.failed, "whole": end.whole}, ensure_ascii=False),
                "ended_at": end.ended_at,
                "recorded_at": moment,
            }
            for end in ends
        ]
        if rows:
            self._warehouse.append("runs", pa.Table.from_pylist(rows, schema=schema("runs")))

    def ended_runs(self, since: datetime) -> dict[str, datetime]:
        """Run → when it ended, of those recorded that ended since a moment."""
        rows = self._rows(
            f"SELECT run_id, ended_at FROM {LEDGER}.runs WHERE ended_at >= {instant(since, self._warehouse.dialect)}"
        )
        return {row["run_id"]: row["ended_at"].astimezone(UTC) for row in rows}

    def run_ends(self, since: datetime) -> list[RunEnd]:
        """How runs ended that were recorded since a moment, each once, the oldest first."""
        rows = self._rows(
            "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY run_id ORDER BY recorded_at) AS oldest"
            f" FROM {LEDGER}.runs WHERE recorded_at >= {instant(since, self._warehouse.dialect)}) AS ranked"
            " WHERE oldest = 1 ORDER BY ended_at, run_id"
        )
        return list(map(_run_end, rows))

    def record_costs(self, costs: Mapping[str, Cost], step: str, run_id: str) -> None:
        """Append what a step cost, by table or model, as far as it was charged for."""
        moment = now()
        rows = [
            {
                "object_name": name,
                "step": step,
                "jobs": cost.jobs,
                "bytes_billed": cost.bytes_billed,
                "slot_milliseconds": cost.slot_milliseconds,
                "run_id": run_id,
                "recorded_at": moment,
            }
            for name, cost in costs.items()
            if cost.jobs
        ]
        if rows:
            self._warehouse.append("costs", pa.Table.from_pylist(rows, schema=schema("costs")))

    def latest_verdicts(
        self, objects: Collection[str], rules: Collection[str] = (), partition: str | None = None
    ) -> dict[str, dict[str, list[Verdict]]]:
        """Object → partition key → the newest verdict of each rule.

        Args:
            rules: ids of those that are asked for; none: all.
            partition: the one that is asked for; None: all.
        """
        result: dict[str, dict[str, list[Verdict]]] = {name: {} for name in objects}
        if not objects:
            return result
        names = [item.name for item in fields(Verdict)]
        where = f"object_name IN ({', '.join(map(literal, objects))})"
        where += f" AND rule_id IN ({', '.join(map(literal, rules))})" if rules else ""
        where += f" AND partition_key = {literal(partition)}" if partition is not None else ""
        rows = self._warehouse.query(
            f"SELECT {', '.join(names)} FROM (SELECT *, ROW_NUMBER() OVER"
            f" (PARTITION BY object_name, partition_key, rule_id ORDER BY evaluated_at DESC, run_id DESC) AS newest"
            f" FROM {LEDGER}.verdicts WHERE {where}) AS ranked"
            " WHERE newest = 1"
        )
        # By column: years of days have more verdicts than anything else that is read.
        columns = {name: rows[name].to_pylist() for name in names}
        columns["dimension"] = list(map(Dimension, columns["dimension"]))
        columns["severity"] = list(map(Severity, columns["severity"]))
        for verdict in map(Verdict, *columns.values()):
            result[verdict.object_name].setdefault(verdict.partition_key, []).append(verdict)
        return result

    def latest_builds(self, models: Collection[str]) -> dict[str, dict[str, Build]]:
        """Model → partition key → the newest build."""
        result: dict[str, dict[str, Build]] = {name: {} for name in models}
        if not models:
            return result
        rows = self._rows(
            f"SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY model, partition_key"
            f" ORDER BY built_at DESC, run_id DESC) AS newest FROM {LEDGER}.builds"
            f" WHERE model IN ({', '.join(map(literal, models))})) AS ranked WHERE newest = 1"
        )
        for row in rows:
            del row["newest"]
            build = Build(**{**row, "inputs": json.loads(row["inputs"])})
            result[build.model][build.partition_key] = build
        return result

    def published(self, models: Collection[str]) -> dict[str, dict[str, str]]:
        """Model → partition key → data version that is in production now."""
        result: dict[str, dict[str, str]] = {name: {} for name in models}
        if not models:
            return result
        rows = self._rows(
            f"SELECT model, partition_key, data_version FROM (SELECT *, ROW_NUMBER() OVER"
            f" (PARTITION BY model, partition_key ORDER BY published_at DESC, publication_id DESC) AS newest"
            f" FROM {LEDGER}.publications WHERE model IN ({', '.join(map(literal, models))})) AS ranked"
            f" WHERE newest = 1"
        )
        for row in rows:
            result[row["model"]][row["partition_key"]] = row["data_version"]
        return result

    def publication_numbers(self, model: str) -> dict[str, int]:
        """Partition key → how often it was published."""
        rows = self._rows(
            f"SELECT partition_key, COUNT(*) AS n FROM {LEDGER}.publications WHERE model = {literal(model)}"
            " GROUP BY partition_key"
        )
        return {row["partition_key"]: row["n"] for row in rows}


def instant(moment: datetime, dialect: str) -> str:
    """A moment as a literal of an engine's SQL."""
    word = "TIMESTAMP" if dialect == "bigquery" else "TIMESTAMPTZ"
    return f"{word} '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"


def now() -> datetime:
    """The current instant, as the ledger stores it."""
    return datetime.now(UTC)
