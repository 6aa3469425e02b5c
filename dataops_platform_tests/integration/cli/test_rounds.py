"""`dataops run` looks again: a row that moved to another partition leaves its old one to be built anew."""

from __future__ import annotations

import pytest

from dataops_platform_tests.conftest import dataops
from dataops_platform_tests.integration.orchestration.automated import write_project

BY_DAY = "SELECT string_agg(orders || '', ' ' ORDER BY order_date) AS found FROM production.by_day"


@pytest.mark.parametrize("refused", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_row_that_moved(tmp_path, refused):
    """What is made of the table as a whole has verdicts on both days; a day that is refused keeps nothing waiting."""
    project, home = write_project(tmp_path / "shop"), tmp_path / "home"
    days = project / "data" / "orders"
    assert dataops(["run"], home, project).returncode == 0
    (days / "2024-05-02.csv").write_text((days / "2024-05-02.csv").read_text() + "1,2024-05-02,DE,5.00\n")
    if refused:
        (days / "2024-05-03.csv").write_text("nonsense\n")
    again = dataops(["run"], home, project)
    assert again.returncode == (1 if refused else 0), again.stdout + again.stderr
    assert "has not been checked" not in again.stdout
    assert again.stdout.count("refused; the others went on") == (1 if refused else 0)
    assert " 2 3 " in dataops(["query", BY_DAY], home, project).stdout.replace("│", " ")
