"""Takes the docs' pictures of Dagster's UI and of the report, from a run of the demo, into docs/images.

`make screenshots`, or with a home that has the demo already: `python scripts/screenshots.py --home .dataops`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from dataops_platform_tests import browser  # noqa: E402
from dataops_platform_tests.conftest import dataops, environment  # noqa: E402

IMAGES = REPO / "docs" / "images"
WIDTH = 1600
LARGEST = 400_000


def graph(page, ui):
    """Where a table in production comes from."""
    page.goto(f"{ui.url}/assets/production/fct_flights?view=lineage&lineageScope=upstream&lineageDepth=5")
    browser.visible(page, "stg_weather").first.wait_for()
    page.get_by_role("button", name="Hide navigation").click()
    page.wait_for_timeout(3000)  # the states of all assets are drawn
    return 1360


def checks(page, ui):
    """The checks of a table, one that warns in detail."""
    page.goto(f"{ui.url}/assets/staging/flights?view=checks")
    page.get_by_title("dest_in_airports", exact=True).first.click()
    plots = browser.visible(page, "Plots").first
    plots.wait_for()
    page.wait_for_timeout(1500)  # the list settles
    return plots.bounding_box()["y"] - 20


def report(page, home):
    """The quality report, down to the trends of the large tables."""
    done = dataops(["report"], home)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    page.goto(done.stdout.strip())
    # Where the warehouse lies on this machine is nobody's business.
    page.locator("p.about").first.evaluate(
        "e => { e.textContent = e.textContent.replace(/from \\S+/, 'from the warehouse') }"
    )
    return 1060


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a DATAOPS_HOME with the demo in it; without, the demo is run")
    home = parser.parse_args().home
    with tempfile.TemporaryDirectory() as folder:
        if home is None:
            home = Path(folder) / "home"
            done = dataops(["demo"], home, timeout=900)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
        IMAGES.mkdir(parents=True, exist_ok=True)
        with browser.serve(environment(home.absolute()), Path(folder) / "log") as ui:
            for name, take, of in (("asset-graph", graph, ui), ("checks", checks, ui), ("report", report, home)):
                with browser.page(WIDTH, 1360) as page:
                    height = take(page, of)
                    path = IMAGES / f"{name}.png"
                    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
                if path.stat().st_size > LARGEST:
                    sys.exit(f"{path} is {path.stat().st_size:,} bytes, more than {LARGEST:,}: crop it")
                print(path.relative_to(REPO))


if __name__ == "__main__":
    main()
