"""The lake as a folder: same promises as a bucket (create-only, all or nothing), on a POSIX file system."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from stat import S_ISREG

from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.store import (
    SCRATCH,
    ObjectConflict,
    ObjectInfo,
    ObjectMissing,
    ObjectStore,
    check_key,
    checksum,
)


class LocalStore:
    """Objects are files below `root`; a generation is the file's modification time in nanoseconds."""

    noun = "the lake"
    """What it is, for messages."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def url(self) -> str:
        """`file://` and the absolute folder."""
        return f"file://{self.root}"

    def uri(self, key: str) -> str:
        """The file's absolute path."""
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*check_key(key))

    def scratch(self) -> Path:
        """A new folder on the same file system, so that creating an object from it is a link, not a copy.

        Raises:
            ConfigError: the lake's folder can't be written.
        """
        base = self.root / SCRATCH
        try:
            base.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=base))
        except OSError as error:
            raise ConfigError(self._unwritable(error)) from error

    def _unwritable(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        return f"the lake {self.url} can't be written: {reason}. Check the folder, its permissions and free space."

    def _unreadable(self, error: OSError) -> str:
        where = f" at {error.filename}" if error.filename not in (None, str(self.root)) else ""
        reason = error.strerror or error
        return f"{self.noun} {self.url} can't be read{where}: {reason}. Check the folder and its permissions."

    def create(self, key: str, content: bytes | Path, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See `ObjectStore.create`. A hard link is the create-only step: it fails if the name exists."""
        path = self._path(key)
        try:
            return self._create(key, path, content)
        except OSError as error:
            raise ConfigError(self._unwritable(error)) from error

    def _create(self, key: str, path: Path, content: bytes | Path) -> ObjectInfo:
        temporary = self._temporary(content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(temporary, path)
            except FileExistsError:
                if not filecmp.cmp(temporary, path, shallow=False):
                    raise ObjectConflict(f"object {key!r} exists in {self.url} with other content") from None
        finally:
            temporary.unlink(missing_ok=True)
            if temporary is not content:
                shutil.rmtree(temporary.parent, ignore_errors=True)
        _sync(path.parent)
        info = self.stat(key)
        assert info is not None, key
        return info

    def _temporary(self, content: bytes | Path) -> Path:
        """A complete, synced file on the lake's file system that holds the content."""
        if isinstance(content, bytes):
            temporary = self.scratch() / "object"
            temporary.write_bytes(content)
        elif content.is_relative_to(self.root):
            temporary = content
        else:
            temporary = self.scratch() / content.name
            shutil.copyfile(content, temporary)
        _sync(temporary)
        return temporary

    def read(self, key: str) -> bytes:
        """See `ObjectStore.read`."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise ObjectMissing(f"there is no object {key!r} in {self.url}") from None
        except OSError as error:
            raise ConfigError(self._unreadable(error)) from error

    def stat(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.stat`."""
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(self._unreadable(error)) from error
        if not S_ISREG(status.st_mode):
            return None
        return _info(key, status)

    def checksum(self, key: str) -> str:
        """See `ObjectStore.checksum`."""
        try:
            return checksum(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(f"there is no object {key!r} in {self.url}") from None
        except OSError as error:
            raise ConfigError(self._unreadable(error)) from error

    def list(self, prefix: str, start: str | None = None, end: str | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`. Folders outside [start, end) are not entered."""
        yield from self._walk(self.root, "", prefix, start or "", end, ())

    def _walk(
        self, folder: Path, base: str, prefix: str, start: str, end: str | None, above: tuple[str, ...]
    ) -> Iterator[ObjectInfo]:
        """Objects below a folder.

        Args:
            above: the folders that it is in, links resolved: a link to one of them would lead round for ever.
        """
        real = os.path.realpath(folder)
        if real in above:
            return
        try:
            with os.scandir(folder) as entries:
                # A folder sorts with its trailing slash, as its objects' keys do.
                names = sorted((f"{base}{e.name}/" if _is_folder(e) else f"{base}{e.name}", e) for e in entries)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(self._unreadable(error)) from error
        for key, entry in names:
            relevant = key.startswith(prefix) or (key.endswith("/") and prefix.startswith(key))
            if not relevant or entry.name == SCRATCH or (end is not None and key >= end):
                continue
            if key.endswith("/"):
                if key >= start or start.startswith(key):
                    yield from self._walk(Path(entry.path), key, prefix, start, end, (*above, real))
            elif key >= start:
                try:
                    yield _info(key, entry.stat())
                except FileNotFoundError:  # renamed or removed since the folder was read: no object any more
                    continue
                except OSError as error:
                    if error.errno != errno.ELOOP:  # a link to itself is no object either
                        raise ConfigError(self._unreadable(error)) from error

    def copy_to(self, key: str, target: ObjectStore, target_key: str) -> ObjectInfo:
        """See `ObjectStore.copy_to`. Objects are immutable, so a hard link is a copy."""
        source = self._path(key)
        if not source.is_file():
            raise ObjectMissing(f"there is no object {key!r} in {self.url}")
        scratch = target.scratch()
        try:
            temporary = scratch / source.name
            try:
                os.link(source, temporary)
            except OSError:  # another file system
                shutil.copyfile(source, temporary)
            return target.create(target_key, temporary)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_mtime_ns, status.st_size, status.st_mtime_ns // 1_000_000)


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems can't sync a folder; the data itself is written
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
