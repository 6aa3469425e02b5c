"""Events from a real ledger, embedded and on BigQuery: each published at least once, in order, whoever dies when."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jsonschema_rs
import pyarrow as pa
import pytest
from google.api_core import exceptions as api

from dataops_platform.alerts import looking
from dataops_platform.alerts.subjects import Subjects
from dataops_platform.contracts.model import RuleKind
from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.contracts.types import Kind as Type
from dataops_platform.events import outbox
from dataops_platform.events.event import EventKind, schema
from dataops_platform.events.outbox import publish
from dataops_platform.google_errors import RETRY
from dataops_platform.identity import Identity
from dataops_platform.pubsub import Message, Topic
from dataops_platform.warehouse import ledger
from dataops_platform.warehouse.ledger import Refused, RunEnd, RunStatus, now
from dataops_platform_tests.cloud import ENGINES, engine_home, on_both
from dataops_platform_tests.messages import Mail
from dataops_platform_tests.support import DAY1, DAY2, daily, rule, table

pytestmark = pytest.mark.usefixtures("open_files")

ORDERS = replace(
    table(
        "orders",
        {"id": Type.INTEGER, "day": Type.DATE, "amount": Type.INTEGER},
        partitioning=daily(),
        rules=[rule("positive", RuleKind.RANGE, "amount", minimum=0)],
    ),
    owner="shop",
)
ABOUT = Subjects({"orders": ORDERS}, {"fct": ["orders"]})
ALL_ENGINES = pytest.mark.parametrize("home", ENGINES, indirect=True)
EMBEDDED = pytest.mark.parametrize("home", ["duckdb"], indirect=True)


@pytest.fixture
def home(request, tmp_path):
    made = engine_home(request, tmp_path)
    made.warehouse.ensure([ORDERS])
    return made


@pytest.fixture
def mail(pubsub_server):
    return Mail(pubsub_server)


class Kept:
    """A topic that keeps what is published to it; or fails, from the given number of calls on."""

    def __init__(self, name="projects/acme-data/topics/events"):
        self.name = name
        self.calls = []
        self.fails_after = None

    def publish(self, messages):
        if self.fails_after is not None and len(self.calls) >= self.fails_after:
            raise Unavailable("nobody is there")
        self.calls.append(list(messages))

    @property
    def messages(self):
        return [item for call in self.calls for item in call]


def topic_of(mail):
    return Topic(
        "DATAOPS_EVENTS", mail.topic, Identity(pubsub_emulator=mail.env["PUBSUB_EMULATOR_HOST"]).publisher_client
    )


def tell(home, topic):
    return publish(home.warehouse, topic, ABOUT, "staging")


def load(home, *amounts, day=DAY1, run_id="run1"):
    rows = [{"id": n, "day": day, "amount": amount} for n, amount in enumerate(amounts)]
    return home.load(ORDERS, [home.deliver(ORDERS, rows, partition=day)], run_id)


def published(home, partition, publication="p1", at=None):
    row = {
        "publication_id": publication, "model": "fct", "partition_key": partition, "data_version": "v1",
        "row_count": 3, "object_prefix": f"fct/{partition}/v1/", "run_id": "run1", "published_at": at or now(),
    }  # fmt: skip
    home.warehouse.append("publications", pa.Table.from_pylist([row], schema=ledger.schema("publications")))


def ended(home, run_id="run1", status=RunStatus.SUCCESS, failures=None, at=None):
    steps = ("raw__orders",)
    home.ledger.record_run_ends([RunEnd(run_id, "pipeline", "2024-01-01", status, steps, failures or {}, at or now())])


@pytest.mark.cloud
@on_both
def test_what_happened_is_published_as_its_schema_says(home, mail):
    load(home, 5, -5)
    broken = home.deliver(ORDERS, [{"id": 1, "day": DAY2, "amount": 1}], partition=DAY2)
    missing = Refused("orders", str(DAY2), "raw_orders/x.parquet: the object is missing", "run1", broken.manifest)
    assert home.ledger.refuse([missing]) == [False]
    published(home, "2024-01-01")
    ended(home, status=RunStatus.FAILURE, failures={"staging__orders": "1 delivery was refused"})
    topic = topic_of(mail)
    assert tell(home, topic).alerts == {mail.topic: 4}
    received = mail.received()
    bodies = {item.message.attributes["event"]: item for item in received}
    found = {}
    for name, item in bodies.items():
        found[name] = json.loads(item.message.data)
        jsonschema_rs.validator_for(schema(EventKind(name)), validate_formats=True).validate(found[name])
        attributes = dict(item.message.attributes)
        assert attributes["id"] == found[name]["id"]
        assert attributes["version"] == "1"
    assert set(found) == {str(kind) for kind in EventKind}
    assert {name: dict(item.message.attributes) | {"id": ""} for name, item in bodies.items()} == {
        "published": attributes_of("published", "info", table="production.fct", partition="2024-01-01", owner="shop"),
        "refused": attributes_of("refused", "error", table="staging.orders", partition="2024-01-02", owner="shop"),
        "quarantined": attributes_of(
            "quarantined", "warning", table="staging.orders", partition="2024-01-01", owner="shop"
        ),
        "run_finished": attributes_of(
            "run_finished", "error", partition="2024-01-01", owner="shop", job="pipeline", outcome="failure"
        ),
    }
    keys = {item.message.ordering_key for item in received}
    assert keys == {"production.fct", "staging.orders", "job/pipeline"}
    rows = ("rows_read", "rows_loaded", "rows_quarantined", "rows_superseded")
    assert [found["quarantined"][name] for name in rows] == [2, 1, 1, 0]
    assert found["published"]["object_prefix"] == "fct/2024-01-01/v1/"
    assert found["refused"]["manifest"] == broken.manifest
    assert found["run_finished"]["reason"] == "staging/orders: 1 delivery was refused"
    assert tell(home, topic).alerts == {mail.topic: 0}
    assert mail.received() == []


def attributes_of(event, severity, **more):
    return {"event": event, "severity": severity, "environment": "staging", "version": "1", "id": "", **more}


@ALL_ENGINES
def test_what_is_refused_again_is_no_news(home):
    """Of a delivery, of a file that can't become one, and of a partition of a model; two runs may say it at once."""
    topic = Kept()
    landed, gated = {"file": "gs://acme/orders/a.csv#1"}, {"data_version": "v1"}
    steps = [
        ("orders", "gone", {"manifest": "m"}, 1),
        ("orders", "gone", {"manifest": "m"}, 0),
        ("orders", "damaged", {"manifest": "m"}, 1),
        ("orders", "no csv", landed, 1),
        ("orders", "no csv", landed, 0),
        ("orders", "no csv", {"file": "gs://acme/orders/a.csv#2"}, 1),
        ("production.fct", "rule volume of staging.orders failed", gated, 1),
        ("production.fct", "rule volume of staging.orders failed", gated, 0),
        ("production.fct", "rule volume of staging.orders failed", {"data_version": "v2"}, 1),
    ]
    for name, reason, what, count in steps:
        row = [Refused(name, "2024-01-01", reason, "r", **what)]
        home.warehouse.append("refusals", ledger.rows_of("refusals", row))
        assert tell(home, topic).alerts == {topic.name: count}
        assert home.ledger.refuse(row) == [True]
    bodies = [json.loads(item.data) for item in topic.messages]
    for body in bodies:
        jsonschema_rs.validator_for(schema(EventKind.REFUSED), validate_formats=True).validate(body)
    assert {(b["table"], b["owner"], b["manifest"], b["file"], b["data_version"]) for b in bodies} == {
        ("staging.orders", "shop", "m", None, None),
        ("staging.orders", "shop", None, "gs://acme/orders/a.csv#1", None),
        ("staging.orders", "shop", None, "gs://acme/orders/a.csv#2", None),
        ("production.fct", "shop", None, None, "v1"),
        ("production.fct", "shop", None, None, "v2"),
    }


@pytest.mark.cloud
@EMBEDDED
def test_events_of_a_table_come_in_the_order_in_which_they_happened(home, mail, monkeypatch):
    """Also over several calls, and rounds."""
    monkeypatch.setattr("dataops_platform.pubsub.AT_ONCE", 7)
    monkeypatch.setattr(outbox, "AT_ONCE", 25)
    start = now()
    for number in reversed(range(60)):
        published(home, f"2024-02-{number:02d}", f"p{number:02d}", start + timedelta(seconds=number))
    for number in range(5):
        ended(home, f"run{number}", at=start + timedelta(seconds=number))
    assert tell(home, topic_of(mail)).alerts == {mail.topic: 65}
    bodies = mail.bodies()
    of_table = [body["publication_id"] for body in bodies if body["event"] == "published"]
    assert of_table == [f"p{number:02d}" for number in range(60)]
    assert [body["run_id"] for body in bodies if body["event"] == "run_finished"] == [f"run{n}" for n in range(5)]


@EMBEDDED
def test_nothing_overtakes_what_failed(home, monkeypatch):
    monkeypatch.setattr(outbox, "AT_ONCE", 1)
    topic, start = Kept(), now()
    for number in range(3):
        published(home, f"2024-01-0{number + 1}", f"p{number}", start + timedelta(seconds=number))
    topic.fails_after = 1
    sent = tell(home, topic)
    assert (sent.alerts, sent.failed) == ({topic.name: 1}, {topic.name: "nobody is there"})
    assert len(topic.messages) == 1
    topic.fails_after = None
    assert tell(home, topic).alerts == {topic.name: 2}  # what was published isn't published again
    assert [m.attributes["partition"] for m in topic.messages] == ["2024-01-01", "2024-01-02", "2024-01-03"]


@ALL_ENGINES
def test_a_process_that_dies_before_it_writes_down_what_it_published_publishes_it_again(home, monkeypatch):
    topic = Kept()
    load(home, -5)

    def dies(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            tell(home, topic)
    assert tell(home, topic).alerts == {topic.name: 1}
    first, second = topic.messages
    assert first == second  # its id, too: the receiver can tell
    assert tell(home, topic).alerts == {topic.name: 0}


@pytest.mark.cloud
@EMBEDDED
def test_a_topic_that_is_missing_loses_nothing(home, pubsub_server):
    mail = Mail(pubsub_server, topic=False)
    load(home, -5)
    sent = tell(home, topic_of(mail))
    assert sent.alerts == {mail.topic: 0}
    assert sent.failed == {
        mail.topic: f"DATAOPS_EVENTS: there is no topic {mail.topic}. Create it (`gcloud pubsub topics create events"
        f" --project {mail.project}`), or correct the setting."
    }
    mail.create()
    assert tell(home, topic_of(mail)).alerts == {mail.topic: 1}
    assert [body["event"] for body in mail.bodies()] == ["quarantined"]


@EMBEDDED
def test_a_service_that_does_not_answer_is_an_error_in_words(home, monkeypatch):
    monkeypatch.setattr("dataops_platform.pubsub.PATIENCE", 1.0)
    monkeypatch.setattr("dataops_platform.pubsub._RETRY", RETRY.with_timeout(1.0))
    topic = Topic("DATAOPS_EVENTS", "projects/p/topics/t", Identity(pubsub_emulator="127.0.0.1:1").publisher_client)
    with pytest.raises(Unavailable, match=r"can't publish to projects/p/topics/t: no good answer after several tries"):
        topic.publish([Message(b"{}", {}, "key")])


@EMBEDDED
def test_what_is_old_is_not_looked_at_again(home, monkeypatch):
    """What is written down late is found nevertheless: a day before the last look is looked at again."""
    topic = Kept()
    load(home, -5)
    assert tell(home, topic).alerts == {topic.name: 1}
    later = now() + looking.OVERLAP + timedelta(hours=2)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "now", lambda: later)
        published(home, "2024-01-01", "late", now())
        assert tell(home, topic).alerts == {topic.name: 1}
        published(home, "2024-01-02", "later", later - looking.OVERLAP + timedelta(minutes=1))
        assert tell(home, topic).alerts == {topic.name: 1}
        published(home, "2024-01-03", "too late", later - looking.OVERLAP - timedelta(minutes=1))
        assert tell(home, topic).alerts == {topic.name: 0}


@EMBEDDED
def test_a_run_that_is_recorded_long_after_it_ended(home):
    topic = Kept()
    assert tell(home, topic).alerts == {topic.name: 0}
    ended(home, at=datetime.now(UTC) - timedelta(days=3))
    assert tell(home, topic).alerts == {topic.name: 1}
    assert tell(home, topic).alerts == {topic.name: 0}


@EMBEDDED
def test_topics_are_told_apart(home):
    load(home, -5)
    one, other = Kept(), Kept("projects/acme-data/topics/other")
    assert tell(home, one).alerts == {one.name: 1}
    assert tell(home, other).alerts == {other.name: 1}
    assert [m.attributes["id"] for m in one.messages] == [m.attributes["id"] for m in other.messages]


def test_a_topic_that_may_not_be_published_to():
    """The emulator has no permissions; a client that answers as the service does stands for it."""

    class Refusing:
        def publish(self, **_):
            raise api.PermissionDenied("User not authorized to perform this action.")

    topic = Topic("DATAOPS_EVENTS", "projects/p/topics/t", Refusing)
    with pytest.raises(ConfigError, match=r"permission pubsub\.topics\.publish on projects/p/topics/t is missing"):
        topic.publish([Message(b"{}", {}, "key")])
