import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A browser test that fails leaves a picture of what the user would have seen."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    # A test of the docs has a `page` too, by its name.
    if report.when == "call" and report.failed and hasattr(page, "screenshot"):
        path = item.funcargs["tmp_path_factory"].getbasetemp() / f"{item.name}.png"
        page.screenshot(path=path)
        report.sections.append(("screenshot", str(path)))
    return report
