"""Secrets in the environment that dbt must not find."""

import os

import pytest

from dataops_platform.secrets import Secret, withheld
from dataops_platform_tests.planted import PLANTED


def test_only_secrets_are_withheld(monkeypatch):
    Secret("DATAOPS_X", PLANTED)
    kept = {"TEST_HARMLESS": "harmless", "TEST_LONGER": f"{PLANTED} and more", "DBT_ENV_SECRET_X": PLANTED}
    for name, value in {**kept, "DATAOPS_X": PLANTED, "TEST_COPY": f" {PLANTED}\n"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with withheld():
        found = {name: value for name, value in os.environ.items() if name in kept or PLANTED in value}
    assert found == kept
    assert dict(os.environ) == before


def test_they_come_back_after_an_error(monkeypatch):
    Secret("DATAOPS_X", PLANTED)
    monkeypatch.setenv("DATAOPS_X", PLANTED)
    with pytest.raises(ZeroDivisionError), withheld():
        1 / 0  # noqa: B018
    assert os.environ["DATAOPS_X"] == PLANTED
