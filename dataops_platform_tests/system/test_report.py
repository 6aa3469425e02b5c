"""`dataops report`, opened in Chromium: whole in itself, in light and dark, and on a phone."""

from __future__ import annotations

import re

import duckdb
import pytest

from dataops_platform_tests import browser
from dataops_platform_tests.conftest import dataops

HEADINGS = ["Overview", "Trends", "Failed rules", "Quarantine", "Drift"]


@pytest.fixture(scope="module")
def report(home_copy, tmp_path_factory):
    """The demo's page; a threshold and a sampled value would be markup, if they were let."""
    home, path = home_copy(), tmp_path_factory.mktemp("report") / "deep" / "quality.html"
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        connection.execute(
            "UPDATE dataops.verdicts SET threshold = '<script>alert(1)</script>',"
            " sample = '[{\"<b>\": \"</table><img src=x onerror=alert(2)>\"}]' WHERE rule_id = 'tailnum_in_planes'"
        )
        connection.execute(
            'UPDATE dataops.verdicts SET observed = 0.3, passed = FALSE, details = \'{"metric": "psi", "bins":'
            ' ["missing", "a", "<i>"], "reference": [0, 0.5, 0.5], "current": [0.1, 0.2, 0.7]}\''
            " WHERE rule_id = 'distance_drift'"
        )
    done = dataops(["report", "--output", str(path)], home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == path.as_uri()
    assert path.stat().st_size < 1_000_000
    return path


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 380)])
def test_the_page(report, scheme, width):
    with browser.page(width=width) as page:
        page.emulate_media(color_scheme=scheme)
        trouble = []
        page.on("request", lambda request: trouble.append(request.url))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.goto(report.as_uri())
        assert trouble == [report.as_uri()]  # nothing but the page itself
        assert page.locator("h2").all_inner_texts() == HEADINGS
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (background, ink)]
        assert (bright[0] > bright[1]) is (scheme == "light")
        # Charts have the page's colours, and are read out.
        line = page.locator("figure svg path[style*='--accent']").first
        assert line.evaluate("e => getComputedStyle(e).stroke") != "none"
        assert page.locator("figure svg[role=img][aria-label^='Scores of staging.flights']").count() == 1
        assert page.locator("figure svg[aria-label^='Drift of staging.flights distance_drift']").count() == 1
        assert page.get_by_text("<script>alert(1)</script>", exact=True).count() == 1
        page.locator("summary", has_text="tailnum_in_planes").click()
        assert page.get_by_text("</table><img src=x onerror=alert(2)>", exact=True).is_visible()
        assert trouble == [report.as_uri()]


def test_nothing_to_show(tmp_path):
    done = dataops(["report"], tmp_path / "home")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "home" / "report.html").read_text()
    assert "Nothing has been judged yet" in text
    assert '<h2 id="trends">' not in text


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = dataops(["report", "--output", str(tmp_path / "file" / "report.html")], tmp_path / "home")
    assert done.returncode == 2
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_asset_in_dagster(home_copy, tmp_path):
    from dataops_platform.orchestration.build import build_definitions
    from dataops_platform.orchestration.report_asset import REPORT_KEY
    from dataops_platform.settings import Settings
    from dataops_platform_tests.conftest import REPO

    home = home_copy()
    definitions = build_definitions(Settings.load({"DATAOPS_PROJECT": str(REPO), "DATAOPS_HOME": str(home)}))
    for job in definitions.resolve_all_job_defs():
        if not job.name.startswith("__"):
            assert REPORT_KEY not in job.asset_layer.executable_asset_keys or job.name == "__ASSET_JOB"
    done = definitions.get_implicit_global_asset_job_def().execute_in_process(asset_selection=[REPORT_KEY])
    (found,) = done.asset_materializations_for_node("quality__report")
    assert found.metadata["report"].value == (home / "report.html").as_uri()
    assert 90 < found.metadata["blocking score"].value <= 100
    assert '<h2 id="overview">' in (home / "report.html").read_text()
