"""How long calls of Google's services are repeated."""

from __future__ import annotations

import pytest

from dataops_platform.google_errors import RETRY, patience


def calls(seconds):
    """How often a call is made that a service doesn't answer."""
    made = []

    def call():
        made.append(1)
        raise ConnectionError("nobody is there")

    with pytest.raises(ConnectionError), patience(seconds):
        RETRY.with_delay(initial=0.01, maximum=0.01)(call)()
    return len(made)


def test_who_has_no_time_asks_once():
    assert calls(0) == 1
    assert calls(0.2) > 2


def test_patience_ends_with_what_has_it():
    with patience(0):
        pass
    answers = iter([ConnectionError("not yet"), None])

    def call():
        if (error := next(answers)) is not None:
            raise error
        return "here"

    assert RETRY.with_delay(initial=0.01)(call)() == "here"
