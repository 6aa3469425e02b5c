"""Models on BigQuery: fingerprints of their rows, and publication in one transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.warehouse.base import EMPTY, ModelSlice, NoSuchTable, PublicationItem
from dataops_platform.warehouse.bigquery import BigQueryWarehouse
from dataops_platform.warehouse.bigquery.models import before
from dataops_platform.warehouse.ledger import Ledger
from dataops_platform.warehouse.names import Relation
from dataops_platform_tests import readme
from dataops_platform_tests.emulators.clients import bigquery_client
from dataops_platform_tests.emulators.fixtures import ledger_project, unique

pytestmark = pytest.mark.cloud
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
ROWS = (
    "SELECT DATE '2024-01-01' AS day, 1 AS id, 'a' AS name UNION ALL SELECT DATE '2024-01-01', 2, NULL"
    " UNION ALL SELECT DATE '2024-01-02', 3, 'c'"
)


class Models:
    """A dataset of models, written by SQL as dbt would."""

    def __init__(self, client) -> None:
        self.client = client
        self.warehouse = BigQueryWarehouse(client, pause=0.05)
        self.warehouse.ensure([])
        client.create_dataset("analytics")

    def build(self, sql: str, name: str = "") -> ModelSlice:
        name = name or unique("m").replace("-", "_")
        self.client.query(f"CREATE OR REPLACE TABLE analytics.{name} AS {sql}").result()
        return ModelSlice(name, Relation("analytics", name), "day")

    def items(self, model, days) -> list[PublicationItem]:
        found = self.warehouse.model_versions(model, days)
        return [PublicationItem(day, found[day].data_version, f"objects/{day}") for day in days]

    def publish(self, model, days=DAYS, items=None) -> None:
        self.warehouse.publish(model, items or self.items(model, days), unique("p"), "run")

    def production(self, model) -> list[tuple]:
        sql = f"SELECT id FROM production.{model.model} ORDER BY id"
        return [row[0] for row in self.client.query(sql).result()]

    def records(self, model) -> list[tuple]:
        sql = f"SELECT partition_key, row_count FROM dataops.publications WHERE model = '{model.model}' ORDER BY 1, 2"
        return [tuple(row.values()) for row in self.client.query(sql).result()]


@pytest.fixture(scope="module")
def models(gcs_server, bigquery_server):
    with pytest.MonkeyPatch.context() as patch, ledger_project(bigquery_server) as project:
        for name, value in (gcs_server.env | bigquery_server.env).items():
            patch.setenv(name, value)
        yield Models(bigquery_client(bigquery_server, project))


def test_equal_rows_have_equal_fingerprints(models):
    model = models.build(ROWS)
    first = models.warehouse.model_versions(model, DAYS)
    assert (first[DAYS[0]].row_count, first[DAYS[1]].row_count) == (2, 1)
    assert first[DAYS[2]].data_version == EMPTY
    models.build(f"SELECT * FROM ({ROWS}) ORDER BY id DESC", model.model)
    assert models.warehouse.model_versions(model, DAYS) == first
    assert models.warehouse.model_versions(model, None) == {day: first[day] for day in DAYS[:2]}


@pytest.mark.parametrize(
    "change",
    [
        f"SELECT * FROM ({ROWS}) UNION ALL SELECT DATE '2024-01-01', 1, 'a'",
        f"SELECT * FROM ({ROWS}) WHERE id != 2",
        f"SELECT day, id, IFNULL(name, '') AS name FROM ({ROWS})",
        f"SELECT day, IF(id < 3, 3 - id, id) AS id, name FROM ({ROWS})",
        f"SELECT day, id, name, 1 AS more FROM ({ROWS})",
    ],
)
def test_other_rows_have_other_fingerprints(models, change):
    before = models.warehouse.model_versions(models.build(ROWS), DAYS[:1])
    assert models.warehouse.model_versions(models.build(change), DAYS[:1]) != before


def test_a_publication(models):
    model = models.build(ROWS)
    models.publish(model)
    assert models.production(model) == [1, 2, 3]
    assert models.records(model) == [(DAYS[0], 2), (DAYS[1], 1), (DAYS[2], 0)]
    made = models.client.get_table(f"production.{model.model}")
    assert made.time_partitioning.field == "day"
    models.build(f"SELECT * FROM ({ROWS}) WHERE id != 3", model.model)
    models.publish(model, DAYS[1:2])
    assert models.production(model) == [1, 2]


def test_rows_that_changed_after_the_gate(models):
    model = models.build(ROWS)
    items = models.items(model, DAYS[:2])
    models.client.query(f"UPDATE analytics.{model.model} SET id = 9 WHERE id = 3").result()
    with pytest.raises(DataRefused, match=f"the rows of {DAYS[1]} changed after they were checked"):
        models.publish(model, items=items)
    assert (models.production(model), models.records(model)) == ([], [])


def test_a_publication_is_repeated_as_a_no_op(models):
    """A call whose answer was lost meets its own job."""
    model = models.build(ROWS)
    items = models.items(model, DAYS[:2])
    for _ in range(2):
        models.warehouse.publish(model, items, f"publication-{model.model}", "run")
    assert models.records(model) == [(DAYS[0], 2), (DAYS[1], 1)]
    assert models.production(model) == [1, 2, 3]


def test_columns_that_come_and_go(models):
    model = models.build(ROWS)
    models.publish(model, DAYS[:1])
    models.build(f"SELECT *, 1 AS more FROM ({ROWS})", model.model)
    models.publish(model, DAYS[:2])
    assert [f.name for f in models.client.get_table(f"production.{model.model}").schema][-1] == "more"
    models.build(f"SELECT day, id, 'x' AS more FROM ({ROWS})", model.model)
    with pytest.raises(DataRefused, match="columns name, more are gone from"):
        models.publish(model, DAYS[:2])
    assert models.production(model) == [1, 2, 3]


def test_rows_of_no_day_and_no_model(models):
    model = models.build(f"SELECT NULLIF(day, '2024-01-02') AS day, id FROM ({ROWS})")
    with pytest.raises(DataRefused, match=r"1 row\(s\) of .* belong to no partition"):
        models.warehouse.model_versions(model, DAYS[:1])
    with pytest.raises(NoSuchTable, match="build the model nothing first"):
        models.warehouse.model_versions(ModelSlice("nothing", Relation("analytics", "nothing"), "day"), DAYS)


def test_production_is_kept_as_it_was_before_each_publication(models):
    """A clone that expires, made where there is something to lose."""
    model = models.build(ROWS)
    models.publish(model, DAYS[:2])
    models.build(f"SELECT * FROM ({ROWS}) WHERE id != 3", model.model)
    models.warehouse.publish(model, models.items(model, DAYS[1:2]), "second-one", "run")
    assert models.client.get_table("dataops._before_second_one").clone_definition is not None
    kept = models.client.query_and_wait("SELECT id FROM dataops._before_second_one ORDER BY id")
    assert [row[0] for row in kept] == [1, 2, 3]
    jobs = [job for job in models.client.list_jobs(max_results=50) if job.job_type == "copy"]
    (job,) = [job for job in jobs if job.destination.table_id == "_before_second_one"]
    expires = datetime.strptime(
        job._properties["configuration"]["copy"]["destinationExpirationTime"], "%Y-%m-%dT%H:%M:%SZ"
    )
    assert timedelta(days=6.9) < expires - datetime.now(UTC).replace(tzinfo=None) < timedelta(days=7.1)
    assert len([job for job in jobs if job.sources[0].table_id == model.model]) == 1  # not before the first


def test_production_is_put_back_as_the_docs_say(models):
    """The statements of docs/google-cloud.md, for another model."""
    page = Path(__file__).parents[3] / "docs" / "google-cloud.md"
    find, restore = (block.text for block in readme.blocks(page) if block.language == "sql")
    model = models.build(ROWS)
    first = models.warehouse.model_versions(model, DAYS[:2])
    models.publish(model, DAYS[:2])
    models.build(f"SELECT * FROM ({ROWS}) WHERE id = 1 UNION ALL SELECT DATE '{DAYS[2]}', 9, 'bad'", model.model)
    models.publish(model, DAYS)
    assert models.production(model) == [1, 9]
    newest = next(iter(models.client.query_and_wait(find.replace("fct_flights", model.model))))["publication_id"]
    script = restore.replace("fct_flights", model.model).replace("_before_<publication id>", before(newest).name)
    models.client.query(script.replace("<publication id>", newest)).result()
    assert models.production(model) == [1, 2, 3]
    # The ledger agrees: what was current before is so again, a day that came with the bad one has no rows.
    current = Ledger(models.warehouse).published([model.model])[model.model]
    assert current == {**{day: first[day].data_version for day in DAYS[:2]}, DAYS[2]: EMPTY}


def test_a_partition_field_that_is_no_date(models):
    model = models.build("SELECT 'x' AS day, 1 AS id")
    with pytest.raises(ConfigError, match="the model's rows can't be read by partition"):
        models.warehouse.model_versions(model, DAYS)
