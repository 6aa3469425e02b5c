"""A table without partitions, from a source or landing to production, and a second delivery; on either engine."""

import os
import shutil
import time
from functools import cached_property

import pytest

from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import build_definitions
from dataops_platform_tests.conftest import REPO
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.integration.orchestration.sales import on_engine

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:shops
name: shops
version: 1.0.0
status: active
{servers}schema:
  - name: shops
    customProperties:
      - {{property: loadMode, vendor: dataops, value: {mode}}}
{source}    properties:
      - {{name: shop_id, logicalType: integer, primaryKey: true}}
      - {{name: city, logicalType: string, required: true}}
    quality:
      - {{id: volume, metric: rowCount, mustBeLessThan: 4}}
"""
SOURCE = "      - {property: source, vendor: dataops, value: {extractor: files, path: data/shops.csv}}\n"
LANDING = """\
servers:
  - server: partner
    type: local
    path: data
    format: csv
    customProperties:
      - {property: objectPattern, vendor: dataops, value: 'shops*.csv'}
"""
MODEL = "select city, count(*) as shops from {{ source('staging', 'shops') }} group by city\n"
MODELS = """models:
  - name: cities
    config: {meta: {dataops: {publish: true}}}
    columns: [{name: city, data_type: string}, {name: shops, data_type: int64}]
"""


class Shops:
    def __init__(self, project, settings):
        self.project, self.settings = project, settings

    def write_project(self, mode, landing):
        ours = shutil.ignore_patterns("models", "tests", "target", "README.md")
        shutil.copytree(REPO / "dbt_project", self.project / "dbt_project", ignore=ours)
        contract = CONTRACT.format(mode=mode, servers=LANDING if landing else "", source="" if landing else SOURCE)
        for path, text in {
            "contracts/shops.odcs.yaml": contract,
            "dbt_project/models/marts/cities.sql": MODEL,
            "dbt_project/models/marts/cities.yml": MODELS,
        }.items():
            (self.project / path).parent.mkdir(parents=True, exist_ok=True)
            (self.project / path).write_text(text)

    def write(self, *rows):
        path = self.project / "data/shops.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["shop_id,city", *rows, ""]))
        settled = time.time() - 60  # what was just written may still be being written
        os.utime(path, (settled, settled))

    @cached_property
    def job(self):
        return build_definitions(self.settings).get_repository_def().get_job("pipeline")

    def run(self, dagster):
        return runs.execute(self.job, dagster, None)

    def query(self, sql):
        return [tuple(row.values()) for row in self.settings.warehouse().query(sql).to_pylist()]

    def published(self):
        return dict(self.query("SELECT city, shops FROM production.cities"))


@pytest.fixture
def shops(request, tmp_path, monkeypatch):
    for name in ("DAGSTER_HOME", "DATAOPS_EVENT_LOG"):
        monkeypatch.setenv(name, "")  # restored afterwards
    project = tmp_path / "shop"
    with on_engine(request, project, tmp_path) as settings:
        yield Shops(project, settings)


@pytest.mark.parametrize(
    ("shops", "mode", "landing", "expected"),
    [
        pytest.param("duckdb", "replace", False, {"Lyon": 1, "Paris": 1}, marks=pytest.mark.long),
        ("duckdb", "merge", True, {"Lyon": 2, "Paris": 1}),
        pytest.param(
            "bigquery", "replace", False, {"Lyon": 1, "Paris": 1}, marks=[pytest.mark.cloud, pytest.mark.long]
        ),
    ],
    indirect=["shops"],
)
def test_from_its_arrival_to_production(shops, tmp_path, mode, landing, expected):
    shops.write_project(mode, landing)
    shops.write("1,Paris", "2,Paris", "3,Lyon")
    with instance(tmp_path / "dagster") as dagster:
        assert shops.run(dagster).success
        assert shops.published() == {"Paris": 2, "Lyon": 1}
        # A second delivery: the whole is judged, built and published anew.
        shops.write("1,Paris", "2,Lyon")
        assert shops.run(dagster).success
        assert shops.published() == expected
        # One that breaks a rule: staging has it, production stays as it is.
        shops.write("4,Metz", "5,Metz", "6,Metz", "7,Metz")
        assert not shops.run(dagster).success
        assert shops.published() == expected
        assert shops.query("SELECT partition_key, COUNT(*) FROM dataops.publications GROUP BY 1") == [("all", 2)]
