"""Backup and publication of models: checkpoint, gate, production table and production lake."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataops_platform.contracts.model import Table
from dataops_platform.lake import keys
from dataops_platform.lake.store import ObjectConflict, ObjectStore
from dataops_platform.progress import Progress, silent
from dataops_platform.quality.gate import Gate, Refusal
from dataops_platform.transformation.models import Model, Models
from dataops_platform.warehouse.base import EMPTY, ModelVersion, PublicationItem, Warehouse
from dataops_platform.warehouse.ledger import Ledger

AT_ONCE = 1000
"""Partitions that one transaction publishes at most: BigQuery limits how long a statement is, and what it changes."""
BACKUP = "transformed/"
"""Prefix of the models' checkpoints in the lake."""


@dataclass(frozen=True, slots=True)
class BackupOutcome:
    """Partitions that were written, and those whose checkpoint existed."""

    written: tuple[str, ...]
    existing: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class PublishOutcome:
    """Partitions that went to production, that were there already, and that the gate refused."""

    published: tuple[str, ...]
    unchanged: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    rows: int


def backup(
    model: Model,
    warehouse: Warehouse,
    store: ObjectStore,
    partitions: Collection[str] | None,
    versions: Mapping[str, ModelVersion] | None = None,
) -> BackupOutcome:
    """Checkpoint a model's partitions in the lake as parquet, once per partition and data version.

    The objects come first, then a record that lists them: a backup without its record is none.

    Raises:
        NoSuchTable: the model has not been built.
        DataRefused: the rows changed meanwhile; there is no backup of them.
    """
    found = warehouse.model_versions(model.slice, partitions) if versions is None else versions
    there = _recorded(store, f"_backups/{model.name}/", found)
    missing = {k: v for k, v in found.items() if keys.backup_key(model.name, k, v.data_version) not in there}
    if missing:
        for key, objects in warehouse.export(model.slice, missing, store, BACKUP).items():
            body = {"model": model.name, "partition": key, "data_version": found[key].data_version, "objects": objects}
            try:
                store.create(keys.backup_key(model.name, key, found[key].data_version), _json(body))
            except ObjectConflict:  # somebody else made the same backup meanwhile: theirs counts
                continue
    rows = sum(version.row_count for version in found.values())
    return BackupOutcome(tuple(sorted(missing)), tuple(sorted(set(found) - set(missing))), rows)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def _recorded(store: ObjectStore, prefix: str, partitions: Collection[str]) -> set[str]:
    """Keys of the records of some partitions, and of those between them: what lies before and after is not listed."""
    if not partitions:
        return set()
    return {info.key for info in store.list(prefix, *keys.folders(prefix, partitions))}


def publish(
    model: Model,
    models: Models,
    tables: Mapping[str, Table],
    warehouse: Warehouse,
    lake: ObjectStore,
    production: ObjectStore,
    partitions: Collection[str] | None,
    run_id: str,
    progress: Progress = silent,
) -> PublishOutcome:
    """Publish the partitions of a model that the gate lets through; those in production already are left alone.

    The parquet objects are created first, under names that hold the data version, then the production table and the
    ledger change in one transaction, then a record per partition makes the objects visible in the production lake.
    A publication that was killed between the steps is completed by the next one.

    Raises:
        NoSuchTable: the model has not been built.
        DataRefused: the rows changed between the gate and the transaction; nothing was published.
    """
    ledger = Ledger(warehouse)
    versions = warehouse.model_versions(model.slice, partitions)
    current = ledger.published([model.name])[model.name]
    if partitions is None:
        # Everything is asked for: days that production has and the model has no longer become empty.
        versions = {key: ModelVersion(EMPTY, 0) for key in current if model.partition_field} | versions
    gate = Gate(ledger, tables, models.required_tests, [model.name])
    # A day that nothing was delivered for: not built, not in production, nothing to publish.
    built = gate.built(model.name)
    versions = {k: v for k, v in versions.items() if v.data_version != EMPTY or k in built or k in current}
    refusals = gate.refusals(model.name, versions)
    refused = {refusal.partition_key for refusal in refusals}
    passed = {key: version for key, version in versions.items() if key not in refused}
    new = {key: version for key, version in passed.items() if current.get(key) != version.data_version}

    incomplete, numbers = new, {}
    if len(new) < len(passed):  # of those in production already, some may have no record
        recorded = _recorded(production, f"_publications/{model.name}/", passed)
        numbers = ledger.publication_numbers(model.name)
        incomplete = {
            k: v for k, v in passed.items() if k in new or _record_key(model.name, k, numbers[k], v) not in recorded
        }
    objects: dict[str, list[str]] = {}
    if incomplete:
        backup(model, warehouse, lake, list(incomplete), incomplete)
        objects = {
            key: _copy(model.name, key, version.data_version, lake, production) for key, version in incomplete.items()
        }
    if new:
        items = [
            PublicationItem(key, version.data_version, keys.model_prefix(model.name, key, version.data_version))
            for key, version in sorted(new.items())
        ]
        for start in range(0, len(items), AT_ONCE):
            warehouse.publish(model.slice, items[start : start + AT_ONCE], str(uuid.uuid4()), run_id)
            progress(min(start + AT_ONCE, len(items)), len(items))
        numbers = ledger.publication_numbers(model.name)
    for key, version in incomplete.items():
        body = {"model": model.name, "partition": key, "data_version": version.data_version, "objects": objects[key]}
        production.create(_record_key(model.name, key, numbers[key], version), _json(body))
    return PublishOutcome(
        published=tuple(sorted(new)),
        unchanged=tuple(sorted(set(passed) - set(new))),
        refusals=tuple(refusals),
        rows=sum(version.row_count for version in new.values()),
    )


def _copy(model: str, partition: str, version: str, lake: ObjectStore, production: ObjectStore) -> list[str]:
    """Copy a backup's objects to the production lake; their keys there. Those that are there already stay."""
    record = json.loads(lake.read(keys.backup_key(model, partition, version)))
    copied = []
    for name in record["objects"]:
        key = name.removeprefix(BACKUP)
        lake.copy_to(name, production, key)
        copied.append(key)
    return copied


def _record_key(model: str, partition: str, number: int, version: ModelVersion) -> str:
    """The last record of a partition, by name, counts: rows that come back get a new number."""
    return f"{keys.publication_key(model, partition)}{number:06d}.{version.data_version}.json"


def published_objects(production: ObjectStore, model: str) -> Sequence[str]:
    """Keys of a model's publication records in the production lake."""
    return [info.key for info in production.list(f"_publications/{model}/")]
