"""Settings: every variable, its default, and what can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.settings import Settings


def test_defaults(tmp_path):
    found = Settings.load({"DATAOPS_PROJECT": str(tmp_path)})
    home = tmp_path / ".dataops"
    assert (found.environment, found.project, found.home) == ("local", tmp_path, home)
    assert (found.contracts, found.dbt_project) == (tmp_path / "contracts", tmp_path / "dbt_project")
    assert found.lake_url == f"file://{home}/lake"
    assert found.production_lake_url == f"file://{home}/production_lake"
    assert found.warehouse_url == f"duckdb://{home}/warehouse.duckdb"
    assert (found.memory_limit, found.git_commit) == (None, None)
    assert (found.dagster_home, found.dbt_home) == (home / "dagster", home / "dbt")
    assert not home.exists()  # nothing is opened or made


def test_every_variable(tmp_path):
    for folder in "cd":
        (tmp_path / folder).mkdir()
    found = Settings.load(
        {
            "DATAOPS_ENV": "staging",
            "DATAOPS_PROJECT": str(tmp_path),
            "DATAOPS_HOME": str(tmp_path / "h"),
            "DATAOPS_CONTRACTS": str(tmp_path / "c"),
            "DATAOPS_DBT_PROJECT": str(tmp_path / "d"),
            "DATAOPS_LAKE": "file:///lake%20here",
            "DATAOPS_PRODUCTION_LAKE": "file:///production",
            "DATAOPS_WAREHOUSE": "duckdb:///w.duckdb",
            "DATAOPS_MEMORY_LIMIT": "2GB",
            "DATAOPS_GIT_COMMIT": "abc",
        }
    )
    assert (found.environment, found.home, found.contracts, found.dbt_project) == (
        "staging", tmp_path / "h", tmp_path / "c", tmp_path / "d",
    )  # fmt: skip
    assert found.lake_store().uri("a") == "/lake here/a"
    assert found.production_store().uri("a") == "/production/a"
    assert found.warehouse().url == "duckdb:///w.duckdb"
    assert (found.memory_limit, found.git_commit) == ("2GB", "abc")


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
        ("DATAOPS_LAKE", "s3://bucket", "no adapter for 's3'; use file:///path"),
        ("DATAOPS_LAKE", "/data/lake", "no adapter for ''"),
        ("DATAOPS_LAKE", "file://data/lake", "write an absolute path"),
        ("DATAOPS_PRODUCTION_LAKE", "ftp:///x", "no adapter for 'ftp'"),
        ("DATAOPS_WAREHOUSE", "postgres://x/y", "no adapter for 'postgres'; use duckdb:///path"),
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
