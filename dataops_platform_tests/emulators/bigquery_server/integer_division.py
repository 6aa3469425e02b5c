"""Gap: `DIV(a + b, c)` becomes `a + b // c`, and `a * DIV(b, c)` becomes `a * b // c`: other numbers, silently.

The models' exact percentiles compute a position in an array this way.
"""

from __future__ import annotations

from local_bigquery.sql.dialect import BigQueryDialect
from sqlglot import exp


def apply() -> None:
    parser = BigQueryDialect.Parser
    parser.FUNCTIONS = {**parser.FUNCTIONS, "DIV": _division}


def _division(arguments: list[exp.Expression]) -> exp.Paren:
    left, right = (exp.Paren(this=argument) for argument in arguments)
    return exp.Paren(this=exp.IntDiv(this=left, expression=right))
