"""Load: deliveries into staging, against the best bare DuckDB statements for the same data.

Ours does what a load does: lineage columns, five row-level rules, dedupe, ledger. The rival only moves the data.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import data
from benchmarks.timing import once, ratio, rivals
from dataops_platform.contracts.model import Table
from dataops_platform.lake import Delivery, Lake
from dataops_platform.quality.planner import render_bad
from dataops_platform.warehouse.base import RowCheck
from dataops_platform.warehouse.duckdb import DuckDBWarehouse

KEYS = ", ".join(data.KEY)


def _lake_folder(name: str, files: list[Path], partitioned: bool, times: int = 1) -> tuple[Lake, list[Delivery]]:
    """Delivered once and kept: what is measured is loading."""
    return data.deliveries(data.cache() / f"lake-{name}", files, partitioned, times)


def _ours(mode: str, partitioned: bool, lake_name: str, duplicates: bool, times: int, loaded: int, folder: Path) -> Any:
    table = data.contract(mode, partitioned)
    lake, made = _lake_folder(lake_name, data.parquet_files(duplicates), partitioned, times)
    warehouse = DuckDBWarehouse(folder / "w.duckdb")
    warehouse.ensure([table])
    _checks(table)  # imports what the first plan of a process imports
    import pandas as _  # noqa: F401  DuckDB imports it with the first Arrow table; a code location has it already

    if loaded:
        _load((warehouse, table, lake, made[:loaded]))
    return warehouse, table, lake, made[loaded:] if loaded else made


def _checks(table: Table) -> list[RowCheck]:
    return [RowCheck(rule.id, render_bad(table, rule, "duckdb")) for rule in table.splitting_rules]


def _load(state: tuple[DuckDBWarehouse, Table, Lake, list[Delivery]]) -> None:
    warehouse, table, lake, made = state
    uris = {item.key: lake.store.uri(item.key) for delivery in made for item in delivery.objects}
    outcomes = warehouse.load(table, made, uris, _checks(table), "benchmark")
    assert sum(o.rows_loaded for o in outcomes) and not any(o.refused for o in outcomes), outcomes[0]


def _bare(duplicates: bool, loaded: int, folder: Path) -> Any:
    files = [str(path) for path in data.parquet_files(duplicates)]
    connection = duckdb.connect(str(folder / "w.duckdb"))
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{files[0]}') LIMIT 0")
    if loaded:
        _bare_merge((connection, files[:loaded]))
        connection.execute("CHECKPOINT")
    return connection, files[loaded:] if loaded else files


def _bare_append(state: tuple[duckdb.DuckDBPyConnection, list[str]]) -> None:
    connection, files = state
    connection.execute(f"INSERT INTO t SELECT * FROM read_parquet({files})")
    connection.close()


def _bare_merge(state: tuple[duckdb.DuckDBPyConnection, list[str]], close: bool = False) -> None:
    """Delete the days, insert what is delivered, losing rows left out by an anti-join: the fastest that is known."""
    connection, files = state
    source = f"read_parquet({files}, filename = true, file_row_number = true, hive_partitioning = false)"
    connection.execute("BEGIN")
    connection.execute(f"DELETE FROM t WHERE l_shipdate IN (SELECT DISTINCT l_shipdate FROM {source})")
    connection.execute(
        f"CREATE TEMP TABLE losers AS WITH d AS (SELECT {KEYS} FROM {source} GROUP BY ALL HAVING count(*) > 1)"
        f" SELECT filename, file_row_number FROM (SELECT filename, file_row_number, row_number() OVER (PARTITION BY {KEYS}"
        f" ORDER BY filename DESC, file_row_number DESC) AS place FROM {source} SEMI JOIN d USING ({KEYS})) WHERE place > 1"
    )
    connection.execute(
        f"INSERT INTO t SELECT {', '.join(data.COLUMNS)} FROM {source} ANTI JOIN losers USING (filename, file_row_number)"
    )
    connection.execute("COMMIT; DROP TABLE losers")
    if close:
        connection.close()


def run() -> dict[str, float]:
    """append, merge and merge of one day, ours over bare; memory of 300 deliveries over 30."""
    figures: dict[str, float] = {}
    data.parquet_files(), data.parquet_files(duplicates=True)
    _lake_folder("plain", data.parquet_files(), True), _lake_folder("duplicates", data.parquet_files(True), True)
    last = data.FILES - 1
    cases = {
        "append": (
            (partial(_ours, "append", True, "plain", False, 1, 0), _load),
            (partial(_bare, False, 0), _bare_append),
        ),
        "merge": (
            (partial(_ours, "merge", True, "duplicates", True, 1, 0), _load),
            (partial(_bare, True, 0), partial(_bare_merge, close=True)),
        ),
        "merge_day": (
            (partial(_ours, "merge", True, "duplicates", True, 1, last), _load),
            (partial(_bare, True, last), partial(_bare_merge, close=True)),
        ),
    }
    for name, (ours, bare) in cases.items():
        measured = rivals({"ours": ours, "bare": bare})
        figures[f"{name}_seconds"] = measured["ours"].seconds
        figures[f"{name}_bare_seconds"] = measured["bare"].seconds
        figures[f"{name}_ratio"] = ratio(measured["ours"], measured["bare"])
        figures[f"{name}_megabytes"] = measured["ours"].megabytes
        figures[f"{name}_bare_megabytes"] = measured["bare"].megabytes
    _lake_folder("ten_times", data.parquet_files(), False, 10)
    _, thirty = once(partial(_ours, "append", False, "plain_all", False, 1, 0), _load)
    seconds, three_hundred = once(partial(_ours, "append", False, "ten_times", False, 10, 0), _load)
    figures["append_300_seconds"] = seconds
    figures["append_300_megabytes"] = three_hundred
    figures["memory_ratio_10x"] = three_hundred / thirty
    return figures
