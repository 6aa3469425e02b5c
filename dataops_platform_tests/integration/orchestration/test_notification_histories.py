"""Random histories of messages: late, doubled, out of order, their readers dying at any point. None goes too early.

Dagster's instance, the sensor, landing and the lake are real. Pub/Sub is played, so that it can be as unkind as it may
be: it gives messages in any order, some twice, and again whatever isn't acknowledged. So is the daemon, which may die
after a tick and before it keeps the tick's cursor and runs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dataops_platform.ingestion.landing import register
from dataops_platform.ingestion.landing_log import LandingLog, Registered
from dataops_platform.ingestion.notified import State
from dataops_platform.orchestration import notification_sensor
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.pubsub import Received
from dataops_platform.settings import Settings
from dataops_platform_tests.integration.orchestration.conftest import instance
from dataops_platform_tests.integration.orchestration.test_landing_sensor import HEAD, project

START = datetime(2024, 5, 3, 9, tzinfo=UTC)
STEPS = 40


@dataclass
class Post:
    """A message that isn't acknowledged, with the object that it is about."""

    name: str
    generation: int
    partition: str
    written: datetime
    handles: set[str] = field(default_factory=set)
    leased: bool = False


class World:
    """Everything but the sensor."""

    def __init__(self, folder: Path, dagster: dg.DagsterInstance, seed: int) -> None:
        self.chance, self.dagster, self.now = random.Random(seed), dagster, START
        given = {"DATAOPS_PROJECT": str(project(folder / "shop")), "DATAOPS_HOME": str(folder / "home")}
        given["DATAOPS_NOTIFICATIONS"] = "projects/acme-data/subscriptions/dataops"
        self.definitions = build_definitions(Settings.load(given))
        self.platform = self.definitions.resources["platform"]
        self.table = self.platform.tables["orders"]
        self.landing = folder / "shop" / "landing"
        self.repository = self.definitions.get_repository_def()
        self.sensor = self.repository.get_sensor_def("notifications")
        self.cursor: str | None = None
        self.posts: list[Post] = []
        self.pending: dict[str, list[str]] = {}
        self.stored: set[str] = set()
        self.handles = 0

    # -- Pub/Sub ------------------------------------------------------------------------------------------------------

    def pull(self, limit: int, patience: float) -> list[Received]:
        free = [post for post in self.posts if not post.leased]
        some = self.chance.sample(free, self.chance.randint(0, len(free)))
        twice = [post for post in some if self.chance.random() < 0.2]
        return [self._received(post) for post in [*some, *twice]]

    def _received(self, post: Post) -> Received:
        post.leased = True
        self.handles += 1
        post.handles.add(str(self.handles))
        given = {"eventType": "OBJECT_FINALIZE", "bucketId": str(self.landing), "objectId": post.name}
        given |= {"objectGeneration": str(post.generation), "eventTime": post.written.isoformat()}
        return Received(str(self.handles), str(self.handles), b"", given, post.written)

    def acknowledge(self, handles: Sequence[str]) -> None:
        gone = [post for post in self.posts if post.handles & set(handles)]
        for post in gone:
            assert self.safe(post), f"{post} is let go, and nobody else knows of it"
        self.posts = [post for post in self.posts if post not in gone]

    def keep(self, handles: Sequence[str], seconds: int) -> None:
        pass

    def close(self) -> None:
        pass

    def safe(self, post: Post) -> bool:
        """Whether the object will be delivered though the message is gone, or there is nothing to deliver any more."""
        if any(post.partition in partitions for partitions in self.pending.values()):
            return True  # a run in Dagster's storage, that hasn't looked yet
        if ("orders", post.partition) in State.from_json(self.cursor).early:
            return True
        return self.delivered(post) or self.generation(post.name) != post.generation

    # -- landing and runs ---------------------------------------------------------------------------------------------

    def write(self) -> None:
        """An object of today or of a day before, perhaps one that was there."""
        self.now += timedelta(milliseconds=self.chance.randint(1, 5000))
        day = self.now.date() - timedelta(days=self.chance.randint(0, 2))
        name = f"orders/dt={day}/{self.chance.choice('abc')}.csv"
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + f"{self.chance.randint(1, 10**6)},{day},FR,1.50\n")
        nanoseconds = int(self.now.timestamp() * 1000) * 1_000_000
        os.utime(path, ns=(nanoseconds, nanoseconds))
        self.posts.append(Post(name, self.generation(name), str(day), self.now))

    def generation(self, name: str) -> int:
        place = self.platform.place(self.table)
        found = place.inbox.stat(name)
        return found.generation

    def delivered(self, post: Post) -> bool:
        log = LandingLog(self.platform.lake.store, self.table)
        known = Registered.read(log, self.platform.lake, "orders", [post.partition])
        return known.is_delivered(post.partition, (post.name, post.generation))

    def tick(self) -> None:
        """An evaluation; the daemon may die before it keeps what came of it."""
        context = dg.build_sensor_context(
            self.dagster, cursor=self.cursor, repository_def=self.repository, resources={"platform": self.platform}
        )
        found = self.sensor.evaluate_tick(context)
        if self.chance.random() < 0.2:
            return
        self.cursor = found.cursor
        for request in found.run_requests or ():
            assert request.run_key is not None
            if request.run_key in self.stored or self.chance.random() < 0.1:  # of that key there is one; or it got lost
                continue
            tags = {**request.tags, "dagster/run_key": request.run_key}
            self.dagster.create_run_for_job(self.repository.get_job("pipeline"), tags=tags)
            self.stored.add(request.run_key)
            first = request.partition_key or request.tags["dagster/asset_partition_range_start"]
            last = request.partition_key or request.tags["dagster/asset_partition_range_end"]
            keys = [str(START.date() + timedelta(days=n)) for n in range(-5, 20)]
            self.pending[request.run_key] = [key for key in keys if first <= key <= last]

    def run(self) -> None:
        """A run that was stored looks at landing, and delivers."""
        if self.pending:
            partitions = self.pending.pop(self.chance.choice(sorted(self.pending)))
            register(self.table, self.platform.place(self.table), self.platform.lake, partitions)

    def die(self) -> None:
        """The code server is gone, with what it held; leases end."""
        self.sensor = build_definitions(self.platform.settings).get_repository_def().get_sensor_def("notifications")
        self.end_leases()

    def end_leases(self) -> None:
        for post in self.posts:
            post.leased = False

    def wait(self) -> None:
        self.now += timedelta(minutes=self.chance.choice([1, 10, 90, 600]))

    def step(self) -> None:
        chosen = [self.write] * 4 + [self.tick] * 5 + [self.run] * 2 + [self.end_leases, self.wait]
        self.chance.choice([*chosen, self.die] if self.chance.random() < 0.3 else chosen)()


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 60))])
def test_no_message_is_let_go_too_early_and_every_object_is_delivered(tmp_path, monkeypatch, seed):
    with instance(tmp_path / "dagster") as dagster:
        world = World(tmp_path, dagster, seed)

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return world.now

        monkeypatch.setattr(notification_sensor, "datetime", Clock)
        monkeypatch.setattr(notification_sensor, "Subscription", lambda *_: world)
        monkeypatch.setattr(notification_sensor, "MOST", 10)
        for _ in range(STEPS):
            world.step()
        written = {(path.parent.name[3:], path) for path in world.landing.rglob("*.csv")}
        assert written
        world.now += timedelta(days=2)  # every partition is over
        for _ in range(60):
            world.end_leases()
            world.tick()
            world.run()
            world.now += timedelta(minutes=6)
        assert world.posts == []
        while world.pending:
            world.run()
        for partition, path in written:
            name = path.relative_to(world.landing).as_posix()
            assert world.delivered(Post(name, world.generation(name), partition, world.now)), name
