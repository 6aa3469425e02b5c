"""A table as a pandera schema, and a guard for data that passes through Python.

In the schema are the columns with their types, the rules about single rows and those about keys. Left to the engine:
references (they need the other table), and what is about whole partitions: row counts, aggregates, histograms,
reconciliation, queries, and when data came; a frame may be part of a partition. Rules of severity warning refuse
nothing, so they aren't in the schema either. For keys a frame is taken as one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pp
import pyarrow as pa
from pandera.errors import SchemaErrors

from dataops_platform.contracts.arrow import arrow_schema
from dataops_platform.contracts.frames import convert_series, dtype, wrong_type
from dataops_platform.contracts.model import Column, Rule, RuleKind, Severity, Table, Threshold, Unit
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import FieldType
from dataops_platform.quality.frame_problems import TYPE_CHECK, broken_rules, message, only_rules_broken
from dataops_platform.quality.frame_rules import columns_read, decided, failing_rows
from dataops_platform.warehouse.loading import too_many_bad_rows

_FEW = 10
"""Failure cases of each check that pandera writes out where only the rows are asked for. By itself it makes an object
of every bad value, and for a rule about several columns of every value of every bad row."""


def pandera_schema(table: Table, rules: Iterable[Rule] | None = None) -> pp.DataFrameSchema:
    """The pandera schema of a table: its columns, and its rules that block and that a frame can be judged by.

    Validating converts each column to the pandas type that can hold its values and nulls, exactly or not at all
    (see `frames`). Each check has the rule's id as its name. A column that isn't required may be absent: it is a column
    of nulls then.

    Args:
        table: the table.
        rules: of the table's rules, those to have in the schema; all by default, none for columns and types alone.
    """
    return _schema(table, rules, None)


def _schema(table: Table, rules: Iterable[Rule] | None, cases: int | None) -> pp.DataFrameSchema:
    """See `pandera_schema`.

    Args:
        cases: failure cases that each check writes out at most; with a limit, a frame's index must be unique.
    """
    chosen = [
        rule for rule in (table.rules if rules is None else rules) if rule.severity is Severity.ERROR and decided(rule)
    ]

    def check(passing: Callable[[Any], Any], name: str) -> pp.Check:
        return pp.Check(passing, name=name, error=name, ignore_na=False, n_failure_cases=cases)

    of_column: dict[str, list[pp.Check]] = {column.name: [] for column in table.columns}
    of_rows: list[pp.Check] = []
    for rule in chosen:
        names = columns_read(table, rule)
        if len(names) == 1 and rule.kind is not RuleKind.DUPLICATES:
            of_column[names[0]].append(check(_value_check(table, rule, names[0]), rule.id))
        else:
            of_rows.append(check(_row_check(table, rule, names), rule.id))
    columns = {
        column.name: pp.Column(
            dtype(column.type),
            parsers=pp.Parser(_parser(column.type)),
            checks=[check(_type_check(column), TYPE_CHECK), *of_column[column.name]],
            nullable=True,  # completeness is a rule with an id, like all others
            required=column.required,
            description=column.description or None,
        )
        for column in table.columns
    }
    return pp.DataFrameSchema(
        columns,
        parsers=pp.Parser(lambda frame: _with_absent_columns(table, frame)),
        checks=of_rows,
        strict=True,
        name=table.name,
        description=table.description or None,
    )


def validate(table: Table, frame: pd.DataFrame, rules: Iterable[Rule] | None = None) -> pd.DataFrame:
    """The frame with its columns converted to the contract's types.

    Args:
        table: what the frame is meant to be.
        frame: the data; it isn't changed.
        rules: see `pandera_schema`.

    Raises:
        DataRefused: the frame isn't as the contract says; the message lists everything that is wrong.
    """
    try:
        valid = _schema(table, rules, _FEW).validate(frame.reset_index(drop=True), lazy=True)
    except SchemaErrors as errors:
        raise DataRefused(message(table, errors)) from None
    return valid.set_axis(frame.index)


@dataclass(frozen=True, slots=True)
class Split:
    """A frame cut in two, as Arrow with the contract's types.

    Attributes:
        good: rows that break no blocking rule.
        bad: rows that break a rule that splits rows; all columns may be null.
        reasons: of each bad row, the ids of the rules it breaks, in the contract's order.
        positions: of each bad row, its 0-based place in the frame.
    """

    good: pa.Table
    bad: pa.Table
    reasons: pa.Array
    positions: pa.Array


def split(table: Table, frame: pd.DataFrame) -> Split:
    """Part the rows that a load would send to quarantine from the good ones, with the same reasons.

    Rules that split no rows (keys, other thresholds) are about what is left, as they are after a load.

    Raises:
        DataRefused: there are values that aren't of their column's type, or columns too many or too few; more rows are
            bad than `onBadRow` allows; or the good ones, all together, aren't as the contract says.
    """
    try:
        good = _schema(table, None, _FEW).validate(frame.reset_index(drop=True), lazy=True)
    except SchemaErrors as errors:
        return _parted(table, errors)
    return Split(_arrow(table, good), *_held(table, good, {}))


def _parted(table: Table, errors: SchemaErrors) -> Split:
    splitting = {rule.id for rule in table.splitting_rules}
    broken = {b.rule.id: b.rows for b in broken_rules(table, errors) if b.rows is not None and b.rule.id in splitting}
    if not broken or not only_rules_broken(table, errors):
        raise DataRefused(message(table, errors)) from None
    converted: pd.DataFrame = errors.data
    bad = np.logical_or.reduce(list(broken.values()))
    if (why := too_many_bad_rows(int(bad.sum()), len(converted), table.bad_rows)) is not None:
        raise DataRefused(f"{table.name}: {why}\n{message(table, errors)}") from None
    good = validate(table, converted[~bad])
    return Split(_arrow(table, good), *_held(table, converted, broken))


def _arrow(table: Table, frame: pd.DataFrame, enforce_required: bool = True) -> pa.Table:
    schema = arrow_schema(table, enforce_required=enforce_required)
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False)


def _held(
    table: Table, frame: pd.DataFrame, broken: Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]]
) -> tuple[pa.Table, pa.Array, pa.Array]:
    """The bad rows of a converted frame, their reasons and their positions.

    Args:
        broken: rule id → True for each row that breaks it.
    """
    masks = np.array(list(broken.values()), dtype=bool).reshape(len(broken), len(frame))
    positions = np.flatnonzero(masks.any(axis=0))
    found = masks[:, positions].T  # row by row: the reasons of each are neighbours
    ids = np.tile(np.array(list(broken), dtype=object), (len(positions), 1))[found]
    ends = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
    reasons = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(ids, pa.string()))
    return _arrow(table, frame.iloc[positions], False), reasons, pa.array(positions, pa.int64())


def _with_absent_columns(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    absent = [c.name for c in table.columns if not c.required and c.name not in frame.columns]
    return frame.assign(**dict.fromkeys(absent)) if absent else frame


def _parser(field_type: FieldType) -> Callable[[pd.Series[Any]], pd.Series[Any]]:
    return lambda series: convert_series(series, field_type)


def _type_check(column: Column) -> Callable[[pd.Series[Any]], Any]:
    return lambda series: ~wrong_type(series, column.type)


def _value_check(table: Table, rule: Rule, name: str) -> Callable[[pd.Series[Any]], Any]:
    return lambda series: _judged(rule, failing_rows(table, rule, series.to_frame(name)))


def _row_check(table: Table, rule: Rule, names: Collection[str]) -> Callable[[pd.DataFrame], Any]:
    def passing(frame: pd.DataFrame) -> Any:
        if not set(names) <= set(frame.columns):
            return True  # reported as missing columns
        return _judged(rule, failing_rows(table, rule, frame))

    return passing


def _judged(rule: Rule, failing: pd.Series[Any]) -> Any:
    """Row by row when no row may fail; else one verdict for the whole frame."""
    if rule.threshold == Threshold():
        return ~failing
    count, rows = int(failing.sum()), len(failing)
    observed = count if rule.threshold.unit is Unit.ROWS else 100 * count / rows if rows else 0
    return rule.threshold.holds(observed)
