"""The demo, embedded and on Google Cloud's services: the same tables, verdicts, quarantine and published files.

By the same command, which is only told other places. Five days of flights by default; a week and the year are long.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.settings import Settings
from dataops_platform.warehouse.names import LEDGER, LOAD_ID, UPDATED_AT, Relation
from dataops_platform_tests import conftest, readme
from dataops_platform_tests.conftest import REPO, dataops
from dataops_platform_tests.emulators.fixtures import new_project, unique

pytestmark = pytest.mark.cloud
DAYS = "..".join(conftest.DAYS)

STAGED = ("airlines", "airports", "flights", "planes", "weather")
VIEWS = ("stg_airlines", "stg_airports", "stg_flights", "stg_planes", "stg_weather")
MODELS = (
    "dim_aircraft", "dim_airports", "dim_carriers", "fct_flights", "mart_cancellations_by_weather", "mart_daily_delays",
)  # fmt: skip
RELATIONS = (
    *(Relation("staging", name) for name in STAGED),
    *(Relation("quarantine", name) for name in STAGED),
    *(Relation("analytics", name) for name in (*VIEWS, *MODELS)),
    *(Relation("production", name) for name in MODELS),
)
OWN = {LOAD_ID, UPDATED_AT, "load_id", "loaded_at", "_run_id", "_quarantined_at", "_source_row"}
"""Columns that say which run wrote a row, and the position in a file, which BigQuery doesn't tell."""


@dataclass(frozen=True)
class Deployment:
    """A place where the demo ran."""

    env: dict[str, str]
    home: Path
    output: str

    @property
    def settings(self) -> Settings:
        return Settings.load(self.env | {"DATAOPS_HOME": str(self.home), "DATAOPS_PROJECT": str(REPO)})

    def rows(self, relation: Relation) -> list[dict[str, Any]]:
        warehouse = self.settings.warehouse()
        return warehouse.query(f"SELECT * FROM {warehouse.sql(relation)}").to_pylist()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return dataops(list(arguments), self.home, env=self.env)


def documented() -> tuple[list[str], list[str]]:
    """The variables that docs/google-cloud.md tells to set, and the commands to run then."""
    block = next(block for block in readme.blocks(REPO / "docs" / "google-cloud.md") if block.shell)
    exports = [line.split()[1].partition("=")[0] for line in block.commands if line.startswith("export ")]
    return exports, [line for line in block.commands if not line.startswith("export ")]


def ran(folder: Path, env: dict[str, str], partitions: str | None) -> Deployment:
    arguments = ["run", "--partitions", partitions] if partitions else ["run"]
    done = dataops(arguments, folder, env=env, timeout=600 if partitions else 7200)
    assert done.returncode == 0, done.stdout + done.stderr
    return Deployment(env, folder, done.stdout)


WEEK = pytest.param("2013-02-08..2013-02-14", marks=[pytest.mark.long, pytest.mark.timeout(1800)])
YEAR = pytest.param(None, marks=[pytest.mark.long, pytest.mark.timeout(7200)])


@pytest.fixture(scope="module", params=[DAYS, WEEK, YEAR], ids=["days", "week", "year"])
def both(request, gcs_server, bigquery_server, home_copy, tmp_path_factory) -> Iterator[tuple[Deployment, Deployment]]:
    """The demo embedded, and on Google Cloud."""
    from dataops_platform_tests.emulators.clients import storage_client

    client = storage_client(gcs_server)
    folder = tmp_path_factory.mktemp("parity")
    with new_project(bigquery_server) as project:
        lake, production = (client.create_bucket(unique("bucket")).name for _ in range(2))
        env = gcs_server.env | bigquery_server.env
        exports, commands = documented()
        direct = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
        env |= {
            "DATAOPS_ENV": "staging",
            "DATAOPS_LAKE": f"gs://{lake}/lake",
            "DATAOPS_PRODUCTION_LAKE": f"gs://{production}/published",
            "DATAOPS_WAREHOUSE": f"bigquery://{project}/US",
            "NO_PROXY": direct,
            "no_proxy": direct,
        }
        assert set(exports) <= set(env)
        assert commands == ["dataops doctor", "dataops run"]
        doctor = dataops(["doctor"], folder / "cloud", env=env)
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
        if request.param == DAYS:
            embedded = Deployment({}, home_copy(), "")
        else:
            embedded = ran(folder / "embedded", {}, request.param)
        yield embedded, ran(folder / "cloud", env, request.param)


def plain(value: Any) -> Any:
    """A value without what may differ between engines: the last bits of floats, and how JSON is spelled."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.12g}")
    if isinstance(value, list):
        return tuple(plain(item) for item in value)
    return value


def comparable(rows: list[dict[str, Any]], leave_out: set[str] = OWN) -> Counter[str]:
    return Counter(repr(sorted((k, plain(v)) for k, v in row.items() if k not in leave_out)) for row in rows)


def same(embedded: Counter[str], cloud: Counter[str]) -> None:
    only = {
        "embedded only": list((embedded - cloud).elements())[:3],
        "cloud only": list((cloud - embedded).elements())[:3],
    }
    assert embedded == cloud, json.dumps(only, indent=1)


@pytest.mark.parametrize("relation", RELATIONS, ids=str)
def test_tables_are_the_same(both, relation):
    found = [deployment.rows(relation) for deployment in both]
    embedded, cloud = map(comparable, found)
    assert [list(row) for row in found[0][:1]] == [list(row) for row in found[1][:1]]  # names and order of columns
    if relation.schema != "quarantine" or relation.name == "weather":
        assert embedded, "nothing to compare"
    same(embedded, cloud)


@pytest.mark.parametrize(
    ("name", "leave_out"),
    [
        (
            "verdicts",
            {
                "data_version",
                "reference_version",
                "statement_id",
                "run_id",
                "evaluated_at",
                "sample",
                "details",  # floats in JSON: their last digits may differ; what comes of them is `observed`
            },
        ),
        ("baselines", {"shares", "run_id", "frozen_at"}),
        ("loads", {"load_id", "run_id", "loaded_at", "bytes"}),
        ("builds", {"data_version", "inputs", "run_id", "built_at"}),
        ("publications", {"publication_id", "data_version", "object_prefix", "run_id", "published_at"}),
        ("refusals", {"run_id", "refused_at"}),
    ],
)
def test_the_ledgers_say_the_same(both, name, leave_out):
    embedded, cloud = (comparable(d.rows(Relation(LEDGER, name)), leave_out) for d in both)
    assert embedded or name in ("refusals", "baselines")  # there is one once all of January is loaded
    same(embedded, cloud)


@pytest.mark.parametrize("model", MODELS)
def test_the_published_files_hold_what_the_tables_hold(both, model):
    found = []
    for deployment in both:
        store = deployment.settings.production_store()
        records = [json.loads(store.read(info.key)) for info in store.list(f"_publications/{model}/")]
        tables = [pq.read_table(pa.BufferReader(store.read(key))) for record in records for key in record["objects"]]
        found.append(comparable([row for table in tables for row in table.to_pylist()]))
        same(comparable(deployment.rows(Relation("production", model))), found[-1])
    same(*found)


@pytest.mark.long
def test_again_there_is_nothing_to_do(both):
    _, cloud = both
    before = [len(cloud.rows(Relation(LEDGER, name))) for name in ("loads", "verdicts", "builds", "publications")]
    done = cloud.command("run", "--partitions", DAYS)
    assert done.returncode == 0, done.stdout + done.stderr
    after = [len(cloud.rows(Relation(LEDGER, name))) for name in ("loads", "verdicts", "builds", "publications")]
    assert (after[0], after[3]) == (before[0], before[3])


def test_the_scorecards_are_the_same(both):
    cards = []
    for deployment in both:
        done = deployment.command("status")
        assert done.returncode == 0, done.stderr
        cards.append(done.stdout)
    assert cards[0].strip() == cards[1].partition("\nCost")[0].strip()
    assert "Cost" in cards[1]


def test_the_plan_estimates_what_would_be_read(both):
    """On BigQuery, by dry runs; embedded nothing is charged for."""
    embedded, cloud = (deployment.command("plan", "--partitions", DAYS) for deployment in both)
    assert (embedded.returncode, cloud.returncode) == (0, 0), embedded.stderr + cloud.stderr
    assert "Would be read" not in embedded.stdout
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in cloud.stdout.splitlines() if "│" in line]
    found = {(line[0], line[1]): line[2] for line in lines if len(line) == 3}
    assert {name for name, _ in found} == {f"staging.{name}" for name in STAGED} | set(MODELS)
    assert {step for _, step in found} == {"rules", "build", "tests"}
    assert "not there yet" not in found.values()
    assert "by dry runs" in cloud.stdout


def test_what_it_cost_is_in_the_ledger(both):
    embedded, cloud = (deployment.rows(Relation(LEDGER, "costs")) for deployment in both)
    assert not embedded
    assert {row["step"] for row in cloud} == {"load", "rules", "build", "export", "publish"}
    assert all(row["jobs"] > 0 for row in cloud)
    assert sum(row["bytes_billed"] for row in cloud if row["object_name"] == "staging.flights") > 0


def test_googles_bq_reads_the_tables(both, tmp_path):
    embedded, cloud = both
    url, project = cloud.env["BIGQUERY_EMULATOR_HOST"], cloud.settings.bigquery.project
    sql = "SELECT COUNT(*) AS n, SUM(distance_miles) AS miles FROM production.fct_flights"
    env = os.environ | cloud.env | {
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(tmp_path / "token"),
    }  # fmt: skip
    (tmp_path / "token").write_text("emulator")
    done = subprocess.run(
        ["bq", "--api", url, "--project_id", project, "--format", "json", "query", "--nouse_legacy_sql", sql],
        capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)
    rows = embedded.rows(Relation("production", "fct_flights"))
    assert (int(row["n"]), int(row["miles"])) == (len(rows), sum(item["distance_miles"] for item in rows))


def test_googles_storage_client_reads_the_files(both, tmp_path):
    _, cloud = both
    url = cloud.env["STORAGE_EMULATOR_HOST"]
    store = cloud.settings.production_store()
    record = json.loads(store.read(next(info.key for info in store.list("_publications/dim_carriers/"))))
    (key,) = record["objects"]
    env = os.environ | cloud.env | {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{url}/storage/v1/", "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), "CLOUDSDK_CORE_PROJECT": cloud.settings.bigquery.project,
    }  # fmt: skip
    done = subprocess.run(
        ["gcloud", "storage", "cp", store.uri(key), str(tmp_path / "carriers.parquet")],
        capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    same(comparable(cloud.rows(Relation("production", "dim_carriers"))),
         comparable(pq.read_table(tmp_path / "carriers.parquet").to_pylist()))  # fmt: skip
