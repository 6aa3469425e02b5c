"""The same verdicts on BigQuery as on DuckDB, rule by rule, partition by partition; and few statements."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import LoadMode, RuleKind, Scope
from dataops_platform.contracts.partitions import Granularity
from dataops_platform.contracts.types import Kind
from dataops_platform.quality.planner import plan, sample_sql
from dataops_platform_tests.integration.quality.test_rules import DAYS, NOON, PARENT, PARENTS, RULES, T
from dataops_platform_tests.support import Home, daily, moment, rule, table

pytestmark = pytest.mark.cloud


def row(day, i, x, s, b, at):
    return {"day": DAYS[day], "i": i, "x": x, "s": s, "b": b, "at": at}


LATER = NOON + timedelta(hours=1)
ROWS = [
    row(0, 1, -1.0, "a", True, NOON),
    row(0, 1, 10.0, "a", False, NOON - timedelta(microseconds=1)),
    row(0, 2, 10.5, "é", None, None),
    row(0, None, None, None, True, LATER),
    row(0, -4, 0.0, "it's", True, NOON),
    row(0, 3, -0.0, "", True, NOON),
    row(0, 3, 3.5, "", False, LATER),
    row(1, 2, math.inf, "N/A", True, NOON),
    row(1, 2, 3.5, "é", True, NOON),
    row(1, 0, -math.inf, "A\n", None, None),
    row(1, 1, math.nan, "👩‍🚀", True, NOON),
    row(1, 1, 0.3, "9'", True, NOON),
    row(1, 1, 0.3, "\\d", True, NOON),
    row(1, 2, 2.0, "2024-02-29", True, NOON),
    row(1, 5, 4.0, "2023-02-29", False, LATER),
    row(1, None, 4.0, "a@b.co", False, LATER),
]
# A condition with NaN in it: DuckDB holds NaN for greater than any number, BigQuery for no number at all.
OF_NAN = {"condition", "condition_all"}


def judged(home: Home) -> dict:
    home.fill(PARENT, PARENTS)
    deliveries = [home.deliver(T, [r for r in ROWS if r["day"] == day], partition=day) for day in DAYS]
    home.load(T, deliveries)
    return {
        (v.rule_id, v.partition_key): (v.passed, v.observed, v.failed_rows, v.scanned_rows)
        for v in home.judge(T)
        if v.rule_id not in OF_NAN
    }


def test_the_same_verdicts(cloud, tmp_path):
    found, wanted = judged(cloud), judged(Home(tmp_path / "local"))
    assert found.keys() == wanted.keys()
    for key, (passed, observed, failed, scanned) in wanted.items():
        approximately = pytest.approx(observed, nan_ok=True) if observed is not None else None
        assert found[key] == (passed, approximately, failed, scanned), key


def test_few_statements():
    """However many partitions: one scan, and one for each reference, median and query of the two scopes."""
    alone = [r for r in RULES if r.id.startswith(("orphans", "middle", "third", "query", "parents", "numbers"))]
    for partitions in (["2024-01-01"], [f"2024-01-{day:02}" for day in range(1, 32)]):
        statements = plan(T, partitions, "bigquery")
        assert len(statements) == len(alone) + len(Scope)


def test_years_of_an_own_query_are_cut_into_statements_that_bigquery_takes():
    keys = [str(DAYS[0] + timedelta(days=n)) for n in range(900)]
    query = [r for r in RULES if r.id == "query"]
    statements = [s for s in plan(T, keys, "bigquery", query) if query[0] in s.rules]
    assert [s.id for s in statements] == ["t.query", "t.query.1", "t.query.2"]
    assert sum(s.sql.count("AS observed") for s in statements) == 900
    assert max(len(s.sql) for s in statements) < 1_000_000


def test_a_parent_that_requires_a_partition_filter_gets_one(tmp_path):
    """In the statement that decides, and in that for a sample: BigQuery refuses others."""
    (tmp_path / "c.odcs.yaml").write_text(CHILD_AND_PARENT)
    child = load_contracts(tmp_path).tables["child"]
    (known,) = (r for r in child.rules if r.kind is RuleKind.ORPHANS)
    every = "(r.`day` IS NULL OR r.`day` IS NOT NULL)"
    (_, statement) = plan(child, None, "bigquery", [known])
    assert every in statement.sql
    assert every in (sample_sql(child, known, None, "bigquery", 5) or "")


CHILD_AND_PARENT = """
apiVersion: v3.2.0
kind: DataContract
id: c
name: c
version: 1.0.0
status: active
schema:
  - name: child
    properties: [{name: id, logicalType: integer, relationships: [{to: parent.id}]}]
  - name: parent
    customProperties:
      - {property: partitioning, vendor: dataops, value: {field: day, granularity: day, start: 2024-01-01}}
      - {property: requirePartitionFilter, vendor: dataops, value: true}
    properties: [{name: id, logicalType: integer}, {name: day, logicalType: date, required: true}]
"""


@pytest.mark.parametrize(
    "granularity",
    [Granularity.WEEK, *(pytest.param(g, marks=pytest.mark.long) for g in (Granularity.HOUR, Granularity.MONTH))],
)
def test_hours_weeks_and_months(cloud, granularity):
    cut = daily("at", "America/New_York", granularity)
    query = rule("query", RuleKind.QUERY, query="SELECT MIN(v) FROM {object}")
    t = table("t", {"at": Kind.DATETIME, "v": Kind.INTEGER}, mode=LoadMode.REPLACE, partitioning=cut, rules=[query])
    moments = [datetime(2024, 6, 30, 23, 59), datetime(2024, 7, 1)]  # a Sunday and a Monday
    for value in (1, 2):  # the second deliveries replace the first
        cloud.load(t, [
            cloud.deliver(t, [{"at": at, "v": value}], partition=cut.key(at), at=moment(value)) for at in moments
        ])  # fmt: skip
    found = {v.partition_key: (v.observed, v.scanned_rows) for v in cloud.judge(t)}
    assert found == {cut.key(at): (2, 1) for at in moments}
