"""IO managers: thin adapters over the warehouse and the lake, for users' own Python assets.

An asset returns a pandas DataFrame, a pyarrow Table or nothing; it asks for an upstream asset as a DataFrame, a Table
or a lazy `TableReference`, by annotating its argument. A table with a contract is validated before it is written; in
the warehouse, bad rows go to quarantine as those of a load do.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dataops_platform.contracts.arrow import arrow_schema
from dataops_platform.contracts.frames import from_arrow
from dataops_platform.contracts.model import BadRowAction, Table
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake import keys
from dataops_platform.lake.store import ObjectMissing, checksum, checksum_name
from dataops_platform.orchestration.errors import user_errors
from dataops_platform.orchestration.resources import Platform
from dataops_platform.quality.pandera_schema import split, validate
from dataops_platform.warehouse.base import Names, Share, Warehouse, Window
from dataops_platform.warehouse.held import HeldRows
from dataops_platform.warehouse.names import (
    LEDGER,
    PRODUCTION,
    QUARANTINE,
    REASONS,
    SOURCE_ROW,
    STAGING,
    Relation,
)
from dataops_platform.warehouse.partition_sql import in_window

PARTITION_FIELD = "partition_field"
"""Asset metadata that names the date or time column a partitioned asset is cut by."""

_OWN_SCHEMAS = {STAGING, QUARANTINE, PRODUCTION, LEDGER}
"""What is in them was loaded, judged and published by the platform; anything else written there would be neither."""


@dataclass(frozen=True, slots=True)
class TableReference:
    """An upstream table that isn't read until asked: write SQL against `sql`, or read it as a whole."""

    relation: Relation
    where: str
    warehouse: Warehouse

    @property
    def sql(self) -> str:
        """A subquery with the upstream rows of this run's partitions."""
        return f"(SELECT * FROM {self.warehouse.sql(self.relation)} WHERE {self.where})"

    def query(self, sql: str) -> pa.Table:
        """Run a SELECT in the warehouse; `{table}` in it stands for this reference."""
        return self.warehouse.query(sql.replace("{table}", self.sql))

    def to_arrow(self) -> pa.Table:
        """All upstream rows."""
        return self.warehouse.query(self.sql.removeprefix("(").removesuffix(")"))


def _frame(value: Any) -> pd.DataFrame:
    """What an asset returned, for its contract's schema."""
    return value if isinstance(value, pd.DataFrame) else from_arrow(_plain_arrow(value))


def _plain_arrow(value: Any) -> pa.Table:
    """What an asset returned, as Arrow, with the types that it has by itself."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pd.DataFrame):
        return pa.Table.from_pandas(value, preserve_index=False)
    raise ConfigError(f"an asset must return a pandas DataFrame or a pyarrow Table, not {type(value).__name__}")


def _valid_arrow(value: Any, table: Table | None) -> pa.Table:
    """What an asset returned, as Arrow; refused as a whole where its table's contract is broken."""
    if table is None:
        return _plain_arrow(value)
    frame = validate(table, _frame(value))
    return pa.Table.from_pandas(frame, schema=arrow_schema(table), preserve_index=False)


def _relation(path: Sequence[str], platform: Platform) -> Relation:
    """Where an asset's table is: dbt models by the manifest, others by their key: schema and name."""
    names = {model.name: model.relation for model in platform.models.items}
    if len(path) == 1 and path[0] in names:
        return names[path[0]]
    if len(path) != 2:
        raise ConfigError(f"asset {'/'.join(path)}: a table's asset key has two parts, its schema and its name")
    return Relation(path[0], path[1])


def _target(path: Sequence[str], platform: Platform) -> Relation:
    """Where an asset's table is written.

    Raises:
        ConfigError: it is one that the platform or dbt writes.
    """
    relation = _relation(path, platform)
    asset = "/".join(path)
    # DuckDB's names are the same in any case.
    if relation.schema.lower() in _OWN_SCHEMAS:
        raise ConfigError(
            f"asset {asset}: the schema {relation.schema} is written by the platform only;"
            " begin the asset's key with a schema of your own"
        )
    for model in platform.models.items:
        if str(model.relation).lower() == str(relation).lower():
            raise ConfigError(f"asset {asset}: {relation} is the dbt model {model.name}; give the asset another key")
    return relation


def _window(context: dg.InputContext | dg.OutputContext, field: str) -> Share:
    """The time that a run's partitions cover, or their names.

    Raises:
        ConfigError: the partitions are neither of time nor of names.
    """
    if isinstance(context.asset_partitions_def, dg.StaticPartitionsDefinition):
        return Names(field, tuple(context.asset_partition_keys))
    if not isinstance(context.asset_partitions_def, dg.TimeWindowPartitionsDefinition):
        raise ConfigError(
            f"asset {context.asset_key.to_user_string()}: a table in the warehouse is cut by time or by"
            " names: use time partitions, or static ones"
        )
    found = context.asset_partitions_time_window
    return Window(field, found.start, found.end)


def _parted(value: Any, table: Table, context: dg.OutputContext) -> tuple[pa.Table, HeldRows | None]:
    """The good rows of what an asset returned, and the bad ones, where its contract lets them go to quarantine."""
    if table.bad_rows.action is not BadRowAction.QUARANTINE:
        return _valid_arrow(value, table), None
    parts = split(table, _frame(value))
    rows = parts.bad.append_column(REASONS, parts.reasons).append_column(SOURCE_ROW, parts.positions)
    partitions = list(context.asset_partition_keys) if context.has_asset_partitions else []
    return parts.good, HeldRows(table, rows, context.asset_key.to_user_string(), partitions, context.run_id)


class WarehouseIOManager(dg.IOManager):
    """Tables in the warehouse. The rows of a run's partitions are replaced in one transaction."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Validate and write what an asset returned.

        Raises:
            dagster.Failure: the table isn't the asset's to write, or the rows can't be written; nothing was changed.
        """
        if obj is None:
            return
        with user_errors():
            relation = _target(context.asset_key.path, self._platform)
            table, window = self._platform.tables.get(relation.name), None
            rows, held = (_plain_arrow(obj), None) if table is None else _parted(obj, table, context)
            if context.has_asset_partitions:
                field = (context.definition_metadata or {}).get(PARTITION_FIELD)
                if not field:
                    raise ConfigError(
                        f"partitioned asset {relation}: name its date column in metadata {PARTITION_FIELD!r}"
                    )
                window = _window(context, str(field))
            self._platform.warehouse.replace_rows(relation, rows, window, held)
        quarantined = {} if held is None else {"rows quarantined": held.rows.num_rows}
        context.add_output_metadata({"dagster/row_count": rows.num_rows, "table": str(relation), **quarantined})

    def load_input(self, context: dg.InputContext) -> Any:
        """Read an upstream asset as the type that the argument is annotated with."""
        with user_errors():
            relation = _relation(context.asset_key.path, self._platform)
            field = self._partition_field(context, relation)
            where, warehouse = "TRUE", self._platform.warehouse
            if context.has_asset_partitions and field is not None:
                # The table's own type decides: whoever wrote it, this is what there is to compare with.
                schema = warehouse.query(f"SELECT * FROM {warehouse.sql(relation)} WHERE FALSE").schema
                where = in_window(relation, schema, _window(context, field), warehouse.dialect)
            reference = TableReference(relation, where, warehouse)
            wanted = context.dagster_type.typing_type
            if wanted is TableReference:
                return reference
            rows = reference.to_arrow()
            return rows if wanted is pa.Table else rows.to_pandas()

    def _partition_field(self, context: dg.InputContext, relation: Relation) -> str | None:
        table = self._platform.tables.get(relation.name)
        if table is not None and table.partitioning is not None:
            return table.partitioning.field
        for model in self._platform.models.items:
            if model.relation == relation:
                return model.partition_field
        field = (
            (context.upstream_output.definition_metadata or {}).get(PARTITION_FIELD)
            if context.upstream_output
            else None
        )
        return str(field) if field else None


class LakeIOManager(dg.IOManager):
    """Parquet objects in the lake, immutable: each write is a new object, reading takes each partition's newest."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def _prefix(self, path: Sequence[str], partition: str) -> str:
        return f"assets/{'/'.join(path)}/{partition}/"

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Validate and write what an asset returned."""
        if obj is None:
            return
        with user_errors():
            if context.has_asset_partitions and len(context.asset_partition_keys) != 1:
                raise ConfigError(
                    f"asset {context.asset_key.to_user_string()}: a run over several partitions can't be written as"
                    " one object; use BackfillPolicy.multi_run()"
                )
            partition = context.asset_partition_key if context.has_asset_partitions else "all"
            # An object in the lake and rows in the warehouse don't commit together: bad rows refuse the whole.
            rows = _valid_arrow(obj, self._platform.tables.get(context.asset_key.path[-1]))
            store = self._platform.lake.store
            folder = store.scratch()
            try:
                path = folder / "part.parquet"
                try:
                    pq.write_table(rows, path)
                except OSError as error:
                    raise ConfigError(
                        f"the lake {store.url} can't be written: {error}. Check the folder and the space on its disk."
                    ) from error
                name = f"{keys.timestamp(_now())}.{checksum_name(checksum(path))}.parquet"
                key = self._prefix(context.asset_key.path, partition) + name
                store.create(key, path)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        context.add_output_metadata({"dagster/row_count": rows.num_rows, "object": key})

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the newest object of each partition as the type that the argument is annotated with."""
        with user_errors():
            partitions = context.asset_partition_keys if context.has_asset_partitions else ["all"]
            store = self._platform.lake.store
            parts = []
            for partition in partitions:
                prefix = self._prefix(context.asset_key.path, partition)
                newest = max((info.key for info in store.list(prefix)), default=None)
                if newest is None:
                    raise ObjectMissing(
                        f"there is no object below {prefix!r} in {store.url}; materialise the asset first"
                    )
                parts.append(pq.read_table(pa.BufferReader(store.read(newest))))
            rows = pa.concat_tables(parts)
            return rows if context.dagster_type.typing_type is pa.Table else rows.to_pandas()


def _now() -> datetime:
    return datetime.now(UTC)
