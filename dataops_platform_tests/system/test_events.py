"""Events as a user meets them: `dataops run` with Google's Pub/Sub emulator, and processes that are killed."""

from __future__ import annotations

import shutil
import signal

import pytest

from dataops_platform_tests.conftest import REPO, dataops
from dataops_platform_tests.messages import Mail
from dataops_platform_tests.readme import own_table_files

pytestmark = pytest.mark.cloud


@pytest.fixture
def mail(pubsub_server):
    return Mail(pubsub_server)


@pytest.fixture
def shop(tmp_path):
    """The README's own table, and the model that is published."""
    project = tmp_path / "shop"
    shutil.copytree(
        REPO / "dbt_project", project / "dbt_project", ignore=shutil.ignore_patterns("models", "tests.yml", "fct_*")
    )
    for path, text in own_table_files().items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    return project


def settings(mail):
    return mail.env | {"DATAOPS_EVENTS": mail.address}


DIES = """
import os, signal
from dataops_platform.{module} import {name}
{name}.{function} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_after_the_commit_loses_nothing(mail, shop, tmp_path):
    """Killed before it publishes; then before it writes down that it did, and all comes again, with the same ids.

    In between a topic that is missing: no run fails for it.
    """
    home = tmp_path / "home"

    def killed_at(module, name, function):
        code = DIES.format(module=module, name=name, function=function)
        done = dataops(["run"], home, shop, settings(mail), first=code)
        assert done.returncode == -signal.SIGKILL, done.stderr

    killed_at("orchestration", "alerting", "publish")
    assert mail.bodies() == []
    missing = dataops(["run"], home, shop, {"DATAOPS_EVENTS": "pubsub://acme-data/missing"} | mail.env)
    assert missing.returncode == 0, missing.stdout + missing.stderr
    assert missing.stderr == (
        "ERROR events: 3 of 3 were not published: DATAOPS_EVENTS: there is no topic projects/acme-data/topics/missing."
        " Create it (`gcloud pubsub topics create missing --project acme-data`), or correct the setting.\n"
    )
    killed_at("events", "outbox", "record")
    first = mail.bodies()
    again = dataops(["run"], home, shop, settings(mail))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing new" in again.stdout
    assert mail.bodies() == first
    events = [(body["event"], body["table"] or body["job"], body["partition"]) for body in first]
    assert set(events) == {
        ("quarantined", "staging.orders", "2024-05-02"),
        ("published", "production.daily_sales", "all"),
        ("run_finished", "pipeline", "2024-05-01..2024-05-02"),
    }
    assert len(events) == 3
    assert dataops(["run"], home, shop, settings(mail)).returncode == 0
    assert mail.received() == []


def test_what_is_no_topic(mail, shop, tmp_path):
    done = dataops(["run"], tmp_path / "home", shop, {"DATAOPS_EVENTS": "dataops-events"})
    assert done.returncode == 2
    assert done.stderr == "error: DATAOPS_EVENTS is 'dataops-events': write pubsub://<project>/<topic>\n"
