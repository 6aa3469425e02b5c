"""The example in docs/contracts.md is a contract, and its tables of fields and rules are complete."""

from __future__ import annotations

import re

import pytest

from dataops_platform.contracts import Operator, RuleKind, Severity
from dataops_platform.contracts.custom import LEVELS


@pytest.fixture
def text(repo) -> str:
    return (repo / "docs" / "contracts.md").read_text(encoding="utf-8")


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
    for operator in Operator:
        assert f"`{operator}`" in text
    for kind in RuleKind:
        assert {"in_set": "| set |"}.get(kind, f"| {kind.replace('_', ' ')} |") in text
