"""Batches that an extractor has as DataFrames."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dataops_platform.contracts.arrow import arrow_schema
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.quality.pandera_schema import validate


def write_batch(table: Table, frame: pd.DataFrame, path: Path) -> Path:
    """Write a batch as a parquet file with the contract's types, ready to be delivered.

    Only columns and types are judged, by the contract's pandera schema. Rows that break rules are written: a delivery
    is what the source has, and the load sends them to quarantine.

    Returns:
        `path`.

    Raises:
        DataRefused: a column is missing or unknown, or holds values that aren't of its type; the message shows some.
        ConfigError: the file can't be written.
    """
    schema = arrow_schema(table, enforce_required=False)
    rows = pa.Table.from_pandas(validate(table, frame, rules=()), schema=schema, preserve_index=False)
    try:
        pq.write_table(rows, path, compression="zstd")
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error}. Check the folder and the space on its disk.") from error
    return path
