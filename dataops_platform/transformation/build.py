"""A build: dbt's results become builds and verdicts in the ledger, per partition."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.quality.gate import WHOLE_TABLE, input_name
from dataops_platform.transformation.dbt import DbtProject, NodeResult, environment
from dataops_platform.transformation.models import Model, Models, Test, cut_like
from dataops_platform.warehouse.base import EMPTY, Cost, ModelVersion, NoSuchTable, Warehouse
from dataops_platform.warehouse.ledger import NEVER_LOADED, Build, Ledger, Verdict, now, version_of
from dataops_platform.warehouse.names import STAGING, quote

_BUILT = {"success"}
_PASSED = {"pass"}
_JUDGED = {"pass", "warn", "fail"}


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """What a build did.

    Attributes:
        results: dbt's results by unique id.
        builds: what was recorded, by model and partition.
        verdicts: what was recorded for tests.
        costs: model → what it and its tests were charged for.
    """

    results: Mapping[str, NodeResult]
    builds: Sequence[Build]
    verdicts: Sequence[Verdict]
    costs: Mapping[str, Cost]


def build(
    dbt: DbtProject,
    models: Models,
    warehouse: Warehouse,
    tables: Mapping[str, Table],
    run_id: str,
    select: Sequence[str],
    partitions: Sequence[str] | None,
    on_event: Callable[[Any], None] | None = None,
) -> BuildOutcome:
    """Build models for some partitions and record what came of it.

    The versions of the staging tables are read before dbt starts and again after it: a table that was loaded in
    between has a version that no build names, so that the gate can't take one for the other. Other runs can't build
    the same models meanwhile: the tests of one would judge the rows of the other.

    Args:
        select: names of models (their tests come with them), or dbt selectors.
        partitions: days to build, without gaps; None: everything.
    """
    with warehouse.exclusive(_meant(models, select), run_id) as still_alone:
        outcome = _build(dbt, models, warehouse, tables, run_id, select, partitions, on_event)
        if not still_alone():
            raise ConfigError(
                "another run may have built the same models meanwhile (this one stood still for minutes); nothing was"
                " recorded, run the models again"
            )
    ledger = Ledger(warehouse)
    with warehouse.session():
        ledger.record_builds(outcome.builds)
        ledger.record_verdicts(outcome.verdicts)
        ledger.record_costs(outcome.costs, "build", run_id)
    return outcome


def _meant(models: Models, select: Sequence[str]) -> set[str]:
    """The models that a selection is about: those named, or those of tests that are named; all, if it names others."""
    names = {model.name for model in models.items}
    owners = {test.name: models.by_id()[test.model].name for test in models.tests().values()}
    found = {name if name in names else owners.get(name) for name in select}
    return names if None in found or not found else {name for name in found if name is not None}


def _build(
    dbt: DbtProject,
    models: Models,
    warehouse: Warehouse,
    tables: Mapping[str, Table],
    run_id: str,
    select: Sequence[str],
    partitions: Sequence[str] | None,
    on_event: Callable[[Any], None] | None,
) -> BuildOutcome:
    """Run dbt, and find what is to be recorded of it."""
    span = (min(partitions), max(partitions)) if partitions else None
    before = Ledger(warehouse).all_data_versions(list(tables))
    with environment({"DATAOPS_DBT_RUN": run_id}):  # dbt's jobs are labelled with it
        results = {result.unique_id: result for result in dbt.build(select, span, on_event)}
    with warehouse.session():
        return _found(models, warehouse, tables, run_id, partitions, results, before)


def _found(
    models: Models,
    warehouse: Warehouse,
    tables: Mapping[str, Table],
    run_id: str,
    partitions: Sequence[str] | None,
    results: Mapping[str, NodeResult],
    before: Mapping[str, Mapping[str, str]],
) -> BuildOutcome:
    """What is to be recorded of dbt's results.

    Args:
        before: table → partition → data version, as dbt found them.

    Raises:
        ConfigError: a table was loaded meanwhile.
    """
    ledger = Ledger(warehouse)
    after = ledger.all_data_versions(list(tables))
    if before != after:
        raise ConfigError("a table was loaded while dbt was building; nothing was recorded, run the models again")

    by_id = models.by_id()
    moment = now()
    tested = {test.model for uid, test in models.tests().items() if uid in results}
    touched = [m for uid, m in by_id.items() if uid in tested or (uid in results and results[uid].status in _BUILT)]
    versions = _Versions(warehouse, ledger, models, tables, StagingVersions(before), partitions)
    builds = []
    for model in touched:
        result = results.get(model.unique_id)
        if result is not None and result.status in _BUILT:
            builds += versions.builds(model, run_id, moment)
    _refuse_hidden_sources(touched, results, tables)
    verdicts = []
    for uid, test in models.tests().items():
        if uid in results and results[uid].status in _JUDGED:
            verdicts += _verdicts(warehouse, by_id[test.model], test, results[uid], versions, run_id, moment)
    return BuildOutcome(results, builds, verdicts, _costs(models, results))


def _costs(models: Models, results: Mapping[str, NodeResult]) -> dict[str, Cost]:
    """Model → what it and its tests cost."""
    owners = {uid: test.model for uid, test in models.tests().items()} | {uid: uid for uid in models.by_id()}
    costs: dict[str, Cost] = {}
    for uid, result in results.items():
        if uid in owners:
            name = models.by_id()[owners[uid]].name
            costs[name] = costs.get(name, Cost()) + result.cost
    return costs


def _refuse_hidden_sources(models: Sequence[Model], results: Mapping[str, NodeResult], tables: Collection[str]) -> None:
    """A staging table that is read without `source()` would go into a model unseen by the gate.

    Raises:
        ConfigError: models do that; nothing was recorded.
    """
    problems = []
    for model in models:
        result = results.get(model.unique_id)
        read = set(_STAGING_TABLE.findall(result.compiled_code)) if result and result.compiled_code else set()
        problems += [
            f"model {model.name} reads staging.{name} without source(): write {{{{ source('staging', '{name}') }}}}"
            for name in sorted((read & set(tables)) - set(model.sources))
        ]
    if problems:
        raise ConfigError("; ".join(problems))


_STAGING_TABLE = re.compile(rf"""(?<![\w."`:-])(?:["`]?[\w.:-]+["`]?\s*\.\s*)?["`]?{STAGING}["`]?\s*\.\s*["`]?(\w+)""")
"""A table of staging in SQL, alone or behind its database or project, which on BigQuery may hold dashes, dots and a
colon; quoted by parts or as a whole."""


@dataclass(frozen=True)
class StagingVersions:
    """Data versions of staging tables: of their partitions, as the ledger has them, and of each table as a whole."""

    partitions: Mapping[str, Mapping[str, str]]

    @cached_property
    def whole(self) -> Mapping[str, str]:
        """Table → version. Made once: it is a hash of all partitions, and asked for with each of them."""
        return {name: version_of(found.values()) for name, found in self.partitions.items()}


def source_inputs(model: Model, key: str, tables: Mapping[str, Table], staging: StagingVersions) -> dict[str, str]:
    """What a partition of a model is made of: the model's own code, and the versions of staging tables.

    A partitioned model takes the same partition of tables that are cut as it is, and all of the others.
    """
    inputs = {input_name("code", model.name, WHOLE_TABLE): model.checksum}
    for source in model.sources:
        table, versions = tables.get(source), staging.partitions.get(source, {})
        if table is None:
            continue
        for partition in [key] if cut_like(model, table) else versions or [UNPARTITIONED]:
            # A partition that nothing was delivered for has a version too. The gate finds no verdict for it.
            inputs[input_name("staging", source, partition)] = versions.get(partition, NEVER_LOADED)
        if table.partitioning is not None:
            # Recorded whether or not a rule asks for it today: one that is written tomorrow will.
            inputs[input_name("staging", source, WHOLE_TABLE)] = staging.whole.get(source, NEVER_LOADED)
    return inputs


class _Versions:
    """Data versions of models, and of what they were made of, for the partitions of this build."""

    def __init__(
        self,
        warehouse: Warehouse,
        ledger: Ledger,
        models: Models,
        tables: Mapping[str, Table],
        staging: StagingVersions,
        partitions: Sequence[str] | None,
    ) -> None:
        self._warehouse = warehouse
        self._models = models
        self._tables = tables
        self._staging = staging
        self._partitions = partitions
        self._found: dict[tuple[str, bool], dict[str, ModelVersion]] = {}
        self._builds = ledger.latest_builds([model.name for model in models.items])

    def of(self, model: Model, whole: bool = False) -> dict[str, ModelVersion]:
        """Partition key → version of a model's rows now; empty when it was never built.

        Args:
            whole: all partitions, not only those of this build: what a descendant without partitions reads.
        """
        asked = self._partitions if model.partition_field and not whole else None
        if (model.name, asked is None) not in self._found:
            if model.view:
                # A view has no rows of its own: it is as its sources are.
                keys = asked or [UNPARTITIONED]
                found = {key: ModelVersion(self._of_sources(model, key), 0) for key in keys}
            else:
                try:
                    found = self._warehouse.model_versions(model.slice, asked)
                except NoSuchTable:
                    found = {}
                if model.partition_field and self._partitions is None and not whole:
                    # Everything was built: a day that had rows before and has none now is a day without rows.
                    gone = set(self._builds[model.name]) - set(found)
                    found = found | {key: ModelVersion(EMPTY, 0) for key in gone}
            self._found[model.name, asked is None] = found
        return self._found[model.name, asked is None]

    def _of_sources(self, model: Model, key: str) -> str:
        inputs = source_inputs(model, key, self._tables, self._staging)
        whole = {input_name("staging", source, WHOLE_TABLE) for source in model.sources}
        return version_of(version for name, version in sorted(inputs.items()) if name not in whole)

    def builds(self, model: Model, run_id: str, moment: datetime) -> list[Build]:
        """One record per partition that was built."""
        records = []
        for key, version in self.of(model).items():
            current = source_inputs(model, key, self._tables, self._staging)
            if version.data_version == EMPTY and self._never_delivered(model, key, current):
                continue  # a gap between deliveries is no empty day: there is nothing to publish, nor to refuse
            inputs = dict(current)
            for name in model.ancestors:
                ancestor = self._models[name]
                alike = model.partition_field is not None and ancestor.by_name is model.by_name
                found = self.of(ancestor, whole=not alike)
                keys: Collection[str] = [key] if ancestor.partition_field and alike else found
                for other in keys:
                    there = found.get(other)
                    inputs[input_name("model", name, other)] = there.data_version if there else "none"
                    if not ancestor.view:
                        inputs |= self._inherited(ancestor, other, there, current)
            record = Build(model.name, key, version.data_version, version.row_count, inputs, run_id, moment)
            self._builds[model.name][key] = record
            records.append(record)
        return records

    def _never_delivered(self, model: Model, key: str, inputs: Mapping[str, str]) -> bool:
        """Whether nothing was ever delivered for a day of a model, in any of its tables."""
        same = [inputs[name] for s in model.sources if (name := input_name("staging", s, key)) in inputs]
        return model.partition_field is not None and key not in self._builds[model.name] and set(same) <= {NEVER_LOADED}

    def _inherited(
        self, ancestor: Model, key: str, found: ModelVersion | None, current: Mapping[str, str]
    ) -> dict[str, str]:
        """What a model's ancestor was really made of, where that is not what staging holds now.

        The ancestor may have been built by an earlier run, from rows that have been replaced since: those are what
        its descendants hold, and what must have passed. Rows of an ancestor that no build recorded are of unknown
        origin: version `none`, which no verdict names.
        """
        build = self._builds[ancestor.name].get(key)
        if build is None or found is None or build.data_version != found.data_version:
            own = source_inputs(ancestor, key, self._tables, self._staging)
            return {name: "none" for name in own if name.startswith("staging:")}
        return {
            name: version
            for name, version in build.inputs.items()
            if name.startswith("staging:") and current.get(name) != version
        }


def _verdicts(
    warehouse: Warehouse,
    model: Model,
    test: Test,
    result: NodeResult,
    versions: _Versions,
    run_id: str,
    moment: datetime,
) -> list[Verdict]:
    """A test's outcome for each partition it was run on.

    A test is asked once for the whole range. Where failing rows say which partition they are of, only those
    partitions fail; where they don't, all do.
    """
    found = versions.of(model)
    failing = _failing_partitions(warehouse, model, result) if result.status not in _PASSED else {}
    if failing is not None and not failing.keys() <= found.keys():
        failing = None  # rows of other days than those judged: what they say of these days can't be told
    verdicts = []
    for key, version in found.items():
        failed = failing.get(key, 0) if failing is not None else (result.failures or 0)
        passed = result.status in _PASSED or (failing is not None and key not in failing)
        verdicts.append(
            Verdict(
                object_name=model.name,
                partition_key=key,
                rule_id=test.name,
                rule_hash=test.fingerprint,
                dimension=test.dimension,
                severity=test.severity,
                passed=passed,
                observed=float(failed),
                threshold="no failing rows",
                failed_rows=failed,
                scanned_rows=version.row_count,
                data_version=version.data_version,
                contract_version="",
                statement_id=test.unique_id,
                run_id=run_id,
                evaluated_at=moment,
            )
        )
    return verdicts


def _failing_partitions(warehouse: Warehouse, model: Model, result: NodeResult) -> dict[str, int] | None:
    """Partition → failing rows, from the test's own query; None when its rows don't say."""
    if model.partition_field is None or not result.compiled_code:
        return None
    field = quote(model.partition_field, warehouse.dialect)
    key = field if model.by_name else f"CAST({field} AS DATE)"
    query = f"({result.compiled_code.rstrip().rstrip(';')}\n)"  # the last line may be a comment
    try:
        rows = warehouse.query(
            f"SELECT CAST({key} AS STRING) AS k, COUNT(*) AS n FROM {query} AS t GROUP BY 1"
        ).to_pylist()
    except (ConfigError, NoSuchTable):  # no such column: the rows are about something else
        return None
    if not rows or any(row["k"] is None for row in rows):
        return None
    return {row["k"]: row["n"] for row in rows}
