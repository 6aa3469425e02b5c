"""A small project without dbt, its definitions, and Dagster instances to run them on."""

import functools
import os
import shutil
import tempfile
from pathlib import Path

import dagster as dg
import pytest

from dataops_platform.orchestration.build import build_definitions
from dataops_platform.orchestration.event_log import BATCH_SIZE_VARIABLE
from dataops_platform.settings import Settings
from dataops_platform_tests.readme import own_table_files

BATCHING = {
    "module": "dataops_platform.orchestration.event_log",
    "class": "BatchingSqliteEventLogStorage",
}
STOCK = {
    "module": "dagster._core.storage.event_log",
    "class": "ConsolidatedSqliteEventLogStorage",
}


def settings_of(project, home):
    return Settings.load({"DATAOPS_PROJECT": str(project), "DATAOPS_HOME": str(home)})


@functools.cache
def _empty():
    """A folder with the databases of an instance that nothing has happened in: making them takes 0.2 s."""
    made = tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
    with _opened(Path(made.name), BATCHING) as dagster:
        _ = dagster.run_storage, dagster.event_log_storage, dagster.schedule_storage
    return made


def instance(folder, storage=BATCHING):
    """A Dagster instance with that event log."""
    if not folder.exists() and storage is BATCHING:
        shutil.copytree(_empty().name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return _opened(folder, storage)


def _opened(folder, storage):
    config = {**storage, "config": {"base_dir": str(folder / "events")}}
    return dg.DagsterInstance.local_temp(str(folder), overrides={"event_log_storage": config})


@pytest.fixture(autouse=True)
def _environment():
    """Definitions set the size of event batches for their process; here the process is the tests'."""
    before = os.environ.get(BATCH_SIZE_VARIABLE)
    yield
    if before is None:
        os.environ.pop(BATCH_SIZE_VARIABLE, None)
    else:
        os.environ[BATCH_SIZE_VARIABLE] = before


def write_shop(project):
    """The README's own table: two days of orders, a broken one among them. Partitions end with May."""
    for path, text in own_table_files().items():
        if not path.startswith("dbt_project"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text.replace("start: 2024-05-01", "start: 2024-05-01, end: 2024-05-31"))
    return project


@pytest.fixture
def shop(tmp_path):
    return write_shop(tmp_path / "shop")


@pytest.fixture
def settings(shop, tmp_path):
    return settings_of(shop, tmp_path / "home")


@pytest.fixture
def definitions(settings):
    return build_definitions(settings)
