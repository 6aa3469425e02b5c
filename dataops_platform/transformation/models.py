"""The dbt manifest as the platform sees it: models, what they are made of, and their tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataops_platform.contracts.model import Dimension, Severity, Table
from dataops_platform.contracts.partitions import NamedPartitioning
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.quality.gate import RequiredTest
from dataops_platform.warehouse.base import ModelSlice
from dataops_platform.warehouse.names import Relation

META = "dataops"


@dataclass(frozen=True, slots=True)
class Test:
    """A dbt test of a model.

    Attributes:
        fingerprint: hash of what the test asks; a verdict counts only for the test it was reached with.
        reads: unique ids of the models and sources that it reads.
    """

    unique_id: str
    name: str
    model: str
    dimension: Dimension
    severity: Severity
    fingerprint: str
    description: str
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A dbt model.

    Attributes:
        partition_field: column that says which day a row belongs to, or which of the names that the tables it is made
            of are cut by; None: built as a whole.
        by_name: whether it is cut by name.
        publish: whether it goes to production.
        view: whether it has no rows of its own.
        sources: contract tables it is made of, directly or through other models.
        ancestors: models it is made of, directly or through others.
        checksum: hash of the model's code.
    """

    unique_id: str
    name: str
    relation: Relation
    partition_field: str | None
    publish: bool
    view: bool
    sources: tuple[str, ...]
    ancestors: tuple[str, ...]
    tests: tuple[Test, ...]
    checksum: str = ""
    by_name: bool = False

    @property
    def slice(self) -> ModelSlice:
        """How the warehouse finds and cuts it."""
        return ModelSlice(self.name, self.relation, self.partition_field, by_name=self.by_name)

    @property
    def required_tests(self) -> list[RequiredTest]:
        """The tests that must have passed before it is published."""
        return [RequiredTest(t.name, t.fingerprint) for t in self.tests if t.severity is Severity.ERROR]


@dataclass(frozen=True, slots=True)
class Models:
    """All models of the dbt project, parents before children."""

    items: tuple[Model, ...]

    def __getitem__(self, name: str) -> Model:
        for model in self.items:
            if model.name == name:
                return model
        raise KeyError(name)

    @property
    def published(self) -> list[Model]:
        """Those that go to production."""
        return [model for model in self.items if model.publish]

    @property
    def required_tests(self) -> dict[str, list[RequiredTest]]:
        """Model name → blocking tests, of every model."""
        return {model.name: model.required_tests for model in self.items}

    def by_id(self) -> dict[str, Model]:
        """Models by dbt's unique id."""
        return {model.unique_id: model for model in self.items}

    def read(self, model: Model) -> set[str]:
        """The contract tables whose values a model may hold, or its tests may see."""
        by_id = self.by_id()
        seen = {name for test in model.tests for uid in test.reads for name in _sources_of(by_id.get(uid), uid)}
        return {*model.sources, *seen}

    def tests(self) -> dict[str, Test]:
        """All tests by dbt's unique id."""
        return {test.unique_id: test for model in self.items for test in model.tests}


def _sources_of(model: Model | None, unique_id: str) -> Sequence[str]:
    """Those of a model; a source is one itself, and its id ends with its name."""
    return [unique_id.rpartition(".")[2]] if model is None else model.sources


def read_models(manifest: Mapping[str, Any], tables: Mapping[str, Table] | None = None) -> Models:
    """Read a dbt manifest.

    Args:
        tables: of the contracts, which say whether what a model is made of is cut by name.

    Raises:
        ConfigError: a test has no known dimension, a published model is a view, or the like; all of it in one text.
    """
    nodes: Mapping[str, Any] = manifest["nodes"]
    macros = _macros(manifest)
    sources: Mapping[str, Any] = manifest["sources"]
    problems: list[str] = []
    tests: dict[str, list[Test]] = {}
    for node in nodes.values():
        if node["resource_type"] == "test":
            test = _test(node, nodes, macros, problems)
            if test is not None:
                tests.setdefault(test.model, []).append(test)
    done: dict[str, Model] = {}
    pending = {uid: node for uid, node in nodes.items() if node["resource_type"] in ("model", "seed", "snapshot")}
    while pending:
        ready = [
            uid for uid, node in pending.items() if not any(p in pending for p in node["depends_on"].get("nodes", []))
        ]
        for uid in sorted(ready):
            done[uid] = _model(uid, pending.pop(uid), sources, done, tests, macros, problems, tables or {})
    if problems:
        raise ConfigError("\n".join(sorted(problems)))
    return Models(tuple(done.values()))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _macros(manifest: Mapping[str, Any]) -> str:
    """Hash of the macros of the project and its packages; dbt's own change with dbt alone.

    All of them count for every node: which ones a node uses can't be told from the manifest. dbt lists some only once
    the node has run, and uses others by their name alone, like an incremental strategy or an override of its own.
    """
    adapter = f"dbt_{manifest.get('metadata', {}).get('adapter_type', '')}"
    own = {
        uid: macro["macro_sql"]
        for uid, macro in manifest.get("macros", {}).items()
        if macro["package_name"] not in ("dbt", adapter)
    }
    return _hash(own)


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    meta: Mapping[str, Any] = node.get("config", {}).get("meta", {}).get(META, {})
    return meta


def _model(
    uid: str,
    node: Mapping[str, Any],
    sources: Mapping[str, Any],
    done: Mapping[str, Model],
    tests: Mapping[str, list[Test]],
    macros: str,
    problems: list[str],
    tables: Mapping[str, Table],
) -> Model:
    own_sources: set[str] = set()
    ancestors: dict[str, None] = {}
    for parent in node["depends_on"].get("nodes", []):
        if parent in sources:
            own_sources.add(sources[parent]["name"])
        elif parent in done:
            own_sources |= set(done[parent].sources)
            ancestors |= dict.fromkeys([*done[parent].ancestors, done[parent].name])
    meta = _meta(node)
    view = node["config"]["materialized"] in ("view", "ephemeral")
    if meta.get("publish") and view:
        problems.append(
            f"{node['original_file_path']}: a {node['config']['materialized']} can't be published; make it a table"
        )
    return Model(
        unique_id=uid,
        name=node["name"],
        relation=Relation(node["schema"], node.get("alias") or node["name"]),
        partition_field=meta.get("partition_field"),
        publish=bool(meta.get("publish", False)),
        view=view,
        sources=tuple(sorted(own_sources)),
        ancestors=tuple(ancestors),
        tests=tuple(sorted(tests.get(uid, ()), key=lambda t: t.name)),
        checksum=_hash([node.get("checksum", {}).get("checksum", ""), macros]),
        by_name="partition_field" in meta and _cut_by_name(tables[name] for name in own_sources if name in tables),
    )


def _cut_by_name(sources: Iterable[Table]) -> bool:
    """Whether a model of these tables is cut by name: none is cut by time, and some is by name."""
    cuts = [table.partitioning for table in sources if table.partitioning is not None]
    return bool(cuts) and all(isinstance(cut, NamedPartitioning) for cut in cuts)


def cut_like(model: Model, table: Table) -> bool:
    """Whether a partition of a model is made of the same partition of a table; else it is made of all of the table."""
    if table.partitioning is None or model.partition_field is None:
        return False
    return isinstance(table.partitioning, NamedPartitioning) is model.by_name


def _test(node: Mapping[str, Any], nodes: Mapping[str, Any], macros: str, problems: list[str]) -> Test | None:
    config = node["config"]
    model = node.get("attached_node")
    if model is None:
        named = config.get("meta", {}).get("dagster", {}).get("ref", {}).get("name")
        parents = [p for p in node["depends_on"]["nodes"] if p in nodes]
        candidates = [p for p in parents if named is None or nodes[p]["name"] == named]
        model = candidates[0] if len(candidates) == 1 else None
    if model is None or model not in nodes:
        problems.append(
            f"{node['original_file_path']}: test {node['name']} belongs to no single model;"
            " name it in config.meta.dagster.ref.name"
        )
        return None
    text = _meta(node).get("dimension")
    if text not in set(Dimension):
        problems.append(
            f"{node['original_file_path']}: test {node['name']} needs config.meta.dataops.dimension,"
            f" one of {', '.join(Dimension)}"
        )
        return None
    asked = {
        "test": node.get("test_metadata"),
        "sql": node["raw_code"],
        "macros": macros,
        "config": {
            name: config.get(name) for name in ("where", "limit", "error_if", "warn_if", "fail_calc", "severity")
        },
    }
    return Test(
        unique_id=node["unique_id"],
        name=node["name"],
        model=model,
        dimension=Dimension(text),
        severity=Severity.ERROR if str(config.get("severity", "error")).lower() == "error" else Severity.WARNING,
        fingerprint=_hash(asked),
        description=node.get("description") or "",
        reads=tuple(node["depends_on"]["nodes"]),
    )
