"""Ten thousand partitions: an hourly table of more than a year, brought in by one run and looked at afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataops_platform_tests.browser import serve

DAYS = 2 if os.environ.get("DATAOPS_BENCH_QUICK") else 417
START = date(2024, 1, 1)
CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: readings
name: readings
version: 1.0.0
status: active
schema:
  - name: readings
    customProperties:
      - property: partitioning
        vendor: dataops
        value: {{field: at, granularity: hour, start: {start}, end: {end}}}
      - {{property: source, vendor: dataops, value: {{extractor: files, path: 'data/{{partition}}.parquet'}}}}
    properties:
      - {{name: at, logicalType: timestamp, required: true}}
      - {{name: id, logicalType: integer, required: true, unique: true}}
      - {{name: value, logicalType: number, logicalTypeOptions: {{minimum: 0, maximum: 100}}}}
"""
HEALTH = """
{ assetNodeOrError(assetKey: {path: ["staging", "readings"]}) { ... on AssetNode {
    partitionKeys partitionStats { numMaterialized }
    assetPartitionStatuses { ... on TimePartitionStatuses { ranges { startKey endKey status } } } } } }
"""
"""What the UI asks for when it shows an asset's partitions."""


def _project(folder: Path) -> int:
    """A project with a file for each hour; how many there are."""
    (folder / "contracts").mkdir()
    (folder / "data").mkdir()
    end = START + timedelta(days=DAYS - 1)
    (folder / "contracts" / "readings.odcs.yaml").write_text(CONTRACT.format(start=START, end=end))
    first = datetime(START.year, START.month, START.day, tzinfo=UTC)
    for hour in range(DAYS * 24):
        at = first + timedelta(hours=hour)
        rows = {"at": pa.array([at] * 3, pa.timestamp("us", "UTC")), "id": [hour * 3 + n for n in range(3)]}
        pq.write_table(pa.table(rows | {"value": [1.0, 2.0, 3.0]}), folder / "data" / f"{at:%Y-%m-%d-%H:00}.parquet")
    return DAYS * 24


def run() -> dict[str, float]:
    """Seconds of the run that brings them, of one that finds nothing new, of the scorecard, and of the UI's view."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hours = _project(folder)
        environment = {**os.environ, "DATAOPS_HOME": str(folder / "home"), "DATAOPS_PROJECT": str(folder)}
        commands: dict[str, Sequence[str]] = {"first": ["run"], "again": ["run"], "status": ["status"]}
        for name, arguments in commands.items():
            started = time.perf_counter()
            command = [str(Path(sys.executable).with_name("dataops")), *arguments]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            figures[f"{name}_seconds"] = time.perf_counter() - started
        with serve(environment, folder / "ui.log") as ui:
            started = time.perf_counter()
            (found,) = ui.query(HEALTH).values()
            figures["view_seconds"] = time.perf_counter() - started
        if found["partitionStats"]["numMaterialized"] != hours or len(found["partitionKeys"]) != hours:
            raise RuntimeError(f"{found['partitionStats']} of {hours} partitions")
    return figures
