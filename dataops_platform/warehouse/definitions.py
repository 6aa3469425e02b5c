"""What contracts said of a table when its warehouse tables were last made to fit: the ledger keeps each version of it.

Without it nobody could tell a column that the contract doesn't have any more from one that deliveries brought, nor see
that the key is another.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from dataops_platform.contracts.model import Rule, Table, Threshold
from dataops_platform.contracts.partitions import Cut, NamedPartitioning
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import Kind
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.base import NoSuchTable
from dataops_platform.warehouse.names import LEDGER, literal, staging

if TYPE_CHECKING:
    from dataops_platform.warehouse.base import Warehouse


@dataclass(frozen=True, slots=True)
class RuleSummary:
    """A rule as far as it matters that it changed.

    Attributes:
        fingerprint: see `Rule.fingerprint`.
        text: the rule in some words.
    """

    fingerprint: str
    text: str


BAD_ROWS, EXPIRATION, FILTER = "onBadRow", "partitionExpirationDays", "requirePartitionFilter"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a contract says of a table.

    Attributes:
        columns: name → type, as `FieldType` spells it, and `required` behind it where it is.
        partitioning: how the table is cut; empty where it isn't.
        rules: by id.
        options: what else the contract says of the table, by the name that it has there. Ledgers of before that was
            kept have none.
    """

    version: str
    columns: Mapping[str, str]
    primary_key: tuple[str, ...]
    load_mode: str
    schema_policy: str
    partitioning: str
    clustering: tuple[str, ...]
    rules: Mapping[str, RuleSummary]
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Table) -> Definition:
        """That of a table."""
        columns = {c.name: f"{c.type}{' required' if c.required else ''}" for c in table.columns}
        return cls(
            table.contract_version,
            columns,
            table.primary_key,
            str(table.load_mode),
            str(table.schema_policy),
            _in_zone(_cut(table.partitioning), columns) if table.partitioning is not None else "",
            table.clustering,
            {rule.id: RuleSummary(rule.fingerprint, _words(rule)) for rule in table.rules},
            {
                BAD_ROWS: str(table.bad_rows),
                EXPIRATION: str(table.expiration_days or "never"),
                FILTER: str(table.partition_filter).lower(),
            },
        )

    def to_json(self) -> str:
        """As the ledger holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Definition:
        """Read what `to_json` wrote, here or in a later version.

        Raises:
            ConfigError: it is something else.
        """
        try:
            body = json.loads(text)
            body["rules"] = {name: RuleSummary(**rule) for name, rule in body["rules"].items()}
            body |= {name: tuple(body[name]) for name in ("primary_key", "clustering")}
            body.setdefault("options", {})
            body["partitioning"] = _in_zone(body["partitioning"], body["columns"])
            return cls(**{item.name: body[item.name] for item in fields(cls)})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"a row of {LEDGER}.definitions is damaged ({type(error).__name__}: {error}): {text[:80]}. Delete it"
            ) from error


def _cut(cut: Cut) -> str:
    """How a table is cut, in words. Further days and names change nothing for the rows that are there."""
    if isinstance(cut, NamedPartitioning):
        return f"names of {cut.field}"
    return f"{cut.granularity} of {cut.field}, {cut.timezone}"


def _in_zone(cut: str, columns: Mapping[str, str]) -> str:
    """How a table is cut, without the zone where it decides nothing: only an instant has another date elsewhere.

    Args:
        cut: what `_cut` says.
        columns: see `Definition`.
    """
    what, comma, _ = cut.rpartition(", ")
    instant = columns.get(what.partition(" of ")[2], "").startswith(Kind.TIMESTAMP)
    return cut if instant or not comma else what


def _words(rule: Rule) -> str:
    of = f" of {', '.join(rule.columns)}" if rule.columns else ""
    args = "".join(f", {name} {_short(value)}" for name, value in rule.args.items() if value is not None)
    limit = f", {rule.threshold}" if rule.threshold != Threshold() else ""
    return f"{rule.dimension}: {rule.kind}{of}{args}{limit}, {rule.severity}"


def _short(value: object) -> str:
    """A rule's argument in some words: what it is, or, where that is long, how it begins."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_SHOWN = 60
"""Characters of a rule's argument that are shown."""


@dataclass(frozen=True, slots=True)
class History:
    """The definitions of a table that were applied.

    Attributes:
        applied: the last one; None: of before definitions were kept, or there is no table yet.
        versions: contract version → the last one of that version.
        loaded: whether the ledger has loads of the table.
        quarantined: rows that were quarantined by them.
    """

    applied: Definition | None = None
    versions: Mapping[str, Definition] = field(default_factory=dict)
    loaded: bool = False
    quarantined: int = 0

    def declared(self, version: str) -> Collection[str] | None:
        """The columns that a version of the contract had; None: unknown."""
        found = self.versions.get(version)
        return None if found is None else found.columns.keys()


UNKNOWN = History()


def histories(warehouse: Warehouse, tables: Collection[str]) -> dict[str, History]:
    """Table → its history, of those that have one. A ledger that isn't there yet has none."""
    if not tables:
        return {}
    names = ", ".join(literal(name, warehouse.dialect) for name in tables)
    loads = (
        "SELECT table_name, CAST(NULL AS STRING) AS definition, MAX(loaded_at) AS told, SUM(rows_quarantined) AS held"
        f" FROM {LEDGER}.loads WHERE table_name IN ({names}) GROUP BY table_name"
    )
    definitions = (
        "SELECT table_name, definition, applied_at AS told, 0 AS held"
        f" FROM {LEDGER}.definitions WHERE table_name IN ({names})"
    )
    try:
        rows = warehouse.query(f"{loads} UNION ALL {definitions} ORDER BY told").to_pylist()
    except NoSuchTable:
        try:
            rows = warehouse.query(loads).to_pylist()  # of before definitions were kept
        except NoSuchTable:
            return {}
    found: dict[str, History] = {}
    for row in rows:
        before = found.get(row["table_name"], UNKNOWN)
        if row["definition"] is None:
            found[row["table_name"]] = replace(before, loaded=True, quarantined=int(row["held"] or 0))
        else:
            read = Definition.from_json(row["definition"])
            found[row["table_name"]] = replace(before, applied=read, versions={**before.versions, read.version: read})
    return found


def abandoned(warehouse: Warehouse, tables: Collection[str]) -> list[str]:
    """Tables whose definitions were applied once, that no contract has now, and that are still there.

    Args:
        tables: those that contracts have.
    """
    try:
        rows = warehouse.query(f"SELECT DISTINCT table_name FROM {LEDGER}.definitions ORDER BY 1").to_pylist()
    except NoSuchTable:
        return []
    known = {name.lower() for name in tables}
    gone = [row["table_name"] for row in rows if row["table_name"].lower() not in known]
    return [name for name in gone if warehouse.exists(staging(name))]


def history_for(warehouse: Warehouse, table: Table, deliveries: Collection[Delivery]) -> History:
    """A table's history, as far as it matters for deliveries: their manifests say it, but for older ones."""
    if all(d.declared is not None or d.contract_version == table.contract_version for d in deliveries):
        return UNKNOWN
    return histories(warehouse, [table.name]).get(table.name, UNKNOWN)


def ledger_row(table: Table, at: datetime) -> pa.Table:
    """The ledger's row that says: a table's definition applies from now on."""
    row = {
        "table_name": table.name,
        "contract_version": table.contract_version,
        "definition": Definition.of(table).to_json(),
        "applied_at": at,
    }
    return pa.Table.from_pylist([row], schema=ledger.schema("definitions"))
