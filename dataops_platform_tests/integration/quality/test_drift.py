"""Drift: the distances are those of an independent computation, on both engines; the reference stays as it was."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from dataops_platform.contracts.model import LoadMode, Operator, RuleKind, Scope, Threshold
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.quality.drift import FLOOR
from dataops_platform_tests.support import DAY1, Home, daily, rule, table

DAYS = [DAY1 + timedelta(days=n) for n in range(4)]
WINDOW = {"first": str(DAYS[0]), "last": str(DAYS[1])}


def drift(id: str, column: str, metric: str = "psi", bins: int = 5, limit: float = 0.2, **more):
    arguments = {"metric": metric, "bins": bins} | WINDOW | more
    return rule(id, RuleKind.DRIFT, column, threshold=Threshold(Operator.LESS, (limit,)), **arguments)


# -- what it should be, computed otherwise ---------------------------------------------------------------------------


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def binned(reference, current, bins: int) -> list[tuple[int, int]]:
    """Rows of reference and current in each bin, empty ones included."""
    present = [value for value in reference if not is_missing(value)]
    if isinstance(present[0], str | bool):
        ranked = sorted(Counter(map(str, present)).items(), key=lambda item: (-item[1], item[0]))
        named = {value: number for number, (value, _) in enumerate(ranked[:bins])}
        total = len(named) + 2  # others, and missing values

        def place(value) -> int:
            return named.get(str(value), len(named))
    else:
        cuts = np.quantile(np.array(present, float), [k / bins for k in range(1, bins)], method="inverted_cdf")
        edges = sorted(set(cuts))
        atoms = {cut for cut in cuts if list(cuts).count(cut) > 1}
        total = len(edges) + len(atoms) + 2  # beyond the last edge, and missing values

        def place(value) -> int:
            """Twice the number of cuts below it; one more for an atom, which has a bin of its own."""
            below = sum(edge < value for edge in edges)
            return 2 * below + (value in atoms)

    def counts(rows) -> Counter:
        return Counter(-1 if is_missing(value) else place(value) for value in rows)

    one, other = counts(reference), counts(current)
    found = [(one[number], other[number]) for number in sorted(one.keys() | other.keys())]
    assert len(found) <= total
    return found + [(0, 0)] * (total - len(found))


def distances(reference, current, bins: int) -> tuple[float, float]:
    pairs = np.array(binned(reference, current, bins), float)
    r, c = np.maximum(pairs / pairs.sum(axis=0), FLOOR).T
    psi = float(np.sum((c - r) * np.log(c / r)))
    r, c = r / r.sum(), c / c.sum()
    m = (r + c) / 2
    return psi, float(np.sum(r * np.log2(r / m) + c * np.log2(c / m)) / 2)


def contents() -> dict[str, tuple[Any, list[list[Any]]]]:
    """Column → its type, and its values day by day: two days of reference, one alike, one that has moved."""
    random = np.random.default_rng(7)
    rows = 120
    normal = [random.normal(0, 1, rows).round(3).tolist() for _ in range(3)] + [random.normal(1, 2, rows).tolist()]
    normal[3][:6] = [math.inf, -math.inf, math.nan, None, 1e300, -0.0]
    normal[0][:4] = [math.nan, None, None, math.inf]
    zeros = [np.where(random.random(rows) < p, 0, random.integers(-3, 50, rows)).tolist() for p in (0.7, 0.7, 0.7, 0.2)]
    words = ["web", "shop", "it's", "a\\b", "phone", "é", "Web", ""]
    texts = [random.choice(words, rows, p=p).tolist() for p in [[0.3, 0.2, 0.16, 0.12, 0.09, 0.06, 0.04, 0.03]] * 3]
    texts.append([None if n % 5 == 0 else ("fax" if n % 3 else "web") for n in range(rows)])
    flags = [(random.random(rows) < p).tolist() for p in (0.5, 0.5, 0.5, 0.9)]
    return {
        "x": (Kind.NUMBER, normal),
        "i": (Kind.INTEGER, zeros),
        "d": (FieldType(Kind.DECIMAL, 12, 2), [[v / 4 for v in day] for day in zeros]),
        "s": (Kind.STRING, texts),
        "b": (Kind.BOOLEAN, flags),
        "one": (Kind.INTEGER, [[1] * rows, [1] * rows, [1] * rows, [2] * rows]),
    }


def test_distances(engine):
    """Numbers with infinities, NaN and nulls, many zeros, decimals, texts beyond the bins, booleans, a constant."""
    from decimal import Decimal

    given = contents()
    rules = [drift(f"{name}_{m}_{b}", name, m, b) for name in given for m, b in (("psi", 5), ("js", 5), ("psi", 12))]
    whole = rule(
        "x_whole", RuleKind.DRIFT, "x", scope=Scope.TABLE, metric="psi", bins=5, **WINDOW,
        threshold=Threshold(Operator.LESS, (9,)),
    )  # fmt: skip
    columns = {"day": Kind.DATE} | {name: type_ for name, (type_, _) in given.items()}
    t = table("t", columns, partitioning=daily(), rules=[*rules, whole])

    def value(name: str, number: int, n: int) -> Any:
        found = given[name][1][number][n]
        return Decimal(str(found)).quantize(Decimal("0.01")) if name == "d" else found

    rows = len(given["x"][1][0])
    engine.fill(
        t,
        [{"day": day} | {name: value(name, k, n) for name in given} for k, day in enumerate(DAYS) for n in range(rows)],
    )
    found = {(v.rule_id, v.partition_key): v for v in engine.judge(t)}
    for name, (_, days) in given.items():
        reference = days[0] + days[1]
        for number, day in enumerate(DAYS):
            for bins in (5, 12):
                psi, js = distances(reference, days[number], bins)
                verdict = found[f"{name}_psi_{bins}", str(day)]
                assert verdict.observed == pytest.approx(psi, abs=1e-9), (name, bins, day)
                if bins == 5:
                    assert found[f"{name}_js_{bins}", str(day)].observed == pytest.approx(js, abs=1e-9), (name, day)
        assert found[f"{name}_psi_5", str(DAYS[3])].observed > 0.2, name
        assert found[f"{name}_psi_5", str(DAYS[2])].passed, name
    everything = [value for day in given["x"][1] for value in day]
    reference = given["x"][1][0] + given["x"][1][1]
    assert found["x_whole", "all"].observed == pytest.approx(distances(reference, everything, 5)[0], abs=1e-9)
    details = json.loads(found["i_psi_5", str(DAYS[3])].details)
    assert "0" in details["bins"]  # the many zeros are one bin
    assert sum(details["current"]) == pytest.approx(1)
    assert engine.rows("SELECT COUNT(*) FROM dataops.baselines") == [(2 * len(given) + 1,)]  # none for each metric


def test_the_reference_stays(either_engine):
    """It waits for all its partitions; then nothing changes it, but another window is another reference."""
    t = table("t", {"day": Kind.DATE, "s": Kind.STRING}, partitioning=daily(), rules=[drift("d", "s")])

    def load(number: int, texts: str) -> None:
        rows = [{"day": DAYS[number], "s": text} for text in texts]
        either_engine.load(t, [either_engine.deliver(t, rows, partition=DAYS[number])])

    def observed(judged=t) -> list[float | None]:
        return [v.observed for v in sorted(either_engine.judge(judged), key=lambda v: v.partition_key)]

    load(1, "aabb")
    load(2, "abbb")
    assert observed() == [None, None]
    assert either_engine.rows("SELECT COUNT(*) FROM dataops.baselines") == [(0,)]
    load(0, "aabb")
    psi = distances("aabb", "abbb", 5)[0]
    assert observed() == [pytest.approx(0), pytest.approx(0), pytest.approx(psi)]
    frozen = either_engine.dump("dataops.baselines")
    load(0, "bbbb")
    assert observed() == [pytest.approx(distances("aabb", "aabbbbbb", 5)[0]), 0, pytest.approx(psi)]
    assert either_engine.dump("dataops.baselines") == frozen
    other = table("t", {"day": Kind.DATE, "s": Kind.STRING}, partitioning=daily(),
                  rules=[drift("d", "s", last=str(DAYS[0]))])  # fmt: skip
    assert observed(other)[0] == pytest.approx(0)
    assert either_engine.rows("SELECT COUNT(*) FROM dataops.baselines") == [(2,)]


def test_a_table_without_partitions_drifts_from_its_first_judgement(tmp_path):
    home = Home(tmp_path)
    r = drift("d", "s", first=None, last=None)
    t = table("t", {"s": Kind.STRING}, mode=LoadMode.REPLACE, rules=[r])
    found = []
    for texts in ("", "aabb", "abbb", "aabb"):
        home.load(t, [home.deliver(t, [{"s": text} for text in texts])])
        (verdict,) = home.judge(t)
        found.append((verdict.observed, verdict.passed))
    psi = distances("aabb", "abbb", 5)[0]
    assert found == [(None, True), (0, True), (pytest.approx(psi), False), (0, True)]


def test_a_reference_that_is_null_throughout(tmp_path):
    """Then any value is another bin than all of the reference."""
    home = Home(tmp_path)
    t = table("t", {"day": Kind.DATE, "s": Kind.STRING, "x": Kind.NUMBER}, partitioning=daily(),
              rules=[drift("s", "s"), drift("x", "x")])  # fmt: skip
    values = [(None, None), (None, math.nan), (None, None), ("a", 1.0)]
    home.fill(t, [{"day": day, "s": s, "x": x} for day, (s, x) in zip(DAYS, values, strict=True)])
    found = {(v.rule_id, v.partition_key): v for v in home.judge(t)}
    most = 2 * (1 - FLOOR) * math.log(1 / FLOOR)
    for name in ("s", "x"):
        assert found[name, str(DAYS[2])].observed == 0
        assert found[name, str(DAYS[3])].observed == pytest.approx(most)
