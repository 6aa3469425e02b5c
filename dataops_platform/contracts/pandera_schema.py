"""A table as a pandera schema, and a guard for data that passes through Python.

Left to the engine: conditions and queries (they are SQL), references (they need the other table), row counts,
aggregates and latency (they are about partitions, and a frame may be part of one). Rules of severity warning
don't refuse anything, so they aren't in the schema either. A frame is taken as one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from dataops_platform.contracts.frame_rules import FRAME_KINDS, duplicate_rows, failing_values
from dataops_platform.contracts.frames import convert_series, dtype, wrong_type
from dataops_platform.contracts.model import Column, Rule, RuleKind, Severity, Table, Threshold, Unit
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import FieldType

_TYPE_CHECK = "type"
_SHOWN_VALUES = 3
_SHOWN_PROBLEMS = 50


def pandera_schema(table: Table) -> pa.DataFrameSchema:
    """The pandera schema of a table: its columns, and its rules that block and that a frame can be judged by.

    Validating converts each column to the pandas type that can hold its values and nulls, exactly or not at all
    (see `frames`). Each check has the rule's id as its name. Columns that aren't required may be absent.
    """
    rules = [rule for rule in table.rules if rule.severity is Severity.ERROR and rule.kind in FRAME_KINDS]
    columns = {
        column.name: pa.Column(
            dtype(column.type),
            parsers=pa.Parser(_parser(column.type)),
            checks=[
                _type_check(column),
                *(_value_check(rule, column) for rule in rules if rule.kind.row_level and column.name in rule.columns),
            ],
            nullable=True,  # completeness is a rule with an id, like all others
            required=column.required,
            description=column.description or None,
        )
        for column in table.columns
    }
    return pa.DataFrameSchema(
        columns,
        checks=[_key_check(rule) for rule in rules if rule.kind is RuleKind.DUPLICATES],
        strict=True,
        name=table.name,
        description=table.description or None,
    )


def validate(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its columns converted to the contract's types.

    Args:
        table: what the frame is meant to be.
        frame: the data; it isn't changed.

    Raises:
        DataRefused: the frame isn't as the contract says; the message lists everything that is wrong.
    """
    try:
        return pandera_schema(table).validate(frame, lazy=True)
    except SchemaErrors as errors:
        raise DataRefused(_message(table, frame, errors.failure_cases)) from None


def _parser(field_type: FieldType) -> Callable[[pd.Series[Any]], pd.Series[Any]]:
    return lambda series: convert_series(series, field_type)


def _type_check(column: Column) -> pa.Check:
    return pa.Check(
        lambda series: ~wrong_type(series, column.type), name=_TYPE_CHECK, error=_TYPE_CHECK, ignore_na=False
    )


def _value_check(rule: Rule, column: Column) -> pa.Check:
    def passing(series: pd.Series[Any]) -> Any:
        return _judged(rule, failing_values(rule, series, column))

    return pa.Check(passing, name=rule.id, error=rule.id, ignore_na=False)


def _key_check(rule: Rule) -> pa.Check:
    def passing(frame: pd.DataFrame) -> Any:
        if not set(rule.columns) <= set(frame.columns):
            return True  # reported as missing columns
        return _judged(rule, duplicate_rows(frame, rule.columns))

    return pa.Check(passing, name=rule.id, error=rule.id, ignore_na=False)


def _judged(rule: Rule, failing: pd.Series[Any]) -> Any:
    """Row by row when no row may fail; else one verdict for the whole frame."""
    if rule.threshold == Threshold():
        return ~failing
    count, rows = int(failing.sum()), len(failing)
    observed = count if rule.threshold.unit is Unit.ROWS else 100 * count / rows if rows else 0
    return rule.threshold.holds(observed)


def _message(table: Table, frame: pd.DataFrame, cases: pd.DataFrame) -> str:
    rules = {rule.id: rule for rule in table.rules}
    groups: dict[tuple[str, str], list[Any]] = {}
    for check, column, value in zip(cases["check"], cases["column"], cases["failure_case"], strict=True):
        groups.setdefault((str(check), str(column)), []).append(value)
    mistyped = {column for check, column in groups if check == _TYPE_CHECK}
    order = [column.name for column in table.columns]
    lines: dict[str, int] = {}  # with their rank: what concerns the frame, then column by column, then keys
    for (check, column), values in groups.items():
        rank = order.index(column) if column in order else -1
        if (rule := rules.get(check)) is not None:
            last = rule.kind is RuleKind.DUPLICATES
            lines[_broken(rule, column, values, frame)] = len(order) if last else rank
        elif check == _TYPE_CHECK:
            kind = table.column(column).type.kind
            lines[f"{column} [type]: {_rows(len(values))} not of type {kind}: {_sample(values)}"] = rank
        elif check == "column_in_schema":
            lines |= dict.fromkeys((f"{name}: isn't a column of the contract" for name in values), -1)
        elif check == "column_in_dataframe":
            lines |= dict.fromkeys((f"{name}: the column is missing" for name in values), -1)
        elif column not in mistyped:
            lines[f"{column} [{check}]: {_sample(values)}"] = rank
    shown = sorted(lines, key=lambda line: lines[line])[:_SHOWN_PROBLEMS]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown)} more")
    what = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return "\n  ".join([f"{table.name}: {what} in {_rows(len(frame))}", *shown])


def _broken(rule: Rule, column: str, values: list[Any], frame: pd.DataFrame) -> str:
    """One line for a broken rule. pandera lists a repeated key once for each column of the frame."""
    what = f" ({rule.description.rstrip('.')})" if rule.description else ""
    name = ", ".join(rule.columns) if rule.kind is RuleKind.DUPLICATES else column
    if rule.threshold != Threshold():
        return f"{name} [{rule.id}]: failing rows: not {rule.threshold}{what}"
    if rule.kind is not RuleKind.DUPLICATES:
        return f"{name} [{rule.id}]: {_rows(len(values))} failing{what}: {_sample(values)}"
    failing = duplicate_rows(frame, rule.columns).to_numpy(dtype=bool)
    keys = [" ".join(map(str, key)) for key in frame.loc[failing, list(rule.columns)].itertuples(index=False)]
    return f"{name} [{rule.id}]: {_rows(int(failing.sum()))} failing{what}: {_sample(keys)}"


def _sample(values: Sequence[Any]) -> str:
    distinct = list(dict.fromkeys(map(_shown, values)))
    return ", ".join(distinct[:_SHOWN_VALUES]) + (", …" if len(distinct) > _SHOWN_VALUES else "")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _shown(value: Any) -> str:
    return "null" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
