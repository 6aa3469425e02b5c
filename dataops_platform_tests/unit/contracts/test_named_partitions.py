"""Partitions that are names: which there are, how a contract says it, and names of objects."""

from __future__ import annotations

import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.object_patterns import PatternError, compile_pattern, overlap
from dataops_platform.contracts.partitions import NamedPartitioning, misnamed
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake.keys import folders

REGIONS = NamedPartitioning("region", ("apac", "eu", "eu-north", "us"))
CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: urn:shop:contract:sales
name: sales
version: 1.0.0
status: active
schema:
  - name: sales
    customProperties:
      - {property: partitioning, vendor: dataops, value: {field: region, names: [us, eu, apac]}}
    properties:
      - {name: region, logicalType: string, required: true}
      - {name: code, logicalType: string}
      - {name: amount, logicalType: integer, required: true}
"""


def test_ranges_are_about_the_order_of_the_names():
    assert REGIONS.keys() == ["apac", "eu", "eu-north", "us"]
    assert REGIONS.keys("eu", "us") == ["eu", "eu-north", "us"]
    assert REGIONS.keys("eu", "eu") == ["eu"]
    with pytest.raises(ValueError, match="runs backwards"):
        REGIONS.keys("us", "eu")
    with pytest.raises(ValueError, match="partition 'eu-nord' isn't one of eu-north, apac, eu, us"):
        REGIONS.keys("eu-nord")


@pytest.mark.parametrize(
    "name", ["all", "ALL", "2024-05-01", "2024-05-01-07:00", "", "a b", "a/b", "é", "-a", "a..b", "x" * 64]
)
def test_what_no_partition_is_called(name):
    assert misnamed(name)


@pytest.mark.parametrize("name", ["eu", "EU-west_1.a", "1", "2024"])
def test_what_one_may_be_called(name):
    assert misnamed(name) is None


def test_a_contract_lists_them(tmp_path):
    (tmp_path / "sales.odcs.yaml").write_text(CONTRACT)
    (table,) = load_contracts(tmp_path).tables.values()
    assert table.partitioning == NamedPartitioning("region", ("apac", "eu", "us"))
    assert table.by_time is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[us, eu, apac]", "[us, 17, apac]", "partition name `17` isn't a text → write it in quotes"),
        ("[us, eu, apac]", "[us, eu, us]", "partition name `us` is there twice → name each partition once"),
        ("[us, eu, apac]", "[us, a/b]", "partition name `a/b` isn't a name of letters"),
        ("[us, eu, apac]", "[all]", "partition name `all` stands for a table without partitions"),
        ("[us, eu, apac]", "[]", "names isn't a list of partitions"),
        ("field: region, ", "", "partitioning has no `field`"),
        ("field: region", "field: regoin", "partitioning field `regoin` isn't a column → did you mean `region`?"),
        ("field: region", "field: code", "partitioning field `code` isn't required"),
        ("field: region", "field: amount", "partitioning field `amount` has type integer, and partitions have names"),
        ("[us, eu, apac]", "[us], granularity: day", "partitioning by `names` has no `granularity`"),
        (
            "    properties:",
            "      - {property: partitionExpirationDays, vendor: dataops, value: 3}\n    properties:",
            "partitionExpirationDays is set on a table that is cut by name",
        ),
        (
            "    properties:",
            "      - {property: requirePartitionFilter, vendor: dataops, value: true}\n    properties:",
            "requirePartitionFilter is set on a table that is cut by name",
        ),
        (
            "schema:",
            "slaProperties:\n  - {property: arrival, value: 6, unit: h, element: sales}\nschema:",
            "arrival is counted from the end of a partition, and those of `sales` are names",
        ),
    ],
)
def test_what_a_contract_may_not_say(tmp_path, old, new, message):
    assert old in CONTRACT
    (tmp_path / "sales.odcs.yaml").write_text(CONTRACT.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_contracts(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "name", "partition"),
    [
        ("s/{partition}/*.csv", "s/eu/a.csv", "eu"),
        ("s/{partition}/*.csv", "s/eu-north/a.csv", "eu-north"),
        ("s/{partition}/*.csv", "s/mars/a.csv", "mars"),  # whether there is such a partition is said elsewhere
        ("s/{partition}/*.csv", "s/e u/a.csv", None),
        ("s/{partition}_{epoch}.csv", "s/eu_17.csv", "eu"),
        ("s/{partition}-{n}.csv", "s/eu-north-17.csv", "eu-north"),
        ("s/{partition}/{partition}.csv", "s/eu/eu.csv", "eu"),
        ("s/{partition}/{partition}.csv", "s/eu/us.csv", None),
        ("s/{YYYY_MM_DD}/{partition}.csv", "s/2024_05_01/us.csv", "us"),
    ],
)
def test_names_of_objects(pattern, name, partition):
    assert compile_pattern(pattern, REGIONS).match(name) == partition


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("s/*.csv", "the pattern names no partition, but the table is partitioned by name"),
        ("s/{YYYY_MM_DD}.csv", "the pattern names no partition, but the table is partitioned by name"),
        ("s/{partition}*.csv", "{partition} directly beside something else"),
        ("s/{n}{partition}.csv", "{partition} directly beside something else"),
    ],
)
def test_patterns_that_cannot_be_used(pattern, what):
    with pytest.raises(PatternError) as caught:
        compile_pattern(pattern, REGIONS)
    assert what in caught.value.what


def test_where_a_listing_begins():
    pattern = compile_pattern("s/{partition}/*.csv", REGIONS)
    assert pattern.prefix_of("eu") == "s/eu/"
    assert pattern.narrow
    assert not pattern.ordered


def test_whose_an_object_could_be():
    one = compile_pattern("s/{partition}/*.csv", REGIONS)
    assert overlap(one.tokens, compile_pattern("s/eu/*.csv", None).tokens)
    assert not overlap(one.tokens, compile_pattern("t/{partition}/*.csv", REGIONS).tokens)


def test_folders_of_names_are_not_in_the_order_of_the_names():
    start, end = folders("p/", ["eu", "eu-north"])
    assert all(start <= f"p/{name}/x.json" < end for name in ("eu", "eu-north"))
