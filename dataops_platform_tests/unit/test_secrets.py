"""Secrets: where they come from, what can't be used, and that no text that is written holds one."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

import google.auth
import pytest
from google.auth import exceptions as auth
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform import secrets
from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.secrets import RedactingFilter, Secret, SecretManager, SecretName, Variables, hide, redact

PLANTED = "pl4nted/s3cret+of the=test"


@contextmanager
def nothing_known():
    known = secrets._hidden
    secrets._hidden = ()
    try:
        yield
    finally:
        secrets._hidden = known


@pytest.fixture(autouse=True)
def _own_registry():
    with nothing_known():
        yield


class FakeManager(SecretManager):
    """Answers from a dictionary, and remembers what it was asked."""

    def __init__(self, **known):
        super().__init__()
        self.known = known
        self.asked = []

    def read(self, setting, reference):
        self.asked.append((setting, reference))
        return self.known[SecretName.parse(setting, reference).name]


# -- A secret ----------------------------------------------------------------------------------------------------------


def test_a_secret_is_never_shown():
    secret = Secret("DATAOPS_X", PLANTED)

    @dataclass
    class Holder:
        secret: Secret

    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>10}",
        "%s" % secret,  # noqa: UP031
        repr(Holder(secret)),
        repr([secret]),
        secret.where,
    ]
    assert not [text for text in shown if PLANTED in text]
    assert (str(secret), f"{secret:>5}", secret.where) == ("***", "  ***", "DATAOPS_X")
    assert secret.reveal() == PLANTED


def test_a_secret_in_collections():
    secret = Secret("DATAOPS_X", PLANTED)
    assert secret == Secret("DATAOPS_X", PLANTED)
    assert secret != Secret("DATAOPS_X", "another")
    assert secret != Secret("DATAOPS_Y", PLANTED)
    assert secret != PLANTED
    assert len({secret, Secret("DATAOPS_X", PLANTED)}) == 1
    assert copy.deepcopy([secret])[0] is secret
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(secret)


def test_a_value_of_the_environment_is_hidden_before_it_is_revealed():
    Secret("DATAOPS_X", PLANTED)
    assert redact(f"<{PLANTED}>") == "<***>"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_mounted_file(tmp_path, ending):
    file = tmp_path / "a secret#1"
    file.write_bytes((PLANTED + ending).encode())
    secret = Secret("DATAOPS_X", f"file://{quote(str(file))}")
    assert redact(PLANTED) == PLANTED  # not read yet
    assert secret.reveal() == PLANTED
    assert redact(PLANTED) == "***"
    file.unlink()
    assert secret.reveal() == PLANTED  # read once


def test_only_one_newline_is_dropped(tmp_path):
    (tmp_path / "x").write_text(f" {PLANTED}\n\n")
    assert Secret("DATAOPS_X", f"file://{tmp_path}/x").reveal() == f" {PLANTED}\n"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("file://run/x", "DATAOPS_X is 'file://run/x': write an absolute path, like file:///run/secrets/name"),
        ("file://", "DATAOPS_X is 'file://': write an absolute path, like file:///run/secrets/name"),
        ("file://{tmp}/none", "DATAOPS_X is 'file://{tmp}/none': there is no such file; is the secret mounted?"),
        ("file://{tmp}", "DATAOPS_X is 'file://{tmp}': this can't be read as a file (Is a directory)"),
        (
            "file://{tmp}/large",
            "DATAOPS_X is 'file://{tmp}/large': the file has more than 65536 bytes; that is no secret",
        ),
        (
            "file://{tmp}/binary",
            "DATAOPS_X is 'file://{tmp}/binary': its content isn't text in UTF-8; store binary data as base64",
        ),
        ("file://{tmp}/empty", "DATAOPS_X (file://{tmp}/empty) is empty; it should be a secret"),
        ("   ", "DATAOPS_X is empty; it should be a secret"),
        (
            "file://{tmp}/short",
            "DATAOPS_X (file://{tmp}/short) has fewer than 4 characters: too short to be a secret, and to be kept out"
            " of logs",
        ),
    ],
)
def test_what_can_not_be_a_secret(tmp_path, reference, says):
    (tmp_path / "large").write_bytes(b"x" * 65537)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00secret")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(ConfigError) as error:
        Secret("DATAOPS_X", reference.format(tmp=tmp_path)).reveal()
    assert str(error.value) == says.format(tmp=tmp_path)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.open", refuse)  # root may read every file
    with pytest.raises(ConfigError, match=r"user \d+ may not read this file; correct its mode or its owner"):
        Secret("DATAOPS_X", f"file://{tmp_path}/x").reveal()


# -- Settings ----------------------------------------------------------------------------------------------------------


def test_variables_follow_references_when_they_are_read():
    found = Variables({"A": "plain", "B": "sm://project/b", "C": "file:///stays", "D": "sm://project/d"})
    found._manager = manager = FakeManager(b="from the manager", d="1")
    assert (found["A"], found.get("C"), found.get("Z"), manager.asked) == ("plain", "file:///stays", None, [])
    assert found.get("B") == "from the manager"
    assert manager.asked == [("B", "sm://project/b")]
    assert redact("a from the manager b 1") == "a *** b 1"  # too short a value can't be hidden
    assert found["D"] == "1"
    assert (set(found), len(found), found.raw("B"), found.raw("Z")) == (set("ABCD"), 4, "sm://project/b", "")
    with pytest.raises(KeyError):
        found["Z"]


def test_a_secret_among_the_variables():
    found = Variables({"A": PLANTED, "B": "sm://project/b#3", "C": ""})
    found._manager = manager = FakeManager(b="from the manager")
    assert found.secret("A").reveal() == PLANTED
    assert (found.secret("C"), found.secret("Z")) == (None, None)
    secret = found.secret("B")
    assert manager.asked == []
    assert [secret.reveal(), secret.reveal()] == ["from the manager"] * 2
    assert manager.asked == [("B", "sm://project/b#3")]
    assert secret.where == "B (sm://project/b#3)"
    assert redact("from%20the+manager from%20the%20manager") == "from%20the+manager ***"


def test_variables_are_the_environment(monkeypatch):
    monkeypatch.setenv("DATAOPS_X", "here")
    assert Variables()["DATAOPS_X"] == "here"


@pytest.mark.parametrize("endpoint", ["localhost:80", "ftp://x", "https://"])
def test_an_endpoint_that_is_no_url(endpoint):
    with pytest.raises(ConfigError) as error:
        Variables({"DATAOPS_SECRET_MANAGER_ENDPOINT": endpoint})
    assert str(error.value) == (
        f"DATAOPS_SECRET_MANAGER_ENDPOINT is {endpoint!r}: write a URL, like https://secretmanager.googleapis.com"
    )


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("sm://my-project/api_key", "/v1/projects/my-project/secrets/api_key/versions/latest:access"),
        ("sm://1234/Key-2#7", "/v1/projects/1234/secrets/Key-2/versions/7:access"),
        ("sm://example.com:p/k#prod", "/v1/projects/example.com:p/secrets/k/versions/prod:access"),
        ("sm://p/k#latest", "/v1/projects/p/secrets/k/versions/latest:access"),
    ],
)
def test_references(reference, path):
    assert SecretName.parse("X", reference).access_path == path


@pytest.mark.parametrize(
    "reference",
    ["sm://", "sm://p", "sm://p/", "sm:///k", "sm://p/k/1", "sm://p/k#", "sm://p/k#-1", "sm://P/k", "sm://p/k k",
     "sm://p/k\n", "sm://p/../k", "sm://p/k?x"],
)  # fmt: skip
def test_malformed_references(reference):
    with pytest.raises(ConfigError) as error:
        Secret("DATAOPS_X", reference).reveal()
    assert str(error.value) == (
        f"DATAOPS_X is {reference!r}: write sm://project/name or sm://project/name#version, with a version's number"
        " or alias"
    )


# -- Application Default Credentials -----------------------------------------------------------------------------------


@pytest.fixture
def _no_credentials(tmp_path, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)  # the variable is read at import


@pytest.mark.usefixtures("_no_credentials")
def test_no_default_credentials():
    with pytest.raises(ConfigError) as error:
        secrets.application_default()
    assert str(error.value).startswith(
        "there are no Google credentials that can be used. On Kubernetes, bind the pod's service account by Workload"
        " Identity; on a laptop, run `gcloud auth application-default login`; elsewhere, set DATAOPS_CREDENTIALS. ("
    )


@pytest.mark.usefixtures("_no_credentials")
@pytest.mark.parametrize("content", [None, "no json", "[]", "{}", '{"type": "service_account"}', '{"type": "other"}'])
def test_a_default_file_that_can_not_be_used(tmp_path, monkeypatch, content):
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(ConfigError) as error:
        secrets.application_default()
    assert str(error.value).startswith(f"GOOGLE_APPLICATION_CREDENTIALS is {str(file)!r}, which can't be used: ")
    assert str(error.value).endswith("Correct it, or set DATAOPS_CREDENTIALS.")


def test_default_credentials_that_take_a_service_which_is_away(monkeypatch):
    def away(**_):
        raise auth.TransportError("timed out")

    monkeypatch.setattr(google.auth, "default", away)
    with pytest.raises(Unavailable, match="Google's token service doesn't answer: timed out"):
        secrets.application_default()


# -- Redaction ---------------------------------------------------------------------------------------------------------

values = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40).filter(
    lambda value: len(value.strip()) >= 4
)
around = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text("*sec ", max_size=8)


def written(value):
    raw = value.encode()
    return [
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
    ]


@given(st.lists(values | st.text("*sec", min_size=4, max_size=6), min_size=1, max_size=3), st.data())
def test_a_planted_secret_never_survives(planted, data):
    with nothing_known():
        for value in planted:
            hide(value)
        forms = [form for value in planted for form in written(value)]
        chosen = data.draw(st.lists(st.sampled_from(forms), min_size=1, max_size=4))
        text = data.draw(around) + "".join(form + data.draw(around) for form in chosen)
        clean = redact(text)
        assert not [form for form in forms if form in clean]
        assert redact(clean) == clean


@given(values, around, around)
def test_a_secret_inside_something_encoded(value, before, after):
    with nothing_known():
        hide(value)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            clean = redact(encode(f"{before}{value}{after}".encode()).decode())
            assert "***" in clean


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


def test_text_without_secrets_stays():
    assert redact("nothing is known") == "nothing is known"
    hide("abc")  # too short
    hide("    ")
    assert redact("abc     def") == "abc     def"


def test_the_longest_form_goes_first():
    hide("secret")
    hide("secret-and-more")
    assert redact("a secret-and-more, a secret") == "a ***, a ***"


def test_a_private_key_is_hidden_line_by_line():
    hide("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END PRIVATE KEY-----\n")
    assert redact("key: MIIEvQIBADANBgkqhkiG9w0B, short") == "key: ***, short"
    assert redact(r"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END PRIVATE KEY-----") == "***"


def test_a_password_in_a_basic_header_and_in_a_url():
    hide(PLANTED)
    header = base64.b64encode(f"user:{PLANTED}".encode()).decode()
    clean = redact(f"Authorization: Basic {header}")
    assert base64.b64encode(PLANTED.encode()).decode()[2:-2] not in clean
    assert len(clean) < len(header) / 2 + 21
    assert redact(f"postgresql://user:{quote(PLANTED, safe='')}@host/db") == "postgresql://user:***@host/db"
    assert redact(f"/hook?k={quote(PLANTED, safe='/+=')}&b=1") == "/hook?k=***&b=1"  # as requests writes it


def test_a_record_without_secrets_stays_as_it_is():
    hide(PLANTED)
    try:
        raise ValueError("harmless")
    except ValueError:
        record = logging.LogRecord("x", logging.INFO, "f.py", 1, "a %s", ("b",), sys.exc_info())
    assert RedactingFilter().filter(record)
    assert (record.msg, record.args, record.exc_text) == ("a %s", ("b",), None)
    assert record.exc_info is not None


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


def test_a_traceback_without_secrets_is_none():
    hide(PLANTED)
    assert secrets.redacted_traceback(ValueError("harmless")) is None
    assert secrets.redacted_traceback(ValueError(PLANTED)) == "ValueError: ***"


@pytest.fixture
def _installed():
    factory = logging.getLogRecordFactory()
    loggers = [logging.getLogger(name) for name in (None, "dagster", "dbt")]
    places = [place for logger in loggers for place in (logger, *logger.handlers)]
    before = [list(place.filters) for place in places]
    secrets.install_redaction()
    secrets.install_redaction()
    yield
    logging.setLogRecordFactory(factory)
    for place, filters in zip(places, before, strict=True):
        place.filters[:] = filters


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
    assert not isinstance(logging.getLogRecordFactory()._make, secrets._Records)
    assert logging.getLogger("dagster").filters.count(secrets._FILTER) == 1
