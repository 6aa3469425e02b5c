"""local-bigquery with patches for what the project needs and the server lacks: one module per gap.

This package runs in the emulators' own environment (see `install`), never in the project's: it imports the server's
packages and nothing of ours. The server is a program, not a library, so its insides are replaced where the gap is; the
version is pinned, and `integration/emulators/test_gaps.py` tells which patches an upgrade has made superfluous.
"""

PATCHES = (
    "remembered",
    "quick_catalog",
    "row_counts",
    "bytes_processed",
    "maximum_bytes_billed",
    "ctas_destination",
    "copied_layout",
    "ingestion_time",
    "partition_decorators",
    "set_struct",
    "integer_division",
    "parallel_loads",
    "widened_numerics",
)
"""In the order they are applied. A later one may wrap what an earlier one put in place, and works without it too."""
