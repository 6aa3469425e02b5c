"""Landed objects become deliveries, once, in a folder and in a bucket alike."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataops_platform.contracts.file_formats import FileFormat
from dataops_platform.contracts.model import AfterLanding, Landing, LoadMode
from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion import landing_log
from dataops_platform.ingestion.landing import deliver_files, register, undelivered
from dataops_platform.ingestion.landing_log import LandingLog, Refusal, Registered
from dataops_platform.ingestion.landing_scan import Position, scan, strange_names
from dataops_platform.lake import Lake
from dataops_platform.lake.inbox import LocalInbox
from dataops_platform.lake.store import ObjectMissing, checksum
from dataops_platform_tests.landing_scene import DAYS, PATTERN, Bucket, Folder, T, ids, parquet, place
from dataops_platform_tests.support import DAY1, daily, table


def test_what_landed_is_delivered_once(scene):
    at = place(scene)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2, 3))
    scene.write("orders/dt=2024-01-02/a.parquet", parquet(4))
    scene.write("orders/dt=2024-01-03/a.parquet", parquet(5))
    scene.write("weather/dt=2024-01-01/a.parquet", parquet(6))
    assert undelivered(T, at, scene.lake, DAYS) == set(DAYS)
    done = register(T, at, scene.lake, DAYS, "abc")
    assert ids(scene) == [("2024-01-01", [[1], [2, 3]]), ("2024-01-02", [[4]])]
    assert [(d.partition, d.rows, d.git_commit, d.contract_version) for d in done.delivered] == [
        ("2024-01-01", 3, "abc", "1.0.0"), ("2024-01-02", 1, "abc", "1.0.0")
    ]  # fmt: skip
    first = done.delivered[0]
    newest = scene.inbox.stat("orders/dt=2024-01-01/b.parquet")
    assert round(first.created_at.timestamp() * 1000) == newest.created_ms
    assert first.origin["landing"] == scene.inbox.url
    assert first.origin["objects"][1] == {
        "name": newest.key, "generation": newest.generation, "size": newest.size, "checksum": checksum(parquet(2, 3))
    }  # fmt: skip
    assert first.objects[1].checksum == checksum(parquet(2, 3))

    again = register(T, at, scene.lake, DAYS)
    assert (again.delivered, again.existing, again.removed) == ([], 3, 0)
    assert len(scene.names()) == 5
    assert undelivered(T, at, scene.lake, DAYS) == set()


def test_an_object_written_anew_is_a_new_delivery(scene):
    at = place(scene)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    register(T, at, scene.lake, DAYS)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(9))
    assert undelivered(T, at, scene.lake, DAYS) == {"2024-01-01"}
    register(T, at, scene.lake, DAYS)
    assert ids(scene) == [("2024-01-01", [[1], [2]]), ("2024-01-01", [[9]])]
    scene.remove("orders/dt=2024-01-01/a.parquet")
    assert register(T, at, scene.lake, DAYS).delivered == []


def test_removed_once_it_is_durable(scene):
    at = place(scene, after=AfterLanding.REMOVE)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/bad.parquet", b"PAR1nonsense")
    done = register(T, at, scene.lake, DAYS)
    assert (done.removed, len(done.refused), scene.names()) == (1, 1, ["orders/dt=2024-01-01/bad.parquet"])
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))  # the same bytes, written anew: another generation
    assert register(T, at, scene.lake, DAYS).removed == 1
    assert ids(scene) == [("2024-01-01", [[1]]), ("2024-01-01", [[1]])]


@pytest.mark.parametrize("step", ["append", "publish", "remove"])
def test_killed_before_a_step(scene, monkeypatch, step):
    """Whoever comes next finishes it: nothing is lost, and nothing is delivered twice."""
    at = place(scene, after=AfterLanding.REMOVE)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))

    class Killed(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Killed

    owner = {"append": LandingLog, "publish": Lake, "remove": type(scene.inbox)}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        with pytest.raises(Killed):
            register(T, at, scene.lake, DAYS)
    assert scene.names() == ["orders/dt=2024-01-01/a.parquet"]
    assert undelivered(T, at, scene.lake, DAYS) == (set() if step == "remove" else {"2024-01-01"})
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    register(T, at, scene.lake, DAYS)
    assert sorted(one for _, objects in ids(scene) for found in objects for one in found) == [1, 2]
    assert scene.names() == []


def test_an_unfinished_delivery_is_finished_without_its_objects(scene, monkeypatch):
    at = place(scene)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            register(T, at, scene.lake, DAYS)
    scene.remove("orders/dt=2024-01-01/a.parquet")
    register(T, at, scene.lake, DAYS)
    assert ids(scene) == [("2024-01-01", [[1]])]


def test_what_is_finished_for_another_run_replaces_nothing_that_landed(folder, monkeypatch):
    """And what is refused meanwhile doesn't either."""
    table = replace(T, load_mode=LoadMode.REPLACE)
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            register(table, place(folder), folder.lake, DAYS)
    folder.write("orders/dt=2024-01-01/b.parquet", b"no parquet")
    done = register(table, place(folder), folder.lake, DAYS)
    assert (len(done.delivered), len(done.refused), done.replaced) == (1, 1, {})


def test_two_that_see_different_objects(scene, monkeypatch):
    """The second one has seen more, and decides first: no object is in two deliveries."""
    at = place(scene)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    append, ours, theirs = LandingLog.append, threading.Event(), threading.Event()

    def slow(self: LandingLog, entry: Any) -> bool:
        if threading.current_thread().name == "first":
            ours.set()
            assert theirs.wait(30)
        return append(self, entry)

    monkeypatch.setattr(LandingLog, "append", slow)
    results: list[Any] = []
    first = threading.Thread(name="first", target=lambda: results.append(register(T, at, scene.lake, DAYS)))
    first.start()
    assert ours.wait(30)
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    register(T, at, scene.lake, DAYS)
    theirs.set()
    first.join(30)
    assert (results[0].delivered, ids(scene)) == ([], [("2024-01-01", [[1], [2]])])


def test_many_at_once(scene):
    at = place(scene)
    for number in range(12):
        scene.write(f"orders/dt=2024-01-01/{number:02d}.parquet", parquet(number))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: register(T, at, scene.lake, DAYS), range(4)))
    assert sorted(one for _, objects in ids(scene) for found in objects for one in found) == list(range(12))


def test_what_can_not_be_read_is_refused_by_itself(scene):
    at = place(scene)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/b.parquet", b"day,id\n2024-01-01,1\n")
    scene.write("orders/dt=2024-01-01/c.parquet", parquet(2)[:-5])
    scene.write("orders/dt=2024-01-01/empty.parquet", b"")
    scene.write("orders/dt=2024-01-01/_SUCCESS.parquet", b"x")
    done = register(T, at, scene.lake, DAYS)
    assert ids(scene) == [("2024-01-01", [[1]])]
    reasons = {refusal.name[-9:]: refusal.reason for refusal in done.refused}
    assert reasons.keys() == {"b.parquet", "c.parquet"}
    assert "b.parquet: not a parquet file" in reasons["b.parquet"]
    assert "c.parquet: a damaged or truncated parquet file" in reasons["c.parquet"]

    again = register(T, at, scene.lake, DAYS)
    assert (again.delivered, again.refused, len(again.refused_before), again.existing) == ([], [], 2, 1)
    assert undelivered(T, at, scene.lake, DAYS) == set()
    listed = LandingLog(scene.lake.store, T).refusals(10)
    assert {(r.partition, r.name, r.reason) for r in listed} == {("2024-01-01", r.name, r.reason) for r in done.refused}
    assert len(LandingLog(scene.lake.store, T).refusals(1)) == 1
    # Written anew it is another object; and under another contract it is worth another try.
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(5))
    assert len(register(T, at, scene.lake, DAYS).delivered) == 1
    newer = replace(T, contract_version="1.0.1")
    assert [r.name[-9:] for r in register(newer, at, scene.lake, DAYS).refused] == ["c.parquet"]


def test_who_is_told_of_what_is_refused_is_told_before_it_is_remembered(scene):
    """And so is told again if that was its end."""
    scene.write("orders/dt=2024-01-01/b.parquet", b"day,id\n2024-01-01,1\n")
    told = []

    def tell(refusals):
        told.append([refusal.file.rpartition("/")[2].partition("#")[0] for refusal in refusals])
        if len(told) == 1:
            raise ConfigError("the ledger is away")

    with pytest.raises(ConfigError, match="the ledger is away"):
        register(T, place(scene), scene.lake, DAYS, tell=tell)
    done = register(T, place(scene), scene.lake, DAYS, tell=tell)
    assert told == [["b.parquet"]] * 2
    assert register(T, place(scene), scene.lake, DAYS, tell=tell).refused_before == {done.refused[0].file: DAYS[0]}
    assert len(told) == 2


@pytest.mark.parametrize("mode", list(LoadMode))
def test_what_was_refused_and_overtaken_keeps_its_place(folder, mode):
    """A mended contract doesn't make it newer than what came after it, in the same look or in a later one."""
    at = place(folder, "orders/dt={partition}/*.csv", FileFormat.CSV)
    columns = {"day": Kind.DATE, "id": Kind.INTEGER}
    older = replace(table("orders", columns, partitioning=daily()), load_mode=mode)
    mended = table("orders", columns | {"more": Kind.INTEGER}, partitioning=daily())
    newer = replace(mended, load_mode=mode, contract_version="1.1.0")

    def write(name: str, number: int, more: bool = False) -> None:
        text = f"day,id,more\n2024-01-01,{number},1\n" if more else f"day,id\n2024-01-01,{number}\n"
        folder.write(f"orders/dt=2024-01-01/{name}.csv", text.encode())

    write("a", 1, more=True)
    register(older, at, folder.lake, DAYS)
    if mode is not LoadMode.REPLACE:
        write("b", 2, more=True)
    write("c", 3)
    if mode is not LoadMode.REPLACE:
        write("d", 4, more=True)
    register(older, at, folder.lake, DAYS)
    write("e", 5, more=True)
    done = register(newer, at, folder.lake, DAYS)
    assert [objects for _, objects in ids(folder)] == {
        LoadMode.APPEND: [[[3]], [[1], [2], [4], [5]]],
        LoadMode.MERGE: [[[1], [2]], [[3]], [[4], [5]]],
        LoadMode.REPLACE: [[[1]], [[3]], [[5]]],
    }[mode]
    assert undelivered(newer, at, folder.lake, DAYS) == set()
    said = ["a.csv can be read now, and replaces nothing"] if mode is LoadMode.REPLACE else []
    assert [warning.partition("dt=2024-01-01/")[2].partition(":")[0] for warning in done.warnings] == said


def test_part_of_a_snapshot_replaces_nothing(scene):
    """Where a delivery replaces, what landed with an object that can't be read is not all of the partition."""
    table = replace(T, load_mode=LoadMode.REPLACE)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/b.parquet", b"no parquet")
    scene.write("orders/dt=2024-01-02/a.parquet", parquet(4))
    done = register(table, place(scene), scene.lake, DAYS)
    assert ids(scene) == [("2024-01-02", [[4]])]
    assert sorted(r.name[-9:] for r in done.refused) == ["a.parquet", "b.parquet"]
    (why,) = [refusal.reason for refusal in done.refused if refusal.name.endswith("a.parquet")]
    assert "/dt=2024-01-01/b.parquet, which is refused, and loadMode: replace takes all or nothing. Mend that" in why
    again = register(table, place(scene), scene.lake, DAYS)
    assert (again.delivered, again.refused, len(again.refused_before)) == ([], [], 2)

    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    done = register(table, place(scene), scene.lake, DAYS)
    assert ids(scene) == [("2024-01-01", [[1], [2]]), ("2024-01-02", [[4]])]
    assert (done.replaced, done.refused_before) == ({}, {})
    again = register(table, place(scene), scene.lake, DAYS)
    assert (again.delivered, again.refused_before, again.existing) == ([], {}, 3)

    scene.write("orders/dt=2024-01-01/b.parquet", parquet(3))
    done = register(table, place(scene), scene.lake, DAYS)
    assert done.replaced == {"2024-01-01": ["orders/dt=2024-01-01/a.parquet"]}  # not written anew: told
    assert register(T, place(scene), scene.lake, DAYS).replaced == {}


def test_a_snapshot_is_mended_one_object_after_the_other(folder):
    """It is delivered when all of it can be; what has nothing to do with it doesn't wait."""
    table = replace(T, load_mode=LoadMode.REPLACE)

    def look(name: str, content: bytes) -> tuple[list[list[int]], int]:
        folder.write(f"orders/dt=2024-01-01/{name}.parquet", content)
        done = register(table, place(folder), folder.lake, DAYS)
        found = ids(folder)
        return (found[-1][1] if found else []), len(done.refused) + len(done.refused_before)

    for name in "bc":
        folder.write(f"orders/dt=2024-01-01/{name}.parquet", b"no parquet")
    assert look("a", parquet(1)) == ([], 3)
    assert look("b", parquet(2)) == ([], 3)
    assert look("other", parquet(9)) == ([[9]], 3)
    found, refused = look("c", parquet(3))
    assert (sorted(found), refused) == ([[1], [2], [3]], 0)


@pytest.mark.parametrize("when", ["_settled", "read"])
def test_a_snapshot_that_is_written_meanwhile_waits(folder, monkeypatch, when):
    """All of it, as some of it isn't all."""
    table = replace(T, load_mode=LoadMode.REPLACE)
    for number, name in enumerate("ab"):
        folder.write(f"orders/dt=2024-01-01/{name}.parquet", parquet(number))
    fetch = LocalInbox.fetch

    def changing(self: LocalInbox, info: Any, target: Path) -> None:
        if info.key.endswith("b.parquet"):
            folder.write(info.key, parquet(9))
        fetch(self, info, target)

    with monkeypatch.context() as patch:
        if when == "read":
            patch.setattr(LocalInbox, "fetch", changing)
        else:
            patch.setattr("dataops_platform.ingestion.landing._settled", lambda inbox, infos: infos[:1])
        done = register(table, place(folder), folder.lake, DAYS)
    assert (done.delivered, done.refused) == ([], [])
    assert "all of it waits for the next run" in done.warnings[0]
    register(table, place(folder), folder.lake, DAYS)
    assert ids(folder) == [(DAYS[0], [[0], [9 if when == "read" else 1]])]


@pytest.mark.parametrize("mode", [LoadMode.APPEND, LoadMode.REPLACE])
def test_many_objects_become_several_deliveries(tmp_path, monkeypatch, mode):
    """As many as one statement takes each, in the order of arrival; a snapshot can't be cut."""
    monkeypatch.setattr("dataops_platform.ingestion.registrar.MOST_OBJECTS", 2)
    folder = Folder(tmp_path)
    for number in range(5):
        folder.write(f"orders/dt=2024-01-01/{number}.parquet", b"no" if number == 1 else parquet(number))
    table = replace(T, load_mode=mode)
    done = register(table, place(folder), folder.lake, DAYS)
    if mode is LoadMode.REPLACE:
        assert (done.delivered, len(done.refused)) == ([], 5)
    else:
        assert ids(folder) == [(DAYS[0], [[0]]), (DAYS[0], [[2], [3]]), (DAYS[0], [[4]])]
        assert len(done.refused) == 1
    again = register(table, place(folder), folder.lake, DAYS)
    assert (again.delivered, again.refused) == ([], [])


def test_csv_is_converted(scene):
    at = place(scene, "orders/dt={partition}/*.csv", FileFormat.CSV)
    scene.write("orders/dt=2024-01-01/a.csv", b"id,day\n1,2024-01-01\n")
    scene.write("orders/dt=2024-01-01/b.csv", b"id;day\n1;2024-01-01\n")
    done = register(T, at, scene.lake, DAYS)
    assert ids(scene) == [("2024-01-01", [[1]])]
    (delivery,) = done.delivered
    assert delivery.schema == {"id": "int64", "day": "date32[day]"}
    assert delivery.origin["objects"][0]["checksum"] == checksum(b"id,day\n1,2024-01-01\n")
    (refusal,) = done.refused
    name = scene.inbox.uri("orders/dt=2024-01-01/b.csv")
    assert refusal.reason.startswith(f"{name}: column ")
    assert "Its delimiter may be ';'" in refusal.reason


@pytest.mark.parametrize("pattern", ["orders/*/{partition}.parquet", "orders/x/{date:%d-%m-%Y}.parquet"])
def test_names_that_do_not_sort_by_partition(scene, pattern):
    at = place(scene, pattern)
    made = "2024-01-02" if "partition" in pattern else "02-01-2024"
    scene.write(f"orders/x/{made}.parquet", parquet(1))
    scene.write("orders/x/2023-01-02.parquet", parquet(2))
    register(T, at, scene.lake, DAYS)
    assert ids(scene) == [("2024-01-02", [[1]])]


def test_objects_of_the_same_millisecond(scene, monkeypatch):
    """Each delivery has a time of its own: the manifest of the one doesn't hide the other."""
    at = place(scene)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    register(T, at, scene.lake, DAYS)
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    listed = scene.inbox.list

    def together(*given: Any) -> Iterator[Any]:
        return (replace(info, created_ms=1_704_100_000_000) for info in listed(*given))

    monkeypatch.setattr(scene.inbox, "list", together)
    register(T, at, scene.lake, DAYS)
    scene.write("orders/dt=2024-01-01/c.parquet", parquet(3))
    register(T, at, scene.lake, DAYS)
    times = [ref.created_at for ref in scene.lake.manifests("orders")]
    assert [later - times[0] for later in times[1:]] == [timedelta(milliseconds=1), timedelta(milliseconds=2)]
    assert len(times) == 3


@pytest.mark.cloud
def test_a_footer_is_read_by_ranges(gcs_client, bucket, monkeypatch):
    """A large object is neither downloaded nor uploaded."""
    from google.cloud.storage import Blob

    scene = Bucket(gcs_client, bucket, gcs_client.create_bucket(f"{bucket}-lake").name)
    sink = pa.BufferOutputStream()
    wide = pa.table({"id": pa.array(range(600_000), pa.int64())})
    pq.write_table(wide, sink, compression="none", use_dictionary=False)
    scene.write("orders/dt=2024-01-01/a.parquet", sink.getvalue().to_pybytes())
    came = []
    download = Blob.download_as_bytes

    def watched(self: Any, *given: Any, **more: Any) -> bytes:
        content = download(self, *given, **more)
        if self.name.endswith("a.parquet"):
            came.append(len(content))
        return content

    monkeypatch.setattr(Blob, "download_as_bytes", watched)
    (delivery,) = register(T, place(scene), scene.lake, DAYS).delivered
    assert delivery.rows == 600_000
    assert delivery.size > 4_000_000
    assert 0 < sum(came) <= 2 * 65_536


# -- a folder only -----------------------------------------------------------------------------------------------------


def test_a_delivery_is_no_link(folder, tmp_path):
    """Whoever wrote the file may write into it again."""
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    register(T, place(folder), folder.lake, DAYS)
    with (tmp_path / "landing/orders/dt=2024-01-01/a.parquet").open("r+b") as stream:
        stream.write(b"x" * 100)
    assert ids(folder) == [("2024-01-01", [[1]])]


def test_a_file_that_is_being_written(folder, tmp_path, monkeypatch):
    """It is waited for as long as a pause says that it may be complete; what grows meanwhile is for another time."""
    path = tmp_path / "landing/orders/dt=2024-01-01/a.parquet"
    folder.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    folder.write("orders/dt=2024-01-01/a.parquet", b"")
    path.write_bytes(parquet(1)[:50])
    pauses = []

    def grows(seconds: float) -> None:
        pauses.append(seconds)
        path.write_bytes(parquet(1))
        os.utime(path, (path.stat().st_mtime + 1, path.stat().st_mtime + 1))

    monkeypatch.setattr("dataops_platform.ingestion.landing.time.sleep", grows)
    register(T, place(folder), folder.lake, DAYS)
    assert ids(folder) == [("2024-01-01", [[2]])]
    assert len(pauses) == 1
    assert 0 < pauses[0] <= LocalInbox.settle
    monkeypatch.setattr("dataops_platform.ingestion.landing.time.sleep", pauses.append)
    register(T, place(folder), folder.lake, DAYS)
    assert ids(folder)[1] == ("2024-01-01", [[1]])


def test_an_object_that_changes_while_it_is_read(folder, monkeypatch):
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    folder.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    fetch = LocalInbox.fetch

    def changing(self: LocalInbox, info: Any, target: Path) -> None:
        if info.key.endswith("a.parquet"):
            folder.write(info.key, parquet(9))
        fetch(self, info, target)

    with monkeypatch.context() as patch:
        patch.setattr(LocalInbox, "fetch", changing)
        register(T, place(folder), folder.lake, DAYS)
    assert ids(folder) == [("2024-01-01", [[2]])]
    register(T, place(folder), folder.lake, DAYS)
    assert ids(folder)[1] == ("2024-01-01", [[9]])


def test_a_damaged_log_is_named(folder):
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    register(T, place(folder), folder.lake, DAYS)
    key = "_landings/raw_orders/log/2024-01-01/00000001.json"
    path = Path(folder.lake.store.uri(key))
    path.write_bytes(b"{}")
    os.utime(path, (1, 1))
    with pytest.raises(Exception, match=f"'{key}' in .* is damaged: .* restore it"):
        register(T, place(folder), folder.lake, DAYS)


def test_known_entries_are_forgotten_when_there_are_many(folder, monkeypatch):
    monkeypatch.setattr(landing_log, "_KNOWN", landing_log._Known(limit=2))
    for day in ("2024-01-01", "2024-01-02"):
        for name in "ab":
            folder.write(f"orders/dt={day}/{name}.parquet", parquet(1))
    register(T, place(folder), folder.lake, DAYS)
    log = LandingLog(folder.lake.store, T)
    for _ in range(2):
        assert {day: len(list(entries[0].landed)) for day, entries in log.entries(DAYS).items()} == dict.fromkeys(
            DAYS, 2
        )
    assert len(landing_log._KNOWN._entries) == 1


def test_what_is_known_is_asked_of_the_lake(folder):
    log = LandingLog(folder.lake.store, T)
    log.refuse(Refusal("2024-01-01", "a", 1, "because"))
    log.refuse(Refusal("2024-01-01", "a", 1, "in other words"))
    known = Registered.read(log, folder.lake, "orders", DAYS)
    assert (known.is_new("2024-01-01", ("a", 1)), known.is_new("2024-01-01", ("a", 2))) == (False, True)
    assert [refusal.reason for refusal in log.refusals(9)] == ["because"]


def test_a_landing_that_can_not_be_written(folder, monkeypatch):
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    info = folder.inbox.stat("orders/dt=2024-01-01/a.parquet")
    with pytest.raises(ConfigError, match=r"a\.parquet can't be removed: Permission denied\. .* `afterLanding: keep`"):
        folder.inbox.remove(info)
    monkeypatch.undo()
    assert not folder.inbox.remove(replace(info, generation=1))
    with pytest.raises(ObjectMissing, match="overwritten or removed"):
        folder.inbox.fetch(replace(info, generation=1), Path(folder.lake.store.scratch()) / "x")
    assert folder.inbox.remove(info)
    with pytest.raises(ObjectMissing, match="overwritten or removed"):
        folder.inbox.fetch(info, Path(folder.lake.store.scratch()) / "x")


# -- by hand -----------------------------------------------------------------------------------------------------------


@pytest.mark.cloud
def test_two_names_of_one_folder(tmp_path):
    """A relative path and an absolute one: only with the project's folder it is seen that they are the same."""
    from dataops_platform.settings import Settings

    def landed(name: str, location: str, pattern: str):
        made = Landing(location, compile_pattern(pattern, T.partitioning), line=7)
        return replace(T, name=name, landings=(made,))

    settings = Settings.load({"DATAOPS_PROJECT": str(tmp_path)})
    orders = landed("orders", "in", PATTERN)
    assert settings.places([orders, landed("returns", str(tmp_path / "in"), "returns/{partition}.parquet")])
    with pytest.raises(ConfigError, match=r"an object could be of table orders and of table sales \(contract.*:7\)"):
        settings.places([orders, landed("sales", str(tmp_path), "in/orders/*/{partition}.*")])


def test_the_settings_open_the_bucket(cloud_env, gcs_client, bucket, bq_project):
    """On Google Cloud, with the client and the credentials that the settings say."""
    from dataops_platform.settings import Settings

    gcs_client.bucket(bucket).blob("in/orders/dt=2024-01-01/a.parquet").upload_from_string(parquet(1))
    settings = Settings.load(
        cloud_env
        | {
            "DATAOPS_ENV": "staging",
            "DATAOPS_LAKE": f"gs://{bucket}/lake",
            "DATAOPS_PRODUCTION_LAKE": f"gs://{bucket}/production",
            "DATAOPS_WAREHOUSE": f"bigquery://{bq_project}",
        }
    )
    landings = tuple(
        Landing(location, compile_pattern(PATTERN, T.partitioning), environment=environment)
        for location, environment in ((f"gs://{bucket}/in", "staging"), (f"gs://{bucket}", "production"))
    )
    landed = replace(T, landings=landings)
    (at,) = settings.places([landed]).values()
    lake = Lake(settings.lake_store())
    (delivery,) = register(landed, at, lake, DAYS).delivered
    assert delivery.origin["file"] == f"gs://{bucket}/in/orders/dt=2024-01-01/a.parquet"
    assert lake.damage(delivery) is None
    inside = Landing(f"gs://{bucket}", compile_pattern("lake/raw_orders/*/{partition}.*", T.partitioning))
    with pytest.raises(ConfigError, match=r"objects of the lake gs://.*/lake itself would match the pattern"):
        settings.place(replace(T, landings=(inside,)))


def test_a_column_of_ours_is_refused(scene):
    content = io.BytesIO()
    pq.write_table(pa.table({"id": [1], "day": [date(2024, 1, 1)], "_uncast": ["{}"]}), content)
    scene.write("orders/dt=2024-01-01/a.parquet", content.getvalue())
    (refusal,) = register(T, place(scene), scene.lake, DAYS).refused
    assert refusal.reason.endswith("column '_uncast' is the platform's own; call it something else")


def test_a_corrected_file_with_an_older_time_comes_later(folder, tmp_path):
    """`cp -p`, archives and `rsync -t` keep times: what arrives last is what counts."""
    at = place(folder)
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    register(T, at, folder.lake, DAYS)
    path = tmp_path / "landing" / "orders" / "dt=2024-01-01" / "a.parquet"
    path.write_bytes(parquet(2))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    register(T, at, folder.lake, DAYS)
    assert ids(folder) == [("2024-01-01", [[1]]), ("2024-01-01", [[2]])]  # in the order of their times


def test_a_clock_that_is_ahead(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(LocalInbox, "settle", 0.0)
    at = place(folder)
    path = tmp_path / "landing" / "orders" / "dt=2024-01-01" / "a.parquet"
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    os.utime(path, (time.time() + 86400 * 300,) * 2)
    (made,) = register(T, at, folder.lake, DAYS).delivered
    assert made.created_at.timestamp() <= time.time()


def test_an_object_that_does_not_fit_does_not_take_the_others_with_it(scene):
    """One delivery of several objects is loaded or refused as a whole."""
    at = place(scene)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"day": pa.array([DAY1]), "id": pa.array(["one"])}), sink)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/b.parquet", sink.getvalue().to_pybytes())
    scene.write("orders/dt=2024-01-01/c.parquet", parquet(3))
    scene.write("orders/dt=2024-01-02/a.parquet", parquet(4))
    told: list[Refusal] = []

    def misfits(schema: pa.Schema) -> list[str]:
        return [] if schema.field("id").type == pa.int64() else ["column 'id' is text"]

    def look() -> Any:
        return register(T, at, scene.lake, DAYS, tell=told.extend, misfits=misfits)

    done = look()
    assert ids(scene) == [("2024-01-01", [[1], [3]]), ("2024-01-02", [[4]])]
    (refusal,) = done.refused
    assert refusal.reason.endswith("b.parquet: column 'id' is text")
    assert told == [refusal]
    assert len(look().refused_before) == 1
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    look()
    assert ids(scene)[1] == ("2024-01-01", [[2]])


def test_what_may_not_be_read_is_tried_again(folder, monkeypatch):
    """That is no fault of its bytes; and what else has landed goes on."""
    at = place(folder)
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    folder.write("orders/dt=2024-01-02/a.parquet", parquet(2))
    copy = shutil.copyfile

    def closed(source: Path, target: Path) -> Any:
        if "dt=2024-01-01" in str(source):
            raise PermissionError(13, "Permission denied", str(source))
        return copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("dataops_platform.lake.inbox.shutil.copyfile", closed)
        for _ in range(2):
            (refusal,) = register(T, at, folder.lake, DAYS).refused
            assert "can't be read: Permission denied. Check its permissions." in refusal.reason
    assert ids(folder) == [("2024-01-02", [[2]])]
    assert register(T, at, folder.lake, DAYS).refused == []
    assert ids(folder) == [("2024-01-01", [[1]]), ("2024-01-02", [[2]])]


def test_names_of_any_bytes(folder, tmp_path):
    """A file system has them, and no object store, ledger or message."""
    at = place(folder)
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    odd = os.fsencode(tmp_path / "landing" / "orders" / "dt=2024-01-01") + b"/bad\xff.parquet"
    Path(os.fsdecode(odd)).write_bytes(parquet(2))
    register(T, at, folder.lake, DAYS)
    assert ids(folder) == [("2024-01-01", [[1]])]
    found, _ = strange_names(at, datetime.now(UTC), 10)
    assert found == {"orders/dt=2024-01-01/bad\\udcff.parquet": "has a name that isn't UTF-8"}
    with pytest.raises(ConfigError, match=r"bad\\udcff\.parquet: the file's name isn't UTF-8"):
        deliver_files(T, folder.lake, "2024-01-01", [Path(os.fsdecode(odd))])


def test_partitions_of_other_ages(folder):
    """A slip of a finger isn't the end of the sensor."""
    at = place(folder)
    for year in ("0001", "0202", "9999"):
        folder.write(f"orders/dt={year}-11-05/a.parquet", parquet(1))
    found, _ = strange_names(at, datetime.now(UTC), 10)
    assert [reason.split()[2] for reason in found.values()] == ["is"] * 3
    seen = scan(T, at, folder.lake, Position(), datetime.now(UTC))
    assert (seen.asks, len(seen.strange)) == ([], 3)


def test_links_that_lead_round(folder, tmp_path):
    at = place(folder)
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    base = tmp_path / "landing" / "orders"
    (base / "round").symlink_to(tmp_path / "landing")
    (base / "self").symlink_to(base / "self")
    (base / "nowhere").symlink_to(tmp_path / "missing")
    (base / "dt=2024-01-02").symlink_to(base / "dt=2024-01-01")  # a link to somewhere else is as good as a folder
    register(T, at, folder.lake, DAYS)
    assert ids(folder) == [("2024-01-01", [[1]]), ("2024-01-02", [[1]])]


def test_a_place_that_is_not_there(tmp_path):
    assert LocalInbox(tmp_path).missing() is None
    assert LocalInbox(tmp_path / "landing").missing() == f"there is no folder {tmp_path / 'landing'}"


def test_two_columns_of_one_name(scene):
    at = place(scene)
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays([pa.array([DAY1]), pa.array([1]), pa.array([2])], names=["day", "id", "id"]), sink
    )
    scene.write("orders/dt=2024-01-01/a.parquet", sink.getvalue().to_pybytes())
    (refusal,) = register(T, at, scene.lake, DAYS).refused
    assert "column 'id' is there more than once" in refusal.reason


def test_a_footer_with_names_of_any_bytes(scene):
    at = place(scene)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"day": pa.array([DAY1]), "identity": pa.array([1])}), sink, store_schema=False)
    damaged = sink.getvalue().to_pybytes().replace(b"identity", b"ident\xff\xfey")
    scene.write("orders/dt=2024-01-01/a.parquet", damaged)
    (refusal,) = register(T, at, scene.lake, DAYS).refused
    assert "a damaged or truncated parquet file" in refusal.reason
