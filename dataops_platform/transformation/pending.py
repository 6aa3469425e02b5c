"""What is left to do: compared from the source to production, without touching data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataops_platform.contracts.model import LoadMode, Scope, Table
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.ingestion.extractor import extractor_for, news
from dataops_platform.ingestion.landing import Place, undelivered
from dataops_platform.lake.deliveries import Lake, ManifestRef
from dataops_platform.quality.gate import WHOLE_TABLE, input_name, outdated
from dataops_platform.transformation.build import StagingVersions, source_inputs
from dataops_platform.transformation.models import Models, cut_like
from dataops_platform.warehouse.base import Warehouse
from dataops_platform.warehouse.corrections import corrected
from dataops_platform.warehouse.ledger import Ledger, version_of
from dataops_platform.warehouse.loading import foreign_partition
from dataops_platform.warehouse.names import staging


@dataclass(frozen=True, slots=True)
class Pending:
    """Partitions with work left, by table or model; `all` for those without partitions.

    Attributes:
        loaded: table → partitions that have been loaded.
        foreign: partitions that the lake has deliveries for and the contract doesn't have: nothing loads them.
    """

    undelivered: Mapping[str, Sequence[str]]
    unloaded: Mapping[str, Sequence[str]]
    unjudged: Mapping[str, Sequence[str]]
    unbuilt: Mapping[str, Sequence[str]]
    unpublished: Mapping[str, Sequence[str]]
    loaded: Mapping[str, Collection[str]] = field(default_factory=dict)
    foreign: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.undelivered or self.unloaded or self.unjudged or self.unbuilt or self.unpublished)

    def partitions(self) -> dict[str, set[str]]:
        """Table or model → partitions with work left."""
        found: dict[str, set[str]] = {}
        for group in (self.undelivered, self.unloaded, self.unjudged, self.unbuilt, self.unpublished):
            for name, keys in group.items():
                found.setdefault(name, set()).update(keys)
        return found


def pending(
    tables: Mapping[str, Table],
    models: Models,
    lake: Lake,
    warehouse: Warehouse,
    project: Path,
    places: Mapping[str, Place] | None = None,
) -> Pending:
    """Find what a run over everything would do. Costs some listings per table and a few ledger queries.

    Args:
        tables: those that get deliveries.
        places: where others write, by table; all of what is there is listed.

    Raises:
        ConfigError: a source's options are wrong.
    """
    ledger = Ledger(warehouse)
    undelivered: dict[str, list[str]] = {}
    unloaded: dict[str, list[str]] = {}
    foreign: dict[str, list[str]] = {}
    for name, table in tables.items():
        manifests = list(lake.manifests(name))
        loaded = ledger.loaded(name)
        _put(undelivered, name, _missing(table, lake, project, (places or {}).get(name), manifests))
        left = [ref for ref in manifests if ref.key not in loaded]
        new = {ref.partition for ref in left} - _given_way(table, lake, ledger, manifests, loaded, left)
        others = {partition for partition in new if foreign_partition(table, partition)}
        _put(unloaded, name, list(new - others))
        _put(foreign, name, list(others))
    versions = ledger.all_data_versions(list(tables))
    return Pending(
        undelivered,
        unloaded,
        _unjudged(tables, ledger, versions),
        _unbuilt(models, ledger, tables, versions),
        _unpublished(models, ledger),
        versions,
        foreign,
    )


def _given_way(
    table: Table,
    lake: Lake,
    ledger: Ledger,
    manifests: Sequence[ManifestRef],
    loaded: Collection[str],
    left: Sequence[ManifestRef],
) -> set[str]:
    """Partitions of which nothing is left but deliveries that were refused before a later one was loaded.

    A run of the partition tries them again. Without a key, however, what came later doesn't stand for them, unless
    their source has delivered it: then they aren't.
    """
    if not left:
        return set()
    refused = ledger.refused(table.name)
    if table.load_mode is LoadMode.APPEND:
        gone = corrected(table, lake, manifests, loaded, refused)
        others = {ref.partition for ref in left if ref.key not in gone}
    else:
        newest = {ref.partition: ref.key for ref in manifests if ref.key in loaded}  # listed in the order of arrival
        others = {ref.partition for ref in left if ref.key not in refused or newest.get(ref.partition, "") < ref.key}
    return {ref.partition for ref in left} - others


def _missing(
    table: Table, lake: Lake, project: Path, place: Place | None, manifests: Sequence[ManifestRef]
) -> Sequence[str]:
    """Partitions that a source, or landing, has something for that the lake doesn't have."""
    if table.source is None:
        return [] if place is None else list(undelivered(table, place, lake, table.partition_keys()))
    arrivals = extractor_for(table, project).available(table, table.partition_keys())
    return [arrival.partition for arrival in news(table, lake, arrivals, manifests)]


def arrived(
    tables: Mapping[str, Table], lake: Lake, project: Path, places: Mapping[str, Place] | None = None
) -> dict[str, set[str]]:
    """Table → partitions that a source, landing or the lake has something for.

    Args:
        tables: those that get deliveries.
        places: where others write, by table.

    Raises:
        ConfigError: a source's options are wrong.
    """
    found = {name: {ref.partition for ref in lake.manifests(name)} for name in tables}
    for name, table in tables.items():
        if table.source is not None:
            found[name] |= {a.partition for a in extractor_for(table, project).available(table, table.partition_keys())}
        elif places and name in places:
            found[name] |= undelivered(table, places[name], lake, table.partition_keys())
    return found


def _put(target: dict[str, list[str]], name: str, partitions: Sequence[str]) -> None:
    if partitions:
        target[name] = sorted(set(partitions))


def _unjudged(
    tables: Mapping[str, Table], ledger: Ledger, versions: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Partitions whose rows, whose rules, or whose referenced tables have changed since the verdict."""
    others = {other for table in tables.values() for rule in table.rules if (other := rule.other_table) is not None}
    references = ledger.table_versions(others)
    verdicts = ledger.latest_verdicts([str(staging(name)) for name in tables])
    result: dict[str, list[str]] = {}
    for name, table in tables.items():
        rules = {rule.id: rule for rule in table.rules}
        found = {
            (key, v.rule_id): (v.data_version, v.rule_hash)
            for key, group in verdicts[str(staging(name))].items()
            for v in group
            if v.rule_id in rules and not outdated(rules[v.rule_id], v, references)
        }
        fingerprints = {rule.id: rule.fingerprint for rule in table.rules}
        whole = version_of(versions[name].values())
        left = []
        for rule in table.rules:
            by_partition = rule.scope is Scope.PARTITION or table.partitioning is None
            wanted = versions[name] if by_partition else {UNPARTITIONED: whole} if versions[name] else {}
            left += [k for k, v in wanted.items() if found.get((k, rule.id)) != (v, fingerprints[rule.id])]
        _put(result, name, left)
    return result


def _unbuilt(
    models: Models, ledger: Ledger, tables: Mapping[str, Table], versions: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Partitions whose sources, code or tests have changed since the build."""
    items = [model for model in models.items if not model.view]
    builds = ledger.latest_builds([model.name for model in items])
    verdicts = ledger.latest_verdicts([model.name for model in items])
    staged = StagingVersions(versions)
    result: dict[str, list[str]] = {}
    for model in items:
        keys_of_model = {UNPARTITIONED}
        if model.partition_field:
            keys_of_model = {
                key
                for name in model.sources
                if name in tables and cut_like(model, tables[name])
                for key in versions[name]
            }
        left = []
        found = {(key, v.rule_id): v for key, group in verdicts[model.name].items() for v in group}
        for key in keys_of_model:
            build = builds[model.name].get(key)
            wanted = source_inputs(model, key, tables, staged)
            for name in model.sources:  # as a whole, a table counts only where a rule judges it as a whole
                if name in tables and not any(rule.scope is Scope.TABLE for rule in tables[name].rules):
                    wanted.pop(input_name("staging", name, WHOLE_TABLE), None)
            if build is None or any(build.inputs.get(name) != version for name, version in wanted.items()):
                left.append(key)
            elif any(
                (v := found.get((key, test.name))) is None
                or (v.data_version, v.rule_hash) != (build.data_version, test.fingerprint)
                for test in model.tests
            ):
                left.append(key)  # a test that is new, or that was changed
        _put(result, model.name, left)
    return result


def _unpublished(models: Models, ledger: Ledger) -> dict[str, list[str]]:
    """Built partitions that production does not have in that version."""
    names = [model.name for model in models.published]
    builds, published = ledger.latest_builds(names), ledger.published(names)
    result: dict[str, list[str]] = {}
    for name in names:
        _put(
            result, name, [key for key, build in builds[name].items() if published[name].get(key) != build.data_version]
        )
    return result
