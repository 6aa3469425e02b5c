"""Settings: every variable, its default, and what can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.settings import Settings
from dataops_platform.warehouse.names import Relation


def test_defaults(tmp_path):
    found = Settings.load({"DATAOPS_PROJECT": str(tmp_path)})
    home = tmp_path / ".dataops"
    assert (found.environment, found.project, found.home) == ("local", tmp_path, home)
    assert (found.contracts, found.dbt_project) == (tmp_path / "contracts", tmp_path / "dbt_project")
    assert found.lake_url == f"file://{home}/lake"
    assert found.production_lake_url == f"file://{home}/production_lake"
    assert found.warehouse_url == f"duckdb://{home}/warehouse.duckdb"
    assert (found.memory_limit, found.git_commit, found.automation) == (None, None, "schedule")
    assert (found.dagster_home, found.dbt_home) == (home / "dagster", home / "dbt")
    assert not home.exists()  # nothing is opened or made


def test_every_variable(tmp_path):
    for folder in "cd":
        (tmp_path / folder).mkdir()
    found = Settings.load(
        {
            "DATAOPS_PROJECT": str(tmp_path),
            "DATAOPS_HOME": str(tmp_path / "h"),
            "DATAOPS_CONTRACTS": str(tmp_path / "c"),
            "DATAOPS_DBT_PROJECT": str(tmp_path / "d"),
            "DATAOPS_LAKE": "file:///lake%20here",
            "DATAOPS_PRODUCTION_LAKE": "file:///production",
            "DATAOPS_WAREHOUSE": "duckdb:///w.duckdb",
            "DATAOPS_MEMORY_LIMIT": "2GB",
            "DATAOPS_GIT_COMMIT": "abc",
            "DATAOPS_AUTOMATION": "conditions",
        }
    )
    assert (found.environment, found.home, found.contracts, found.dbt_project) == (
        "local", tmp_path / "h", tmp_path / "c", tmp_path / "d",
    )  # fmt: skip
    assert found.lake_store().uri("a") == "/lake here/a"
    assert found.production_store().uri("a") == "/production/a"
    assert found.warehouse().url == "duckdb:///w.duckdb"
    assert (found.memory_limit, found.git_commit, found.automation) == ("2GB", "abc", "conditions")


def test_the_topic_of_events():
    found = Settings.load({"DATAOPS_EVENTS": "pubsub://acme-data/dataops-events"})
    assert found.events == "projects/acme-data/topics/dataops-events"
    assert Settings.load({"DATAOPS_EVENTS": ""}).events is None


@pytest.mark.parametrize(
    "text",
    [
        "dataops-events",
        "pubsub://acme-data",
        "pubsub://A/x-topic",
        "pubsub://acme-data/goog-topic",
        "pubsub://acme-data/a",
    ],
)
def test_what_is_no_topic(text):
    with pytest.raises(ConfigError, match=rf"DATAOPS_EVENTS is {text!r}: write pubsub://<project>/<topic>"):
        Settings.load({"DATAOPS_EVENTS": text})


@pytest.mark.parametrize("name", ["a b", "100%25", "a#b", "a?b", "é"])
def test_a_home_of_any_name(tmp_path, name):
    found = Settings.load({"DATAOPS_HOME": str(tmp_path / name)})
    assert Path(found.lake_store().uri("x")) == tmp_path / name / "lake" / "x"
    assert found.warehouse().path == tmp_path / name / "warehouse.duckdb"


def test_empty_means_default(tmp_path):
    given = {"DATAOPS_PROJECT": str(tmp_path)}
    empty = dict.fromkeys(
        ("DATAOPS_ENV", "DATAOPS_HOME", "DATAOPS_LAKE", "DATAOPS_WAREHOUSE", "DATAOPS_MEMORY_LIMIT"), ""
    )
    assert Settings.load(given | empty) == Settings.load(given)


def test_the_working_directory_is_the_project(tmp_path, monkeypatch):
    (tmp_path / "contracts").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Settings.load({}).project == tmp_path


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DATAOPS_ENV", "prod", "use one of local, staging, production"),
        ("DATAOPS_AUTOMATION", "cron", "use one of schedule, conditions"),
        ("DATAOPS_LAKE", "s3://bucket", "use file:///path, or set DATAOPS_ENV to staging or production"),
        ("DATAOPS_LAKE", "gs://bucket", "without DATAOPS_ENV everything is embedded"),
        ("DATAOPS_LAKE", "/data/lake", "use file:///path"),
        ("DATAOPS_LAKE", "file://data/lake", "write an absolute path"),
        ("DATAOPS_PRODUCTION_LAKE", "ftp:///x", "use file:///path"),
        ("DATAOPS_WAREHOUSE", "postgres://x/y", "use duckdb:///path"),
        ("DATAOPS_WAREHOUSE", "bigquery://my-project", "set DATAOPS_ENV to staging or production"),
        ("DATAOPS_MAXIMUM_BYTES_BILLED", "lots", "write a number of bytes, like 500GB"),
        ("DATAOPS_MAXIMUM_BYTES_BILLED", "0", "write a number of bytes"),
        ("DATAOPS_PRODUCTION_PROJECT", "My Project", "is no Google Cloud project id (not its name nor number)"),
        ("DATAOPS_WAREHOUSE", "duckdb://w.duckdb", "write an absolute path, like duckdb:///"),
    ],
)
def test_what_can_not_be_used(variable, value, says):
    with pytest.raises(ConfigError) as error:
        Settings.load({variable: value})
    assert str(error.value).startswith(f"{variable} is {value!r}")
    assert says in str(error.value)


def test_a_home_that_is_a_file(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigError, match="which is not a folder"):
        Settings.load({"DATAOPS_HOME": str(tmp_path / "home")})


CLOUD = {
    "DATAOPS_ENV": "staging",
    "DATAOPS_LAKE": "gs://acme-lake/raw/",
    "DATAOPS_PRODUCTION_LAKE": "gs://acme-production",
    "DATAOPS_WAREHOUSE": "bigquery://acme-data/EU",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    "BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:1",
}
"""With addresses of servers that aren't there: nothing may be asked of them."""


def test_google_cloud():
    found = Settings.load(
        CLOUD | {"DATAOPS_PRODUCTION_PROJECT": "acme-production", "DATAOPS_MAXIMUM_BYTES_BILLED": "1.5 GB"}
    )
    assert found.on_google_cloud
    assert (found.bigquery.project, found.bigquery.location) == ("acme-data", "EU")
    assert (found.production_project, found.maximum_bytes_billed) == ("acme-production", 3 << 29)
    assert found.lake_store().uri("a/b") == "gs://acme-lake/raw/a/b"
    assert found.production_store().url == "gs://acme-production"
    warehouse = found.warehouse()
    assert (warehouse.url, warehouse.dialect) == ("bigquery://acme-data/EU", "bigquery")
    assert warehouse.sql(Relation("staging", "t")) == "`acme-data`.`staging`.`t`"
    assert warehouse.sql(Relation("production", "t")) == "`acme-production`.`production`.`t`"


def test_a_location_may_be_left_out():
    found = Settings.load(CLOUD | {"DATAOPS_WAREHOUSE": "bigquery://acme-data"})
    assert (found.bigquery.project, found.bigquery.location) == ("acme-data", None)


@pytest.mark.parametrize("missing", ["DATAOPS_LAKE", "DATAOPS_PRODUCTION_LAKE", "DATAOPS_WAREHOUSE"])
def test_google_cloud_has_no_default_places(missing):
    with pytest.raises(ConfigError, match=f"DATAOPS_ENV is staging: set {missing} too, like (gs|bigquery)://"):
        Settings.load(CLOUD | {missing: ""})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DATAOPS_LAKE", "file:///lake", "with DATAOPS_ENV=staging write it like gs://bucket/prefix"),
        ("DATAOPS_LAKE", "gs://", "is no bucket's name"),
        ("DATAOPS_LAKE", "gs://Acme_Lake/x", "'Acme_Lake' is no bucket's name"),
        ("DATAOPS_LAKE", "gs://acme-lake/a//b", "the prefix must be names separated by /"),
        ("DATAOPS_LAKE", "gs://acme-lake/../b", "the prefix must be names separated by /"),
        ("DATAOPS_WAREHOUSE", "bigquery://", "'' is no Google Cloud project id"),
        ("DATAOPS_WAREHOUSE", "bigquery://123456789", "is no Google Cloud project id"),
        ("DATAOPS_WAREHOUSE", "bigquery://acme-data/EU/dataset", "'EU/dataset' is no location of BigQuery"),
    ],
)
def test_what_can_not_be_used_on_google_cloud(variable, value, says):
    with pytest.raises(ConfigError) as error:
        Settings.load(CLOUD | {variable: value})
    assert str(error.value).startswith(f"{variable} is {value!r}")
    assert says in str(error.value)


@pytest.mark.parametrize("more", [CLOUD, {"DATAOPS_LAKE": "file:///x"}])
def test_production_has_a_lake_of_its_own(more):
    same = more["DATAOPS_LAKE"]
    with pytest.raises(ConfigError, match="give production a place of its own"):
        Settings.load(more | {"DATAOPS_PRODUCTION_LAKE": same})
