"""Dagster's UI in a browser: what a user sees, and what a click does."""

import re

import duckdb
import pytest
from playwright.sync_api import expect

from dataops_platform_tests import browser
from dataops_platform_tests.browser import visible
from dataops_platform_tests.conftest import dataops, environment

pytestmark = pytest.mark.browser

NEW_DAY = "2013-03-01"
UNJUDGED_DAY = "2013-02-11"


@pytest.fixture(scope="module")
def home(home_copy):
    """Five days; of one of them the verdicts and the publication are lost."""
    home = home_copy()
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        day = f"partition_key = '{UNJUDGED_DAY}'"
        connection.execute(f"DELETE FROM dataops.verdicts WHERE object_name = 'staging.flights' AND {day}")
        connection.execute(f"DELETE FROM dataops.publications WHERE model = 'fct_flights' AND {day}")
    return home


@pytest.fixture(scope="module")
def ui(home, tmp_path_factory):
    with browser.serve(environment(home), tmp_path_factory.mktemp("ui") / "log") as served:
        yield served


@pytest.fixture(scope="module")
def chromium_page():
    with browser.page() as made:
        yield made


@pytest.fixture
def page(chromium_page, tmp_path_factory):
    """One page for all tests; the fixture of the temporary folder is where a failure's picture goes."""
    return chromium_page


def query(home, sql):
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_the_graph_shows_every_group_and_its_assets(ui, page):
    page.goto(f"{ui.url}/asset-groups")
    wanted = {"raw": 5, "staging": 5, "models": 11, "transformed": 6, "production": 6, "insights": 1, "quality": 1}
    for group in wanted:
        expect(visible(page, group).last).to_be_visible()
    page.goto(f"{ui.url}/assets/production/fct_flights?view=lineage&lineageScope=upstream&lineageDepth=5")
    for asset, times in (("flights", 2), ("weather", 2), ("stg_flights", 1), ("dim_airports", 1), ("fct_flights", 3)):
        expect(visible(page.locator("svg"), asset)).to_have_count(times)
    nodes = ui.query("{assetNodes {groupName assetKey {path}}}")["assetNodes"]
    count = {group: sum(n["groupName"] == group for n in nodes) for group in {n["groupName"] for n in nodes}}
    assert count == wanted


def test_checks_show_what_passed_and_what_warns(ui, page):
    page.goto(f"{ui.url}/assets/staging/flights?view=checks")
    for name, outcome in (
        ("carrier_in_airlines", "Passed"),
        ("daily_volume", "Passed"),
        ("dest_in_airports", "Failed"),
    ):
        page.get_by_placeholder("Filter checks").fill(name)
        page.get_by_title(name, exact=True).first.click()
        expect(visible(page, outcome).last).to_be_visible()
        expect(visible(page, "rows scanned").first).to_be_visible()
        blocking = page.get_by_text("This is a blocking asset check.").filter(visible=True)
        expect(blocking).to_have_count(0 if outcome == "Failed" else 1)
    expect(visible(page, "consistency").first).to_be_visible()
    expect(visible(page, "rows failed").first).to_be_visible()


def test_the_run_of_the_command_line_is_listed(ui, page):
    page.goto(f"{ui.url}/runs")
    expect(visible(page, "pipeline").first).to_be_visible()
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    runs = ui.query("{runsOrError {... on Runs {results {jobName status}}}}")["runsOrError"]["results"]
    assert {"jobName": "pipeline", "status": "SUCCESS"} in runs


def test_a_click_loads_one_day(ui, page, home):
    before = query(home, "SELECT count(*) FROM staging.flights")
    run = browser.materialise(page, ui, "raw/flights", NEW_DAY)
    assert ui.finished(run) == "SUCCESS"
    manifests = list((home / f"lake/_deliveries/raw_flights/{NEW_DAY}").glob("*.json"))
    assert len(manifests) == 1
    assert query(home, "SELECT count(*) FROM staging.flights") == before

    run = browser.materialise(page, ui, "staging/flights", NEW_DAY)
    assert ui.finished(run) == "SUCCESS"
    shown = dataops(["query", f"SELECT count(*) AS n FROM staging.flights WHERE flight_date = '{NEW_DAY}'"], home)
    assert re.search(r"│ *958 *│", shown.stdout), shown.stdout
    loads = query(home, f"SELECT run_id, rows_loaded FROM dataops.loads WHERE partition_key = '{NEW_DAY}'")
    assert loads == [(run, 958)]
    judged = f"SELECT bool_and(passed OR severity = 'warning'), count(*) FROM dataops.verdicts WHERE run_id = '{run}'"
    ((passed, verdicts),) = query(home, judged)
    assert passed
    assert verdicts == 44
    # The other days, and production, are as they were.
    assert query(home, "SELECT count(*) FROM staging.flights") == [(before[0][0] + 958,)]
    assert query(home, f"SELECT count(*) FROM production.fct_flights WHERE flight_date = '{NEW_DAY}'") == [(0,)]


@pytest.mark.long  # the command line meets the same gate in test_cli
def test_a_click_on_production_is_refused_without_verdicts(ui, page, home):
    run = browser.materialise(page, ui, "production/fct_flights", UNJUDGED_DAY)
    assert ui.finished(run) == "FAILURE"
    page.goto(f"{ui.url}/runs/{run}")
    message = page.get_by_text("the gate refused 1 partition(s) of fct_flights")
    expect(message.filter(visible=True).first).to_be_visible()
    published = query(home, "SELECT partition_key FROM dataops.publications WHERE model = 'fct_flights' ORDER BY 1")
    assert [key for (key,) in published] == ["2013-02-10", "2013-02-12", "2013-02-13", "2013-02-14"]


def test_a_missing_chromium_is_a_failure(monkeypatch):
    monkeypatch.setenv("DATAOPS_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(LookupError, match="Chromium is needed"):
        browser.chromium()
