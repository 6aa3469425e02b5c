"""Events as messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import jsonschema_rs
import pytest

from dataops_platform.events.event import Event, EventKind, message, schema
from dataops_platform_tests import readme

EVENT = Event(
    EventKind.QUARANTINED,
    ("load", "2024-05-03T07:00:00+00:00"),
    "warning",
    "staging.orders",
    "2024-05-02",
    "run",
    datetime(2024, 5, 3, 9, tzinfo=timezone(timedelta(hours=2))),
    None,
    {"manifest": "m", "load_id": "l", "contract_version": "1.0.0", "rows_read": 3, "rows_loaded": 2}
    | {"rows_quarantined": 1, "rows_superseded": 0},
)


@pytest.mark.parametrize("kind", EventKind)
def test_the_schemas_are_schemas(kind):
    read = schema(kind)
    jsonschema_rs.validator_for(read)
    assert read["properties"]["event"] == {"const": kind}
    assert set(read["required"]) == set(read["properties"])


def test_a_message():
    made = message(EVENT, "production")
    body = json.loads(made.data)
    jsonschema_rs.validator_for(schema(EventKind.QUARANTINED)).validate(body)
    assert body["happened_at"] == "2024-05-03T07:00:00+00:00"
    assert body["owner"] is None
    assert "owner" not in made.attributes  # an attribute is a text
    assert (made.key, made.attributes["table"]) == ("staging.orders", "staging.orders")


def test_the_example_of_the_documentation():
    page = readme.REPO / "docs" / "events.md"
    (example,) = [json.loads(block.text) for block in readme.blocks(page) if block.language == "json"]
    jsonschema_rs.validator_for(schema(EventKind(example["event"]))).validate(example)
    for kind in EventKind:
        assert f"| `{kind}` |" in page.read_text()


@pytest.mark.parametrize("change", [{"rows_quarantined": 0}, {"rows_read": "3"}, {"manifest": None}])
def test_a_schema_refuses_what_is_no_such_event(change):
    body = json.loads(message(EVENT, "production").data) | change
    assert not jsonschema_rs.validator_for(schema(EventKind.QUARANTINED)).is_valid(body)


def test_what_makes_it_another_event():
    ids = {
        EVENT.id("production"),
        EVENT.id("staging"),
        replace(EVENT, identity=("load", "later")).id("production"),
        replace(EVENT, kind=EventKind.REFUSED).id("production"),
    }
    assert len(ids) == 4
    assert EVENT.id("production") == replace(EVENT, happened_at=datetime.now(UTC)).id("production")


def test_the_longest_names_fit_into_attributes_and_keys():
    """The service takes 1,024 bytes."""
    made = message(replace(EVENT, table="production." + "ä" * 1000, owner="ö" * 1000), "production")
    assert max(len(text.encode()) for text in (made.key, *made.attributes.values())) <= 1024
    assert json.loads(made.data)["owner"] == "ö" * 1000
