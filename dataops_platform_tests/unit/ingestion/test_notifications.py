"""Notifications of Cloud Storage: what they say, and what is no notification."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.ingestion.notifications import Landed, Notification, Unreadable, read
from dataops_platform.ingestion.notified import Held, Run, State, by_part, newest
from dataops_platform.pubsub import Received

GIVEN = {
    "eventType": "OBJECT_FINALIZE",
    "payloadFormat": "JSON_API_V1",
    "bucketId": "acme-landing",
    "objectId": "shop/orders/dt=2024-05-01/a.csv",
    "objectGeneration": "1714550400123456",
    "eventTime": "2024-05-01T08:00:00.125Z",
    "notificationConfig": "projects/_/buckets/acme-landing/notificationConfigs/1",
}
NOW = datetime(2024, 5, 2, 12, tzinfo=UTC)


def received(data: bytes = b'{"size": "12"}', **changes: str | None) -> Received:
    given = {name: text for name, text in (GIVEN | changes).items() if text is not None}
    return Received("handle", "1", data, given, NOW)


def test_an_object_that_was_written():
    assert read(received()) == Notification(
        "acme-landing", "shop/orders/dt=2024-05-01/a.csv", 1714550400123456, 1714550400125, 12
    )


def test_what_a_message_may_leave_out():
    """Notifications without a body, and without the time of the event."""
    told = read(received(b"", payloadFormat="NONE", eventTime=None))
    assert told is not None
    assert (told.size, told.written_ms) == (-1, int(NOW.timestamp() * 1000))


@pytest.mark.parametrize("event", ["OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"])
def test_what_is_no_new_object(event):
    assert read(received(eventType=event, objectGeneration="?")) is None


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        (b"", {"bucketId": None, "objectId": ""}, "attributes bucketId, objectId are missing"),
        (b"hello", dict.fromkeys(GIVEN), "attributes eventType, bucketId, objectId are missing"),
        (b"{}", {"objectGeneration": "new"}, "attribute objectGeneration is 'new', which is no number"),
        (b"{}", {"objectGeneration": None}, "attribute objectGeneration is '', which is no number"),
        (b"{}", {"eventTime": "yesterday"}, "attribute eventTime is 'yesterday', which is no time with a zone"),
        (b"{}", {"eventTime": "2024-05-01T08:00:00"}, "which is no time with a zone"),
        (b"{}", {}, "the body isn't the metadata of an object"),
        (b"[]", {}, "the body isn't the metadata of an object"),
        (b"\xff", {}, "the body isn't the metadata of an object"),
        (b'{"size": 1e999}', {}, "the body isn't the metadata of an object"),
        (b"[" * 100_000, {}, "the body isn't the metadata of an object"),
        (b"{}", {"objectGeneration": "9" * 5000}, "attribute objectGeneration is '9999"),
    ],
)
def test_what_can_not_be_read(data, changes, reason):
    with pytest.raises(Unreadable, match=reason):
        read(received(data, **changes))


NAMES = st.sampled_from([*GIVEN, "from"])
ODD = ("", "9" * 5000, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "-1", "٣", "\0")
WORDS = st.sampled_from([*GIVEN.values(), *ODD])


BODIES = st.sampled_from([b'{"size": "1"}', b'{"size": 1e999}', b'{"size": ' + b"9" * 5000 + b"}", b'{"a":' * 5000])


@given(st.dictionaries(NAMES, WORDS | st.text(max_size=20)), st.binary(max_size=20) | BODIES)
def test_whatever_comes_is_read_or_refused(attributes, data):
    """A message that raised anything else would come again for ever, and keep all others waiting."""
    try:
        told = read(Received("handle", "1", data, attributes, NOW))
    except Unreadable:
        return
    assert told is None or (told.name and told.generation >= 0)


def landed(written_ms: int, partition: str = "2024-05-01", handle: str = "h") -> Landed:
    return Landed("orders", partition, ("a", 1), written_ms, handle)


def test_a_run_stands_for_what_was_written_before():
    state = State({("orders", "2024-05-01"): Run(100, 0.0, "key")})
    assert state.covers(landed(100)) is not None
    assert state.covers(landed(101)) is None
    assert state.covers(landed(100, "2024-05-02")) is None


def test_only_what_is_safe_is_acknowledged_and_the_rest_is_let_go():
    held = Held()
    items = [landed(1, handle="sure"), landed(1, "2024-05-02", "unsure"), landed(1, "2024-05-03", "early")]
    held.add([*items, landed(1, "2024-05-04", "unknown"), landed(9, handle="later")])
    runs = {("orders", "2024-05-01"): Run(1, 0.0, "k", True), ("orders", "2024-05-02"): Run(1, 0.0, "k")}
    assert list(held.settle(State(runs, {("orders", "2024-05-03"): 1}))) == ["sure", "early"]
    assert list(held.settle(State(runs, {("orders", "2024-05-02"): 1}))) == []


def test_what_stands_for_nothing_any_more_is_left_out():
    old, now = NOW - timedelta(minutes=30), NOW.timestamp()
    runs = {
        ("a", "1"): Run(1, old.timestamp(), "sure, and half an hour old", True),
        ("a", "2"): Run(1, old.timestamp(), "never seen"),
        ("a", "3"): Run(1, now - 10, "not seen yet"),
        ("a", "4"): Run(1, (NOW - timedelta(hours=2)).timestamp(), "too old", True),
    }
    state = State(runs, {("a", "1"): 1, ("a", "3"): 1, ("a", "5"): 1})
    state.settle(NOW)
    assert set(state.runs) == {("a", "1"), ("a", "3")}
    assert set(state.early) == {("a", "3"), ("a", "5")}  # a run is sure for the first


def test_newer_objects_of_a_partition_keep_it_waiting():
    state = State({("a", "1"): Run(1, NOW.timestamp(), "k", True)}, {("a", "1"): 2})
    state.settle(NOW)
    assert state.early == {("a", "1"): 2}


def test_the_state_survives_as_text():
    state = State({("orders", "2024-05-01"): Run(5, 1.5, "orders|2024-05-01|x", True)}, {("orders", "2024-05-02"): 7})
    assert State.from_json(state.to_json()) == state
    assert State.from_json(None) == State() == State.from_json("")


@pytest.mark.parametrize("text", ["what?", "[]", '{"runs": {}}', json.dumps({"runs": {"a|1": {"x": 1}}, "early": {}})])
def test_a_text_that_is_no_state(text):
    with pytest.raises(ValueError, match="not the state of the sensor of notifications"):
        State.from_json(text)


def test_by_part():
    items = [landed(1), landed(3), landed(2, "2024-05-02")]
    assert {part: newest(found) for part, found in by_part(items).items()} == {
        ("orders", "2024-05-01"): 3, ("orders", "2024-05-02"): 2
    }  # fmt: skip
