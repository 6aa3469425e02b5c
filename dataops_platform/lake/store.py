"""What the platform needs of an object store, whichever it is."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import google_crc32c

from dataops_platform.contracts.problems import DataOpsError

_BLOCK = 1 << 20


class ObjectConflict(DataOpsError):
    """An object of that key exists with other content. Objects are immutable: nothing was written."""


class ObjectMissing(DataOpsError):
    """There is no object of that key."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the store knows it.

    Attributes:
        key: its name, relative to the lake's root.
        generation: changes whenever the object is written anew; name and generation identify content.
        size: bytes.
        created_ms: when this generation was written, in milliseconds since 1970. It says nothing about identity.
    """

    key: str
    generation: int
    size: int
    created_ms: int = field(default=0, compare=False)


class ObjectStore(Protocol):
    """Create-only object storage. Keys use `/`; a listing is in key order."""

    @property
    def url(self) -> str:
        """The store's root, as in the settings."""
        ...

    def uri(self, key: str) -> str:
        """The object's address as the warehouse engine reads it."""
        ...

    def create(self, key: str, content: bytes | Path, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Write a new object, all or nothing. The same content under the same key again is success.

        A `Path` in a scratch folder is consumed: the store may move it instead of copying.

        Args:
            metadata: kept with the object where the store can, for people who look at it there.

        Raises:
            ObjectConflict: the key holds other content.
        """
        ...

    def read(self, key: str) -> bytes:
        """The whole content.

        Raises:
            ObjectMissing: there is no such object.
        """
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """What the store knows of the object, or None."""
        ...

    def checksum(self, key: str) -> str:
        """CRC32C of an object's bytes as they are now; see `checksum`. Where the store keeps one, nothing is read.

        Raises:
            ObjectMissing: there is no such object.
        """
        ...

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix` and lies in [start, end), in key order."""
        ...

    def copy_to(self, key: str, target: ObjectStore, target_key: str) -> ObjectInfo:
        """Copy an object into another store of the same kind, without moving bytes through the worker if possible."""
        ...

    def scratch(self) -> Path:
        """A local folder for files about to be created; on the store's own disk where it has one."""
        ...


def check_key(key: str) -> list[str]:
    """The parts of an object key.

    Raises:
        ValueError: it would leave the lake, or is no key on some store.
    """
    parts = key.split("/")
    if {"", ".", "..", SCRATCH} & set(parts):
        raise ValueError(f"not an object key: {key!r}")
    return parts


SCRATCH = ".scratch"
"""Folder of a store for what is not an object yet; never listed."""


def checksum(content: bytes | Path) -> str:
    """CRC32C as base64 of the big-endian bytes, the way Cloud Storage reports it."""
    crc: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    if isinstance(content, bytes):
        crc.update(content)
    else:
        with content.open("rb") as stream:
            while block := stream.read(_BLOCK):
                crc.update(block)
    return base64.b64encode(crc.digest()).decode()


def checksum_name(value: str) -> str:
    """The checksum in eight hex digits, fit for a file name."""
    return base64.b64decode(value).hex()
