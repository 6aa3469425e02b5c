"""Sales that are cut by region, on either engine, and a model of them that goes to production."""

import shutil

from dataops_platform.contracts import load_contracts
from dataops_platform.lake import Lake
from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import build_definitions, read_project
from dataops_platform.transformation.pending import pending
from dataops_platform_tests.conftest import REPO

NAMES = ["apac", "eu", "eu-north", "us"]
CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:sales
name: sales
version: 1.0.0
status: active
schema:
  - name: sales
    customProperties:
      - {property: loadMode, vendor: dataops, value: replace}
      - {property: onBadRow, vendor: dataops, value: {action: quarantine, maxPercent: 60}}
      - {property: partitioning, vendor: dataops, value: {field: region, names: [us, eu, eu-north, apac]}}
      - {property: source, vendor: dataops, value: {extractor: files, path: 'data/{partition}.csv'}}
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: region, logicalType: string, required: true}
      - {name: amount, logicalType: integer, required: true}
    quality:
      - {id: volume, metric: rowCount, mustBeLessThan: 3}
      - id: total
        type: sql
        dimension: accuracy
        query: SELECT SUM(amount) FROM {object}
        mustBeGreaterThan: 0
"""
MODEL = """{{ config(materialized='incremental', incremental_strategy='replace_range', on_schema_change='fail') }}
select region, cast(sum(amount) as int64) as revenue
from {{ source('staging', 'sales') }}
where {{ in_partition_range('region') }}
group by region
"""
MODELS = """models:
  - name: by_region
    config: {meta: {dataops: {publish: true, partition_field: region}}}
    columns:
      - name: region
        data_type: string
        data_tests:
          - not_null: {name: by_region__named, config: {meta: {dataops: {dimension: completeness}}}}
      - name: revenue
        data_type: int64
    data_tests:
      - holds:
          name: by_region__few
          arguments: {condition: "revenue < 1000"}
          config: {meta: {dataops: {dimension: accuracy}}}
  - name: everywhere
    config: {meta: {dataops: {publish: true}}}
    columns: [{name: revenue, data_type: int64}]
"""
EVERYWHERE = "select cast(sum(revenue) as int64) as revenue from {{ ref('by_region') }}\n"
TEST = """{% test holds(model, condition) %}
select * from {{ model }} where {{ in_partition_range('region') }} and not ({{ condition }})
{% endtest %}
"""


class Regions:
    """Four regions with a sale each, of 10, 20, 30 and 40."""

    def __init__(self, project, settings):
        self.project, self.settings = project, settings
        self._definitions = None
        files = {
            "contracts/sales.odcs.yaml": CONTRACT,
            "dbt_project/models/marts/by_region.sql": MODEL,
            "dbt_project/models/marts/everywhere.sql": EVERYWHERE,
            "dbt_project/models/marts/marts.yml": MODELS,
            "dbt_project/tests/generic/expression.sql": TEST,
        }
        ours = shutil.ignore_patterns("models", "tests", "target", "README.md")
        shutil.copytree(REPO / "dbt_project", project / "dbt_project", ignore=ours)
        for path, text in files.items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
        for number, name in enumerate(NAMES, 1):
            self.write(name, f"{number},{name},{number}0")

    def write(self, name, *rows):
        path = self.project / f"data/{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["id,region,amount", *rows, ""]))

    @property
    def definitions(self):
        """The code location, of the project as it is when it is asked for the first time."""
        if self._definitions is None:
            self._definitions = build_definitions(self.settings)
        return self._definitions

    def run(self, dagster, span=None, selection=None):
        job = self.definitions.get_repository_def().get_job("pipeline")
        return runs.execute(job, dagster, span or (NAMES[0], NAMES[-1]), selection)

    def query(self, sql):
        """Rows as tuples."""
        return [tuple(row.values()) for row in self.settings.warehouse().query(sql).to_pylist()]

    def left(self):
        """What a run over everything would do."""
        contracts = load_contracts(self.settings.contracts)
        _, models = read_project(self.settings, contracts)
        warehouse = self.settings.warehouse()
        warehouse.ensure(list(contracts.tables.values()))
        return pending(contracts.sourced, models, Lake(self.settings.lake_store()), warehouse, self.project)

    def staged(self):
        return self.query("SELECT id, region, amount FROM staging.sales ORDER BY id")

    def published(self):
        return dict(self.query("SELECT region, revenue FROM production.by_region"))
