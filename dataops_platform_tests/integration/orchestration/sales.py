"""A shop: orders by day on either engine, and a model of them that goes to production."""

import shutil
from contextlib import contextmanager

from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from dataops_platform.orchestration import runs
from dataops_platform.orchestration.build import build_definitions
from dataops_platform_tests.conftest import REPO
from dataops_platform_tests.integration.orchestration.conftest import settings_of
from dataops_platform_tests.integration.transformation.demo import on_google_cloud

MODEL = """{{ config(
    materialized='incremental', incremental_strategy='replace_range', on_schema_change='fail',
    partition_by=day_partitioned_by('order_date')
) }}
select order_date, count(*) as orders, sum(amount) as revenue
from {{ source('staging', 'orders') }}
where {{ in_partition_range('order_date') }}
group by order_date
"""
MODEL_YML = """models:
  - name: daily_sales
    config: {meta: {dataops: {publish: true, partition_field: order_date}}}
    columns:
      - {name: order_date, data_type: date}
      - {name: orders, data_type: int64}
      - {name: revenue, data_type: "{{ 'numeric' if target.type == 'bigquery' else 'decimal(38,2)' }}"}
    data_tests:
      - holds:
          name: daily_sales__few
          arguments: {condition: "revenue < 1000"}
          config: {meta: {dataops: {dimension: accuracy}}}
"""
TEST = """{% test holds(model, condition) %}
select * from {{ model }} where {{ in_partition_range('order_date') }} and not ({{ condition }})
{% endtest %}
"""
FILES = {
    "models/marts/daily_sales.sql": MODEL,
    "models/marts/daily_sales.yml": MODEL_YML,
    "tests/generic/expression.sql": TEST,
}
LAYERS = [("raw", "orders"), ("staging", "orders"), ("daily_sales",), ("transformed", "daily_sales")]

DAYS = [f"2024-05-0{day}" for day in range(1, 7)]
SPAN = (DAYS[0], DAYS[-1])
HEADER = "order_id,order_date,country,amount\n"
GOOD, BROKEN, UNREADABLE = "{0},2024-05-0{0},DE,20.00\n", "{0},2024-05-0{0},XX,20.00\n", "nonsense\n"


class Shop:
    """Six days of orders, one a day."""

    def __init__(self, project, settings):
        self.project, self.settings = project, settings
        self._definitions = None
        for day in range(1, 7):
            self.write(day, GOOD)

    def write(self, day, text):
        rows = text.format(day)
        path = self.project / f"data/orders/2024-05-0{day}.csv"
        path.write_text(rows if text is UNREADABLE else HEADER + rows)

    @property
    def definitions(self):
        """The code location, which is the same until the contract is edited."""
        if self._definitions is None:
            self._definitions = build_definitions(self.settings)
        return self._definitions

    def run(self, dagster, span=SPAN, selection=None):
        return runs.execute(self.definitions.get_repository_def().get_job("pipeline"), dagster, span, selection)

    def edit(self, old, new):
        """Replace a text of the contract."""
        self.reread()
        contract = self.project / "contracts/orders.odcs.yaml"
        assert old in contract.read_text()
        contract.write_text(contract.read_text().replace(old, new))

    def reread(self):
        """Make the code location anew when it is asked for next."""
        self._definitions = None

    def add_model(self):
        """A dbt project with a model by day, its test, and its way to production."""
        folder = self.project / "dbt_project"
        ours = shutil.ignore_patterns("models", "tests", "target", "README.md")
        shutil.copytree(REPO / "dbt_project", folder, ignore=ours)
        for path, text in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)

    def query(self, sql):
        """Rows as tuples."""
        return [tuple(row.values()) for row in self.settings.warehouse().query(sql).to_pylist()]

    def published(self):
        """Numbers of the days that production has."""
        return [day.day for (day,) in self.query("SELECT order_date FROM production.daily_sales ORDER BY 1")]

    def staged(self):
        return [number for (number,) in self.query("SELECT order_id FROM staging.orders ORDER BY 1")]


@contextmanager
def on_engine(request, project, folder):
    """Settings of a project on the engine that a fixture's parameter names: `duckdb` or `bigquery`."""
    if request.param == "duckdb":
        settings = settings_of(project, folder / "home")
        with settings.warehouse().connect():  # open all the time: a run opens the file fifty times
            yield settings
        return
    servers = (request.getfixturevalue(name) for name in ("gcs_server", "bigquery_server"))
    with on_google_cloud(folder / "home", *servers, DATAOPS_PROJECT=str(project)) as settings:
        yield settings


def statuses(dagster, key, definitions):
    """Numbers of the days that Dagster's partition view shows as materialised, and as failed."""
    cut = definitions.get_repository_def().asset_graph.get(key).partitions_def
    value = get_and_update_asset_status_cache_value(dagster, key, cut)
    subsets = (value.deserialize_materialized_partition_subsets(cut), value.deserialize_failed_partition_subsets(cut))
    return tuple(sorted(int(day[-2:]) for day in subset.get_partition_keys()) for subset in subsets)
