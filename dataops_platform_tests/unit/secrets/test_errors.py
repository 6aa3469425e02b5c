"""Errors that would show a secret become copies that don't, and lose nothing else."""

from __future__ import annotations

import traceback

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.secrets import hide, without_secrets
from dataops_platform_tests.planted import PLANTED


@pytest.fixture(autouse=True)
def _planted():
    hide(PLANTED)


def caught(call):
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("no error")


def shown(error):
    return "".join(traceback.format_exception(error))


def raise_from(error, cause):
    raise error from cause


def raise_while_handling(error, first):
    try:
        raise first
    except type(first):
        raise error  # noqa: B904 (its context is what is tested)


def test_an_error_without_secrets_stays():
    error = caught(lambda: raise_from(ValueError("harmless"), KeyError("too")))
    assert without_secrets(error) is error


def test_a_context_that_is_not_shown_does_not_matter():
    error = caught(lambda: raise_while_handling(ValueError("harmless"), KeyError(PLANTED)))
    error.__suppress_context__ = True
    assert without_secrets(error) is error


def test_a_copy_looks_the_same():
    error = caught(lambda: raise_from(ConfigError(f"<{PLANTED}>"), ValueError("harmless")))
    clean = without_secrets(error)
    assert shown(clean) == shown(error).replace(PLANTED, "***")
    assert str(clean) == "<***>"
    assert (type(clean).__name__, type(clean).__module__) == ("ConfigError", ConfigError.__module__)
    assert clean.__traceback__ is error.__traceback__


def test_what_led_to_it_is_copied_too():
    by_cause = caught(lambda: raise_from(ValueError("harmless"), KeyError(PLANTED)))
    by_context = caught(lambda: raise_while_handling(ValueError("harmless"), KeyError(PLANTED)))
    for error in (by_cause, by_context):
        clean = without_secrets(error)
        assert PLANTED not in shown(clean)
        assert [str(clean), str(clean.__cause__)] == ["harmless", "'***'"]
        assert "raise first" in shown(clean) or error is by_cause


def test_notes():
    error = ValueError("harmless")
    error.add_note(f"with {PLANTED}")
    assert shown(without_secrets(error)) == "ValueError: harmless\nwith ***\n"


def test_errors_that_led_to_each_other():
    first, second = ValueError(PLANTED), KeyError("x")
    first.__cause__, second.__cause__ = second, first
    clean = without_secrets(first)
    assert clean.__cause__.__cause__ is clean
    assert PLANTED not in shown(clean)


def test_an_error_that_can_not_say_what_it_is():
    class Speechless(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    error = caught(lambda: raise_from(Speechless(), ValueError(PLANTED)))
    clean = without_secrets(error)
    assert (type(clean).__qualname__, str(clean)) == (Speechless.__qualname__, "<exception str() failed>")
    assert str(clean.__cause__) == "***"


def test_a_secret_in_the_source_code():
    def fail():
        raise ValueError("pl4nted/s3cret+of the=test")

    clean = without_secrets(caught(fail))
    assert clean.__traceback__ is None
    text = shown(clean)
    assert PLANTED not in text
    assert text.startswith("ValueError: ***\nTraceback (most recent call last):")
    assert 'raise ValueError("***")' in text


def test_one_that_ends_a_process():
    """In a log record it may be one that is no Exception."""
    assert shown(without_secrets(SystemExit(PLANTED))) == "SystemExit: ***\n"
