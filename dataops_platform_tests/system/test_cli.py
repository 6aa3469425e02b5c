"""The command as a user meets it: exit codes, one clear message, nothing half done."""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from dataops_platform_tests.conftest import REPO, dataops
from dataops_platform_tests.readme import own_table_files
from dataops_platform_tests.support import file_size_limit

OK, REFUSED, WRONG = 0, 1, 2


def own_table(project):
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
    return project


@pytest.fixture
def shop(tmp_path):
    """A project folder with one contract and two days of CSV files, without dbt: the README's own table."""
    return own_table(tmp_path / "shop")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The shop and its home after a first run. Copy it before changing anything: see `sold`."""
    folder = tmp_path_factory.mktemp("ran")
    done = dataops(["run"], folder / "home", own_table(folder / "shop"))
    assert done.returncode == OK, done.stdout + done.stderr
    assert "All well" in done.stdout
    return folder


@pytest.fixture
def sold(ran, tmp_path):
    """Copies of the shop and of its home after a first run."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shop", tmp_path / "home"


@pytest.fixture(scope="module")
def used_home(home_copy):
    """A home for commands that change nothing."""
    return home_copy()


def one_error(done, *expected, code=WRONG):
    """The command failed with this code, and one line says why."""
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for text in expected:
        assert text in lines[0]


def rows(home, sql):
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def ledger(home):
    """Sizes of the ledger's tables, if there is a warehouse at all."""
    if not (home / "warehouse.duckdb").exists():
        return None
    return [
        rows(home, f"SELECT count(*) FROM dataops.{name}") for name in ("loads", "verdicts", "builds", "publications")
    ]


# -- a project of one's own --------------------------------------------------------------------------------------------


def test_a_project_folder_with_contracts_alone_runs_once(sold):
    shop, home = sold
    assert rows(home, "SELECT list(order_id ORDER BY order_id) FROM staging.orders") == [([1, 2, 3, 4],)]
    assert rows(home, "SELECT order_id, _reasons FROM quarantine.orders") == [(5, ["amount_range"])]
    before = ledger(home)
    again = dataops(["run"], home, shop)
    assert again.returncode == OK
    assert "Nothing new" in again.stdout
    assert ledger(home) == before


def test_a_range_is_cut_into_runs_of_so_many_partitions(shop, tmp_path):
    contract, first = shop / "contracts/orders.odcs.yaml", "    customProperties:\n"
    limit = "      - {property: maxPartitionsPerRun, vendor: dataops, value: 1}\n"
    contract.write_text(contract.read_text().replace(first, first + limit, 1))
    # One day that is wrong as a whole doesn't keep the next from being loaded.
    (shop / "data/orders/2024-05-01.csv").write_text("order_id\n1\n")
    done = dataops(["run", "--partitions", "2024-05-01..2024-05-02"], tmp_path / "home", shop)
    assert done.returncode == REFUSED
    assert "column 'country' is missing" in " ".join(done.stdout.split())
    said = [line for line in done.stdout.splitlines() if line.startswith("run ")]
    assert said == ["run 1 of 2: pipeline 2024-05-01", "run 2 of 2: pipeline 2024-05-02"]
    assert rows(tmp_path / "home", "SELECT partition_key FROM dataops.loads") == [("2024-05-02",)]
    (shop / "data/orders/2024-05-01.csv").write_text("order_id,order_date,country,amount\n1,2024-05-01,FR,12.50\n")
    assert dataops(["run", "--partitions", "2024-05-01..2024-05-02"], tmp_path / "home", shop).returncode == OK
    assert rows(tmp_path / "home", "SELECT count(DISTINCT run_id) FROM dataops.loads") == [(2,)]


def test_the_project_is_found_from_its_folder(shop, tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("dataops"), "contract", "check"],
        cwd=shop, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == OK, done.stderr
    assert "1 contract: 1 tables" in done.stdout.replace("1 table,", "1 tables,")


def test_a_file_written_anew_is_merged_by_key(sold):
    shop, home = sold
    (shop / "data/orders/2024-05-02.csv").write_text(
        "order_id,order_date,country,amount\n4,2024-05-02,DE,21.00\n5,2024-05-02,FR,5.00\n"
    )
    done = dataops(["run"], home, shop)
    assert done.returncode == OK, done.stdout + done.stderr
    amounts = rows(
        home, "SELECT order_id, amount::DOUBLE FROM staging.orders WHERE order_date = '2024-05-02' ORDER BY 1"
    )
    assert amounts == [(4, 21.0), (5, 5.0)]
    assert rows(home, "SELECT count(*) FROM dataops.loads") == [(3,)]


def test_python_assets_of_the_project(shop, tmp_path):
    (shop / "shop_assets.py").write_text(
        "import dagster as dg, pyarrow as pa\n"
        "@dg.asset(key=['insights', 'countries'], io_manager_key='warehouse_io_manager',\n"
        "          ins={'orders': dg.AssetIn(key=['staging', 'orders'], input_manager_key='warehouse_io_manager')})\n"
        "def countries(orders: pa.Table) -> pa.Table:\n"
        "    return orders.select(['country']).group_by('country').aggregate([])\n"
    )
    home, env = tmp_path / "home", {"DATAOPS_ASSETS": "shop_assets"}
    done = dataops(["run"], home, shop, env)
    assert done.returncode == OK, done.stdout + done.stderr
    assert sorted(rows(home, "SELECT country FROM insights.countries")) == [("DE",), ("FR",)]
    one_error(dataops(["run"], home, shop, {"DATAOPS_ASSETS": "no_such_module"}), "DATAOPS_ASSETS", "no_such_module")
    (shop / "lost_assets.py").write_text(
        "import dagster as dg\n@dg.asset(ins={'x': dg.AssetIn(key=['staging', 'ordrs'])})\ndef lost(x): ...\n"
    )
    one_error(dataops(["run"], home, shop, {"DATAOPS_ASSETS": "lost_assets"}), "asset lost reads staging/ordrs")


# -- data is refused: 1 ------------------------------------------------------------------------------------------------


def test_an_unreadable_file_is_refused_and_the_others_are_loaded(shop, tmp_path):
    home = tmp_path / "home"
    (shop / "data/orders/2024-05-02.csv").write_text("order_id,country,amount\n4,DE,20.00\n")
    done = dataops(["run"], home, shop)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    assert "2024-05-02.csv: column 'order_date' is missing" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    delivered = sorted(path.parent.name for path in (home / "lake/_deliveries/raw_orders").glob("*/*.json"))
    assert delivered == ["2024-05-01"]
    (shop / "data/orders/2024-05-02.csv").write_text(own_table_files()["data/orders/2024-05-02.csv"])
    assert dataops(["run"], home, shop).returncode == OK
    assert rows(home, "SELECT count(*) FROM staging.orders") == [(4,)]


def test_an_object_changed_in_the_lake_is_not_loaded(shop, tmp_path):
    """Other bytes that are readable parquet too: only the checksum of the manifest can tell."""
    home = tmp_path / "home"
    assert dataops(["run", "--select", "raw/orders"], home, shop).returncode == OK
    first, second = sorted((home / "lake/raw_orders").glob("*/*.parquet"))
    second.unlink()
    shutil.copyfile(first, second)
    done = dataops(["run", "--select", "staging/orders"], home, shop)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    assert "holds other bytes than were delivered" in " ".join(done.stdout.split())
    assert rows(home, "SELECT count(*) FROM staging.orders") == [(3,)]


def test_a_selection_without_partitions_means_those_with_data(shop, tmp_path, monkeypatch):
    """The table's days go on until today: only those that something arrived for become materialised."""
    home = tmp_path / "home"
    assert dataops(["run", "--select", "raw/orders"], home, shop).returncode == OK
    monkeypatch.setenv("DATAOPS_EVENT_LOG", str(home / "dagster/events"))
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        found = instance.get_materialized_partitions(dg.AssetKey(["raw", "orders"]))
    assert sorted(found) == ["2024-05-01", "2024-05-02"]


def test_a_delivery_with_too_many_bad_rows_is_refused_as_a_whole(shop, tmp_path):
    home = tmp_path / "home"
    contract = shop / "contracts/orders.odcs.yaml"
    contract.write_text(contract.read_text().replace("maxPercent: 50", "maxPercent: 10"))
    done = dataops(["run"], home, shop)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    assert re.search(r"refused delivery.*orders 2024-05-02", done.stdout)
    assert rows(home, "SELECT order_id FROM staging.orders ORDER BY 1") == [(1,), (2,), (3,)]
    assert rows(home, "SELECT count(*) FROM quarantine.orders") == [(0,)]


def test_a_correction_with_an_older_time(sold):
    """A run over what is new finds it once, and so it does when the first file is put back."""
    shop, home = sold
    file = shop / "data/orders/2024-05-02.csv"
    first, at = file.read_text(), file.stat().st_mtime
    for text, time in ((first.replace("20.00", "21.00"), at - 86_400), (first, at)):
        file.write_text(text)
        os.utime(file, (time, time))
        done = dataops(["run"], home, shop)
        assert done.returncode == OK, done.stdout + done.stderr
        wanted = re.search(r"4,2024-05-02,DE,(\S+)", text)[1]
        assert rows(home, "SELECT amount::VARCHAR FROM staging.orders WHERE order_id = 4") == [(wanted,)]
        assert "Nothing new" in dataops(["run"], home, shop).stdout


def test_what_came_after_a_refused_delivery_goes_on(shop, tmp_path):
    """The refusal is said once; then the mended file and later days are loaded, and the run is well."""
    home = tmp_path / "home"
    broken = (shop / "data/orders/2024-05-02.csv").read_text().replace("4,2024-05-02,DE,20.00", "4,2024-05-02,XX,20.00")
    (shop / "data/orders/2024-05-02.csv").write_text(broken)
    assert dataops(["run"], home, shop).returncode == REFUSED
    (shop / "data/orders/2024-05-03.csv").write_text("order_id,order_date,country,amount\n6,2024-05-03,FR,1.00\n")
    done = dataops(["run"], home, shop)
    assert done.returncode == OK, done.stdout + done.stderr
    assert "note: still refused: orders 2024-05-02" in " ".join(done.stdout.split())
    (shop / "data/orders/2024-05-02.csv").write_text(own_table_files()["data/orders/2024-05-02.csv"])
    done = dataops(["run"], home, shop)
    assert done.returncode == OK
    assert rows(home, "SELECT order_id FROM staging.orders ORDER BY 1") == [(1,), (2,), (3,), (4,), (6,)]
    # It is named still, but nothing is done for it any more: a later one of its day is loaded.
    assert re.search(r"refused delivery.*\(a later one of its partition is loaded\)", " ".join(done.stdout.split()))
    assert "Nothing new" in dataops(["run"], home, shop).stdout


def test_a_row_that_moves_to_another_day_leaves_nothing_to_do(sold):
    shop, home = sold
    (shop / "data/orders/2024-05-03.csv").write_text("order_id,order_date,country,amount\n1,2024-05-03,FR,1.00\n")
    done = dataops(["run"], home, shop)
    assert done.returncode == OK, done.stdout + done.stderr
    last = "SELECT partition_key, count(DISTINCT data_version) FROM dataops.verdicts WHERE rule_id = 'volume'"
    assert rows(home, f"{last} GROUP BY 1 ORDER BY 1") == [("2024-05-01", 2), ("2024-05-02", 1), ("2024-05-03", 1)]


def test_a_reload_needs_the_lake_alone(sold):
    shop, home = sold
    shutil.rmtree(shop / "data")
    assert dataops(["reload", "orders"], home, shop).returncode == OK
    done = dataops(["run"], home, shop)
    assert done.returncode == OK, done.stdout + done.stderr
    assert rows(home, "SELECT count(*) FROM staging.orders") == [(4,)]


def test_the_gate_refuses_without_verdicts(home_copy):
    home = home_copy()
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        connection.execute(
            "DELETE FROM dataops.verdicts WHERE object_name = 'staging.flights' AND partition_key = '2013-02-11'"
        )
        connection.execute("DELETE FROM dataops.publications WHERE model = 'fct_flights'")
    done = dataops(["run", "--select", "production/fct_flights", "--partitions", "2013-02-10..2013-02-12"], home)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    assert "the gate refused 1 partition(s) of fct_flights" in done.stdout
    assert "2013-02-11: rule flight_date_required of staging.flights has not been checked on this data" in done.stdout
    published = rows(home, "SELECT partition_key FROM dataops.publications WHERE model = 'fct_flights' ORDER BY 1")
    assert published == [("2013-02-10",), ("2013-02-12",)]


# -- something is wrong with the command, a setting or a contract: 2 ---------------------------------------------------


def test_a_typo_in_a_contract_has_file_line_and_suggestion(shop, tmp_path):
    contract = shop / "contracts/orders.odcs.yaml"
    contract.write_text(
        contract.read_text().replace(
            "name: country, logicalType: string, required", "name: country, logicalType: string, requird"
        )
    )
    line = next(n for n, text in enumerate(contract.read_text().splitlines(), 1) if "requird" in text)
    for command in (["contract", "check"], ["run"], ["ui"]):
        done = dataops(command, tmp_path / "home", shop)
        assert done.returncode == WRONG, (command, done.stdout, done.stderr)
        assert f"orders.odcs.yaml:{line}:" in done.stderr
        assert "did you mean `required`?" in done.stderr
        assert done.stderr.splitlines()[-1] == "1 problem in contracts"
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "warehouse.duckdb").exists()


def test_missing_contracts_folder(tmp_path):
    done = dataops(["run"], tmp_path / "home", env={"DATAOPS_CONTRACTS": str(tmp_path / "nowhere")})
    assert done.returncode == WRONG
    assert f"{tmp_path / 'nowhere'} doesn't exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--partitions", "2023-01-01"], "partition '2023-01-01' is not one of 2024-05-01.."),
        (["--partitions", "2024-05-01..2999-01-01"], "partition '2999-01-01' is not one of"),
        (["--partitions", "2024-05-02..2024-05-01"], "runs backwards"),
        (["--partitions", "2024-5-1"], "partition '2024-5-1' is not one of"),
        (["--partitions", "2024-05-01.."], "write FROM..TO"),
        (["--select", "staging/ordrs"], "selects no asset; did you mean staging/orders"),
        (["--select", "nonsense"], "--select 'nonsense' selects no asset"),
        (["--select", ""], "--select is empty: name assets"),
        (["--partitions", ""], "--partitions '': write FROM..TO"),
        (["--select", "key:("], "can't be read"),
    ],
)
def test_wrong_partitions_and_selections(shop, tmp_path, arguments, expected):
    home = tmp_path / "home"
    one_error(dataops(["run", *arguments], home, shop), expected)
    assert ledger(home) is None


def test_unknown_options_are_usage_errors(shop, tmp_path):
    done = dataops(["run", "--selct", "x"], tmp_path / "home", shop)
    assert done.returncode == WRONG
    assert "No such option" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["run"], "below a file"),
        (["status"], "below a file"),
        (["query", "SELECT 1"], "below a file"),
        (["ui"], "below a file"),
        (["reload", "flights"], "below a file"),
        (["run"], "in /proc"),
        (["run"], "a file"),
    ],
)
def test_a_home_that_cant_be_written(tmp_path, command, place):
    (tmp_path / "file").write_text("")
    home = {"below a file": tmp_path / "file" / "x", "a file": tmp_path / "file", "in /proc": Path("/proc/dataops")}[
        place
    ]
    one_error(dataops(command, home), "DATAOPS_HOME")


@pytest.mark.parametrize("command", [["run"], ["query", "SELECT 1"]])
def test_a_warehouse_that_another_process_holds(shop, tmp_path, command):
    home = tmp_path / "home"
    home.mkdir()
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(home / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        done = dataops(command, home, shop, {"DATAOPS_LOCK_WAIT": "0.2"})
        holder.stdin.close()
    one_error(done, f"is in use by process {holder.pid}")
    assert dataops(["query", "SELECT 1"], home, shop).returncode == OK


def test_a_lock_that_is_released_in_time_is_waited_for(shop, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    hold = (
        "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(3); c.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(home / "warehouse.duckdb")], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        done = dataops(["query", "SELECT 42 AS answer"], home, shop)
    assert done.returncode == OK, done.stderr
    assert "42" in done.stdout


@pytest.mark.parametrize("value", ["soon", "-1"])
def test_a_wrong_lock_wait(shop, tmp_path, value):
    one_error(
        dataops(["query", "SELECT 1"], tmp_path / "home", shop, {"DATAOPS_LOCK_WAIT": value}), "DATAOPS_LOCK_WAIT"
    )


def test_a_missing_dbt_project(tmp_path):
    home = tmp_path / "home"
    one_error(dataops(["run"], home, env={"DATAOPS_DBT_PROJECT": str(tmp_path / "none")}), "DATAOPS_DBT_PROJECT")
    (tmp_path / "empty").mkdir()
    done = dataops(["run"], home, env={"DATAOPS_DBT_PROJECT": str(tmp_path / "empty")})
    one_error(done, "there is no dbt project in", "no dbt_project.yml")
    assert ledger(home) is None


def test_a_dbt_project_that_doesnt_parse(shop, tmp_path):
    shutil.copytree(REPO / "dbt_project", shop / "dbt_project")
    shutil.rmtree(shop / "dbt_project/models")
    (shop / "dbt_project/models").mkdir()
    (shop / "dbt_project/models/broken.sql").write_text("select * from {{ ref('nothing') }}")
    done = dataops(["run"], tmp_path / "home", shop)
    one_error(done, "doesn't parse", "broken")
    assert ledger(tmp_path / "home") is None


@pytest.mark.parametrize(
    "parsed", [pytest.param(False, marks=pytest.mark.long), True], ids=["never parsed", "parsed before"]
)
def test_dbt_that_isnt_installed(used_home, tmp_path, parsed):
    stub = tmp_path / "stub" / "dbt"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise ImportError('No module named dbt')")
    home = used_home if parsed else tmp_path / "home"
    if parsed:
        assert dataops(["status"], home).returncode == OK
    before = ledger(home)
    done = dataops(["run", "--partitions", "2013-03-01"], home, env={"PYTHONPATH": str(tmp_path / "stub")})
    one_error(done, "dbt is not installed", "pip install dbt-core")
    assert ledger(home) == before


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM staging.orders", '"nope" not found'),
        ("SELECT * FROM staging.nope", "nope does not exist"),
        ("SELECT 'a'::INT", "Could not convert"),
        ("SELECT * FROM read_parquet('/nope')", "No files found that match"),
        ("SELECT * FROM read_parquet('/dev/null')", "/dev/null"),
        ("SELECT * FROM read_csv('/proc/self')", "/proc/self"),
        ("SELECT count(*) FROM range(10) AS a(x) WHERE regexp_matches(x::VARCHAR, '(')", "missing )"),
        ("SELECT getvariable('a', 'b')", "getvariable"),
        ("SELECT error('stop')", "stop"),
        ("", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("DROP TABLE staging.orders", "one SELECT"),
        ("INSERT INTO staging.orders (order_id) VALUES (9)", "one SELECT"),
    ],
)
def test_bad_sql(shop, tmp_path, sql, expected):
    home = tmp_path / "home"
    one_error(dataops(["query", sql], home, shop), expected)
    assert rows(home, "SELECT count(*) FROM staging.orders") == [(0,)]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """The shop with many orders of a third day, all of them in the lake and none in the warehouse."""
    folder = tmp_path_factory.mktemp("delivered")
    made = {}

    def deliver(count):
        if count not in made:
            project, home = own_table(folder / f"shop_{count}"), folder / f"home_{count}"
            draw = random.Random(count)  # what can be compressed would fit on the disk
            orders = [
                f"{draw.getrandbits(60)},2024-05-03,DE,{draw.getrandbits(24) / 100:.2f}" for _ in range(count - 4)
            ]
            (project / "data/orders/2024-05-03.csv").write_text(
                "\n".join(["order_id,order_date,country,amount", *orders]) + "\n"
            )
            done = dataops(["run", "--select", "raw/orders"], home, project)
            assert done.returncode == OK, done.stdout + done.stderr
            made[count] = project, home
        return made[count]

    return deliver


@pytest.mark.parametrize(
    ("count", "limit", "named"),
    [
        # The statement that loads.
        pytest.param(150_000, 1_000_000, "warehouse.duckdb is full", marks=pytest.mark.long),
        (100_000, 1_000_000, "warehouse.duckdb.wal is full"),  # COMMIT
        (100_000, 60_000, "DATAOPS_HOME"),  # Dagster's storage
    ],
    ids=["load", "commit", "dagster"],
)
def test_a_full_disk(delivered, tmp_path, count, limit, named):
    project, before = delivered(count)
    home = shutil.copytree(before, tmp_path / "home")
    with file_size_limit(limit):
        done = dataops(["run", "--select", "staging/orders"], home, project)
    # The run's failure is an alert, too, whose channel is the log.
    own = [line for line in done.stderr.splitlines() if not line.startswith("ERROR pipeline: the run failed")]
    text = " ".join([*done.stdout.split(), *" ".join(own).split()])
    assert done.returncode == WRONG, text
    assert "Traceback" not in text
    assert text.count("the disk of ") == text.count("Nothing was half done: make room, then run the same again.") == 1
    assert named in text
    assert rows(home, "SELECT (SELECT count(*) FROM staging.orders), (SELECT count(*) FROM dataops.loads)") == [(0, 0)]
    assert rows(home, "SELECT count(*) FROM dataops.refusals") == [(0,)]
    again = dataops(["run", "--select", "staging/orders"], home, project)
    assert again.returncode == OK, again.stdout + again.stderr
    loaded = rows(home, "SELECT count(*), count(DISTINCT order_id) FROM staging.orders")
    assert loaded == [(count, count)]
    assert rows(home, "SELECT count(*) FROM dataops.loads") == [(3,)]


def test_a_full_disk_in_a_new_home(shop, tmp_path):
    home = tmp_path / "home"
    with file_size_limit(4_096):
        done = dataops(["query", "SELECT 1"], home, shop)
    one_error(done, "the disk of", "warehouse.duckdb is full")
    assert dataops(["query", "SELECT 1"], home, shop).returncode == OK


def test_a_port_in_use(shop, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one_error(dataops(["ui", "--port", str(port)], tmp_path / "home", shop), f"port {port}")


def test_unknown_table(shop, tmp_path):
    for command in (["reload", "ordrs"], ["contract", "show", "ordrs"]):
        one_error(dataops(command, tmp_path / "home", shop), "there is no table 'ordrs'", "orders")
