"""`dataops plan`: the runs and the work left. What it estimates on BigQuery is looked at in system/test_parity.py."""

from __future__ import annotations

import pytest

from dataops_platform_tests.conftest import dataops
from dataops_platform_tests.readme import own_table_files


@pytest.fixture
def shop(tmp_path):
    """The README's own table, without dbt."""
    project = tmp_path / "shop"
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
    return project


def test_what_is_left_and_what_is_asked(shop, tmp_path):
    home = tmp_path / "home"
    done = dataops(["plan"], home, shop)
    assert done.returncode == 0, done.stderr
    assert "to deliver │ orders         │          2 │ 2024-05-01 │ 2024-05-02" in done.stdout
    assert "Would be read" not in done.stdout  # nothing is charged for
    assert not (home / "lake").exists()  # and nothing was run
    assert dataops(["run"], home, shop).returncode == 0
    done = dataops(["plan"], home, shop)
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "The warehouse is as the contracts say.\nNothing new since the last run.",
    )
    done = dataops(["plan", "--select", "staging/orders", "--partitions", "2024-05-01"], home, shop)
    assert "over 2024-05-01: 1 assets" in done.stdout
    wrong = dataops(["plan", "--partitions", "2024-04-01"], home, shop)
    assert (wrong.returncode, wrong.stdout.strip()) == (2, "The warehouse is as the contracts say.")
    assert "partition '2024-04-01' is not one of 2024-05-01.." in wrong.stderr
