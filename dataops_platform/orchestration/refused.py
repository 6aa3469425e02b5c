"""Partitions that are refused in a run: the run goes on with the others, and fails at its end with the list.

A step that refuses a partition (its file can't be read, its delivery is damaged, the breaker tripped) doesn't fail:
what is made of the asset would be skipped, for every partition of the run. Instead

- the step logs what it refused as one observation of its asset (`report`);
- it reports no materialization of those partitions (`leave_out`), and neither does what is made of them; where some
  files of a partition are refused and others are not, what is made of the others goes on and is reported;
- the asset check `deliveries_loaded`, which nothing waits for, fails the run and names them all.

Dagster then shows such a partition as failed: a run that planned to materialise it, and did not, has failed. The steps
of a run may be processes of their own: they learn what was refused from the run's events.

A rule that fails for some partitions of a run keeps only those from production: the gate refuses them, by name, and
with that fails the run (`gate_follows`).

In a run without that check (one asset by itself, say) the step that refuses fails, once the others are recorded.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any

import dagster as dg
from dagster._core.execution.plan.outputs import StepOutputHandle

from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.orchestration.errors import PARTS, failure
from dataops_platform.orchestration.partitions import by_the_clock
from dataops_platform.orchestration.table_options import SHOWN, raw_key, staging_key
from dataops_platform.secrets import redact

CHECK = "deliveries_loaded"
"""The check of a staging asset that fails, and fails its run, when a delivery is refused. It blocks nothing."""

STEP = "deliveries"
"""The step that runs this check for all tables of a run."""

_REFUSED, _NEW, _STILL = "dataops/refused partitions", "dataops/newly refused", "dataops/still refused"

AnyContext = dg.AssetExecutionContext | dg.AssetCheckExecutionContext


def report(
    context: dg.AssetExecutionContext,
    refused: Mapping[str, Sequence[str]],
    new: Sequence[str],
    incomplete: Collection[str] = (),
    still: Collection[str] = (),
) -> None:
    """Log what this step's asset refuses, and leave those partitions out of what it materialises.

    Args:
        refused: partition → why its data is not what was delivered last.
        new: what the run is to fail for, each with its partition: not what an earlier run has failed for.
        incomplete: partitions of which some files are refused. What is made of the others goes on.
        still: partitions of which objects are refused that are, or may be, still there, though no reason is told again.

    Raises:
        Failure: something is new, and no later step of this run would fail for it.
    """
    if new and not _is_checked(context):
        for key in context.partition_keys if context.has_partition_key_range or context.has_partition_key else ():
            if by_the_clock(key) not in {*refused, *incomplete}:
                context.log_event(dg.AssetMaterialization(context.asset_key, partition=key))
        name = context.asset_key.path[-1]
        parts = {name: _partitions(new)}
        raise failure(f"{len(new)} delivery(ies) of {name} refused:\n{_listed(new)}", True, parts=parts)
    if refused or new or still:
        texts = {key: [redact(reason) for reason in reasons] for key, reasons in refused.items()}
        metadata: dict[str, Any] = {
            "partitions refused": len(refused),
            "refused": "\n".join(redact(text) for text in new[:SHOWN]),
            _REFUSED: dg.MetadataValue.json(texts),
            _NEW: dg.MetadataValue.json([redact(text) for text in new]),
            _STILL: dg.MetadataValue.json(sorted({*refused, *still})),
        }
        context.log_event(dg.AssetObservation(context.asset_key, metadata=metadata))
    leave_out(context, {*refused, *incomplete})


def _is_checked(context: dg.AssetExecutionContext) -> bool:
    """Whether this run has the check that fails for what this step refuses."""
    check = dg.AssetCheckKey(staging_key(context.asset_key.path[-1]), CHECK)
    return any(check in node.assets_def.check_keys for node in context.job_def.asset_layer.data)


def _listed(lines: Sequence[str]) -> str:
    """All by name, the first ones with the reason."""
    names = ", ".join(_partitions(lines[SHOWN:]))
    return "\n".join([*lines[:SHOWN], *([f"… and {len(lines) - SHOWN} more: {names}"] if names else [])])


def _partitions(lines: Sequence[str]) -> list[str]:
    """What is refused begins with its partition."""
    return list(dict.fromkeys(line.partition(": ")[0] for line in lines))


def leave_out(context: dg.AssetExecutionContext, partitions: Collection[str]) -> None:
    """Keep this step from reporting partitions as materialised; `all` stands for an asset without partitions.

    Dagster has no way to say so: a step's output stands for all partitions of its run, and a step without an output
    takes everything that is made of it along. So the step's outputs are given fewer partitions before they are stored.
    """
    if not partitions:
        return
    step = context.get_step_execution_context()
    whole = step.get_output_context

    def some(handle: StepOutputHandle, metadata: Mapping[str, Any] | None = None) -> dg.OutputContext:
        output: dg.OutputContext = whole(handle, metadata)
        if output.has_asset_partitions:
            left = [key for key in output.asset_partition_keys if by_the_clock(key) not in partitions]
            output._asset_partitions_subset = output.asset_partitions_def.subset_with_partition_keys(left)
        elif UNPARTITIONED in partitions:
            output._asset_key = None
        return output

    step.get_output_context = some


def refused_in_run(context: AnyContext, assets: Collection[dg.AssetKey]) -> dict[str, list[str]]:
    """Partition → why, for everything that steps of this run refused of some assets."""
    found: dict[str, list[str]] = {}
    for metadata in _observed(context, assets):
        for key, reasons in metadata[_REFUSED].value.items():
            found.setdefault(key, []).extend(reasons)
    return found


def without(refused: Collection[str], keys: Sequence[str] | None) -> list[str] | None:
    """The partitions asked, without those refused. None, for all there are, stays None: the gate alone decides."""
    return None if keys is None else [key for key in keys if key not in refused]


def source_keys(tables: Collection[str]) -> list[dg.AssetKey]:
    """The assets whose refusals concern what is made of some tables."""
    return [make(name) for name in tables for make in (raw_key, staging_key)]


def gate_follows(context: AnyContext, asset: dg.AssetKey) -> bool:
    """Whether something made of an asset goes to production in this run: its gate judges each partition by itself."""
    layer = context.job_def.asset_layer
    published = {key for node in layer.data for key in node.assets_def.keys if key.path[0] == "production"}
    found, left = {asset}, [asset]
    while left and not found & published:
        new = layer.asset_graph.get(left.pop()).child_keys - found
        found |= new
        left += new
    return bool(found & published)


def _observed(context: AnyContext, assets: Collection[dg.AssetKey]) -> Iterator[Mapping[str, Any]]:
    wanted = set(assets)
    for run_id, done_again in _runs(context):
        for entry in context.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION):
            event = entry.dagster_event
            if event is not None and event.asset_key in wanted and event.step_key not in done_again:
                metadata = event.asset_observation_data.asset_observation.metadata
                if _REFUSED in metadata:
                    yield metadata


def earlier_runs(context: AnyContext) -> set[str]:
    """Ids of the runs that this one goes on with, or repeats: those it was begun again from."""
    found: set[str] = set()
    run: dg.DagsterRun | None = context.run
    while run is not None and run.parent_run_id is not None and run.parent_run_id not in found:
        found.add(run.parent_run_id)
        run = context.instance.get_run_by_id(run.parent_run_id)
    return found


def _runs(context: AnyContext) -> Iterator[tuple[str, Set[str]]]:
    """This run; and the runs that it goes on with, where it was begun again from failure: they did the other steps.

    Gives each with the steps that were done again after it.
    """
    run: dg.DagsterRun | None = context.run
    done_again: set[str] = set()
    while run is not None:
        yield run.run_id, set(done_again)
        if run.parent_run_id is None or run.step_keys_to_execute is None:
            return
        done_again |= set(run.step_keys_to_execute)
        run = context.instance.get_run_by_id(run.parent_run_id)


def deliveries_check(tables: Sequence[Table]) -> dg.AssetChecksDefinition | None:
    """For each table, the check that nothing delivered was refused; one step for all tables of a run."""
    if not tables:
        return None
    specs = [
        dg.AssetCheckSpec(
            CHECK,
            asset=staging_key(table.name),
            description="Every delivery of the run was readable and loaded. What was refused is kept, and the others"
            " go on; the run fails.",
            blocking=False,
        )
        for table in tables
    ]

    @dg.multi_asset_check(specs=specs, name=STEP, can_subset=True)
    def deliveries(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        lines: list[str] = []
        for key in context.selected_asset_check_keys:
            table = key.asset_key.path[-1]
            observed = list(_observed(context, source_keys([table])))
            new = [line for found in observed for line in found[_NEW].value]
            lines += [f"{table} {line}" for line in new]
            # A run that this one goes on with may be of a version that didn't tell what is still refused.
            known = [key for found in observed for key in found.get(_STILL, found[_REFUSED]).value]
            still = sorted({*_partitions(new), *known})
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=CHECK,
                passed=not new,
                description=_listed(new) or None,
                metadata={"refused": len(new), **({PARTS: dg.MetadataValue.json(still)} if still else {})},
            )
        if lines:
            raise failure(f"{len(lines)} delivery(ies) refused; the others went on:\n{_listed(lines)}", True)

    return deliveries
