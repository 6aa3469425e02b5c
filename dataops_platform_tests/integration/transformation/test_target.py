"""Where dbt builds and who it is there; what a user reads when that goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from dataops_platform.contracts import load_contracts, sources_yaml
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.identity import Identity
from dataops_platform.orchestration.resources import dbt_project
from dataops_platform.settings import Settings
from dataops_platform.transformation.build import _STAGING_TABLE
from dataops_platform.transformation.dbt import DbtProject
from dataops_platform.transformation.target import DbtTarget
from dataops_platform_tests.emulators.fixtures import unique
from dataops_platform_tests.integration.transformation.demo import REPO, embedded

CLOUD = {
    "DATAOPS_ENV": "production",
    "DATAOPS_PROJECT": str(REPO),
    "DATAOPS_WAREHOUSE": "bigquery://project-1/EU",
    "DATAOPS_LAKE": "gs://bucket/lake",
    "DATAOPS_PRODUCTION_LAKE": "gs://bucket/production",
}
TOKEN = "ya29.a-token-of-the-platform"


@pytest.fixture(scope="module")
def contracts():
    return load_contracts(REPO / "contracts")


@pytest.fixture(scope="module")
def two_models(tmp_path_factory) -> Path:
    """The demo's dbt project with two of its models, for what has little to do with models: dbt parses it sooner."""
    folder = tmp_path_factory.mktemp("project") / "dbt_project"
    shutil.copytree(REPO / "dbt_project", folder, ignore=shutil.ignore_patterns("models", "tests", "target", "logs"))
    for name in ("staging/stg_airlines.sql", "marts/core/dim_carriers.sql"):
        (folder / "models" / name).parent.mkdir(parents=True)
        shutil.copyfile(REPO / "dbt_project/models" / name, folder / "models" / name)
    settings = folder / "dbt_project.yml"
    marts = "\nmodels:\n  dataops:\n    marts: {+materialized: table}\n"
    settings.write_text(settings.read_text().split("\nmodels:")[0] + marts)
    return folder


@pytest.fixture
def project(two_models, contracts, tmp_path) -> Callable[[DbtTarget], DbtProject]:
    """Makes it a project with a home of its own."""
    return lambda target: DbtProject(two_models, tmp_path / "dbt", target, contracts)


# -- targets ----------------------------------------------------------------------------------------------------------


def test_the_target_follows_from_the_settings(tmp_path, contracts):
    local = dbt_project(embedded(tmp_path, DATAOPS_WAREHOUSE="duckdb:///some%20where/w.duckdb"), contracts).target
    assert (local.name, local.dialect, local.client) == ("local", "duckdb", None)
    assert local.variables == {"DATAOPS_WAREHOUSE_PATH": "/some where/w.duckdb"}

    more = {"DATAOPS_MAXIMUM_BYTES_BILLED": "2KB", "DATAOPS_HOME": str(tmp_path)}
    cloud = dbt_project(Settings.load(CLOUD | more), contracts).target
    assert (cloud.name, cloud.dialect) == ("production", "bigquery")
    assert cloud.variables == {
        "DATAOPS_BIGQUERY_PROJECT": "project-1",
        "DATAOPS_BIGQUERY_LOCATION": "EU",
        "DATAOPS_BIGQUERY_MAXIMUM_BYTES_BILLED": "2048",
        "BIGQUERY_EMULATOR_HOST": "",
    }


def test_a_local_run_needs_nothing_of_google(two_models, tmp_path):
    """In a process of its own, because this one may have loaded anything."""
    code = (
        "import sys; from dataops_platform.contracts import load_contracts;"
        "from dataops_platform.orchestration.resources import dbt_project;"
        "from dataops_platform.settings import Settings;"
        "settings = Settings.load(); dbt_project(settings, load_contracts(settings.contracts)).manifest();"
        "print([name for name in sys.modules if name.startswith(('dbt.adapters.bigquery', 'google.cloud.'))])"
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DATAOPS_", "GOOGLE_", "BIGQUERY_", "STORAGE_", "DBT_"))
    }
    env = kept | {"DATAOPS_PROJECT": str(REPO), "DATAOPS_HOME": str(tmp_path), "DATAOPS_DBT_PROJECT": str(two_models)}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stdout + done.stderr


def test_the_manifest_of_both_engines(contracts, tmp_path):
    """The same project; types, place and layout are the engine's, and another target is parsed anew."""

    def project(target: DbtTarget) -> DbtProject:
        return DbtProject(REPO / "dbt_project", tmp_path / "dbt", target, contracts)

    local = project(DbtTarget.duckdb("local", tmp_path / "warehouse.duckdb")).manifest()
    identity = Identity.load({"BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:1"})
    cloud = project(DbtTarget.bigquery("production", identity, "project-1", "EU")).manifest()
    assert local["nodes"].keys() == cloud["nodes"].keys()
    node, uid = "model.dataops.fct_flights", "source.dataops.staging.flights"
    assert (cloud["nodes"][node]["database"], cloud["nodes"][node]["schema"]) == ("project-1", "analytics")
    assert (cloud["sources"][uid]["database"], cloud["sources"][uid]["schema"]) == ("project-1", "staging")
    assert cloud["sources"][uid]["relation_name"] == "`project-1`.`staging`.`flights`"
    types = [m["sources"][uid]["columns"]["time_hour"]["data_type"] for m in (local, cloud)]
    assert types == ["TIMESTAMPTZ", "TIMESTAMP"]
    types = [m["nodes"][node]["columns"]["departed_at"]["data_type"] for m in (local, cloud)]
    assert types == ["timestamptz", "timestamp"]
    assert cloud["nodes"][node]["config"]["cluster_by"] == ["carrier", "origin"]


def test_sources_have_the_types_of_the_engine(contracts):
    for dialect, expected in (("duckdb", "BIGINT"), ("bigquery", "INT64")):
        (source,) = yaml.safe_load(sources_yaml(contracts, dialect=dialect))["sources"]
        assert "database" not in source
        flights = next(table for table in source["tables"] if table["name"] == "flights")
        types = {column["name"]: column["data_type"] for column in flights["columns"]}
        assert types["flight"] == expected


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("select * from staging.flights", ["flights"]),
        ('select * from "staging"."flights" join warehouse.staging.planes using (a)', ["flights", "planes"]),
        ("from `my-project-1`.`staging`.`flights` f, my-project-1.staging.planes", ["flights", "planes"]),
        ("from `my-project-1.staging.flights`, `example.com:one`.staging.`planes`", ["flights", "planes"]),
        ("from staging . flights", ["flights"]),
        ("from analytics.stg_flights, my_staging.flights, `not-staging`.flights, x.staging_of.y", []),
    ],
)
def test_staging_tables_in_sql(sql, tables):
    assert _STAGING_TABLE.findall(sql) == tables


# -- identity ---------------------------------------------------------------------------------------------------------


class Google:
    """Issues a token to whoever asks, and denies everything else, as BigQuery denies what isn't granted."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/token":
                    self.answer(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
                    return
                outer.tokens.append(self.headers.get("Authorization", ""))
                message = "Access Denied: Project project-1: no permission bigquery.datasets.create"
                errors = [{"reason": "accessDenied", "message": message, "domain": "global"}]
                self.answer(403, {"error": {"code": 403, "message": message, "errors": errors}})

            do_POST = do_GET

            def answer(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def google() -> Iterator[Google]:
    made = Google()
    Thread(target=made.server.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.server.shutdown()


def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *form).decode()


def service_account_key(google: Google, folder: Path) -> dict[str, Any]:
    return {
        "type": "service_account",
        "project_id": "project-1",
        "private_key_id": "1234",
        "private_key": private_key(),
        "client_email": "dbt@project-1.iam.gserviceaccount.com",
        "token_uri": f"{google.url}/token",
    }


def external_account(google: Google, folder: Path) -> dict[str, Any]:
    (folder / "subject").write_text("a-token-of-another-cloud")
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/ci",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{google.url}/token",
        "credential_source": {"file": str(folder / "subject")},
    }


@pytest.mark.parametrize("credentials", [service_account_key, external_account])
def test_dbt_is_who_the_platform_is(project, google, tmp_path, monkeypatch, credentials):
    """Its calls carry a token of the platform's identity; what it may not do is said in one line."""
    # Whatever the libraries would ask of the world outside, they ask of our server, in vain.
    monkeypatch.setenv("HTTPS_PROXY", google.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    info = credentials(google, tmp_path)
    identity = Identity.load({"DATAOPS_CREDENTIALS": json.dumps(info), "BIGQUERY_EMULATOR_HOST": google.url})
    made = project(DbtTarget.bigquery("staging", identity, "project-1"))
    made.manifest()
    with pytest.raises(ConfigError) as error:
        made.build(["stg_airlines"], None)
    assert google.tokens
    assert set(google.tokens) == {f"Bearer {TOKEN}"}
    text = str(error.value)
    assert "no permission bigquery.datasets.create. Grant a role that has the permission" in text
    assert "\n" not in text
    with pytest.raises(ConfigError, match=r"target staging can't be reached: .*Grant a role that has the permission"):
        made.debug()
    written = b"".join(path.read_bytes() for path in made.home.rglob("*") if path.is_file())
    for secret in (TOKEN, *info.get("private_key", "").splitlines()[1:-1]):
        assert secret.encode() not in written


def test_without_credentials(project, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file.json")
    made = project(DbtTarget.bigquery("staging", Identity.load({}), "project-1"))
    made.manifest()
    with pytest.raises(ConfigError) as error:
        made.build(["stg_airlines"], None)
    assert "GOOGLE_APPLICATION_CREDENTIALS is '/no/such/file.json'" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_adapter_that_is_not_installed(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "dbt.adapters.bigquery", None)
    with pytest.raises(ConfigError, match=r"needs its adapter for bigquery: run `pip install dbt-bigquery`"):
        project(DbtTarget.bigquery("staging", Identity.load({}), "project-1")).manifest()


# -- BigQuery's errors ------------------------------------------------------------------------------------------------


@pytest.mark.cloud
def test_what_bigquery_refuses(project, bigquery_server, bq_client, contracts):
    """A dataset that isn't there yet, then a query that would cost too much; without a limit it runs."""
    from dataops_platform.warehouse.bigquery import BigQueryWarehouse

    identity = Identity.load(bigquery_server.env)

    def build(limit: int | None, select: str) -> dict[str, tuple[str, str]]:
        made = project(DbtTarget.bigquery("staging", identity, bq_client.project, None, limit))
        made.manifest()
        results = made.build([select], None)
        return {r.unique_id.split(".")[2]: (r.status, r.message) for r in results}

    status, message = build(None, "stg_airlines")["stg_airlines"]
    assert status == "error"
    assert f"Not found: Dataset {bq_client.project}:staging" in message
    assert "Load the staging tables first" in message

    BigQueryWarehouse(bq_client).ensure([contracts.tables["airlines"]])
    bq_client.query(
        "INSERT staging.airlines (carrier, name, _created_at, _updated_at, _source_object, _load_id)"
        f" VALUES ('UA', 'United', CURRENT_TIMESTAMP(), CURRENT_TIMESTAMP(), 'o', '{unique('load')}')"
    ).result()
    assert build(None, "stg_airlines")["stg_airlines"][0] == "success"
    status, message = build(1, "dim_carriers")["dim_carriers"]
    assert status == "error"
    assert "Query exceeded limit for bytes billed: 1." in message
    assert "raise DATAOPS_MAXIMUM_BYTES_BILLED" in message
    assert build(1 << 30, "dim_carriers")["dim_carriers"][0] == "success"
