"""What people and programs read of alerts."""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace

import jsonschema_rs
import pytest

from dataops_platform.alerts.channels import LogChannel, slack_text
from dataops_platform.alerts.events import TAKEN_AWAY, Alert, Kind, Status
from dataops_platform.alerts.message import LINES, LISTED, body, compose, lines, link
from dataops_platform.contracts.model import Severity
from dataops_platform_tests import readme
from dataops_platform_tests.support import moment

FAILED = Alert(
    key="rule/staging.orders/2024-01-01/amounts",
    status=Status.OPEN,
    fingerprint="f",
    kind=Kind.CHECK_FAILED,
    severity=Severity.ERROR,
    table="staging.orders",
    partition="2024-01-01",
    rule="amounts",
    observed="3",
    expected="mustBe 0",
    run_id="run1",
    happened_at=moment(1),
    owner="shop",
)
RUN = replace(FAILED, key="run/pipeline/all", kind=Kind.RUN_FAILED, table="pipeline", partition="all", rule=None)
UI = "https://dagster.acme.com"


def days(number, **changes):
    return [
        replace(FAILED, key=f"rule/{day}/{changes}", partition=f"2024-{1 + day // 28:02}-{1 + day % 28:02}", **changes)
        for day in range(number)
    ]


def message(*alerts, ui=None):
    return compose("webhook", "local", ui, alerts, moment(9))


def texts(*alerts):
    return [line.text for line in lines(message(*alerts))]


def test_a_line_says_what_where_and_whose():
    assert texts(FAILED) == ["staging.orders amounts failed for 2024-01-01: observed 3, expected mustBe 0 (owner shop)"]
    assert texts(replace(RUN, observed="a: no", expected="the run succeeds", owner=None)) == [
        "pipeline: the run failed: observed a: no, expected the run succeeds"
    ]


def test_what_was_refused_is_loaded_or_taken_away():
    refused = replace(RUN, kind=Kind.DELIVERY_REFUSED, status=Status.RECOVERED, table="staging.orders", owner=None)
    assert texts(replace(refused, observed="loaded")) == [
        "staging.orders: what was refused, or a later delivery, is loaded"
    ]
    said = "staging.orders: what was refused is delivered by now, or isn't there any more"
    assert texts(replace(refused, observed=TAKEN_AWAY)) == [said]


def test_partitions_of_a_rule_share_a_line():
    assert texts(*days(40)) == [
        "staging.orders amounts failed for 40 partitions, 2024-01-01 to 2024-02-12:"
        " first observed 3, expected mustBe 0 (owner shop)"
    ]
    well = [replace(alert, status=Status.RECOVERED) for alert in days(2)]
    assert texts(*well, FAILED)[1] == (
        "staging.orders amounts passes again for 2 partitions, 2024-01-01 to 2024-01-02 (owner shop)"
    )


def test_a_message_is_bounded_and_no_rule_hides_another():
    alerts = [*days(400), *days(1, rule="rare"), *days(60, rule="other", severity=Severity.WARNING)]
    made = body(message(*alerts))
    listed = made["alerts"]
    assert (len(listed), made["omitted"], made["open"]) == (LISTED, len(alerts) - LISTED, len(alerts))
    assert [sum(a["rule"] == name for a in listed) for name in ("amounts", "rare", "other")] == [25, 1, 24]
    many = [replace(FAILED, key=str(n), rule=f"r{n:03}") for n in range(LINES + 7)]
    assert len(lines(message(*many))) == LINES + 7  # the log has them all
    assert slack_text(message(*many)).count("\n") == LINES + 1
    assert slack_text(message(*many)).endswith("… 7 more: `dataops status` lists all that failed")


def test_the_same_news_has_the_same_id():
    assert message(FAILED, RUN).id == message(RUN, FAILED).id
    assert message(FAILED).id == message(replace(FAILED, run_id="run2", happened_at=moment(2))).id
    assert message(FAILED).id != compose("webhook", "local", None, [FAILED], moment(9), moment(2)).id
    assert message(FAILED).id != message(replace(FAILED, fingerprint="g")).id
    assert message(FAILED).id != message(replace(FAILED, status=Status.RECOVERED)).id


def test_links():
    assert link(FAILED, None) is None
    assert link(FAILED, UI) == f"{UI}/assets/staging/orders?view=checks&checkDetail=amounts"
    assert link(RUN, UI) == f"{UI}/runs/run1"
    assert link(replace(FAILED, table="sales", rule="sales__unique"), UI) == f"{UI}/runs/run1"
    by_hand = replace(RUN, kind=Kind.DELIVERY_REFUSED, table="staging.orders", run_id="by-hand-1")
    assert link(by_hand, UI) == f"{UI}/assets/raw/orders"  # no run found it


def test_slack_shows_text_as_text():
    made = slack_text(message(replace(FAILED, observed="<b> & co"), ui=UI))
    assert made.splitlines()[0] == "*dataops local*: 1 problem"
    assert "observed &lt;b&gt; &amp; co" in made
    assert f"<{UI}/assets/staging/orders?view=checks&checkDetail=amounts|open>" in made


class Kept(logging.Handler):
    """Keeps records. A handler of its own: others come and go with what else ran in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept(monkeypatch):
    """What is logged."""
    kept, logger = Kept(), logging.getLogger("dataops.alerts")
    monkeypatch.setattr(logger, "handlers", [kept])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # of what is enabled
    return kept


def test_the_log_of_programs_has_a_record_for_each_alert(kept):
    found = [replace(alert, observed=str(number), run_id=f"run{number}") for number, alert in enumerate(days(3))]
    LogChannel(each=True).send(message(*found))
    names = ("table", "partition", "rule", "observed", "expected", "run_id")
    assert [tuple(r.fields[name] for name in names) for r in kept.records] == [
        ("staging.orders", f"2024-01-0{n + 1}", "amounts", f"{n}", "mustBe 0", f"run{n}") for n in range(3)
    ]
    assert [r.getMessage() for r in kept.records] == [texts(alert)[0] for alert in found]


def test_the_log_has_a_record_for_each_line(kept):
    warning = replace(FAILED, key="w", rule="w", severity=Severity.WARNING)
    well = replace(FAILED, key="x", rule="x", status=Status.RECOVERED)
    LogChannel().send(message(FAILED, warning, well, ui=UI))
    assert [(r.levelname, r.fields["rule"]) for r in kept.records] == [
        ("ERROR", "amounts"), ("WARNING", "w"), ("INFO", "x"),
    ]  # fmt: skip
    fields = kept.records[0].fields
    assert (fields["table"], fields["partition"], fields["run_id"]) == ("staging.orders", "2024-01-01", "run1")
    assert kept.records[0].getMessage() == texts(FAILED)[0]


# -- the webhook's schema ---------------------------------------------------------------------------------------------


def documented():
    """The schema as docs/alerts.md has it."""
    (block,) = (b for b in readme.blocks(readme.REPO / "docs" / "alerts.md") if b.language == "json")
    return json.loads(block.text)


def strict(schema):
    """The same, with no fields but those that are documented."""
    closed = copy.deepcopy(schema)
    closed["additionalProperties"] = closed["properties"]["alerts"]["items"]["additionalProperties"] = False
    return jsonschema_rs.validator_for(closed, validate_formats=True)


@pytest.mark.parametrize(
    "alerts",
    [
        [replace(FAILED, kind=kind, status=status, severity=severity)]
        for kind in Kind
        for status in Status
        for severity in Severity
    ]
    + [days(400), [replace(RUN, owner=None)]],
)
@pytest.mark.parametrize("ui", [None, UI])
def test_a_body_is_as_documented(alerts, ui):
    made = json.loads(json.dumps(body(message(*alerts, ui=ui))))
    strict(documented()).validate(made)


def test_the_schema_asks_for_all_that_it_describes():
    schema = documented()
    items = schema["properties"]["alerts"]["items"]
    assert set(schema["required"]) == set(schema["properties"])
    assert set(items["required"]) == set(items["properties"])
    made = body(message(FAILED))
    for changed in (made | {"id": 1}, made | {"more": 1}, {k: v for k, v in made.items() if k != "open"}):
        assert not strict(schema).is_valid(changed)
