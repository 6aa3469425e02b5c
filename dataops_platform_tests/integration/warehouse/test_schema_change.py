"""Contracts and deliveries that change, on every engine: what is added, left or refused, and what mends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from dataops_platform.contracts.model import Column, LoadMode, RuleKind, SchemaPolicy, Source, Table
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.quality.quarantine import row_checks
from dataops_platform.quality.verdicts import foresee
from dataops_platform.warehouse.base import Selection
from dataops_platform.warehouse.loss import Loss, loss
from dataops_platform_tests.cloud import ENGINES, CloudHome, bigquery_client, engine_home, on_both
from dataops_platform_tests.support import DAY1, DAY2, DAY3, Home, daily, rule, table

pytestmark = pytest.mark.usefixtures("open_files")

T = table(
    "orders",
    {"day": Kind.DATE, "id": Kind.INTEGER, "amount": FieldType(Kind.DECIMAL, 10, 2)},
    partitioning=daily(),
    mode=LoadMode.MERGE,
    key=("id",),
    rules=[rule("id_range", RuleKind.RANGE, "id", minimum=0), rule("shape", RuleKind.SCHEMA)],
)
ADDITIVE = replace(T, schema_policy=SchemaPolicy.ADDITIVE)
IGNORE = replace(T, schema_policy=SchemaPolicy.IGNORE)


@pytest.fixture(params=ENGINES)
def home(request, tmp_path) -> Home:
    return engine_home(request, tmp_path)


def arrow(day, id, **more) -> pa.Table:
    """One row as a file has it, with columns beyond the contract."""
    columns = {
        "day": pa.array([day], pa.date32()),
        "id": pa.array([id], pa.int64()),
        "amount": pa.array([1], pa.decimal128(10, 2)),
    }
    return pa.table(columns | {name: v if isinstance(v, pa.Array) else pa.array([v]) for name, v in more.items()})


def changed(made: Table, version: str = "2.0.0", **columns: FieldType | Kind | None) -> Table:
    """A later contract: columns of other types, new ones, or (None) without them."""
    kinds = {c.name: c.type for c in made.columns} | {
        name: kind if isinstance(kind, FieldType | None) else FieldType(kind) for name, kind in columns.items()
    }
    return replace(
        made, columns=tuple(Column(n, k) for n, k in kinds.items() if k is not None), contract_version=version
    )


def beyond(home: Home) -> list[dict[str, object]]:
    sql = "SELECT columns_beyond FROM dataops.loads WHERE columns_beyond IS NOT NULL ORDER BY created_at"
    return [json.loads(text) for (text,) in home.rows(sql)]


def test_strict(home):
    (outcome,) = home.load(T, [home.deliver(T, arrow(DAY1, 1, note="n"), partition=DAY1)])
    assert "column 'note' is not in the contract" in outcome.refused
    without = arrow(DAY1, 1).drop_columns("amount")
    (outcome,) = home.load(T, [home.deliver(T, without, partition=DAY1)])
    assert "column 'amount' is missing" in outcome.refused
    assert home.rows("SELECT * FROM staging.orders") == []


def test_ignore(home):
    rows = arrow(DAY1, 1, note="n", Note="m", ship=pa.array([{"to": "x"}]), _tool="t")
    (outcome,) = home.load(IGNORE, [home.deliver(IGNORE, rows, partition=DAY1)])
    assert (outcome.refused, outcome.rows_loaded) == (None, 1)
    assert set(outcome.beyond.left) == {"note", "Note", "ship", "_tool"}
    (outcome,) = home.load(IGNORE, [home.deliver(IGNORE, arrow(DAY2, 2).drop_columns("amount"), partition=DAY2)])
    assert (outcome.refused, outcome.beyond.left) == (None, ())
    assert home.rows("SELECT id, amount IS NULL FROM staging.orders ORDER BY id") == [(1, False), (2, True)]
    assert beyond(home) == [{"added": {}, "left": ["note", "Note", "ship", "_tool"]}]
    # A name that differs by its letters' case alone is a mistake, not something to pass over.
    (outcome,) = home.load(
        IGNORE, [home.deliver(IGNORE, arrow(DAY3, 3).rename_columns(["day", "id", "Amount"]), partition=DAY3)]
    )
    assert "column 'amount' is missing (the file has 'Amount')" in outcome.refused
    (outcome,) = home.load(IGNORE, [home.deliver(IGNORE, arrow(DAY3, 3, ID=4), partition=DAY3)])
    assert "column 'ID' is the contract's 'id' but for its case" in outcome.refused


@on_both
def test_additive(home):
    first = home.deliver(ADDITIVE, arrow(DAY1, 1), partition=DAY1)
    second = home.deliver(
        ADDITIVE, arrow(DAY2, 2, note="n", n=3, price=pa.array([1], pa.decimal128(12, 3)), _airbyte_id="a"),
        arrow(DAY2, -2, note="bad", other=1.5), partition=DAY2,
    )  # fmt: skip
    outcomes = home.load(ADDITIVE, [first, second])
    assert [(o.refused, o.rows_loaded, o.rows_quarantined) for o in outcomes] == [(None, 1, 0), (None, 1, 1)]
    assert {name: str(kind) for name, kind in outcomes[1].beyond.added.items()} == {
        "note": "string", "n": "integer", "price": "decimal(12,3)", "other": "number",
    }  # fmt: skip
    assert outcomes[1].beyond.left == ("_airbyte_id",)
    kept = "SELECT id, note, n, CAST(price AS {}), other FROM staging.orders ORDER BY id"
    text = "STRING" if home.warehouse.dialect == "bigquery" else "VARCHAR"
    assert home.rows(kept.format(text))[0] == (1, None, None, None, None)
    assert home.rows(kept.format(text))[1][:3] == (2, "n", 3)
    assert home.rows("SELECT id, note, n, other FROM quarantine.orders") == [(-2, "bad", None, 1.5)]
    # Later deliveries needn't have them; another one adds its own, by itself.
    outcomes = home.load(
        ADDITIVE,
        [
            home.deliver(ADDITIVE, arrow(DAY3, 3, note="m"), partition=DAY3),
            home.deliver(ADDITIVE, arrow(DAY3, 4, late=True), partition=DAY3),
        ],
    )
    assert [list(o.beyond.added) for o in outcomes] == [[], ["late"]]
    assert home.rows("SELECT id, note, late FROM staging.orders ORDER BY id") == [
        (1, None, None), (2, "n", None), (3, "m", None), (4, None, True),
    ]  # fmt: skip
    assert [entry["left"] for entry in beyond(home)] == [["_airbyte_id"], []]
    # The contract is still met, and the ledger knows what it was.
    (changes,) = home.warehouse.changes([ADDITIVE])
    assert (changes.items, [name for name, _ in changes.found]) == ([], ["note", "n", "price", "other", "late"])
    assert all(verdict.passed for verdict in home.judge(ADDITIVE, "shape"))
    home.warehouse.ensure([replace(ADDITIVE, description="Described anew.")])


def test_what_can_not_be_added(home):
    home.load(ADDITIVE, [home.deliver(ADDITIVE, arrow(DAY1, 1, note="n"), partition=DAY1)])
    deliveries = [
        home.deliver(ADDITIVE, arrow(DAY2, 2, note=5), partition=DAY2),
        home.deliver(ADDITIVE, arrow(DAY2, 3, **{"a b": 1}), partition=DAY2),
        home.deliver(ADDITIVE, arrow(DAY2, 4, blob=pa.array([b"x"])), partition=DAY2),
        home.deliver(ADDITIVE, arrow(DAY2, 7, twin=1, Twin=2), partition=DAY2),
        home.deliver(ADDITIVE, arrow(DAY2, 5, fresh=1), partition=DAY2),
        home.deliver(ADDITIVE, arrow(DAY2, 6, fresh="text"), partition=DAY2),
    ]
    outcomes = home.load(ADDITIVE, deliveries)
    for outcome, says in zip(
        outcomes_of(outcomes, deliveries),
        (
            "column 'note' is .*, an earlier delivery brought it as string",
            "column 'a b' can't be added: names are letters, digits .*`schemaPolicy: ignore`",
            "column 'blob' can't be added: no type of a contract holds",
            "column 'Twin' can't be added beside 'twin'",
            None,
            "column 'fresh' is .*, an earlier delivery brought it as integer.*, or declare the column in the contract",
        ),
        strict=True,
    ):
        assert (outcome.refused is None) is (says is None)
        if says is not None:
            with pytest.raises(AssertionError, match=says):
                raise AssertionError(outcome.refused)
    assert home.rows("SELECT id, note, fresh FROM staging.orders ORDER BY id") == [(1, "n", None), (5, None, 1)]


def outcomes_of(outcomes, deliveries):
    by_id = {outcome.load_id: outcome for outcome in outcomes}
    return [by_id[delivery.load_id] for delivery in deliveries]


def test_a_replay_keeps_what_deliveries_brought(home):
    home.load(ADDITIVE, [home.deliver(ADDITIVE, arrow(DAY1, -1, note="n"), partition=DAY1)])
    loose = replace(ADDITIVE, rules=())
    home.warehouse.ensure([loose])
    home.warehouse.replay(loose, row_checks(loose, home.warehouse.dialect), Selection(), "again")
    assert home.rows("SELECT id, note FROM staging.orders") == [(-1, "n")]


def test_a_column_that_is_declared_later(home):
    home.load(ADDITIVE, [home.deliver(ADDITIVE, arrow(DAY1, 1, note="n"), partition=DAY1)])
    declared = changed(ADDITIVE, "1.1.0", note=Kind.STRING)
    home.load(declared, [home.deliver(declared, arrow(DAY2, 2), partition=DAY2)])
    assert home.rows("SELECT id, note FROM staging.orders ORDER BY id") == [(1, "n"), (2, None)]
    (changes,) = home.warehouse.changes([declared])
    assert (changes.items, changes.found) == ([], [])
    # Under a policy that doesn't bring columns it would be in nobody's contract.
    strict = replace(T, contract_version="3.0.0")
    with pytest.raises(ConfigError, match=r"staging\.orders\.note is not in the contract"):
        home.warehouse.ensure([strict])


def test_a_column_that_is_removed(home):
    wide = changed(T, "1.1.0", note=Kind.STRING)
    home.load(wide, [home.deliver(wide, arrow(DAY1, 1, note="n"), arrow(DAY1, -1, note="bad"), partition=DAY1)])
    narrow = replace(T, contract_version="2.0.0")
    with pytest.raises(ConfigError, match=r"orders\.note is not in the contract.*`dataops apply --allow-breaking or"):
        home.load(narrow, [])
    assert home.rows("SELECT note FROM staging.orders") == [("n",)]
    (changes,) = home.warehouse.changes([narrow])
    assert ([c.sign for c in changes.items], changes.rebuild, str(changes.version_wanted())) == (["-"], False, "None")
    assert str(replace(changes, table=replace(narrow, contract_version="1.1.1")).version_wanted()) == "2.0.0"
    home.warehouse.adopt(narrow)
    home.warehouse.ensure([narrow])
    for relation in ("staging.orders", "quarantine.orders"):
        assert "note" not in home.warehouse.query(f"SELECT * FROM {relation}").schema.names
    assert home.rows("SELECT id FROM staging.orders UNION ALL SELECT id FROM quarantine.orders ORDER BY 1") == [
        (-1,), (1,),
    ]  # fmt: skip
    # What was delivered under the contract that had it still fits; what is delivered now doesn't.
    home.warehouse.reset(narrow)
    (outcome,) = home.load(narrow)
    assert (outcome.refused, outcome.rows_loaded, outcome.beyond.left) == (None, 1, ("note",))
    (outcome,) = home.load(narrow, [home.deliver(narrow, arrow(DAY2, 2, note="n"), partition=DAY2)])
    assert "column 'note' is not in the contract" in outcome.refused


def test_deliveries_of_before_a_column(home):
    home.load(T, [home.deliver(T, arrow(DAY1, 1), partition=DAY1)])
    wide = changed(T, "1.1.0", note=Kind.STRING)
    home.warehouse.ensure([wide])
    home.warehouse.reset(wide)
    (outcome,) = home.load(wide)
    assert (outcome.refused, outcome.rows_loaded) == (None, 1)
    (outcome,) = home.load(wide, [home.deliver(wide, arrow(DAY2, 2), partition=DAY2)])
    assert "column 'note' is missing" in outcome.refused


def test_another_type(home):
    home.load(T, [home.deliver(T, arrow(DAY1, 1), partition=DAY1)])
    other = changed(T, id=Kind.STRING)
    with pytest.raises(ConfigError, match=r"staging\.orders\.id is .*, the contract says (VARCHAR|STRING)"):
        home.warehouse.ensure([other])
    narrow = changed(T, amount=FieldType(Kind.DECIMAL, 9, 2))
    with pytest.raises(ConfigError, match=r"orders\.amount is \w+\(10,2\), the contract says \w+\(9,2\)"):
        home.warehouse.ensure([narrow])
    assert home.rows("SELECT id FROM staging.orders") == [(1,)]
    home.warehouse.adopt(other)
    assert home.rows("SELECT id FROM staging.orders") == []
    text = arrow(DAY1, 1).set_column(1, "id", pa.array(["one"]))
    home.load(other, [home.deliver(other, text, partition=DAY1)])
    assert home.rows("SELECT id FROM staging.orders") == [("one",)]


@on_both
def test_a_wider_type(home):
    home.load(T, [home.deliver(T, arrow(DAY1, 1), arrow(DAY1, -1), partition=DAY1)])
    wider = changed(T, "1.1.0", amount=FieldType(Kind.DECIMAL, 14, 3))
    (changes,) = home.warehouse.changes([wider])
    assert ([c.sign for c in changes.items], changes.breaking) == (["~"], [])
    home.warehouse.ensure([wider])
    assert home.warehouse.changes([wider])[0].items == []
    rows = arrow(DAY2, 2).set_column(2, "amount", pa.array([12345678901], pa.decimal128(14, 3)))
    home.load(wider, [home.deliver(wider, rows, partition=DAY2)])
    amounts = [float(amount) for (amount,) in home.rows("SELECT amount FROM staging.orders ORDER BY id")]
    assert amounts == [1, 12345678901]
    assert len(home.rows("SELECT amount FROM quarantine.orders")) == 1


def test_another_key(home):
    home.load(T, [home.deliver(T, arrow(DAY1, 1), partition=DAY1)])
    other = replace(T, primary_key=("day", "id"), contract_version="2.0.0")
    with pytest.raises(ConfigError, match=r"the key of staging\.orders is \(day, id\), it was \(id\)"):
        home.load(other, [])
    assert home.rows("SELECT id FROM staging.orders") == [(1,)]
    home.warehouse.adopt(other)
    assert home.rows("SELECT id FROM staging.orders") == []
    home.load(other)
    assert home.rows("SELECT id FROM staging.orders") == [(1,)]
    assert home.warehouse.changes([other])[0].items == []


def test_another_cut(home):
    by_instant = changed(replace(T, partitioning=daily("at")), "1.0.0", at=Kind.TIMESTAMP)
    home.warehouse.ensure([by_instant])
    other = replace(by_instant, partitioning=daily("at", "Europe/Paris"), contract_version="2.0.0")
    with pytest.raises(ConfigError, match="is cut by day of at, Europe/Paris, it was by day of at, UTC"):
        home.warehouse.ensure([other])
    longer = replace(by_instant, partitioning=replace(daily("at"), end=None))
    home.warehouse.ensure([longer])  # more of the same partitions are no change


@on_both
def test_optional_and_required(home):
    required = replace(
        T,
        columns=(*T.columns[:2], replace(T.columns[2], required=True)),
        rules=(*T.rules, rule("amount_required", RuleKind.NOT_NULL, "amount")),
    )
    null = arrow(DAY1, 1).set_column(2, "amount", pa.nulls(1, pa.decimal128(10, 2)))
    (outcome,) = home.load(required, [home.deliver(required, null, partition=DAY1)])
    assert outcome.rows_quarantined == 1
    optional = replace(T, contract_version="1.1.0")
    (outcome,) = home.load(optional, [home.deliver(optional, null, partition=DAY1)])
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (1, 0)
    again = replace(required, contract_version="1.2.0")
    (changes,) = home.warehouse.changes([again])
    assert [(c.sign, c.text.partition(" (")[0], c.breaking) for c in changes.items] == [
        ("~", "column staging.orders.amount is required now", False),
        ("+", "rule orders.amount_required", False),
    ]
    home.warehouse.ensure([again])
    (outcome,) = home.load(again, [home.deliver(again, null, partition=DAY2)])
    assert outcome.rows_quarantined == 1


def test_what_only_hands_can_mend(home):
    home.warehouse.ensure([])
    home.by_hand("CREATE VIEW staging.orders AS SELECT 1 AS id")
    with pytest.raises(ConfigError, match=r"staging\.orders is a VIEW, the contract wants a table"):
        home.warehouse.ensure([T])
    with pytest.raises(ConfigError, match=r"drop staging\.orders by hand"):
        home.warehouse.adopt(T)
    assert home.rows("SELECT id FROM staging.orders") == [(1,)]


SOURCED = replace(T, source=Source("files"))
"""What is loaded from the lake; of tables without deliveries the ledger has no loads."""


def test_what_a_table_that_is_loaded_anew_would_lose(home):
    first = home.deliver(SOURCED, arrow(DAY1, 1), partition=DAY1)
    second = home.deliver(SOURCED, arrow(DAY2, 2), partition=DAY2)
    home.load(SOURCED)
    assert loss(home.warehouse, home.lake, SOURCED) == Loss(2, {})
    later = replace(SOURCED, partitioning=replace(daily(), start=DAY2))
    found = loss(home.warehouse, home.lake, later)
    assert list(found.refused) == [first.manifest]
    assert found.summary.startswith("1 of 2 deliveries would be refused: partition '2024-01-01' is outside")
    home.warehouse.reset(SOURCED)  # nothing is loaded: all of it is waiting
    assert list(loss(home.warehouse, home.lake, later).refused) == [first.manifest]
    home.load(SOURCED)
    home.by_hand(f"UPDATE dataops.loads SET manifest = 'other.json' WHERE manifest = '{second.manifest}'")
    found = loss(home.warehouse, home.lake, changed(SOURCED, id=Kind.STRING))
    assert len(found.refused) == found.deliveries == 3
    assert "'id' is " in found.refused[first.manifest]
    assert found.refused["other.json"] == "manifest other.json is gone from the lake"
    assert home.rows("SELECT count(*) FROM dataops.refusals") == [(0,)]  # nobody was refused anything


@on_both
def test_what_a_table_that_is_loaded_anew_would_try_again(home):
    """What was refused is no loss, and a load tries it again when it fits."""
    home.deliver(SOURCED, arrow(DAY1, 1), partition=DAY1)
    text = changed(SOURCED, id=Kind.STRING)
    home.deliver(text, arrow(DAY2, 2).set_column(1, "id", pa.array(["2"])), partition=DAY2)
    home.load(SOURCED)
    assert loss(home.warehouse, home.lake, SOURCED) == Loss(1, {})
    found = loss(home.warehouse, home.lake, text)
    assert (found.deliveries, len(found.refused), found.retried) == (1, 1, 1)
    home.warehouse.adopt(text)
    assert sorted(o.rows_loaded for o in home.load(text)) == [0, 1]
    # Now it is the other one that was refused.
    back = replace(SOURCED, contract_version="3.0.0")
    found = loss(home.warehouse, home.lake, back)
    assert (found.deliveries, len(found.refused), found.retried) == (1, 1, 1)


def test_what_a_table_that_is_loaded_anew_would_lose_by_damage(tmp_path):
    """No load takes bytes that aren't those that were delivered: the table has the only good ones."""
    home = Home(tmp_path)
    delivery = home.deliver(SOURCED, arrow(DAY1, 1), partition=DAY1)
    home.load(SOURCED)
    (item,) = delivery.objects
    path = Path(home.lake.store.uri(item.key))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    assert "holds other bytes than were delivered" in loss(home.warehouse, home.lake, SOURCED).summary
    path.unlink()
    assert "is gone" in loss(home.warehouse, home.lake, SOURCED).summary


def test_a_staging_table_that_somebody_dropped(home):
    home.deliver(SOURCED, arrow(DAY1, 1), arrow(DAY1, -1), partition=DAY1)
    home.load(SOURCED)
    home.by_hand("DROP TABLE staging.orders")
    (changes,) = home.warehouse.changes([SOURCED])
    assert (changes.gone, changes.breaking, changes.version_wanted()) == (True, [], None)
    again = replace(SOURCED, description="As a process that doesn't know it would.")
    home.load(again)
    assert home.rows("SELECT id FROM staging.orders UNION ALL SELECT id FROM quarantine.orders ORDER BY 1") == [
        (-1,), (1,),
    ]  # fmt: skip
    assert home.rows("SELECT count(*) FROM dataops.loads") == [(1,)]


def test_a_staging_table_and_a_ledger_that_are_gone(tmp_path):
    """Rows of quarantine that nobody knows of would be counted again."""
    home = Home(tmp_path)
    home.deliver(SOURCED, arrow(DAY1, 1), arrow(DAY1, -1), partition=DAY1)
    home.load(SOURCED)
    home.by_hand("DROP TABLE staging.orders")
    home.by_hand("DELETE FROM dataops.loads")
    again = replace(SOURCED, description="As a process that doesn't know it would.")
    (outcome,) = home.load(again)
    assert (outcome.rows_loaded, outcome.rows_quarantined) == (1, 1)
    assert home.rows("SELECT id FROM quarantine.orders") == [(-1,)]


def test_a_process_with_an_older_contract(tmp_path):
    """A run that began before a column was removed doesn't bring it back."""
    home = Home(tmp_path)
    wide = changed(T, "1.1.0", note=Kind.STRING)
    home.load(wide, [home.deliver(wide, arrow(DAY1, 1, note="n"), partition=DAY1)])
    home.warehouse.adopt(replace(T, contract_version="2.0.0"))
    with pytest.raises(ConfigError, match=r"note .* version 1\.1\.0 of the contract is older than 2\.0\.0"):
        home.load(replace(wide, description="Another process."), [])
    home.warehouse.adopt(wide)  # where it is meant
    assert home.warehouse.changes([T])[0].applied.version == "2.0.0"  # versions only grow
    assert home.rows("SELECT id, note FROM staging.orders") == [(1, None)]


@on_both
def test_what_is_followed_is_told(home):
    home.warehouse.ensure([T])
    more = replace(T, description="As a process that doesn't know it would.", rules=(*T.rules, RULE))
    later = changed(more, "1.0.1", note=Kind.STRING)
    (followed,) = home.warehouse.ensure([later])
    what, version = followed.told
    assert what.startswith("orders follows its contract: + column staging.orders.note (")
    assert "; + rule orders.few (" in what
    assert "version 1.0.1 has to be at least 1.1.0" in version
    assert not followed.version_refused
    # What is new alone needs no telling, nor what was told before.
    for made in (replace(later, description="Another."), replace(T, name="others")):
        assert [line for item in home.warehouse.ensure([made]) for line in item.told] == []


RULE = rule("few", RuleKind.ROW_COUNT)


@pytest.mark.cloud
def test_partitions_that_would_expire(bigquery_server, bq_ledger, gcs_client, bucket, tmp_path):
    """BigQuery drops them at once: no run lets it."""
    client = bigquery_client(bigquery_server, bq_ledger)
    home = CloudHome(tmp_path / "home", gcs_client, bucket, client)
    home.load(T, [home.deliver(T, arrow(DAY1, 1), partition=DAY1)])
    expiring = replace(T, expiration_days=30, contract_version="2.0.0")
    with pytest.raises(ConfigError, match="partitionExpirationDays of orders is 30, it was never"):
        home.warehouse.ensure([expiring])
    assert client.get_table("staging.orders").time_partitioning.expiration_ms is None
    home.warehouse.adopt(expiring)
    assert client.get_table("staging.orders").time_partitioning.expiration_ms == 30 * 24 * 60 * 60 * 1000


def test_a_policy_that_keeps_no_brought_columns(tmp_path):
    """The contract is what takes them, not somebody by hand."""
    home = Home(tmp_path)
    home.load(ADDITIVE, [home.deliver(ADDITIVE, arrow(DAY1, 1, note="n"), partition=DAY1)])
    (changes,) = home.warehouse.changes([T])
    assert [item.text for item in changes.breaking] == ["staging.orders.note is not in the contract"]
    assert (str(changes.version_wanted()), changes.version_refused) == ("2.0.0", True)


def test_a_column_that_comes_back(tmp_path):
    home = Home(tmp_path)
    wide = changed(T, "1.1.0", note=Kind.STRING)
    home.load(wide, [home.deliver(wide, arrow(DAY1, 1, note="n"), partition=DAY1)])
    home.warehouse.adopt(replace(T, contract_version="2.0.0"))
    (changes,) = home.warehouse.changes([replace(wide, contract_version="2.1.0")])
    assert "`dataops reload orders` loads what the lake has of it" in changes.items[0].consequence


def test_rows_that_the_ledger_knows_nothing_of(home):
    appended = replace(SOURCED, load_mode=LoadMode.APPEND)
    home.deliver(appended, arrow(DAY1, 1), partition=DAY1)
    home.load(appended)
    home.by_hand("DELETE FROM dataops.loads WHERE TRUE")
    again = replace(appended, description="As a process that doesn't know it would.")
    with pytest.raises(ConfigError, match=r"orders has rows in the warehouse, and the ledger has no loads of it"):
        home.load(again)
    home.warehouse.adopt(again)
    home.load(again)
    assert home.rows("SELECT id FROM staging.orders") == [(1,)]


def test_a_quarantine_that_somebody_dropped(home):
    home.deliver(SOURCED, arrow(DAY1, 1), arrow(DAY1, -1), partition=DAY1)
    home.load(SOURCED)
    home.by_hand("DROP TABLE quarantine.orders")
    again = replace(SOURCED, description="As a process that doesn't know it would.")
    with pytest.raises(ConfigError, match=r"table quarantine\.orders is gone, and its rows with it"):
        home.load(again)
    home.warehouse.adopt(again)
    home.load(again)
    assert home.rows("SELECT id FROM staging.orders UNION ALL SELECT id FROM quarantine.orders ORDER BY 1") == [
        (-1,), (1,),
    ]  # fmt: skip


def test_an_empty_quarantine_that_somebody_dropped(home):
    """It is made anew, with the columns that deliveries brought: bad rows of others have them too."""
    additive = replace(SOURCED, schema_policy=SchemaPolicy.ADDITIVE)
    home.load(additive, [home.deliver(additive, arrow(DAY1, 1, note="n"), partition=DAY1)])
    home.by_hand("DROP TABLE quarantine.orders")
    again = replace(additive, description="As a process that doesn't know it would.")
    (outcome,) = home.load(again, [home.deliver(again, arrow(DAY2, -2, note="bad"), partition=DAY2)])
    assert (outcome.refused, outcome.rows_quarantined) == (None, 1)
    assert home.rows("SELECT id, note FROM quarantine.orders") == [(-2, "bad")]


def test_what_hands_changed_asks_for_no_version(tmp_path):
    home = Home(tmp_path)
    home.load(SOURCED, [home.deliver(SOURCED, arrow(DAY1, 1), partition=DAY1)])
    for statement in (
        "ALTER TABLE staging.orders ADD COLUMN more VARCHAR",
        "ALTER TABLE quarantine.orders DROP COLUMN _source_row",
        "ALTER TABLE staging.orders ALTER COLUMN amount TYPE DOUBLE",
    ):
        home.by_hand(statement)
    (changes,) = home.warehouse.changes([SOURCED])
    assert sorted(item.text for item in changes.items) == [
        "column quarantine.orders._source_row (BIGINT) was dropped in the warehouse",
        "staging.orders.amount is DOUBLE, the contract says DECIMAL(10,2); not by the contract: it was changed in the"
        " warehouse",
        "staging.orders.more is not in the contract",
    ]
    assert (len(changes.breaking), changes.version_wanted()) == (3, None)


def test_a_column_that_deliveries_brought_is_new_to_the_contract(tmp_path):
    home = Home(tmp_path)
    home.load(ADDITIVE, [home.deliver(ADDITIVE, arrow(DAY1, 1, note="n"), partition=DAY1)])
    (changes,) = home.warehouse.changes([changed(ADDITIVE, "1.0.1", note=Kind.STRING)])
    assert [(item.sign, item.text) for item in changes.items if "rule" not in item.text] == [
        ("+", "column staging.orders.note is in the contract now")
    ]
    assert str(changes.version_wanted()) == "1.1.0"


def test_a_column_that_is_removed_with_values_that_could_not_be_cast(home):
    """What is wrong with a column that nobody has any more is wrong with nothing."""
    wide = changed(T, "1.1.0", note=Kind.INTEGER)
    texts = pa.array(['{"note": "n"}', None])
    rows = arrow(DAY1, 1).select(["day", "id", "amount"])
    rows = pa.concat_tables([rows, arrow(DAY1, 2)]).append_column("note", pa.array([None, 3], pa.int64()))
    home.load(wide, [home.deliver(wide, rows.append_column("_uncast", texts), partition=DAY1)])
    assert home.rows("SELECT id FROM quarantine.orders") == [(1,)]
    home.warehouse.adopt(T)
    home.warehouse.reset(T)
    (outcome,) = home.load(T)
    assert (outcome.refused, outcome.rows_loaded, outcome.rows_quarantined) == (None, 2, 0)


def test_a_policy_that_gets_stricter(tmp_path):
    """What a delivery could have under the policy of its time is no reason to refuse it later."""
    home = Home(tmp_path)
    home.load(IGNORE, [home.deliver(IGNORE, arrow(DAY1, 1, note="n").drop_columns("amount"), partition=DAY1)])
    home.warehouse.reset(T)
    (outcome,) = home.load(T)
    assert (outcome.refused, outcome.beyond.left) == (None, ("note",))
    (outcome,) = home.load(T, [home.deliver(T, arrow(DAY2, 2, note="n"), partition=DAY2)])
    assert "column 'note' is not in the contract" in outcome.refused


def test_a_day_is_no_month(tmp_path):
    """Keys alone don't tell: the first day of a month is spelled as the month is."""
    home = Home(tmp_path)
    day = home.deliver(T, arrow(DAY1, 1), partition=DAY1)
    monthly = replace(T, partitioning=replace(daily(), granularity=Granularity.MONTH), contract_version="2.0.0")
    month = home.deliver(monthly, arrow(DAY1, 1), arrow(DAY2, 2), partition=DAY1)
    first, second = outcomes_of(home.load(monthly, [day, month]), [day, month])
    assert first.refused == "partition '2024-01-01' is a day, the contract's table is cut by month"
    assert (second.refused, second.rows_loaded) == (None, 2)


def test_a_contract_that_changes_without_another_version(tmp_path):
    """What a delivery could have is in its manifest: a version may have meant several things."""
    home = Home(tmp_path)
    wide = changed(T, T.contract_version, note=Kind.STRING)
    home.deliver(wide, arrow(DAY1, 1, note="n"), partition=DAY1)
    home.load(wide)
    home.warehouse.adopt(T)
    home.deliver(T, arrow(DAY2, 2), partition=DAY2)
    home.load(T)
    home.warehouse.reset(T)
    assert [(o.refused, o.beyond.left) for o in home.load(T)] == [(None, ("note",)), (None, ())]
    # What lacks a column that was declared then is as wrong as it was.
    home.warehouse.ensure([wide])
    without = home.deliver(wide, arrow(DAY3, 3), partition=DAY3)
    (outcome,) = home.load(wide, [without])
    assert "column 'note' is missing" in outcome.refused


def test_rules_over_columns_that_are_not_there_yet(tmp_path):
    home = Home(tmp_path)
    home.load(T, [home.deliver(T, arrow(DAY1, 1), partition=DAY1)])
    rules = (rule("noted", RuleKind.NOT_NULL, "note"), rule("known", RuleKind.IN_SET, "note", values=("n",)),
             rule("small", RuleKind.RANGE, "id", maximum=0))  # fmt: skip
    found = foresee(home.warehouse, changed(T, "1.1.0", note=Kind.STRING), rules)
    assert (found["noted"].refuses, found["known"].refuses, found["small"].refuses) == (True, False, True)
    assert "note is null in all rows that are there" in found["noted"].untold
    assert "note isn't there yet" in found["known"].untold
    assert [v.failed_rows for v in found["small"].verdicts] == [1]
    # What looks at a table that isn't there yet, or isn't as it will be, can't be told.
    orphans = rule("orphans", RuleKind.ORPHANS, "id", table="others", columns=["id"])
    told = foresee(home.warehouse, T, [orphans], {"others"})["orphans"]
    assert (told.refuses, told.untold) == (False, "others changes too, so it can't be told yet")
    # One that can't be asked doesn't stop the others.
    broken = rule("broken", RuleKind.CONDITION, condition="nowhere > 1")
    found = foresee(home.warehouse, T, [broken, rules[2]])
    assert "rule broken of orders can't be decided" in found["broken"].untold
    assert [v.failed_rows for v in found["small"].verdicts] == [1]


def test_names_that_duckdb_gives_itself(tmp_path):
    home = Home(tmp_path)
    odd = home.deliver(IGNORE, arrow(DAY1, 1, _path="p", filename="f"), partition=DAY1)
    number = home.deliver(IGNORE, arrow(DAY2, 2, file_row_number=1), partition=DAY2)
    first, second = outcomes_of(home.load(IGNORE, [odd, number]), [odd, number])
    assert (first.refused, first.rows_loaded) == (None, 1)
    assert "column 'file_row_number' is what DuckDB calls the number of a row in its file" in second.refused


def test_a_table_that_is_renamed_by_case_alone(tmp_path):
    """DuckDB doesn't tell the names apart, and the ledger does: rows would be doubled."""
    home = Home(tmp_path)
    home.load(SOURCED, [home.deliver(SOURCED, arrow(DAY1, 1), partition=DAY1)])
    renamed = replace(SOURCED, name="Orders")
    for act in (lambda: home.warehouse.ensure([renamed]), lambda: home.warehouse.adopt(renamed)):
        with pytest.raises(ConfigError, match=r"staging\.Orders is there as staging\.orders"):
            act()


@pytest.mark.cloud
def test_a_clustered_column_that_is_removed(bigquery_server, bq_ledger, gcs_client, bucket, tmp_path, monkeypatch):
    """BigQuery drops no column that a table is clustered by; the emulator would."""
    client = bigquery_client(bigquery_server, bq_ledger)
    home = CloudHome(tmp_path / "home", gcs_client, bucket, client)
    wide = replace(changed(T, "1.1.0", note=Kind.STRING), clustering=("note", "id"))
    home.load(wide, [home.deliver(wide, arrow(DAY1, 1, note="n"), partition=DAY1)])
    narrow = replace(T, clustering=("id",), contract_version="2.0.0")
    statement, clustered = home.warehouse.statement, []

    def watched(step, sql, *more):
        if "DROP COLUMN" in sql and "staging" in sql:
            clustered.extend(client.get_table(f"{bq_ledger}.staging.orders").clustering_fields)
        return statement(step, sql, *more)

    monkeypatch.setattr(home.warehouse, "statement", watched)
    home.warehouse.adopt(narrow)
    assert clustered == ["id"]
    assert home.warehouse.changes([narrow])[0].items == []
    assert home.rows("SELECT id FROM staging.orders") == [(1,)]
