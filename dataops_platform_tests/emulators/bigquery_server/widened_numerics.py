"""Gap: `ALTER COLUMN … SET DATA TYPE NUMERIC(P, S)` fails on a NUMERIC column, whichever P and S.

Those that the API made, as the project does, are stored as DECIMAL(38, 9), which nothing narrower follows: only what
the catalogue says has to change. The project widens decimals when their contract does.
"""

from __future__ import annotations

from collections.abc import Callable

from local_bigquery.catalog import ddl, tables
from local_bigquery.errors import BigQueryError
from local_bigquery.models import Table
from local_bigquery.sql.rules import ddl as statements
from sqlglot import exp


def apply() -> None:
    only, alteration = statements.metadata_only, ddl._alteration

    def metadata_only(action: exp.Expression) -> bool:
        return _numeric(action) or only(action)

    def altered(stored: Table, action: exp.Expression, reference: tuple[str, ...], evaluate: Callable) -> dict:
        if not _numeric(action):
            return alteration(stored, action, reference, evaluate)
        precision, scale = ([p.name for p in action.args["dtype"].expressions] + ["0"])[:2]
        fields = tables.fields(stored)
        field = next(field for field in fields if field.name.casefold() == action.name.casefold())
        wider = int(scale) >= int(field.scale or 0) and int(precision) - int(scale) >= int(field.precision or 0) - int(
            field.scale or 0
        )
        if field.type != "NUMERIC" or not wider:
            raise BigQueryError("invalidQuery", f"{field.name} can't become NUMERIC({precision}, {scale})")
        changed = field.replace(precision=precision, scale=None if scale == "0" else scale)
        return {"schema": {"fields": [changed if item is field else item for item in fields]}}

    statements.metadata_only, ddl._alteration = metadata_only, altered


def _numeric(action: exp.Expression) -> bool:
    kind = action.args.get("dtype") if isinstance(action, exp.AlterColumn) else None
    return kind is not None and kind.this == exp.DataType.Type.DECIMAL and bool(kind.expressions)
