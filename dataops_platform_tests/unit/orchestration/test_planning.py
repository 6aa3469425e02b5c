"""What `--partitions` means."""

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.orchestration.planning import span


def test_one_partition_is_a_range_of_one():
    assert span("2013-01-01") == ("2013-01-01", "2013-01-01")
    assert span("2013-01-01..2013-01-31") == ("2013-01-01", "2013-01-31")


@pytest.mark.parametrize("text", ["", "..", "2013-01-01..", "..2013-01-01", "2013-02-01..2013-01-01"])
def test_ranges_that_make_no_sense(text):
    with pytest.raises(ConfigError, match="--partitions"):
        span(text)
