"""One bad contract for each thing that can be wrong: file, line, path, message and suggestion."""

# ruff: noqa: E501  (a table reads better with its rows on one or two lines)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataops_platform.contracts import ConfigError, ContractErrors, load_contracts

VOLUME = "      - {id: volume, metric: rowCount, mustBeBetween: [1, 100]}\n"
SMALL = "query: SELECT COUNT(*) FROM {object} WHERE amount > 10 AND region = 'north'"
PARTITIONING = "value: {field: day, granularity: day, start: 2024-01-01, end: 2024-12-31, timezone: Europe/Paris}"
BOUNDS = "logicalTypeOptions: {minimum: 0, maximum: 1000}"
TEXTS = "logicalTypeOptions: {minLength: 4, maxLength: 5, pattern: '^[a-z]+$'}"
PLACED = "{name: placed_at, logicalType: timestamp}"
MEAN = "implementation: {rule: aggregate, function: avg, column: amount, mustBeBetween: [1, 60]}"
KNOWN = "- {id: amount_known, metric: nullValues, unit: percent, mustBeLessThan: 5, severity: warning}"
LATENCY = "- {property: latency, value: 12, unit: h, element: orders.day}"


@dataclass(frozen=True)
class Case:
    name: str
    old: str  # what to replace in the good contract
    new: str
    at: str  # a text on the line that must be reported
    path: str
    message: str
    suggestion: str


def case(name: str, old: str, new: str, path: str, message: str, suggestion: str, at: str | None = None) -> Case:
    return Case(name, old, new, at or new.strip("\n").splitlines()[0], path, message, suggestion)


def quality(name: str, entry: str, path: str, message: str, suggestion: str) -> Case:
    """A bad entry in the table's `quality`, in front of the others."""
    return case(name, VOLUME, f"      - {entry}\n{VOLUME}", f"schema[0].quality[0]{path}", message, suggestion, entry)


def column(name: str, declared: str, path: str, message: str, suggestion: str) -> Case:
    """A bad declaration instead of the column placed_at."""
    return case(name, PLACED, declared, f"schema[0].properties[5]{path}", message, suggestion)


ODCS = [
    case("misspelled key", "required: true\n        relationships", "requird: true\n        relationships",
         "schema[0].properties[2].requird", "unknown property `requird`", "did you mean `required`?"),
    case("unknown key at the top", "team: {name", "teem: {name", "teem", "unknown property `teem`", "did you mean `team`?"),
    column("option beside the options", "{name: placed_at, logicalType: timestamp, maximum: 3}",
           ".maximum", "unknown property `maximum`", "it belongs below `logicalTypeOptions`"),
    column("unknown logicalType", "{name: placed_at, logicalType: timestmp}", ".logicalType",
           "logicalType `timestmp` isn't known", "did you mean `timestamp`?; use one of string, date"),
    column("no logicalType", "{name: placed_at}", "", "`logicalType` is missing", "add it"),
    column("misspelled logicalType", "{name: placed_at, logicaltype: date}", ".logicaltype",
           "unknown property `logicaltype`", "did you mean `logicalType`?"),
    column("text for a boolean", "{name: placed_at, logicalType: date, unique: yes}", ".unique",
           "`yes` isn't true or false", "write true without quotes"),
    column("option of another type", "{name: placed_at, logicalType: date, logicalTypeOptions: {minLength: 3}}",
           ".logicalTypeOptions.minLength", "unknown property `minLength`", "remove it"),
    column("property without a name", "{logicalType: date}", "", "`name` is missing", "add `name: …`"),
    quality("no threshold", "{metric: rowCount}", "", "the rule has no threshold", "add one of mustBe, mustNotBe"),
    quality("misspelled threshold", "{metric: rowCount, mustBeLesThan: 3}", ".mustBeLesThan", "unknown property `mustBeLesThan`",
            "did you mean `mustBeLessThan`?"),
    quality("two thresholds", "{metric: rowCount, mustBe: 1, mustNotBe: 2}", "",
            "the rule has more than one threshold: mustBe, mustNotBe", "keep one"),
    quality("threshold of a wrong form", "{metric: rowCount, mustBeBetween: [3]}", ".mustBeBetween",
            "mustBeBetween [3] isn't two different numbers", "write `mustBeBetween` with two different numbers"),
    quality("unknown metric", "{metric: rowCont, mustBe: 1}", ".metric", "metric `rowCont` isn't known",
            "did you mean `rowCount`?; use one of nullValues"),
    quality("dimension validity", "{metric: rowCount, mustBe: 1, dimension: validity}", ".dimension",
            "dimension `validity` isn't known", "the standard calls validity `conformity`"),
    quality("neither type nor metric", "{mustBe: 1}", "", "the rule says neither `type` nor `metric`", "add `metric"),
    quality("key of another type", "{type: sql, query: 'SELECT COUNT(*) FROM {object}', mustBe: 1, engine: x}",
            ".engine", "`engine` isn't allowed in a rule of type sql", "it belongs to `type: custom`"),
    quality("sql without query", "{type: sql, mustBe: 1}", "", "`query` is missing", "add `query: …`"),
    quality("rule instead of metric", "{type: library, rule: rowCount, mustBe: 1}", "",
            "`rule` is no longer part of the standard", "rename it to `metric`"),
    case("relationship to nothing", "to: customers.id", "to: customers", "schema[0].properties[2].relationships[0].to",
         "`customers` isn't a reference", "write `to: table.column`"),
    case("relationship with from", "{to: customers.id}", "{from: orders.customer, to: customers.id}",
         "schema[0].properties[2].relationships[0].from", "`from` isn't allowed", "remove it"),
    case("old version", "apiVersion: v3.2.0", "apiVersion: v3.0.1", "apiVersion", "apiVersion v3.0.1 is too old",
         "move the contract to v3.2.0"),
    case("ancient version", "apiVersion: v3.2.0", "apiVersion: v2.2.2", "apiVersion", "v2.2.2 is too old", "v3.0.2"),
    case("version of the future", "apiVersion: v3.2.0", "apiVersion: v4.0.0", "apiVersion", "isn't known", "v3.2.0"),
    case("no version of that form", "apiVersion: v3.2.0", "apiVersion: 3.2", "apiVersion", "isn't of the form", "v3.2.0"),
    case("no apiVersion", "apiVersion: v3.2.0\n", "", "", "`apiVersion` is missing", "write `apiVersion: v3.2.0`", "kind:"),
    case("no id", "id: orders-contract\n", "", "", "`id` is missing", "add `id: …` at the top", "apiVersion"),
    case("version that isn't semantic", "version: 1.0.0", "version: v1.2", "version", "version `v1.2` isn't semantic",
         "write MAJOR.MINOR.PATCH, like `1.2.0`"),
    case("version is a number", "version: 1.0.0", "version: 1.0", "version", "1.0 isn't a text", "put it in quotes: '1.0'"),
    case("team as a text", "team: {name: sales}", "team: sales", "team", "team isn't a mapping", "write `team: {name"),
    case("twice the same key", "name: orders\nversion", "name: orders\nname: x\nversion", "name",
         "`name` is given twice, first on line 4", "keep one", "name: x"),
]  # fmt: skip

SEMANTIC = [
    column("contradicting types", "{name: placed_at, logicalType: timestamp, physicalType: STRING}", ".physicalType",
           "physicalType 'STRING' contradicts logicalType 'timestamp'", "make the two agree"),
    column("unknown physicalType", "{name: placed_at, logicalType: timestamp, physicalType: BLOB}", ".physicalType",
           "unknown physicalType 'BLOB'", "use one of STRING"),
    column("type that no table holds", "{name: v, logicalType: vector, logicalTypeOptions: {dimensions: 3}}",
           ".logicalType", "logicalType 'vector' can't be stored", "use one of string"),
    column("name of the engine's", "{name: File_row_number, logicalType: integer}", ".name",
           "column name `File_row_number` isn't allowed: DuckDB calls", "rename it"),
    column("reserved name", "{name: _load_id, logicalType: string}", ".name", "column name `_load_id` isn't allowed",
           "rename it to `load_id`: names that start with `_` are kept for lineage columns"),
    column("name with a space", "{name: placed at, logicalType: string}", ".name", "column name `placed at` isn't",
           "rename it to `placed_at`"),
    column("same name in other case", "{name: Amount, logicalType: string}", ".name",
           "column `Amount` is already declared on line 30 (engines don't tell upper from lower case)", "rename"),
    column("vendor's property on a column", "{name: placed_at, logicalType: date, customProperties: "
           "[{property: clustering, vendor: dataops, value: 1}]}", ".customProperties[0].property",
           "no customProperty `clustering` of vendor dataops on a property", "it belongs to a schema object"),
    case("table name", "- name: orders", "- name: order-lines", "schema[0].name", "table name `order-lines` isn't allowed",
         "rename it to `order_lines`"),
    case("not a table", "physicalType: table", "physicalType: topic", "schema[0].physicalType",
         "`orders` is a topic, not a table", "write `physicalType: table`"),
    case("gap in the key", "primaryKeyPosition: 2", "primaryKeyPosition: 3", "schema[0].properties[1].primaryKeyPosition",
         "primaryKeyPosition 3 leaves a gap: the key has 2 columns", "number the key from 1 to 2"),
    case("position given twice", "primaryKeyPosition: 2", "primaryKeyPosition: 1",
         "schema[0].properties[1].primaryKeyPosition", "primaryKeyPosition 1 is also that of `day`", "number the key"),
    case("position left out", ", primaryKeyPosition: 2", "", "schema[0].properties[1].primaryKey",
         "`number` has no primaryKeyPosition, others have", "number all columns of the key from 1 to 2, or none",
         "{name: number"),
    column("position without key", "{name: placed_at, logicalType: date, primaryKeyPosition: 3}", ".primaryKeyPosition",
           "`placed_at` has a primaryKeyPosition but isn't in the key", "set `primaryKey: true`"),
    column("json key", "{name: placed_at, logicalType: object, unique: true}", ".unique",
           "JSON column `placed_at` can't be unique", "remove `unique`"),
    case("minimum above maximum", BOUNDS, "logicalTypeOptions: {minimum: 7, maximum: 3}",
         "schema[0].properties[4].logicalTypeOptions.minimum", "minimum 7 and maximum 3 leave no value", "make minimum"),
    case("empty open interval", BOUNDS, "logicalTypeOptions: {exclusiveMinimum: 3, maximum: 3}",
         "schema[0].properties[4].logicalTypeOptions.exclusiveMinimum", "leave no value", "make exclusiveMinimum smaller"),
    column("bound that is no instant", "{name: placed_at, logicalType: timestamp, logicalTypeOptions: {minimum: noon}}",
           ".logicalTypeOptions.minimum", "minimum `noon` doesn't fit `placed_at`", "an instant like 2013-01-31T12"),
    column("bound beyond the type", "{name: placed_at, logicalType: integer, logicalTypeOptions: {maximum: 1e20}}",
           ".logicalTypeOptions.maximum", "maximum `1e+20` is beyond `placed_at`", "a number that BIGINT can hold"),
    column("factor beyond the type", "{name: placed_at, logicalType: number, physicalType: 'NUMERIC(4,2)',"
           " logicalTypeOptions: {multipleOf: 100}}", ".logicalTypeOptions.multipleOf", "multipleOf `100` is beyond",
           "a number that DECIMAL(4,2) can hold"),
    column("value beyond the type", "{name: placed_at, logicalType: number, physicalType: 'NUMERIC(4,2)',"
           " enum: [{value: 100}]}", ".enum[0].value", "`100`", "a number that DECIMAL(4,2) can hold"),
    case("lengths reversed", TEXTS, "logicalTypeOptions: {minLength: 6, maxLength: 5}",
         "schema[0].properties[3].logicalTypeOptions.minLength", "minLength 6 is more than maxLength 5", "swap them"),
    case("broken pattern", "'^[a-z]+$'", "'^[a-z+$'", "schema[0].properties[3].logicalTypeOptions.pattern",
         "isn't a valid RE2 regular expression", "see https://"),
    case("lookaround", "'^[a-z]+$'", "'^(?=a)'", "schema[0].properties[3].logicalTypeOptions.pattern",
         "lookaround isn't supported by RE2", "a rule of type sql"),
    case("backreference", "'^[a-z]+$'", r"'(a)\1'", "schema[0].properties[3].logicalTypeOptions.pattern",
         "backreferences aren't supported by RE2", "a rule of type sql"),
    case("allowed value of another type", "{value: south}", "{value: 7}", "schema[0].properties[3].enum[1].value",
         "allowed value `7` isn't a value of `region` (string)", "put it in quotes: '7'"),
    case("allowed value twice", "{value: south}", "{value: north, label: x}", "schema[0].properties[3].enum[1].value",
         "allowed value `north` is given twice", "remove one"),
    case("allowed value too long", "{value: south}", "{value: southwest}", "schema[0].properties[3].enum[1].value",
         "allowed value `southwest` is 9 characters long", "change minLength or maxLength"),
    column("allowed value out of bounds", "{name: x, logicalType: integer, enum: [{value: 1}, {value: 9}], "
           "logicalTypeOptions: {maximum: 5}}", ".enum[1].value", "allowed value `9` is outside", "widen the bounds"),
    case("loadMode", "value: merge", "value: merg", "schema[0].customProperties[0].value", "loadMode `merg` isn't known",
         "did you mean `merge`?; use one of append, merge, replace"),
    case("unknown customProperty", "property: loadMode", "property: loadmode", "schema[0].customProperties[0].property",
         "no customProperty `loadmode` of vendor dataops on a schema object", "did you mean `loadMode`?"),
    case("customProperty twice", "{property: loadMode, vendor: dataops, value: merge}",
         "{property: loadMode, vendor: dataops, value: merge}\n      - {property: loadMode, vendor: dataops, value: append}",
         "schema[0].customProperties[1].property", "customProperty `loadMode` is given twice", "keep one", "value: append"),
    case("action", "action: quarantine", "action: quarantin", "schema[0].customProperties[1].value.action",
         "action `quarantin` isn't known", "did you mean `quarantine`?"),
    case("maxPercent", "maxPercent: 1", "maxPercent: 101", "schema[0].customProperties[1].value.maxPercent",
         "maxPercent `101` isn't a percentage", "from 0 to 100"),
    case("key of onBadRow", "maxPercent: 1", "maxPercentage: 1", "schema[0].customProperties[1].value.maxPercentage",
         "unknown key `maxPercentage`", "did you mean `maxPercent`?"),
    case("onBadRow as a text", "{action: quarantine, maxPercent: 1}", "quarantine", "schema[0].customProperties[1].value",
         "the value isn't a mapping", "write it like {action: quarantine"),
    case("partitioning field", "field: day", "field: dya", "schema[0].customProperties[2].value.field",
         "partitioning field `dya` isn't a column", "did you mean `day`?", "field: dya"),
    case("partitioning by a number", "field: day", "field: number", "schema[0].customProperties[2].value.field",
         "partitioning field `number` has type integer", "partition by a date", "field: number"),
    case("partitioning by what may be null", "field: day", "field: placed_at", "schema[0].customProperties[2].value.field",
         "`placed_at` isn't required", "set `required: true` on `placed_at`", "field: placed_at"),
    case("hours of a date", "granularity: day", "granularity: hour", "schema[0].customProperties[2].value.field",
         "partitioning by hour, but `day` is a date", "use granularity day", "field: day"),
    case("granularity", "granularity: day", "granularity: year", "schema[0].customProperties[2].value.granularity",
         "granularity `year` isn't known", "use one of hour, day, week, month"),
    case("a week begun late", "granularity: day, start: 2024-01-01, end: 2024-12-31",
         "granularity: week, start: 2024-01-03", "schema[0].customProperties[2].value.start",
         "start 2024-01-03 isn't a Monday", "weeks begin on Mondays: write 2024-01-01"),
    case("a week cut short", "granularity: day, start: 2024-01-01, end: 2024-12-31",
         "granularity: week, start: 2024-01-01, end: 2024-12-31", "schema[0].customProperties[2].value.end",
         "end 2024-12-31 isn't a Sunday", "weeks end on Sundays: write 2025-01-05"),
    case("start", "start: 2024-01-01", "start: yesterday", "schema[0].customProperties[2].value.start",
         "start `yesterday` isn't a date", "write a day like 2013-01-31"),
    case("end before start", "end: 2024-12-31", "end: 2023-12-31", "schema[0].customProperties[2].value.end",
         "end 2023-12-31 is before start 2024-01-01", "swap them"),
    case("month cut short", "granularity: day, start: 2024-01-01, end: 2024-12-31",
         "granularity: month, start: 2024-01-01, end: 2024-12-30", "schema[0].customProperties[2].value.end",
         "end 2024-12-30 isn't the last day of a month", "write 2024-12-31"),
    case("no start", ", start: 2024-01-01", "", "schema[0].customProperties[2].value", "partitioning has no `start`",
         "write it like", "value: {field"),
    case("timezone", "timezone: Europe/Paris", "timezone: Europe/Pari", "schema[0].customProperties[2].value.timezone",
         "timezone `Europe/Pari` isn't known", "did you mean `Europe/Paris`?"),
    case("clustering", "value: [region]", "value: [regoin]", "schema[0].customProperties[3].value[0]",
         "clustering column `regoin` isn't in the table", "did you mean `region`?"),
    case("clustering as a text", "value: [region]", "value: region", "schema[0].customProperties[3].value",
         "clustering isn't a list of columns", "write `[column, …]`"),
    case("partition filter as a text", "property: clustering, vendor: dataops, value: [region]",
         "property: requirePartitionFilter, vendor: dataops, value: always", "schema[0].customProperties[3].value",
         "requirePartitionFilter `always` isn't true or false", "write `true` or `false`"),
    case("expiration of no days", "property: clustering, vendor: dataops, value: [region]",
         "property: partitionExpirationDays, vendor: dataops, value: 0", "schema[0].customProperties[3].value",
         "partitionExpirationDays `0` isn't a number of days", "write a whole number, like 1095"),
    case("no partitions in a run", "property: clustering, vendor: dataops, value: [region]",
         "property: maxPartitionsPerRun, vendor: dataops, value: many", "schema[0].customProperties[3].value",
         "maxPartitionsPerRun `many` isn't a number of partitions", "write a whole number, like 31"),
    case("policy of new columns", "property: clustering, vendor: dataops, value: [region]",
         "property: schemaPolicy, vendor: dataops, value: addative", "schema[0].customProperties[3].value",
         "schemaPolicy `addative` isn't known", "did you mean `additive`?"),
    case("source without extractor", "{extractor: demo, limit: 3}", "{extracter: demo}", "schema[0].customProperties[4].value",
         "source names no extractor", "did you mean `extractor` where it says `extracter`?"),
    case("source as a text", "{extractor: demo, limit: 3}", "demo", "schema[0].customProperties[4].value",
         "source names no extractor", "write `{extractor: name}`"),
    case("partitioned column", "logicalType: timestamp}", "logicalType: timestamp, partitioned: true}",
         "schema[0].properties[5].partitioned", "`placed_at` is partitioned, but the table is partitioned by `day`",
         "change the partitioning field"),
    case("reference to no table", "to: customers.id", "to: custmers.id", "schema[0].properties[2].relationships[0].to",
         "table `custmers` isn't in any contract", "did you mean `customers`?"),
    case("reference to no column", "to: customers.id", "to: customers.idd", "schema[0].properties[2].relationships[0].to",
         "`idd` is no column of `customers`", "did you mean `id`?"),
    case("reference to another type", "to: customers.id", "to: customers.region",
         "schema[0].properties[2].relationships[0].to",
         "`customer` has type integer, `customers.region` string: they can't be compared", "the same type"),
    case("severity of a reference", "{to: customers.id}",
         "{to: customers.id, customProperties: [{property: severity, vendor: dataops, value: fatal}]}",
         "schema[0].properties[2].relationships[0].customProperties[0].value", "severity `fatal` isn't known",
         "use one of error, warning, info"),
    quality("between reversed", "{metric: rowCount, mustBeBetween: [9, 1]}", ".mustBeBetween",
            "mustBeBetween runs backwards: 9 is more than 1", "swap the two numbers"),
    quality("threshold is a text", "{metric: rowCount, mustBe: many}", ".mustBe", "mustBe isn't a number", "write a number"),
    quality("severity", "{metric: rowCount, mustBe: 1, severity: eror}", ".severity", "severity `eror` isn't known",
            "did you mean `error`?"),
    quality("unit", "{metric: duplicateValues, arguments: {properties: [number]}, mustBe: 1, unit: percents}", ".unit",
            "unit `percents` isn't known", "did you mean `percent`?; use one of rows, percent"),
    quality("percent of a row count", "{metric: rowCount, mustBe: 1, unit: percent}", ".unit",
            "percent makes no sense for row count", "remove the unit"),
    quality("more than all", "{metric: duplicateValues, arguments: {properties: [number]}, mustBeLessThan: 101, "
            "unit: percent}", ".mustBeLessThan", "mustBeLessThan is outside 0 to 100 percent", "write a percentage"),
    quality("scope", "{metric: rowCount, mustBe: 1, customProperties: [{property: scope, vendor: dataops, value: tabel}]}",
            ".customProperties[0].value", "scope `tabel` isn't known", "did you mean `table`?"),
    quality("nullValues of a table", "{metric: nullValues, mustBe: 0}", "", "metric nullValues is about a column",
            "move the rule to the `quality` of a property"),
    quality("keys that are no columns", "{metric: duplicateValues, arguments: {properties: [numbr]}, mustBe: 0}",
            ".arguments.properties[0]", "`numbr` is no column of `orders`", "did you mean `number`?"),
    quality("unknown argument", "{metric: duplicateValues, arguments: {property: [number]}, mustBe: 0}",
            ".arguments.property", "unknown argument of duplicateValues `property`", "did you mean `properties`?"),
    quality("key of JSON", "{metric: duplicateValues, arguments: {properties: [details]}, mustBe: 0}", "",
            "JSON column `details` can't be a key", "use columns"),
    case("rowCount of a column", KNOWN, "- {metric: rowCount, mustBe: 1}", "schema[0].properties[4].quality[0]",
         "metric rowCount is about the table", "move the rule to the `quality` of the table"),
    case("invalidValues of nothing", KNOWN, "- {metric: invalidValues, mustBe: 0}", "schema[0].properties[4].quality[0]",
         "the rule doesn't say what is valid", "add arguments: validValues"),
    case("invalidValues of two families", KNOWN,
         "- {metric: invalidValues, arguments: {minimum: 1, validValues: [1]}, mustBe: 0}",
         "schema[0].properties[4].quality[0]", "the rule mixes validValues and bounds", "write one rule for each"),
    case("pattern of a number", KNOWN, "- {metric: invalidValues, arguments: {pattern: a}, mustBe: 0}",
         "schema[0].properties[4].quality[0].arguments.pattern", "`pattern` makes no sense for a column of type decimal",
         "patterns are for string columns"),
    case("length of a number", KNOWN, "- {metric: invalidValues, arguments: {minLength: 1}, mustBe: 0}",
         "schema[0].properties[4].quality[0].arguments.minLength", "`minLength` makes no sense for a column of type decimal",
         "lengths are for string columns"),
    case("sentinel of another type", KNOWN, "- {metric: missingValues, arguments: {missingValues: [n/a]}, mustBe: 0}",
         "schema[0].properties[4].quality[0].arguments.missingValues[0]",
         "missing value `n/a` isn't a value of `amount` (decimal)", "write a number"),
    case("SQL that doesn't parse", SMALL, "query: SELECT COUNT(* FROM {object}", "schema[0].quality[1].query",
         "the query isn't valid SQL", "write it as `SELECT COUNT(*)"),
    case("two statements", SMALL, "query: SELECT COUNT(*) FROM {object}; SELECT 1", "schema[0].quality[1].query",
         "the query has 2 statements", "keep one SELECT"),
    case("SQL that writes", SMALL, "query: DELETE FROM {object} WHERE amount > 1", "schema[0].quality[1].query",
         "the query does more than read", "one SELECT"),
    case("SQL of another table", SMALL, "query: SELECT COUNT(*) FROM customers", "schema[0].quality[1].query",
         "the query doesn't read the table", "write `FROM {object}`"),
    case("SQL of many values", SMALL, "query: SELECT amount, region FROM {object}", "schema[0].quality[1].query",
         "the query must return one value", "select one expression"),
    case("unknown placeholder", SMALL, "query: SELECT COUNT(*) FROM {objct}", "schema[0].quality[1].query",
         "unknown placeholder `{objct}`", "did you mean `object`?"),
    case("column placeholder at a table", SMALL, "query: 'SELECT COUNT({column}) FROM {object}'",
         "schema[0].quality[1].query", "the query stands for a column, but isn't at one", "name the column"),
    case("SQL of no column", SMALL, "query: SELECT COUNT(*) FROM {object} WHERE amuont > 10", "schema[0].quality[1].query",
         "the query reads `amuont`, which is no column of the table", "did you mean `amount`?"),
    case("query without dimension", SMALL, "query: SELECT MAX(amount) FROM {object}", "schema[0].quality[1]",
         "names none", "add `dimension: accuracy`", "- id: small"),
    case("unknown implementation", MEAN, "implementation: {rule: aggregat, function: avg, column: amount, mustBe: 1}",
         "schema[0].quality[2].implementation.rule", "rule `aggregat` isn't known", "did you mean `aggregate`?"),
    case("unknown function", MEAN, "implementation: {rule: aggregate, function: mean, column: amount, mustBe: 1}",
         "schema[0].quality[2].implementation.function", "function `mean` isn't known", "did you mean `median`?; use one"),
    case("aggregate of no column", MEAN, "implementation: {rule: aggregate, function: avg, column: amont, mustBe: 1}",
         "schema[0].quality[2].implementation.column", "`amont` is no column of `orders`", "did you mean `amount`?"),
    case("aggregate of a text", MEAN, "implementation: {rule: aggregate, function: avg, column: region, mustBe: 1}",
         "schema[0].quality[2].implementation.column", "avg needs numbers, and `region` has type string", "a numeric column"),
    case("aggregate without threshold", MEAN, "implementation: {rule: aggregate, function: avg, column: amount}",
         "schema[0].quality[2].implementation", "the rule has no threshold", "add one of mustBe"),
    case("implementation as a text", MEAN, "implementation: avg", "schema[0].quality[2].implementation",
         "the implementation isn't a mapping", "write {rule: aggregate"),
    case("latency of another table", LATENCY, "- {property: latency, value: 12, unit: h, element: order.day}",
         "slaProperties[0].element", "latency is about `order`, which is no table of this contract", "`orders`?"),
    case("latency of no column", LATENCY, "- {property: latency, value: 12, unit: h, element: orders.dya}",
         "slaProperties[0].element", "`dya` is no column of `orders`", "did you mean `day`?"),
    case("latency without unit", LATENCY, "- {property: latency, value: 12, element: orders.day}", "slaProperties[0]",
         "the latency has no unit", "use one of minutes, hours, days, weeks"),
    case("latency in fortnights", LATENCY, "- {property: latency, value: 12, unit: fortnight, element: orders.day}",
         "slaProperties[0].unit", "unit `fortnight` isn't known", "use one of minutes"),
    case("latency of many", LATENCY, "- {property: latency, value: many, unit: h, element: orders.day}",
         "slaProperties[0].value", "latency `many` isn't a number", "write a number"),
]  # fmt: skip


def custom(name: str, implementation: str, path: str, message: str, suggestion: str, at_column: bool = False) -> Case:
    """A bad implementation: at the table instead of the mean's, or at the column amount."""
    if at_column:
        entry = f"- {{id: x, type: custom, engine: dataops, implementation: {implementation}}}"
        return case(name, KNOWN, entry, f"schema[0].properties[4].quality[0].implementation{path}", message, suggestion)
    return case(
        name,
        MEAN,
        f"implementation: {implementation}",
        f"schema[0].quality[2].implementation{path}",
        message,
        suggestion,
    )


def form(name: str, arguments: str, path: str, message: str, suggestion: str) -> Case:
    """Bad arguments of an invalidValues rule of the text column region."""
    old = "        enum: [{value: north}, {value: south}]\n"
    entry = f"- {{metric: invalidValues, arguments: {arguments}, mustBe: 0}}"
    new = f"{old}        quality:\n          {entry}\n"
    return case(name, old, new, f"schema[0].properties[3].quality[0].arguments{path}", message, suggestion, entry)


def sla(name: str, entry: str, path: str, message: str, suggestion: str) -> Case:
    return case(name, LATENCY, f"- {entry}", f"slaProperties[0]{path}", message, suggestion)


PSI = "rule: drift, column: amount, mustBeLessThan: 0.2"
RANGE = "reference: {from: 2024-01-01, to: 2024-01-31}"
NEW_KINDS = [
    column("format", "{name: placed_at, logicalType: string, logicalTypeOptions: {format: emial}}",
           ".logicalTypeOptions.format", "format `emial` isn't known", "did you mean `email`?; use one of date, email"),
    form("format as an argument", "{format: mail}", ".format", "format `mail` isn't known", "did you mean `email`?"),
    form("format without effect", "{format: ipv6}", ".format", "format `ipv6` isn't known", "did you mean `ipv4`?"),
    case("format of a number", KNOWN, "- {metric: invalidValues, arguments: {format: date}, mustBe: 0}",
         "schema[0].properties[4].quality[0].arguments.format", "`format` makes no sense for a column of type decimal",
         "formats are for string columns"),
    form("forbidden values as a text", "{invalidValues: north}", ".invalidValues", "invalidValues isn't a list of values",
         "make it a list: [north]"),
    form("no forbidden values", "{invalidValues: []}", ".invalidValues", "invalidValues isn't a list of values", "make it a list"),
    form("forbidden value of another type", "{invalidValues: [1]}", ".invalidValues[0]",
         "invalid value `1` isn't a value of `region` (string)", "put it in quotes: '1'"),
    form("forbidden value twice", "{invalidValues: [a, a]}", ".invalidValues[1]", "invalid value `a` is given twice", "remove one"),
    form("unknown argument of a form", "{formt: date}", ".formt", "unknown argument of invalidValues `formt`", "did you mean `format`?"),
    custom("no rule", "{column: amount, mustBe: 0}", "", "the implementation names no rule", "use one of aggregate, anomaly"),
    custom("unknown key", "{rule: drift, colum: amount, mustBe: 0}", ".colum", "unknown key of a drift rule `colum`", "did you mean `column`?"),
    custom("key of another rule", "{rule: aggregate, function: avg, column: amount, history: 3, mustBe: 0}", ".history",
           "unknown key of an aggregate rule `history`", "use one of rule, function"),
    custom("unknown operator", "{rule: aggregate, function: avg, column: amount, mustBeLess: 3}", ".mustBeLess",
           "unknown key of an aggregate rule `mustBeLess`", "did you mean `mustBeLessThan`?"),
    custom("unit of an aggregate", "{rule: aggregate, function: avg, column: amount, unit: percent, mustBe: 0}", ".unit",
           "an aggregate rule has no unit", "remove it"),
    custom("no function", "{rule: aggregate, column: amount, mustBe: 0}", "", "the aggregate names no function", "use one of avg"),
    custom("no column", "{rule: aggregate, function: avg, mustBe: 0}", "", "the aggregate names no column", "add `column: …`"),
    custom("quantile without its share", "{rule: aggregate, function: quantile, column: amount, mustBe: 0}", "",
           "`quantile` goes with the function quantile", "write `quantile: 0.95`"),
    custom("share without quantile", "{rule: aggregate, function: avg, quantile: 0.5, column: amount, mustBe: 0}", ".quantile",
           "`quantile` goes with the function quantile", "remove it"),
    custom("share in percent", "{rule: aggregate, function: quantile, quantile: 95, column: amount, mustBe: 0}", ".quantile",
           "quantile `95` isn't a share", "write a number from 0 to 1"),
    custom("distinct JSON", "{rule: aggregate, function: distinct, column: details, mustBe: 0}", ".column",
           "distinct needs values that can be compared, and `details` has type json", "use another column"),
    custom("anomaly of an unknown function", "{rule: anomaly, function: row_count, mustBe: 0}", ".function",
           "function `row_count` isn't known", "did you mean `rowCount`?"),
    custom("anomaly of a count of a column", "{rule: anomaly, function: rowCount, column: amount, mustBe: 0}", ".column",
           "rowCount is about the table", "remove the column"),
    custom("anomaly of a text", "{rule: anomaly, function: avg, column: region, mustBe: 0}", ".column",
           "avg needs numbers, and `region` has type string", "use a numeric column"),
    custom("no history", "{rule: anomaly, function: rowCount, history: 1, mustBe: 0}", ".history",
           "history `1` isn't a number of values", "a whole number from 2"),
    custom("minimum as a text", "{rule: anomaly, function: rowCount, minimum: few, mustBe: 0}", ".minimum",
           "minimum `few` isn't a number of values", "a whole number from 2"),
    custom("never enough", "{rule: anomaly, function: rowCount, history: 5, mustBe: 0}", ".history",
           "minimum 7 is more than history 5: there would never be enough", "lower the minimum"),
    custom("anomaly without threshold", "{rule: anomaly, function: rowCount}", "", "the rule has no threshold", "add one of mustBe"),
    case("anomaly of a whole table", MEAN, "implementation: {rule: anomaly, function: rowCount, mustBe: 0}\n"
         "        customProperties: [{property: scope, vendor: dataops, value: table}]",
         "schema[0].quality[2].implementation", "an anomaly compares a partition with those before it", "remove `scope: table`"),
    custom("drift of no column", f"{{rule: drift, mustBe: 0, {RANGE}}}", "", "the drift names no column", "add `column: …`"),
    custom("drift of a date", f"{{rule: drift, column: day, mustBe: 0, {RANGE}}}", ".column",
           "drift needs numbers, texts or booleans, and `day` has type date", "use another column"),
    custom("unknown metric", f"{{{PSI}, metric: pis, {RANGE}}}", ".metric", "metric `pis` isn't known", "did you mean `psi`?"),
    custom("one bin", f"{{{PSI}, bins: 1, {RANGE}}}", ".bins", "bins `1` isn't a number of bins", "from 2 to 100"),
    custom("no reference", f"{{{PSI}}}", "", "the drift names no reference", "add `reference: {from: 2013-01-01"),
    custom("reference as a text", f"{{{PSI}, reference: 2024-01}}", ".reference", "the reference isn't a mapping", "write {from: "),
    custom("half a reference", f"{{{PSI}, reference: {{from: 2024-01-01}}}}", ".reference", "the reference has no `to`", "write {from: "),
    custom("misspelled reference", f"{{{PSI}, reference: {{from: 2024-01-01, till: 2024-01-31}}}}", ".reference.till",
           "unknown key of a reference `till`", "use one of from, to"),
    custom("reference of another granularity", f"{{{PSI}, reference: {{from: 2024-01, to: 2024-01-31}}}}", ".reference.from",
           "partition '2024-01' isn't of the form 2024-01-01", "write a partition's key"),
    custom("reference backwards", f"{{{PSI}, reference: {{from: 2024-02-01, to: 2024-01-31}}}}", ".reference",
           "the reference runs backwards: 2024-02-01 is after 2024-01-31", "swap the two"),
    custom("reference too early", f"{{{PSI}, reference: {{from: 2023-12-31, to: 2024-01-31}}}}", ".reference.from",
           "from `2023-12-31` is outside the table's partitions, which begin with 2024-01-01 and end on 2024-12-31",
           "write a partition that the table has"),
    custom("reference too late", f"{{{PSI}, reference: {{from: 2024-12-31, to: 2025-01-01}}}}", ".reference.to",
           "to `2025-01-01` is outside the table's partitions", "write a partition that the table has"),
    custom("comparison without a right side", "{rule: compare, left: amount, operator: '<', mustBe: 0}", "",
           "the comparison names no column", "add `right: …`"),
    custom("comparison without a left side", "{rule: compare, right: amount, operator: '<', mustBe: 0}", "",
           "the comparison names no column", "add `left: …`"),
    custom("comparison with no column", "{rule: compare, right: amuont, operator: '<', mustBe: 0}", ".right",
           "`amuont` is no column of `orders`", "did you mean `amount`?", at_column=True),
    custom("comparison by nothing", "{rule: compare, left: amount, right: number, mustBe: 0}", "",
           "the comparison has no operator", "in quotes"),
    custom("comparison by a word", "{rule: compare, left: amount, operator: less, right: number, mustBe: 0}", ".operator",
           "operator `less` isn't known", "use one of '=', '!=', '<'"),
    custom("comparison of a text with a number", "{rule: compare, left: amount, operator: '=', right: region, mustBe: 0}", "",
           "`amount` has type decimal, `region` string: they can't be compared", "give both the same type"),
    custom("comparison of JSON", "{rule: compare, left: details, operator: '=', right: details, mustBe: 0}", "",
           "they can't be compared", "give both the same type"),
    custom("schema of a column", "{rule: schema, mustBe: 0}", "", "rule schema is about the table",
           "move it to the `quality` of the table", at_column=True),
    custom("schema with a column", "{rule: schema, column: amount, mustBe: 0}", ".column", "unknown key of a schema rule `column`",
           "use one of rule, mustBe"),
    custom("reconciliation with nothing", "{rule: reconcile, function: rowCount, mustBe: 0}", "",
           "the reconciliation names nothing to agree with", "add `with: table`"),
    custom("reconciliation of an average", "{rule: reconcile, function: avg, column: amount, with: customers, mustBe: 0}",
           ".function", "function `avg` isn't known", "use one of rowCount, sum"),
    custom("reconciliation with no table", "{rule: reconcile, function: rowCount, with: custmers, mustBe: 0}", ".with",
           "table `custmers` isn't in any contract", "did you mean `customers`?"),
    custom("reconciliation of partitions with a whole", "{rule: reconcile, function: rowCount, with: customers, mustBe: 0}",
           ".with", "`customers` isn't cut by days of Europe/Paris as `orders` is", "add the customProperty `scope: table`"),
    custom("count of a column", "{rule: reconcile, function: rowCount, with: customers.id, mustBe: 0}", ".with",
           "rowCount is about tables", "write `with: customers`"),
    custom("sum with no column", "{rule: reconcile, function: sum, column: amount, with: customers, mustBe: 0}", ".with",
           "`amount` is no column of `customers`", "use one of id, region"),
    custom("sum of texts", "{rule: reconcile, function: sum, column: amount, with: customers.region, mustBe: 0}", ".with",
           "`customers.region` has type string", "use a numeric column"),
    custom("manifests of a merged table", "{rule: reconcile, function: rowCount, with: manifest, mustBe: 0}", ".with",
           "rows of a merged table give way to later ones", "reconcile it with another table"),
    custom("sum of a manifest", "{rule: reconcile, function: sum, column: amount, with: manifest, mustBe: 0}", ".function",
           "manifests count rows only", "use `function: rowCount`"),
    custom("more than all of a reconciliation", "{rule: reconcile, function: sum, column: amount, with: orders.number, unit: percent, mustBeLessThan: 101}",
           ".mustBeLessThan", "mustBeLessThan is outside 0 to 100 percent", "write a percentage"),
    sla("freshness of no column", "{property: freshness, value: 1, unit: d, element: orders}", ".element",
        "freshness is about a column, and none of `orders` is named", "add `element: orders.column`"),
    sla("freshness of a number", "{property: freshness, value: 1, unit: d, element: orders.amount}", ".element",
        "freshness is about `amount`, which has type decimal", "name a date, timestamp or datetime column"),
    sla("freshness of nothing", "{property: freshness, value: 1, unit: d, element: orders.placed}", ".element",
        "`placed` is no column of `orders`", "did you mean `placed_at`?"),
    sla("latency of a number", "{property: latency, value: 1, unit: d, element: orders.amount}", ".element",
        "latency is about `amount`, which has type decimal", "name a date, timestamp or datetime column"),
    sla("arrival without unit", "{property: arrival, value: 1, element: orders}", "", "the arrival has no unit", "use one of minutes"),
    sla("arrival in the past", "{property: arrival, value: -1, unit: d, element: orders}", ".value",
        "arrival `-1` isn't a length of time", "write a number from 0"),
    sla("arrival in ages", "{property: arrival, value: 500000, unit: w, element: orders}", ".value",
        "arrival `500000` isn't a length of time", "write a number from 0, up to a thousand years"),
    sla("arrival of another table", "{property: arrival, value: 1, unit: d, element: order}", ".element",
        "arrival is about `order`, which is no table of this contract", "did you mean `orders`?"),
    sla("severity of an SLA", "{property: arrival, value: 1, unit: d, element: orders, customProperties: [{property: severity, vendor: dataops, value: fatal}]}",
        ".customProperties[0].value", "severity `fatal` isn't known", "use one of error, warning, info"),
]  # fmt: skip


def problems_of(load: Callable[..., object], **texts: str) -> list:
    with pytest.raises(ContractErrors) as caught:
        load(**texts)
    assert isinstance(caught.value, ConfigError)
    return caught.value.problems


@pytest.mark.parametrize("case", ODCS + SEMANTIC + NEW_KINDS, ids=lambda c: c.name)
def test_problem(case: Case, load, customers, orders, tmp_path):
    assert orders.count(case.old) == 1
    text = orders.replace(case.old, case.new)
    (problem,) = problems_of(load, customers=customers, orders=text)
    assert problem.file == tmp_path / "orders.odcs.yaml"
    assert problem.path == case.path
    assert case.message in problem.message
    assert case.suggestion in problem.suggestion
    assert problem.suggestion
    assert case.at.strip() in text.splitlines()[problem.line - 1]
    assert str(problem).startswith(f"{problem.file}:{problem.line}: ")


def test_the_good_contract_is_good(load, customers, orders):
    assert list(load(customers=customers, orders=orders).tables) == ["customers", "orders"]


def test_merge_needs_a_key(load):
    text = """apiVersion: v3.2.0
kind: DataContract
id: x
version: 1.0.0
status: active
schema:
  - name: t
    customProperties: [{property: loadMode, vendor: dataops, value: merge}]
    properties: [{name: a, logicalType: string}]
"""
    (problem,) = problems_of(load, t=text)
    assert (problem.line, problem.path) == (8, "schema[0].customProperties[0].value")
    assert problem.message == "loadMode merge needs a primary key"
    assert "primaryKey: true" in problem.suggestion


def test_latency_needs_partitions(load, customers):
    text = customers + "slaProperties: [{property: latency, value: 1, unit: d}]\n"
    (problem,) = problems_of(load, customers=text)
    assert problem.path == "slaProperties[0]"
    assert "latency is counted from the end of a partition, and `customers` has none" in problem.message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("arrival, value: 1, unit: d", "arrival is counted from the end of a partition, and `customers` has none"),
        ("freshness, value: 1, unit: d", "freshness is about a column, and none of `customers` is named"),
    ],
)
def test_what_an_sla_needs(load, customers, entry, message):
    (problem,) = problems_of(load, customers=f"{customers}slaProperties: [{{property: {entry}}}]\n")
    assert (problem.path, problem.message) == ("slaProperties[0]", message)
    assert problem.suggestion.startswith("add ")


def test_a_table_without_partitions_takes_no_reference(load, customers):
    quality = """
    quality:
      - {id: d, type: custom, engine: dataops, implementation: {rule: drift, column: id, mustBe: 0,
         reference: {from: 2024-01-01, to: 2024-01-01}}}
"""
    (problem,) = problems_of(load, customers=customers.rstrip() + quality)
    assert problem.message == "`customers` has no partitions to take a reference from"
    assert (problem.path, problem.suggestion) == ("schema[0].quality[0].implementation.reference", "remove `reference`")


def test_a_reference_without_end(load, customers, orders):
    """Partitions without an end begin somewhere all the same."""
    text = orders.replace(" end: 2024-12-31,", "").replace(
        MEAN, f"implementation: {{{PSI}, reference: {{from: 2023-12-31, to: 2033-01-01}}}}"
    )
    (problem,) = problems_of(load, customers=customers, orders=text)
    assert problem.message == "from `2023-12-31` is outside the table's partitions, which begin with 2024-01-01"


def test_rule_ids_are_unique_within_a_table(load, customers, orders):
    text = orders.replace("id: volume", "id: amount-range")
    (problem,) = problems_of(load, customers=customers, orders=text)
    assert problem.message == "rule id `amount_range` is already that of the rule on line 33"
    assert problem.path == "schema[0].quality[0]"


def test_table_names_and_contract_ids_are_unique_across_files(load, customers, tmp_path):
    first, second = problems_of(load, a=customers, b=customers.replace("name: customers", "name: Customers"))
    assert first.message == f"contract id `customers-contract` is already that of {tmp_path / 'a.odcs.yaml'}"
    assert (first.file.name, first.line, first.path) == ("b.odcs.yaml", 3, "id")
    assert second.message == f"table `Customers` is already declared in {tmp_path / 'a.odcs.yaml'}:8"
    assert (second.file.name, second.line, second.path) == ("b.odcs.yaml", 8, "schema[0].name")


def test_a_composite_relationship_has_as_many_columns_on_both_sides(load, customers, orders):
    relationship = "    relationships: [{from: [orders.customer, orders.region], to: [customers.id]}]\n    quality:\n"
    text = orders.replace("    quality:\n      - {id: volume", f"{relationship}      - {{id: volume")
    (problem,) = problems_of(load, customers=customers, orders=text)
    assert problem.message == "the relationship has 2 columns on this side and 1 on the other"
    assert problem.path == "schema[0].relationships[0].to"


def test_a_relationship_starts_at_its_own_table(load, customers, orders):
    relationship = "    relationships: [{from: customers.id, to: customers.id}]\n    quality:\n"
    text = orders.replace("    quality:\n      - {id: volume", f"{relationship}      - {{id: volume")
    (problem,) = problems_of(load, customers=customers, orders=text)
    assert problem.message == "`from` names `customers`, but stands at `orders`"


def test_all_problems_of_all_files_at_once(load, customers, orders):
    """Problems of every kind, in file and line order, in one go."""
    bad_customers = customers.replace("logicalType: object", "logicalType: objct").replace("2.1.0", "2.1")
    bad_orders = (
        orders.replace("value: merge", "value: merg")
        .replace("maximum: 1000", "maximum: -1")
        .replace("metric: rowCount, mustBeBetween", "metric: rowCount, mustBeBetwen")
        .replace("amount > 10", "amuont > 10")
        .replace("customers.id", "custmers.id")
    )
    problems = problems_of(load, a=bad_customers, b=bad_orders, c="a: [", d="- 1", e="apiVersion: v2.2.2")
    found = [(problem.file.name[0], problem.path) for problem in problems]
    assert found == [
        ("a", "version"),
        ("a", "schema[0].properties[2].logicalType"),
        ("b", "schema[0].customProperties[0].value"),
        ("b", "schema[0].properties[4].logicalTypeOptions.minimum"),
        ("b", "schema[0].quality[0].mustBeBetwen"),
        ("c", ""),
        ("d", ""),
        ("e", "apiVersion"),
    ]
    # c, d and e can't be read: the missing table may be in there, and the missing column misspelled.
    assert len({str(problem) for problem in problems}) == len(problems)


def test_what_was_left_out_is_not_reported_as_missing(load, customers, orders):
    """`primaryKy` is one mistake, not also a merge without a key or a reference to nothing."""
    text = customers.replace("primaryKey: true", "primaryKy: true").replace("logicalType: string", "logicalType: strin")
    (first, second) = problems_of(load, customers=text, orders=orders.replace("customers.id", "customers.region"))
    assert (first.message, first.suggestion) == ("unknown property `primaryKy`", "did you mean `primaryKey`?")
    assert second.path == "schema[0].properties[1].logicalType"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1, 2\nb: 3\n", 2, "isn't valid YAML"),
        ("a: 1\n  b: 2\n", 2, "isn't valid YAML"),
        ("", 1, "isn't a contract"),
        ("just words", 1, "isn't a contract"),
        ("a: 1\n---\nb: 2\n", 2, "the file holds more than one YAML document"),
        ("a: &x\n  b: *x\n", 2, "an alias stands inside what it refers to"),
        ("? [1]\n: 2\n", 1, "a key is a list or a mapping"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "isn't supported"),
        ("a: 1\nb: .nan\n", 2, ".nan isn't a number"),
        ("a: 1\x00", 1, "isn't valid YAML"),
    ],
)
def test_yaml_that_cant_be_read(load, text, line, message):
    problem = problems_of(load, x=text)[0]
    at_line = [p for p in problems_of(load, x=text) if message in p.message]
    assert at_line, problem
    assert at_line[0].line == line
    assert at_line[0].suggestion


def test_a_file_that_is_no_text(tmp_path: Path):
    (tmp_path / "x.odcs.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ContractErrors, match="isn't UTF-8 text"):
        load_contracts(tmp_path)


def test_missing_path_and_empty_folder(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere doesn't exist → name a contract file"):
        load_contracts(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no contract found in .* → add a file"):
        load_contracts([tmp_path])
