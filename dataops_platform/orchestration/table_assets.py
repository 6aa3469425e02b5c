"""Assets of a contract table: `raw/<table>`, `staging/<table>`, and one asset check per rule."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import dagster as dg

from dataops_platform.contracts.model import Rule, Scope, Severity, Table
from dataops_platform.contracts.problems import DataRefused
from dataops_platform.contracts.types import Kind
from dataops_platform.ingestion.extractor import extract, extractor_for
from dataops_platform.lake.deliveries import Delivery
from dataops_platform.orchestration import partitions, refused
from dataops_platform.orchestration.errors import PARTS, user_errors
from dataops_platform.orchestration.landed_assets import landed_raw
from dataops_platform.orchestration.resources import Platform
from dataops_platform.orchestration.rows_left import can_lose_rows
from dataops_platform.orchestration.table_options import ROWS_LEFT, SHOWN, asset_options, raw_key, staging_key
from dataops_platform.progress import Progress, by_tenths, silent
from dataops_platform.quality.quarantine import row_checks
from dataops_platform.quality.verdicts import evaluate
from dataops_platform.warehouse.base import LoadOutcome
from dataops_platform.warehouse.corrections import corrected
from dataops_platform.warehouse.ledger import Refused, Verdict


def table_assets(table: Table) -> list[dg.AssetsDefinition]:
    """The raw and the staging asset of a table."""
    return [landed_raw(table) if table.landings else _raw(table), _staging(table)]


def _raw(table: Table) -> dg.AssetsDefinition:
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key=raw_key(table.name),
        description=f"Immutable deliveries of {table.name} in the lake. {table.description}",
        group_name="raw",
        kinds={"parquet", "gcs"},
        metadata={
            "contract": f"{table.contract_id} {table.contract_version}",
            "extractor": table.source.extractor if table.source else "",
        },
        **asset_options(table),
    )

    @decorate
    def raw(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with user_errors():
            keys = partitions.keys_of_run(table, context.run.tags) or table.partition_keys()
            extractor = extractor_for(table, platform.settings.project)
            delivered = by_tenths(context.log.info, "arrivals delivered")
            done = extract(table, extractor, platform.lake, keys, platform.settings.git_commit, delivered)
            found = [Refused(table.name, r.partition, r.reason, context.run_id, file=r.file) for r in done.refused]
            before: set[tuple[str | None, str]] = set()
            if found:  # else the checkpoint needs no warehouse
                known = platform.ledger.refuse(found)
                # A run that died may not have lived to fail for it.
                unsaid = platform.ledger.refused_in(table.name, refused.earlier_runs(context))
                before = {(item.file, item.reason) for item, said in zip(found, known, strict=True) if said}
                before -= {(item.file, item.reason) for item in unsaid}
        if done.without_data:
            context.log.warning(f"the source of {table.name} has nothing for {_some(done.without_data)}")
        reasons: dict[str, list[str]] = {}
        new: list[str] = []
        for item in found:
            reasons.setdefault(item.partition_key, []).append(item.reason)
            if (item.file, item.reason) not in before:
                new.append(f"{item.partition_key}: {item.reason}")
        for item in [item for item in found if (item.file, item.reason) in before][:SHOWN]:
            context.log.warning(f"still refused: {table.name} {item.partition_key}: {item.reason}")
        refused.report(context, reasons, new)
        # Nothing new is no failure: what the lake has is loaded, and the gate asks for the rest.
        yield dg.MaterializeResult(
            metadata={
                "deliveries": len(done.delivered),
                "already delivered": done.existing,
                "dagster/row_count": sum(delivery.rows for delivery in done.delivered),
                "bytes": sum(delivery.size for delivery in done.delivered),
            }
        )

    return raw


def _staging(table: Table) -> dg.AssetsDefinition:
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key=staging_key(table.name),
        deps=[raw_key(table.name)],
        description=table.description,
        group_name="staging",
        kinds={"table"},
        metadata={
            "contract": f"{table.contract_id} {table.contract_version}",
            "load mode": str(table.load_mode),
            "primary key": ", ".join(table.primary_key),
            "dagster/column_schema": _column_schema(table),
        },
        **asset_options(table),
    )

    @decorate
    def staging(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with user_errors(), platform.work("load", f"staging.{table.name}", context.run_id) as cost:
            keys = partitions.keys_of_run(table, context.run.tags)
            done = by_tenths(context.log.info, "deliveries processed")
            earlier = refused.earlier_runs(context)
            outcomes, refusals = load_new(platform, table, keys, context.run_id, done, earlier)
            incomplete = platform.ledger.incomplete(table.name)
            robbed = _robbed(context, platform, table, keys)
        loaded = [outcome for outcome in outcomes if not outcome.refused]
        failed = {*incomplete, *platform.ledger.refused_last(table.name)} if robbed else set()
        _tell_of_rows_that_left(context, robbed, failed, platform.settings.automation == "conditions")
        for line in _beyond(outcomes):
            context.log.warning(f"{table.name}: {line}")
        # Said once by a failure; from then on it must not keep from going on what came since.
        for refusal in [refusal for refusal in refusals if refusal.before][:SHOWN]:
            context.log.warning(f"still refused: {table.name} {refusal.partition}: {refusal.reason}")
        reasons = refused.refused_in_run(context, [raw_key(table.name)])
        for refusal in refusals:
            if not refusal.superseded:
                reasons.setdefault(refusal.partition, []).append(refusal.reason)
        new = [f"{r.partition}: {r.reason}" for r in refusals if not r.before]
        refused.report(context, reasons, new, incomplete)
        yield dg.MaterializeResult(
            metadata={
                "deliveries": len(loaded),
                "deliveries still refused": sum(not refusal.left_out for refusal in refusals),
                **({"files left out": left_out} if (left_out := sum(r.left_out for r in refusals)) else {}),
                "rows read": sum(o.rows_read for o in loaded),
                "dagster/row_count": sum(o.rows_loaded for o in outcomes),
                "rows quarantined": sum(o.rows_quarantined for o in outcomes),
                "rows superseded": sum(o.rows_superseded for o in outcomes),
                **({"columns beyond the contract": "\n".join(_beyond(loaded))} if _beyond(loaded) else {}),
                **cost(),
            }
        )

    return staging


def _robbed(context: refused.AnyContext, platform: Platform, table: Table, keys: Sequence[str] | None) -> Sequence[str]:
    """Partitions beside the run's that its loads took rows from, and those of the runs that it goes on with."""
    if keys is None or not can_lose_rows(table):
        return []
    found = platform.ledger.robbed(table.name, {context.run.run_id, *refused.earlier_runs(context)})
    return sorted(found.intersection(table.partition_keys()).difference(keys)) if found else []


def _tell_of_rows_that_left(
    context: dg.AssetExecutionContext, partitions: Sequence[str], failed: Collection[str], by_conditions: bool
) -> None:
    """Have Dagster know of partitions that loads took rows from: their models are to be made anew.

    Conditions see that staging was renewed there; sensors look for the observation.

    Args:
        failed: partitions of which something is refused. They stay failed, but for conditions, which else wouldn't
            follow: then a row would be in production twice.
    """
    for partition in partitions:
        # Of no run: what has this run's assets isn't asked for again.
        if by_conditions or partition not in failed:
            context.instance.report_runless_asset_event(dg.AssetMaterialization(context.asset_key, partition=partition))
        context.instance.report_runless_asset_event(
            dg.AssetObservation(context.asset_key, partition=partition, metadata={ROWS_LEFT: "for another partition"})
        )


def _beyond(outcomes: Sequence[LoadOutcome]) -> list[str]:
    """What deliveries had beyond the contract, and what became of it."""
    added = {name: kind for o in outcomes if not o.refused for name, kind in o.beyond.added.items()}
    left = dict.fromkeys(name for o in outcomes if not o.refused for name in o.beyond.left)
    lines = [f"column {name} ({kind}) is new in a delivery, and was added" for name, kind in added.items()]
    if left:
        lines.append(f"columns that are not in the contract stay in the lake: {', '.join(left)}")
    return lines


class Refusal(NamedTuple):
    """A delivery that was not loaded, or a file that was left out of one.

    Attributes:
        before: an earlier run was refused it too, for the same reason, and has said so.
        superseded: a later delivery of the partition is loaded, or all of this one but the file.
        left_out: whether it is a file that was left out.
    """

    partition: str
    reason: str
    before: bool
    superseded: bool
    left_out: bool = False


def load_new(
    platform: Platform,
    table: Table,
    keys: Sequence[str] | None,
    run_id: str,
    progress: Progress = silent,
    earlier: Collection[str] = (),
) -> tuple[list[LoadOutcome], list[Refusal]]:
    """Load the deliveries of some partitions (None: all) that the ledger doesn't hold yet.

    Args:
        earlier: runs that this one goes on with. They may have died before they said what they were refused.

    Returns:
        What became of each delivery that is in the lake as it was delivered; and all that were refused, or left out.
    """
    warehouse, lake = platform.warehouse, platform.lake
    known = platform.ledger.loaded(table.name)
    refs = list(lake.manifests(table.name, keys))
    deliveries: list[Delivery] = []
    found: list[tuple[str, str, str, bool]] = []
    left = [ref for ref in refs if ref.key not in known]
    gone = corrected(table, lake, refs, known, platform.ledger.refused(table.name)) if left else set()
    for ref in [ref for ref in left if ref.key not in gone]:
        try:
            delivery = lake.read(ref.key)
        except DataRefused as error:
            damage: str | None = str(error)
        else:
            damage = lake.damage(delivery)
            if damage is None:
                deliveries.append(delivery)
        if damage is not None:
            [before] = platform.ledger.refuse([Refused(table.name, ref.partition, damage, run_id, ref.key)])
            found.append((ref.key, ref.partition, damage, before))
    outcomes: list[LoadOutcome] = []
    if deliveries:
        uris = {item.key: lake.store.uri(item.key) for delivery in deliveries for item in delivery.objects}
        outcomes = warehouse.load(table, deliveries, uris, row_checks(table, warehouse.dialect), run_id, progress)
    found += [(o.delivery.manifest, o.delivery.partition, o.refused, o.refused_before) for o in outcomes if o.refused]
    before_this = platform.ledger.refused_in(table.name, earlier)
    unsaid = {item.manifest for item in before_this}
    found = [(key, partition, why, before and key not in unsaid) for key, partition, why, before in found]
    failed = {key for key, *_ in found}
    # They are listed, and sort, in the order of arrival.
    newest = {ref.partition: ref.key for ref in refs if ref.key not in failed}
    refusals = [Refusal(p, why, before, newest.get(p, "") > key) for key, p, why, before in found]
    # A file that is left out of its delivery keeps nothing from going on, like one that isn't delivered at all.
    left_out = {(o.delivery.partition, left.reason): left.before for o in outcomes for left in o.left_out}
    left_out |= {
        (item.partition_key, item.reason): False
        for item in before_this
        if item.manifest and item.file and newest.get(item.partition_key) == item.manifest
    }
    return outcomes, refusals + [Refusal(p, why, before, True, True) for (p, why), before in sorted(left_out.items())]


def table_checks(table: Table) -> dg.AssetChecksDefinition | None:
    """All rules of a table as asset checks of its staging asset, run by one op; None for a table without rules."""
    if not table.rules:
        return None
    specs = [_check_spec(table, rule) for rule in table.rules]

    @dg.multi_asset_check(specs=specs, name=f"staging__{table.name}__checks", can_subset=True)
    def checks(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        asked = {key.name for key in context.selected_asset_check_keys}
        rules = [rule for rule in table.rules if rule.id in asked]
        run_id = context.run.run_id
        with user_errors(), platform.work("rules", f"staging.{table.name}", run_id) as cost:
            keys = partitions.keys_of_run(table, context.run.tags)
            if keys is not None:  # what is made of the table as a whole needs verdicts on what rows have left, too
                keys = [*keys, *_robbed(context, platform, table, keys)]
            verdicts = evaluate(platform.warehouse, table, run_id, keys, rules)
        by_rule: dict[str, list[Verdict]] = {rule.id: [] for rule in rules}
        for verdict in verdicts:
            by_rule[verdict.rule_id].append(verdict)
        gated = refused.gate_follows(context, staging_key(table.name))
        for rule in rules:
            yield _check_result(table, rule, by_rule[rule.id], cost(), gated)

    return checks


def _check_spec(table: Table, rule: Rule) -> dg.AssetCheckSpec:
    other = rule.other_table
    return dg.AssetCheckSpec(
        name=rule.id,
        asset=staging_key(table.name),
        description=rule.description,
        blocking=rule.severity is Severity.ERROR,
        # A reference, or a reconciliation, is judged against the other table as loaded in the same run.
        additional_deps=[staging_key(other)] if other and other != table.name else None,
        metadata={
            "dimension": str(rule.dimension),
            "severity": str(rule.severity),
            "rule": str(rule.kind),
            "columns": ", ".join(rule.columns),
            "threshold": str(rule.threshold),
            "scope": str(rule.scope),
            "declared at": f"{table.file.name}:{rule.line}",
        },
    )


def _check_result(
    table: Table, rule: Rule, verdicts: Sequence[Verdict], cost: Mapping[str, int], gated: bool
) -> dg.AssetCheckResult:
    """A rule's outcome for Dagster. The cost is that of all the table's rules: they share their statements.

    Args:
        gated: a gate of this run refuses the partitions that fail. Where others passed, they mustn't wait for them: a
            check of severity ERROR would keep everything from going on.
    """
    severity = dg.AssetCheckSeverity.ERROR if rule.severity is Severity.ERROR else dg.AssetCheckSeverity.WARN
    common: dict[str, Any] = {"asset_key": staging_key(table.name), "check_name": rule.id, "severity": severity}
    if not verdicts:
        return dg.AssetCheckResult(
            passed=False,
            description="nothing was loaded for these partitions, so there is nothing to judge",
            metadata={"dimension": str(rule.dimension)},
            # No reason to keep other tables of the run from going on: the gate refuses what has no verdict.
            **common | {"severity": dg.AssetCheckSeverity.WARN},
        )
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if gated and len(failed) < len(verdicts):
        common["severity"] = dg.AssetCheckSeverity.WARN
    metadata: dict[str, Any] = {
        "dimension": str(rule.dimension),
        "threshold": str(rule.threshold),
        "partitions": len(verdicts),
        "rows scanned": sum(verdict.scanned_rows or 0 for verdict in verdicts),
        "statement": verdicts[0].statement_id,
        **{f"{name}, all rules": value for name, value in cost.items()},
    }
    counted = [verdict.failed_rows for verdict in verdicts if verdict.failed_rows is not None]
    if counted:
        metadata["rows failed"] = sum(counted)
    observed = [verdict.observed for verdict in verdicts if verdict.observed is not None]
    if observed:
        metadata["observed"] = observed[0] if len(set(observed)) == 1 else f"{min(observed):g} to {max(observed):g}"
    if failed:
        metadata["partitions failed"] = len(failed)
        listed = [verdict.partition_key for verdict in failed[:SHOWN]] + ["…"] * (len(failed) > SHOWN)
        metadata["failing partitions"] = ", ".join(listed)
        if rule.scope is Scope.PARTITION and table.partitioning is not None:
            metadata[PARTS] = dg.MetadataValue.json([verdict.partition_key for verdict in failed])
    # What a drift, an anomaly or a missing partition is about: of the first that failed, else of the newest.
    told = next((verdict for verdict in (failed or verdicts[::-1]) if verdict.details), None)
    if told is not None and told.details is not None:
        metadata["details"] = dg.MetadataValue.json({"partition": told.partition_key, **json.loads(told.details)})
    if failed:
        sample = next((verdict.sample for verdict in failed if verdict.sample), None)
        if sample:
            metadata["sample"] = dg.MetadataValue.json(json.loads(sample))
    return dg.AssetCheckResult(passed=not failed, metadata=metadata, **common)


def _column_schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                column.type.duckdb if column.type.kind is Kind.DECIMAL else str(column.type.kind),
                description=column.description or None,
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
            for column in table.columns
        ]
    )


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def check_keys(tables: Mapping[str, Table]) -> list[dg.AssetCheckKey]:
    """Keys of all rules' asset checks."""
    return [dg.AssetCheckKey(staging_key(t.name), rule.id) for t in tables.values() for rule in t.rules]
