"""Not a gap but a convenience: projects that come and go.

`DELETE /emulator/projects/ID` forgets a project with all its data, jobs and results. Each project is a database that
the server keeps attached, 8 MB and a part of every look into the catalog: with fifty of them a query takes 1.3 s
instead of 0.2 s. So a test that has a project of its own gives it back.

`POST /emulator/projects/ID/like/OTHER` makes a project with the datasets and tables of another one, which nobody uses
meanwhile: a copy of its database. A dozen tables that are made one by one take a second of the processor's time.
"""

from __future__ import annotations

import shutil

import duckdb
from local_bigquery.app import app
from local_bigquery.catalog import tables
from local_bigquery.engine import database
from local_bigquery.engine.database import quote
from local_bigquery.settings import settings

from bigquery_server import remembered


def apply() -> None:
    app.add_api_route("/emulator/projects/{project_id}", forget, methods=["DELETE"], status_code=204)
    app.add_api_route("/emulator/projects/{project_id}/like/{other_id}", copy, methods=["POST"], status_code=204)


def copy(project_id: str, other_id: str) -> None:
    source, target = (settings.data_dir / name for name in (other_id, project_id))
    database.execute(f"CHECKPOINT {quote(f'__ducklake_metadata_{other_id}')}")
    shutil.copyfile(f"{source}.ducklake", f"{target}.ducklake")
    if source.is_dir():
        shutil.copytree(source, target)
    with duckdb.connect(f"{target}.ducklake") as made:
        made.execute("UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'", [f"{target}/"])
    database.attach(project_id)
    for resources, (_, *names) in database.RESOURCES.items():
        database.execute(
            f"INSERT INTO emulator.{resources} SELECT ?, {', '.join(names)}, replace(resource::VARCHAR, ?, ?)::JSON"
            f" FROM emulator.{resources} WHERE project_id = ?",
            [project_id, other_id, project_id, other_id],
        )
    remembered.forget(project_id)


def forget(project_id: str) -> None:
    results = f"emulator.{tables.RESULTS}"
    found = database.fetch(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'emulator' AND schema_name = ? "
        "AND starts_with(table_name, ?)",
        [tables.RESULTS, f"{project_id}:"],
    )
    for (name,) in found:
        database.execute(f"DROP TABLE IF EXISTS {results}.{quote(name)}")
    for resources in ("jobs", *database.RESOURCES):
        database.execute(f"DELETE FROM emulator.{resources} WHERE project_id = ?", [project_id])
    with database._attach_lock:
        if project_id in database._attached:
            database.execute(f"DETACH {quote(project_id)}")
            database._attached.discard(project_id)
        shutil.rmtree(settings.data_dir / project_id, ignore_errors=True)
        for file in settings.data_dir.glob(f"{project_id}.ducklake*"):
            file.unlink()
    remembered.forget(project_id)
