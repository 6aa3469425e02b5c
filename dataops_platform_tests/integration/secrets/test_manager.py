"""Secret Manager over HTTP: a server on localhost that answers as Google's does, well or badly."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading

import google.auth
import pytest
import requests
from google.auth import exceptions as auth
from google.oauth2 import credentials as user_login

from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.secrets import SecretManager, Variables, manager, redact
from dataops_platform.secrets.manager import ATTEMPTS
from dataops_platform_tests.planted import nothing_known
from dataops_platform_tests.secret_manager import VALUE, serving, version

REFERENCE = "sm://project/api-key"
WHERE = f"DATAOPS_X is {REFERENCE!r}: "
VERSION = "projects/1/secrets/api-key/versions/3"
PATH = "/v1/projects/project/secrets/api-key/versions/latest:access"


def error(code, status, message, **more):
    return code, {"error": {"code": code, "message": message, "status": status} | more}


BUSY = error(503, "UNAVAILABLE", "The service is currently unavailable.")


@pytest.fixture
def stub():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses between attempts, which nobody waits for."""
    taken = []
    monkeypatch.setattr(SecretManager, "_known", {})
    monkeypatch.setattr(SecretManager.__init__, "__defaults__", (None, manager.ENDPOINT, taken.append))
    with nothing_known():
        yield taken


@pytest.fixture
def read(stub):
    def read(*answers, reference=REFERENCE):
        stub.answers = list(answers)
        return Variables({"DATAOPS_X": reference, "DATAOPS_SECRET_MANAGER_ENDPOINT": stub.url})["DATAOPS_X"]

    return read


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        (REFERENCE, PATH),
        (f"{REFERENCE}#7", PATH.replace("latest", "7")),
        ("sm://12/A_b#x", "/v1/projects/12/secrets/A_b/versions/x:access"),
    ],
)
def test_the_value(stub, read, pauses, reference, path):
    assert read(version(), reference=reference) == VALUE
    assert [path] == [asked for asked, _ in stub.requests]
    assert pauses == []
    assert redact(f"<{VALUE}>") == "<***>"


@pytest.mark.parametrize(
    ("content", "value"),
    [("line\n", "line"), ("two\n\n", "two\n"), ("häß→lich", "häß→lich"), ("x\r\n", "x")],
)
def test_the_text_of_a_secret(read, content, value):
    assert read(version(content)) == value


def test_an_answer_without_a_checksum(read):
    status, document = version()
    del document["payload"]["dataCrc32c"]
    assert read((status, document)) == VALUE


def test_no_token_travels_in_the_clear(stub, monkeypatch):
    stub.answers = [version()]

    def credentials():
        raise AssertionError("credentials were made")

    assert SecretManager(credentials, stub.url).read("X", REFERENCE) == VALUE
    assert "authorization" not in stub.requests[0][1]


def test_it_is_asked_once_per_process(stub, read):
    assert read(version()) == VALUE
    assert read(BUSY) == VALUE  # other settings, same reference
    assert len(stub.requests) == 1
    assert read(version(b"of version 1"), reference=f"{REFERENCE}#1") == "of version 1"


def test_threads_share_one_request(stub, read):
    def slowly(handler):
        threading.Event().wait(0.2)
        handler.reply(version())

    found = []
    threads = [threading.Thread(target=lambda: found.append(read(slowly))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [VALUE] * 4
    assert len(stub.requests) == 1


def broken_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(json.dumps(version()[1]).encode()[:40])
    handler.close_connection = True


def cut_short(handler):
    content = json.dumps(version()[1]).encode()[:40]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def hung_up(handler):
    handler.close_connection = True
    handler.connection.close()


def wrongly_packed(handler):
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"nope")


PASSING = [
    (BUSY, "503 The service is currently unavailable."),
    (error(429, "RESOURCE_EXHAUSTED", "Quota exceeded"), "429 Quota exceeded"),
    ((500, b""), "500 Internal Server Error"),
    ((502, b"<html>Bad gateway</html>"), "502 Bad Gateway"),
    (error(504, "DEADLINE_EXCEEDED", "Deadline exceeded"), "504 Deadline exceeded"),
    ((408, b"[]"), "408 Request Timeout"),
    (version(dataCrc32c="12345"), "its checksum doesn't fit its content"),
    (version(data=base64.b64encode(b"changed").decode()), "its checksum doesn't fit its content"),
    (version(data="!"), "an answer that can't be read"),
    (version(dataCrc32c="x"), "an answer that can't be read"),
    ((200, {"name": "x"}), "an answer that can't be read"),
    ((200, {"payload": {}}), "an answer that can't be read"),
    ((200, ["x"]), "an answer that can't be read"),
    ((200, {"payload": "x"}), "an answer that can't be read"),
    ((200, b""), "an answer that can't be read"),
    (cut_short, "an answer that can't be read"),
    (broken_off, "the answer broke off"),
    (wrongly_packed, "the answer broke off"),
    (hung_up, "Connection aborted"),
]


@pytest.mark.parametrize(("answer", "problem"), PASSING)
def test_what_passes(stub, read, pauses, answer, problem):
    assert read(answer, answer, version()) == VALUE
    assert len(stub.requests) == 3
    assert len(pauses) == 2


@pytest.mark.parametrize(("answer", "problem"), PASSING)
def test_what_does_not_pass(stub, read, pauses, answer, problem):
    with pytest.raises(Unavailable) as found:
        read(answer)
    start = f"{WHERE}no good answer from Secret Manager in 6 attempts; the last one: "
    assert str(found.value).startswith(start)
    assert problem in str(found.value).removeprefix(start)
    assert VALUE not in str(found.value)
    assert len(stub.requests) == ATTEMPTS == len(pauses) + 1
    # Growing, by chance up to twice as much, and bounded.
    assert all(0.25 * 2**n <= pause <= min(0.5 * 2**n, 8) for n, pause in enumerate(pauses))


def test_a_pause_that_the_service_asks_for(read, pauses):
    busy = (*BUSY, {"Retry-After": "5"})
    for_ever = (*BUSY, {"Retry-After": "86400"})
    soon = (*BUSY, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert read(busy, for_ever, soon, version()) == VALUE
    assert pauses[:2] == [5, 8]
    assert pauses[2] <= 2


def test_a_server_that_is_not_there(stub):
    stub.server_close()
    with pytest.raises(Unavailable, match=r"the last one: .*Connection refused"):
        SecretManager(endpoint=stub.url).read("DATAOPS_X", REFERENCE)


def test_a_server_that_does_not_answer(read, monkeypatch):
    monkeypatch.setattr(manager, "TIMEOUT", (0.05, 0.05))
    with pytest.raises(Unavailable, match=r"the last one: .*Read timed out"):
        read(lambda handler: threading.Event().wait(0.3))


REFUSED = [
    (
        error(404, "NOT_FOUND", "Secret [projects/1/secrets/api-key] not found or has no versions."),
        "there is no version latest of projects/project/secrets/api-key in Secret Manager. Create it"
        " (`gcloud secrets versions add api-key --project project --data-file=-`), or correct the setting.",
    ),
    (
        error(403, "PERMISSION_DENIED", "Permission 'secretmanager.versions.access' denied (or it may not exist)."),
        "permission secretmanager.versions.access on projects/project/secrets/api-key is missing. Grant the platform's"
        " identity roles/secretmanager.secretAccessor on this secret, or correct the setting. (Permission"
        " 'secretmanager.versions.access' denied (or it may not exist).)",
    ),
    (
        error(
            403, "PERMISSION_DENIED", "Secret Manager API has not been used", details=[{"reason": "SERVICE_DISABLED"}]
        ),
        "Secret Manager is off in project project. Turn it on:"
        " `gcloud services enable secretmanager.googleapis.com --project project`.",
    ),
    (
        error(400, "FAILED_PRECONDITION", f"Secret Version [{VERSION}] is in DISABLED state."),
        "version latest of projects/project/secrets/api-key is disabled; enable it, or add a version, or name another"
        " one",
    ),
    (
        error(400, "FAILED_PRECONDITION", f"Secret Version [{VERSION}] is in DESTROYED state."),
        "version latest of projects/project/secrets/api-key is destroyed; add a version, or name another one",
    ),
    (error(400, "INVALID_ARGUMENT", "No such alias"), "Secret Manager refuses: 400 No such alias"),
    ((418, b"<html>"), "Secret Manager refuses: 418 I'm a Teapot"),
    (
        version(b"\xff\xfe" + VALUE.encode()),
        "its content isn't text in UTF-8; store binary data as base64",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "says"), REFUSED)
def test_what_is_refused(stub, read, pauses, answer, says):
    with pytest.raises(ConfigError) as found:
        read(answer)
    assert str(found.value) == WHERE + says
    assert (len(stub.requests), pauses) == (1, [])
    assert read(version()) == VALUE  # a failure isn't kept


def test_rejected_credentials(read):
    with pytest.raises(ConfigError) as found:
        read(error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."))
    assert str(found.value) == (
        f"{WHERE}the Google credentials can't be used: Anonymous credentials cannot be refreshed. They may have"
        " expired: run `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
    )


# -- With credentials, which only go to https --------------------------------------------------------------------------


@pytest.fixture
def rewired(stub, monkeypatch):
    """`https://` that ends at the server."""
    send = requests.Session.send

    def redirect(self, request, **kwargs):
        request.url = request.url.replace(manager.ENDPOINT, stub.url)
        return send(self, request, **kwargs)

    monkeypatch.setattr(requests.Session, "send", redirect)
    return stub


def test_a_token_goes_to_the_service(rewired):
    rewired.answers = [version()]
    manager = SecretManager(lambda: user_login.Credentials("the-token"))
    assert manager.read("DATAOPS_X", REFERENCE) == VALUE
    ((path, headers),) = rewired.requests
    assert (path, headers["authorization"]) == (PATH, "Bearer the-token")


class Refreshing(user_login.Credentials):
    """Credentials whose token is refreshed with an effect."""

    def __init__(self, effect):
        super().__init__(None)
        self.effects = effect

    def refresh(self, request):
        effect = self.effects.pop(0) if len(self.effects) > 1 else self.effects[0]
        if isinstance(effect, Exception):
            raise effect
        self.token = effect


def test_a_token_that_is_still_rejected(rewired):
    rewired.answers = [error(401, "UNAUTHENTICATED", "Invalid authentication credentials.")]
    with pytest.raises(ConfigError) as found:
        SecretManager(lambda: Refreshing(["a-token"])).read("DATAOPS_X", REFERENCE)
    assert str(found.value) == (
        f"{WHERE}Google rejects the credentials (Invalid authentication credentials.). They may have expired: run"
        " `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
    )


def test_a_token_that_is_not_issued(rewired):
    manager = SecretManager(lambda: Refreshing([auth.RefreshError("invalid_grant: expired", {})]))
    with pytest.raises(ConfigError) as found:
        manager.read("DATAOPS_X", REFERENCE)
    assert str(found.value) == (
        f"{WHERE}the Google credentials can't be used: invalid_grant: expired. They may have expired: run"
        " `gcloud auth application-default login`, or check DATAOPS_CREDENTIALS."
    )


def test_a_token_service_that_comes_back(rewired, pauses):
    rewired.answers = [version()]
    manager = SecretManager(lambda: Refreshing([auth.TransportError("reset"), "a-token"]))
    assert manager.read("DATAOPS_X", REFERENCE) == VALUE
    assert len(pauses) == 1


def test_no_credentials(monkeypatch):
    def none(**_):
        raise auth.DefaultCredentialsError("none were found")

    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(ConfigError) as found:
        Variables({"DATAOPS_X": REFERENCE})["DATAOPS_X"]
    assert str(found.value).startswith(f"{WHERE}there are no Google credentials that can be used. On Kubernetes, ")
    assert str(found.value).endswith("set DATAOPS_CREDENTIALS. (none were found)")


def test_credentials_whose_service_is_away():
    def away():
        raise Unavailable("Google's token service doesn't answer")

    with pytest.raises(Unavailable) as found:
        SecretManager(away).read("DATAOPS_X", REFERENCE)
    assert str(found.value) == f"{WHERE}Google's token service doesn't answer"


def test_credentials_that_are_a_secret_themselves(rewired):
    rewired.answers = [version(b"the-token"), version()]
    outer = SecretManager(lambda: user_login.Credentials("first"))
    manager = SecretManager(lambda: user_login.Credentials(outer.read("DATAOPS_CREDENTIALS", "sm://project/key")))
    assert manager.read("DATAOPS_X", REFERENCE) == VALUE
    assert [headers["authorization"] for _, headers in rewired.requests] == ["Bearer first", "Bearer the-token"]


def test_nothing_of_it_is_logged(read):
    stream = io.StringIO()
    receiver = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(receiver)
    root.setLevel(logging.DEBUG)
    try:
        read(BUSY, version())
    finally:
        root.removeHandler(receiver)
        root.setLevel(level)
    assert "/api-key/" in stream.getvalue()  # requests says which URL
    assert VALUE not in stream.getvalue()
    assert base64.b64encode(VALUE.encode()).decode() not in stream.getvalue()
