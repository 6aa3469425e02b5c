"""`dataops doctor`: what it finds of servers that are there, and of answers that no server here gives."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from google.cloud import bigquery

from dataops_platform.cli import doctor as module
from dataops_platform.cli.doctor import LAKE_PERMISSIONS, Doctor
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.settings import Settings
from dataops_platform_tests.conftest import REPO

CLOUD = {
    "DATAOPS_PROJECT": str(REPO),
    "DATAOPS_ENV": "staging",
    "DATAOPS_LAKE": "gs://lake-bucket/raw",
    "DATAOPS_PRODUCTION_LAKE": "gs://production-bucket",
    "DATAOPS_WAREHOUSE": "bigquery://acme-data/EU",
}


@contextmanager
def storage(bucket: dict, permissions: list[str], moment: datetime | None = None) -> Iterator[str]:
    """Cloud Storage with one bucket; the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"permissions": permissions} if "/iam/testPermissions" in self.path else bucket
            if self.path.partition("?")[0].endswith("/o"):  # its objects
                body = {}
            content = json.dumps(body).encode()
            self.send_response_only(200)
            self.send_header("Date", format_datetime(moment or datetime.now(UTC), usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def look(check: str, **env: str) -> list[str]:
    doctor = Doctor(Settings.load(CLOUD | env))
    return list(dict(doctor.checks())[check]())


def bucket_in(place: str) -> dict:
    return {"name": "lake-bucket", "location": place}


def test_a_bucket_as_it_should_be():
    with storage(bucket_in("EU"), list(LAKE_PERMISSIONS)) as url:
        assert look("lake", STORAGE_EMULATOR_HOST=url) == ["gs://lake-bucket in EU"]
    with storage(bucket_in("EUROPE-WEST3"), list(LAKE_PERMISSIONS)) as url:
        assert look("lake", STORAGE_EMULATOR_HOST=url) == ["gs://lake-bucket in EUROPE-WEST3"]


def test_a_permission_that_is_missing():
    with (
        storage(bucket_in("EU"), ["storage.buckets.get", "storage.objects.get"]) as url,
        pytest.raises(ConfigError) as error,
    ):
        look("lake", STORAGE_EMULATOR_HOST=url)
    assert str(error.value).startswith(
        "DATAOPS_LAKE: on bucket lake-bucket these permissions are missing: storage.objects.create,"
        " storage.objects.list. Grant roles/storage.objectCreator"
    )


def test_a_bucket_elsewhere():
    with (
        storage(bucket_in("ASIA"), list(LAKE_PERMISSIONS)) as url,
        pytest.raises(ConfigError, match="bucket lake-bucket is in ASIA, BigQuery's datasets in EU"),
    ):
        look("lake", STORAGE_EMULATOR_HOST=url)


LANDING = """
kind: DataContract
apiVersion: v3.1.0
id: orders
version: 1.0.0
status: active
servers:
  - server: inbox
    type: custom
    location: gs://lake-bucket/inbox
    customProperties:
      - {property: objectPattern, vendor: dataops, value: 'orders/{partition}.csv'}
      - {property: afterLanding, vendor: dataops, value: AFTER}
schema:
  - name: orders
    customProperties:
      - {property: partitioning, vendor: dataops, value: {field: day, granularity: day, start: 2024-05-01}}
    properties:
      - {name: day, logicalType: date, required: true}
"""


@pytest.mark.parametrize(
    ("after", "granted", "missing"),
    [
        ("keep", ["storage.objects.get", "storage.objects.list"], None),
        ("keep", ["storage.objects.get"], "storage.objects.list. Grant roles/storage.objectViewer"),
        ("remove", ["storage.objects.get", "storage.objects.list"],
         "storage.objects.delete. Grant roles/storage.objectUser"),
    ],
)  # fmt: skip
def test_a_bucket_that_others_write_to(tmp_path, after, granted, missing):
    contract = tmp_path / "orders.odcs.yaml"
    contract.write_text(LANDING.replace("AFTER", after))
    with storage(bucket_in("EU"), granted) as url:
        doctor = Doctor(Settings.load(CLOUD | {"STORAGE_EMULATOR_HOST": url, "DATAOPS_CONTRACTS": str(tmp_path)}))
        assert list(doctor.contracts())
        if missing is None:
            assert list(doctor.landing()) == ["gs://lake-bucket can be read"]
            return
        with pytest.raises(ConfigError) as error:
            list(doctor.landing())
    assert str(error.value).startswith(f"{contract}:12: on bucket lake-bucket these permissions are missing: {missing}")


@pytest.mark.parametrize(("offset", "word"), [(300, "behind"), (-300, "ahead of")])
def test_a_clock_that_is_wrong(offset, word):
    with (
        storage({}, [], datetime.now(UTC) + timedelta(seconds=offset)) as url,
        pytest.raises(ConfigError, match=f"this machine's clock is (299|300|301) s {word} Google's"),
    ):
        look("clock", STORAGE_EMULATOR_HOST=url)


def test_a_clock_that_is_right():
    with storage({}, []) as url:
        (line,) = look("clock", STORAGE_EMULATOR_HOST=url)
    assert line in ("0 s off", "1 s off")


def test_packages_of_other_versions(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.1" if name == "duckdb" else real(name))
    with pytest.raises(ConfigError, match=r"duckdb is 0\.1, not .*2.*Install again: `pip install"):
        look("versions", STORAGE_EMULATOR_HOST="http://127.0.0.1:1")


def test_no_answer():
    with pytest.raises(module.DataOpsError, match=r"can't ask the time of http://127\.0\.0\.1:1"):
        look("clock", STORAGE_EMULATOR_HOST="http://127.0.0.1:1")


@pytest.mark.cloud
def test_datasets(bq_client, bq_project, cloud_env):
    env = cloud_env | {"DATAOPS_WAREHOUSE": f"bigquery://{bq_project}/US"}
    lines = look("warehouse", **env)
    assert lines[0] == f"queries run in project {bq_project}"
    assert [line.partition(" doesn't exist yet")[0] for line in lines[1:]] == [
        f"dataset {bq_project}.{name}" for name in ("dataops", "staging", "quarantine", "production")
    ]
    for name in ("dataops", "staging", "quarantine"):
        bq_client.create_dataset(name)
    made = bigquery.Dataset(f"{bq_project}.production")
    made.location = "EU"
    bq_client.create_dataset(made)
    with pytest.raises(ConfigError, match=rf"dataset {bq_project}\.production is in EU, DATAOPS_WAREHOUSE says US"):
        look("warehouse", **env)
    assert not list(bq_client.list_tables("staging"))  # nothing was made


@pytest.mark.cloud
def test_a_bucket_that_is_not_there(cloud_env, bucket):
    with pytest.raises(ConfigError, match=r"DATAOPS_LAKE: there is no bucket lake-bucket\. Create it"):
        look("lake", **cloud_env)
    env = cloud_env | {"DATAOPS_LAKE": f"gs://{bucket}", "DATAOPS_WAREHOUSE": "bigquery://acme-data"}
    assert look("lake", **env) == [f"gs://{bucket} in US-CENTRAL1"]


def test_alerts_are_looked_at_on_google_cloud_too():
    url = "https://hooks.example.com/services/T0/B0/abcdefghijklmnop"
    found = look("alerts", DATAOPS_ALERTS="slack", DATAOPS_SLACK_WEBHOOK=url)
    assert found == ["slack: posts to hooks.example.com", "no links: DATAOPS_UI_URL isn't set"]
