"""What a table promises: the typed view of a contract that the rest of the platform reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dataops_platform.contracts.file_formats import PARQUET, FileReading
from dataops_platform.contracts.object_patterns import ObjectPattern
from dataops_platform.contracts.partitions import UNPARTITIONED, Cut, Partitioning
from dataops_platform.contracts.types import FieldType


class Dimension(StrEnum):
    """The six data quality dimensions. ODCS writes validity as `conformity`."""

    COMPLETENESS = "completeness"
    ACCURACY = "accuracy"
    CONSISTENCY = "consistency"
    UNIQUENESS = "uniqueness"
    TIMELINESS = "timeliness"
    VALIDITY = "validity"


class Severity(StrEnum):
    """`error` blocks (rows go to quarantine, or the gate stays shut); `warning` is only reported."""

    ERROR = "error"
    WARNING = "warning"


class LoadMode(StrEnum):
    """How deliveries become the staging table."""

    APPEND = "append"
    MERGE = "merge"
    REPLACE = "replace"


class SchemaPolicy(StrEnum):
    """What becomes of columns that a delivery has and the contract hasn't."""

    STRICT = "strict"  # the delivery is refused
    ADDITIVE = "additive"  # they are added to the warehouse's tables
    IGNORE = "ignore"  # they stay in the lake


class BadRowAction(StrEnum):
    """What happens to a row that breaks a row-level rule of severity error."""

    QUARANTINE = "quarantine"
    BLOCK = "block"


class Scope(StrEnum):
    """Over which rows a rule is evaluated: each partition by itself, or the whole table."""

    PARTITION = "partition"
    TABLE = "table"


class RuleKind(StrEnum):
    """The rule catalogue. The first block judges single rows, the second sets of rows."""

    NOT_NULL = "not_null"
    MISSING = "missing"  # null or one of args["sentinels"]
    RANGE = "range"  # args: minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf
    LENGTH = "length"  # args: minLength, maxLength
    PATTERN = "pattern"  # args: pattern (RE2 syntax; unanchored search, as in JSON Schema)
    FORMAT = "format"  # args: format, a name of `contracts.formats`
    IN_SET = "in_set"  # args: values
    NOT_IN_SET = "not_in_set"  # args: values
    COMPARE = "compare"  # columns: left and right; args: operator, one of =, !=, <, <=, >, >=
    CONDITION = "condition"  # args: condition, an SQL boolean that is true for a BAD row

    DUPLICATES = "duplicates"  # columns: the key; rows - distinct keys
    ROW_COUNT = "row_count"
    ORPHANS = "orphans"  # args: table, columns (the referenced ones); rows whose key has no parent
    AGGREGATE = "aggregate"  # args: function (see `AGGREGATES`) of columns[0], and quantile for that function
    ANOMALY = "anomaly"  # args: function (also row_count), history, minimum; deviations from the partitions before
    DRIFT = "drift"  # args: metric (psi, js), bins, first, last; distance of columns[0] to a frozen reference
    RECONCILE = "reconcile"  # args: function (row_count, sum), table (None: the manifests), column, and its cut
    QUERY = "query"  # args: query, a scalar SELECT over {object}
    SCHEMA = "schema"  # columns that the warehouse's table lacks, has beyond the contract, or of another type

    LATENCY = "latency"  # hours between a partition's end and its first delivery
    EVENT_LATENCY = "event_latency"  # most hours between columns[0] of a row and its delivery
    FRESHNESS = "freshness"  # hours between the newest columns[0] and now
    ARRIVAL = "arrival"  # args: hours; partitions that ended that long ago and were never delivered

    @property
    def row_level(self) -> bool:
        """Whether the rule decides row by row, so that failing rows can be told apart from good ones."""
        return self in _ROW_LEVEL


_ROW_LEVEL = frozenset(
    {
        RuleKind.NOT_NULL,
        RuleKind.MISSING,
        RuleKind.RANGE,
        RuleKind.LENGTH,
        RuleKind.PATTERN,
        RuleKind.FORMAT,
        RuleKind.IN_SET,
        RuleKind.NOT_IN_SET,
        RuleKind.COMPARE,
        RuleKind.CONDITION,
    }
)

AGGREGATES = ("avg", "min", "max", "sum", "stddev", "median", "quantile", "distinct")
"""What an aggregate rule can observe; `quantile` interpolates between neighbours, `distinct` counts values."""


class Operator(StrEnum):
    """ODCS comparison operators between the observed value and the threshold."""

    BE = "mustBe"
    NOT_BE = "mustNotBe"
    GREATER = "mustBeGreaterThan"
    GREATER_EQUAL = "mustBeGreaterOrEqualTo"
    LESS = "mustBeLessThan"
    LESS_EQUAL = "mustBeLessOrEqualTo"
    BETWEEN = "mustBeBetween"  # inclusive
    NOT_BETWEEN = "mustNotBeBetween"


class Unit(StrEnum):
    """What a count of failing rows is expressed in before it is compared."""

    ROWS = "rows"
    PERCENT = "percent"  # of the rows scanned; 0 when there are none


@dataclass(frozen=True, slots=True)
class Threshold:
    """What the observed value must satisfy; `values` holds one number, or two for the between operators."""

    operator: Operator = Operator.BE
    values: tuple[float, ...] = (0,)
    unit: Unit = Unit.ROWS

    def holds(self, observed: float | None) -> bool:
        """Whether `observed` satisfies the threshold. An unknown value (None or NaN) satisfies none."""
        if observed is None or math.isnan(observed):
            return False
        low, high = self.values[0], self.values[-1]
        match self.operator:
            case Operator.BE:
                return observed == low
            case Operator.NOT_BE:
                return observed != low
            case Operator.GREATER:
                return observed > low
            case Operator.GREATER_EQUAL:
                return observed >= low
            case Operator.LESS:
                return observed < low
            case Operator.LESS_EQUAL:
                return observed <= low
            case Operator.BETWEEN:
                return low <= observed <= high
            case Operator.NOT_BETWEEN:
                return not low <= observed <= high

    def __str__(self) -> str:
        values = ", ".join(f"{value:.15g}" for value in self.values)
        percent = " %" if self.unit is Unit.PERCENT else ""
        return f"{self.operator} {values}{percent}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One expectation of a contract.

    Attributes:
        id: unique within its table; letters, digits and underscores. The name of the asset check.
        kind: which entry of the catalogue.
        columns: the columns judged, in order; empty for rules about whole tables.
        args: parameters of the kind, see `RuleKind`.
        threshold: what the observed value must satisfy. Observed is: failing rows (or percent) for row rules,
            duplicates and orphans; the count, aggregate, distance, scalar or hours for the others.
        scope: partition or table.
        line: line in the contract file where it is declared.
    """

    id: str
    kind: RuleKind
    dimension: Dimension
    severity: Severity
    description: str
    columns: tuple[str, ...] = ()
    args: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    threshold: Threshold = Threshold()
    scope: Scope = Scope.PARTITION
    line: int = 0

    @property
    def splits_rows(self) -> bool:
        """Whether rows that break it are kept out of staging one by one (row-level, error, none tolerated)."""
        return self.kind.row_level and self.severity is Severity.ERROR and self.threshold == Threshold()

    @property
    def other_table(self) -> str | None:
        """The table that the rule reads besides its own, if any: it must be judged anew when that one changes."""
        return self.args.get("table") if self.kind in (RuleKind.ORPHANS, RuleKind.RECONCILE) else None

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the outcome: a verdict counts only for the rule it was reached with."""
        threshold = [self.threshold.operator, [float(value) for value in self.threshold.values], self.threshold.unit]
        parts = [self.kind, self.columns, dict(self.args), threshold, self.scope, self.severity]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


PUBLIC = "public"
MASK = "•••"
"""Stands for the value of a column that isn't public, wherever single rows are shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as declared.

    Attributes:
        declared: whether the contract has it; else deliveries brought it (see `SchemaPolicy`), and none has to.
    """

    name: str
    type: FieldType
    required: bool = False
    description: str = ""
    classification: str | None = None
    line: int = 0
    declared: bool = True

    @property
    def public(self) -> bool:
        """Whether its values may be shown: it has no classification, or that one."""
        return self.classification is None or self.classification.lower() == PUBLIC


@dataclass(frozen=True, slots=True)
class BadRows:
    """What happens to bad rows; more of them than the limits refuse a delivery as a whole.

    Attributes:
        max_percent: of a delivery's rows.
        max_rows: of a delivery; None: no such limit.
    """

    action: BadRowAction = BadRowAction.QUARANTINE
    max_percent: float = 100.0
    max_rows: int | None = None

    def __str__(self) -> str:
        rows = "" if self.max_rows is None else f", maxRows {self.max_rows}"
        return f"{self.action}, maxPercent {self.max_percent:g}{rows}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table's deliveries come from: an extractor and its options."""

    extractor: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class AfterLanding(StrEnum):
    """What becomes of a landed object once its delivery is in the lake."""

    KEEP = "keep"
    REMOVE = "remove"


LATE_WINDOW = 3
"""How many of the newest partitions a look at landing begins with, unless the contract says otherwise."""


@dataclass(frozen=True, slots=True)
class Landing:
    """Where others write a table's objects.

    Attributes:
        location: `gs://bucket/prefix`, or a folder, relative to the project.
        pattern: the names of the table's objects there.
        reading: how they are written.
        environment: the one DATAOPS_ENV that it is for; None: any.
        window: how many of the newest partitions are looked at first, and most often.
    """

    location: str
    pattern: ObjectPattern
    reading: FileReading = PARQUET
    after: AfterLanding = AfterLanding.KEEP
    environment: str | None = None
    window: int = LATE_WINDOW
    line: int = 0

    @property
    def in_bucket(self) -> bool:
        """Whether it is a bucket, not a folder."""
        return self.location.startswith("gs://")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a contract: everything the platform does for it follows from this.

    Attributes:
        schema_policy: what becomes of columns that deliveries have beyond the contract.
        partition_filter: whether BigQuery refuses queries that don't name partitions.
        expiration_days: after how many days BigQuery drops a partition; None: never.
        partitions_per_run: how many partitions one run takes on at most; None: all that are asked.
        landings: where others write its objects, by environment; such a table has no source.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    load_mode: LoadMode = LoadMode.APPEND
    bad_rows: BadRows = BadRows()
    schema_policy: SchemaPolicy = SchemaPolicy.STRICT
    partitioning: Cut | None = None
    clustering: tuple[str, ...] = ()
    partition_filter: bool = False
    expiration_days: int | None = None
    partitions_per_run: int | None = None
    rules: tuple[Rule, ...] = ()
    source: Source | None = None
    landings: tuple[Landing, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None
    contract_id: str = ""
    contract_version: str = ""
    version_line: int = 0
    file: Path = Path()
    line: int = 0

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def by_time(self) -> Partitioning | None:
        """How the table is cut by time, if it is."""
        return self.partitioning if isinstance(self.partitioning, Partitioning) else None

    def landing(self, environment: str, in_bucket: bool) -> Landing | None:
        """Where others write its objects in an environment, if anywhere.

        A place that names the environment comes before one that is for any.

        Args:
            environment: DATAOPS_ENV.
            in_bucket: whether the platform is on Google Cloud; else only folders are looked at.
        """
        fitting = [x for x in self.landings if x.in_bucket is in_bucket and x.environment in (None, environment)]
        return max(fitting, key=lambda x: x.environment is not None, default=None)

    @property
    def cut(self) -> str:
        """What one partition is: `hour`, `day`, `week`, `month` or `name`; empty without partitions.

        Keys alone don't tell: the first day of a month is spelled as the month is.
        """
        if self.partitioning is None:
            return ""
        return str(self.by_time.granularity) if self.by_time else "name"

    @property
    def delivered(self) -> bool:
        """Whether it gets deliveries, from a source or by others; else Python assets write it."""
        return self.source is not None or bool(self.landings)

    @property
    def splitting_rules(self) -> tuple[Rule, ...]:
        """The rules that send single rows to quarantine at load."""
        if self.bad_rows.action is not BadRowAction.QUARANTINE:
            return ()
        return tuple(rule for rule in self.rules if rule.splits_rows)

    def partition_keys(self, first: str | None = None, last: str | None = None) -> list[str]:
        """The table's partition keys, or the one key of a table without partitions."""
        return self.partitioning.keys(first, last) if self.partitioning else [UNPARTITIONED]


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract file, read and checked."""

    id: str
    name: str
    version: str
    file: Path
    tables: tuple[Table, ...]
    description: str = ""
    domain: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Contracts:
    """All contracts of a project; table names are unique across them."""

    items: tuple[Contract, ...]

    @property
    def tables(self) -> dict[str, Table]:
        """Every table by name, in name order."""
        return {t.name: t for t in sorted((t for c in self.items for t in c.tables), key=lambda t: t.name)}

    @property
    def sourced(self) -> dict[str, Table]:
        """The tables that get deliveries, from a source or by others; the rest is written by Python assets."""
        return {name: table for name, table in self.tables.items() if table.delivered}
