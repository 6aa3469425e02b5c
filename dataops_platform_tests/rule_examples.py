"""The examples of docs/rules.md: a contract, rows, and what the page says comes of them.

An example is a section with a YAML block. Below it: a table of rows for each contract table (a cell `*no rows*` is an
empty delivery of that partition, a column *delivered* says when, a column `breaks` which row rules a row breaks),
perhaps a statement that somebody runs by hand, and a list of verdicts.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataops_platform.contracts import arrow_schema, load_contracts
from dataops_platform.contracts.model import Table
from dataops_platform.contracts.partitions import UNPARTITIONED
from dataops_platform.contracts.types import FieldType, Kind
from dataops_platform.lake import Delivery
from dataops_platform_tests.support import BLOCK, Home

PAGE = Path(__file__).parents[1] / "docs" / "rules.md"
HEAD = "apiVersion: v3.2.0\nkind: DataContract\nid: example\nversion: 1.0.0\nstatus: active\n"
NO_ROWS = "*no rows*"
VERDICT = re.compile(
    r"- `(?P<rule>\w+)`(?: on (?P<key>\S+))? observes (?P<since>the hours since )?\*\*(?P<value>.+?)\*\*:"
    r' (?P<outcome>passed|failed)(?:, "(?P<reason>.+?)")?\.'
)


@dataclass(frozen=True)
class Expected:
    """What the page says of one verdict; `since`: observed are the hours since then."""

    observed: float | None
    digits: int
    since: datetime | None
    passed: bool
    reason: str | None


@dataclass(frozen=True)
class Row:
    values: Mapping[str, Any] | None  # None: a delivery without rows
    partition: str
    delivered: datetime | None
    breaks: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    heading: str
    contract: str
    rows: Mapping[str, Sequence[Row]]
    statement: str | None
    expected: Mapping[tuple[str, str], Expected]
    tables: Mapping[str, Table]

    def load(self, home: Home) -> None:
        """Deliver and load its rows, judged as a whole: nothing goes to quarantine."""
        for name, table in self.tables.items():
            deliveries: dict[tuple[str, datetime | None], list[Mapping[str, Any]]] = {}
            for row in self.rows[name]:
                found = deliveries.setdefault((row.partition, row.delivered), [])
                if row.values is not None:
                    found.append(row.values)
            made: list[Delivery] = [
                home.deliver(table, _as_file(table, rows), partition=key, at=at)
                for (key, at), rows in deliveries.items()
            ]
            outcomes = home.load(table, made)
            assert all(outcome.rows_loaded == outcome.rows_read for outcome in outcomes), outcomes


def _as_file(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a file holds them: with nulls in columns that mustn't have any."""
    return pa.Table.from_pylist(list(rows), schema=pa.schema(f.with_nullable(True) for f in arrow_schema(table)))


def examples() -> dict[str, Example]:
    """The page's examples by heading."""
    found = {}
    for section in re.split(r"^#{2,3} ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        if block := re.search(r"```yaml\n(.*?)```", body, re.DOTALL):
            found[heading] = (block[1], body[block.end() :])
    return {heading: _example(heading, *parts) for heading, parts in found.items()}


def _example(heading: str, contract: str, body: str) -> Example:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "example.odcs.yaml").write_text(HEAD + contract, encoding="utf-8")
        tables = {n: replace(t, bad_rows=BLOCK) for n, t in load_contracts(Path(folder)).tables.items()}
    blocks = re.findall(r"Rows of `(\w+)`:\n\n((?:\|.*\n)+)", body)
    statement = re.search(r"```sql\n(.*?)```", body, re.DOTALL)
    listed = re.findall(r"^- `\w+`.*$", body, re.MULTILINE)
    return Example(
        heading,
        contract,
        {name: _rows(tables[name], text) for name, text in blocks},
        statement[1] if statement else None,
        dict(map(_verdict, listed)),
        tables,
    )


def _verdict(line: str) -> tuple[tuple[str, str], Expected]:
    found = VERDICT.fullmatch(line)
    assert found is not None, line
    text, since, observed, digits = found["value"], None, None, 0
    if found["since"]:
        since = datetime.fromisoformat(text)
    elif text != "nothing":
        observed = math.inf if text == "∞" else float(text)
        digits = len(text.partition(".")[2])
    expected = Expected(observed, digits, since, found["outcome"] == "passed", found["reason"])
    return (found["rule"], found["key"] or UNPARTITIONED), expected


def _rows(table: Table, text: str) -> list[Row]:
    header, _, *lines = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in text.splitlines()]
    return [_row(table, header, cells) for cells in lines]


def _row(table: Table, header: Sequence[str], cells: Sequence[str]) -> Row:
    given = dict(zip(header, cells, strict=True))
    delivered = datetime.fromisoformat(given["*delivered*"]) if "*delivered*" in given else None
    if NO_ROWS in cells[0]:
        return Row(None, cells[0].removesuffix(NO_ROWS).strip(), delivered, ())
    values = {column.name: _value(given[column.name], column.type) for column in table.columns}
    partition = UNPARTITIONED
    if (cut := table.partitioning) is not None:
        moment = values[cut.field]
        partition = cut.key(datetime.combine(moment, datetime.min.time()))
    return Row(values, partition, delivered, tuple(re.findall(r"`(\w+)`", given.get("breaks", ""))))


def _value(cell: str, type_: FieldType) -> Any:
    if cell == "null":
        return None
    match type_.kind:
        case Kind.STRING:
            return "" if cell == "''" else cell
        case Kind.INTEGER:
            return int(cell)
        case Kind.NUMBER:
            return float(cell)
        case Kind.DATE:
            return date.fromisoformat(cell)
        case Kind.TIMESTAMP:
            return datetime.fromisoformat(cell).astimezone(UTC)
    raise AssertionError(f"a {type_.kind} in an example: say here how it is written")
