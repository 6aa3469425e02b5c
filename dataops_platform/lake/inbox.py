"""Landing: a place that others write to. Unlike the lake it changes, so every read is of a certain generation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.lake.deliveries import Part, file_part
from dataops_platform.lake.local import LocalStore
from dataops_platform.lake.store import ObjectInfo, ObjectMissing


class Unreadable(DataRefused):
    """An object may not be read. That is no fault of its bytes: the next look tries again."""


class Inbox(Protocol):
    """Objects that others write, overwrite and remove as they like."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    @property
    def settle(self) -> float:
        """How many seconds an object must have been left alone to count as written; 0 where writes are atomic."""
        ...

    @property
    def together(self) -> int:
        """How many objects are best read at the same time."""
        ...

    def uri(self, key: str) -> str:
        """An object's address, for people."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """The object as it is now, or None."""
        ...

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        ...

    def checksum_of(self, info: ObjectInfo) -> str:
        """CRC32C of that generation.

        Raises:
            ObjectMissing: it was overwritten or removed.
        """
        ...

    def fetch(self, info: ObjectInfo, target: Path) -> None:
        """Write that generation's bytes into a local file.

        Raises:
            ObjectMissing: it was overwritten or removed.
            Unreadable: it may not be read.
            ConfigError: the file can't be written.
        """
        ...

    def parquet(self, info: ObjectInfo, scratch: Path) -> Part:
        """That generation as a part of a delivery.

        Args:
            scratch: a new file there may hold a copy.

        Raises:
            ObjectMissing: it was overwritten or removed.
            DataRefused: it isn't readable parquet.
        """
        ...

    def missing(self) -> str | None:
        """What to say where the place isn't there; None where it is. A missing bucket is an error of every call."""
        ...

    def remove(self, info: ObjectInfo) -> bool:
        """Remove that generation; whether it was still there."""
        ...


class LocalInbox(LocalStore):
    """A folder. Files grow while they are written: one counts once it wasn't touched for `settle` seconds."""

    noun = "landing"
    settle = 2.0
    together = 1

    def checksum_of(self, info: ObjectInfo) -> str:
        """See `Inbox.checksum_of`."""
        found = self.checksum(info.key)
        self._unchanged(info)
        return found

    def fetch(self, info: ObjectInfo, target: Path) -> None:
        """See `Inbox.fetch`. Never a link: whoever wrote the file may write it again in place."""
        source = self._path(info.key)
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            raise self._gone(info) from None
        except OSError as error:
            if error.filename == str(source):
                raise Unreadable(
                    f"{source} can't be read: {error.strerror or error}. Check its permissions."
                ) from error
            raise ConfigError(
                f"{target} can't be written: {error.strerror or error}. Check the free space on its disk."
            ) from error
        self._unchanged(info)

    def missing(self) -> str | None:
        """See `Inbox.missing`."""
        return None if self.root.is_dir() else f"there is no folder {self.root}"

    def parquet(self, info: ObjectInfo, scratch: Path) -> Part:
        """See `Inbox.parquet`."""
        self.fetch(info, scratch)
        return file_part(scratch, self.uri(info.key))

    def remove(self, info: ObjectInfo) -> bool:
        """See `Inbox.remove`."""
        if self.stat(info.key) != info:
            return False
        try:
            self._path(info.key).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.uri(info.key)} can't be removed: {error.strerror or error}. Check the folder's permissions,"
                " or write `afterLanding: keep` into the contract."
            ) from error
        return True

    def _unchanged(self, info: ObjectInfo) -> None:
        if self.stat(info.key) != info:
            raise self._gone(info)

    def _gone(self, info: ObjectInfo) -> ObjectMissing:
        return ObjectMissing(f"{self.uri(info.key)} was overwritten or removed while it was read")
