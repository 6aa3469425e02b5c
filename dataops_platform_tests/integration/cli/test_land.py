"""`dataops land` and what `dataops status` says of landing, as functions."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from dataops_platform.cli import land as landing
from dataops_platform.cli.land import LOOKED_AT, SHOWN, land, print_landing
from dataops_platform.contracts import load_contracts
from dataops_platform.contracts.model import LoadMode
from dataops_platform.contracts.problems import ConfigError
from dataops_platform.lake import Lake
from dataops_platform.settings import Settings
from dataops_platform_tests.readme import own_table_files

SERVERS = """\
servers:
  - server: inbox
    type: local
    path: landing
    format: csv
    customProperties:
      - {property: objectPattern, vendor: dataops, value: 'orders/dt={partition}/*.csv'}
schema:
"""
HEAD = "order_id,order_date,country,amount\n"
ROW = HEAD + "1,2024-05-01,FR,1\n"


class Project:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (self.contract,) = [name for name in own_table_files() if name.startswith("contracts")]
        text = own_table_files()[self.contract]
        source = next(line for line in text.splitlines(keepends=True) if "property: source" in line)
        self.write(self.contract, text.replace(source, "").replace("schema:\n", SERVERS, 1))
        monkeypatch.setenv("DATAOPS_PROJECT", str(folder))
        monkeypatch.setenv("DATAOPS_HOME", str(folder / "home"))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def land(self, *files: Path, table: str = "orders", partition: str | None = None) -> tuple[int, str]:
        console = Console(width=300, highlight=False)
        with console.capture() as said:
            code = land(console, files, table, partition)
        return code, said.get()

    def status(self) -> str:
        console = Console(width=300, highlight=False)
        settings = Settings.load()
        with console.capture() as said:
            print_landing(console, settings, load_contracts(settings.contracts))
        return said.get()

    def deliveries(self) -> list[tuple[str, int]]:
        lake = Lake(Settings.load().lake_store())
        return [(ref.partition, lake.read(ref.key).rows) for ref in lake.manifests("orders")]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_partitions_by_name_or_by_word(project):
    named = project.write("from/orders/dt=2024-05-02/x.csv", HEAD + "2,2024-05-02,FR,1\n")
    plain = project.write("plain.csv", ROW)
    assert project.land(named) == (
        0, "✓ orders 2024-05-02: 1 rows delivered\n`dataops run` loads what is new.\n"
    )  # fmt: skip
    assert project.land(plain, partition="2024-05-01")[0] == 0
    assert project.land(named, partition="2024-05-02") == (
        0, "orders 2024-05-02: 1 file(s) delivered before: nothing done\n`dataops run` loads what is new.\n"
    )  # fmt: skip
    assert project.deliveries() == [("2024-05-01", 1), ("2024-05-02", 1)]


def test_several_files_are_one_delivery_and_a_bad_one_is_left_out(project):
    good = [project.write(f"{name}.csv", ROW.replace("1,2024", f"{name},2024")) for name in (1, 2)]
    bad = project.write("bad.csv", "nonsense\n")
    code, said = project.land(*good, bad, partition="2024-05-01")
    assert code == 1
    assert "2 rows delivered" in said
    assert f"refused: {bad}: column 'order_id' is missing" in said
    assert project.deliveries() == [("2024-05-01", 2)]
    code, said = project.land(bad, partition="2024-05-01")
    assert (code, "1 file(s) refused before; mend them" in said) == (1, True)
    # The ledger knows of it as of what a run was refused: events and alerts tell of it.
    rows = Settings.load().warehouse().query("SELECT table_name, partition_key, file FROM dataops.refusals").to_pylist()
    assert [(row["table_name"], row["partition_key"]) for row in rows] == [("orders", "2024-05-01")]
    assert rows[0]["file"].startswith(f"{bad}#")


def test_a_parquet_file_that_does_not_fit_is_left_out(project):
    """One delivery of several files is loaded or refused as a whole: each is looked at before."""
    files = []
    for name, number in (("good", 1), ("other", 2), ("bad", "one")):
        rows = {"order_id": [number], "order_date": [date(2024, 5, 1)], "country": ["FR"], "amount": [Decimal(1)]}
        files.append(project.folder / f"{name}.parquet")
        pq.write_table(pa.table(rows), files[-1])
    code, said = project.land(*files, partition="2024-05-01")
    assert code == 1
    assert "2 rows delivered" in said
    assert f"refused: {files[-1]}: column 'order_id'" in said
    assert project.deliveries() == [("2024-05-01", 2)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.csv", {"table": "order"}, "there is no table 'order': did you mean `orders`"),
        ("nowhere.csv", {}, "nowhere.csv is no file"),
        ("orders", {}, "orders is a folder: name its files, like "),
        ("x.txt", {}, "x.txt: files that end with .parquet, .avro, .csv, .jsonl, .ndjson, .csv.gz"),
        ("x.csv", {}, "which partition of orders is it for? its path doesn't end like the objectPattern orders/dt="),
        ("x.csv", {"partition": "yesterday"}, "partition 'yesterday' isn't of the form 2024-05-01"),
        ("x.csv", {"partition": "2024-04-30"}, "partition '2024-04-30' is outside 2024-05-01.."),
        ("orders/dt=2024-05-02/x.csv", {"partition": "2024-05-01"}, "is named like partition 2024-05-02, and"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly(project, name, options, message):
    for existing in ("x.csv", "x.txt", "orders/dt=2024-05-02/x.csv"):
        project.write(existing, ROW)
    with pytest.raises(ConfigError) as raised:
        project.land(project.folder / name, **options)
    assert message in str(raised.value)
    assert project.deliveries() == []


def test_tables_without_partitions_and_without_deliveries(project):
    text = (project.folder / project.contract).read_text()
    cut = next(line for line in text.splitlines(keepends=True) if "property: partitioning" in line)
    project.write(project.contract, text.replace(cut, "").replace("dt={partition}", "x"))
    path = project.write("x.csv", ROW)
    with pytest.raises(ConfigError, match="--partition 2024-05-01: table orders has no partitions; leave it out"):
        project.land(path, partition="2024-05-01")
    assert project.land(path)[0] == 0
    assert project.deliveries() == [("all", 1)]
    project.write(project.contract, text.replace(SERVERS, "schema:\n"))
    with pytest.raises(ConfigError, match="table orders gets no deliveries, a Python asset writes it"):
        project.land(path)


def test_a_table_with_a_source(project):
    project.write(project.contract, own_table_files()[project.contract])
    assert project.land(project.write("x.csv", ROW), partition="2024-05-01")[0] == 0
    with pytest.raises(ConfigError, match="which partition of orders is it for\\? the table has no objectPattern"):
        project.land(project.folder / "x.csv")


def test_status(project, monkeypatch):
    assert project.status() == f"landing of orders: there is no folder {project.folder / 'landing'}\n"
    (project.folder / "landing").mkdir()
    assert project.status() == ""
    for number in range(SHOWN + 2):
        project.write(f"landing/orders/{number}.txt", "x")
    said = project.status().splitlines()
    assert said[0] == f"landing of orders: {SHOWN + 2} object(s) that don't belong"
    assert "0.txt matches no pattern (objectPattern is orders/dt={partition}/*.csv)" in said[1]
    assert said[-1] == "  … 2 more …"
    monkeypatch.setattr(landing, "LOOKED_AT", 3)
    assert "3 object(s) that don't belong among the first 3 names (the sensor's ticks tell of" in project.status()
    assert LOOKED_AT == 10_000


def test_status_says_nothing_of_what_another_table_takes(project):
    text = (project.folder / project.contract).read_text()
    text = text.replace("orders/dt={partition}/*.csv", "vendor/{partition}/orders_*.csv")
    for name in ("orders", "customers"):
        project.write(project.contract.replace("orders", name), text.replace("orders", name))
        project.write(f"landing/vendor/2024-05-01/{name}_1.csv", ROW)
    assert set(load_contracts(Settings.load().contracts).tables) == {"orders", "customers"}
    assert project.status() == ""
    project.write("landing/vendor/2024-05-01/x.csv", ROW)
    assert project.status().count("vendor/2024-05-01/x.csv matches no pattern") == 2


def test_status_tells_of_refused_objects_until_they_are_mended(project):
    from dataops_platform.ingestion.landing import register

    bad = project.write("landing/orders/dt=2024-05-01/bad.csv", "nonsense\n")
    good = project.write("landing/orders/dt=2024-05-01/good.csv", ROW)
    for path in (bad, good):
        os.utime(path, (1e9, 1e9))
    settings = Settings.load()
    table = replace(load_contracts(settings.contracts).tables["orders"], load_mode=LoadMode.REPLACE)
    place, lake = settings.place(table), Lake(settings.lake_store())
    assert place is not None
    assert len(register(table, place, lake, ["2024-05-01"]).refused) == 2
    said = project.status()
    assert f"refused object orders 2024-05-01: {bad}: column 'order_id' is missing" in said
    assert f"refused object orders 2024-05-01: {good}: it landed with orders/dt=2024-05-01/bad.csv" in said
    bad.write_text(ROW.replace("1,2024", "2,2024"))
    os.utime(bad, (1e9 + 1, 1e9 + 1))
    assert "bad.csv: column" not in project.status()
    assert len(register(table, place, lake, ["2024-05-01"]).delivered) == 1
    assert project.status() == ""
