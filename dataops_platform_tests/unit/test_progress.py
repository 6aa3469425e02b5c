"""Lines about progress: few, however much there is to do."""

import pytest

from dataops_platform.progress import by_tenths


@pytest.mark.parametrize(("total", "lines"), [(0, 0), (19, 0), (20, 10), (365, 10), (10_000, 10)])
def test_ten_lines_at_most(total, lines):
    said = []
    progress = by_tenths(said.append, "deliveries processed")
    for done in range(total + 1):
        progress(done, total)
    assert len(said) == lines
    assert said[-1:] == [f"{total} of {total} deliveries processed"][:lines]


def test_all_at_once():
    said = []
    by_tenths(said.append, "deliveries processed")(365, 365)
    assert said == ["365 of 365 deliveries processed"]
