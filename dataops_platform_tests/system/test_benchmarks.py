"""The benchmarks run: on a five-hundredth of the data, to show that they work, not how fast anything is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("group", "figures"),
    [
        ("load", {"load.append_ratio", "load.merge_ratio", "load.merge_day_ratio", "load.memory_ratio_10x"}),
        pytest.param(
            "rules",
            {"rules.ratio_to_best", "rules.ratio_to_per_rule", "rules.partitions_ratio"},
            marks=pytest.mark.long,
        ),
        ("definitions", {"definitions.contracts_10_seconds"}),
        pytest.param("partitions", {"partitions.first_seconds", "partitions.view_seconds"}, marks=pytest.mark.long),
        ("sensor", {"sensor.tick_ratio", "sensor.tick_seconds_large_10_new", "sensor.list_calls_large_10_new"}),
    ],
)
def test_group_prints_and_writes_its_figures(group, figures, tmp_path):
    latest = tmp_path / "latest.json"
    code = (
        "import benchmarks.__main__ as b, pathlib, sys;"
        f" b.LATEST = pathlib.Path({str(latest)!r}); sys.exit(b.main([{group!r}]))"
    )
    # What benchmarks keep between their runs may be of another version of the platform.
    environment = {**os.environ, "DATAOPS_BENCH_QUICK": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(latest.read_text())
    assert figures <= set(written)
    assert all(value > 0 for value in written.values())
    assert all(name in done.stdout for name in figures)


def test_unknown_group_is_a_usage_error():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "nope"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no group 'nope'; there are load, rules, demo, definitions, partitions, sensor, peers" in done.stderr


PEERS = """
from benchmarks import peers
peers.install()
good, bad = peers.table(peers.PLACE / "test-good"), peers.table(peers.PLACE / "test-bad", defects=True)
for peer in peers.PEERS:
    _, count, failed = peers.check(peer, good)
    assert (count, failed) == (peers.CHECKS, []), (peer, count, failed)
    _, count, failed = peers.check(peer, bad)
    # pandera names the columns of a whole frame's check one by one.
    broken = {name.partition(" composite")[1] or name for name in failed}
    assert (count, len(broken)) == (peers.CHECKS, peers.BROKEN), (peer, failed)
assert set(peers.run()) == {f"{p}_{what}" for p in peers.PEERS for what in ("seconds", "over_ours")} | {"ours_seconds"}
"""


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_peer_makes_the_checks_and_sees_what_is_wrong():
    environment = {**os.environ, "DATAOPS_BENCH_QUICK": "1"}
    done = subprocess.run([sys.executable, "-c", PEERS], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
