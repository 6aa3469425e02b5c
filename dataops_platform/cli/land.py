"""`dataops land`, and what `dataops status` says of landing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.markup import escape

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.file_formats import READABLE
from dataops_platform.contracts.model import Contracts, Table
from dataops_platform.contracts.object_patterns import ObjectPattern
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.suggest import one_of
from dataops_platform.ingestion.landing import Place, deliver_files
from dataops_platform.ingestion.landing_log import LandingLog, Refusal, Registered
from dataops_platform.ingestion.landing_scan import strange_names
from dataops_platform.lake.deliveries import Lake
from dataops_platform.settings import Settings
from dataops_platform.warehouse.ledger import BY_HAND, Ledger, Refused

LOOKED_AT = 10_000
"""How many names `dataops status` looks at, of each table."""
SHOWN = 5


def land(console: Console, files: Sequence[Path], name: str, partition: str | None) -> int:
    """Deliver local files by hand.

    Returns:
        The exit code: 1 if a file was refused.
    """
    settings = Settings.load()
    tables = load_contracts(settings.contracts).tables
    if name not in tables:
        raise ConfigError(f"there is no table {name!r}: {one_of(name, tables)}")
    table = tables[name]
    if table.source is None and not table.landings:
        raise ConfigError(
            f"{table.file}:{table.line}: table {name} gets no deliveries, a Python asset writes it; give it a `source`,"
            " or a server with an objectPattern"
        )
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(_partition(table, path, partition), []).append(path)
    lake, warehouse = Lake(settings.lake_store()), settings.warehouse()
    run_id = f"{BY_HAND}{uuid.uuid4()}"

    def tell(refusals: Sequence[Refusal]) -> None:
        """The ledger has it, as of what is refused in a run: for events, and for alerts."""
        warehouse.ensure([])
        Ledger(warehouse).refuse([Refused(name, r.partition, r.reason, run_id, file=r.file) for r in refusals])

    def misfits(schema: pa.Schema) -> Sequence[str]:
        return warehouse.misfits(table, schema)

    code = 0
    for key, paths in sorted(groups.items()):
        done = deliver_files(table, lake, key, paths, settings.git_commit, tell, misfits)
        for delivery in done.delivered:
            console.print(f"[green]✓[/] {name} {key}: {delivery.rows:,} rows delivered")
        for refusal in done.refused:
            console.print(f"[bold red]refused:[/] {escape(refusal.reason)}")
        if done.existing:
            console.print(f"{name} {key}: {done.existing} file(s) delivered before: nothing done")
        if done.refused_before:
            console.print(
                f"[bold red]refused:[/] {name} {key}: {len(done.refused_before)} file(s) refused before;"
                " mend them, or the contract and its version"
            )
        code = max(code, 1 if done.refused or done.refused_before else 0)
    if code == 0:
        console.print("`dataops run` loads what is new.")
    return code


def _partition(table: Table, path: Path, given: str | None) -> str:
    """The partition that a file is for: given, or as the contract's pattern has it in names.

    Raises:
        ConfigError: it isn't known, or isn't one of the table's.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name its files, like {path / '*.csv'}")
    if not path.is_file():
        raise ConfigError(f"{path} is no file: there is nothing of that name, or nothing that can be read as a file")
    if not path.name.endswith(READABLE):
        raise ConfigError(f"{path}: files that end with {', '.join(READABLE)} can be landed")
    if table.partitioning is None:
        if given not in (None, UNPARTITIONED):
            raise ConfigError(f"--partition {given}: table {table.name} has no partitions; leave it out")
        return UNPARTITIONED
    said = next((key for item in table.landings if (key := _from_name(item.pattern, path)) is not None), None)
    if given is None and said is None:
        patterns = ", ".join(item.pattern.text for item in table.landings)
        why = (
            f"its path doesn't end like the objectPattern {patterns}" if patterns else "the table has no objectPattern"
        )
        raise ConfigError(f"{path}: which partition of {table.name} is it for? {why}; say it with --partition")
    if given is not None and said is not None and given != said:
        raise ConfigError(
            f"{path} is named like partition {said}, and --partition says {given}; rename it, or drop one"
        )
    key = given or said
    assert key is not None
    try:
        found = table.partitioning.keys(key, key)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not found:
        raise ConfigError(f"{path}: table {table.name} has no partition {key}: it has none yet, or no clock shows it")
    return found[0]


def _from_name(pattern: ObjectPattern, path: Path) -> str | None:
    """The partition that the end of a path is named after."""
    parts = path.absolute().parts[1:]
    found = (pattern.match("/".join(parts[-length:])) for length in range(1, len(parts) + 1))
    return next((key for key in found if key is not None), None)


def print_landing(console: Console, settings: Settings, contracts: Contracts) -> None:
    """What landed and can't be used: names that don't belong, and refused objects."""
    lake = Lake(settings.lake_store())
    for name, place in settings.places(contracts.sourced.values()).items():
        _print_strange(console, name, place)
        _print_refused(console, contracts.tables[name], place, lake)


def _print_strange(console: Console, name: str, place: Place) -> None:
    if (nowhere := place.inbox.missing()) is not None:
        console.print(f"[yellow]landing of {name}[/]: {escape(nowhere)}")
    strange, count = strange_names(place, datetime.now(UTC), LOOKED_AT)
    if not strange:
        return
    more = f" among the first {count:,} names (the sensor's ticks tell of later ones)" if count == LOOKED_AT else ""
    console.print(f"[yellow]landing of {name}[/]: {len(strange)} object(s) that don't belong{more}", markup=True)
    for key, reason in list(strange.items())[:SHOWN]:
        console.print(f"  {place.base}/{key} {reason}", markup=False)
    if len(strange) > SHOWN:
        console.print(f"  … {len(strange) - SHOWN} more …")


def _print_refused(console: Console, table: Table, place: Place, lake: Lake) -> None:
    """Refused objects that are still there as they were."""
    log = LandingLog(lake.store, table)
    refusals = log.refusals(SHOWN * 4)
    known = Registered.read(log, lake, table.name, {refusal.partition for refusal in refusals})
    for refusal in refusals:
        info = place.inbox.stat(refusal.name)
        if info is None or info.generation != refusal.generation:
            continue
        if not known.is_delivered(refusal.partition, (refusal.name, refusal.generation)):
            console.print(f"[red]refused object[/] {table.name} {refusal.partition}: {escape(refusal.reason)}")
