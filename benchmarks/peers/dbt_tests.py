"""dbt's own tests, and generic ones where dbt has none: `dbt test` in process, its project parsed before the clock starts."""

import contextlib
import io
import os

import common
import yaml

R = common.RULES
PROJECT = common.FOLDER / "dbt"
PATH = common.load(common.FOLDER / "dbt.duckdb")
TESTS = {
    "in_range": "SELECT {{ column_name }} FROM {{ model }} WHERE {{ column_name }} < {{ low }} OR {{ column_name }} > {{ high }}",
    "matches": "SELECT {{ column_name }} FROM {{ model }} WHERE NOT regexp_matches({{ column_name }}, '{{ pattern }}')",
    "unique_together": "SELECT {{ columns | join(', ') }} FROM {{ model }} GROUP BY ALL HAVING count(*) > 1",
    "fresh": "SELECT 1 FROM (SELECT max({{ column_name }}) AS d FROM {{ model }}) WHERE d < current_date - {{ days }}",
    "more_rows": "SELECT 1 FROM (SELECT count(*) AS n FROM {{ model }}) WHERE n <= {{ least }}",
}
ARGUMENTS = {
    "in_range": "model, column_name, low, high",
    "matches": "model, column_name, pattern",
    "unique_together": "model, columns",
    "fresh": "model, column_name, days",
    "more_rows": "model, least",
}


def write():
    (PROJECT / "models").mkdir(parents=True, exist_ok=True)
    (PROJECT / "tests" / "generic").mkdir(parents=True, exist_ok=True)
    (PROJECT / "dbt_project.yml").write_text("name: rules\nprofile: rules\n")
    output = {"type": "duckdb", "path": str(PATH), "threads": 2}
    (PROJECT / "profiles.yml").write_text(yaml.safe_dump({"rules": {"target": "dev", "outputs": {"dev": output}}}))
    for name, sql in TESTS.items():
        text = f"{{% test {name}({ARGUMENTS[name]}) %}}\n{sql}\n{{% endtest %}}\n"
        (PROJECT / "tests" / "generic" / f"{name}.sql").write_text(text)
    columns = {}
    add = lambda name, test: columns.setdefault(name, []).append(test)
    for name in R["not_null"]:
        add(name, "not_null")
    for name, (low, high) in R["ranges"].items():
        add(name, {"in_range": {"arguments": {"low": low, "high": high}}})
    for name, values in R["sets"].items():
        add(name, {"accepted_values": {"arguments": {"values": values}}})
    for name, pattern in R["patterns"].items():
        add(name, {"matches": {"arguments": {"pattern": pattern}}})
    for name in R["unique"]:
        add(name, "unique")
    child, parent = R["reference"]
    add(child, {"relationships": {"arguments": {"to": "source('main', 'suppliers')", "field": parent}}})
    add(R["fresh"][0], {"fresh": {"arguments": {"days": R["fresh"][1]}}})
    table = {
        "name": "lineitem",
        "columns": [{"name": name, "data_tests": tests} for name, tests in columns.items()],
        "data_tests": [
            {"unique_together": {"arguments": {"columns": R["composite"]}}},
            {"more_rows": {"arguments": {"least": R["rows"]}}},
        ],
    }
    sources = {"sources": [{"name": "main", "schema": "main", "tables": [table, {"name": "suppliers"}]}]}
    (PROJECT / "models" / "sources.yml").write_text(yaml.safe_dump(sources, sort_keys=False))


write()
os.chdir(PROJECT)
os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
from dbt.cli.main import dbtRunner

OPTIONS = ["--profiles-dir", str(PROJECT), "--project-dir", str(PROJECT), "--quiet"]
with contextlib.redirect_stdout(io.StringIO()):
    manifest = dbtRunner().invoke(["parse", *OPTIONS]).result


def check():
    with contextlib.redirect_stdout(io.StringIO()):
        done = dbtRunner(manifest=manifest).invoke(["test", *OPTIONS])
    assert done.exception is None, done.exception
    return len(done.result.results), [r.node.name for r in done.result.results if r.status != "pass"]


common.tell(check)
