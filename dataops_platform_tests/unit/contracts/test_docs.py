"""The example in docs/contracts.md is a contract, and its tables, and those of docs/rules.md, are complete.

What the examples of docs/rules.md say is tested on the engines: see `integration/quality/test_rule_examples.py`.
"""

from __future__ import annotations

import re

import pytest

from dataops_platform.contracts import Operator, RuleKind, Severity
from dataops_platform.contracts.custom import LEVELS
from dataops_platform.contracts.custom_rules import CUSTOM_RULES
from dataops_platform.contracts.formats import FORMATS
from dataops_platform.contracts.model import AGGREGATES
from dataops_platform.contracts.naming import DEFAULT_DIMENSIONS


@pytest.fixture
def text(repo) -> str:
    return (repo / "docs" / "contracts.md").read_text(encoding="utf-8")


@pytest.fixture
def rules(repo) -> str:
    return (repo / "docs" / "rules.md").read_text(encoding="utf-8")


def test_the_example_is_a_contract(load, text):
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    tables = load(example=example).tables
    assert list(tables) == ["customers", "orders"]
    assert [rule.id for rule in tables["orders"].rules] == [
        "order_date_required", "order_id_required", "customer_id_required", "country_required", "country_allowed",
        "amount_range", "email_length", "email_pattern", "primary_key", "customer_id_in_customers", "amount_known",
        "volume", "paid_orders_have_an_amount", "mean_amount", "latency",
    ]  # fmt: skip
    warnings = {rule.id for rule in tables["orders"].rules if rule.severity is Severity.WARNING}
    assert warnings == {"customer_id_in_customers", "amount_known", "mean_amount", "latency"}


def test_all_that_we_add_is_described(text):
    for names in LEVELS.values():
        for name in names:
            assert f"`{name}`" in text
    section = text.split("\n## Rules\n")[1]
    for rule, (keys, _) in CUSTOM_RULES.items():
        (row,) = re.findall(rf"^\| `{rule}` \|(.*?)\|.*$", section, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row) == [*keys, *(["unit"] if rule == "reconcile" else [])]


def test_all_rules_are_described(rules):
    for operator in Operator:
        assert f"`{operator}`" in rules
    for name in FORMATS:
        assert f"| `{name}` |" in rules
    for function in AGGREGATES:
        assert f"`{function}`" in rules
    for kind in RuleKind:
        name = kind.replace("_", " ")
        assert f"\n### {name.capitalize()}\n" in rules
        (row,) = re.findall(rf"^\| \[{name}\]\(#{kind.replace('_', '-')}\) \|.*$", rules, re.MULTILINE)
        assert row.split("|")[4].strip() == (DEFAULT_DIMENSIONS[kind] or "must be given")
        assert f"\n| {name} |" in rules.split("## Names elsewhere")[1]
