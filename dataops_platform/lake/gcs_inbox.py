"""Landing as a Cloud Storage bucket: footers are read by ranges, and copies are made by the service."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
from google.api_core import exceptions as api
from google.cloud.storage import Blob

from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.google_errors import google_errors
from dataops_platform.lake.deliveries import Part, read_footer
from dataops_platform.lake.gcs import GcsStore, described
from dataops_platform.lake.store import ObjectConflict, ObjectInfo, ObjectMissing, ObjectStore, checksum

RANGE = 1 << 16
"""Bytes asked for at once of a footer: what most footers fit into."""


class GcsInbox(GcsStore):
    """A bucket that others write to, below a prefix. Objects appear whole, so nothing need settle."""

    settle = 0.0
    together = 8

    def checksum_of(self, info: ObjectInfo) -> str:
        """See `Inbox.checksum_of`."""
        return str(self._generation(info).crc32c)

    def fetch(self, info: ObjectInfo, target: Path) -> None:
        """See `Inbox.fetch`. The checksum of what came is compared with the object's."""
        blob = self._generation(info)

        def download() -> None:
            blob.download_to_filename(str(target), checksum=None, retry=None)
            if checksum(target) != blob.crc32c:
                raise ConnectionError(f"other bytes of {info.key!r} came than were stored")

        try:
            with self._words("read", "storage.objects.get"):
                self._retry(download)()
        except api.NotFound:
            raise self._gone(info) from None
        except OSError as error:
            raise ConfigError(
                f"{target} can't be written: {error.strerror or error}. Check the free space on its disk."
            ) from error

    def missing(self) -> str | None:
        """See `Inbox.missing`."""
        return None

    def parquet(self, info: ObjectInfo, scratch: Path) -> Part:
        """See `Inbox.parquet`. Nothing is copied to this machine."""
        blob = self._generation(info)

        def read(start: int, end: int) -> bytes:
            def download() -> bytes:
                content: bytes = blob.download_as_bytes(start=start, end=end - 1, checksum=None, retry=None)
                if len(content) != end - start:
                    raise ConnectionError(f"{len(content)} of {end - start} bytes of {info.key!r} came")
                return content

            with self._words("read", "storage.objects.get"):
                return self._retry(download)()

        if info.size == 0:
            raise DataRefused(
                f"{self.uri(info.key)}: the object is empty (0 bytes); a delivery without rows is a parquet file too"
            )
        try:
            stream = cast(BinaryIO, io.BufferedReader(_Ranges(info.size, read), RANGE))
            schema, rows = read_footer(stream, self.uri(info.key))
        except api.NotFound:
            raise self._gone(info) from None
        return _Remote(self, info, rows, schema, str(blob.crc32c))

    def remove(self, info: ObjectInfo) -> bool:
        """See `Inbox.remove`."""
        blob = self._bucket.blob(self._name(info.key))
        try:
            with google_errors(
                "remove objects from", self.url, f"storage.objects.delete on bucket {self._bucket.name}"
            ):
                blob.delete(if_generation_match=info.generation, retry=self._retry)
        except (api.NotFound, api.PreconditionFailed):
            return False
        return True

    def copy_generation(self, info: ObjectInfo, crc: str, target: ObjectStore, target_key: str) -> ObjectInfo:
        """Copy that generation into the lake by the service itself; what is there then has that checksum.

        Raises:
            ObjectMissing: it was overwritten or removed.
            ObjectConflict: the key holds other content.
            ConfigError: the lake is no bucket, or a permission is missing.
        """
        if not isinstance(target, GcsStore):
            raise ConfigError(f"objects of {self.url} can't be copied to {target.url}: both must be buckets")
        source = self._bucket.blob(self._name(info.key), generation=info.generation)
        blob = target._bucket.blob(target._name(target_key))
        token = None
        try:
            with google_errors(
                f"copy from {self.url} to", target.url, "storage.objects.get on the first or .create on the second"
            ):
                while True:
                    token, _, _ = blob.rewrite(source, token=token, if_generation_match=0, retry=self._retry)
                    if token is None:
                        break
        except api.PreconditionFailed:  # copied before, perhaps by a call whose answer was lost
            blob = target._get(target_key)
        except api.NotFound:
            self._generation(info)  # says so if that is what is missing
            raise target._no_bucket() from None
        if blob.crc32c != crc:
            raise ObjectConflict(
                f"the copy {target.uri(target_key)} of {self.uri(info.key)} holds other bytes than the original"
                f" (checksum {blob.crc32c}, not {crc}). Remove the copy; nothing refers to it."
            )
        return described(target_key, blob)

    def _generation(self, info: ObjectInfo) -> Blob:
        with self._words("read", "storage.objects.get"):
            blob = self._bucket.get_blob(self._name(info.key), generation=info.generation, retry=self._retry)
        if blob is None or int(blob.generation) != info.generation:
            raise self._gone(info)
        return blob

    def _gone(self, info: ObjectInfo) -> ObjectMissing:
        return ObjectMissing(f"{self.uri(info.key)} was overwritten or removed while it was read")


@dataclass(frozen=True, slots=True)
class _Remote:
    """An object that is copied by the service."""

    inbox: GcsInbox
    info: ObjectInfo
    rows: int
    schema: pa.Schema
    checksum: str

    def put(self, store: ObjectStore, key: str) -> ObjectInfo:
        return self.inbox.copy_generation(self.info, self.checksum, store, key)


class _Ranges(io.RawIOBase):
    """An object as a file that can be sought; only the ranges that are read are asked for."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size, self._read, self._position = size, read, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        end = min(self._position + len(view), self._size)
        content = self._read(self._position, end) if end > self._position else b""
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
