"""Deliveries: immutable arrivals of data, visible only once their manifest exists."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from dataops_platform.contracts.file_formats import UNCAST
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.lake import keys
from dataops_platform.lake.store import (
    ObjectConflict,
    ObjectInfo,
    ObjectMissing,
    ObjectStore,
    checksum,
    checksum_name,
)

OBJECTS = "objects"
"""Under this name the origin of a delivery lists the files that landed, each of which is one of its objects."""

MOST_OBJECTS = 400
"""Objects of a delivery at most, where several can be made of what landed. Loaded at once into BigQuery, each is a
table of its own there, and a statement may name a thousand."""


@dataclass(frozen=True, slots=True)
class DeliveredObject:
    """One data object of a delivery; `checksum` is CRC32C in base64, `size` bytes.

    Attributes:
        uncast: whether it has the column `_uncast`, which others of the same delivery needn't have.
        schema: column name → Arrow type, where that is another than the delivery's.
    """

    key: str
    generation: int
    size: int
    checksum: str
    rows: int
    uncast: bool = False
    schema: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One immutable arrival of data for one table and one partition.

    Attributes:
        table: the table it is for.
        partition: key of the partition, `all` for a table without partitions.
        created_at: when the source made it; later deliveries win.
        objects: its data objects, in order.
        schema: column name → Arrow type of the first object, for people who read the manifest.
        origin: where it came from (source address, extractor).
        contract_version: version of the contract at delivery.
        declared: names of the columns that the contract had at delivery; None: a manifest of before they were kept.
        policy: the contract's `schemaPolicy` at delivery; None: a manifest of before it was kept.
        cut: what the partition is, as `Table.cut` says it; None: a manifest of before it was kept.
        git_commit: commit of the code that delivered it, if known.
    """

    table: str
    partition: str
    created_at: datetime
    objects: tuple[DeliveredObject, ...]
    schema: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    contract_version: str = ""
    git_commit: str | None = None
    declared: tuple[str, ...] | None = None
    cut: str | None = None
    policy: str | None = None

    @property
    def load_id(self) -> uuid.UUID:
        """Identity of the data: a hash of the (object, generation) set, so the same arrival is one load."""
        pairs = sorted((item.key, item.generation) for item in self.objects)
        text = json.dumps([self.table, self.partition, pairs])
        return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])

    def schema_of(self, item: DeliveredObject) -> Mapping[str, str]:
        """Column name → Arrow type of one of its objects."""
        return self.schema if item.schema is None else item.schema

    def files(self) -> dict[str, str]:
        """Object key → the landed file that it is: its name, `#`, which one of that name.

        Empty where objects aren't files by themselves: what is said of the origin of other deliveries is theirs.
        """
        landed = self.origin.get(OBJECTS)
        if not isinstance(landed, list) or len(landed) != len(self.objects):
            return {}
        if not all(isinstance(file, dict) and {"name", "generation"} <= file.keys() for file in landed):
            return {}
        return {
            item.key: f"{file['name']}#{file['generation']}" for item, file in zip(self.objects, landed, strict=True)
        }

    @property
    def rows(self) -> int:
        """Rows in all objects."""
        return sum(item.rows for item in self.objects)

    @property
    def size(self) -> int:
        """Bytes in all objects."""
        return sum(item.size for item in self.objects)

    @property
    def manifest(self) -> str:
        """Key of the manifest."""
        return keys.manifest_key(self.table, self.partition, self.created_at)

    def to_json(self) -> bytes:
        """The manifest's content."""
        body = asdict(self) | {
            "created_at": keys.timestamp(self.created_at),
            "load_id": str(self.load_id),
            "rows": self.rows,
            "bytes": self.size,
        }
        return json.dumps(body, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Delivery:
        """Read a manifest.

        Raises:
            ValueError: the content is not a manifest.
        """
        try:
            body = json.loads(content)
            return cls(
                table=body["table"],
                partition=body["partition"],
                created_at=keys.parse_timestamp(body["created_at"]),
                objects=tuple(DeliveredObject(**item) for item in body["objects"]),
                schema=body["schema"],
                origin=body["origin"],
                contract_version=body["contract_version"],
                git_commit=body["git_commit"],
                declared=None if body.get("declared") is None else tuple(body["declared"]),
                cut=body.get("cut"),
                policy=body.get("policy"),
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a manifest: {error}") from error


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A manifest by its key alone: enough to know whether it is new, without reading it."""

    key: str
    partition: str
    created_at: datetime


class Part(Protocol):
    """A parquet file that becomes one data object of a delivery; `checksum` is its CRC32C."""

    @property
    def rows(self) -> int:
        """Rows in it."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        ...

    @property
    def checksum(self) -> str:
        """CRC32C of its bytes."""
        ...

    def put(self, store: ObjectStore, key: str) -> ObjectInfo:
        """Make it an object of that key; as `ObjectStore.create` does."""
        ...


@dataclass(frozen=True, slots=True)
class _FilePart:
    """A local file."""

    path: Path
    rows: int
    schema: pa.Schema
    checksum: str

    def put(self, store: ObjectStore, key: str) -> ObjectInfo:
        return store.create(key, self.path)


class Lake:
    """Deliveries in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def deliver(
        self,
        table: str,
        partition: str,
        created_at: datetime,
        files: Sequence[Path],
        *,
        origin: Mapping[str, Any],
        contract_version: str,
        git_commit: str | None = None,
        declared: Sequence[str] | None = None,
        cut: str | None = None,
        policy: str | None = None,
    ) -> Delivery:
        """Checkpoint parquet files as one delivery: data first, the manifest last, each create-only.

        The files are consumed. A delivery that exists already (same table, partition and created_at) is returned as
        it is and nothing is written.

        Raises:
            DataRefused: a file is not readable parquet (the text names it), or there is none. Nothing is visible of
                the delivery.
        """
        key = keys.manifest_key(table, partition, keys.parse_timestamp(keys.timestamp(created_at)))
        if files and self.store.stat(key) is not None:
            return self.read(key)
        parts = [file_part(path, origin.get("file", path.name)) for path in files]
        return self.publish(
            self.prepare(
                table,
                partition,
                created_at,
                parts,
                origin=origin,
                contract_version=contract_version,
                git_commit=git_commit,
                declared=declared,
                cut=cut,
                policy=policy,
            )
        )

    def prepare(
        self,
        table: str,
        partition: str,
        created_at: datetime,
        parts: Sequence[Part],
        *,
        origin: Mapping[str, Any],
        contract_version: str,
        git_commit: str | None = None,
        declared: Sequence[str] | None = None,
        cut: str | None = None,
        policy: str | None = None,
        together: int = 1,
    ) -> Delivery:
        """Write a delivery's data objects. It becomes visible with `publish`.

        Args:
            together: how many are written at the same time.

        Raises:
            DataRefused: there is no part.
        """
        # In milliseconds, as whoever reads the manifest sees it.
        created_at = keys.parse_timestamp(keys.timestamp(created_at))
        if not parts:
            source = origin.get("file", table)
            raise DataRefused(f"{source}: a delivery without rows is a parquet file too; there is none")

        schema = _types(parts[0])

        def put(number: int, part: Part) -> DeliveredObject:
            name = keys.data_key(table, created_at, partition, number, checksum_name(part.checksum))
            info = part.put(self.store, name)
            own = _types(part)
            return DeliveredObject(
                name,
                info.generation,
                info.size,
                part.checksum,
                part.rows,
                UNCAST in part.schema.names,
                None if own == schema else own,
            )

        with ThreadPoolExecutor(together) as pool:
            objects = list(pool.map(put, itertools.count(), parts))
        return Delivery(
            table,
            partition,
            created_at,
            tuple(objects),
            schema,
            dict(origin),
            contract_version,
            git_commit,
            None if declared is None else tuple(declared),
            cut,
            policy,
        )

    def publish(self, delivery: Delivery) -> Delivery:
        """Write a delivery's manifest. Of several deliveries of the same name the first one counts; it is returned."""
        try:
            self.store.create(delivery.manifest, delivery.to_json())
        except ObjectConflict:  # somebody else delivered the same arrival meanwhile: theirs counts
            return self.read(delivery.manifest)
        return delivery

    def read(self, manifest: str) -> Delivery:
        """The delivery of a manifest.

        Raises:
            ObjectMissing: there is no such manifest.
            DataRefused: its content is damaged.
        """
        try:
            return Delivery.from_json(self.store.read(manifest))
        except ValueError as error:
            raise DataRefused(f"manifest {manifest!r} in {self.store.url} is damaged: {error}") from error

    def damage(self, delivery: Delivery) -> str | None:
        """Why a delivery's objects are not what was delivered; None where they are, byte by byte."""
        for item in delivery.objects:
            try:
                if self.store.checksum(item.key) == item.checksum:
                    continue
                what = "holds other bytes than were delivered (its checksum differs from the manifest's)"
            except ObjectMissing:
                what = "is gone"
            return f"object {item.key!r} in {self.store.url} {what}. Restore it, or deliver the data again."
        return None

    def manifests(self, table: str, partitions: Collection[str] | None = None) -> Iterator[ManifestRef]:
        """All manifests of a table, by partition and arrival; only of `partitions` where given.

        One listing that begins at the first partition asked and ends at the last, not one per partition.
        """
        prefix = keys.manifest_prefix(table)
        start = end = None
        if partitions is not None:
            if not partitions:
                return
            start, end = keys.folders(prefix, partitions)
        for info in self.store.list(prefix, start, end):
            try:
                _, partition, created_at = keys.parse_manifest_key(info.key)
            except ValueError:  # somebody else's file
                continue
            if partitions is None or partition in partitions:
                yield ManifestRef(info.key, partition, created_at)


INT96 = "int96"
"""The type of timestamps as Spark and Hive write them; Arrow has none for it. They are instants in UTC."""
_PHYSICAL = b"parquet"


def _types(part: Part) -> dict[str, str]:
    return {field.name: _type(field) for field in part.schema if field.name != UNCAST}


def _type(field: pa.Field) -> str:
    return INT96 if (field.metadata or {}).get(_PHYSICAL) == INT96.encode() else str(field.type)


def file_part(path: Path, source: str) -> Part:
    """A local parquet file as a part of a delivery. Delivering it consumes it.

    Args:
        source: where it comes from, for messages.

    Raises:
        DataRefused: it isn't readable parquet.
    """
    if path.stat().st_size == 0:
        raise DataRefused(f"{source}: the file is empty (0 bytes); a delivery without rows is a parquet file too")
    with path.open("rb") as stream:
        schema, rows = read_footer(stream, source)
    return _FilePart(path, rows, schema, checksum(path))


OWN_COLUMN = f"column {UNCAST!r} is the platform's own; call it something else"
"""What to say of a file of somebody else's that has it."""


def written_by_others(schema: pa.Schema, source: str) -> None:
    """Refuse a parquet file of somebody else's with a column that means something to the load.

    Raises:
        DataRefused: it has one, or two of one name: an engine would read one of them.
    """
    if UNCAST in schema.names:
        raise DataRefused(f"{source}: {OWN_COLUMN}")
    twice = next((name for name, count in Counter(schema.names).items() if count > 1), None)
    if twice is not None:
        raise DataRefused(f"{source}: column {twice!r} is there more than once; leave one of them, or rename them")


def read_footer(stream: BinaryIO, source: str) -> tuple[pa.Schema, int]:
    """Schema and row count of a parquet file, refusing what isn't one. Only the footer is read.

    Columns of type INT96 have that in their metadata.

    Args:
        stream: the file; can be sought.
        source: where it comes from, for messages.

    Raises:
        DataRefused: it isn't readable parquet.
    """
    try:
        with pq.ParquetFile(stream) as metadata:
            return _schema(metadata), metadata.metadata.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        stream.seek(0)
        if stream.read(4) != b"PAR1":
            what = "not a parquet file (it does not begin with PAR1); is it CSV or JSON under a wrong name?"
        else:
            what = "a damaged or truncated parquet file: its footer, at its end, can't be read."
        raise DataRefused(f"{source}: {what} Deliver it again.") from error


def _schema(file: pq.ParquetFile) -> pa.Schema:
    leaves = (file.schema.column(number) for number in range(len(file.schema)))
    old = {leaf.path for leaf in leaves if leaf.physical_type == "INT96"}
    fields = file.schema_arrow
    return pa.schema([f.with_metadata({_PHYSICAL: INT96}) if f.name in old else f for f in fields], fields.metadata)


def remove_scratch(folder: Path) -> None:
    """Remove a scratch folder and what is left in it."""
    shutil.rmtree(folder, ignore_errors=True)
