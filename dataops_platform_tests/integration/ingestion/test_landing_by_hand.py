"""Files by hand, and what landing has of the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataops_platform.contracts.model import AfterLanding, LoadMode
from dataops_platform.ingestion.landing import deliver_files, register, undelivered
from dataops_platform.ingestion.landing_log import LandingLog
from dataops_platform_tests.landing_scene import DAYS, Folder, T, ids, parquet, place
from dataops_platform_tests.support import Home


def test_what_had_been_delivered_by_hand_is_not_delivered_again_from_landing(scene, tmp_path):
    """Whether or not it lay in landing by then; what is written anew is something else."""
    copy = tmp_path / "a.parquet"
    copy.write_bytes(parquet(1))
    deliver_files(T, scene.lake, DAYS[0], [copy])
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    scene.write("orders/dt=2024-01-01/b.parquet", parquet(1))  # another file, whatever it holds
    scene.write("orders/dt=2024-01-02/a.parquet", parquet(1))  # and another day's
    at = place(scene)
    done = register(T, at, scene.lake, DAYS)
    assert ids(scene) == [(DAYS[0], [[1]]), (DAYS[0], [[1]]), (DAYS[1], [[1]])]
    assert [d.origin["objects"][0]["name"].rpartition("/")[2] for d in done.delivered] == ["b.parquet", "a.parquet"]
    assert done.existing == 1
    assert undelivered(T, at, scene.lake, DAYS) == set()
    again = register(T, at, scene.lake, DAYS)
    assert (again.delivered, again.refused_before, again.existing) == ([], {}, 3)
    assert LandingLog(scene.lake.store, T).refusals(9) == []
    assert register(T, place(scene, after=AfterLanding.REMOVE), scene.lake, DAYS).removed == 3
    assert scene.names() == []

    scene.write("orders/dt=2024-01-01/a.parquet", parquet(2))
    register(T, at, scene.lake, DAYS)
    scene.write("orders/dt=2024-01-01/a.parquet", parquet(1))  # back again: what came last counts
    assert len(register(T, at, scene.lake, DAYS).delivered) == 1


def by_hand(scene: Any, folder: Path, content: bytes, of: Any = T, name: str = "a.parquet") -> int:
    """Deliver a file of some content by hand; how many deliveries that made."""
    path = folder / name
    path.write_bytes(content)
    return len(deliver_files(of, scene.lake, DAYS[0], [path]).delivered)


@pytest.mark.parametrize("older_kind", [False, True])
def test_another_contract_does_not_bring_back_what_was_corrected_by_hand(tmp_path, older_kind):
    folder = Folder(tmp_path)
    by_hand(folder, tmp_path, parquet(1))
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    assert register(T, place(folder), folder.lake, DAYS).existing == 1
    if older_kind:  # its name had the contract's version in it
        info = folder.inbox.stat("orders/dt=2024-01-01/a.parquet")
        (mark,) = (tmp_path / "lake" / "_landings" / "raw_orders" / "refused" / DAYS[0]).iterdir()
        mark.rename(mark.with_name(f"{LandingLog(folder.lake.store, T).mark((info.key, info.generation))}.again.json"))
    by_hand(folder, tmp_path, parquet(2))
    newer = replace(T, contract_version="1.1.0")
    assert undelivered(newer, place(folder), folder.lake, DAYS) == set()
    assert register(newer, place(folder), folder.lake, DAYS).delivered == []
    assert LandingLog(folder.lake.store, newer).refusals(9) == []


def test_the_first_of_two_files_by_hand_under_one_name_lands(folder, tmp_path):
    """Or both of them: each was delivered, until something else lands under that name."""
    at = place(folder)
    for content in (parquet(1), parquet(2)):
        by_hand(folder, tmp_path, content)
    for content in (parquet(1), parquet(2)):
        folder.write("orders/dt=2024-01-01/a.parquet", content)
        done = register(T, at, folder.lake, DAYS)
        assert (done.delivered, done.existing) == ([], 1)
    for content in (parquet(3), parquet(1)):
        folder.write("orders/dt=2024-01-01/a.parquet", content)
        assert len(register(T, at, folder.lake, DAYS).delivered) == 1


def test_a_file_by_hand_stands_for_one_that_lands(folder, tmp_path):
    """Another one of that name and content, in another folder, is something else; the same one written anew isn't."""
    at = place(folder, "orders/*/dt={partition}/a.parquet")
    by_hand(folder, tmp_path, parquet(1))
    folder.write("orders/paris/dt=2024-01-01/a.parquet", parquet(1))
    assert register(T, at, folder.lake, DAYS).delivered == []
    folder.write("orders/paris/dt=2024-01-01/a.parquet", parquet(1))
    assert register(T, at, folder.lake, DAYS).delivered == []
    folder.write("orders/rome/dt=2024-01-01/a.parquet", parquet(1))
    assert len(register(T, at, folder.lake, DAYS).delivered) == 1
    assert undelivered(T, at, folder.lake, DAYS) == set()


def test_part_of_a_snapshot_by_hand(scene, tmp_path):
    """Its files can be landed again as they are."""
    table = replace(T, load_mode=LoadMode.REPLACE)
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    good.write_bytes(parquet(1))
    bad.write_bytes(b"no parquet")
    done = deliver_files(table, scene.lake, DAYS[0], [good, bad])
    assert (ids(scene), len(done.refused)) == ([], 2)
    bad.write_bytes(parquet(2))
    assert deliver_files(table, scene.lake, DAYS[0], [good, bad]).refused == []
    assert ids(scene) == [(DAYS[0], [[1], [2]])]


def test_a_snapshot_by_hand_is_all_that_is_handed_in_at_once(folder, tmp_path):
    """Also what had been before: the rest alone would replace it. What is refused isn't left out of it."""
    table = replace(T, load_mode=LoadMode.REPLACE)
    first, second, bad = (tmp_path / f"{name}.parquet" for name in ("first", "second", "bad"))
    for path, content in ((first, parquet(1)), (second, parquet(2)), (bad, b"no parquet")):
        path.write_bytes(content)
    deliver_files(table, folder.lake, DAYS[0], [first])
    assert len(deliver_files(table, folder.lake, DAYS[0], [first, second]).delivered) == 1
    assert deliver_files(table, folder.lake, DAYS[0], [first, second]).delivered == []
    assert ids(folder) == [(DAYS[0], [[1]]), (DAYS[0], [[1], [2]])]
    assert len(deliver_files(table, folder.lake, DAYS[0], [bad]).refused) == 1
    second.write_bytes(parquet(3))
    (refused,) = deliver_files(table, folder.lake, DAYS[0], [bad, second]).refused
    assert f"{second}: it landed with by hand/bad.parquet, which is refused" in refused.reason
    assert len(ids(folder)) == 2


def test_a_snapshot_of_which_a_file_had_been_delivered_by_hand(folder, tmp_path):
    """All of it counts, unless all of it had been delivered so."""
    table = replace(T, load_mode=LoadMode.REPLACE)
    by_hand(folder, tmp_path, parquet(1), table)
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    assert register(table, place(folder), folder.lake, DAYS).delivered == []
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    folder.write("orders/dt=2024-01-01/b.parquet", parquet(2))
    done = register(table, place(folder), folder.lake, DAYS)
    assert (ids(folder), done.replaced) == ([(DAYS[0], [[1]]), (DAYS[0], [[2], [1]])], {})


def test_by_hand(tmp_path):
    home = Home(tmp_path / "home")
    one, other = tmp_path / "a.csv", tmp_path / "copy" / "a.csv"
    other.parent.mkdir()
    one.write_text("day,id\n2024-01-01,1\n")
    (delivery,) = deliver_files(T, home.lake, "2024-01-01", [one]).delivered
    assert delivery.origin["file"] == str(one)
    other.write_text("day,id\n2024-01-01,1\n")
    again = deliver_files(T, home.lake, "2024-01-01", [one, other])
    assert (again.delivered, again.existing) == ([], 2)
    other.write_text("day,id\n2024-01-01,2\n")
    assert len(deliver_files(T, home.lake, "2024-01-01", [other]).delivered) == 1
    assert [outcome.rows_loaded for outcome in home.load(T)] == [1, 1]


def test_a_landed_file_is_not_delivered_by_hand_too(folder, tmp_path):
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    register(T, place(folder), folder.lake, DAYS)
    copy = tmp_path / "a.parquet"
    copy.write_bytes(parquet(1))
    done = deliver_files(T, folder.lake, "2024-01-01", [copy])
    assert (done.delivered, done.existing) == ([], 1)


def test_a_file_that_lands_while_it_is_delivered_by_hand(folder, tmp_path, monkeypatch):
    """Whoever decides first delivers it; the other one looks again, and finds it."""
    folder.write("orders/dt=2024-01-01/a.parquet", parquet(1))
    append = LandingLog.append

    def slow(self: LandingLog, entry: Any) -> bool:
        monkeypatch.setattr(LandingLog, "append", append)
        register(T, place(folder), folder.lake, DAYS)
        return append(self, entry)

    monkeypatch.setattr(LandingLog, "append", slow)
    copy, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    copy.write_bytes(parquet(1))
    other.write_bytes(parquet(2))
    done = deliver_files(T, folder.lake, DAYS[0], [copy, other])
    assert (ids(folder), done.existing) == ([(DAYS[0], [[1]]), (DAYS[0], [[2]])], 1)


def test_the_same_file_named_twice(tmp_path):
    home = Home(tmp_path)
    (tmp_path / "again").mkdir()
    for path in (tmp_path / "a.parquet", tmp_path / "again" / "a.parquet"):
        path.write_bytes(parquet(1))
    files = [tmp_path / "a.parquet", tmp_path / "a.parquet", tmp_path / "again" / "a.parquet"]
    (made,) = deliver_files(T, home.lake, "2024-01-01", files).delivered
    assert made.rows == 1
