"""Gap: `SET (a, b) = (SELECT AS STRUCT …)` fails: only a list of as many values is understood.

The project's scripts take several figures from one scan this way: rows, rows refused, newest moment.
"""

from __future__ import annotations

import sqlglot
from local_bigquery.engine.database import quote
from local_bigquery.sql import script
from local_bigquery.sql.dialect import BigQueryDialect
from local_bigquery.sql.rules import parameters
from sqlglot import exp

VALUE = quote(parameters.VALUE)


def apply() -> None:
    original = script.Interpreter.set

    def set_(self: script.Interpreter, statement: script.Statement) -> None:
        assignments = sqlglot.parse_one(statement.text, dialect=BigQueryDialect).expressions
        if len(assignments) == 1:
            target, value = assignments[0].this.this, assignments[0].this.expression
            if isinstance(target, exp.Paren):  # one variable in brackets
                target = exp.Tuple(expressions=[target.this])
            if isinstance(target, exp.Tuple) and not isinstance(value, exp.Tuple):
                _assign(self, [self.variable(item.name) for item in target.expressions], value)
                return
        original(self, statement)

    script.Interpreter.set = set_


def _assign(interpreter: script.Interpreter, variables: list[str], value: exp.Expression) -> None:
    """Take the struct apart by position: its fields may have other names than the variables."""
    if isinstance(value, exp.Struct):  # its fields may have no names at all, which DuckDB doesn't store
        parts = [part.expression if isinstance(part, exp.PropertyEQ) else part.unalias() for part in value.expressions]
        fields = [exp.PropertyEQ(this=exp.to_identifier(f"_{n}"), expression=part) for n, part in enumerate(parts)]
        value = exp.Struct(expressions=fields)
    struct = interpreter.store(value)
    for position, variable in enumerate(variables, start=1):
        part = f"(SELECT struct_extract_at({VALUE}, {position}) FROM {struct})"
        interpreter.cursor.execute(f"UPDATE {variable} SET {VALUE} = {part}")
