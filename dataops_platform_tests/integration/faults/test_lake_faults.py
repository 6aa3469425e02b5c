"""The lake in a bucket under faults of every kind, on every call that it makes."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

import pytest

from dataops_platform.lake.gcs import CHUNK, GcsStore
from dataops_platform_tests.emulators.clients import storage_client
from dataops_platform_tests.emulators.proxy import Call, Proxy, sensible
from dataops_platform_tests.faults import Operation, Undisturbed, check, quick

pytestmark = pytest.mark.cloud

CALLS = {
    Call.SIMPLE_UPLOAD, Call.RESUMABLE_START, Call.RESUMABLE_CHUNK, Call.OBJECT_GET, Call.MEDIA_DOWNLOAD, Call.LIST,
    Call.REWRITE,
}  # fmt: skip
PATIENCE = 0.3
"""Seconds that calls are repeated."""
SMALL, LARGE = b"content" * 40, bytes(range(256)) * (CHUNK // 256 + 4)


class Place:
    """A folder of its own in two buckets, with two objects."""

    def __init__(self, gcs_server, proxy: Proxy, bucket: str, number: int) -> None:
        direct = storage_client(gcs_server)
        through = storage_client(proxy)
        self.seen = [GcsStore(direct, name, f"{number}") for name in (bucket, f"{bucket}-other")]
        self.store, self.other = (
            GcsStore(through, name, f"{number}", quick(PATIENCE)) for name in (bucket, f"{bucket}-other")
        )
        self.seen[0].create("given/a", SMALL)
        self.seen[0].create("given/b", SMALL)

    def create_large(self) -> int:
        path = self.store.scratch() / "large"
        path.write_bytes(LARGE)
        return self.store.create("made/large", path).size

    def content(self) -> list[dict[str, bytes]]:
        return [{info.key: store.read(info.key) for info in store.list("")} for store in self.seen]


ACTIONS = {
    "create": lambda place: place.store.create("made/small", SMALL, {"table": "t"}).size,
    "create large": Place.create_large,
    "read": lambda place: place.store.read("given/a"),
    "stat": lambda place: place.store.stat("given/a").size,
    "stat nothing": lambda place: place.store.stat("given/c"),
    "checksum": lambda place: place.store.checksum("given/a"),
    "list": lambda place: [(info.key, info.size) for info in place.store.list("given/")],
    "copy": lambda place: place.store.copy_to("given/a", place.other, "copied").size,
}


@pytest.fixture
def operations(gcs_server, gcs_client, bucket):
    gcs_client.create_bucket(f"{bucket}-other")
    numbers = count()
    with Proxy(gcs_server) as proxy:

        def scene() -> Place:
            return Place(gcs_server, proxy, bucket, next(numbers))

        yield proxy, [Operation(name, scene, act, Place.content) for name, act in ACTIONS.items()]


def test_some_faults(operations):
    """Each operation under a few; all of them in the long suite."""
    proxy, all_operations = operations
    source = random.Random(1)
    for operation in all_operations:
        wanted = Undisturbed.of(operation, proxy)
        cases = list(wanted.cases(source))
        for case in source.sample(cases, 5):
            check(operation, proxy, case, wanted, PATIENCE)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
def test_every_call_under_every_fault(operations, seed):
    proxy, all_operations = operations
    met: Counter = Counter()
    source, done = random.Random(seed), 0
    for operation in all_operations:
        wanted = Undisturbed.of(operation, proxy)
        for case in wanted.cases(source):
            met += check(operation, proxy, case, wanted, PATIENCE)
            done += 1
    assert set(met) >= {(call, fault) for call in CALLS for fault in sensible(call)}
    assert {call for call, _ in met} >= CALLS
    assert done >= 80
