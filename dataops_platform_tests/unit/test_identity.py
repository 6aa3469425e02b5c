"""The identity on Google Cloud: which credentials are chosen, what is said of those that can't be used."""

from __future__ import annotations

import base64
import copy
import json
import logging
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import google.auth
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import aws, compute_engine, identity_pool, impersonated_credentials, pluggable
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import credentials as user_login
from google.oauth2 import service_account

from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.identity import Description, Identity
from dataops_platform.secrets import SCOPE, SecretManager, redact
from dataops_platform_tests.planted import nothing_known

EMAIL = "loader@project.iam.gserviceaccount.com"
TARGET = "platform@project.iam.gserviceaccount.com"
EMULATORS = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:4443", "BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:9450"}
ADC = "Application Default Credentials"


@pytest.fixture(scope="module")
def pem():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def key(pem):
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1234",
        "private_key": pem,
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def federated(**changes):
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/ci",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": "/run/token"},
        "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
        f"{EMAIL}:generateAccessToken",
    } | changes


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """No network, nobody's own credentials, no secrets of other tests."""

    def refuse(*_, **__):
        raise AssertionError("a call over the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", *EMULATORS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)  # the variable is read at import
    with nothing_known():
        yield


@pytest.fixture
def use_default(monkeypatch):
    def use(credentials):
        monkeypatch.setattr(google.auth, "default", lambda scopes: (credentials, None))

    return use


@dataclass
class Answer:
    status: int
    document: dict | str
    headers: dict | None = None

    @property
    def data(self):
        return (self.document if isinstance(self.document, str) else json.dumps(self.document)).encode()


class Transport:
    """Stands in for Google's token services."""

    def __init__(self, **by_word):
        self.by_word = by_word
        self.calls = []

    def __call__(self, url, method="GET", body=None, headers=None, **_):
        self.calls.append((url, body, headers))
        answer = next(answer for word, answer in self.by_word.items() if word in url)
        if isinstance(answer, Exception):
            raise answer
        return answer


GRANTED = Answer(200, {"access_token": "token-of-the-key", "expires_in": 3600})


def impersonation_granted():
    expiry = datetime.now(UTC) + timedelta(hours=1)
    return Answer(200, {"accessToken": "token-of-target", "expireTime": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")})


# -- DATAOPS_CREDENTIALS -----------------------------------------------------------------------------------------------


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "pack",
    [
        str,
        lambda text: f"\n  {text}\n",
        in_base64,
        lambda text: in_base64(text).rstrip("="),
        lambda text: base64.encodebytes(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    ],
    ids=["JSON", "JSON with space", "base64", "unpadded", "wrapped", "for URLs"],
)
def test_a_key_in_the_environment(key, pack):
    identity = Identity.load({"DATAOPS_CREDENTIALS": pack(json.dumps(key))})
    credentials = identity.credentials()
    assert isinstance(credentials, service_account.Credentials)
    assert (credentials.service_account_email, credentials.scopes) == (EMAIL, [SCOPE])
    assert identity.credentials() is credentials
    assert str(identity.describe()) == f"service account key {EMAIL} (DATAOPS_CREDENTIALS)"


@pytest.mark.parametrize("pack", [str, in_base64])
@pytest.mark.parametrize("form", ["{file}", "file://{file}", "key.json", "./key.json", "~/key.json"])
def test_a_key_in_a_file(tmp_path, monkeypatch, key, form, pack):
    file = tmp_path / "key.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    identity = Identity.load({"DATAOPS_CREDENTIALS": form.format(file=file)})
    file.write_text(pack(json.dumps(key, indent=2)) + "\n")  # it is read when it is needed
    assert identity.credentials().service_account_email == EMAIL
    assert str(identity.describe()) == f"service account key {EMAIL} (DATAOPS_CREDENTIALS (file://{file}))"


def test_a_key_in_secret_manager(monkeypatch, key):
    asked = []

    def read(self, setting, reference):
        asked.append((setting, reference))
        return json.dumps(key)

    monkeypatch.setattr(SecretManager, "read", read)
    identity = Identity.load({"DATAOPS_CREDENTIALS": "sm://project/key#2"})
    assert asked == []
    assert identity.credentials().service_account_email == EMAIL
    assert identity.describe().source == "DATAOPS_CREDENTIALS (sm://project/key#2)"
    assert asked == [("DATAOPS_CREDENTIALS", "sm://project/key#2")]


@pytest.mark.parametrize("pack", [str, in_base64])
def test_key_material_is_never_shown(key, pem, pack):
    text = pack(json.dumps(key))
    identity = Identity.load({"DATAOPS_CREDENTIALS": text})
    identity.credentials()
    shown = " ".join([repr(identity), str(identity), str(identity.describe()), repr(identity.describe())])
    assert "PRIVATE KEY" not in shown
    line = pem.splitlines()[3]
    assert line not in shown
    for leak in (text, json.dumps(key), pem, repr(pem), line, json.dumps({"a": pem})):
        assert line not in redact(f"failed with {leak}")
    assert redact(f"<{text}>") == "<***>"


def test_a_path_is_no_secret(tmp_path):
    Identity.load({"DATAOPS_CREDENTIALS": str(tmp_path / "key.json")})
    assert redact(str(tmp_path)) == str(tmp_path)


def without(name):
    return lambda key: {field: value for field, value in key.items() if field != name}


NO_CREDENTIALS = (
    "DATAOPS_CREDENTIALS holds no credentials: write the JSON of a service account key or of an external account, the"
    " same in base64, the absolute path of its file, or sm://project/name"
)


@pytest.mark.parametrize(
    "text", ["no json", "{no json", "[1, 2]", "secrets/key", in_base64("[1]"), "é" * 8, "bnVsbA=="]
)
def test_what_is_neither_json_nor_base64(text):
    with pytest.raises(ConfigError) as error:
        Identity.load({"DATAOPS_CREDENTIALS": text}).credentials()
    assert str(error.value) == NO_CREDENTIALS


def test_a_file_without_credentials(tmp_path):
    (tmp_path / "key.json").write_text("secret but no JSON")
    with pytest.raises(ConfigError) as error:
        Identity.load({"DATAOPS_CREDENTIALS": f"{tmp_path}/key.json"}).credentials()
    assert str(error.value) == NO_CREDENTIALS.replace("IALS holds", f"IALS (file://{tmp_path}/key.json) holds")
    (tmp_path / "key.json").unlink()
    with pytest.raises(ConfigError, match=r"DATAOPS_CREDENTIALS is 'file://.*/key.json': there is no such file"):
        Identity.load({"DATAOPS_CREDENTIALS": f"{tmp_path}/key.json"}).credentials()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (
            {"type": "authorized_user", "refresh_token": "x"},
            "credentials of type 'authorized_user' can't be used here, only service_account and external_account. It"
            " is a person's login: leave DATAOPS_CREDENTIALS empty, and the login is found where"
            " `gcloud auth application-default login` put it.",
        ),
        (
            {"type": "impersonated_service_account"},
            "credentials of type 'impersonated_service_account' can't be used here, only service_account and"
            " external_account. Name the service account in DATAOPS_IMPERSONATE instead.",
        ),
        (
            {"installed": {"client_secret": "x"}},
            "credentials of type None can't be used here, only service_account and external_account. Download the key"
            " of a service account.",
        ),
        (
            {"type": ["service_account"]},
            "credentials of type ['service_account'] can't be used here, only service_account and external_account."
            " Download the key of a service account.",
        ),
    ],
)
def test_credentials_of_another_type(document, says):
    with pytest.raises(ConfigError) as error:
        Identity.load({"DATAOPS_CREDENTIALS": json.dumps(document)}).credentials()
    assert str(error.value) == f"DATAOPS_CREDENTIALS: {says}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("client_email"), "missing fields client_email"),
        (without("token_uri"), "missing fields token_uri"),
        (without("private_key"), "The private_key field was not found in the service account info"),
        (lambda key: key | {"private_key": "no key at all"}, ""),
        (lambda key: key | {"private_key": key["private_key"][:400]}, ""),
        (lambda key: key | {"private_key": None}, ""),
        (lambda key: key | {"private_key": 5}, ""),
    ],
)
def test_a_malformed_key(key, change, reason):
    with pytest.raises(ConfigError) as error:
        Identity.load({"DATAOPS_CREDENTIALS": json.dumps(change(key))}).credentials()
    text = str(error.value)
    assert text.startswith("DATAOPS_CREDENTIALS: the JSON of type service_account can't be used: ")
    assert text.endswith(". Download it again; it must be complete.")
    assert reason in text
    assert key["private_key"].splitlines()[2] not in text
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, identity_pool.Credentials),
        ({"credential_source": {"executable": {"command": "/bin/token"}}}, pluggable.Credentials),
        (
            {
                "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
                "credential_source": {
                    "environment_id": "aws1",
                    "regional_cred_verification_url": "https://sts.{region}.amazonaws.com",
                },
            },
            aws.Credentials,
        ),
    ],
)
def test_an_external_account(changes, made):
    identity = Identity.load({"DATAOPS_CREDENTIALS": json.dumps(federated(**changes))})
    credentials = identity.credentials()
    assert isinstance(credentials, made)
    assert credentials.scopes == [SCOPE]
    assert str(identity.describe()) == f"federated workload {EMAIL} (DATAOPS_CREDENTIALS)"


@pytest.mark.parametrize(
    "changes",
    [
        {"credential_source": {}},
        {"credential_source": None},
        {"credential_source": 5},
        {"audience": None},
        {"token_url": 0},
    ],
)
def test_a_malformed_external_account(changes):
    document = {name: value for name, value in federated(**changes).items() if value is not None}
    with pytest.raises(ConfigError, match="DATAOPS_CREDENTIALS: the JSON of type external_account can't be used: "):
        Identity.load({"DATAOPS_CREDENTIALS": json.dumps(document)}).credentials()


def test_secrets_of_an_external_account_are_hidden():
    Identity.load({"DATAOPS_CREDENTIALS": json.dumps(federated(client_id="c", client_secret="cl1ent"))}).credentials()
    assert redact("client_secret=cl1ent") == "client_secret=***"


@pytest.mark.parametrize("pack", [json.dumps, lambda key: in_base64(json.dumps(key))], ids=["json", "base64"])
def test_a_key_in_the_environment_is_hidden_before_it_is_used(key, pack):
    """Anyone's code may read it there."""
    Identity.load({"DATAOPS_CREDENTIALS": pack(key)})
    for shown in (pack(key), json.dumps(key), key["private_key"], key["private_key"].splitlines()[1]):
        assert redact(f"<{shown}>") == "<***>"
    assert redact(EMAIL) == EMAIL


# -- Application Default Credentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            lambda: user_login.Credentials("t", refresh_token="r", client_id="c", client_secret="s", token_uri="u",
                                           account="me@example.com"),
            "person's login me@example.com",
        ),
        (lambda: user_login.Credentials("t"), "person's login"),
        (lambda: compute_engine.Credentials(), "attached service account"),
        (lambda: compute_engine.Credentials(service_account_email=EMAIL), f"attached service account {EMAIL}"),
        (lambda: identity_pool.Credentials.from_info(federated()), f"federated workload {EMAIL}"),
        (
            lambda: impersonated_credentials.Credentials(user_login.Credentials("t"), EMAIL, [SCOPE]),
            f"impersonated service account {EMAIL}",
        ),
        (lambda: google.auth.credentials.CredentialsWithQuotaProject, "ABCMeta"),
    ],
)  # fmt: skip
def test_default_credentials(use_default, made, words):
    credentials = made()
    use_default(credentials)
    identity = Identity.load({})
    assert identity.credentials() is credentials
    assert not identity.explicit
    assert str(identity.describe()) == f"{words} ({ADC})"


def test_default_credentials_in_a_file(tmp_path, monkeypatch, key):
    (tmp_path / "adc.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    identity = Identity.load({})
    assert identity.credentials().scopes == [SCOPE]
    assert str(identity.describe()) == f"service account key {EMAIL} ({ADC})"


def test_no_credentials_at_all_and_then_some(use_default):
    identity = Identity.load({})
    for use in (identity.credentials, identity.describe, identity.verify, identity.storage_client,
                partial(identity.bigquery_client, "p")):  # fmt: skip
        with pytest.raises(ConfigError, match="there are no Google credentials that can be used"):
            use()
    use_default(compute_engine.Credentials())  # a failure isn't kept
    assert identity.credentials()


# -- Impersonation -----------------------------------------------------------------------------------------------------


def test_impersonation_by_default_credentials(use_default):
    use_default(user_login.Credentials("t", account="me@example.com"))
    identity = Identity.load({"DATAOPS_IMPERSONATE": TARGET})
    credentials = identity.credentials()
    assert isinstance(credentials, impersonated_credentials.Credentials)
    assert identity.credentials() is credentials
    assert str(identity.describe()) == f"person's login me@example.com ({ADC}), impersonating {TARGET}"
    assert (identity.describe().email, identity.describe().acts_as) == ("me@example.com", TARGET)


def test_a_chain_of_impersonation(key):
    identity = Identity.load(
        {"DATAOPS_CREDENTIALS": json.dumps(key), "DATAOPS_IMPERSONATE": f"a@p.iam.gserviceaccount.com, {TARGET}"}
    )
    transport = Transport(oauth2=GRANTED, iamcredentials=impersonation_granted())
    identity.verify(transport)
    assert identity.credentials().token == "token-of-target"
    (_, (url, body, headers)) = transport.calls
    assert f"/serviceAccounts/{TARGET}:generateAccessToken" in url
    assert json.loads(body) == {
        "delegates": ["projects/-/serviceAccounts/a@p.iam.gserviceaccount.com"],
        "scope": [SCOPE],
        "lifetime": "3600s",
    }
    assert headers["authorization"] == "Bearer token-of-the-key"
    assert identity.describe().impersonates == ("a@p.iam.gserviceaccount.com", TARGET)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("me@example.com", "me@example.com"),
        ("platform", "platform"),
        (f"{TARGET},", ""),
        (f"{TARGET} {EMAIL}", f"{TARGET} {EMAIL}"),
        (f"{TARGET},group@example.com", "group@example.com"),
    ],
)
def test_who_can_not_be_impersonated(text, wrong):
    with pytest.raises(ConfigError) as error:
        Identity.load({"DATAOPS_IMPERSONATE": text})
    assert str(error.value) == (
        f"DATAOPS_IMPERSONATE is {text!r}: {wrong!r} is no service account; write its e-mail, like"
        " platform@project.iam.gserviceaccount.com"
    )


@pytest.mark.parametrize(
    "email", ["1-compute@developer.gserviceaccount.com", "p@appspot.gserviceaccount.com",
              "x@p.example.com.iam.gserviceaccount.com"]
)  # fmt: skip
def test_all_kinds_of_service_accounts(email):
    assert Identity.load({"DATAOPS_IMPERSONATE": email}).impersonate == (email,)


# -- Tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_is_issued(key):
    identity = Identity.load({"DATAOPS_CREDENTIALS": json.dumps(key)})
    identity.verify(Transport(oauth2=GRANTED))
    assert identity.credentials().token == "token-of-the-key"


def test_a_key_that_was_deleted(key):
    refused = Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    with pytest.raises(ConfigError) as error:
        Identity.load({"DATAOPS_CREDENTIALS": json.dumps(key)}).verify(Transport(oauth2=refused))
    assert str(error.value) == (
        "DATAOPS_CREDENTIALS: Google doesn't accept these credentials: invalid_grant: Invalid JWT Signature. Is the key"
        " deleted or disabled, or this machine's clock wrong? Make a new key, or use Workload Identity."
    )


def test_a_login_that_expired(use_default):
    use_default(
        user_login.Credentials(
            None, refresh_token="r", client_id="c", client_secret="s", token_uri="https://oauth2.googleapis.com/token"
        )
    )
    refused = Answer(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    with pytest.raises(ConfigError) as error:
        Identity.load({}).verify(Transport(oauth2=refused))
    assert str(error.value) == (
        "Google doesn't accept the Application Default Credentials: invalid_grant: Token has been expired or revoked."
        " They may have expired: run `gcloud auth application-default login`; on Kubernetes, check Workload Identity;"
        " or set DATAOPS_CREDENTIALS."
    )


def test_no_right_to_impersonate(key):
    identity = Identity.load(
        {"DATAOPS_CREDENTIALS": json.dumps(key), "DATAOPS_IMPERSONATE": f"a@p.iam.gserviceaccount.com,{TARGET}"}
    )
    refused = Answer(403, {"error": {"code": 403, "message": "Permission 'iam.serviceAccounts.getAccessToken' denied"}})
    with pytest.raises(ConfigError) as error:
        identity.verify(Transport(oauth2=GRANTED, iamcredentials=refused))
    text = str(error.value)
    assert text.startswith(
        f"DATAOPS_IMPERSONATE: a@p.iam.gserviceaccount.com → {TARGET} can't be impersonated. Grant"
        " roles/iam.serviceAccountTokenCreator on each account to the one before it, the first to the platform's own"
        " identity, and turn on iamcredentials.googleapis.com. ("
    )
    assert "Permission 'iam.serviceAccounts.getAccessToken' denied" in text


def test_a_bad_key_behind_an_impersonation(key):
    identity = Identity.load({"DATAOPS_CREDENTIALS": json.dumps(key), "DATAOPS_IMPERSONATE": TARGET})
    refused = Answer(400, {"error": "invalid_grant", "error_description": "Account not found"})
    with pytest.raises(ConfigError, match=r"^DATAOPS_CREDENTIALS: Google doesn't accept these credentials: invalid"):
        identity.verify(Transport(oauth2=refused))


def test_a_token_service_that_is_away(key):
    away = Transport(oauth2=auth.TransportError("connection refused"))
    with pytest.raises(Unavailable, match=r"^Google's token service doesn't answer: connection refused$"):
        Identity.load({"DATAOPS_CREDENTIALS": json.dumps(key)}).verify(away)


def test_an_error_without_words():
    assert "can't be used" not in str(Identity().explain(auth.RefreshError()))
    assert "Google doesn't accept the Application Default Credentials: RefreshError." in str(
        Identity().explain(auth.RefreshError())
    )


# -- Emulators and clients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["STORAGE_EMULATOR_HOST"], ["BIGQUERY_EMULATOR_HOST"], list(EMULATORS)])
def test_an_emulator_is_asked_anonymously(names):
    identity = Identity.load({name: EMULATORS[name] for name in names})
    assert isinstance(identity.credentials(), AnonymousCredentials)
    assert identity.describe() == Description("anonymous", ", ".join(names))
    assert str(identity.describe()) == f"anonymous ({', '.join(names)})"
    identity.verify()
    with pytest.raises(ConfigError, match="there are no Google credentials"):
        identity.google_credentials()


def test_explicit_settings_count_for_emulators_too(key, use_default):
    use_default(user_login.Credentials("t"))
    by_key = Identity.load(EMULATORS | {"DATAOPS_CREDENTIALS": json.dumps(key)})
    assert isinstance(by_key.credentials(), service_account.Credentials)
    impersonating = Identity.load(EMULATORS | {"DATAOPS_IMPERSONATE": TARGET})
    assert isinstance(impersonating.credentials(), impersonated_credentials.Credentials)


def test_one_emulator_and_one_real_service(use_default):
    default = user_login.Credentials("t")
    use_default(default)
    identity = Identity.load({"STORAGE_EMULATOR_HOST": EMULATORS["STORAGE_EMULATOR_HOST"]})
    assert isinstance(identity.storage_client()._credentials, AnonymousCredentials)
    assert identity.bigquery_client("p")._credentials is default


@pytest.mark.parametrize("name", EMULATORS)
@pytest.mark.parametrize("text", ["127.0.0.1:4443", "ftp://x", "http://"])
def test_an_emulator_that_is_no_url(name, text):
    with pytest.raises(ConfigError) as error:
        Identity.load({name: text})
    assert str(error.value) == f"{name} is {text!r}: write a URL, like http://127.0.0.1:4443"


@pytest.mark.parametrize("emulators", [{}, EMULATORS])
def test_clients(key, emulators):
    identity = Identity.load({"DATAOPS_CREDENTIALS": json.dumps(key)} | emulators)
    lake, warehouse = identity.storage_client(), identity.bigquery_client("project", "EU")
    assert lake.project is None
    assert identity.storage_client("project").project == "project"
    assert (warehouse.project, warehouse.location) == ("project", "EU")
    assert identity.bigquery_client("project").location is None
    for client in (lake, warehouse):
        assert client._credentials.service_account_email == EMAIL
        assert client._connection._client_info.user_agent.startswith("dataops-platform/")
        assert "dataops-platform/" in client._connection.user_agent
    urls = [lake._connection.API_BASE_URL, warehouse._connection.API_BASE_URL]
    assert urls == list(emulators.values() or ["https://storage.googleapis.com", "https://bigquery.googleapis.com"])


def test_a_checkout_that_is_not_installed(monkeypatch):
    from dataops_platform import identity

    def missing(name):
        raise identity.PackageNotFoundError(name)

    identity._user_agent.cache_clear()
    monkeypatch.setattr(identity, "version", missing)
    try:
        assert identity._user_agent() == "dataops-platform/0"
    finally:
        identity._user_agent.cache_clear()


# -- As a value --------------------------------------------------------------------------------------------------------


def test_the_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("DATAOPS_IMPERSONATE", TARGET)
    monkeypatch.setenv("DATAOPS_CREDENTIALS", "")
    assert Identity.load() == Identity(impersonate=(TARGET,))


def test_equal_settings_are_equal_identities(key):
    given = {"DATAOPS_CREDENTIALS": json.dumps(key)}
    first = Identity.load(given)
    first.credentials()
    assert first == Identity.load(given)
    assert hash(first) == hash(Identity.load(given))
    assert first != Identity.load({})
    assert copy.deepcopy(Identity.load(given)) == first
    assert Identity.load(dict.fromkeys(["DATAOPS_CREDENTIALS", "DATAOPS_IMPERSONATE", *EMULATORS], "")) == Identity()


def test_nothing_is_logged_of_a_key(key, caplog):
    caplog.set_level(logging.DEBUG)
    identity = Identity.load({"DATAOPS_CREDENTIALS": json.dumps(key)})
    identity.verify(Transport(oauth2=GRANTED))
    identity.storage_client()
    assert "PRIVATE" not in caplog.text
