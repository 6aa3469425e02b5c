"""What docs/rules.md says of each rule's examples is what the engines say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from dataops_platform.contracts.model import RuleKind
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.quality.planner import render_bad
from dataops_platform_tests.rule_examples import Example, examples
from dataops_platform_tests.support import Home

EXAMPLES = examples()


def check(example: Example, home: Home) -> None:
    example.load(home)
    if example.statement is not None:
        home.by_hand(example.statement)
    now = datetime.now(UTC)
    found = {(v.rule_id, v.partition_key): v for table in example.tables.values() for v in home.judge(table)}
    assert found.keys() >= example.expected.keys()
    for key, verdict in found.items():
        expected = example.expected.get(key)
        if expected is None:
            assert verdict.passed, verdict
            continue
        assert verdict.passed is expected.passed, verdict
        if expected.since is not None:
            assert verdict.observed == pytest.approx((now - expected.since).total_seconds() / 3600, abs=0.1)
        elif expected.observed is None or math.isinf(expected.observed):
            assert verdict.observed == expected.observed, verdict
        else:
            approximately = pytest.approx(expected.observed, abs=0.51 * 10**-expected.digits, nan_ok=True)
            assert verdict.observed == approximately, verdict
        reason = json.loads(verdict.details).get("reason") if verdict.details else None
        assert reason == expected.reason, verdict
    check_rows(example, home)


def check_rows(example: Example, home: Home) -> None:
    """The rows said to break a rule are those that the engine says break it."""
    for name, table in example.tables.items():
        columns = [column.name for column in table.columns]
        for rule in table.rules:
            if not rule.kind.row_level:
                continue
            bad = render_bad(table, rule, home.warehouse.dialect)
            found = home.rows(f"SELECT {', '.join(columns)} FROM staging.{name} WHERE {bad}")
            said = [
                tuple(row.values[column] for column in columns)
                for row in example.rows[name]
                if row.values is not None and rule.id in row.breaks
            ]
            assert spelled(found) == spelled(said), rule.id


def spelled(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """Rows in an order of their own, instants in one spelling."""
    return sorted(str([str(v.astimezone(UTC)) if isinstance(v, datetime) else v for v in row]) for row in rows)


@pytest.mark.parametrize("heading", EXAMPLES)
def test_examples(heading, tmp_path):
    check(EXAMPLES[heading], Home(tmp_path))


def test_every_kind_has_an_example():
    """Under its own heading, with a rule of that kind that passes somewhere and fails somewhere."""
    for kind in RuleKind:
        example = EXAMPLES[kind.replace("_", " ").capitalize()]
        ids = {rule.id for table in example.tables.values() for rule in table.rules if rule.kind is kind}
        assert any(rule in ids and not e.passed for (rule, _), e in example.expected.items()), kind
        for rows in example.rows.values():
            assert {broken for row in rows for broken in row.breaks} <= {
                rule.id for table in example.tables.values() for rule in table.rules if rule.kind.row_level
            }


def test_names_of_tables_are_used_once():
    names = [name for example in EXAMPLES.values() for name in example.tables]
    assert len(names) == len(set(names))
    assert all(example.rows.keys() == example.tables.keys() for example in EXAMPLES.values())
    assert UNPARTITIONED in {key for example in EXAMPLES.values() for _, key in example.expected}


@pytest.mark.cloud
@pytest.mark.long
def test_examples_on_bigquery(cloud):
    for example in EXAMPLES.values():
        check(example, cloud)
