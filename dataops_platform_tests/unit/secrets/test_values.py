"""Where settings get secrets from, and what can't be one."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.secrets import Secret, SecretManager, Variables, redact
from dataops_platform.secrets.manager import SecretName
from dataops_platform_tests.planted import PLANTED


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
