"""References to Secret Manager, and the credentials for it. Its answers are in the integration tests."""

from __future__ import annotations

import google.auth
import pytest
from google.auth import exceptions as auth

from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.secrets import Secret, application_default
from dataops_platform.secrets.manager import SecretName


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
        application_default()
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
        application_default()
    assert str(error.value).startswith(f"GOOGLE_APPLICATION_CREDENTIALS is {str(file)!r}, which can't be used: ")
    assert str(error.value).endswith("Correct it, or set DATAOPS_CREDENTIALS.")


def test_default_credentials_that_take_a_service_which_is_away(monkeypatch):
    def away(**_):
        raise auth.TransportError("timed out")

    monkeypatch.setattr(google.auth, "default", away)
    with pytest.raises(Unavailable, match="Google's token service doesn't answer: timed out"):
        application_default()
