"""The lake as a Cloud Storage bucket, below a prefix."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.google_errors import RETRY, google_errors, may_pass
from dataops_platform.lake.store import ObjectConflict, ObjectInfo, ObjectMissing, ObjectStore, check_key, checksum

CHUNK = 8 << 20
"""Bytes that an upload or download holds in memory; larger objects go up in resumable parts of this size."""

LISTING_FIELDS = "items(name,generation,size,timeCreated),nextPageToken"
PAGE = 1000
"""Objects per page of a listing: the most that the service returns."""


_TYPES = {"parquet": "application/vnd.apache.parquet", "html": "text/html; charset=utf-8"}
"""Content types by the end of a key."""


class GcsStore:
    """Objects of one bucket whose names begin with a prefix. Reading and creating only: nothing is ever deleted."""

    def __init__(self, client: Client, bucket: str, prefix: str = "", retry: Retry = RETRY) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._retry = retry

    @property
    def url(self) -> str:
        """`gs://bucket/prefix`."""
        return f"gs://{self._bucket.name}/{self._prefix}".rstrip("/")

    def uri(self, key: str) -> str:
        """The object's `gs://` address."""
        return f"gs://{self._bucket.name}/{self._name(key)}"

    def _name(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _words(self, what: str, permission: str) -> AbstractContextManager[None]:
        return google_errors(what, self.url, f"{permission} on bucket {self._bucket.name}")

    def _no_bucket(self) -> ConfigError:
        return ConfigError(
            f"there is no bucket {self._bucket.name}. Create it"
            f" (`gcloud storage buckets create gs://{self._bucket.name}`), or correct the setting."
        )

    def scratch(self) -> Path:
        """A new local folder."""
        return Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX))

    def create(self, key: str, content: bytes | Path, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See `ObjectStore.create`. Precondition: generation 0, so that of several writers one wins.

        An answer that was lost looks like another writer: the repeated call meets its own object (412). Its checksum
        tells the two apart. The client repeats single requests; the whole is repeated when the last answer can't be
        read, when the service has forgotten an upload in parts, or got other bytes.
        """
        blob = self._bucket.blob(self._name(key), chunk_size=CHUNK)
        blob.metadata = dict(metadata or {})
        kind = _TYPES.get(key.rsplit(".", 1)[-1], "application/json")
        options: dict[str, Any] = {
            "content_type": kind, "if_generation_match": 0, "checksum": "crc32c", "retry": self._retry
        }  # fmt: skip
        try:
            with self._words("write", "storage.objects.create"):
                again = self._retry.with_predicate(_anew)
                try:
                    if isinstance(content, bytes):
                        again(blob.upload_from_string)(content, **options)
                    else:
                        again(blob.upload_from_filename)(str(content), **options)
                except api.Forbidden:
                    # Who may not delete may be told so instead of the condition, where an object is there already.
                    if not self._there(key):
                        raise
                    raise api.PreconditionFailed("the object exists") from None  # type: ignore[no-untyped-call]
        except api.PreconditionFailed:
            self._same_or_conflict(key, checksum(content))
            blob = self._get(key)
        except api.NotFound:
            raise self._no_bucket() from None
        if isinstance(content, Path) and content.parent.name.startswith(_SCRATCH_PREFIX):
            content.unlink(missing_ok=True)
        return described(key, blob)

    def _there(self, key: str) -> bool:
        """Whether an object is known to be there; not, if that may not be asked."""
        try:
            return self._bucket.get_blob(self._name(key), retry=self._retry) is not None
        except api.Forbidden:
            return False

    def _same_or_conflict(self, key: str, wanted: str) -> None:
        if self._get(key).crc32c != wanted:
            raise ObjectConflict(f"object {key!r} exists in {self.url} with other content") from None

    def _get(self, key: str) -> Blob:
        with self._words("read", "storage.objects.get"):
            blob = self._bucket.get_blob(self._name(key), retry=self._retry)
        if blob is None:
            raise ObjectMissing(f"there is no object {key!r} in {self.url}")
        return blob

    def read(self, key: str) -> bytes:
        """See `ObjectStore.read`. The checksum of what came is compared with the object's.

        By us: the client compares none when it goes on with a download that broke off.
        """

        def download() -> bytes:
            blob = self._bucket.blob(self._name(key))
            content: bytes = blob.download_as_bytes(checksum=None, retry=None)
            if checksum(content) != blob.crc32c:
                raise ConnectionError(f"{len(content)} bytes of {key!r} came, and not those that were stored")
            return content

        try:
            with self._words("read", "storage.objects.get"):
                return self._retry(download)()
        except api.NotFound:
            raise ObjectMissing(f"there is no object {key!r} in {self.url}") from None

    def stat(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.stat`."""
        try:
            return described(key, self._get(key))
        except ObjectMissing:
            return None

    def checksum(self, key: str) -> str:
        """See `ObjectStore.checksum`. The service computed it when the object was written."""
        return str(self._get(key).crc32c)

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`. Asks for names in [start, end) only, and for no more fields than it returns."""
        pages = self._client.list_blobs(
            self._bucket,
            prefix=self._prefix + prefix,
            start_offset=self._prefix + start if start else None,
            end_offset=self._prefix + end if end is not None else None,
            fields=LISTING_FIELDS,
            page_size=PAGE,
            retry=self._retry,
        )
        iterator = iter(pages)
        while True:
            try:
                with self._words("list", "storage.objects.list"):
                    blob = next(iterator)
            except StopIteration:
                return
            except api.NotFound:
                raise self._no_bucket() from None
            key = blob.name.removeprefix(self._prefix)
            if key and not key.endswith("/"):  # folder markers are no objects
                yield described(key, blob)

    def copy_to(self, key: str, target: ObjectStore, target_key: str) -> ObjectInfo:
        """See `ObjectStore.copy_to`. Server side: no byte comes through the worker."""
        if not isinstance(target, GcsStore):
            raise ConfigError(f"objects of {self.url} can't be copied to {target.url}: both must be buckets")
        source = self._bucket.blob(self._name(key))
        blob = target._bucket.blob(target._name(target_key))
        token = None
        try:
            with google_errors(
                f"copy from {self.url} to", target.url, "storage.objects.get on the first or .create on the second"
            ):
                while True:
                    token, _, _ = blob.rewrite(source, token=token, if_generation_match=0, retry=self._retry)
                    if token is None:
                        return target._stated(target_key)
        except api.PreconditionFailed:
            target._same_or_conflict(target_key, self.checksum(key))
            return target._stated(target_key)
        except api.NotFound:
            if self.stat(key) is None:
                raise ObjectMissing(f"there is no object {key!r} in {self.url}") from None
            raise target._no_bucket() from None

    def _stated(self, key: str) -> ObjectInfo:
        return described(key, self._get(key))


_SCRATCH_PREFIX = "dataops-"


def _anew(error: BaseException) -> bool:
    """Whether an upload may go better when it begins anew."""
    if isinstance(error, api.GoogleAPICallError) and error.code in (404, 410):
        # At an address of its own: it is the upload in parts that is unknown, and not the bucket.
        return "upload_id=" in str(getattr(error.response, "url", ""))
    return may_pass(error) or isinstance(error, DataCorruption)  # then the client has deleted what was written


def described(key: str, blob: Blob) -> ObjectInfo:
    """An object as the service tells of it."""
    created = blob.time_created  # of the generation: `updated` changes with the metadata, too
    return ObjectInfo(key, int(blob.generation), int(blob.size), int(created.timestamp() * 1000) if created else 0)
