"""The table all benchmarks use: 16 columns like TPC-H lineitem, 6 million rows in 30 daily parquet files."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Table
from dataops_platform.lake import Delivery, Lake, LocalStore

QUICK = bool(os.environ.get("DATAOPS_BENCH_QUICK"))
"""A five-hundredth of the data and one run: shows that the benchmarks work, not how fast anything is."""

FILES, ROWS_PER_FILE = (6, 2_000) if QUICK else (30, 200_000)
FIRST_DAY = date(2024, 1, 1)

_ROW = """
    {n} + i // 4 AS l_orderkey,
    CAST(hash(i * 7 + {n}) % 200000 AS BIGINT) AS l_partkey,
    CAST(hash(i * 11 + {n}) % 10000 AS BIGINT) AS l_suppkey,
    CAST(i % 4 AS BIGINT) + 1 AS l_linenumber,
    CAST(hash(i * 3 + {n}) % 50 + 1 AS DOUBLE) AS l_quantity,
    CAST(hash(i * 5 + {n}) % 10000000 / 100.0 + 900 AS DOUBLE) AS l_extendedprice,
    CAST(hash(i * 13 + {n}) % 11 / 100.0 AS DOUBLE) AS l_discount,
    CAST(hash(i * 17 + {n}) % 9 / 100.0 AS DOUBLE) AS l_tax,
    ['A', 'N', 'R'][CAST(hash(i * 19 + {n}) % 3 AS INT) + 1] AS l_returnflag,
    ['O', 'F'][CAST(hash(i * 23 + {n}) % 2 AS INT) + 1] AS l_linestatus,
    DATE '{day}' AS l_shipdate,
    DATE '{day}' + CAST(hash(i * 29) % 30 AS INT) AS l_commitdate,
    DATE '{day}' + CAST(hash(i * 31) % 30 + 1 AS INT) AS l_receiptdate,
    ['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'][CAST(hash(i * 37) % 4 AS INT) + 1] AS l_shipinstruct,
    ['AIR', 'FOB', 'MAIL', 'RAIL', 'REG AIR', 'SHIP', 'TRUCK'][CAST(hash(i * 41) % 7 AS INT) + 1] AS l_shipmode,
    'comment ' || CAST(hash(i * 43 + {n}) % 1000000 AS VARCHAR) || ' furiously' AS l_comment
"""

_TYPES = {
    "l_orderkey": "integer", "l_partkey": "integer", "l_suppkey": "integer", "l_linenumber": "integer",
    "l_quantity": "number", "l_extendedprice": "number", "l_discount": "number", "l_tax": "number",
    "l_returnflag": "string", "l_linestatus": "string", "l_shipdate": "date", "l_commitdate": "date",
    "l_receiptdate": "date", "l_shipinstruct": "string", "l_shipmode": "string", "l_comment": "string",
}  # fmt: skip
COLUMNS = list(_TYPES)
KEY = ["l_shipdate", "l_orderkey", "l_linenumber"]

ROW_RULES = {
    "l_orderkey": "required: true",
    "l_quantity": "logicalTypeOptions: {minimum: 1, maximum: 50}",
    "l_discount": "logicalTypeOptions: {minimum: 0, maximum: 0.1}",
    "l_returnflag": "enum: [{value: A}, {value: N}, {value: R}]",
    "l_linestatus": "enum: [{value: O}, {value: F}]",
}
"""The five row-level rules of the load benchmark."""


def cache() -> Path:
    """Where generated files are kept between runs."""
    folder = Path(tempfile.gettempdir()) / f"dataops-benchmarks-{FILES}-{ROWS_PER_FILE}"
    folder.mkdir(exist_ok=True)
    return folder


def day(number: int) -> date:
    """The day of a file."""
    return FIRST_DAY + timedelta(days=number)


def parquet_files(duplicates: bool = False) -> list[Path]:
    """The 30 files; with `duplicates`, 2 % of each file's keys are there twice, the second time with other values."""
    folder = cache() / ("duplicates" if duplicates else "plain")
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:03d}.parquet" for number in range(FILES)]
    with duckdb.connect() as connection:
        for number, path in enumerate(paths):
            if path.exists():
                continue
            row = _ROW.format(n=number * ROWS_PER_FILE, day=day(number))
            rows = f"SELECT {row} FROM range({ROWS_PER_FILE}) AS t(i)"
            if duplicates:
                keep = ROWS_PER_FILE * 98 // 100
                again = f"SELECT * REPLACE (l_quantity + 0 AS l_quantity) FROM ({rows}) LIMIT {ROWS_PER_FILE - keep}"
                rows = f"(SELECT * FROM ({rows}) LIMIT {keep}) UNION ALL ({again})"
            connection.execute(f"COPY ({rows}) TO '{path}.tmp' (FORMAT parquet)")
            Path(f"{path}.tmp").rename(path)
    return paths


def contract(mode: str, partitioned: bool = True, extra: str = "", columns: dict[str, str] | None = None) -> Table:
    """The table's contract; `columns` maps a column to what its property says besides name and type."""
    said = ROW_RULES if columns is None else columns
    key = {name: number for number, name in enumerate(KEY, 1)} if mode == "merge" else {}
    properties = []
    for name, kind in _TYPES.items():
        parts = [f"name: {name}, logicalType: {kind}"]
        if name in key:
            parts.append(f"primaryKey: true, primaryKeyPosition: {key[name]}")
        if name in said:
            parts.append(said[name])
        if name == "l_shipdate" and partitioned and "required" not in said.get(name, ""):
            parts.append("required: true")
        properties.append("      - {" + ", ".join(parts) + "}")
    cut = "{field: l_shipdate, granularity: day, start: 2024-01-01, end: 2024-12-31}"
    custom = [f"      - {{property: loadMode, vendor: dataops, value: {mode}}}"]
    if partitioned:
        custom.append(f"      - {{property: partitioning, vendor: dataops, value: {cut}}}")
    text = "\n".join(
        [
            "apiVersion: v3.2.0", "kind: DataContract", "id: lineitem", "name: lineitem", "version: 1.0.0",
            "status: active", "schema:", "  - name: lineitem", "    logicalType: object", "    customProperties:",
            *custom, *([extra] if extra else []), "    properties:", *properties, "",
        ]
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lineitem.odcs.yaml"
        path.write_text(text)
        return load_contracts([path]).tables["lineitem"]


def deliveries(
    lake_folder: Path, files: list[Path], partitioned: bool = True, times: int = 1
) -> tuple[Lake, list[Delivery]]:
    """The files as deliveries of a lake, one a day (`times` times over, without partitions)."""
    lake = Lake(LocalStore(lake_folder))
    made = []
    for turn in range(times):
        for number, path in enumerate(files):
            scratch = lake.store.scratch() / path.name
            scratch.write_bytes(path.read_bytes())
            created = datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=number, hours=turn)
            key = day(number).isoformat() if partitioned else "all"
            made.append(lake.deliver("lineitem", key, created, [scratch], origin={}, contract_version="1.0.0"))
    return lake, made
