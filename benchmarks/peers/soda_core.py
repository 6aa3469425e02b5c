"""Soda Core 3: its scan plans metrics together."""

import logging

import common
import duckdb
from soda.scan import Scan

R = common.RULES


def checks():
    lines = ["checks for lineitem:"]
    lines += [f"  - missing_count({name}) = 0" for name in R["not_null"]]
    for name, (low, high) in R["ranges"].items():
        lines += [
            f"  - invalid_count({name}) = 0:",
            f"      name: range {name}",
            f"      valid min: {low}",
            f"      valid max: {high}",
        ]
    for name, values in R["sets"].items():
        lines += [f"  - invalid_count({name}) = 0:", f"      name: set {name}", f"      valid values: {values}"]
    for name, pattern in R["patterns"].items():
        lines += [f"  - invalid_count({name}) = 0:", f"      name: pattern {name}", f"      valid regex: '{pattern}'"]
    lines += [f"  - duplicate_count({name}) = 0" for name in R["unique"]]
    lines.append(f"  - duplicate_count({', '.join(R['composite'])}) = 0")
    child, parent = R["reference"]
    lines.append(f"  - values in ({child}) must exist in suppliers ({parent})")
    lines.append(f"  - freshness({R['fresh'][0]}) < {R['fresh'][1]}d")
    lines.append(f"  - row_count > {R['rows']}")
    return "\n".join(lines)


CONNECTION = duckdb.connect(str(common.load(common.FOLDER / "soda.duckdb")), read_only=True)


def scan():
    logging.disable(logging.CRITICAL)
    one = Scan()
    one.disable_telemetry()
    one.add_duckdb_connection(CONNECTION)
    one.set_data_source_name("duckdb")
    one.add_sodacl_yaml_str(checks())
    one.execute()
    assert not one.has_error_logs(), one.get_error_logs_text()
    results = one.scan_results["checks"]
    return len(results), [check["name"] for check in results if check["outcome"] != "pass"]


common.tell(scan)
