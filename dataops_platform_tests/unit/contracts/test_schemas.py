"""Arrow and dbt views of a table."""

from __future__ import annotations

import yaml

from dataops_platform.contracts import arrow_schema, sources_yaml

ALL_KINDS = """
- {name: s, logicalType: string, required: true, description: A text.}
- {name: i, logicalType: integer}
- {name: n, logicalType: number}
- {name: d, logicalType: number, physicalType: 'NUMERIC(10,2)'}
- {name: b, logicalType: boolean}
- {name: day, logicalType: date}
- {name: at, logicalType: timestamp}
- {name: local, logicalType: timestamp, physicalType: DATETIME}
- {name: t, logicalType: time}
- {name: j, logicalType: object}
"""


def test_arrow_schema(table):
    schema = arrow_schema(table(ALL_KINDS))
    assert [str(field.type) for field in schema] == [
        "string", "int64", "double", "decimal128(10, 2)", "bool", "date32[day]", "timestamp[us, tz=UTC]",
        "timestamp[us]", "time64[us]", "string",
    ]  # fmt: skip
    assert [field.name for field in schema if not field.nullable] == ["s"]
    assert schema.field("s").metadata == {b"description": b"A text."}
    assert schema.metadata[b"table"] == b"t"
    assert arrow_schema(table(ALL_KINDS), enforce_required=False).field("s").nullable


def test_dbt_sources(demo, load, customers, orders):
    text = sources_yaml(load(customers=customers, orders=orders), schema="stage")
    assert text.startswith("# Generated from contracts/; edit those.\n")
    (source,) = yaml.safe_load(text)["sources"]
    assert (source["name"], source["schema"]) == ("staging", "stage")
    (table,) = source["tables"]  # customers has no source
    assert (table["name"], table["description"]) == ("orders", "One row per order.")
    assert table["config"] == {"meta": {"dagster": {"asset_key": ["staging", "orders"]}}}
    assert table["columns"][4] == {"name": "amount", "description": "", "data_type": "DECIMAL(10,2)"}
    names = [table["name"] for table in yaml.safe_load(sources_yaml(demo))["sources"][0]["tables"]]
    assert names == [name for name, loaded in demo.tables.items() if loaded.source]
