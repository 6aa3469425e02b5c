"""A project for declarative automation: orders by day, shops without partitions, and models of both."""

import shutil
from pathlib import Path

from dataops_platform.settings import Settings
from dataops_platform_tests.conftest import REPO
from dataops_platform_tests.readme import own_table_files

SHOPS = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:shops
name: shops
version: 1.0.0
status: active
schema:
  - name: shops
    customProperties:
      - {property: loadMode, vendor: dataops, value: replace}
      - {property: source, vendor: dataops, value: {extractor: files, path: data/shops.csv}}
    properties:
      - {name: shop_id, logicalType: integer, primaryKey: true}
"""
BY_DAY = """\
{{ config(materialized='incremental', incremental_strategy='replace_range', on_schema_change='fail') }}
select order_date, count(*) as orders
from {{ source('staging', 'orders') }}
where {{ in_partition_range('order_date') }} and exists (select 1 from {{ source('staging', 'shops') }})
group by order_date
"""
AS_A_WHOLE = "select count(*) as orders from {{ source('staging', 'orders') }}\n"
MODELS = """\
models:
  - name: by_day
    config: {meta: {dataops: {publish: true, partition_field: order_date}}}
    columns: [{name: order_date, data_type: date}, {name: orders, data_type: int64}]
  - name: as_a_whole
    config: {meta: {dataops: {publish: true}}}
    columns: [{name: orders, data_type: int64}]
"""


def write_project(folder: Path) -> Path:
    """Two days of orders; a day of more than four orders fails its blocking rule `volume`."""
    files = {name: text for name, text in own_table_files().items() if not name.startswith("dbt_project")}
    contract = "contracts/orders.odcs.yaml"
    files[contract] = files[contract].replace("mustBeGreaterThan: 0", "mustBeLessThan: 5")
    files["data/orders/2024-05-02.csv"] = files["data/orders/2024-05-02.csv"].replace("-5.00", "5.00")
    files |= {
        "contracts/shops.odcs.yaml": SHOPS,
        "data/shops.csv": "shop_id\n1\n",
        "dbt_project/models/marts/by_day.sql": BY_DAY,
        "dbt_project/models/marts/as_a_whole.sql": AS_A_WHOLE,
        "dbt_project/models/marts/marts.yml": MODELS,
    }
    ours = shutil.ignore_patterns("models", "tests", "target", "README.md")
    shutil.copytree(REPO / "dbt_project", folder / "dbt_project", ignore=ours)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def settings(project: Path, home: Path, **more: str) -> Settings:
    """Its settings, with conditions."""
    environ = {"DATAOPS_PROJECT": str(project), "DATAOPS_HOME": str(home), "DATAOPS_AUTOMATION": "conditions"}
    return Settings.load(environ | more)
