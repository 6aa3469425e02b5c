"""Semantic versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.contracts.versions import Step, Version, suggestion

versions = st.builds(Version, *[st.integers(0, 99)] * 3)


@given(versions)
def test_round_trip(version):
    assert Version.parse(str(version)) == version
    assert Version.parse(f"{version}-rc.1+build.5") == version


@given(versions, st.sampled_from(Step), st.sampled_from(Step))
def test_what_follows(version, step, other):
    assert version < version.next(step)
    assert (version.next(step) < version.next(other)) == (step < other)


@pytest.mark.parametrize("text", ["1", "1.0", "v1.0.0", "01.0.0", "1.0.0.0", "latest", ""])
def test_what_is_no_version(text):
    with pytest.raises(ValueError, match="isn't semantic"):
        Version.parse(text)
    Version.parse(suggestion(text).split("`")[1])


def test_what_was_meant():
    assert suggestion("v1.2") == "write MAJOR.MINOR.PATCH, like `1.2.0`"
