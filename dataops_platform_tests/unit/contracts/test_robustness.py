"""However broken a contract is, the answer is a list of problems, never a traceback."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataops_platform.contracts import ContractErrors, load_contracts

PAGE = Path(__file__).parents[3] / "docs" / "contracts.md"
GOOD = yaml.safe_load(PAGE.read_text(encoding="utf-8").split("```yaml")[1].split("```")[0])
junk = st.sampled_from(
    [None, True, 0, -1, 2.5, "", "x", "a.b", "2024-01-01", [], ["x"], [1, 2], [None], {}, {"x": 1}, [{"x": 1}], [[1]]]
)


def nodes(data, prefix=()):
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        yield (*prefix, key)
        yield from nodes(value, (*prefix, key))


PATHS = list(nodes(GOOD))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(PATHS), st.sampled_from(["drop", "set", "rename"]), junk), min_size=1, max_size=3
    )
)
def test_mutations(tmp_path: Path, mutations):
    document = copy.deepcopy(GOOD)
    for path, action, value in mutations:
        parent = document
        try:
            for step in path[:-1]:
                parent = parent[step]
            if action == "drop":
                del parent[path[-1]]
            elif action == "set":
                parent[path[-1]] = value
            elif isinstance(parent, dict):
                parent[f"{path[-1]}x"] = parent.pop(path[-1])
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation took it away
    text = yaml.dump(document, sort_keys=False)
    (tmp_path / "orders.odcs.yaml").write_text(text)
    lines = len(text.splitlines())
    assert all(problem.message and 1 <= problem.line <= lines + 1 for problem in problems(tmp_path))


def problems(folder: Path) -> list:
    try:
        load_contracts(folder)
    except ContractErrors as errors:
        return errors.problems
    return []


@pytest.mark.parametrize(
    "text", ["[]", "schema: []", "apiVersion: v3.2.0", "apiVersion: v3.2.0\nschema: [null]", "a: 1"]
)
def test_hardly_a_contract(tmp_path: Path, text):
    (tmp_path / "x.odcs.yaml").write_text(text)
    with pytest.raises(ContractErrors):
        load_contracts(tmp_path)
