"""What every peer's script does: read the rules, load the table where the peer wants it, time the checks, say it as JSON.

Run by the peer's own Python: nothing of the project is imported.
"""

import json
import sys
import time
from pathlib import Path

RULES = json.loads(Path(__file__).with_name("rules.json").read_text())
FOLDER = Path(sys.argv[1])


def load(path):
    """The table in a DuckDB file of the peer's version; once."""
    import duckdb

    if not path.exists():
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"CREATE TABLE lineitem AS SELECT * FROM '{FOLDER}/lineitem.parquet'")
            connection.execute(f"CREATE TABLE suppliers AS SELECT * FROM '{FOLDER}/suppliers.parquet'")
    return path


def tell(check, warm=False):
    """Time `check`, which gives the number of checks and the failed ones; after one run that isn't timed, if wanted."""
    if warm:
        check()
    started = time.perf_counter()
    count, failed = check()
    print(json.dumps({"seconds": time.perf_counter() - started, "checks": count, "failed": sorted(set(failed))}))
