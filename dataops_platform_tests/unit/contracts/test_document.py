"""Positions and data of YAML files."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataops_platform.contracts.document import parse_document, path_text

keys = st.text("abcXYZ09_- é:#", min_size=1, max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


class Quoted(yaml.SafeDumper):
    """Writes texts in quotes: then YAML 1.1 and 1.2 agree on what they are."""


Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
Quoted.ignore_aliases = lambda self, data: True


def paths(data, prefix=()):
    yield prefix, data
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from paths(value, (*prefix, key))


@given(trees, st.booleans())
def test_data_survives(tree, flow):
    text = yaml.dump({"root": tree}, Dumper=Quoted, default_flow_style=flow, allow_unicode=True)
    document = parse_document(text, Path("f"))
    assert document.problems == []
    assert document.data == {"root": tree}


@given(st.dictionaries(keys, st.lists(st.dictionaries(keys, st.integers(), min_size=1, max_size=4)), min_size=1))
def test_every_line_is_that_of_the_node(tree):
    """In block style each key and each scalar has a line of its own, so that the line can be read back."""
    text = yaml.dump(tree, Dumper=Quoted, allow_unicode=True, width=1000)
    document, lines = parse_document(text, Path("f")), text.splitlines()
    for path, value in paths(tree):
        line = lines[document.line(path) - 1]
        if len(path) == 3:
            assert line.rstrip().endswith(f": {value}")
        elif len(path) == 2:
            assert line.lstrip().startswith("- ")
        elif len(path) == 1:
            assert line.startswith('"')


def test_a_path_that_leaves_the_document_gives_the_last_node():
    document = parse_document("a:\n  b: 1\n  c:\n    - 2\n", Path("f"))
    assert [document.line(path) for path in [(), ("a",), ("a", "c", 0), ("a", "c", 7), ("a", "x", "y"), ("z",)]] == [
        1, 1, 4, 3, 1, 1,
    ]  # fmt: skip


def test_path_text():
    assert path_text(("schema", 0, "properties", 2, "logicalType")) == "schema[0].properties[2].logicalType"
    assert path_text(()) == ""


@given(
    st.sampled_from(
        ["yes", "no", "on", "off", "y", "2013-01-01", "12:30:45", "0o", "1_000", "+", "-x", ".", "e1", "1e"]
    )
)
def test_words_stay_words(word):
    assert parse_document(f"a: {word}\n", Path("f")).data == {"a": word}


def test_numbers_of_yaml_1_2():
    text = "a: 010\nb: 0o10\nc: 0x1F\nd: 1e3\ne: -.5\nf: +7\ng: ~\nh:\ni: TRUE\nj: !!str 3\n"
    assert parse_document(text, Path("f")).data == {
        "a": 10, "b": 8, "c": 31, "d": 1000.0, "e": -0.5, "f": 7, "g": None, "h": None, "i": True, "j": "3",
    }  # fmt: skip
