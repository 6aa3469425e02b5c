"""Assets of the dbt models: the models, their backup `transformed/…` and their publication `production/…`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage
from google.protobuf.json_format import MessageToDict

from dataops_platform.contracts.model import Severity, Table
from dataops_platform.contracts.partitions import Cut, Granularity, Partitioning
from dataops_platform.orchestration import partitions
from dataops_platform.orchestration.errors import PARTS, failure, user_errors
from dataops_platform.orchestration.refused import gate_follows, leave_out, refused_in_run, source_keys, without
from dataops_platform.orchestration.resources import Platform, cost_metadata
from dataops_platform.progress import by_tenths
from dataops_platform.quality.gate import describe
from dataops_platform.transformation.build import BuildOutcome, build
from dataops_platform.transformation.models import Model, Models, cut_like
from dataops_platform.transformation.publish import backup, publish
from dataops_platform.warehouse.ledger import Refused
from dataops_platform.warehouse.names import PRODUCTION, Relation

GROUP = "models"


def transformed_key(model: str) -> dg.AssetKey:
    """Asset key of a model's backup in the lake."""
    return dg.AssetKey(["transformed", model])


def production_key(model: str) -> dg.AssetKey:
    """Asset key of a model in production."""
    return dg.AssetKey(["production", model])


class ModelTranslator(DagsterDbtTranslator):
    """How dbt nodes look in Dagster: partitions from the contracts, tests described, blocking where they are errors."""

    def __init__(self, models: Models, partitioning: Mapping[str, Cut]) -> None:
        super().__init__()
        self._models = models
        self._partitioning = partitioning

    def get_partitions_def(self, dbt_resource_props: Mapping[str, Any]) -> dg.PartitionsDefinition | None:
        """Partitions of the contract tables that a model is made of."""
        found = self._partitioning.get(dbt_resource_props["name"])
        return partitions.definition(found) if found and dbt_resource_props["resource_type"] == "model" else None

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """All models stand in one group."""
        return GROUP

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """A dbt test as an asset check, with its description, dimension and severity."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        test = self._models.tests().get(unique_id)
        if spec is None or test is None:
            return spec
        extra = {"dimension": str(test.dimension), "severity": str(test.severity), "rule": "dbt test"}
        return spec._replace(
            description=test.description or spec.description,
            blocking=test.severity is Severity.ERROR,
            metadata={**spec.metadata, **extra},
        )


def model_partitioning(models: Models, tables: Mapping[str, Table]) -> dict[str, Cut]:
    """Model → the partitioning of the contract tables it is made of, for models with a partition field.

    Raises:
        ValueError: a partitioned model is made of tables that are cut differently, or of none that is cut.
    """
    result = {}
    for model in models.items:
        if model.partition_field is None:
            continue
        found = [
            p for n in model.sources if n in tables and cut_like(model, tables[n]) and (p := tables[n].partitioning)
        ]
        if not found or not all(partitions.same_partitions(found[0], other) for other in found):
            raise ValueError(
                f"model {model.name} has partition_field {model.partition_field}, but its tables"
                f" ({', '.join(model.sources)}) have {'no' if not found else 'different'} partitions"
            )
        if isinstance(found[0], Partitioning) and found[0].granularity is not Granularity.DAY:
            raise ValueError(
                f"model {model.name} has partition_field {model.partition_field}, but its tables"
                f" ({', '.join(model.sources)}) are cut by {found[0].granularity}: a model is cut by day. Leave"
                " partition_field out, so that the model is built as a whole, or cut the tables by day"
            )
        result[model.name] = found[0]
    return result


def model_keys(manifest: Mapping[str, Any], models: Models, tables: Mapping[str, Table]) -> dict[str, dg.AssetKey]:
    """Model name → asset key.

    Raises:
        ValueError: see `model_partitioning`.
    """
    translator = ModelTranslator(models, model_partitioning(models, tables))
    return {model.name: dg.AssetKey(_key(translator, manifest, model)) for model in models.items}


def dbt_model_assets(manifest: Mapping[str, Any], models: Models, tables: Mapping[str, Table]) -> dg.AssetsDefinition:
    """All dbt models and their tests, built by one dbt invocation per run."""
    translator = ModelTranslator(models, model_partitioning(models, tables))
    by_id = models.by_id()

    def key_of(model: Model) -> dg.AssetKey:
        return dg.AssetKey(_key(translator, manifest, model))

    @dbt_assets(
        manifest=dict(manifest),
        name="dbt_build",
        dagster_dbt_translator=translator,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def dbt_build(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[Any]:
        selected = [model for model in models.items if key_of(model) in context.selected_asset_keys]
        wanted = {key.name for key in context.selected_asset_check_keys}
        select = [model.name for model in selected] or [t.name for t in models.tests().values() if t.name in wanted]
        asked = partitions.span(context.run.tags)
        cut = next((p for m in selected if (p := translator._partitioning.get(m.name))), None)
        refusals = refused_in_run(context, source_keys({name for model in selected for name in model.sources}))
        # dbt builds a range without gaps: what is refused is built as it was loaded before, and isn't published.
        keys = cut.keys(*asked) if cut and asked else None
        if without(refusals, keys) == []:
            context.log.info("every partition asked was refused: their models are left as they are")
            select = [model.name for model in selected if model.name not in translator._partitioning]
            if not select:
                return
            keys = None
        leave_out(context, refusals)
        events: list[Mapping[str, Any]] = []

        def listen(event: Any) -> None:
            if event.info.name in ("LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult"):
                events.append(MessageToDict(event, preserving_proto_field_name=True))

        with user_errors(), platform.work("build", "dbt", context.run_id):
            outcome = build(
                platform.dbt, models, platform.warehouse, platform.tables, context.run_id, select, keys, listen
            )
        versions = _summaries(outcome)
        tests = models.tests()
        partly = _partly_failed(outcome, {model.name for model in selected if gate_follows(context, key_of(model))})
        for event in events:
            uid = event["data"]["node_info"]["unique_id"]
            # dbt runs every test of a model, also those that belong to another asset, which isn't in this run: their
            # verdicts are in the ledger, and Dagster would have nothing to show them with.
            if uid in tests and tests[uid].name not in wanted:
                continue
            message = DbtCoreCliEventMessage(raw_event=dict(event), event_history_metadata={})
            for item in message.to_default_asset_events(manifest, translator, context):
                if isinstance(item, dg.Output) and uid in by_id:
                    item = item.with_metadata({**item.metadata, **versions.get(by_id[uid].name, {})})
                elif isinstance(item, dg.AssetCheckResult) and uid in partly:
                    failing = {**item.metadata, PARTS: dg.MetadataValue.json(partly[uid])}
                    item = item._replace(severity=dg.AssetCheckSeverity.WARN, metadata=failing)
                yield item
        failed = [r for uid, r in outcome.results.items() if r.status in ("error", "fail") and uid not in partly]
        if failed:
            lines = "\n".join(
                f"{r.unique_id.split('.')[2] if '.' in r.unique_id else r.unique_id}: {r.message}" for r in failed[:20]
            )
            tests_only = all(r.status == "fail" for r in failed)
            parts = _failed_parts(outcome, models, partly)
            text = f"dbt: {len(failed)} of {len(outcome.results)} nodes failed:\n{lines}"
            raise failure(text, tests_only, parts=parts or None)

    return dbt_build


def _failed_parts(outcome: BuildOutcome, models: Models, partly: Collection[str]) -> dict[str, list[str]]:
    """Model → the partitions for which only its tests failed; none where dbt failed to build it, or left it out."""
    tests, by_id = models.tests(), models.by_id()
    found: dict[str, list[str]] = {}
    for uid, result in outcome.results.items():
        model = by_id.get(tests[uid].model if uid in tests else uid)
        if model is not None and (result.status == "error" or (result.status == "skipped" and uid in by_id)):
            found[model.name] = []
    whole = set(found)
    for verdict in outcome.verdicts:
        name, uid = verdict.object_name, verdict.statement_id
        counts = not verdict.passed and outcome.results[uid].status == "fail" and uid not in partly
        if counts and name not in whole and verdict.partition_key not in found.get(name, ()):
            found.setdefault(name, []).append(verdict.partition_key)
    return found


def _key(translator: DagsterDbtTranslator, manifest: Mapping[str, Any], model: Model) -> Sequence[str]:
    return translator.get_asset_key(manifest["nodes"][model.unique_id]).path


def _partly_failed(outcome: BuildOutcome, gated: Collection[str]) -> dict[str, list[str]]:
    """Tests that fail for some partitions of models that go to production in this run: the gate refuses just those.

    None where dbt left models out for a test that failed: they are not what they should be, for any partition.
    """
    if any(result.status == "skipped" for result in outcome.results.values()):
        return {}
    passed = {verdict.statement_id for verdict in outcome.verdicts if verdict.passed and verdict.object_name in gated}
    return {
        uid: [
            verdict.partition_key for verdict in outcome.verdicts if verdict.statement_id == uid and not verdict.passed
        ]
        for uid, result in outcome.results.items()
        if result.status == "fail" and uid in passed
    }


def _summaries(outcome: BuildOutcome) -> dict[str, dict[str, Any]]:
    """Model → metadata of its build."""
    result: dict[str, dict[str, Any]] = {}
    for record in outcome.builds:
        entry = result.setdefault(record.model, {"dagster/row_count": 0, "partitions": 0})
        entry["dagster/row_count"] += record.row_count
        entry["partitions"] += 1
    for name, cost in outcome.costs.items():
        result.setdefault(name, {}).update(cost_metadata(cost))
    return result


def publication_assets(
    models: Models, tables: Mapping[str, Table], translator_keys: Mapping[str, dg.AssetKey]
) -> list[dg.AssetsDefinition]:
    """`transformed/<model>` and `production/<model>` of every published model."""
    cut = model_partitioning(models, tables)
    assets = []
    for model in models.published:
        partitioning = cut.get(model.name)
        assets += [
            _transformed(model, partitioning, translator_keys[model.name]),
            _production(model, models, partitioning, translator_keys[model.name]),
        ]
    return assets


def _keys(context: dg.AssetExecutionContext, partitioning: Cut | None) -> list[str] | None:
    asked = partitions.span(context.run.tags)
    return partitioning.keys(*asked) if partitioning and asked else None


def _transformed(model: Model, partitioning: Cut | None, upstream: dg.AssetKey) -> dg.AssetsDefinition:
    @dg.asset(
        key=transformed_key(model.name),
        deps=[upstream],
        partitions_def=partitions.definition(partitioning) if partitioning else None,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="transformed",
        kinds={"parquet", "gcs"},
        description=f"Checkpoint of {model.name} in the lake: one parquet object per partition and data version.",
    )
    def transformed(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[Any]:
        work = platform.work("export", model.name, context.run_id)
        with user_errors(), platform.warehouse.session(), work as cost:
            refusals = refused_in_run(context, source_keys(model.sources))
            keys = without(refusals, _keys(context, partitioning))
            done = backup(model, platform.warehouse, platform.lake.store, keys)
        leave_out(context, refusals)
        return dg.MaterializeResult(
            metadata={
                "objects written": len(done.written),
                "objects there already": len(done.existing),
                "dagster/row_count": done.rows,
                **cost(),
            }
        )

    return transformed


def _production(model: Model, models: Models, partitioning: Cut | None, upstream: dg.AssetKey) -> dg.AssetsDefinition:
    @dg.asset(
        key=production_key(model.name),
        deps=[transformed_key(model.name), upstream],
        partitions_def=partitions.definition(partitioning) if partitioning else None,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="production",
        kinds={"table", "parquet"},
        description=f"{model.name} in production: published through the gate, to the warehouse and the lake.",
        output_required=False,
    )
    def production(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        work = platform.work("publish", model.name, context.run_id)
        refusals = refused_in_run(context, source_keys(model.sources))
        with user_errors(), platform.warehouse.session(), work as cost:
            done = publish(
                model,
                models,
                platform.tables,
                platform.warehouse,
                platform.lake.store,
                platform.production_store,
                without(refusals, _keys(context, partitioning)),
                context.run_id,
                by_tenths(context.log.info, "partitions published"),
            )
            platform.ledger.refuse(
                [
                    Refused(
                        str(Relation(PRODUCTION, model.name)),
                        refusal.partition_key,
                        "; ".join(refusal.reasons),
                        context.run_id,
                        data_version=refusal.data_version,
                    )
                    for refusal in done.refusals
                ]
            )
        metadata = {
            "partitions published": len(done.published),
            "partitions unchanged": len(done.unchanged),
            "partitions refused": len(done.refusals),
            "dagster/row_count": done.rows,
            **cost(),
        }
        if done.refusals:
            # What passed is in production, and Dagster is told so before the step fails for the rest.
            for key in (*done.published, *done.unchanged) if partitioning else ():
                context.log_event(dg.AssetMaterialization(production_key(model.name), partition=key))
            parts = {model.name: [refusal.partition_key for refusal in done.refusals]}
            raise failure(describe(model.name, done.refusals), True, parts=parts)
        leave_out(context, refusals)
        yield dg.MaterializeResult(metadata=metadata)

    return production
