"""What pandera found wrong with a frame, as rules that are broken and as one message."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from dataops_platform.contracts.model import MASK, Rule, RuleKind, Table
from dataops_platform.quality.frame_rules import columns_read

TYPE_CHECK = "type"
"""Name of the check that a column's values are of its type; no rule's id, since those say what they are about."""
_SHOWN_VALUES = 3
_SHOWN_PROBLEMS = 50
_RAISED = re.compile(r'^\w+\("(.*)"\)$', re.DOTALL)
"""How pandera writes an exception that a check raised."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a frame breaks.

    Attributes:
        rows: True for each row that breaks it; None where it is judged for the frame as a whole.
        error: why it could not be computed, if so.
    """

    rule: Rule
    rows: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    error: str | None = None


def broken_rules(table: Table, errors: SchemaErrors) -> list[Broken]:
    """The rules that a frame breaks, in the contract's order."""
    order = {rule.id: number for number, rule in enumerate(table.rules)}
    found = []
    for error in errors.schema_errors:
        number = order.get(_check_name(error))
        if number is None:
            continue
        rule, output = table.rules[number], error.check_output
        if error.reason_code is SchemaErrorReason.CHECK_ERROR:
            raised = _RAISED.match(str(error.failure_cases))
            found.append(Broken(rule, error=raised[1] if raised else str(error.failure_cases)))
        else:
            found.append(Broken(rule, ~output.to_numpy(dtype=bool) if isinstance(output, pd.Series) else None))
    return sorted(found, key=lambda broken: order[broken.rule.id])


def only_rules_broken(table: Table, errors: SchemaErrors) -> bool:
    """Whether the frame has the contract's columns and types, and every rule could be computed."""
    rules = {rule.id for rule in table.rules}
    return all(
        _check_name(error) in rules and error.reason_code is not SchemaErrorReason.CHECK_ERROR
        for error in errors.schema_errors
    )


def message(table: Table, errors: SchemaErrors) -> str:
    """Everything that is wrong: what concerns the frame, then column by column, then rules of several columns."""
    data: pd.DataFrame = errors.data
    order = [column.name for column in table.columns]
    lines: dict[str, int] = {}  # with their rank
    for broken in broken_rules(table, errors):
        names = columns_read(table, broken.rule)
        last = len(names) != 1 or broken.rule.kind is RuleKind.DUPLICATES
        lines[_broken_line(table, broken, names, data)] = len(order) if last else order.index(names[0])
    mistyped = {error.schema.name for error in errors.schema_errors if _check_name(error) == TYPE_CHECK}
    rules = {rule.id for rule in table.rules}
    for error in errors.schema_errors:
        if _check_name(error) == TYPE_CHECK:
            column = error.schema.name
            wrong = data[column][~error.check_output.to_numpy(dtype=bool)].tolist()
            if not table.column(column).public:
                wrong = [MASK] * len(wrong)
            kind = table.column(column).type.kind
            lines[f"{column} [{TYPE_CHECK}]: {_rows(len(wrong))} not of type {kind}: {_sample(wrong)}"] = order.index(
                column
            )
    cases = errors.failure_cases
    for check, column, value in zip(cases["check"], cases["column"], cases["failure_case"], strict=True):
        if check == "column_in_schema":
            lines[f"{value}: isn't a column of the contract"] = -1
        elif check == "column_in_dataframe":
            lines[f"{value}: the column is missing"] = -1
        elif check not in rules and check != TYPE_CHECK and column not in mistyped:
            lines[f"{column} [{check}]: {_shown(value)}"] = -1
    shown = sorted(lines, key=lambda line: lines[line])[:_SHOWN_PROBLEMS]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown)} more")
    what = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return "\n  ".join([f"{table.name}: {what} in {_rows(len(data))}", *shown])


def _check_name(error: SchemaError) -> str:
    return str(getattr(error.check, "name", error.check))


def _broken_line(table: Table, broken: Broken, names: Sequence[str], data: pd.DataFrame) -> str:
    rule = broken.rule
    head = f"{', '.join(names) or 'every column'} [{rule.id}]"
    what = f" ({rule.description.rstrip('.')})" if rule.description else ""
    if broken.error is not None:
        return f"{head}: {broken.error}"
    if broken.rows is None:
        return f"{head}: failing rows: not {rule.threshold}{what}"
    failing = data.loc[broken.rows, list(names)]
    hidden = {name: MASK for name in names if not table.column(name).public}
    rows = failing.assign(**hidden).drop_duplicates().head(_SHOWN_VALUES + 1).itertuples(index=False)
    return f"{head}: {_rows(len(failing))} failing{what}: {_sample([' '.join(map(_shown, row)) for row in rows])}"


def _sample(values: Sequence[Any]) -> str:
    distinct = list(dict.fromkeys(map(_shown, values)))
    return ", ".join(distinct[:_SHOWN_VALUES]) + (", …" if len(distinct) > _SHOWN_VALUES else "")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _shown(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return "null" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
