import pytest

from dataops_platform_tests.planted import nothing_known


@pytest.fixture(autouse=True)
def _own_registry():
    with nothing_known():
        yield
