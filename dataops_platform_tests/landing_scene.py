"""A landing place and a lake, in folders or in buckets, for tests of what lands."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataops_platform.contracts.file_formats import FileFormat, FileReading
from dataops_platform.contracts.model import Landing
from dataops_platform.contracts.object_patterns import compile_pattern
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion.landing import Place
from dataops_platform.lake import Lake, LocalStore
from dataops_platform.lake.inbox import LocalInbox
from dataops_platform_tests.support import DAY1, DAY2, daily, table

T = table("orders", {"day": Kind.DATE, "id": Kind.INTEGER}, partitioning=daily())


DAYS = [str(DAY1), str(DAY2)]


PATTERN = "orders/dt={partition}/*.parquet"


def parquet(*ids: int) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"day": pa.array([DAY1] * len(ids)), "id": pa.array(ids, pa.int64())}), sink)
    return sink.getvalue().to_pybytes()


class Folder:
    """A landing folder and a lake folder; files look written a minute ago."""

    def __init__(self, path: Path) -> None:
        self._path = path / "landing"
        self.inbox: Any = LocalInbox(self._path)
        self.lake = Lake(LocalStore(path / "lake"))

    def write(self, name: str, content: bytes) -> None:
        target = self._path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.stat().st_mtime if target.exists() else time.time() - 100
        target.write_bytes(content)
        os.utime(target, (before + 1, before + 1))

    def names(self) -> list[str]:
        return [info.key for info in self.inbox.list("")]

    def remove(self, name: str) -> None:
        (self._path / name).unlink()


class Bucket:
    """A landing bucket and a lake in another one."""

    def __init__(self, client: Any, landing: str, lake: str) -> None:
        from dataops_platform.lake.gcs import GcsStore
        from dataops_platform.lake.gcs_inbox import GcsInbox

        self._bucket = client.bucket(landing)
        self.inbox: Any = GcsInbox(client, landing, "in")
        self.lake = Lake(GcsStore(client, lake, "raw"))

    def write(self, name: str, content: bytes) -> None:
        self._bucket.blob(f"in/{name}").upload_from_string(content)

    def names(self) -> list[str]:
        return [info.key for info in self.inbox.list("")]

    def remove(self, name: str) -> None:
        self._bucket.blob(f"in/{name}").delete()


def place(scene: Any, pattern: str = PATTERN, made_format: FileFormat = FileFormat.PARQUET, **more: Any) -> Place:
    landing = Landing("in", compile_pattern(pattern, T.partitioning), FileReading(made_format), **more)
    return Place.open(landing, scene.inbox, scene.inbox.url)


def ids(scene: Any) -> list[tuple[str, list[list[int]]]]:
    """Partition and the ids of each object, of every delivery, by partition and time."""
    found = []
    for ref in scene.lake.manifests("orders"):
        delivery = scene.lake.read(ref.key)
        assert scene.lake.damage(delivery) is None
        contents = [scene.lake.store.read(item.key) for item in delivery.objects]
        tables = [pq.read_table(pa.BufferReader(content)) for content in contents]
        found.append((ref.partition, [t.column("id").to_pylist() for t in tables]))
    return found
