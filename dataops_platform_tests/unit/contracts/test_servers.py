"""`servers` with an objectPattern: where a table's objects land, and what can be wrong with that."""

from __future__ import annotations

import codecs

import pytest

from dataops_platform.contracts import ContractErrors
from dataops_platform.contracts.file_formats import FileFormat, FileReading
from dataops_platform.contracts.model import AfterLanding

TABLE = """\
  - name: {name}
    customProperties:
      - {{property: partitioning, vendor: dataops, value: {{field: day, granularity: day, start: 2024-01-01}}}}
{more}    properties:
      - {{name: day, logicalType: date, required: true}}
"""
FIELDS = {"server": "lake", "type": "custom", "location": "gs://acme-landing/in"}
PATTERN = "flights/dt={partition}/*.parquet"


def server(custom=None, **fields):
    lines = [f"    {key}: {value}" for key, value in fields.items() if value is not None]
    lines[0] = "  - " + lines[0].strip()
    if custom:
        lines.append("    customProperties:")
        lines += [f"      - {{property: {k}, vendor: dataops, value: '{v}'}}" for k, v in custom.items()]
    return "\n".join(lines) + "\n"


def contract(*servers, tables=("flights",), identifier="c", more=""):
    head = f"apiVersion: v3.2.0\nkind: DataContract\nid: {identifier}\nversion: 1.0.0\nstatus: active\nservers:\n"
    return head + "".join(servers) + "schema:\n" + "".join(TABLE.format(name=name, more=more) for name in tables)


def problems(load, **texts):
    with pytest.raises(ContractErrors) as raised:
        load(**texts)
    return raised.value.problems


def test_a_landing_bucket(load):
    custom = {"objectPattern": PATTERN, "format": "parquet", "afterLanding": "remove", "lateWindow": "x"}
    text = contract(server(custom, **FIELDS)).replace("'x'", "7")
    table = load(c=text).tables["flights"]
    (landing,) = table.landings
    assert (landing.location, landing.reading.format, landing.after, landing.window, landing.environment) == (
        "gs://acme-landing/in", FileFormat.PARQUET, AfterLanding.REMOVE, 7, None
    )  # fmt: skip
    assert landing.pattern.match("flights/dt=2024-01-02/a.parquet") == "2024-01-02"
    assert load(c=text).sourced == {"flights": table}


def test_the_server_of_an_environment(load):
    pattern = {"objectPattern": PATTERN}
    text = contract(
        server(pattern, **FIELDS),
        server(pattern, **FIELDS | {"server": "p", "environment": "production", "location": "gs://acme-other"}),
        server(pattern, server="laptop", type="local", path="inbox", format="parquet"),
    )
    table = load(c=text).tables["flights"]
    found = {
        (environment, cloud): getattr(table.landing(environment, cloud), "location", None)
        for environment, cloud in (("local", False), ("staging", True), ("production", True))
    }
    assert found == {
        ("local", False): "inbox",
        ("staging", True): "gs://acme-landing/in",
        ("production", True): "gs://acme-other",
    }
    only_production = contract(server(pattern, **FIELDS | {"environment": "production"}))
    assert load(c=only_production).tables["flights"].landing("staging", True) is None


def test_one_server_for_several_tables(load):
    text = contract(server({"objectPattern": "{table}/{partition}.csv"}, **FIELDS), tables=("flights", "weather"))
    tables = load(c=text).tables
    assert tables["weather"].landings[0].pattern.match("weather/2024-01-01.csv") == "2024-01-01"
    assert tables["weather"].landings[0].pattern.match("flights/2024-01-01.csv") is None
    assert tables["weather"].landings[0].reading.format is FileFormat.CSV
    named = contract(server({"objectPattern": PATTERN, "table": "weather"}, **FIELDS), tables=("flights", "weather"))
    assert {name: len(table.landings) for name, table in load(c=named).tables.items()} == {"flights": 0, "weather": 1}


def test_how_files_are_written(load):
    custom = {"objectPattern": PATTERN, "format": "csv", "delimiter": ";", "encoding": "latin1", "quote": "|"}
    (landing,) = load(c=contract(server(custom, **FIELDS))).tables["flights"].landings
    assert landing.reading == FileReading(FileFormat.CSV, ";", "|", "|", True, "iso8859-1")


def test_names_of_airbyte(load):
    pattern = "{namespace}/{stream}/{YYYY_MM_DD}_{epoch}_{n}.parquet"
    custom = {"objectPattern": pattern, "namespace": "shop", "stream": "flights_v2"}
    (landing,) = load(c=contract(server(custom, **FIELDS))).tables["flights"].landings
    assert landing.pattern.match("shop/flights_v2/2024_01_02_1704153600000_0.parquet") == "2024-01-02"


def test_other_servers_are_left_alone(load):
    text = contract("  - {server: dwh, type: bigquery, project: p, dataset: d}\n", server(**FIELDS))
    assert load(c=text).tables["flights"].landings == ()


@pytest.mark.parametrize(
    ("custom", "fields", "path", "message", "suggestion"),
    [
        ({"objectPatern": "x"}, {}, ".customProperties[0].property", "no customProperty `objectPatern`",
         "did you mean `objectPattern`?"),
        ({"objectPattern": "f/{partiton}.csv"}, {}, ".customProperties[0].value",
         "objectPattern of table `flights`: unknown placeholder {partiton}", "did you mean `{partition}`?"),
        ({"objectPattern": "f/*.csv"}, {}, ".customProperties[0].value", "the pattern names no partition",
         "add {partition}"),
        ({"objectPattern": "*/{partition}.csv"}, {}, ".customProperties[0].value", "begins with no fixed text",
         "a folder of their own"),
        ({"objectPattern": "f/{partition}"}, {}, ".customProperties[0].value",
         "nothing says which format the objects have", "add `format`: one of parquet, avro"),
        ({"objectPattern": PATTERN, "format": "parket"}, {}, ".customProperties[1].value",
         "format `parket` can't be read", "did you mean `parquet`?"),
        ({"objectPattern": PATTERN, "delimiter": ";"}, {}, ".customProperties[1].value",
         "`delimiter` says nothing of parquet", "it is of csv"),
        ({"objectPattern": PATTERN, "format": "csv", "delimiter": ";;"}, {}, ".customProperties[2].value",
         "delimiter ';;' isn't one character", "write it like `;`"),
        ({"objectPattern": PATTERN, "format": "csv", "encoding": "utf8-8"}, {}, ".customProperties[2].value",
         "encoding `utf8-8` isn't known", "did you mean `utf-8`?"),
        ({"objectPattern": PATTERN, "format": "csv", "header": "nope"}, {}, ".customProperties[2].value",
         "header `nope` is neither true nor false", "write true or false"),
        ({"objectPattern": PATTERN, "afterLanding": "delete"}, {}, ".customProperties[1].value",
         "afterLanding `delete` isn't known", "use one of keep, remove"),
        ({"objectPattern": PATTERN, "lateWindow": "0"}, {}, ".customProperties[1].value",
         "lateWindow `0` isn't a number of partitions", "from 1 to 1000"),
        ({"objectPattern": PATTERN, "table": "flihgts"}, {}, ".customProperties[1].value",
         "the contract has no table `flihgts`", "did you mean `flights`?"),
        ({"objectPattern": PATTERN, "stream": "a/b"}, {}, ".customProperties[1].value",
         "stream `a/b` isn't a part of a name", "as it stands in the objects' names"),
        ({"objectPattern": PATTERN}, {"location": "s3://acme"}, ".location", "location `s3://acme` isn't a bucket",
         "gs://bucket/prefix"),
        ({"objectPattern": PATTERN}, {"location": None}, "", "location `` isn't a bucket", "gs://bucket/prefix"),
        ({"objectPattern": PATTERN}, {"type": "s3"}, ".type", "objects can't land on a server of type s3",
         "type custom with location"),
        ({"objectPattern": PATTERN}, {"type": "local", "path": "in/*", "format": "csv", "location": None}, ".path",
         "path `in/*` isn't a folder", "the rest into objectPattern"),
        ({"objectPattern": PATTERN}, {"environment": "prod"}, ".environment",
         "environment `prod` is none of the platform's", "use one of local, staging, production"),
        ({"format": "csv"}, {}, ".customProperties[0].value", "`format` without an objectPattern", "or remove it"),
    ],
)  # fmt: skip
def test_problems(load, custom, fields, path, message, suggestion):
    text = contract(server(custom, **FIELDS | fields)).replace("'0'", "0")
    (problem,) = problems(load, c=text)
    assert problem.path == f"servers[0]{path}"
    assert message in problem.message
    assert suggestion in problem.suggestion
    assert text.splitlines()[problem.line - 1].strip()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "landing"}, "`format` is missing"),
        ({"path": "landing", "frmat": "csv"}, "unknown property `frmat`"),
        ({"type": "custom", "location": "gs://acme-landing", "nme": "x"}, "unknown property `nme`"),
    ],
)
def test_keys_of_a_server(load, fields, message):
    """Which there are is the standard's: it has a schema for each type of server, and a local one says its format."""
    text = contract(server({"objectPattern": PATTERN}, **{"server": "in", "type": "local"} | fields))
    (problem,) = problems(load, c=text)
    assert problem.message == message
    assert problem.path.startswith("servers[0]")


NO_ENCODINGS = ["base64", "rot13", "hex", "bz2", "quopri", "uu", "zlib", "undefined"]


@pytest.mark.parametrize("name", NO_ENCODINGS)
def test_codecs_that_are_no_encodings(load, name):
    custom = {"objectPattern": PATTERN, "format": "csv", "encoding": name}
    (problem,) = problems(load, c=contract(server(custom, **FIELDS)))
    assert problem.message == f"encoding `{name}` isn't known"
    assert "utf-8" in problem.suggestion


@pytest.mark.parametrize("name", ["utf-8", "utf8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037", "shift_jis"])
def test_encodings(load, name):
    custom = {"objectPattern": PATTERN, "format": "csv", "encoding": name}
    (landing,) = load(c=contract(server(custom, **FIELDS))).tables["flights"].landings
    assert codecs.lookup(landing.reading.encoding) == codecs.lookup(name)


def test_whose_objects(load):
    (problem,) = problems(load, c=contract(server({"objectPattern": PATTERN}, **FIELDS), tables=("flights", "weather")))
    assert problem.message == "the contract has several tables: whose objects are these?"


def test_a_source_too(load):
    more = "      - {property: source, vendor: dataops, value: {extractor: files, path: x}}\n"
    (problem,) = problems(load, c=contract(server({"objectPattern": PATTERN}, **FIELDS), more=more))
    assert problem.message == "table `flights` has a `source` too, on line 16"


def test_two_places_for_one_table(load):
    pattern = {"objectPattern": PATTERN}
    (problem,) = problems(load, c=contract(server(pattern, **FIELDS), server(pattern, **FIELDS | {"server": "b"})))
    assert problem.message == "table `flights` has another landing server for the same environment on line 11"


@pytest.mark.parametrize(
    ("fields", "pattern", "message"),
    [
        ({}, PATTERN, True),
        ({"location": "gs://acme-landing"}, "in/flights/dt={YYYY}-{MM}-{DD}/x*", True),
        ({"location": "gs://acme-landing/in/flights"}, "dt={partition}/part-{n}.parquet", True),
        ({"environment": "staging"}, PATTERN, True),
        ({"location": "gs://acme-other/in"}, PATTERN, False),
        ({}, "flights/dt={partition}/*.csv", False),
        ({"type": "local", "path": "in", "format": "parquet", "location": None}, PATTERN, False),
    ],
)
def test_two_tables_that_would_claim_an_object(load, fields, pattern, message):
    texts = {
        "a": contract(server({"objectPattern": PATTERN}, **FIELDS)),
        "b": contract(
            server({"objectPattern": pattern, "format": "parquet"}, **FIELDS | fields),
            tables=("weather",),
            identifier="d",
        ),
    }
    if not message:
        assert len(load(**texts).tables) == 2
        return
    (problem,) = problems(load, **texts)
    assert problem.message.startswith("an object could be of table `weather` and of table `flights` (")
    assert (problem.file.name, problem.path) == ("b.odcs.yaml", "servers[0].customProperties[0].value")
