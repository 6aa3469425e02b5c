"""Column types: one closed set of kinds, and what each is called on every engine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column holds. Every engine's type is derived from it, never the other way round."""

    STRING = "string"
    INTEGER = "integer"  # 64 bit, signed
    NUMBER = "number"  # double precision
    DECIMAL = "decimal"  # exact
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"  # an instant, stored in UTC
    DATETIME = "datetime"  # wall-clock time without a zone
    TIME = "time"
    JSON = "json"  # objects and arrays


@dataclass(frozen=True, slots=True)
class FieldType:
    """A column's type; `precision` and `scale` are set for decimals only."""

    kind: Kind
    precision: int | None = None
    scale: int | None = None

    @property
    def numeric(self) -> bool:
        """Whether arithmetic and ordered bounds by number apply."""
        return self.kind in (Kind.INTEGER, Kind.NUMBER, Kind.DECIMAL)

    @property
    def temporal(self) -> bool:
        """Whether bounds by date or time apply."""
        return self.kind in (Kind.DATE, Kind.TIMESTAMP, Kind.DATETIME, Kind.TIME)

    def __str__(self) -> str:
        return f"{self.kind}({self.precision},{self.scale})" if self.kind is Kind.DECIMAL else str(self.kind)

    @property
    def declaration(self) -> str:
        """How a contract says it, as messages show it."""
        match self.kind:
            case Kind.DECIMAL:
                return f"logicalType: number, physicalType: 'NUMERIC({self.precision},{self.scale})'"
            case Kind.DATETIME:
                return "logicalType: timestamp, physicalType: DATETIME"
            case Kind.JSON:
                return "logicalType: object"
            case kind:
                return f"logicalType: {kind}"

    @property
    def duckdb(self) -> str:
        """The type's name in DuckDB DDL."""
        if self.kind is Kind.DECIMAL:
            return f"DECIMAL({self.precision},{self.scale})"
        return _DUCKDB[self.kind]

    @property
    def bigquery(self) -> str:
        """The type's name in BigQuery DDL."""
        if self.kind is Kind.DECIMAL:
            precision, scale = self.precision or 38, self.scale or 0
            # BigQuery: NUMERIC holds up to 29 integer digits and 9 decimals, BIGNUMERIC 38 and 38.
            name = "NUMERIC" if scale <= 9 and precision - scale <= 29 else "BIGNUMERIC"
            return f"{name}({precision},{scale})"
        return _BIGQUERY[self.kind]


_DUCKDB = {
    Kind.STRING: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.NUMBER: "DOUBLE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATE: "DATE",
    Kind.TIMESTAMP: "TIMESTAMPTZ",
    Kind.DATETIME: "TIMESTAMP",
    Kind.TIME: "TIME",
    Kind.JSON: "JSON",
}
_BIGQUERY = {
    Kind.STRING: "STRING",
    Kind.INTEGER: "INT64",
    Kind.NUMBER: "FLOAT64",
    Kind.BOOLEAN: "BOOL",
    Kind.DATE: "DATE",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.DATETIME: "DATETIME",
    Kind.TIME: "TIME",
    Kind.JSON: "JSON",
}

# ODCS logicalType -> the kind it means when no physicalType narrows it.
LOGICAL_TYPES: dict[str, Kind] = {
    "string": Kind.STRING,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
    "date": Kind.DATE,
    "timestamp": Kind.TIMESTAMP,
    "time": Kind.TIME,
    "object": Kind.JSON,
    "array": Kind.JSON,
    "map": Kind.JSON,
}

# physicalType (BigQuery or SQL spelling, upper case, without parameters) -> kind.
PHYSICAL_TYPES: dict[str, Kind] = {
    "STRING": Kind.STRING,
    "VARCHAR": Kind.STRING,
    "TEXT": Kind.STRING,
    "CHAR": Kind.STRING,
    "INT64": Kind.INTEGER,
    "INTEGER": Kind.INTEGER,
    "INT": Kind.INTEGER,
    "BIGINT": Kind.INTEGER,
    "SMALLINT": Kind.INTEGER,
    "FLOAT64": Kind.NUMBER,
    "FLOAT": Kind.NUMBER,
    "DOUBLE": Kind.NUMBER,
    "NUMERIC": Kind.DECIMAL,
    "BIGNUMERIC": Kind.DECIMAL,
    "DECIMAL": Kind.DECIMAL,
    "BOOL": Kind.BOOLEAN,
    "BOOLEAN": Kind.BOOLEAN,
    "DATE": Kind.DATE,
    "TIMESTAMP": Kind.TIMESTAMP,
    "TIMESTAMPTZ": Kind.TIMESTAMP,
    "DATETIME": Kind.DATETIME,
    "TIME": Kind.TIME,
    "JSON": Kind.JSON,
}

_PHYSICAL = re.compile(r"^\s*([A-Za-z][A-Za-z0-9]*)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*$")


def parse_type(logical: str, physical: str | None) -> FieldType:
    """The column type that `logicalType` and `physicalType` declare together.

    `physicalType` may narrow the logical type (number → NUMERIC(10,2), timestamp → DATETIME); without it
    the logical type alone decides. NUMERIC without parameters is NUMERIC(38,9), as on BigQuery.

    Raises:
        ValueError: a type is unknown, or the two contradict each other; the text says which and what is possible.
    """
    if logical not in LOGICAL_TYPES:
        raise ValueError(f"logicalType {logical!r} can't be stored in a table; use one of {', '.join(LOGICAL_TYPES)}")
    base = LOGICAL_TYPES[logical]
    if physical is None:
        return FieldType(base)
    match = _PHYSICAL.match(physical)
    kind = PHYSICAL_TYPES.get(match[1].upper()) if match else None
    if match is None or kind is None:
        raise ValueError(f"unknown physicalType {physical!r}; use one of {', '.join(PHYSICAL_TYPES)}")
    allowed = {Kind.NUMBER: {Kind.NUMBER, Kind.DECIMAL}, Kind.TIMESTAMP: {Kind.TIMESTAMP, Kind.DATETIME}}
    if kind not in allowed.get(base, {base}):
        raise ValueError(f"physicalType {physical!r} contradicts logicalType {logical!r}")
    if kind is not Kind.DECIMAL:
        return FieldType(kind)
    precision = int(match[2]) if match[2] else 38
    scale = int(match[3]) if match[3] else (0 if match[2] else 9)
    if not 1 <= precision <= 38 or scale > precision:
        raise ValueError(f"physicalType {physical!r}: precision is 1 to 38 digits and holds the scale")
    return FieldType(kind, precision, scale)
