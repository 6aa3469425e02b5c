"""`dataops plan` and `dataops apply` on contracts that changed since the last run."""

from __future__ import annotations

import shutil

import duckdb
import pytest

from dataops_platform_tests.conftest import dataops
from dataops_platform_tests.readme import own_table_files


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The README's own table without dbt, loaded."""
    folder = tmp_path_factory.mktemp("shop")
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (folder / "project" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "project" / path).write_text(text)
    done = dataops(["run"], folder / "home", folder / "project")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Shop:
    def __init__(self, folder) -> None:
        self.folder = folder
        self.contract = folder / "project" / "contracts" / "orders.odcs.yaml"

    def change(self, *changes: tuple[str, str]) -> None:
        text = self.contract.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.contract.write_text(text)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = dataops(list(arguments), self.folder / "home", self.folder / "project")
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def shop(ran, tmp_path) -> Shop:
    shutil.copytree(ran, tmp_path / "shop")
    return Shop(tmp_path / "shop")


ROWS = ("query", "SELECT * FROM staging.orders")
NOTE = ("    properties:\n", "    properties:\n      - {name: note, logicalType: string}\n")


def test_before_anything_is_there(shop):
    shutil.rmtree(shop.folder / "home")
    code, said = shop("plan", "--check")
    assert code == 0
    assert "+ table staging.orders: 4 columns, by day of order_date" in said
    assert "1 to add, 0 to change, 0 to remove" in said
    assert not (shop.folder / "home" / "lake").exists()
    code, said = shop("apply")
    assert (code, said.splitlines()[-1]) == (0, "Applied.")
    code, said = shop("plan")
    assert said.startswith("The warehouse is as the contracts say.")
    assert shop("query", "SELECT * FROM staging.orders")[0] == 0


def test_what_is_new(shop):
    """Runs do it, too: here it is done without one."""
    shop.change(NOTE)
    code, said = shop("plan", "--check")
    assert code == 1
    assert "+ column staging.orders.note (VARCHAR)\n      null in the rows that are there" in said
    assert "orders.odcs.yaml:5: version 1.0.0 has to be at least 1.1.0" in said
    assert "Write `version: 1.1.0`" in said
    shop.change(("version: 1.0.0", "version: 1.1.0"))
    code, said = shop("plan", "--check")
    assert (code, "has to be at least" in said) == (0, False)
    assert shop("apply")[1].endswith("Applied.\n")
    code, said = shop("apply")
    assert (code, said) == (0, "The warehouse is as the contracts say.\n")


def test_what_breaks(shop):
    shop.change((" physicalType: 'NUMERIC(10,2)',", ""))
    code, said = shop("plan")
    assert code == 0
    assert "~ staging.orders.amount is DECIMAL(10,2), the contract says DOUBLE" in said
    assert "breaks: the table is emptied, and the next run loads it anew from the lake" in said
    assert "0 of 2 deliveries of orders will be loaded anew" in said
    assert "2 of 2 deliveries would be refused: raw_orders/" in said
    assert "'amount' is DECIMAL(10,2), the contract wants number: DOUBLE, FLOAT or an integer up to 32 bit" in said
    assert "has to be at least 2.0.0" in said
    assert "Runs are refused until the tables fit" in said
    assert shop("plan", "--check")[0] == 1
    for command in (["run"], ["apply"], ["reload", "orders"]):
        code, said = shop(*command)
        assert code == 2
        assert "apply --allow-breaking orders" in said
    for command in (["status"], ["report"], ["quarantine", "list"]):  # looking is no change
        assert shop(*command)[0] == 0
    shop.change(("version: 1.0.0", "version: 2.0.0"))
    # What can't be loaded again isn't thrown away by the way.
    code, said = shop("apply", "--allow-breaking")
    assert code == 2
    assert "2 of 2 deliveries would be refused" in said
    assert "nothing was changed" in said
    assert "4 rows" in shop(*ROWS)[1]
    code, said = shop("apply", "--allow-breaking", "--allow-refusals", "orders")
    assert (code, said.splitlines()[-1]) == (0, "Applied; `dataops run` loads orders anew from the lake.")
    assert "0 rows" in shop(*ROWS)[1]
    assert shop("run")[0] == 1
    shop.change(
        (
            "logicalType: number, logicalTypeOptions",
            "logicalType: number, physicalType: 'NUMERIC(10,2)', logicalTypeOptions",
        ),
        ("version: 2.0.0", "version: 3.0.0"),
    )
    _, said = shop("plan")
    assert "2 deliveries of orders were refused before, and are tried again" in said
    assert shop("apply", "--allow-breaking", "orders")[0] == 0
    code, said = shop("run")
    assert code == 0, said
    assert "4 rows" in shop(*ROWS)[1]


def test_what_breaks_under_a_version_that_does_not_say_so(shop):
    """Whoever reads the table sees by the version that something broke."""
    too_low = "orders.odcs.yaml:5: version {} has to be at least 2.0.0: that of orders in the warehouse is 1.0.0."
    shop.change(("version: 1.0.0", "version: 1.9.0"), ("      - {name: country, logicalType: string,", "#"))
    _, said = shop("plan")
    assert f"{too_low.format('1.9.0')} Write `version: 2.0.0`" in said
    assert "write the version that is asked for, then `dataops apply --allow-breaking`" in said
    code, said = shop("apply")
    assert code == 2
    assert "write the version that is asked for, then run `dataops apply --allow-breaking orders`" in said
    code, said = shop("apply", "--allow-breaking")
    assert code == 2
    assert said.rstrip().endswith(f"{too_low.format('1.9.0')} Write `version: 2.0.0`. Nothing was changed")
    code, said = shop("run")
    assert code == 2
    assert "write `version: 2.0.0` on line 5, then run `dataops apply --allow-breaking orders`" in said
    assert "4 rows" in shop("query", "SELECT country FROM staging.orders")[1]
    shop.change(("version: 1.9.0", "version: 2.0.0"))
    assert shop("apply", "--allow-breaking")[0] == 0
    assert "Nothing new" in shop("run")[1]


def test_what_breaks_before_the_first_version(shop):
    """0.y.z is for what isn't finished: anything may change, and what breaks is still to be allowed."""
    shutil.rmtree(shop.folder / "home")
    shop.change(("version: 1.0.0", "version: 0.1.0"))
    assert shop("apply")[0] == 0
    shop.change(("      - {name: country, logicalType: string,", "#"))
    _, said = shop("plan")
    assert "has to be at least" not in said
    assert shop("apply")[0] == 2
    assert shop("apply", "--allow-breaking")[0] == 0
    shop.change(("version: 0.1.0", "version: 0.0.9"))
    assert "version 0.0.9 has to be at least 0.1.0" in shop("apply")[1]


def test_a_type_that_changes_with_its_rule(shop):
    """The rule can't be asked of values of the old type; that is no reason not to plan."""
    shop.change(
        (
            "order_id, logicalType: integer, primaryKey: true",
            "order_id, logicalType: string, primaryKey: true, logicalTypeOptions: {pattern: '^[0-9]+$'}",
        )
    )
    code, said = shop("plan")
    assert code == 0, said
    assert "staging.orders.order_id is BIGINT, the contract says VARCHAR" in said
    assert "+ rule orders.order_id_pattern" in said


def test_deliveries_that_the_contract_has_no_partition_for(shop):
    """A later start leaves what is loaded; a table that is loaded anew is told what it would lose."""
    shop.change(("start: 2024-05-01", "start: 2024-05-02"))
    assert shop("plan", "--check")[0] == 0
    code, said = shop("reload", "orders")
    assert code == 2
    assert "1 of 2 deliveries would be refused" in said
    assert "is outside 2024-05-02.. of the contract" in said
    assert "4 rows" in shop(*ROWS)[1]
    assert shop("reload", "--allow-refusals", "orders")[0] == 0
    code, said = shop("run")
    assert code == 0, said
    assert "note: the lake has deliveries of orders for 1 partition that the contract doesn't have" in said
    assert "Nothing new" in shop("run")[1]


def test_a_table_that_somebody_dropped(shop):
    """The ledger says that it is loaded; without its rows that is forgotten."""
    with duckdb.connect(str(shop.folder / "home" / "warehouse.duckdb")) as con:
        con.execute("DROP TABLE staging.orders")
    code, said = shop("plan", "--check")
    assert code == 0
    assert "+ table staging.orders is gone\n" in said
    code, said = shop("run")
    assert code == 0, said
    assert "4 rows" in shop(*ROWS)[1]


def test_a_ledger_that_somebody_dropped(shop):
    """Rows that nobody knows of would be doubled by the next load."""
    with duckdb.connect(str(shop.folder / "home" / "warehouse.duckdb")) as con:
        con.execute("DROP SCHEMA dataops CASCADE")
    code, said = shop("run")
    assert code == 2
    assert "orders has rows in the warehouse, and the ledger has no loads of it" in said
    assert shop("apply", "--allow-breaking")[0] == 0
    code, said = shop("run")
    assert code == 0, said
    assert "4 rows" in shop(*ROWS)[1]


def test_a_column_that_somebody_dropped(shop):
    """Its values are in the lake: the column isn't made anew with nulls."""
    with duckdb.connect(str(shop.folder / "home" / "warehouse.duckdb")) as con:
        con.execute("ALTER TABLE staging.orders DROP COLUMN country")
    code, said = shop("plan", "--check")
    assert code == 1
    assert "column staging.orders.country (VARCHAR) was dropped in the warehouse" in said
    assert "has to be at least" not in said  # it isn't the contract that changed
    assert shop("apply", "--allow-breaking")[0] == 0
    assert shop("run")[0] == 0
    assert "4 rows" in shop("query", "SELECT * FROM staging.orders WHERE country IS NOT NULL")[1]


def test_names_that_change_by_case_alone(shop):
    shop.change(("name: country,", "name: Country,"))
    code, said = shop("plan")
    assert code == 0, said
    assert "staging.orders.country is spelled Country in the contract" in said
    assert "2 of 2 deliveries would be refused" in said
    assert shop("run")[0] == 2


def test_a_version_that_goes_back(shop):
    shop.change(("version: 1.0.0", "version: 0.9.0"))
    code, said = shop("plan", "--check")
    assert code == 1
    assert "orders.odcs.yaml:5: version 0.9.0 has to be at least 1.0.0" in said
    code, said = shop("apply")
    assert code == 2
    assert "version 0.9.0 has to be at least 1.0.0" in said
    # A process that has an older contract goes on where it changes no columns, and the later one stays what applies.
    day = shop.folder / "project" / "data" / "orders" / "2024-05-03.csv"
    day.write_text("order_id,order_date,country,amount\n6,2024-05-03,FR,1.00\n")
    code, said = shop("run")
    assert code == 0
    assert "5 rows" in shop(*ROWS)[1]
    assert said.count("version 0.9.0 has to be at least 1.0.0") == 1
    assert "version 0.9.0 has to be at least 1.0.0" in shop("plan")[1]


RULE = (", mustBeGreaterThan: 0}", ", mustBeGreaterThan: 0}\n      - {id: few, metric: rowCount, mustBeLessThan: 9}")


@pytest.mark.parametrize("select", [(), ("--select", "staging/orders")])
def test_what_a_run_follows(shop, select):
    """Nobody asked for it: what becomes another is told, once."""
    shop.change(RULE)
    code, said = shop("run", *select)
    assert code == 0, said
    told = "note: orders follows its contract: + rule orders.few (completeness: row_count, mustBeLessThan 9, error)"
    assert said.count(told) == 1
    assert said.count("orders.odcs.yaml:5: version 1.0.0 has to be at least 1.1.0") == 1
    assert "note:" not in shop("run", *select)[1]


def test_what_other_commands_follow(shop):
    for command in (["doctor"], ["quarantine", "replay", "orders"]):
        shop.change(RULE)
        assert "orders follows its contract: + rule orders.few" in shop(*command)[1]
        shop.change(RULE[::-1])
        assert "- rule orders.few" in shop("apply")[1]


def test_rules(shop):
    """What would newly fail is told before it does, and nothing of it is recorded."""
    shop.change(
        (", {value: FR}]", "]"),
        RULE,
    )
    before = shop("query", "SELECT count(*) FROM dataops.verdicts")
    code, said = shop("plan", "--check")
    assert code == 1
    assert (
        "~ rule orders.country_allowed (validity: in_set of country, values DE, error),"
        " it was (validity: in_set of country, values DE, FR, error)\n"
        "      2 rows that are there would fail, where 0 did before, in 1 of 2 partitions: 2024-05-01"
    ) in said
    assert (
        "+ rule orders.few (completeness: row_count, mustBeLessThan 9, error)\n"
        "      all rows that are there pass (2 partitions)"
    ) in said
    assert shop("query", "SELECT count(*) FROM dataops.verdicts") == before
    assert shop("apply")[0] == 0
    shop.change((", enum: [{value: DE}]", ""))
    _, said = shop("plan")
    assert "- rule orders.country_allowed" in said


def test_a_table_that_is_gone(shop):
    text = shop.contract.read_text()
    shop.contract.write_text(text.replace("orders", "purchases"))
    _, said = shop("plan")
    assert "+ table staging.purchases" in said
    assert "table staging.orders is in no contract any more. It stays, with its rows, until you drop it." in said


def test_a_table_that_nobody_knows(shop):
    code, said = shop("apply", "order")
    assert code == 2
    assert "no contract has a table 'order'; did you mean `orders`?" in said
