"""Rules and quarantine of a table that is cut by name, on both engines: each name by itself."""

from dataclasses import replace

import pytest

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Scope, Threshold
from dataops_platform.contracts.partitions import NamedPartitioning
from dataops_platform.contracts.types import Kind
from dataops_platform.quality import quarantine
from dataops_platform.warehouse.base import Selection
from dataops_platform_tests.cloud import ENGINES, engine_home
from dataops_platform_tests.support import rule, table

SALES = table(
    "sales",
    {"id": Kind.INTEGER, "region": Kind.STRING, "amount": Kind.INTEGER},
    mode=LoadMode.MERGE,
    key=("id",),
    partitioning=NamedPartitioning("region", ("eu", "eu-north", "us")),
    rules=[
        rule("positive", RuleKind.RANGE, "amount", minimum=0),
        rule("repeated", RuleKind.DUPLICATES, "amount"),
        rule("few", RuleKind.ROW_COUNT, threshold=Threshold(Operator.LESS, (3,))),
        rule("mean", RuleKind.AGGREGATE, "amount", function="avg", threshold=Threshold(Operator.LESS, (25,))),
        rule("median", RuleKind.AGGREGATE, "amount", function="median", threshold=Threshold(Operator.LESS, (25,))),
        rule("asked", RuleKind.QUERY, query="SELECT COUNT(*) FROM {object}", threshold=Threshold(Operator.LESS, (3,))),
        rule("all_of_it", RuleKind.ROW_COUNT, scope=Scope.TABLE, threshold=Threshold(Operator.GREATER, (4,))),
    ],
)


@pytest.fixture(params=ENGINES)
def home(request, tmp_path):
    made = engine_home(request, tmp_path)
    with made.kept_open():
        yield made


def row(number, region, amount):
    return {"id": number, "region": region, "amount": amount}


def test_each_name_by_itself(home):
    eu = home.deliver(SALES, [row(1, "eu", 10), row(2, "eu", 10), row(3, "us", 1)], partition="eu")
    north = home.deliver(SALES, [row(4, "eu-north", 30), row(5, "eu-north", -1)], partition="eu-north")
    us = home.deliver(SALES, [row(6, "us", 1), row(7, "us", 2), row(8, "us", 3)], partition="us")
    home.load(SALES, [eu, north, us])
    assert home.rows("SELECT id, region FROM staging.sales ORDER BY id") == [
        (1, "eu"), (2, "eu"), (4, "eu-north"), (6, "us"), (7, "us"), (8, "us"),
    ]  # fmt: skip
    found = home.judge(SALES)
    assert {(v.partition_key, v.rule_id) for v in found if not v.passed} == {
        ("eu", "repeated"), ("eu-north", "mean"), ("eu-north", "median"), ("us", "few"), ("us", "asked"),
    }  # fmt: skip
    assert [(v.partition_key, v.observed) for v in found if v.rule_id == "all_of_it"] == [("all", 6)]
    some = home.judge(SALES, "few", partitions=["eu-north"])
    assert [(v.partition_key, v.observed) for v in some] == [("eu-north", 1)]

    # Held rows are judged again by name: what is of another name stays, whatever the rules say.
    lenient = replace(SALES, rules=SALES.rules[1:])
    chosen = quarantine.known(lenient, Selection(["eu", "eu-north"]))
    replayed = {item.partition_key: item for item in quarantine.replay(home.warehouse, [lenient], chosen, "r")["sales"]}
    assert (replayed["eu-north"].rows_loaded, replayed["eu"].rows_left) == (1, 1)
    assert home.rows("SELECT amount FROM staging.sales WHERE region = 'eu-north' ORDER BY 1") == [(-1,), (30,)]
