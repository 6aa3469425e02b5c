"""What goes wrong on Google Cloud, as a user of the command meets it: an exit code and one clear message.

The command runs in this process, since importing it takes longer than all it does here.
"""

from __future__ import annotations

import json
import logging
import re

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import bigquery

from dataops_platform.cli import main
from dataops_platform.contracts import load_contracts
from dataops_platform.orchestration.event_log import BATCH_SIZE, BATCH_SIZE_VARIABLE
from dataops_platform.settings import Settings
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.planted import installed, nothing_known
from dataops_platform_tests.readme import own_table_files
from dataops_platform_tests.refusing import refusing

pytestmark = pytest.mark.cloud
OK, WRONG = 0, 2
DAY = "2024-05-01"


@pytest.fixture
def deployment(tmp_path, cloud_env, bucket, bq_project, monkeypatch) -> dict[str, str]:
    """The README's own table, without dbt, on Google Cloud; its settings."""
    project = tmp_path / "shop"
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text.replace("start: 2024-05-01", "start: 2024-05-01, end: 2024-05-02"))
    settings = {
        "DATAOPS_PROJECT": str(project),
        "DATAOPS_HOME": str(tmp_path / "home"),
        "DATAOPS_ENV": "staging",
        "DATAOPS_LAKE": f"gs://{bucket}/lake",
        "DATAOPS_PRODUCTION_LAKE": f"gs://{bucket}/production",
        "DATAOPS_WAREHOUSE": f"bigquery://{bq_project}/US",
    }
    # The last three are what the command sets for its own process.
    own = {"DAGSTER_HOME": "", "DATAOPS_EVENT_LOG": "", BATCH_SIZE_VARIABLE: BATCH_SIZE}
    for name, value in (settings | own).items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def dataops(deployment, monkeypatch, capsys):
    """Runs the command: exit code, output and errors. What it changes in its process is put back."""
    level = logging.getLogger("dagster").level

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dataops", *arguments])
        with nothing_known(), installed(), pytest.raises(SystemExit) as stopped:
            main.main()
        written = capsys.readouterr()
        assert "Traceback" not in written.out + written.err
        return stopped.value.code, written.out, written.err

    yield run
    logging.getLogger("dagster").setLevel(level)


@pytest.fixture
def fails(dataops):
    """Runs the command, which must fail with one line; the line."""

    def run(*arguments: str) -> str:
        code, out, err = dataops(*arguments)
        (line,) = err.splitlines()
        assert (code, out.strip()) == (WRONG, "")
        return line.removeprefix("error: ")

    return run


@pytest.fixture
def fails_in_a_step(dataops):
    """Runs a day, of which one step must fail: its name and what it says."""

    def run() -> tuple[str, str]:
        code, out, _ = dataops("run", "--partitions", DAY)
        assert code == WRONG
        ((step, text),) = re.findall(r"^(\S+) failed: (.+?)\n\n", out, re.MULTILINE | re.DOTALL)
        return step, " ".join(text.split())

    return run


# -- what servers on this machine can show -----------------------------------------------------------------------------


def test_a_bucket_that_is_missing(fails, fails_in_a_step, monkeypatch):
    says = (
        "there is no bucket no-such-bucket. Create it (`gcloud storage buckets create gs://no-such-bucket`), or"
        " correct the setting."
    )
    monkeypatch.setenv("DATAOPS_LAKE", "gs://no-such-bucket/lake")
    assert fails("run") == says
    assert fails_in_a_step() == ("raw__orders", says)


def dataset(client: bigquery.Client, name: str, location: str) -> None:
    made = bigquery.Dataset(name)
    made.location = location
    client.create_dataset(made)


def test_a_dataset_in_another_location(fails, fails_in_a_step, bq_client):
    project = bq_client.project
    dataset(bq_client, f"{project}.staging", "EU")
    says = (
        f"dataset {project}.staging is in EU, not in US: set DATAOPS_WAREHOUSE to bigquery://{project}/EU, or use"
        " another project"
    )
    assert fails("run") == says
    assert fails_in_a_step() == ("staging__orders", says)


def test_datasets_in_different_locations(fails, bq_client, bigquery_server, monkeypatch):
    """Each is where it may be, since the settings name no location; but no job sees both."""
    monkeypatch.setenv("DATAOPS_WAREHOUSE", f"bigquery://{bq_client.project}")
    with new_project(bigquery_server) as other:
        monkeypatch.setenv("DATAOPS_PRODUCTION_PROJECT", other)
        dataset(bq_client, f"{other}.production", "EU")
        line = fails("run")
    assert line.startswith("the datasets are not all in one location: ")
    assert f"{bq_client.project}.staging in US" in line
    assert f"{other}.production in EU" in line


def earlier_run() -> None:
    """What a run does at first: it makes the tables, or compares them with the contracts."""
    settings = Settings.load()
    settings.warehouse().ensure(list(load_contracts(settings.contracts).tables.values()))


@pytest.fixture
def _tables(deployment) -> None:
    earlier_run()


def by_hand(client: bigquery.Client, change: str) -> None:
    """Somebody replaces the staging table."""
    table = client.get_table("staging.orders")
    columns = {field.name: field for field in table.schema}
    if change == "type":
        columns["country"] = bigquery.SchemaField("country", "INTEGER", "REQUIRED")
    made = bigquery.Table(table.reference, list(columns.values()))
    made.time_partitioning = bigquery.TimePartitioning("MONTH" if change == "partitioning" else "DAY", "order_date")
    client.delete_table(table)
    client.create_table(made)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("type", "staging.orders.country is INTEGER REQUIRED, the contract says STRING REQUIRED"),
        pytest.param(
            "partitioning",
            "staging.orders is partitioned by MONTH of order_date, the contract says DAY of order_date",
            marks=pytest.mark.long,
        ),
    ],
)
@pytest.mark.usefixtures("_tables")
def test_a_table_changed_by_hand(deployment, dataops, fails, fails_in_a_step, bq_client, change, says):
    """What the message advises mends it."""
    by_hand(bq_client, change)
    line = fails("run")
    assert line.startswith(f"{deployment['DATAOPS_PROJECT']}/contracts/orders.odcs.yaml:8: the warehouse differs from")
    said = f"{says}; not by the contract: it was changed in the warehouse"
    assert f": {said}. Undo the change, in the contract or in the warehouse, or look at `dataops plan`" in line
    if change == "type":
        assert fails_in_a_step() == ("staging__orders", line)
    assert "`dataops apply --allow-breaking orders`" in line
    assert dataops("apply", "--allow-breaking", "orders")[0] == OK
    earlier_run()  # it finds nothing wrong


@pytest.mark.usefixtures("_tables")
def test_a_view_in_place_of_a_table(fails, bq_client):
    bq_client.delete_table("staging.orders")
    bq_client.query_and_wait("CREATE VIEW staging.orders AS SELECT 1 AS order_id")
    assert "differs from the contract: staging.orders is a VIEW, the contract wants a table." in fails("run")


# -- what only Google's own services answer ----------------------------------------------------------------------------

STORAGE, BIGQUERY = "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"
MAY_NOT_LIST = "loader does not have storage.objects.list access to the Google Cloud Storage bucket."
MAY_NOT_LOOK = "Access Denied: Dataset acme:dataops: Permission bigquery.datasets.get denied on dataset acme:dataops"


@pytest.mark.parametrize(
    ("service", "answer", "says"),
    [
        (
            STORAGE,
            (403, MAY_NOT_LIST),
            rf"can't list gs://\S+/lake: permission storage\.objects\.list on bucket \S+ is missing \(.*{MAY_NOT_LIST}",
        ),
        (
            BIGQUERY,
            (403, MAY_NOT_LOOK, "accessDenied"),
            r"can't prepare BigQuery project \S+: permission to make and change datasets and tables"
            rf" \(roles/bigquery\.dataEditor\) is missing \(.*{MAY_NOT_LOOK}\)\. Grant a role that has it",
        ),
        (
            BIGQUERY,
            (404, "Not found: Project acme", "notFound"),
            r"there is no project \S+, or not for this identity \(.*Not found: Project acme\): correct"
            r" DATAOPS_WAREHOUSE, or",
        ),
        (
            BIGQUERY,
            (400, "The project acme has not enabled BigQuery.", "invalid"),
            r"can't prepare BigQuery project \S+: .*The project acme has not enabled BigQuery\.",
        ),
        (
            BIGQUERY,
            (403, "Quota exceeded: too many dataset metadata update operations", "quotaExceeded"),
            r"can't prepare BigQuery project \S+: a quota is used up: .*Quota exceeded: too many dataset",
        ),
    ],
    ids=["bucket", "dataset", "project", "api", "quota"],
)
def test_a_refusal(fails, monkeypatch, service, answer, says):
    with refusing(*answer) as url:
        monkeypatch.setenv(service, url)
        assert re.match(says, fails("run"))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((403, "Access Denied: Project acme", "accessDenied"), r"permission bigquery\.jobs\.create is missing"),
        ((403, "Quota exceeded: bytes scanned", "quotaExceeded"), "a quota is used up: .*Quota exceeded"),
    ],
    ids=["permission", "quota"],
)
def test_the_scorecard_is_refused(fails, monkeypatch, answer, says):
    with refusing(*answer) as url:
        monkeypatch.setenv(BIGQUERY, url)
        assert re.match(rf"can't query BigQuery project \S+: {says}", fails("status"))


@pytest.fixture(scope="module")
def key() -> dict[str, str]:
    """A service account's key."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "private_key": pem.decode(),
        "client_email": "loader@acme.iam.gserviceaccount.com",
    }


REJECTED = r"Google rejects the credentials \(.*Invalid Credentials\)\. They may have expired"


@pytest.mark.parametrize(
    ("service", "path", "says"),
    [
        (STORAGE, "/token", rf"can't list gs://\S+: {REJECTED}"),
        (BIGQUERY, "/token", rf"can't prepare BigQuery project \S+: {REJECTED}"),
        (
            BIGQUERY,
            "/expired",
            r".*the Google credentials can't be used: .*expired or revoked.*\. They may have expired",
        ),
    ],
    ids=["bucket", "dataset", "no token"],
)
def test_credentials_that_have_expired(fails, monkeypatch, key, service, path, says):
    """The service rejects the token, or none is issued."""
    with refusing(401, "Invalid Credentials", "authError") as url:
        monkeypatch.setenv(service, url)
        monkeypatch.setenv("DATAOPS_CREDENTIALS", json.dumps(key | {"token_uri": url + path}))
        assert re.match(f"{says}: run `gcloud auth application-default login`", fails("run"))
