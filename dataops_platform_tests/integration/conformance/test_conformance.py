"""The conformance run: our own cases agree, a disagreement fails it, and whatever else lies in the folder doesn't."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dataops_platform_tests.conformance.__main__ import outcomes
from dataops_platform_tests.conformance.differences import DIFFERENCES
from dataops_platform_tests.conftest import REPO

OWN = REPO / "dataops_platform_tests" / "conformance" / "cases"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dataops_platform_tests.conformance", str(folder)],
        cwd=REPO, text=True, capture_output=True, timeout=120,
    )  # fmt: skip


def definition(tests, expectation="expect_column_values_to_not_be_null", data=None):
    return json.dumps(
        {"expectation_type": expectation, "datasets": [{"data": data or {"x": [1, None]}, "tests": tests}]}
    )


def test_our_own_cases():
    unreadable: list[str] = []
    found = outcomes(OWN, unreadable)
    assert unreadable == []
    assert [(o.case.title, o.reason) for o in found if o.word == "disagree"] == []
    assert {o.case.title: o.reason.split(":")[0] for o in found if o.word == "unsupported"} == {
        "a_column_no_table_can_hold": "no table can hold it",
        "never": "p-values fall with the number of rows",
        "no_bound": "no bound at all",
    }
    assert sum(o.word == "agree" for o in found) == 24


def test_a_disagreement_fails_the_run(tmp_path):
    wrong = {"title": "wrong", "in": {"column": "x"}, "out": {"success": True}}
    right = {"title": "right", "in": {"column": "x"}, "out": {"success": False, "unexpected_index_list": [1]}}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.json").write_text(definition([wrong, right]))
    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    assert "✗ expect_column_values_to_not_be_null: wrong: failed (rule mustBe 0: 1.0), wanted otherwise" in done.stdout
    assert "2 cases: 1 agree, 0 differ as documented, 1 disagree, 0 unsupported" in done.stdout


@pytest.mark.parametrize("out", [{"unexpected_list": [2]}, {"unexpected_index_list": [0]}, {"observed_value": 7}])
def test_failing_rows_and_observed_values_are_compared(tmp_path, out):
    if "observed_value" in out:
        tests = [{"title": "t", "in": {"column": "x", "min_value": 0}, "out": {"success": True, **out}}]
        text = definition(tests, "expect_column_sum_to_be_between", {"x": [1, 2]})
    else:
        tests = [{"title": "t", "in": {"column": "x", "max_value": 2}, "out": {"success": False, **out}}]
        text = definition(tests, "expect_column_values_to_be_between", {"x": [1, 3]})
    (tmp_path / "d.json").write_text(text)
    ((outcome,),) = [outcomes(tmp_path, [])]
    assert outcome.word == "disagree"


def test_documented_differences_are_counted_apart(tmp_path):
    difference = next(d for d in DIFFERENCES if d.expectation == "expect_column_mean_to_be_between")
    (title,) = difference.titles
    tests = [{"title": title, "in": {"column": "x", "min_value": 0}, "out": {"success": False}}]
    dataset = {"data": {"x": []}, "schemas": {"spark": {"x": "IntegerType"}}, "tests": tests}
    (tmp_path / "d.json").write_text(json.dumps({"expectation_type": difference.expectation, "datasets": [dataset]}))
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 cases: 0 agree, 1 differ as documented, 0 disagree" in done.stdout
    page = " ".join((REPO / "docs" / "conformance.md").read_text().split())
    for known in DIFFERENCES:
        assert known.why in page
        assert all(f"`{name}`" in page for name in known.titles)


def test_what_is_no_definition_is_left_out(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.json").write_text(json.dumps({"expectation_type": "e", "datasets": [{"data": {}}, 7]}))
    done = run(tmp_path)
    assert done.returncode == 2
    assert "there is no definition in it" in done.stderr
    assert done.stdout.count("left out: ") == 4
    odd = {"title": "odd", "in": ["x"], "out": {"success": True}}
    (tmp_path / "d.json").write_text(definition([odd, {"title": "right", "in": {"column": "x"}, "out": {}}]))
    done = run(tmp_path)
    assert done.returncode == 0
    assert "2 cases: 0 agree, 0 differ as documented, 0 disagree, 2 unsupported" in done.stdout


def test_no_folder(tmp_path):
    done = run(tmp_path / "nothing")
    assert (done.returncode, done.stderr.strip().endswith("there is no JSON file in it")) == (2, True)
