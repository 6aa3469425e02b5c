"""From a message about an object to its table, partition and fate, in a folder and in a bucket alike."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.ingestion.landing import register
from dataops_platform.ingestion.notifications import bury, sort
from dataops_platform.pubsub import Received
from dataops_platform_tests.landing_scene import DAYS, Bucket, T, parquet, place
from dataops_platform_tests.support import DAY1

NOW = datetime(2024, 1, 2, 12, tzinfo=UTC)
_handles = itertools.count()


def told(scene: Any, name: str, **changes: str) -> Received:
    """As Cloud Storage tells of an object, as it is there now."""
    found = None if "//" in name else scene.inbox.stat(name)
    bucket, _, key = f"{scene.inbox.url}/{name}".removeprefix("gs://").partition("/")
    if not isinstance(scene, Bucket):
        bucket, key = scene.inbox.url, name
    given = {
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "NONE",
        "bucketId": bucket,
        "objectId": key,
        "objectGeneration": str(found.generation if found else 1),
        "eventTime": datetime.fromtimestamp((found.created_ms if found else 0) / 1000, UTC).isoformat(),
    }
    number = str(next(_handles))
    return Received(f"handle {number}", number, b"", given | changes, NOW)


def sorted_(scene: Any, *messages: Received, now: datetime = NOW) -> Any:
    return sort(messages, {"orders": T}, {"orders": place(scene)}, scene.lake, now)


def test_new_then_known(scene):
    name = "orders/dt=2024-01-01/a.parquet"
    scene.write(name, parquet(1))
    first = told(scene, name)
    found = sorted_(scene, first, first)
    (item, _) = found.new
    assert (item.table, item.partition, item.handle) == ("orders", str(DAY1), first.handle)
    assert item.identity == (name, scene.inbox.stat(name).generation)
    register(T, place(scene), scene.lake, DAYS)
    found = sorted_(scene, first)
    assert (found.new, found.known) == ([], [first.handle])
    scene.write(name, parquet(2))  # written anew: another object; the message about the first one comes once more
    second = told(scene, name)
    found = sorted_(scene, second, first)
    assert ([item.handle for item in found.new], found.known) == ([second.handle], [first.handle])
    scene.remove(name)
    register(T, place(scene), scene.lake, DAYS)
    assert sorted_(scene, first).known == [first.handle]


def test_what_was_refused_is_known(scene):
    name = "orders/dt=2024-01-01/a.parquet"
    scene.write(name, b"nonsense")
    message = told(scene, name)
    assert len(sorted_(scene, message).new) == 1
    register(T, place(scene), scene.lake, DAYS)
    assert sorted_(scene, message).known == [message.handle]


def test_a_partition_that_is_not_over(scene):
    scene.write("orders/dt=2024-01-02/a.parquet", parquet(1))
    message = told(scene, "orders/dt=2024-01-02/a.parquet")
    assert [item.partition for item in sorted_(scene, message).early] == ["2024-01-02"]
    assert len(sorted_(scene, message, now=datetime(2024, 1, 3, tzinfo=UTC)).new) == 1


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("orders/dt=2024-01-01/a.csv", {}, None),
        ("orders/dt=2024-01-01/_SUCCESS", {}, None),
        ("elsewhere/a.parquet", {}, None),
        ("orders/dt=2024-01-01/a.parquet", {"bucketId": "other"}, None),
        ("orders/dt=2024-01-01/a.parquet", {"eventType": "OBJECT_DELETE"}, None),
        ("orders/dt=x/a.parquet", {}, "matches no pattern"),
        ("orders/dt=2023-01-01/a.parquet", {}, "is before the table's first day"),
        ("orders/dt=2024-01-09/a.parquet", {}, "is in the future"),
        ("orders//dt=2024-01-01/a.parquet", {}, "matches no pattern"),
    ],
)
def test_what_is_nothing_to_deliver(scene, name, changes, reason):
    if name.endswith(".csv"):
        reason = "matches no pattern"
    message = told(scene, name, **changes)
    found = sorted_(scene, message)
    assert (found.new, found.others) == ([], [message.handle])
    if reason is None:
        assert found.strange == {}
    else:
        ((uri, said),) = found.strange.items()
        assert uri == f"{scene.inbox.url}/{name}"
        assert reason in said


def test_another_tables_object(scene):
    at = place(scene)
    theirs = compile_pattern("orders/dt={partition}/*.csv", T.partitioning)
    at = replace(at, neighbours=[(at.base, theirs)])
    messages = [told(scene, f"orders/dt=2024-01-01/a.{ending}") for ending in ("csv", "txt")]
    found = sort(messages, {"orders": T}, {"orders": at}, scene.lake, NOW)
    assert found.others == [message.handle for message in messages]
    assert list(found.strange) == [f"{at.base}/orders/dt=2024-01-01/a.txt"]


def test_an_empty_object(scene):
    name = "orders/dt=2024-01-01/a.parquet"
    message = told(scene, name, payloadFormat="JSON_API_V1")
    found = sorted_(scene, replace(message, data=json.dumps({"name": name, "size": "0"}).encode()))
    assert list(found.strange.values()) == ["is empty (0 bytes)"]


def test_what_can_not_be_read_is_kept_once(scene):
    message = replace(told(scene, "x", objectGeneration="?"), data=b"\x00\xff", id="../1")
    found = sorted_(scene, message)
    assert (found.new, found.others) == ([], [])
    (written,) = bury(scene.lake, found.unreadable)
    assert bury(scene.lake, [(message, "in other words")]) == [written]
    (info,) = scene.lake.store.list("_dead_letters/")
    assert info.key == "_dead_letters/notifications/___1.json"
    letter = json.loads(scene.lake.store.read(info.key))
    assert (letter["reason"], letter["data"]) == ("attribute objectGeneration is '?', which is no number", "AP8=")
    assert letter["attributes"] == dict(message.attributes)
