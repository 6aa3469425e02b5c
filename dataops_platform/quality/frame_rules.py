"""Rules of a contract over a DataFrame: which rows break them.

The frame goes to an embedded engine as Arrow, and each rule is one statement with the very predicate that a load or
the planner uses. So a rule means the same for a frame as for a table on DuckDB; there is no second meaning in pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from sqlglot import exp

from dataops_platform.contracts.frames import arrow_array
from dataops_platform.contracts.model import Rule, RuleKind, Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.predicates import bad_row
from dataops_platform.quality.statements import render_bad
from dataops_platform.warehouse.names import quote

_DIALECT = "duckdb"
_POSITION = "_position"  # no contract column begins with an underscore


def decided(rule: Rule) -> bool:
    """Whether a frame can be judged by a rule: it is about single rows, or about keys among them."""
    return rule.kind.row_level or rule.kind is RuleKind.DUPLICATES


def columns_read(table: Table, rule: Rule) -> tuple[str, ...]:
    """The columns that decide a rule of a frame."""
    if rule.kind is not RuleKind.CONDITION:
        return rule.columns
    names = {column.name for column in bad_row(table, rule).find_all(exp.Column)}
    return tuple(column.name for column in table.columns if column.name in names)


def failing_rows(table: Table, rule: Rule, frame: pd.DataFrame) -> pd.Series[Any]:
    """Which rows break a rule. Of rows with the same key, all but the first.

    Args:
        table: the table that the rule belongs to.
        rule: a rule that a frame is judged by, see `decided`.
        frame: columns as `frames.convert_series` makes them, at least those that the rule reads.

    Returns:
        True for a row that breaks the rule. No row breaks one that reads a value which isn't of its column's type:
        such a value is refused for itself.

    Raises:
        DataRefused: the rule's SQL fails on these rows.
    """
    names = columns_read(table, rule)
    types = {name: table.column(name).type for name in names}
    arrays = {name: arrow_array(frame[name], types[name]) for name in names}
    if any(array is None for array in arrays.values()):
        return pd.Series(False, index=frame.index)
    rows = pa.table(arrays | {_POSITION: pa.array(np.arange(len(frame)), pa.int64())})
    json = [name for name in names if types[name].kind is Kind.JSON]
    source = "_rows"
    if json:
        parsed = ", ".join(f"CAST({quote(name)} AS JSON) AS {quote(name)}" for name in json)
        source = f"(SELECT * REPLACE ({parsed}) FROM _rows)"
    if rule.kind is RuleKind.DUPLICATES:
        bad = _repeated(rule.columns)
    else:
        bad = f"{render_bad(table, rule, _DIALECT)} IS TRUE"
    sql = f"SELECT {_POSITION} FROM (SELECT {_POSITION}, {bad} AS _bad FROM {source}) WHERE _bad"
    with _engine().cursor() as connection:
        connection.register("_rows", rows)
        try:
            found = connection.execute(sql).fetchnumpy()[_POSITION]
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            reason = " ".join(str(error).split("\n\nLINE")[0].split())
            raise DataRefused(f"the rule can't be computed for these rows: {reason}") from error
    failing = np.zeros(len(frame), dtype=bool)
    failing[found] = True
    return pd.Series(failing, index=frame.index)


def _repeated(key: Sequence[str]) -> str:
    """True for a row whose key an earlier one has; never with a null in it."""
    columns = ", ".join(map(quote, key))
    present = " AND ".join(f"{quote(name)} IS NOT NULL" for name in key)
    return f"({present} AND row_number() OVER (PARTITION BY {columns} ORDER BY {_POSITION}) > 1)"


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One engine for the process, in memory; each statement has a cursor of its own."""
    connection = duckdb.connect()
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection
