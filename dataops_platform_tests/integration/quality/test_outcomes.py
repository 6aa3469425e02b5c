"""What can go wrong with a rule has the outcome that docs/rules.md says: a message, a failure, or "not judged"."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataops_platform.contracts import ContractErrors, load_contracts
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.problems import ConfigError, DataRefused
from dataops_platform_tests.rule_examples import HEAD, PAGE
from dataops_platform_tests.support import BLOCK, DAY1, Home

DAYS = [DAY1 + timedelta(days=n) for n in range(3)]
CUT = "{property: partitioning, vendor: dataops, value: {field: day, granularity: day, start: 2024-01-01}}"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, Table]]:
    """Reads a contract of the table `t` and others, judged as a whole."""

    def run(x: str = "", quality: Iterable[str] = (), s: str = "", sla: Iterable[str] = (), parent: str = ""):
        text = (
            f"{HEAD}schema:\n  - name: parent\n    properties:\n      - {{name: id, logicalType: integer}}\n"
            f"  - name: t\n    customProperties: [{CUT}]\n    properties:\n"
            "      - {name: day, logicalType: date, required: true}\n"
            f"      - {{name: x, logicalType: integer{x}}}\n"
            f"      - {{name: s, logicalType: string{s}}}\n"
            "      - {name: at, logicalType: timestamp}\n"
        )
        text += "    quality:\n" + "".join(f"      - {entry}\n" for entry in quality) if quality else ""
        text += "slaProperties:\n" + "".join(f"  - {entry}\n" for entry in sla) if sla else ""
        (tmp_path / "c.odcs.yaml").write_text(text, encoding="utf-8")
        tables = load_contracts(tmp_path / "c.odcs.yaml").tables
        return {name: replace(found, bad_rows=BLOCK) for name, found in tables.items()}

    return run


def custom(id: str, implementation: str, *, whole: bool = False) -> str:
    scope = ", customProperties: [{property: scope, vendor: dataops, value: table}]" if whole else ""
    return f"{{id: {id}, type: custom, engine: dataops, implementation: {{{implementation}}}{scope}}}"


def sql(id: str, query: str, threshold: str = "mustBe: 0") -> str:
    return f"{{id: {id}, type: sql, dimension: accuracy, query: '{query}', {threshold}}}"


DRIFT = "rule: drift, column: s, mustBeLessThan: 0.2, reference"
REPORTED: Mapping[str, list[dict[str, Any]]] = {
    "bounds or lengths of one rule that leave no value": [
        {"x": ", logicalTypeOptions: {minimum: 10, maximum: 1}"},
        {"s": ", logicalTypeOptions: {minLength: 3, maxLength: 2}"},
    ],
    "an allowed value outside the column's bounds": [
        {"x": ", logicalTypeOptions: {maximum: 1}, enum: [{value: 1}, {value: 2}]"}
    ],
    "a threshold that runs backwards": [{"quality": ["{metric: rowCount, mustBeBetween: [2, 1]}"]}],
    "an unknown operator, rule, function or metric": [
        {"quality": ["{metric: rowCount, mustBeLess: 2}"]},
        {"quality": ["{metric: rowCont, mustBeLessThan: 2}"]},
        {"quality": [custom("a", "rule: anomly, function: rowCount, mustBe: 0")]},
        {"quality": [custom("a", "rule: anomaly, function: rowCont, mustBe: 0")]},
        {"quality": [custom("a", "rule: aggregate, function: avg, column: x, mustBeLess: 0")]},
    ],
    "a pattern that isn't valid in RE2": [
        {"s": ", logicalTypeOptions: {pattern: '(?=a)'}"},
        {"s": ", logicalTypeOptions: {pattern: '['}"},
    ],
    "SQL that writes, or is several statements": [
        {"quality": [sql("q", "DELETE FROM {object}")]},
        {"quality": [sql("q", "SELECT COUNT(*) FROM {object}; DROP TABLE staging.t")]},
    ],
    "SQL of the table alone that names a column it doesn't have": [
        {"quality": [sql("q", "SELECT COUNT(*) FROM {object} WHERE xx > 1")]},
        {"quality": [sql("q", "SELECT MAX(xx) FROM {object}")]},
    ],
    "a drift whose reference lies outside the table's partitioning": [
        {"quality": [custom("d", f"{DRIFT}: {{from: 2023-12-01, to: 2024-01-01}}")]}
    ],
}
MESSAGES = ("leave no value|is more than maxLength", "is outside the column's bounds", "runs backwards",
            "unknown|isn't known", "pattern `", "does more than read|has 2 statements",
            "`xx`, which is no column of the table", "is outside the table's partitions")  # fmt: skip


@pytest.mark.parametrize(("what", "message"), zip(REPORTED, MESSAGES, strict=True))
def test_reported(read, what, message):
    for contract in REPORTED[what]:
        with pytest.raises(ContractErrors) as caught:
            read(**contract)
        (problem,) = caught.value.problems
        assert re.search(message, problem.message), problem
        assert problem.suggestion
        assert problem.line > 5


def row(day: date, x: int | None = 1, s: str | None = "a") -> dict[str, Any]:
    return {"day": day, "x": x, "s": s, "at": None}


def verdicts(home: Home, tables: Mapping[str, Table], *days: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Rule and partition → observed, passed, and why it wasn't judged; once the first days are loaded."""
    home.warehouse.ensure(list(tables.values()))
    table = tables["t"]
    home.load(table, [home.deliver(table, rows, partition=day) for day, rows in zip(DAYS, days, strict=False)])
    found = {}
    for v in home.judge(table):
        reason = json.loads(v.details).get("reason") if v.details else None
        found[v.rule_id, v.partition_key] = (v.observed, v.passed, reason)
    return found


def contradiction(home: Home, read) -> None:
    tables = read(quality=["{id: few, metric: rowCount, mustBeLessThan: 2}", "{id: many, metric: rowCount, mustBe: 3}"])
    found = verdicts(home, tables, [row(DAYS[0])], [row(DAYS[1])] * 3, [row(DAYS[2])] * 2)
    assert [found["few", str(day)][1] for day in DAYS] == [True, False, False]
    assert [found["many", str(day)][1] for day in DAYS] == [False, True, False]


def no_such_column(home: Home, read) -> None:
    for query in (
        "SELECT COUNT(*) FROM {object} AS o JOIN staging.parent AS p ON p.nr = o.x",
        "SELECT COUNT(*) FROM {object} WHERE x IN (SELECT id FROM staging.nowhere)",
    ):
        tables = read(quality=[sql("q", query), "{id: volume, metric: rowCount, mustBe: 1}"])
        line = tables["t"].rules[-2].line
        with pytest.raises((ConfigError, DataRefused), match=rf"yaml:{line}: rule q of t can't be decided: ") as caught:
            verdicts(home, tables, [row(DAYS[0])])
        assert "\n" not in str(caught.value).strip()
    assert home.rows("SELECT COUNT(*) FROM dataops.verdicts") == [(0,)]


def orphans_of_nothing(home: Home, read) -> None:
    tables = read(x=", relationships: [{to: parent.id}]")
    found = verdicts(home, tables, [row(DAYS[0]), row(DAYS[0], None), row(DAYS[0], 2)])
    assert found["x_in_parent", str(DAYS[0])] == (2, False, None)


def nothing_to_agree_with(home: Home, read) -> None:
    tables = read(
        quality=[
            custom("rows", "rule: reconcile, function: rowCount, with: parent, mustBe: 0", whole=True),
            custom("sum", "rule: reconcile, function: sum, column: x, with: parent.id, unit: percent, mustBe: 0",
                   whole=True),
        ]
    )  # fmt: skip
    found = verdicts(home, tables, [row(DAYS[0])], [row(DAYS[1])])
    assert found["rows", "all"] == (2, False, None)
    assert found["sum", "all"] == (100, False, None)


def all_null(home: Home, read) -> None:
    tables = read(
        x=", logicalTypeOptions: {minimum: 0}, relationships: [{to: parent.id}], unique: true",
        s=", logicalTypeOptions: {pattern: ^b, format: date, maxLength: 0}, enum: [{value: ''}]",
        quality=[
            custom("mean", "rule: aggregate, function: avg, column: x, mustNotBe: 7"),
            custom("usual", "rule: anomaly, function: sum, column: x, minimum: 2, history: 2, mustBeLessThan: 99"),
            custom("drift", f"{DRIFT}: {{from: 2024-01-01, to: 2024-01-02}}"),
            custom("order", "rule: compare, left: x, operator: '<', right: x, mustBe: 0"),
        ],
        sla=[
            "{id: fresh, property: freshness, value: 5200, unit: w, element: t.at}",
            "{id: late, property: latency, value: 5200, unit: w, element: t.at}",
        ],
    )
    home.fill(tables["parent"], [{"id": 1}])
    found = verdicts(home, tables, *([row(day, None, None if day == DAYS[2] else "") for _ in "ab"] for day in DAYS))
    failing = {rule for rule, key in found if key in (str(DAYS[2]), "all") and not found[rule, key][1]}
    assert failing == {"mean", "usual", "drift", "fresh", "late"}
    assert all(found[rule, str(DAYS[2])][0] is None for rule in ("mean", "usual", "late"))
    assert found["fresh", "all"] == (None, False, None)


def no_rows(home: Home, read) -> None:
    tables = read(
        x=", logicalTypeOptions: {minimum: 0}, required: true, unique: true",
        quality=[
            "{id: volume, metric: rowCount, mustBeGreaterThan: 0}",
            sql("counted", "SELECT COUNT(*) FROM {object}", "mustBeGreaterThan: 0"),
            sql("highest", "SELECT MAX(x) FROM {object}", "mustBeGreaterThan: 0"),
            custom("mean", "rule: aggregate, function: avg, column: x, mustBe: 7"),
            custom("distinct", "rule: aggregate, function: distinct, column: x, mustBe: 7"),
            custom("share", "rule: drift, column: s, mustBeLessThan: 0, reference: {from: 2024-01-01, to: 2024-01-01}"),
        ],
        sla=["{id: fresh, property: freshness, value: 1, unit: m, element: t.at}"],
    )
    found = verdicts(home, tables, [])
    assert {rule for (rule, _), outcome in found.items() if not outcome[1]} == {"volume", "counted"}
    assert found["share", str(DAYS[0])] == (None, True, "not judged: its reference holds no rows")


def no_reference(home: Home, read) -> None:
    tables = read(quality=[custom("d", f"{DRIFT}: {{from: 2024-01-01, to: 2024-01-05}}")])
    found = verdicts(home, tables, [row(DAYS[0])], [row(DAYS[1])])
    said = "not judged: 2 of the 5 partitions of its reference 2024-01-01..2024-01-05 are loaded"
    assert found["d", str(DAYS[0])] == found["d", str(DAYS[1])] == (None, True, said)
    empty = read(quality=[custom("d", f"{DRIFT}: {{from: 2024-01-03, to: 2024-01-03}}")])
    home.load(empty["t"], [home.deliver(empty["t"], [], partition=DAYS[2])])
    judged = home.judge(empty["t"], partitions=[str(DAYS[0])])
    (verdict,) = [v for v in judged if v.rule_id == "d"]
    assert (verdict.passed, json.loads(verdict.details)) == (
        True,
        {"reason": "not judged: its reference holds no rows"},
    )


def no_history(home: Home, read) -> None:
    tables = read(quality=[custom("a", "rule: anomaly, function: rowCount, mustBeLessThan: 1")])
    found = verdicts(home, tables, [row(DAYS[0])] * 9, [row(DAYS[1])])
    assert found["a", str(DAYS[1])] == (None, True, "not judged: 1 values before it, 7 are needed")


def column_removed(home: Home, read) -> None:
    tables = read(s=", required: true", quality=[custom("as_declared", "rule: schema, mustBe: 0")])
    verdicts(home, tables, [row(DAYS[0])])
    home.by_hand("ALTER TABLE staging.t DROP COLUMN s")
    with pytest.raises((ConfigError, DataRefused), match=r"\bs\b"):
        home.judge(tables["t"])
    (verdict,) = home.judge(tables["t"], "as_declared")
    assert (verdict.observed, verdict.passed) == (1, False)
    assert "staging.t has no column s" in verdict.details


OUTCOMES: Mapping[str, Callable[[Home, Any], None]] = {
    "rules that contradict each other, such as two row counts": contradiction,
    "SQL with a join or a subquery that names a column or table that isn't there": no_such_column,
    "a reference to a table that isn't loaded": orphans_of_nothing,
    "a reconciliation with a table that isn't loaded": nothing_to_agree_with,
    "a column that is null throughout": all_null,
    "a partition without rows": no_rows,
    "a drift whose reference isn't loaded, or holds no rows": no_reference,
    "an anomaly with too little history": no_history,
    "a column removed by hand, which rules are about": column_removed,
}


@pytest.mark.parametrize("what", OUTCOMES)
def test_outcomes(what, read, tmp_path):
    OUTCOMES[what](Home(tmp_path / "home"), read)


DIFFERENT_SQL = (orphans_of_nothing, column_removed)


@pytest.mark.cloud
@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=[] if do in DIFFERENT_SQL else pytest.mark.long) for w, do in OUTCOMES.items()]
)
def test_outcomes_on_bigquery(what, read, cloud):
    OUTCOMES[what](cloud, read)


def test_every_outcome_of_the_page_is_tested():
    section = PAGE.read_text(encoding="utf-8").split("## What can go wrong")[1]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert {what for what, _ in rows} == REPORTED.keys() | OUTCOMES.keys()
    assert {what for what, outcome in rows if outcome.startswith("reported")} == REPORTED.keys()
