"""What a process logs and prints holds no secrets."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from hypothesis import assume, given

from dataops_platform.secrets import hide
from dataops_platform.secrets.output import _FILTER, RedactedStream, RedactingFilter, _Records
from dataops_platform_tests.planted import PLANTED, around, installed, nothing_known, values, written


@given(values, around)
def test_logging_never_writes_a_secret(value, text):
    with nothing_known():
        hide(value)
        for form in written(value):
            lines = logged(lambda log, form=form: fail(log, form, text))
            assert form not in lines


def fail(log, form, text):
    try:
        try:
            raise ValueError(form)
        except ValueError as error:
            raise RuntimeError(text) from error
    except RuntimeError:
        log.exception("%s %s", text, form)


def logged(call, logger_name="test.redaction", **handler):
    """What a handler with the filter writes."""
    stream = io.StringIO()
    receiver = logging.StreamHandler(stream)
    receiver.setFormatter(logging.Formatter("%(message)s"))
    receiver.addFilter(RedactingFilter())
    log = logging.Logger(logger_name)
    log.addHandler(receiver)
    call(log)
    return stream.getvalue()


def test_a_record_without_secrets_stays_as_it_is():
    hide(PLANTED)
    try:
        raise ValueError("harmless")
    except ValueError:
        record = logging.LogRecord("x", logging.INFO, "f.py", 1, "a %s", ("b",), sys.exc_info())
    assert RedactingFilter().filter(record)
    assert (record.msg, record.args, record.exc_text) == ("a %s", ("b",), None)
    assert record.exc_info is not None


def test_a_record_keeps_its_traceback():
    """Dagster hands a record's error on to other loggers, which format it anew."""
    hide(PLANTED)
    try:
        raise ValueError(PLANTED)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "a", None, sys.exc_info())
    RedactingFilter().filter(record)
    text = logging.Formatter().format(record)
    assert text.startswith("a\nTraceback (most recent call last):\n")
    assert text.endswith("ValueError: ***")


def test_every_part_of_a_record():
    hide(PLANTED)
    record = logging.LogRecord("x", logging.INFO, "f.py", 1, f"a {PLANTED} %s", (PLANTED,), None, sinfo=PLANTED)
    record.exc_text = PLANTED
    record.url = f"https://x/{PLANTED}"
    record.number = 5
    RedactingFilter().filter(record)
    assert record.getMessage() == "a *** ***"
    assert (record.exc_text, record.stack_info, record.url, record.number) == ("***", "***", "https://x/***", 5)


def test_arguments_that_do_not_fit(capsys):
    hide(PLANTED)
    written = logged(lambda log: log.info("two %s %s", PLANTED))
    assert written == "two %s %s ('***',)\n"
    assert capsys.readouterr().err == ""


@pytest.fixture
def _installed():
    with installed():
        yield


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("name", ["dagster", "dagster.child", "dbt", "some.library"])
def test_installed_once_it_cleans_what_every_logger_writes(name):
    stream = io.StringIO()
    late = logging.StreamHandler(stream)  # a handler that was not there when it was installed
    logger = logging.getLogger(name)
    logger.addHandler(late)
    try:
        hide(PLANTED)
        fail(logger, PLANTED, "text")
    finally:
        logger.removeHandler(late)
    assert "Traceback" in stream.getvalue()
    assert "text ***" in stream.getvalue()
    assert PLANTED not in stream.getvalue()


@pytest.mark.usefixtures("_installed")
def test_installed_once():
    assert not isinstance(logging.getLogRecordFactory()._make, _Records)
    assert logging.getLogger("dagster").filters.count(_FILTER) == 1


@given(values, around)
def test_what_is_printed_holds_no_secret(value, text):
    assume("*" not in value)  # the masks themselves may look like such a one
    stream = RedactedStream(io.StringIO())
    with nothing_known():
        hide(value)
        for form in written(value):
            print(text, form, file=stream)
            stream.writelines([form, text])
            assert form not in stream.getvalue()
            stream.seek(0)
            stream.truncate()


def test_standard_output_and_error_are_redacted_once(capsys):
    with installed():
        print(f"<{PLANTED}>")
        hide(PLANTED)
        print(f"<{PLANTED}>", PLANTED)
        sys.stderr.write(f"<{PLANTED}>")
        assert sys.stdout.write(PLANTED) == len(PLANTED)
        assert not isinstance(sys.stdout._stream, RedactedStream)
    assert capsys.readouterr() == (f"<{PLANTED}>\n<***> ***\n***", "<***>")


def test_a_process_without_standard_output(monkeypatch):
    """As started by a daemon, Python has none."""
    monkeypatch.setattr(sys, "stdout", None)
    with installed():
        assert sys.stdout is None
