"""A year of the demo through the library: the facts of the data, each row accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataops_platform.contracts import load_contracts
from dataops_platform.ingestion.extractor import extract, extractor_for
from dataops_platform_tests.support import Home

pytestmark = pytest.mark.long  # the README's `make demo` is asked for the same in short
REPO = Path(__file__).parents[3]
ROWS = {"flights": 336_776, "weather": 26_115, "airlines": 16, "airports": 1_458, "planes": 3_322}


class Year:
    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        contracts = load_contracts(REPO / "contracts")
        self.tables = {name: table for name, table in contracts.tables.items() if table.source}
        self.home.warehouse.ensure(list(contracts.tables.values()))
        self.extracted, self.outcomes = {}, {}
        for name, table in self.tables.items():
            self.extracted[name] = extract(table, extractor_for(table, REPO), self.home.lake, table.partition_keys())
            self.outcomes[name] = self.home.load(table)
        self.verdicts = {name: self.home.judge(table) for name, table in self.tables.items()}

    def one(self, sql: str):
        ((value,),) = self.home.rows(sql)
        return value

    def failed(self, table: str) -> dict[str, int | None]:
        """Failing rules → rows that fail, in all partitions."""
        found: dict[str, int] = {}
        for verdict in self.verdicts[table]:
            if not verdict.passed:
                found[verdict.rule_id] = found.get(verdict.rule_id, 0) + (verdict.failed_rows or 0)
        return found


@pytest.fixture(scope="module")
def year(tmp_path_factory) -> Year:
    return Year(tmp_path_factory.mktemp("year"))


def test_every_row_is_there(year):
    assert set(year.tables) == set(ROWS)
    for name, rows in ROWS.items():
        held = year.one(f"SELECT count(*) AS n FROM quarantine.{name}")
        assert year.one(f"SELECT count(*) AS n FROM staging.{name}") + held == rows
        assert sum(o.rows_read for o in year.outcomes[name]) == rows
        assert year.home.rows(
            f"SELECT CAST(sum(rows_loaded) AS BIGINT) AS l, CAST(sum(rows_quarantined) AS BIGINT) AS q,"
            f" CAST(sum(rows_superseded) AS BIGINT) AS s FROM dataops.loads WHERE table_name = '{name}'"
        ) == [(rows - held, held, 0)]
        days = 365 if name in ("flights", "weather") else 1
        assert len(year.extracted[name].delivered) == len(year.outcomes[name]) == days


def test_the_one_bad_row(year):
    held = {name: year.one(f"SELECT count(*) AS n FROM quarantine.{name}") for name in ROWS}
    assert {name: count for name, count in held.items() if count} == {"weather": 1}
    ((reasons, speed),) = year.home.rows("SELECT _reasons, wind_speed FROM quarantine.weather")
    assert (reasons, speed > 1000) == (["wind_speed_range"], True)


def test_references(year):
    assert year.one(
        "SELECT count(DISTINCT dest) AS n FROM staging.flights WHERE dest NOT IN (SELECT faa FROM staging.airports)"
    ) == 4  # fmt: skip
    failed = year.failed("flights")
    assert (failed["dest_in_airports"], failed["tailnum_in_planes"]) == (7_602, 50_094)
    assert year.one("SELECT count(*) AS n FROM staging.flights WHERE tailnum IS NULL") == 2_512
    assert "carrier_in_airlines" not in failed


def test_nothing_blocking_fails(year):
    assert [v for verdicts in year.verdicts.values() for v in verdicts if not v.passed and v.severity == "error"] == []


def test_cancelled_flights(year):
    assert year.one("SELECT count(*) AS n FROM staging.flights WHERE dep_time IS NULL") == 8_255
    verdicts = [v for v in year.verdicts["flights"] if v.rule_id == "cancelled_has_no_actuals"]
    assert (len(verdicts), sum(v.failed_rows for v in verdicts)) == (365, 0)


def test_the_hour_that_comes_twice(year):
    repeated = "SELECT origin, year, month, day, hour FROM staging.weather GROUP BY ALL HAVING count(*) > 1"
    assert year.one(f"SELECT count(*) AS n FROM ({repeated})") == 3
    assert "primary_key" not in year.failed("weather")


def test_airports_without_a_zone(year):
    assert year.one("SELECT count(*) AS n FROM staging.airports WHERE tzone IS NULL") == 3


def test_the_last_day_has_no_weather(year):
    (last,) = [v for v in year.verdicts["weather"] if (v.rule_id, v.partition_key) == ("hourly_coverage", "2013-12-31")]
    assert (last.passed, last.severity, last.observed, last.scanned_rows) == (False, "warning", 0, 0)
    assert year.home.ledger.data_versions("weather").keys() >= {"2013-12-31"}


def test_rows_keep_their_origin(year):
    assert year.one(
        "SELECT count(*) AS n FROM staging.flights AS f"
        " LEFT JOIN dataops.loads AS l ON CAST(f._load_id AS VARCHAR) = l.load_id"
        " WHERE l.partition_key IS DISTINCT FROM CAST(f.flight_date AS VARCHAR) OR l.created_at <> f._created_at"
    ) == 0  # fmt: skip


def test_once_more_is_a_no_op(year):
    before = year.one("SELECT count(*) AS n FROM dataops.loads")
    for table in year.tables.values():
        again = extract(table, extractor_for(table, REPO), year.home.lake, table.partition_keys())
        assert (again.delivered, again.refused) == ((), ())
        assert year.home.load(table) == []
    assert year.one("SELECT count(*) AS n FROM dataops.loads") == before
    for name, rows in ROWS.items():
        assert (
            year.one(f"SELECT (SELECT count(*) FROM staging.{name}) + (SELECT count(*) FROM quarantine.{name}) AS n")
            == rows
        )
