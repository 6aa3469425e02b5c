"""Dagster's own resources of Google Cloud in users' assets: the platform's places, and its identity."""

from __future__ import annotations

import json
from types import ModuleType

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dagster_gcp import BigQueryResource, GCSResource

from dataops_platform.orchestration.build import build_definitions
from dataops_platform.settings import Settings
from dataops_platform_tests.planted import nothing_known
from dataops_platform_tests.refusing import refusing

pytestmark = pytest.mark.cloud
EMAIL = "loader@acme.iam.gserviceaccount.com"


@dg.asset
def seen(gcs: GCSResource, bigquery: BigQueryResource) -> dg.MaterializeResult:
    """What an asset reaches by the two resources, and as whom."""
    storage = gcs.get_client()
    with bigquery.get_client() as client:
        job = client.query("SELECT 1 AS one")
        found = {
            "buckets": sorted(bucket.name for bucket in storage.list_buckets()),
            "one": next(iter(job.result()))["one"],
            "ran in": f"{job.project}/{job.location}",
            "identities": [getattr(c._credentials, "service_account_email", "anonymous") for c in (storage, client)],
        }
    return dg.MaterializeResult(metadata=found)


@pytest.fixture
def settings(shop, tmp_path, cloud_env, bucket, bq_project):
    def load(**more: str) -> Settings:
        return Settings.load(
            cloud_env
            | {
                "DATAOPS_PROJECT": str(shop),
                "DATAOPS_HOME": str(tmp_path / "home"),
                "DATAOPS_ENV": "staging",
                "DATAOPS_LAKE": f"gs://{bucket}/lake",
                "DATAOPS_PRODUCTION_LAKE": f"gs://{bucket}/production",
                "DATAOPS_WAREHOUSE": f"bigquery://{bq_project}/US",
            }
            | more
        )

    return load


def looked(settings: Settings) -> dict[str, object]:
    """What the asset saw, in a job of the project's definitions."""
    module = ModuleType("own")
    module.seen = seen  # type: ignore[attr-defined]
    definitions = build_definitions(settings, module)
    job = dg.define_asset_job("look", selection=["seen"])
    found = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("look").execute_in_process()
    (event,) = found.asset_materializations_for_node("seen")
    return {name: entry.value for name, entry in event.metadata.items()}


def test_an_asset_reaches_the_platforms_services(settings, bucket, bq_project):
    found = looked(settings())
    assert bucket in found["buckets"]
    assert (found["one"], found["ran in"]) == (1, f"{bq_project}/US")
    assert found["identities"] == ["anonymous"] * 2


def test_an_asset_is_the_platform(settings, bucket):
    """With its credentials: tokens of them go with every call."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with nothing_known(), refusing(404) as url:
        key = {
            "type": "service_account",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "token_uri": f"{url}/token",
        }
        found = looked(settings(DATAOPS_CREDENTIALS=json.dumps(key)))
    assert bucket in found["buckets"]
    assert found["identities"] == [EMAIL] * 2


def test_embedded_there_are_none(shop, tmp_path):
    """An asset that asks for one says so when definitions are made, not in the middle of a run."""
    settings = Settings.load({"DATAOPS_PROJECT": str(shop), "DATAOPS_HOME": str(tmp_path / "home")})
    module = ModuleType("own")
    module.seen = seen  # type: ignore[attr-defined]
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"resource with key '(gcs|bigquery)'"):
        dg.Definitions.validate_loadable(build_definitions(settings, module))
