from collections.abc import Callable
from pathlib import Path

import pytest

from dataops_platform.contracts import Contracts, Table, load_contracts

REPO = Path(__file__).parents[3]

CUSTOMERS = """\
apiVersion: v3.2.0
kind: DataContract
id: customers-contract
name: customers
version: 2.1.0
status: active
schema:
  - name: customers
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: region, logicalType: string, required: true}
      - {name: payload, logicalType: object}
"""

ORDERS = """\
apiVersion: v3.2.0
kind: DataContract
id: orders-contract
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    physicalType: table
    description: One row per order.
    customProperties:
      - {property: loadMode, vendor: dataops, value: merge}
      - {property: onBadRow, vendor: dataops, value: {action: quarantine, maxPercent: 1}}
      - property: partitioning
        vendor: dataops
        value: {field: day, granularity: day, start: 2024-01-01, end: 2024-12-31, timezone: Europe/Paris}
      - {property: clustering, vendor: dataops, value: [region]}
      - {property: source, vendor: dataops, value: {extractor: demo, limit: 3}}
    properties:
      - {name: day, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: number, logicalType: integer, primaryKey: true, primaryKeyPosition: 2}
      - name: customer
        logicalType: integer
        required: true
        relationships: [{to: customers.id}]
      - name: region
        logicalType: string
        enum: [{value: north}, {value: south}]
        logicalTypeOptions: {minLength: 4, maxLength: 5, pattern: '^[a-z]+$'}
      - name: amount
        logicalType: number
        physicalType: NUMERIC(10,2)
        logicalTypeOptions: {minimum: 0, maximum: 1000}
        quality:
          - {id: amount_known, metric: nullValues, unit: percent, mustBeLessThan: 5, severity: warning}
      - {name: placed_at, logicalType: timestamp}
      - {name: details, logicalType: object}
    quality:
      - {id: volume, metric: rowCount, mustBeBetween: [1, 100]}
      - id: small
        type: sql
        query: SELECT COUNT(*) FROM {object} WHERE amount > 10 AND region = 'north'
        mustBe: 0
      - id: mean
        type: custom
        engine: dataops
        implementation: {rule: aggregate, function: avg, column: amount, mustBeBetween: [1, 60]}
slaProperties:
  - {property: latency, value: 12, unit: h, element: orders.day}
team: {name: sales}
"""


@pytest.fixture
def customers() -> str:
    return CUSTOMERS


@pytest.fixture
def orders() -> str:
    return ORDERS


@pytest.fixture
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def demo() -> Contracts:
    return load_contracts(REPO / "contracts")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Contracts]:
    """Writes files given as name=text and loads them."""

    def run(**texts: str) -> Contracts:
        for name, text in texts.items():
            (tmp_path / f"{name}.odcs.yaml").write_text(text, encoding="utf-8")
        return load_contracts(tmp_path)

    return run


@pytest.fixture
def table(load: Callable[..., Contracts]) -> Callable[..., Table]:
    """Loads a table `t` from the YAML lines of its properties and, optionally, of more keys of it."""

    def run(properties: str, more: str = "", tail: str = "") -> Table:
        indented = "".join(f"      {line}\n" for line in properties.strip("\n").splitlines())
        rest = "".join(f"    {line}\n" for line in more.strip("\n").splitlines())
        head = "apiVersion: v3.2.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n"
        return load(t=f"{head}    properties:\n{indented}{rest}{tail}").tables["t"]

    return run
