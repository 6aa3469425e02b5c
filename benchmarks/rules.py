"""Rules: 25 on 6 million rows, against one statement per rule and the best mix written by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import data
from benchmarks.timing import ratio, rivals
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Table
from dataops_platform.quality.planner import plan
from dataops_platform.quality.verdicts import evaluate
from dataops_platform.warehouse.duckdb import DuckDBWarehouse

NOT_NULL = ["l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity", "l_extendedprice", "l_shipdate",
            "l_commitdate", "l_receiptdate", "l_comment"]  # fmt: skip
RANGES = {"l_quantity": (1, 50), "l_extendedprice": (900, 101000), "l_discount": (0, 0.1), "l_tax": (0, 0.08),
          "l_linenumber": (1, 4)}  # fmt: skip
SETS = {
    "l_returnflag": ["A", "N", "R"],
    "l_linestatus": ["O", "F"],
    "l_shipmode": ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"],
}
PATTERNS = {"l_shipinstruct": "^[A-Z ]+$", "l_shipmode": "^[A-Z ]{3,10}$"}
COMPOSITE = ["l_orderkey", "l_linenumber"]
ROWS = data.FILES * data.ROWS_PER_FILE

DAYS = 40 if data.QUICK else 365


def _contracts(by_day: bool = False) -> dict[str, Table]:
    """The table's contract with its 25 rules.

    Args:
        by_day: the table is cut by l_shipdate, and judged day by day.
    """
    columns: dict[str, list[str]] = {name: [] for name in data.COLUMNS}
    for name in NOT_NULL:
        columns[name].append("required: true")
    for name, (low, high) in RANGES.items():
        columns[name].append(f"logicalTypeOptions: {{minimum: {low}, maximum: {high}}}")
    for name, values in SETS.items():
        columns[name].append("enum: [" + ", ".join(f"{{value: {v}}}" for v in values) + "]")
    for name, pattern in PATTERNS.items():
        columns[name].append(f"logicalTypeOptions: {{pattern: '{pattern}'}}")
    columns["l_comment"].append(
        "quality: [{id: rowkey_unique, metric: duplicateValues, arguments: {properties: [l_rowkey]}, mustBe: 0}]"
    )
    columns["l_suppkey"].append("relationships: [{to: suppliers.s_suppkey}]")
    composite = (
        f"{{id: line_unique, metric: duplicateValues, arguments: {{properties: [{', '.join(COMPOSITE)}]}}, mustBe: 0}}"
    )
    extra = "\n".join(
        [
            "    quality:",
            "      - {id: volume, metric: rowCount, mustBeGreaterThan: 100}",
            f"      - {composite}",
        ]
    )
    cut = (
        "    customProperties: [{property: partitioning, vendor: dataops, value:"
        " {field: l_shipdate, granularity: day, start: 2024-01-01}}]"
        if by_day
        else ""
    )
    fresh = "slaProperties: [{property: freshness, value: 5200, unit: weeks, element: lineitem.l_shipdate}]"
    properties = [
        f"      - {{name: {name}, logicalType: {data._TYPES[name]}" + "".join(f", {part}" for part in parts) + "}"
        for name, parts in columns.items()
    ]
    properties.append("      - {name: l_rowkey, logicalType: integer}")
    text = "\n".join(
        ["apiVersion: v3.2.0", "kind: DataContract", "id: lineitem", "name: lineitem", "version: 1.0.0", "status: active",
         fresh, "schema:", "  - name: lineitem", "    logicalType: object", *filter(None, [cut]), extra,
         "    properties:", *properties,
         "  - name: suppliers", "    logicalType: object", "    properties:",
         "      - {name: s_suppkey, logicalType: integer}", ""]
    )  # fmt: skip
    path = data.cache() / f"rules{'-by-day' if by_day else ''}.odcs.yaml"
    path.write_text(text)
    return load_contracts([path]).tables


def _database(ordered: bool = True) -> Path:
    """The table, loaded once; every run works on a copy-free read of it.

    Args:
        ordered: rows are stored in the order of their keys, as most sources deliver them; else shuffled.
    """
    path = data.cache() / ("rules.duckdb" if ordered else "rules-shuffled.duckdb")
    if path.exists():
        return path
    tables = _contracts()
    warehouse = DuckDBWarehouse(path)
    warehouse.ensure(list(tables.values()))
    files = [str(p) for p in data.parquet_files()]
    lineage = "TIMESTAMPTZ '2024-03-01', TIMESTAMPTZ '2024-03-01', 'o', CAST(NULL AS UUID)"
    with duckdb.connect(str(path)) as connection:
        columns = ", ".join(data.COLUMNS)
        connection.execute(
            f"INSERT INTO staging.lineitem SELECT {columns}, row_number() OVER () AS n, {lineage}"
            f" FROM read_parquet({files}){'' if ordered else ' ORDER BY hash(n)'}"
        )
        connection.execute(f"INSERT INTO staging.suppliers SELECT range, {lineage} FROM range(10000)")
        for name in ("lineitem", "suppliers"):
            connection.execute(
                "INSERT INTO dataops.loads (load_id, table_name, partition_key, created_at, rows_read, loaded_at)"
                " VALUES (?, ?, 'all', ?, 0, ?)",
                [name, name, datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)],
            )
    return path


def _by_day() -> Path:
    """The same rows in the order of their keys, spread over a year of days, each of which was delivered."""
    path = data.cache() / "rules-by-day.duckdb"
    if path.exists():
        return path
    tables = _contracts(by_day=True)
    warehouse = DuckDBWarehouse(path)
    warehouse.ensure(list(tables.values()))
    moment = datetime(2025, 3, 1, tzinfo=UTC)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"ATTACH '{_database()}' AS whole (READ_ONLY)")
        day = f"DATE '2024-01-01' + CAST((l_rowkey - 1) * {DAYS} // {ROWS} AS INT)"
        connection.execute(
            f"INSERT INTO staging.lineitem SELECT * REPLACE ({day} AS l_shipdate) FROM whole.staging.lineitem ORDER BY l_rowkey"
        )
        connection.execute("INSERT INTO staging.suppliers SELECT * FROM whole.staging.suppliers")
        connection.execute(
            "INSERT INTO dataops.loads (load_id, table_name, partition_key, created_at, rows_read, loaded_at)"
            f" SELECT 'd' || i, 'lineitem', strftime(DATE '2024-01-01' + CAST(i AS INT), '%Y-%m-%d'), ?, 0, ?"
            f" FROM range({DAYS}) AS t(i)",
            [moment, moment],
        )
        connection.execute(
            "INSERT INTO dataops.loads (load_id, table_name, partition_key, created_at, rows_read, loaded_at)"
            " VALUES ('s', 'suppliers', 'all', ?, 0, ?), ('w', 'lineitem', 'all', ?, 0, ?)",
            [moment] * 4,
        )
    return path


def _prepare_days(by_day: bool, _: Path) -> tuple[Path, Table]:
    table = _contracts(by_day)["lineitem"]
    plan(table, None)
    import pandas as _pandas  # noqa: F401

    return _by_day(), table


def _days(state: tuple[Path, Table]) -> None:
    """The rules day by day, in one go; or, by the contract without partitions, on the table as a whole."""
    path, table = state
    last = date(2024, 1, 1) + timedelta(days=DAYS - 1)
    keys = None if table.partitioning is None else table.partitioning.keys("2024-01-01", str(last))
    verdicts = evaluate(DuckDBWarehouse(path), table, "benchmark", keys or ["all"])
    assert len(verdicts) == 24 * (len(keys) if keys else 1) + 1, len(verdicts)  # freshness is about the table
    assert all(v.passed for v in verdicts), [v for v in verdicts if not v.passed][:3]


def _prepare(ordered: bool, _: Path) -> Path:
    return _database(ordered)


def _prepare_ours(ordered: bool, _: Path) -> tuple[Path, Table]:
    table = _contracts()["lineitem"]
    plan(table, None)  # imports what the first plan of a process imports
    import pandas as _pandas  # noqa: F401  DuckDB imports it with the first Arrow table; a code location has it already

    return _database(ordered), table


def _ours(state: tuple[Path, Table]) -> None:
    path, table = state
    assert len(table.rules) == 25, len(table.rules)
    warehouse = DuckDBWarehouse(path)
    verdicts = evaluate(warehouse, table, "benchmark")
    assert len(verdicts) == 25 and all(v.passed for v in verdicts), [v for v in verdicts if not v.passed]


def _expect(connection: duckdb.DuckDBPyConnection, statements: list[str], wanted: Any = 0) -> None:
    for statement in statements:
        for row in connection.execute(statement).fetchall():
            assert row[0] == wanted, (statement, row)


def _quoted(values: list[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _per_rule(path: Path) -> None:
    """What most tools do: a counting query for each rule."""
    t = "staging.lineitem"
    count = f"SELECT count(*) FROM {t} WHERE"
    statements = [f"{count} {name} IS NULL" for name in NOT_NULL]
    statements += [f"{count} NOT ({name} BETWEEN {low} AND {high})" for name, (low, high) in RANGES.items()]
    statements += [f"{count} {name} NOT IN ({_quoted(values)})" for name, values in SETS.items()]
    statements += [f"{count} NOT regexp_matches({name}, '{pattern}')" for name, pattern in PATTERNS.items()]
    for keys in ("l_rowkey", ", ".join(COMPOSITE)):
        statements.append(f"SELECT count(*) FROM (SELECT {keys} FROM {t} GROUP BY ALL HAVING count(*) > 1)")
    statements.append(f"{count} l_suppkey NOT IN (SELECT s_suppkey FROM staging.suppliers)")
    with duckdb.connect(str(path), read_only=True) as connection:
        _expect(connection, statements)
        _expect(connection, [f"SELECT count(*) FROM {t}"], ROWS)
        _expect(connection, [f"SELECT year(max(l_shipdate)) FROM {t}"], 2024)


def _by_hand(path: Path, ordered: bool = False) -> None:
    """The best mix: simple rules by zone maps, sets and patterns over distinct values, references over distinct keys.

    Its author knows between which numbers the keys lie: a map of bits tells them apart.

    Args:
        ordered: rows are known to be stored in the order of their keys: neighbours are compared.
    """
    t = "staging.lineitem"
    simple = [f"SELECT count(*) FROM {t} WHERE {name} IS NULL" for name in NOT_NULL]
    simple += [
        f"SELECT count(*) FROM {t} WHERE {name} < {low} OR {name} > {high}" for name, (low, high) in RANGES.items()
    ]
    values = [
        f"SELECT coalesce(sum(n), 0) FROM (SELECT {name}, count(*) AS n FROM {t} GROUP BY 1) WHERE {name} NOT IN ({_quoted(v)})"
        for name, v in SETS.items()
    ]
    values += [
        f"SELECT coalesce(sum(n), 0) FROM (SELECT {name}, count(*) AS n FROM {t} GROUP BY 1)"
        f" WHERE NOT regexp_matches({name}, '{pattern}')"
        for name, pattern in PATTERNS.items()
    ]
    order, line = COMPOSITE
    keys = [
        f"SELECT count(*) - bit_count(bitstring_agg({key}, 0, {most})) FROM {t}"
        for key, most in (("l_rowkey", ROWS), (f"{order} * 5 + {line}", ROWS * 5))
    ]
    if ordered:
        first, second = (f"{name}, lag({name}) OVER () AS {alias}" for name, alias in zip(COMPOSITE, "ab", strict=True))
        keys = [
            f"SELECT count(*) FROM (SELECT l_rowkey <= lag(l_rowkey) OVER () AS bad FROM {t}) WHERE bad",
            f"SELECT count(*) FROM (SELECT {first}, {second} FROM {t})"
            " WHERE l_orderkey < a OR (l_orderkey = a AND l_linenumber <= b)",
        ]
    reference = (
        f"SELECT coalesce(sum(n), 0) FROM (SELECT l_suppkey, count(*) AS n FROM {t} GROUP BY 1) AS c"
        " ANTI JOIN staging.suppliers AS s ON c.l_suppkey = s.s_suppkey"
    )
    with duckdb.connect(str(path), read_only=True) as connection:
        _expect(connection, [*simple, *values, *keys, reference])
        _expect(connection, [f"SELECT count(*) FROM {t}"], ROWS)
        _expect(connection, [f"SELECT year(max(l_shipdate)) FROM {t}"], 2024)


def run() -> dict[str, float]:
    """Seconds of each, and ours over the best and over one statement per rule; also with shuffled rows."""
    figures: dict[str, float] = {}
    for ordered, suffix in ((True, ""), (False, "_shuffled")):
        _database(ordered)
        prepare = partial(_prepare, ordered)
        measured = rivals(
            {
                "ours": (partial(_prepare_ours, ordered), _ours),
                "by_hand": (prepare, partial(_by_hand, ordered=ordered)),
                "per_rule": (prepare, _per_rule),
            }
        )
        best = min(measured["by_hand"], measured["per_rule"], key=lambda m: m.seconds)
        figures |= {f"{name}{suffix}_seconds": m.seconds for name, m in measured.items()}
        figures[f"ratio_to_best{suffix}"] = ratio(measured["ours"], best)
        figures[f"ratio_to_per_rule{suffix}"] = ratio(measured["ours"], measured["per_rule"])
    _by_day()
    measured = rivals(
        {
            "days": (partial(_prepare_days, True), _days),
            "whole": (partial(_prepare_days, False), _days),
        }
    )
    figures |= {f"{name}_seconds": m.seconds for name, m in measured.items()}
    figures["partitions_ratio"] = ratio(measured["days"], measured["whole"])
    return figures
