"""Names of objects in the lake. Names sort in arrival order, so a listing from an offset finds what is new."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime

_ISO_MS = "%Y-%m-%dT%H:%M:%S."


def timestamp(moment: datetime) -> str:
    """ISO-8601 in UTC with milliseconds, like `2013-01-02T06:00:00.000Z`.

    Raises:
        ValueError: `moment` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a delivery's created_at needs a time zone")
    utc = moment.astimezone(UTC)
    return utc.strftime(_ISO_MS) + f"{utc.microsecond // 1000:03d}Z"


def parse_timestamp(text: str) -> datetime:
    """The inverse of `timestamp`.

    Raises:
        ValueError: the text is not of that form.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def data_key(table: str, created_at: datetime, partition: str, number: int, checksum: str) -> str:
    """Key of one data object of a delivery.

    The checksum makes the name follow the content: a repeated write of the same data meets its own object, and a
    write that was killed half-way can't stand in the way of a later one with other bytes.
    """
    name = f"{partition}.{number:04d}.{checksum}.parquet"
    return f"raw_{table}/created_at={timestamp(created_at)}/{name}"


def manifest_prefix(table: str, partition: str | None = None) -> str:
    """Prefix of all manifests of a table, or of one partition of it."""
    return f"_deliveries/raw_{table}/" + (f"{partition}/" if partition else "")


def folders(prefix: str, partitions: Collection[str]) -> tuple[str, str]:
    """Where a listing of some partitions' folders below a prefix begins, and the key before which it ends.

    Not just the first and the last partition: of names, `eu-west` comes after `eu`, and its folder before that of `eu`.
    """
    return min(f"{prefix}{key}/" for key in partitions), max(f"{prefix}{key}0" for key in partitions)  # "0" follows "/"


def manifest_key(table: str, partition: str, created_at: datetime) -> str:
    """Key of a delivery's manifest."""
    return f"{manifest_prefix(table, partition)}{timestamp(created_at)}.json"


def parse_manifest_key(key: str) -> tuple[str, str, datetime]:
    """Table, partition and created_at of a manifest key.

    Raises:
        ValueError: the key is not a manifest's.
    """
    root, raw_table, partition, name = key.split("/")
    if root != "_deliveries" or not raw_table.startswith("raw_") or not name.endswith(".json"):
        raise ValueError(f"{key!r} is not a manifest")
    return raw_table.removeprefix("raw_"), partition, parse_timestamp(name.removesuffix(".json"))


def landing_prefix(table: str, kind: str, partition: str | None = None) -> str:
    """Prefix of what is recorded about a table's landed objects: `log` or `refused`; of one partition if given."""
    return f"_landings/raw_{table}/{kind}/" + (f"{partition}/" if partition else "")


DEAD_LETTERS = "_dead_letters/notifications/"
"""Prefix of messages that could not be read."""


def dead_letter_key(message_id: str) -> str:
    """Key of a message that could not be read."""
    return f"{DEAD_LETTERS}{re.sub(r'[^A-Za-z0-9_-]', '_', message_id)}.json"


def model_prefix(model: str, partition: str, data_version: str) -> str:
    """Prefix of the objects of one partition of a model, in the backup and in the production lake alike."""
    return f"{model}/{partition}/{data_version}/"


def backup_key(model: str, partition: str, data_version: str) -> str:
    """Key of the record that lists the objects of a backup, and makes it visible."""
    return f"_backups/{model}/{partition}/{data_version}.json"


def publication_key(model: str, partition: str) -> str:
    """Prefix of the publication records of one partition of a model."""
    return f"_publications/{model}/{partition}/"
