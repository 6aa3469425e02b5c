"""Publication: the production table, the ledger and the production lake change together, and only when needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Scope, Threshold
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform.contracts.types import Kind
from dataops_platform.orchestration.model_assets import model_partitioning
from dataops_platform.quality import verdicts
from dataops_platform.transformation.build import build
from dataops_platform.transformation.pending import _unbuilt
from dataops_platform.transformation.publish import backup, publish, published_objects
from dataops_platform.warehouse.base import NoSuchTable
from dataops_platform.warehouse.duckdb import models as duckdb_models
from dataops_platform.warehouse.ledger import now
from dataops_platform_tests.fake_dbt import FakeDbt, FakeModel
from dataops_platform_tests.support import DAY1, DAY2, DAY3, Home, daily, rule, table

T = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER},
    partitioning=daily(),
    rules=[rule("id_required", RuleKind.NOT_NULL, "id")],
)
FCT = FakeModel("fct", "SELECT day, id FROM staging.orders", ("orders",))
DIM = FakeModel("dim", "SELECT count(*) AS n FROM staging.orders", ("orders",), field=None)
DAYS = [str(DAY1), str(DAY2), str(DAY3)]


class Platform:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.dbt = FakeDbt(home.warehouse, [FCT, DIM])

    def fill(self, *rows) -> None:
        self.home.fill(T, [{"day": day, "id": number} for day, number in rows])
        self.home.judge(T)

    def build(self, partitions=None) -> None:
        build(self.dbt, self.dbt.read, self.home.warehouse, {"orders": T}, "run", ["fct", "dim"], partitions)

    def publish(self, partitions=None, model="fct"):
        home = self.home
        return publish(
            self.dbt.read[model], self.dbt.read, {"orders": T}, home.warehouse, home.lake.store, home.production,
            partitions, "run",
        )  # fmt: skip

    def production(self, model="fct") -> list[tuple]:
        return sorted(self.home.rows(f"SELECT * FROM production.{model}"))

    def everything(self) -> dict:
        dump = self.home.dump("dataops.publications", "production.fct")
        return dump | {"lake": [i.key for s in (self.home.lake.store, self.home.production) for i in s.list("")]}

    def lake_agrees(self) -> None:
        """Rows of the objects that the newest record of each day lists equal the table's."""
        store = self.home.production
        newest = {key.split("/")[2]: key for key in sorted(published_objects(store, "fct"))}
        objects = [key for record in newest.values() for key in json.loads(store.read(record))["objects"]]
        found = [tuple(row.values()) for key in objects for row in pq.read_table(store.uri(key)).to_pylist()]
        assert sorted(found) == self.production()
        ledger = self.home.rows(
            "SELECT object_prefix FROM dataops.publications WHERE model = 'fct'"
            " QUALIFY row_number() OVER (PARTITION BY partition_key ORDER BY published_at DESC) = 1"
        )
        assert {key.rpartition("/")[0] + "/" for key in objects} <= {prefix for (prefix,) in ledger}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Two days in staging and in the models. Each test has a copy."""
    folder = tmp_path_factory.mktemp("built")
    made = Platform(Home(folder))
    with made.home.kept_open():
        made.fill((DAY1, 1), (DAY1, 2), (DAY2, 3))
        made.build()
    return folder


@pytest.fixture
def platform(built, tmp_path) -> Iterator[Platform]:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    made = Platform(Home(tmp_path, delivered=2))
    with made.home.kept_open():
        yield made


@pytest.fixture
def home(tmp_path) -> Iterator[Home]:
    made = Home(tmp_path)
    with made.kept_open():
        yield made


def test_a_publication(platform):
    done = platform.publish()
    assert (done.published, done.unchanged, done.refusals, done.rows) == (tuple(DAYS[:2]), (), (), 3)
    assert platform.production() == [(DAY1, 1), (DAY1, 2), (DAY2, 3)]
    assert len(published_objects(platform.home.production, "fct")) == 2
    platform.lake_agrees()
    assert platform.publish(model="dim").published == ("all",)
    assert platform.production("dim") == [(3,)]


def test_again_is_a_no_op(platform):
    platform.publish()
    before = platform.everything()
    done = platform.publish()
    assert (done.published, done.unchanged, done.rows) == ((), tuple(DAYS[:2]), 0)
    platform.build()  # the same rows, built anew
    assert platform.publish().published == ()
    assert platform.everything() == before


def test_only_what_changed_is_published(platform):
    platform.publish()
    platform.fill((DAY2, 4))
    platform.build([DAYS[1]])
    assert platform.publish().published == (DAYS[1],)
    assert platform.production() == [(DAY1, 1), (DAY1, 2), (DAY2, 3), (DAY2, 4)]
    platform.lake_agrees()


@pytest.mark.parametrize("asked", [DAYS[:2], None])
def test_a_day_that_became_empty(platform, asked):
    """Whether its day is named or everything is built and published anew."""
    platform.publish()
    platform.dbt.models["fct"] = FakeModel(
        "fct", f"SELECT day, id FROM staging.orders WHERE day <> '{DAY2}'", ("orders",)
    )
    platform.build(asked)
    assert platform.publish(asked).published == (DAYS[1],)
    assert platform.production() == [(DAY1, 1), (DAY1, 2)]
    platform.lake_agrees()
    platform.build(asked)
    assert platform.publish(asked).published == ()


def test_a_day_that_vanished_behind_the_builds_back(platform):
    platform.publish()
    with platform.home.warehouse.connect() as con:
        con.execute(f"DELETE FROM analytics.fct WHERE day = '{DAY2}'")
    done = platform.publish()
    assert [refusal.partition_key for refusal in done.refusals] == [DAYS[1]]
    assert platform.production() == [(DAY1, 1), (DAY1, 2), (DAY2, 3)]


def rebuilt(platform, sql: str) -> None:
    with platform.home.warehouse.connect() as con:
        con.execute("DROP TABLE analytics.fct")
    platform.dbt.models["fct"] = FakeModel("fct", sql, ("orders",))
    platform.build()


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT day, id, id * 2 AS double FROM staging.orders", ["day", "id", "double"]),
        ("SELECT day, id, NULL::VARCHAR AS note FROM staging.orders", ["day", "id", "note"]),
        ("SELECT day, id AS number FROM staging.orders", ["day", "number"]),
        ("SELECT day, id::INTEGER AS id FROM staging.orders", ["day", "id"]),
        ("SELECT day FROM staging.orders", ["day"]),
    ],
)
def test_a_model_of_other_columns(platform, sql, columns):
    platform.publish()
    rebuilt(platform, sql)
    before = platform.production()
    with pytest.raises(DataRefused, match=r"the columns of fct changed.* 2024-01-02 not asked for"):
        platform.publish(DAYS[:1])
    assert platform.production() == before
    assert platform.publish().published == tuple(DAYS[:2])
    description = platform.home.warehouse.query("SELECT * FROM production.fct").column_names
    assert description == columns
    assert platform.production() == sorted(platform.home.rows("SELECT * FROM analytics.fct"))
    platform.lake_agrees()


def test_rows_that_change_between_gate_and_transaction(platform, monkeypatch):
    platform.publish()
    platform.fill((DAY1, 9), (DAY2, 9))
    platform.build()
    before = platform.everything()
    calm = duckdb_models.publish

    def late(connection, *arguments):
        connection.execute(f"UPDATE analytics.fct SET id = 100 WHERE id = 3 AND day = '{DAY2}'")
        calm(connection, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(duckdb_models, "publish", late)
        with pytest.raises(DataRefused, match="fct: the rows of 2024-01-02 changed after they were checked"):
            platform.publish()
    after = platform.everything()
    assert {name: after[name] for name in ("dataops.publications", "production.fct")} == {
        name: before[name] for name in ("dataops.publications", "production.fct")
    }
    assert [key for key in after["lake"] if key.startswith("_publications")] == [
        key for key in before["lake"] if key.startswith("_publications")
    ]


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.mark.parametrize("place", ["export", "copy_to", "publish", "append_rows", "create"])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_killed_at_each_step(platform, monkeypatch, place, calls):
    """Before each object, inside the transaction, before each record: the next publication completes it."""
    home = platform.home
    target = {
        "export": home.warehouse, "copy_to": home.lake.store, "publish": duckdb_models, "append_rows": duckdb_models,
        "create": home.production,
    }[place]  # fmt: skip
    real, count = getattr(target, place), 0

    def dying(*args, **options):
        nonlocal count
        count += 1
        if count == calls:
            raise Killed
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, place, dying)
        try:
            platform.publish()
        except Killed:
            pass
        else:
            assert count < calls
    recorded = {row[0] for row in home.rows("SELECT partition_key FROM dataops.publications")}
    exists = home.rows("SELECT 1 AS x FROM duckdb_tables() WHERE schema_name = 'production'")
    days = {str(row[0]) for row in home.rows("SELECT DISTINCT day FROM production.fct")} if exists else set()
    assert days == recorded
    platform.publish()
    assert platform.production() == [(DAY1, 1), (DAY1, 2), (DAY2, 3)]
    assert home.rows("SELECT count(*) AS n FROM dataops.publications") == [(2,)]
    assert len(published_objects(home.production, "fct")) == 2
    platform.lake_agrees()
    before = platform.everything()
    platform.publish()
    assert platform.everything() == before


def test_backup_is_written_once(platform):
    home, model = platform.home, platform.dbt.read["fct"]
    first = backup(model, home.warehouse, home.lake.store, None)
    again = backup(model, home.warehouse, home.lake.store, None)
    assert (first.written, first.existing, first.rows) == (tuple(DAYS[:2]), (), 3)
    assert (again.written, again.existing) == ((), tuple(DAYS[:2]))
    keys = [info.key for info in home.lake.store.list("transformed/fct/")]
    found = [tuple(r.values()) for key in keys for r in pq.read_table(home.lake.store.uri(key)).to_pylist()]
    assert sorted(found) == sorted(home.rows("SELECT * FROM analytics.fct"))


def test_a_model_never_built(home):
    platform = Platform(home)
    platform.home.warehouse.ensure([T])
    with pytest.raises(NoSuchTable, match="build the model fct first"):
        platform.publish()


def test_fingerprints(platform):
    """Order and build don't matter; any change of a row does, also where changes cancel each other out."""
    home, model = platform.home, platform.dbt.read["fct"]

    def version(sql: str) -> str:
        with home.warehouse.connect() as con:
            con.execute(f"CREATE OR REPLACE TABLE analytics.fct AS SELECT DATE '{DAY1}' AS day, t FROM ({sql})")
        return home.warehouse.model_versions(model.slice, None)[str(DAY1)].data_version

    base = version("SELECT unnest([1, 2, 3]) AS t")
    assert version("SELECT unnest([3, 1, 2]) AS t") == base
    others = [
        "[1, 2]",
        "[1, 2, 4]",
        "[1, 2, 3, 3]",
        "[1, 2, 3, 4, 4]",
        "[1, 2, NULL]",
        "[1, 1, 3]",
        "[1::BIGINT, 2, 3]",
    ]
    found = [version(f"SELECT unnest({other}) AS t") for other in others]
    assert len({base, *found}) == len(others) + 1


def test_a_column_called_as_an_alias_does_not_hide_the_others(platform):
    home, model = platform.home, platform.dbt.read["fct"]
    versions = []
    for other in (1, 2):
        with home.warehouse.connect() as con:
            con.execute(f"CREATE OR REPLACE TABLE analytics.fct AS SELECT DATE '{DAY1}' AS day, 5 AS t, {other} AS v")
        versions.append(home.warehouse.model_versions(model.slice, None)[str(DAY1)].data_version)
    assert versions[0] != versions[1]


def test_rows_that_come_back_are_a_publication_of_their_own(platform):
    """A, then B, then A again: the last record, by name, says what production holds."""
    original = FCT
    other = FakeModel("fct", "SELECT day, id + 10 AS id FROM staging.orders", ("orders",))
    for model in (original, other, original):
        platform.dbt.models["fct"] = model
        platform.build(DAYS[:1])
        assert platform.publish(DAYS[:1]).published == (DAYS[0],)
    records = sorted(published_objects(platform.home.production, "fct"))
    assert len(records) == 3
    last = json.loads(platform.home.production.read(records[-1]))
    assert pq.read_table(platform.home.production.uri(*last["objects"])).to_pylist() == [
        {"day": DAY1, "id": 1},
        {"day": DAY1, "id": 2},
    ]
    assert platform.publish(DAYS[:1]).published == ()
    assert sorted(published_objects(platform.home.production, "fct")) == records


PARENTS = table("customers", {"id": Kind.INTEGER}, mode=LoadMode.REPLACE)
CHILDREN = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER},
    partitioning=daily(),
    rules=[rule("id_in_customers", RuleKind.ORPHANS, "id", table="customers", columns=("id",))],
)


def test_a_parent_that_was_loaded_after_the_check(home):
    """A reference that passed says nothing any more once the table it points to has lost a row."""
    home.fill(PARENTS, [{"id": 1}, {"id": 2}])
    home.fill(CHILDREN, [{"day": DAY1, "id": 2}])
    home.judge(CHILDREN)
    dbt = FakeDbt(home.warehouse, [FCT])
    tables = {"orders": CHILDREN, "customers": PARENTS}
    build(dbt, dbt.read, home.warehouse, tables, "run", ["fct"], None)

    def refusals() -> list[str]:
        done = publish(dbt.read["fct"], dbt.read, tables, home.warehouse, home.lake.store, home.production, None, "run")
        return [reason for refusal in done.refusals for reason in refusal.reasons]

    home.fill(PARENTS, [{"id": 1}])
    assert refusals() == [
        "rule id_in_customers of staging.orders has not been checked since staging.customers was loaded"
    ]
    home.judge(CHILDREN)
    assert refusals() == ["rule id_in_customers of staging.orders failed: observed 1, mustBe 0"]
    home.fill(PARENTS, [{"id": 1}, {"id": 2}])
    home.judge(CHILDREN)
    assert refusals() == []


def test_failing_rows_of_another_day_fail_every_day(platform):
    """What a failing test says of other days can't be told of these: none passes."""
    platform.dbt.models["fct"] = FakeModel(
        "fct", FCT.sql, ("orders",), tests={"fct_ok": "SELECT DATE '2020-01-01' AS day"}
    )
    platform.build()
    done = platform.publish()
    assert ([refusal.partition_key for refusal in done.refusals], done.published) == (DAYS[:2], ())


def test_a_rule_about_the_whole_table_that_is_newer_than_the_build(platform):
    more = rule("many", RuleKind.ROW_COUNT, threshold=Threshold(Operator.GREATER, (1000,)), scope=Scope.TABLE)
    tables = {"orders": replace(T, rules=(*T.rules, more))}
    home, dbt = platform.home, platform.dbt
    done = publish(dbt.read["fct"], dbt.read, tables, home.warehouse, home.lake.store, home.production, None, "run")
    assert {r.reasons for r in done.refusals} == {("rule many of staging.orders has not been checked on this data",)}
    assert done.published == ()


def test_a_staging_table_that_is_read_behind_dbts_back(platform):
    platform.dbt.models["fct"] = FakeModel("fct", 'SELECT day, id FROM "warehouse"."staging"."orders"', ())
    with pytest.raises(ConfigError, match=r"reads staging\.orders without source"):
        platform.build()


def test_a_day_that_nothing_was_delivered_for(home):
    """A gap between deliveries is neither published nor refused."""
    platform = Platform(home)
    platform.fill((DAY1, 1), (DAY3, 3))
    platform.build(DAYS)
    done = platform.publish(DAYS)
    assert (done.published, done.refusals) == ((DAYS[0], DAYS[2]), ())
    assert platform.publish(DAYS).published == ()


def test_a_model_without_partitions_and_without_rows(platform):
    platform.fill((DAY1, 1))
    platform.dbt = FakeDbt(
        platform.home.warehouse, [FCT, replace(DIM, sql="SELECT id AS n FROM staging.orders WHERE id > 100")]
    )
    platform.build()
    assert platform.publish(model="dim").published == ("all",)
    assert platform.production("dim") == []


def test_rows_that_belong_to_no_day(platform):
    sql = "SELECT NULLIF(day, '2024-01-02') AS day, id FROM staging.orders"
    platform.dbt.models["fct"] = FakeModel("fct", sql, ("orders",))
    with pytest.raises(DataRefused, match=r"1 row\(s\) of fct belong to no partition, because day is null"):
        platform.build()
    with pytest.raises(DataRefused, match="belong to no partition"):  # though such rows aren't asked for
        platform.publish(DAYS[:1])


def test_a_test_that_is_new_is_work_left(platform):
    ledger, versions = platform.home.ledger, platform.home.ledger.all_data_versions(["orders"])
    assert _unbuilt(platform.dbt.read, ledger, {"orders": T}, versions) == {}
    platform.dbt.change_test("fct", "fct_ok", "SELECT day FROM staging.orders WHERE false")
    assert _unbuilt(platform.dbt.read, ledger, {"orders": T}, versions) == {"fct": DAYS[:2]}
    platform.build(DAYS[:2])
    assert _unbuilt(platform.dbt.read, ledger, {"orders": T}, versions) == {}


def test_models_are_cut_by_day(platform):
    monthly = replace(T, partitioning=daily(granularity=Granularity.MONTH))
    with pytest.raises(ValueError, match="cut by month: a model is cut by day"):
        model_partitioning(platform.dbt.read, {"orders": monthly})


def test_a_build_that_was_not_alone_records_nothing(platform, monkeypatch):
    """Its tests may have judged the rows of another run."""
    platform.fill((DAY1, 1))
    exclusive = type(platform.home.warehouse).exclusive

    @contextmanager
    def interrupted(self, models, run_id):
        with exclusive(self, models, run_id):
            yield lambda: False

    monkeypatch.setattr(type(platform.home.warehouse), "exclusive", interrupted)
    before = platform.home.dump("dataops.builds", "dataops.verdicts")
    with pytest.raises(ConfigError, match="nothing was recorded"):
        platform.build()
    assert platform.home.dump("dataops.builds", "dataops.verdicts") == before


def test_a_reference_is_judged_by_versions_not_by_clocks(home, monkeypatch):
    """The worker's clock may be ahead of the warehouse's: a verdict of the future is older than the load after it."""
    home.fill(PARENTS, [{"id": 1}, {"id": 2}])
    home.fill(CHILDREN, [{"day": DAY1, "id": 2}])
    ahead = now() + timedelta(hours=1)
    monkeypatch.setattr(verdicts, "now", lambda: ahead)
    home.judge(CHILDREN)
    dbt = FakeDbt(home.warehouse, [FCT])
    tables = {"orders": CHILDREN, "customers": PARENTS}
    build(dbt, dbt.read, home.warehouse, tables, "run", ["fct"], None)
    home.fill(PARENTS, [{"id": 1}])
    done = publish(dbt.read["fct"], dbt.read, tables, home.warehouse, home.lake.store, home.production, None, "run")
    assert [reason for refusal in done.refusals for reason in refusal.reasons] == [
        "rule id_in_customers of staging.orders has not been checked since staging.customers was loaded"
    ]
