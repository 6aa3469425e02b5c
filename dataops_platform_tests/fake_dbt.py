"""A stand-in for dbt: models and tests as plain SQL, built into the warehouse, with dbt's words for the outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from dataops_platform.contracts.model import Dimension, Severity
from dataops_platform.transformation.dbt import NodeResult
from dataops_platform.transformation.models import Model, Models, Test
from dataops_platform.warehouse.duckdb import DuckDBWarehouse
from dataops_platform.warehouse.names import Relation


@dataclass
class FakeModel:
    """A model's SELECT, and its tests: name → SELECT of failing rows."""

    name: str
    sql: str
    sources: tuple[str, ...]
    ancestors: tuple[str, ...] = ()
    tests: dict[str, str] | None = None
    field: str | None = "day"
    publish: bool = True

    @property
    def model(self) -> Model:
        tests = tuple(
            Test(
                f"test.{name}", name, f"model.{self.name}", Dimension.ACCURACY, Severity.ERROR,
                hashlib.sha256(sql.encode()).hexdigest()[:16], "",
            )
            for name, sql in (self.tests or {}).items()
        )  # fmt: skip
        relation = Relation("analytics", self.name)
        return Model(
            f"model.{self.name}",
            self.name,
            relation,
            self.field,
            self.publish,
            False,
            self.sources,
            self.ancestors,
            tests,
        )


class FakeDbt:
    """Builds the models asked, days asked only, runs their tests, and skips what stands on a failed test."""

    def __init__(self, warehouse: DuckDBWarehouse, models: Sequence[FakeModel]) -> None:
        self.warehouse = warehouse
        self.models = {model.name: model for model in models}

    def change_test(self, model: str, test: str, sql: str) -> None:
        old = self.models[model]
        self.models[model] = replace(old, tests={**(old.tests or {}), test: sql})

    @property
    def read(self) -> Models:
        return Models(tuple(model.model for model in self.models.values()))

    def build(self, select, partitions, on_event=None) -> list[NodeResult]:
        results: list[NodeResult] = []
        failed: set[str] = set()
        with self.warehouse.connect() as con:
            con.execute("CREATE SCHEMA IF NOT EXISTS analytics")
            for model in self.models.values():
                if model.name not in select:
                    continue
                if failed & set(model.ancestors):
                    results.append(NodeResult(f"model.{model.name}", "skipped", None, "", None, 0.0))
                    continue
                cut = f"day BETWEEN '{partitions[0]}' AND '{partitions[1]}'" if partitions and model.field else "true"
                try:
                    con.execute(f"EXPLAIN {model.sql}")
                except duckdb.Error as error:
                    failed.add(model.name)
                    results.append(NodeResult(f"model.{model.name}", "error", None, str(error), model.sql, 0.0))
                    continue
                con.execute(f"CREATE TABLE IF NOT EXISTS analytics.{model.name} AS SELECT * FROM ({model.sql}) LIMIT 0")
                con.execute(f"BEGIN; DELETE FROM analytics.{model.name} WHERE {cut}")
                con.execute(f"INSERT INTO analytics.{model.name} SELECT * FROM ({model.sql}) WHERE {cut}; COMMIT")
                results.append(NodeResult(f"model.{model.name}", "success", None, "", model.sql, 0.0))
                for name, sql in (model.tests or {}).items():
                    query = f"SELECT * FROM ({sql}) WHERE {cut}"
                    (count,) = con.execute(f"SELECT count(*) FROM ({query})").fetchone()
                    failed |= {model.name} if count else set()
                    results.append(NodeResult(f"test.{name}", "fail" if count else "pass", count, "", query, 0.0))
        return results
