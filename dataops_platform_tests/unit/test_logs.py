"""Logs as Cloud Logging reads them: one JSON object a line, without secrets."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import datetime
from types import SimpleNamespace

import pytest

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.logs import CloudFormatter, handler, install_logs, log_format
from dataops_platform.secrets import hide


def entry(level=logging.INFO, text="hello", *args, error=None, **extra):
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.getLogger("dataops.test").makeRecord(
        "dataops.test", level, "module.py", 7, text, args, info, "work", extra
    )
    line = CloudFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def test_the_fields_that_cloud_logging_knows():
    found = entry(logging.WARNING, "%s of %d", "one", 2)
    assert (found["severity"], found["message"]) == ("WARNING", "one of 2")
    assert datetime.fromisoformat(found["time"]).tzinfo is not None
    assert found["logging.googleapis.com/labels"] == {"logger": "dataops.test"}
    assert found["logging.googleapis.com/sourceLocation"] == {"file": "module.py", "line": "7", "function": "work"}


@pytest.mark.parametrize(
    ("level", "severity"),
    [(5, "DEFAULT"), (10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL")],
)
def test_severities(level, severity):
    assert entry(level)["severity"] == severity


def test_fields_of_ones_own():
    found = entry(fields={"table": "staging.orders", "rule": None, "run_id": "r1", "severity": "mine", "rows": 3})
    assert (found["table"], found["rows"], found["severity"]) == ("staging.orders", 3, "INFO")
    assert "rule" not in found
    assert found["logging.googleapis.com/labels"] == {
        "logger": "dataops.test", "run_id": "r1", "table": "staging.orders",
    }  # fmt: skip


def test_what_dagster_says_of_a_run():
    event = SimpleNamespace(event_type_value="STEP_SUCCESS", asset_key=SimpleNamespace(path=["staging", "orders"]))
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    meta = {"run_id": "r1", "job_name": "pipeline", "step_key": "s", "dagster_event": event, "job_tags": tags}
    found = entry(dagster_meta=meta)
    assert [found[name] for name in ("run_id", "job", "step", "event", "table", "partition")] == [
        "r1", "pipeline", "s", "STEP_SUCCESS", "staging.orders", "a..b",
    ]  # fmt: skip
    assert entry(dagster_meta=meta | {"job_tags": {"dagster/partition": "a"}})["partition"] == "a"
    assert "partition" not in entry(dagster_meta=meta | {"job_tags": {}})


def test_what_a_sensor_says():
    meta = {"repository_name": "__repository__", "name": "alerts", "orig_message": "anew"}
    found = entry(logging.WARNING, "__repository__ - alerts - anew", dagster_meta=meta)
    assert (found["message"], found["instigator"], found["severity"]) == ("anew", "alerts", "WARNING")
    assert "run_id" not in found
    of_a_run = {"run_id": "r1", "orig_message": "short"}
    assert entry(text="r1 - short", dagster_meta=of_a_run)["message"] == "r1 - short"


def test_a_step_says_what_it_is_about():
    """Where its event doesn't, as that of a failure, and where it has none, as progress."""
    meta = {"run_id": "r1", "step_key": "staging__orders__checks", "job_tags": {"dagster/partition": "a"}}
    failed = SimpleNamespace(event_type_value="STEP_FAILURE", asset_key=None, event_specific_data=object())
    for found in (entry(dagster_meta=meta), entry(dagster_meta=meta | {"dagster_event": failed})):
        assert (found["table"], found["partition"]) == ("staging.orders", "a")
    for step in ("deliveries", "own__report", None):
        assert "table" not in entry(dagster_meta=meta | {"step_key": step})


def test_a_check_and_a_materialisation_say_which_partition():
    key = SimpleNamespace(path=["staging", "orders"])
    meta = {"run_id": "r1", "step_key": "s", "job_tags": {"dagster/partition": "a"}}
    verdict = SimpleNamespace(asset_key=key, check_name="volume", partition="b")
    check = SimpleNamespace(event_type_value="ASSET_CHECK_EVALUATION", asset_key=None, event_specific_data=verdict)
    found = entry(dagster_meta=meta | {"dagster_event": check})
    assert (found["table"], found["rule"], found["partition"]) == ("staging.orders", "volume", "b")
    made = SimpleNamespace(event_type_value="ASSET_MATERIALIZATION", asset_key=key, partition="c")
    assert entry(dagster_meta=meta | {"dagster_event": made})["partition"] == "c"


def test_a_traceback_belongs_to_the_message():
    try:
        raise ValueError("broken")
    except ValueError as error:
        found = entry(logging.ERROR, "it failed", error=error)
    assert found["message"].startswith("it failed\nTraceback (most recent call last):")
    assert found["message"].endswith("ValueError: broken")


def test_secrets_are_hidden():
    hide('pass"word of the logs')
    found = entry(text='with pass"word of the logs', fields={"key": {"of": 'pass"word of the logs'}})
    assert (found["message"], found["key"]) == ("with ***", {"of": "***"})


def test_what_is_no_json():
    assert entry(fields={"moment": datetime(2024, 1, 1)})["moment"] == "2024-01-01 00:00:00"


@pytest.fixture
def _loggers():
    names = (None, "dataops", "dagster")
    before = [(logging.getLogger(n), logging.getLogger(n).handlers[:], logging.getLogger(n).propagate) for n in names]
    yield
    for logger, handlers, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate


@pytest.mark.usefixtures("_loggers")
def test_every_logger_of_the_process_writes_json(monkeypatch):
    stream, stdout = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logging.getLogger("dagster").handlers = [logging.StreamHandler(stdout)]
    logging.getLogger("dagster").propagate = False
    logging.getLogger().handlers = []
    install_logs("json")
    install_logs("json")  # again: nothing is written twice
    logging.getLogger("dataops.alerts").info("mine")
    logging.getLogger("somebody.else").warning("theirs")
    logging.getLogger("dagster").warning("dagster's")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["mine", "theirs"]
    assert [json.loads(line)["message"] for line in stdout.getvalue().splitlines()] == ["dagster's"]


@pytest.mark.usefixtures("_loggers")
def test_text(monkeypatch):
    stream = io.StringIO()
    install_logs("text")
    monkeypatch.setattr(sys, "stderr", stream)  # later than the handler: what is there when something is written counts
    logging.getLogger("dataops.alerts").error("no")
    assert stream.getvalue() == "ERROR no\n"
    assert handler("text").formatter is not None


def test_the_setting():
    assert log_format({}) == log_format({"DATAOPS_LOG_FORMAT": ""}) == "text"
    assert log_format({"DATAOPS_LOG_FORMAT": "json"}) == "json"
    with pytest.raises(ConfigError, match="DATAOPS_LOG_FORMAT is 'xml'; use one of text, json"):
        log_format({"DATAOPS_LOG_FORMAT": "xml"})
