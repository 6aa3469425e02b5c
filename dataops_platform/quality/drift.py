"""Drift: how far the values of a partition are from those of a frozen reference.

The reference is cut into bins once and stored in the ledger: numbers at the quantiles of the reference, texts and
booleans by the most frequent values and one bin for all others; values that are null (or NaN) have a bin of their own.
A number that fills several quantiles (many zeros) becomes a bin by itself. From then on a partition's rows are counted
per bin, and shares compared.

PSI, the population stability index, is the sum over bins of (c - r) · ln(c / r), for the shares c of the partition and
r of the reference. JS is the Jensen-Shannon divergence with logarithms to base 2, between 0 and 1: half the sum of
both sides' Kullback-Leibler divergences from their mean. No share counts as less than `FLOOR`, so that an empty bin
has a finite weight.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataops_platform.contracts.model import Rule, Scope, Table
from dataops_platform.contracts.partitions import NamedPartitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.warehouse.names import literal, quote, staging
from dataops_platform.warehouse.partition_sql import in_partitions, partition_start

FLOOR = 0.0001
"""The least share that a bin counts with."""
MISSING = -1
"""The bin of values that are null or NaN."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A reference as it is stored.

    Attributes:
        cuts: for numbers: (value, whether it belongs to the bin below it), in order.
        values: for texts and booleans: the values that have a bin, the most frequent first.
        shares: of the bins in order (that of missing values first), summing to 1.
    """

    cuts: tuple[tuple[float, bool], ...] | None
    values: tuple[str, ...] | None
    shares: tuple[float, ...]

    @property
    def labels(self) -> list[str]:
        """Names of the bins, in order."""
        if self.values is not None:
            return ["missing", *self.values, "other"]
        names = []
        low: tuple[float, bool] | None = None
        for high in (*(self.cuts or ()), None):
            names.append(_interval(low, high))
            low = high
        return ["missing", *names]

    def as_json(self) -> str:
        """The bins, as the ledger keeps them."""
        return json.dumps({"cuts": self.cuts, "values": self.values})

    @classmethod
    def of(cls, bins: str, shares: str) -> Baseline:
        """A reference as the ledger keeps it."""
        found = json.loads(bins)
        cuts = (
            tuple((float(value), bool(inside)) for value, inside in found["cuts"])
            if found["cuts"] is not None
            else None
        )
        values = tuple(found["values"]) if found["values"] is not None else None
        return cls(cuts, values, tuple(json.loads(shares)))


def _interval(low: tuple[float, bool] | None, high: tuple[float, bool] | None) -> str:
    if low is not None and high is not None and low[0] == high[0]:
        return f"{low[0]:g}"
    left = "(-∞" if low is None else f"{'(' if low[1] else '['}{low[0]:g}"
    right = "∞)" if high is None else f"{high[0]:g}{']' if high[1] else ')'}"
    return f"{left}, {right}"


def reference_window(table: Table, rule: Rule) -> list[str] | None:
    """The partitions that the reference is taken from; None: all rows of a table without partitions."""
    cut = table.partitioning
    if cut is None:
        return None
    if isinstance(cut, NamedPartitioning):
        return cut.keys(rule.args["first"], rule.args["last"])
    moment, last, keys = cut.parse(rule.args["first"]), rule.args["last"], []
    while (key := cut.key(moment)) <= last:
        keys.append(key)
        moment = cut.next(moment)
    return keys


def categorical(table: Table, rule: Rule) -> bool:
    """Whether the bins are values, not intervals."""
    return table.column(rule.columns[0]).type.kind in (Kind.STRING, Kind.BOOLEAN)


def _value(table: Table, rule: Rule, dialect: str) -> str:
    """The column as what bins are made of: a text, or a number in double precision."""
    column = quote(rule.columns[0], dialect)
    kind = table.column(rule.columns[0]).type.kind
    if kind is Kind.STRING:
        return column
    if kind is Kind.BOOLEAN:
        return f"CAST({column} AS {'STRING' if dialect == 'bigquery' else 'VARCHAR'})"
    double = "FLOAT64" if dialect == "bigquery" else "DOUBLE"
    if kind is not Kind.NUMBER:
        return f"CAST({column} AS {double})"
    is_nan = "IS_NAN" if dialect == "bigquery" else "isnan"
    return f"CASE WHEN {is_nan}({column}) THEN NULL ELSE {column} END"


def cuts_sql(table: Table, rule: Rule, window: Collection[str] | None, dialect: str) -> str:
    """A query for what bins are made of: the values with a bin of their own, or the quantiles, one a row, in order."""
    source = (
        f"(SELECT {_value(table, rule, dialect)} AS _v FROM {staging(table.name).quoted(dialect)}"
        f" WHERE {in_partitions(table, window, '', dialect)})"
    )
    bins = rule.args["bins"]
    if categorical(table, rule):
        return f"SELECT _v FROM {source} WHERE _v IS NOT NULL GROUP BY _v ORDER BY COUNT(*) DESC, _v LIMIT {bins}"
    shares = [k / bins for k in range(1, bins)]
    if dialect == "bigquery":  # it has exact quantiles over windows only
        columns = ", ".join(f"PERCENTILE_DISC(_v, {share!r}) OVER ()" for share in shares)
        quantiles = f"(SELECT ARRAY[{columns}] FROM {source} WHERE _v IS NOT NULL LIMIT 1)"
        return f"SELECT _v FROM UNNEST({quantiles}) AS _v ORDER BY _v"
    listed = ", ".join(repr(share) for share in shares)
    return f"SELECT unnest(quantile_disc(_v, [{listed}])) AS _v FROM {source} WHERE _v IS NOT NULL ORDER BY _v"


def baseline_of(table: Table, rule: Rule, found: Sequence[Any]) -> Baseline:
    """Bins from the rows of `cuts_sql`, without shares yet."""
    if categorical(table, rule):
        return Baseline(None, tuple(str(value) for value in found), ())
    cuts: list[tuple[float, bool]] = []
    numbers = [float(value) for value in found if value is not None]
    for value in sorted(set(numbers)):
        if numbers.count(value) > 1:
            cuts.append((value, False))
        cuts.append((value, True))
    return Baseline(tuple(cuts), None, ())


def histogram_sql(
    table: Table, rule: Rule, baseline: Baseline, partitions: Collection[str] | None, scope: Scope, dialect: str
) -> str:
    """A query of rows per bin: `rule` is the bin's number, from -1; `failed` its rows."""
    by_partition = scope is Scope.PARTITION and table.partitioning is not None
    none = "CAST(NULL AS DATE)" if dialect == "bigquery" else "NULL"
    double = "FLOAT64" if dialect == "bigquery" else "DOUBLE"
    part = partition_start(table, "", dialect) if by_partition else none
    where = in_partitions(table, partitions if by_partition else None, "", dialect)
    if baseline.values is not None:
        cases = [f"_v = {literal(value, dialect)}" for value in baseline.values]
    else:
        cases = [f"_v {'<=' if inside else '<'} CAST('{value!r}' AS {double})" for value, inside in baseline.cuts or ()]
    whens = "".join(f" WHEN {case} THEN {number}" for number, case in enumerate(cases))
    return (
        f"SELECT CASE WHEN _v IS NULL THEN {MISSING}{whens} ELSE {len(cases)} END AS rule, _part AS part,"
        f" COUNT(*) AS failed, CAST(NULL AS {double}) AS observed"
        f" FROM (SELECT {part} AS _part, {_value(table, rule, dialect)} AS _v"
        f" FROM {staging(table.name).quoted(dialect)} WHERE {where}) GROUP BY 1, 2"
    )


def shares_of(baseline: Baseline, counts: Mapping[int, int]) -> tuple[float, ...]:
    """The bins' shares of some rows, that of missing values first."""
    total = sum(counts.values())
    bins = len(baseline.labels)
    return tuple(counts.get(number, 0) / total if total else 0.0 for number in range(MISSING, bins + MISSING))


def distance(metric: str, reference: Sequence[float], current: Sequence[float]) -> float:
    """PSI or JS between two lists of shares; see the module."""
    pairs = [(max(r, FLOOR), max(c, FLOOR)) for r, c in zip(reference, current, strict=True)]
    if metric == "psi":
        return math.fsum((c - r) * math.log(c / r) for r, c in pairs)
    sums = math.fsum(r for r, _ in pairs), math.fsum(c for _, c in pairs)
    terms = []
    for r, c in ((r / sums[0], c / sums[1]) for r, c in pairs):
        middle = (r + c) / 2
        terms.append(r * math.log2(r / middle) / 2 + c * math.log2(c / middle) / 2)
    return max(0.0, math.fsum(terms))
