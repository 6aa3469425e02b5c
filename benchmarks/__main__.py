"""`python -m benchmarks [GROUP …]`: run groups, print ratios, write benchmarks/latest.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import definitions, demo, load, partitions, peers, rules, sensor

GROUPS: dict[str, Callable[[], dict[str, float]]] = {
    "load": load.run,
    "rules": rules.run,
    "demo": demo.run,
    "definitions": definitions.run,
    "partitions": partitions.run,
    "sensor": sensor.run,
    "peers": peers.run,
}
ASKED_FOR = {"peers"}
"""Groups that run only when they are named: they need what `make peers` installs."""
LATEST = Path(__file__).with_name("latest.json")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"no group {unknown[0]!r}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    figures: dict[str, float] = json.loads(LATEST.read_text()) if names and LATEST.exists() else {}
    for name in names or [name for name in GROUPS if name not in ASKED_FOR]:
        try:
            found = GROUPS[name]()
        except peers.Missing as error:
            print(error, file=sys.stderr)
            return 2
        figures |= {f"{name}.{key}": round(value, 3) for key, value in found.items()}
        LATEST.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    table = Table("figure", "value")
    for key, value in sorted(figures.items()):
        table.add_row(key, f"{value:,.3f}".rstrip("0").rstrip("."))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
