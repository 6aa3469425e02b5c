"""`dataops quarantine`: see what is held, mend the contract, judge it again, or give it up."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import dagster as dg
import pytest

from dataops_platform_tests.conftest import dataops
from dataops_platform_tests.readme import own_table_files

CONTRACT = "contracts/orders.odcs.yaml"


@pytest.fixture(scope="module")
def sold(tmp_path_factory) -> Path:
    """The README's own table, without dbt: the second day has a row with a negative amount. Not to be changed."""
    project = tmp_path_factory.mktemp("sold") / "shop"
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
    assert dataops(["run"], project.parent / "home", project).returncode == 0
    return project


@pytest.fixture
def shop(sold, tmp_path) -> Path:
    """A copy, to change."""
    shutil.copytree(sold.parent, tmp_path / "copy")
    return tmp_path / "copy" / "shop"


def edit(project: Path, pattern: str, text: str) -> None:
    file = project / CONTRACT
    before = file.read_text()
    after = re.sub(pattern, text, before)
    assert after != before
    file.write_text(after)


def said(project: Path, *arguments: str, code: int = 0) -> str:
    done = dataops(["quarantine", *arguments], project.parent / "home", project)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def amounts(project: Path) -> str:
    sql = "SELECT amount FROM staging.orders ORDER BY order_id"
    return dataops(["query", sql], project.parent / "home", project).stdout


def test_from_quarantine_to_staging(shop):
    home = shop.parent / "home"
    (line,) = [line for line in said(shop, "list").splitlines() if "│" in line]
    assert [cell.strip() for cell in line.split("│")[1:5]] == ["orders", "2024-05-02", "amount_range", "1"]
    shown = said(shop, "show", "orders", "--reason", "amount_range")
    assert "amount_range  partition 2024-05-02" in shown
    assert re.search(r"raw_orders/created_at=.*\.parquet, row 1", shown)
    assert "amount=-5" in shown
    assert "Nothing that is in quarantine passes." in said(shop, "replay", "orders")

    edit(shop, r"minimum: 0", "minimum: -10")
    out = said(shop, "replay", "--all")
    assert "orders 2024-05-02: 1 loaded, 0 superseded, 0 still in quarantine" in out
    assert "`dataops run` judges" in out
    assert "-5" in amounts(shop)
    assert said(shop, "list").strip() == "Nothing is in quarantine."
    status = dataops(["status"], home, shop).stdout
    assert re.search(r"staging.orders +│ +2 │ +5 │ +5 │ +0 │", status), status
    plan = dataops(["plan"], home, shop).stdout
    assert re.search(r"to judge +│ orders +│ +2 │ 2024-05-01 │ 2024-05-02", plan), plan


def test_given_up(shop):
    assert "--because" in said(shop, "drop", "orders", code=2)
    assert "--because is empty" in said(shop, "drop", "orders", "--because", " ", code=2)
    assert "0 rows of orders" in said(shop, "drop", "orders", "--because", "x", "--partitions", "2024-05-01")
    assert "1 row of orders dropped" in said(shop, "drop", "orders", "--because", "a test order")
    home, kept = shop.parent / "home", "SELECT rows_dropped, because, undone_at IS NULL FROM dataops.replays"
    assert re.search(r"1 │ a test order +│ True", dataops(["query", kept], home, shop).stdout)
    assert said(shop, "show", "orders").strip() == "Nothing of orders is in quarantine."
    # What is loaded anew is held again; that it was given up once stays known.
    assert dataops(["reload", "orders"], home, shop).returncode == 0
    dataops(["run"], home, shop)
    assert "amount_range" in said(shop, "show", "orders")
    assert re.search(r"1 │ a test order +│ False", dataops(["query", kept], home, shop).stdout)
    status = dataops(["status"], home, shop).stdout
    assert re.search(r"staging.orders +│ +2 │ +5 │ +4 │ +1 │", status), status


def test_what_is_not_public_is_masked(shop):
    edit(shop, r"(name: country, )", r"\1classification: confidential, ")
    shown = said(shop, "show", "orders")
    assert "country=•••" in shown
    assert "amount=-5" in shown


def test_what_can_not_be_cast(shop):
    """Its text is shown, unless it isn't public; and what to do is said where judging again is asked for."""
    file = shop / "data/orders/2024-05-02.csv"
    file.write_text(file.read_text().replace("-5.00", "5.00") + "9,2024-05-02,FR,a lot\n")
    assert dataops(["run"], shop.parent / "home", shop).returncode == 0
    assert 'as written: {"amount":"a lot"}' in said(shop, "show", "orders", "--reason", "cast_amount")
    out = said(shop, "replay", "orders")
    assert "orders: rows whose amount can't be cast have no value to be judged: correct the values" in out
    assert "`dataops quarantine drop orders --reason cast_amount --because …`" in out
    edit(shop, r"(name: amount, )", r"\1classification: confidential, ")
    shown = said(shop, "show", "orders", "--reason", "cast_amount")
    assert 'as written: {"amount":"•••"}' in shown
    assert "a lot" not in shown
    assert "1 row of orders dropped" in said(shop, "drop", "orders", "--reason", "cast_amount", "--because", "mended")
    assert "can't be cast" not in said(shop, "replay", "orders")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "order"), "there is no table 'order': did you mean `orders`?"),
        (("replay",), "name one table, or write --all for every table"),
        (("replay", "orders", "--all"), "name one table, or write --all for every table"),
        (("replay", "orders", "--reason", "amount_rang"), "did you mean `amount_range`?"),
        (("replay", "orders", "--reason", "cast_amoun"), "did you mean `cast_amount`?"),
        (("show", "orders", "--partitions", "2024-5-1"), "isn't of the form 2024-05-01"),
    ],
)
def test_mistakes(sold, arguments, message):
    assert message in said(sold, *arguments, code=2)


def test_the_job_in_dagster(shop, monkeypatch):
    from dataops_platform.orchestration.build import build_definitions
    from dataops_platform.settings import Settings

    edit(shop, r"minimum: 0", "minimum: -10")
    env = {"DATAOPS_PROJECT": str(shop), "DATAOPS_HOME": str(shop.parent / "home")}
    job = build_definitions(Settings.load(env)).resolve_job_def("replay_quarantine")

    def run(**config) -> dg.ExecuteInProcessResult:
        return job.execute_in_process({"ops": {"replay": {"config": config}}}, raise_on_error=False)

    wrong = run(tables=["order"])
    assert not wrong.success
    done = run(tables=["orders"], partitions=["2024-05-02"])
    assert done.success
    (output,) = [event for event in done.all_events if event.event_type_value == "STEP_OUTPUT"]
    counts = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert counts == {"loaded": 1, "superseded": 0, "still in quarantine": 0}
    assert "-5" in amounts(shop)
