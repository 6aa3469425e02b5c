"""Planted secrets, and runs that fail in every way that would show them: nothing that is written holds one.

The secrets come from the environment, a mounted file and Secret Manager. Looked at is all that is kept below
DATAOPS_HOME, all that is printed, and what the UI's server answers. One run is made by `dataops`, one by Dagster's own
command from the code location, whose steps log to their process's output too, as those that the UI starts do.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.error
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from dataops_platform_tests import browser
from dataops_platform_tests.conftest import dataops, environment
from dataops_platform_tests.planted import written
from dataops_platform_tests.readme import own_table_files
from dataops_platform_tests.secret_manager import serving, version

PEM_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
KEY = {
    "type": "service_account",
    "project_id": "shop",
    "private_key_id": "1234",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{PEM_LINE}\nMzEfYyjiWA4R4/M2bS1GB4t7\n-----END PRIVATE KEY-----\n",
    "client_email": "loader@shop.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}
CREDENTIALS = base64.b64encode(json.dumps(KEY).encode()).decode()
MOUNTED = 'm0unted "quoted" token/with+ümlaut\'s'
MANAGED = "s3cret of the manager & more"
SECRETS = (CREDENTIALS, json.dumps(KEY), KEY["private_key"], PEM_LINE, MOUNTED, MANAGED)

ASSETS = '''
import base64
import json
import logging
import sys

import dagster as dg
import pandas as pd

from dataops_platform.secrets import Variables
from dataops_platform.settings import Settings

KEY = Settings.load().identity.key.reveal()
TOKEN = Variables().secret("SHOP_TOKEN").reveal()
PASSWORD = Variables()["SHOP_PASSWORD"]
ALL = f"{KEY} {TOKEN} {PASSWORD}"


@dg.asset(check_specs=[dg.AssetCheckSpec("shown", asset="talks")])
def talks(context):
    context.log.info(f"logged {ALL}")
    logging.getLogger("shop").warning("warned %s", TOKEN)
    try:
        raise LookupError(PASSWORD)
    except LookupError:
        context.log.exception("caught")
    print("printed", KEY, TOKEN, PASSWORD)
    print("printed", ALL, file=sys.stderr)
    url = dg.MetadataValue.url(f"https://shop/?token={TOKEN}")
    check = dg.AssetCheckResult(
        passed=False, severity=dg.AssetCheckSeverity.WARN, description=f"checked {TOKEN}", metadata={"seen": PASSWORD}
    )
    yield dg.MaterializeResult(
        metadata={"text": ALL, "link": url, "json": {TOKEN: [PASSWORD, {"key": KEY}]}, "rows": 3}, check_results=[check]
    )


@dg.asset
def raises():
    try:
        raise ConnectionError("no login with " + json.loads(base64.b64decode(KEY))["private_key"])
    except ConnectionError as error:
        raise RuntimeError(f"can't ask with {ALL}") from error


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
def retries():
    raise OSError(f"{PASSWORD} is wrong")


@dg.asset
def fails():
    raise dg.Failure(f"no good: {TOKEN}", metadata={"tried": PASSWORD})


@dg.asset(key=["shop", "mixed"], io_manager_key="warehouse_io_manager")
def mixed() -> pd.DataFrame:
    """The platform's own step fails to write this, with the value in the error's text."""
    return pd.DataFrame({"n": [1, TOKEN]})
'''

DBT = {
    "dbt_project.yml": """
        name: shop
        version: 1.0.0
        profile: shop
        model-paths: ["models", "{{ env_var('DATAOPS_DBT_SOURCES') }}"]
    """,
    "profiles.yml": """
        shop:
          target: local
          outputs:
            local: {type: duckdb, path: "{{ env_var('DATAOPS_WAREHOUSE_PATH') }}", schema: analytics, keep_open: true}
    """,
    # The error's text has what couldn't be converted.
    "models/numbers.sql": """
        {{ config(materialized='table') }}
        select content::integer as n from read_text('{{ env_var("SHOP_TOKEN_FILE") }}')
    """,
}


UNEXPECTED, WRONG = 3, 2


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The README's own table, with assets and a model that can't keep a secret."""
    project = tmp_path_factory.mktemp("shop")
    files = {path: text for path, text in own_table_files().items() if not path.startswith("dbt_project")}
    files |= {f"dbt_project/{path}": textwrap.dedent(text) for path, text in DBT.items()}
    for path, text in (files | {"shop_assets.py": ASSETS}).items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    return project


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The environment with the secrets, while Secret Manager answers."""
    mounted = tmp_path_factory.mktemp("run") / "token"
    mounted.write_text(MOUNTED + "\n")
    with serving() as manager:
        manager.answers = [version(MANAGED)]
        yield {
            "DATAOPS_ASSETS": "shop_assets",
            "DATAOPS_CREDENTIALS": CREDENTIALS,
            "DATAOPS_SECRET_MANAGER_ENDPOINT": manager.url,
            "SHOP_TOKEN": f"file://{mounted}",
            "SHOP_TOKEN_FILE": str(mounted),
            "SHOP_PASSWORD": "sm://shop/password",
            "DBT_LOG_LEVEL_FILE": "debug",
        }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def printed(shop, settings, home):
    """What two runs print: of everything, and of the project's own assets with Dagster's command."""
    first = dataops(["run"], home, shop, settings)
    assert first.returncode == UNEXPECTED, first.stdout + first.stderr
    second = dagster(
        ["asset", "materialize", "-m", "dataops_platform.definitions", "--select", "talks,raises,retries,fails"],
        home, shop, settings,
    )  # fmt: skip
    assert "Traceback" not in first.stderr
    return "".join([first.stdout, first.stderr, second.stdout, second.stderr])


def dagster_environment(home, shop, settings):
    own = {"DAGSTER_HOME": str(home / "dagster"), "DATAOPS_EVENT_LOG": str(home / "dagster/events")}
    return environment(home, shop, **settings) | own


def dagster(arguments, home, shop, settings):
    command = [str(Path(sys.executable).with_name("dagster")), *arguments]
    env = dagster_environment(home, shop, settings)
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=120)


def answering(ui):
    try:
        return ui.query("{version}")
    except urllib.error.URLError:
        return None


@contextmanager
def webserver(home, shop, settings, log):
    """The UI's server alone, which shows the runs there were: code location and daemon take ten times as long."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "--port", str(port), "--empty-workspace"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=dagster_environment(home, shop, settings), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        ui = browser.UI(f"http://127.0.0.1:{port}", process.pid)
        deadline = time.monotonic() + browser.STARTED
        while not answering(ui):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield ui
    finally:
        process.terminate()
        process.wait(20)


EVENTS = """
query($id: ID!) {
  logsForRun(runId: $id) {... on EventConnection {events {
    __typename
    ... on MessageEvent {message stepKey}
    ... on DisplayableEvent {label description metadataEntries {...Metadata}}
    ... on ErrorEvent {error {...Error}}
    ... on ExecutionStepFailureEvent {failureMetadata {label description metadataEntries {...Metadata}}}
    ... on AssetCheckEvaluationEvent {evaluation {description metadataEntries {...Metadata}}}
    ... on LogsCapturedEvent {fileKey}
  }}}
  runOrError(runId: $id) {... on Run {tags {key value} runConfigYaml}}
}
fragment Error on PythonError {message stack className errorChain {isExplicitLink error {message stack className}}}
fragment Metadata on MetadataEntry {
  __typename label description
  ... on TextMetadataEntry {text} ... on JsonMetadataEntry {jsonString} ... on UrlMetadataEntry {url}
  ... on IntMetadataEntry {intValue}
}
"""
OUTPUT = "query($key: [String!]!) {capturedLogs(logKey: $key) {stdout stderr}}"


def answers(ui, run):
    """What the UI's server says of a run: its events, and its steps' output."""
    events = ui.query(EVENTS, id=run)["logsForRun"]["events"]
    keys = [event["fileKey"] for event in events if "fileKey" in event]
    return events, [ui.query(OUTPUT, key=[run, "compute_logs", key])["capturedLogs"] for key in keys]


def secrets_in(text):
    """Which secrets a text shows, in whatever form."""
    return {secret[:12] for secret in SECRETS for form in written(secret) if form in text}


def everything_in(home):
    """Where → what is there; of databases, where a long value is spread over pages, also every row."""
    for path in filter(Path.is_file, home.rglob("*")):
        name = str(path.relative_to(home))
        yield name, path.read_bytes().decode(errors="replace")
        if path.suffix == ".db":
            with sqlite3.connect(path) as connection:
                yield from rows(name, connection, "SELECT name FROM sqlite_master WHERE type = 'table'")
        elif path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                yield from rows(
                    name, connection, "SELECT table_schema || '.' || table_name FROM information_schema.tables"
                )


def rows(name, connection, tables):
    for (table,) in connection.execute(tables).fetchall():
        yield f"{name} {table}", "\n".join(map(str, connection.execute(f"SELECT * FROM {table}").fetchall()))


def test_nothing_is_kept(printed, home):
    found = dict(everything_in(home))
    assert {place: shown for place, text in found.items() if (shown := secrets_in(text))} == {}
    # It was looked at where it would have been.
    for place, expected in (
        ("dagster/events/event_log.db event_logs", "ConnectionError: no login with ***"),
        ("dagster/events/event_log.db asset_keys", "https://shop/?token=***"),
        ("dbt/logs/dbt.log", "Could not convert string '***"),
        ("warehouse.duckdb dataops.loads", "raw_orders"),
    ):
        assert expected in found[place], place
    assert sum("printed *** *** ***" in text for place, text in found.items() if "compute_logs" in place) == 4


def test_nothing_is_printed(printed):
    assert secrets_in(printed) == set()
    for text in (
        "printed *** *** ***",
        "warned ***",
        "fails failed: no good: ***",
        "ArrowInvalid: ('Could not convert \\'***\\' with type str",
    ):
        assert text in printed, printed
    # Once by each command, the second time with all of Dagster's log; and as an alert, whose channel is the log.
    assert printed.count("RuntimeError: can't ask with *** *** ***") == 3
    assert printed.count("ConnectionError: no login with ***") == 2
    assert printed.count('raise RuntimeError(f"can\'t ask with {ALL}") from error') == 2
    assert "talks - logged *** *** ***" in printed
    assert "raise LookupError(PASSWORD)\nLookupError: ***" in printed


def test_nothing_is_shown_by_the_ui(printed, shop, settings, home, tmp_path):
    log = tmp_path / "log"
    with webserver(home, shop, settings, log) as ui:
        runs = ui.query("{runsOrError {... on Runs {results {runId status}}}}")["runsOrError"]["results"]
        assert [run["status"] for run in runs] == ["FAILURE", "FAILURE"]
        for run in runs:
            everything_is_hidden(*answers(ui, run["runId"]))
    assert secrets_in(log.read_text()) == set()


def everything_is_hidden(events, output):
    text = json.dumps([events, output], ensure_ascii=False)
    assert secrets_in(text) | secrets_in(json.dumps(events)) == set()
    assert [out["stdout"].count("printed *** *** ***") for out in output] == [1]
    by_kind = {(event["__typename"], event.get("stepKey")): event for event in events}
    failure = by_kind["ExecutionStepFailureEvent", "raises"]
    assert failure["error"]["className"] == "DagsterExecutionStepExecutionError"
    chain = [link["error"] for link in failure["error"]["errorChain"]]
    assert [(error["className"], error["message"]) for error in chain] == [
        ("RuntimeError", "RuntimeError: can't ask with *** *** ***\n"),
        ("ConnectionError", "ConnectionError: no login with ***\n"),
    ]
    assert all("shop_assets.py" in error["stack"][-1] for error in chain)
    failure = by_kind["ExecutionStepFailureEvent", "fails"]
    assert failure["failureMetadata"]["description"] == "no good: ***"
    assert [entry["text"] for entry in failure["failureMetadata"]["metadataEntries"]] == ["***"]
    assert "ExecutionStepUpForRetryEvent" in text
    made = by_kind["MaterializationEvent", "talks"]["metadataEntries"]
    assert [(entry["label"], entry.get("text"), entry.get("url"), entry.get("jsonString")) for entry in made] == [
        ("text", "*** *** ***", None, None),
        ("link", None, "https://shop/?token=***", None),
        ("json", None, None, '{"***": ["***", {"key": "***"}]}'),
        ("rows", None, None, None),
    ]
    check = by_kind["AssetCheckEvaluationEvent", "talks"]["evaluation"]
    assert (check["description"], check["metadataEntries"][0]["text"]) == ("checked ***", "***")
    logged = [event["message"] for event in events if event["__typename"] == "LogMessageEvent"]
    assert "logged *** *** ***" in logged


def test_a_setting_that_can_not_be_used_is_not_shown(shop, settings, tmp_path):
    done = dataops(["status"], tmp_path / "home", shop, settings | {"DATAOPS_LOCK_WAIT": "sm://shop/password"})
    assert done.returncode == WRONG
    assert done.stdout == ""
    assert done.stderr == "error: DATAOPS_LOCK_WAIT is '***': write a number of seconds, like 15\n"


def test_a_code_location_that_can_not_be_loaded_shows_nothing(shop, settings, tmp_path):
    """What it raises is shown in the UI; the log isn't redacted yet."""
    env = environment(tmp_path / "home", shop, **settings, DATAOPS_LOCK_WAIT="sm://shop/password")
    command = [sys.executable, "-c", "import dataops_platform.definitions"]
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=120)
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ConfigError: DATAOPS_LOCK_WAIT is '***': write a number of seconds, like 15\n")
    assert secrets_in(done.stderr) == set()


def test_a_model_can_not_read_a_secret(shop, settings, tmp_path):
    """dbt would write it into compiled SQL and its parse cache: the variable isn't there."""
    project = shutil.copytree(shop, tmp_path / "shop")
    (project / "dbt_project/models/numbers.sql").write_text("select '{{ env_var(\"DATAOPS_CREDENTIALS\") }}' as n")
    done = dataops(["run"], tmp_path / "home", project, settings)
    assert done.returncode == WRONG, done.stdout + done.stderr
    assert "Env var required but not provided: 'DATAOPS_CREDENTIALS'" in done.stderr
    found = {place for place, text in everything_in(tmp_path / "home") if secrets_in(text)}
    assert found | secrets_in(done.stdout + done.stderr) == set()


LAUNCH = """
mutation($job: String!, $location: String!, $repository: String!, $assets: [AssetKeyInput!]!) {
  launchRun(executionParams: {selector: {
    jobName: $job, repositoryLocationName: $location, repositoryName: $repository, assetSelection: $assets
  }}) {... on LaunchRunSuccess {run {runId}}}
}
"""


@pytest.mark.long
def test_nothing_of_a_run_that_the_ui_starts(shop, settings, tmp_path):
    home, log = tmp_path / "home", tmp_path / "log"
    with browser.serve(environment(home, shop, **settings), log) as ui:
        where = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"
        (repository,) = ui.query(where)["repositoriesOrError"]["nodes"]
        launched = ui.query(
            LAUNCH, job="__ASSET_JOB", location=repository["location"]["name"], repository=repository["name"],
            assets=[{"path": [name]} for name in ("talks", "raises", "retries", "fails")],
        )  # fmt: skip
        run = launched["launchRun"]["run"]["runId"]
        assert ui.finished(run) == "FAILURE"
        everything_is_hidden(*answers(ui, run))
    found = dict(everything_in(home)) | {"the server's log": log.read_text()}
    assert {place: shown for place, text in found.items() if (shown := secrets_in(text))} == {}
