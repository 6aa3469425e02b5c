"""The lake as a folder: create-only, ordered listings, deliveries that are whole or not there."""

from __future__ import annotations

import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.lake import Delivery, Lake, LocalStore, ObjectConflict, ObjectMissing, keys, local
from dataops_platform.lake.deliveries import read_footer

AT = datetime(2024, 1, 2, 6, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def parquet(store: LocalStore, *numbers: int) -> Path:
    path = store.scratch() / "data.parquet"
    pq.write_table(pa.table({"id": pa.array(numbers, pa.int64())}), path)
    return path


def deliver(store: LocalStore, *files: Path, partition: str = "2024-01-01", **more) -> Delivery:
    return Lake(store).deliver(
        "orders", partition, AT, files, origin={"file": "orders.csv"}, contract_version="1.0.0", **more
    )


def everything(store: LocalStore) -> list[str]:
    return [info.key for info in store.list("")]


def race(store: LocalStore, contents: list[bytes]) -> list[object]:
    barrier = Barrier(len(contents))

    def create(content: bytes) -> object:
        barrier.wait()
        try:
            return store.create("a/b", content)
        except ObjectConflict as error:
            return error

    with ThreadPoolExecutor(len(contents)) as pool:
        return list(pool.map(create, contents))


def test_twelve_writers_of_different_content(store):
    for _ in range(5):
        store = LocalStore(store.root / "again")
        contents = [bytes([number]) * 1000 for number in range(12)]
        outcomes = race(store, contents)
        winners = [content for content, o in zip(contents, outcomes, strict=True) if not isinstance(o, ObjectConflict)]
        assert winners == [store.read("a/b")]


def test_twelve_writers_of_the_same_content(store):
    outcomes = race(store, [b"same"] * 12)
    assert len(set(outcomes)) == 1
    assert outcomes[0] == store.stat("a/b")


def test_nothing_is_overwritten(store, tmp_path):
    first = store.create("a/b", b"one")
    outside = tmp_path / "outside"
    outside.write_bytes(b"two")
    with pytest.raises(ObjectConflict, match="'a/b' exists"):
        store.create("a/b", outside)
    assert (store.read("a/b"), store.stat("a/b")) == (b"one", first)
    assert store.create("a/b", b"one") == first


def test_what_is_not_there(store):
    assert store.stat("a") is None
    assert everything(store) == []
    store.create("a/b", b"")
    assert store.stat("a") is None  # a folder is no object
    with pytest.raises(ObjectMissing, match="'a/c'"):
        store.read("a/c")
    with pytest.raises(ObjectMissing, match="'a/c'"):
        store.copy_to("a/c", store, "d")


@pytest.mark.parametrize("key", ["", "/a", "a/../b", "a//b", "./a", ".scratch/a", "a/"])
def test_keys_that_would_leave_the_lake(store, key):
    with pytest.raises(ValueError, match="not an object key"):
        store.create(key, b"")


def test_scratch_is_not_listed_and_not_left(store, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"2")
    store.create("a", b"1")
    store.create("b", outside)
    assert everything(store) == ["a", "b"]
    assert list((store.root / ".scratch").iterdir()) == []
    parquet(store, 1)
    assert everything(store) == ["a", "b"]


PART = st.sampled_from(["a", "b", "a.x", "a-", "a0", "ab", "é", "_", "A", "z=1"])
KEYS = st.sets(st.lists(PART, min_size=1, max_size=3).map("/".join), max_size=12)
BOUND = st.none() | st.lists(PART, min_size=1, max_size=3).map("/".join) | st.sampled_from(["", "a/", "a/b/", "b0"])


@settings(max_examples=150, deadline=None)
@given(keys=KEYS, prefix=st.sampled_from(["", "a", "a/", "a/b", "b/", "a/a/", "x"]), start=BOUND, end=BOUND)
def test_listing(keys, prefix, start, end):
    names = {k for k in keys if not any(other.startswith(f"{k}/") for other in keys)}  # no file where a folder is
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        for name in names:
            path = store.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        found = [info.key for info in store.list(prefix, start, end)]
    wanted = [k for k in names if k.startswith(prefix) and k >= (start or "") and (end is None or k < end)]
    assert found == sorted(wanted)


def test_a_manifest_says_it_all(store):
    given = deliver(store, parquet(store, 1, 2), parquet(store), git_commit="abc")
    lake = Lake(store)
    assert lake.read(given.manifest) == given
    assert (given.rows, [item.rows for item in given.objects], given.git_commit) == (2, [2, 0], "abc")
    assert given.created_at.microsecond == 123000  # as the manifest's key has it
    assert given.schema == {"id": "int64"}
    (ref,) = lake.manifests("orders")
    assert (ref.key, ref.partition, ref.created_at) == (given.manifest, "2024-01-01", given.created_at)
    assert {item.key for item in given.objects} < set(everything(store))


def test_bytes_that_are_not_what_was_delivered(store):
    given, lake = deliver(store, parquet(store, 1, 2), parquet(store, 3)), Lake(store)
    assert lake.damage(given) is None
    path = Path(store.uri(given.objects[1].key))
    before = path.read_bytes()
    path.unlink()  # not in place: the file may be linked elsewhere
    path.write_bytes(parquet(store, 4).read_bytes())
    assert f"{given.objects[1].key!r} in {store.url} holds other bytes" in lake.damage(given)
    path.unlink()
    assert "is gone" in lake.damage(given)
    path.write_bytes(before)
    assert lake.damage(given) is None


def test_delivered_twice_is_delivered_once(store):
    first = deliver(store, parquet(store, 1))
    before = everything(store)
    assert deliver(store, parquet(store, 1)) == first
    assert deliver(store, parquet(store, 2)) == first  # the same arrival: what came first counts
    assert everything(store) == before


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_killed_half_way_is_invisible(store, monkeypatch, steps):
    """Killed after so many objects: no delivery is seen, and the next attempt makes it."""
    create, done = LocalStore.create, []

    def dying(self, key, content):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(key)
        return create(self, key, content)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "create", dying)
        with pytest.raises(KeyboardInterrupt):
            deliver(store, parquet(store, 1), parquet(store, 2))
    assert list(Lake(store).manifests("orders")) == []
    again = deliver(store, parquet(store, 3), parquet(store, 2))  # the source may have other data by then
    assert [item.rows for item in again.objects] == [1, 1]
    assert pq.read_table(store.uri(again.objects[0].key)).to_pydict() == {"id": [3]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "orders.csv: the file is empty"),
        (b"id\n1\n", "orders.csv: not a parquet file"),
        (b"PAR1 and so on", "orders.csv: a damaged or truncated parquet file"),
    ],
)
def test_what_is_not_parquet_is_not_delivered(store, content, says):
    path = store.scratch() / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataRefused) as error:
        deliver(store, parquet(store, 1), path)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    assert everything(store) == []


def test_a_damaged_footer_is_refused_in_one_line():
    """Whichever byte of it; what the library says of bytes that it doesn't know helps nobody."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": [1], "name": ["a"], "amount": [1.5]}), buffer)
    data = buffer.getvalue()
    said = []
    for place in range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data) - 8):
        for byte in b"\x1f\x80\xffg":
            try:
                read_footer(io.BytesIO(data[:place] + bytes([byte]) + data[place + 1 :]), "orders.parquet")
            except DataRefused as error:
                said.append(str(error))
    assert len(said) > 100
    what = "a damaged or truncated parquet file: its footer, at its end, can't be read. Deliver it again."
    assert set(said) == {f"orders.parquet: {what}"}


def test_truncated_parquet_is_not_delivered(store):
    path = parquet(store, *range(1000))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataRefused, match="damaged or truncated"):
        deliver(store, path)


def test_no_file_is_no_delivery(store):
    with pytest.raises(DataRefused, match="without rows is a parquet file too"):
        deliver(store)


def test_a_time_without_zone_is_a_mistake(store):
    with pytest.raises(ValueError, match="time zone"):
        keys.timestamp(AT.replace(tzinfo=None))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"table": 1', b'{"table": "t", "created_at": "now"}']
)
def test_a_damaged_manifest_is_named(store, content):
    key = keys.manifest_key("orders", "2024-01-01", AT)
    store.create(key, content)
    with pytest.raises(DataRefused, match="is damaged") as error:
        Lake(store).read(key)
    assert key in str(error.value)


def test_manifests_of_some_partitions(store, monkeypatch):
    for day in ("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"):
        deliver(store, parquet(store, 1), partition=day)
    store.create("_deliveries/raw_orders/2024-01-02/notes.txt", b"somebody else's")
    store.create("_deliveries/raw_orders_2/2024-01-02/2024-01-01T00:00:00.000Z.json", b"another table's")
    lake = Lake(store)
    assert [ref.partition for ref in lake.manifests("orders")] == [f"2024-01-0{n}" for n in (1, 2, 3, 4)]
    assert [ref.partition for ref in lake.manifests("orders", ["2024-01-04", "2024-01-02"])] == [
        "2024-01-02",
        "2024-01-04",
    ]
    assert list(lake.manifests("orders", [])) == []


@pytest.mark.parametrize(
    "use", [lambda s: s.create("a", b""), lambda s: s.scratch(), lambda s: deliver(s, parquet(s, 1))]
)
def test_a_lake_that_can_not_be_written(tmp_path, use):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the lake file://.* can't be written: Not a directory"):
        use(LocalStore(tmp_path / "file"))


def test_a_lake_that_can_not_be_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"can't be read: Not a directory"):
        everything(LocalStore(tmp_path / "file"))


def test_no_space_left(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local.os, "link", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        store.create("a", b"1")
    assert everything(store) == []
