"""One data set after the other through the engine, and its outcomes against those of the files."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import Rule, Table
from dataops_platform.contracts.problems import ContractErrors, DataOpsError
from dataops_platform.quality.planner import render_bad
from dataops_platform.quality.predicates import bad_row
from dataops_platform.warehouse.ledger import Verdict
from dataops_platform_tests.conformance.cases import Case, Dataset
from dataops_platform_tests.conformance.columns import ROW, Typed, typed
from dataops_platform_tests.conformance.rules import Translation, Unsupported
from dataops_platform_tests.conformance.translate import translate
from dataops_platform_tests.support import Home

ENGINES = frozenset(
    {
        "pandas", "spark", "sqlalchemy", "postgresql", "sqlite", "mysql", "mssql", "bigquery", "redshift", "snowflake",
        "trino", "databricks", "athena", "clickhouse", "dremio", "teradatasql", "vertica", "hive", "awsathena",
    }
)  # fmt: skip
"""What tests may be only for. All of them are run here, by this one engine."""
LISTED = 20
"""Failing values that a file lists at most."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: agree, disagree or unsupported; and why, for the last two."""

    case: Case
    word: str
    reason: str = ""


class Comparison:
    """Keeps one warehouse for all data sets."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._home = home
        self._file = folder / "conformance.odcs.yaml"
        self._count = 0

    def outcomes(self, dataset: Dataset, cases: list[Case]) -> Iterator[Outcome]:
        """Load a data set, and judge it by each of its cases."""
        self._count += 1
        name = f"data_{self._count}"
        table = typed(dataset.data, dataset.schemas)
        others = {other: typed(data, {}) for other, data in dataset.others.items()}
        for other, content in others.items():
            self._load(other, content, {})
        self._load(name, table, others)
        for case in cases:
            yield self._outcome(case, name, table, others)

    # -- contracts and data -------------------------------------------------------------------------------------------

    def _table(self, name: str, types: Mapping[str, str], made: Translation, others: Mapping[str, Typed]) -> Table:
        """The contract's table, read from a file as a user's is."""
        block = {"property": "onBadRow", "vendor": "dataops", "value": {"action": "block"}}

        def entry(table: str, columns: Mapping[str, str]) -> dict[str, Any]:
            properties = [
                {"name": column, "logicalType": kind} for column, kind in ({ROW: "integer"} | dict(columns)).items()
            ]
            return {"name": table, "physicalType": "table", "customProperties": [block], "properties": properties}

        main = entry(name, types)
        main["quality"] = [dict(rule) for rule in made.rules]
        for column in main["properties"]:
            column |= made.columns.get(column["name"], {})
        schema = [main, *(entry(other, content.types) for other, content in others.items())]
        contract = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "c", "name": "c", "version": "1.0.0",
                    "status": "active", "schema": schema}  # fmt: skip
        self._file.write_text(yaml.safe_dump(contract, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return load_contracts(self._file).tables[name]

    def _load(self, name: str, content: Typed, others: Mapping[str, Typed]) -> None:
        table = self._table(name, content.types, Translation(), others)
        count = max((len(values) for values in content.values.values()), default=0)
        rows = [{ROW: n, **{column: values[n] for column, values in content.values.items()}} for n in range(count)]
        self._home.load(table, [self._home.deliver(table, rows)])

    # -- a case -------------------------------------------------------------------------------------------------------

    def _outcome(self, case: Case, name: str, content: Typed, others: Mapping[str, Typed]) -> Outcome:
        wanted = case.out.get("success")
        if case.suppressed_for >= {"pandas", "spark", "sqlalchemy"}:
            return Outcome(case, "unsupported", "suppressed for every engine")
        if case.only_for and not case.only_for & ENGINES:
            return Outcome(case, "unsupported", f"only for {', '.join(sorted(case.only_for))}, which is no engine")
        if not isinstance(wanted, bool) and not case.error:
            return Outcome(case, "unsupported", "the file says no outcome")
        try:
            made = translate(case.expectation, case.arguments, content)
            table = self._table(name, made.declared or content.types, made, others)
            if made.where is not None:
                made, table = self._conditional(made, table, name, content, others)
        except Unsupported as reason:
            return Outcome(case, "unsupported", str(reason))
        except (KeyError, TypeError, ValueError) as error:
            if case.error:
                return Outcome(case, "agree")
            return Outcome(case, "unsupported", f"arguments that can't be read: {type(error).__name__}: {error}")
        except ContractErrors as errors:
            said = errors.problems[0].message
            return (
                Outcome(case, "agree")
                if case.error
                else Outcome(case, "unsupported", f"the contract is refused: {said}")
            )
        rules = [rule for rule in table.rules if rule.id.startswith("rule")]
        try:
            verdicts = self._home.judge(table, *(rule.id for rule in rules))
        except DataOpsError as error:
            return Outcome(case, "agree" if case.error else "disagree", str(error))
        found = all(self._passed(verdict, made, content) for verdict in verdicts)
        if case.error:
            return Outcome(
                case, "disagree" if found else "agree", "an error is wanted, and the rule passes" if found else ""
            )
        if found is not wanted:
            observed = ", ".join(f"{v.rule_id} {v.threshold}: {v.observed}" for v in verdicts)
            return Outcome(case, "disagree", f"{'passed' if found else 'failed'} ({observed}), wanted otherwise")
        return self._details(case, made, table, rules, verdicts)

    def _conditional(
        self, made: Translation, table: Table, name: str, content: Typed, others: Mapping[str, Typed]
    ) -> tuple[Translation, Table]:
        """The rule's own condition, as SQL has it everywhere, and the one for the rows that count."""
        (rule,) = (rule for rule in table.rules if rule.id == "rule")
        query = f"SELECT COUNT(*) FROM {{object}} WHERE ({made.where}) AND ({bad_row(table, rule).sql()})"
        entry = {"id": "rule", "type": "sql", "dimension": "conformity", "query": query, "mustBe": 0}
        again = replace(made, columns={}, rules=[entry])
        return again, self._table(name, content.types, again, others)

    def _passed(self, verdict: Verdict, made: Translation, content: Typed) -> bool:
        if made.only_missing:
            return not any("has no column" in line for line in _lines(verdict))
        if made.mostly < 1 and verdict.failed_rows is not None:
            # Their share is of values that aren't null, ours of rows: the failing rows are what is compared.
            there = verdict.scanned_rows or 0
            if made.of is not None:
                there -= sum(all(content.values[c][n] is None for c in made.of) for n in range(there)) if made.of else 0
            return there == 0 or 1 - verdict.failed_rows / there >= made.mostly - 1e-12
        return verdict.passed

    def _details(
        self, case: Case, made: Translation, table: Table, rules: list[Rule], verdicts: list[Verdict]
    ) -> Outcome:
        """Failing values, failing rows, and the value observed, where a file names them."""
        out = case.out
        if made.observes and len(rules) == 1 and _is_number(out.get("observed_value")):
            observed, wanted = verdicts[0].observed, float(out["observed_value"])
            if observed is None or not math.isclose(observed, wanted, rel_tol=1e-6, abs_tol=1e-9):
                return Outcome(case, "disagree", f"observed {observed}, wanted {wanted}")
        if made.shows is None or not rules[0].kind.row_level:
            return Outcome(case, "agree")
        rows = self._home.rows(
            f'SELECT "{made.shows}", "{ROW}" FROM staging."{table.name}" WHERE {render_bad(table, rules[0], "duckdb")}'
        )
        values, numbers = out.get("unexpected_list"), out.get("unexpected_index_list")
        comparable = isinstance(values, list) and len(values) < LISTED and not any(isinstance(v, dict) for v in values)
        if comparable and _plain(v for v, _ in rows) != _plain(values or ()) and _simple(v for v, _ in rows):
            return Outcome(
                case, "disagree", f"failing values {sorted(map(str, (v for v, _ in rows)))[:5]}, wanted {values}"
            )
        whole = isinstance(numbers, list) and all(isinstance(number, int) for number in numbers)
        if whole and len(numbers or ()) < LISTED and sorted(n for _, n in rows) != sorted(numbers or ()):
            return Outcome(case, "disagree", f"failing rows {sorted(n for _, n in rows)}, wanted {numbers}")
        return Outcome(case, "agree")


def _lines(verdict: Verdict) -> list[str]:
    return list(json.loads(verdict.details)["differences"]) if verdict.details else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _simple(values: Any) -> bool:
    """Whether values are spelled alike everywhere: dates aren't."""
    return all(value is None or isinstance(value, str | bool | int | float) for value in values)


def _plain(values: Any) -> Counter[Any]:
    return Counter(float(value) if _is_number(value) else value for value in values)
