"""What the project's adapters rely on, as far as the servers have it by themselves."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from dataops_platform_tests.emulators import install as installing
from dataops_platform_tests.emulators.clients import bigquery_client, read_client
from dataops_platform_tests.emulators.fixtures import new_project
from dataops_platform_tests.emulators.servers import GcsServer, ServerError

pytestmark = pytest.mark.cloud

REPO = Path(__file__).parents[3]


def test_only_the_first_creates(gcs_client, bucket):
    def create(content: str) -> str | None:
        try:
            gcs_client.bucket(bucket).blob("a/b").upload_from_string(content, if_generation_match=0)
        except PreconditionFailed:
            return None
        return content

    with ThreadPoolExecutor(4) as pool:
        won = [content for content in pool.map(create, "abcdefgh") if content]
    assert len(won) == 1
    assert gcs_client.bucket(bucket).blob("a/b").download_as_text() == won[0]


def test_listing_starts_at_an_offset(gcs_client, bucket):
    for name in ("t/1", "t/2", "t/3", "u/1"):
        gcs_client.bucket(bucket).blob(name).upload_from_string(name)
    listed = gcs_client.list_blobs(bucket, prefix="t/", start_offset="t/2")
    assert [blob.name for blob in listed] == ["t/2", "t/3"]


def test_rewrite_between_buckets(gcs_client, bucket):
    source = gcs_client.bucket(bucket).blob("a")
    source.upload_from_string(b"content")
    target = gcs_client.create_bucket(f"{bucket}-2").blob("b")
    token, written, total = target.rewrite(source)
    assert (token, written, total) == (None, 7, 7)
    assert target.download_as_bytes() == b"content"


def test_clients_find_the_servers_by_the_environment(cloud_env, bucket, bq_project):
    assert storage.Client(project="any").bucket(bucket).exists()
    dry = bigquery.QueryJobConfig(dry_run=True)
    assert bigquery.Client(bq_project, AnonymousCredentials()).query("SELECT 1", dry).state == "DONE"


def test_load_of_parquet_and_reading_through_the_storage_api(gcs_client, bucket, bq_client, bigquery_server):
    table = pa.table({"n": pa.array(range(1000), pa.int64()), "s": [str(n) for n in range(1000)]})
    for name in ("x/1.parquet", "x/2.parquet"):
        data = io.BytesIO()
        pq.write_table(table, data)
        gcs_client.bucket(bucket).blob(name).upload_from_string(data.getvalue())
    bq_client.create_dataset("d")
    config = bigquery.LoadJobConfig(source_format="PARQUET")
    job = bq_client.load_table_from_uri(f"gs://{bucket}/x/*.parquet", "d.t", job_config=config).result()
    assert job.output_rows == 2000
    reader = read_client(bigquery_server)
    whole = bq_client.list_rows("d.t").to_arrow(bqstorage_client=reader)
    assert whole.sort_by("n").slice(0, 2).to_pylist() == [{"n": 0, "s": "0"}] * 2
    some = bq_client.query("SELECT n FROM d.t WHERE n < 10").to_arrow(bqstorage_client=reader)
    assert some.num_rows == 20


def test_script_rolls_back(bq_client):
    bq_client.create_dataset("d")
    bq_client.query("CREATE TABLE d.t (n INT64)").result()
    script = """
    BEGIN
      BEGIN TRANSACTION;
      INSERT d.t (n) VALUES (1);
      SELECT ERROR('no');
      COMMIT TRANSACTION;
    EXCEPTION WHEN ERROR THEN
      ROLLBACK TRANSACTION;
      RAISE USING MESSAGE = @@error.message;
    END;
    """
    with pytest.raises(BadRequest, match="no"):
        bq_client.query(script).result()
    assert list(bq_client.query("SELECT * FROM d.t").result()) == []
    bq_client.query("BEGIN TRANSACTION; INSERT d.t (n) VALUES (2); COMMIT TRANSACTION;").result()
    assert [row.n for row in bq_client.query("SELECT n FROM d.t").result()] == [2]


def test_a_job_id_is_used_once(bq_client):
    job_id = f"load-{uuid.uuid4().hex}"
    bq_client.query("SELECT 1", job_id=job_id, job_retry=None).result()
    with pytest.raises(Conflict):
        bq_client.query("SELECT 1", job_id=job_id, job_retry=None)


def test_projects_are_apart(bq_client, bigquery_server):
    bq_client.create_dataset("d")
    with new_project(bigquery_server) as other:
        client = bigquery_client(bigquery_server, other)
        client.create_dataset("d")
        client.query("CREATE TABLE d.t AS SELECT 1 AS n").result()
        assert [item.table_id for item in bq_client.list_tables("d")] == []
    assert list(bigquery_client(bigquery_server, other).list_datasets()) == []


def test_no_server_outlives_a_killed_run(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from dataops_platform_tests.emulators.servers import GcsServer\n"
        "print(GcsServer(Path(sys.argv[1])).start().pid, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE, text=True)
    pid = int(run.stdout.readline())
    os.kill(pid, 0)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_stopped_server_is_gone(tmp_path):
    with GcsServer(tmp_path) as server:
        pid = server.pid
    assert not _alive(pid)


def test_server_that_ends_shows_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(GcsServer, "command", lambda self: ["/bin/sh", "-c", "echo what is wrong; exit 3"])
    with pytest.raises(ServerError, match=r"(?s)ended with 3.*what is wrong"):
        GcsServer(tmp_path).start()


def test_without_a_python_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(installing, "_runs", lambda command: False)
    with pytest.raises(installing.InstallError, match=r"need Python 3\.13.*DATAOPS_EMULATOR_PYTHON"):
        installing.find_python({"DATAOPS_EMULATOR_PYTHON": "/no/python", "PATH": str(tmp_path)})


def test_two_installations_at_once_make_one(tmp_path, monkeypatch):
    made = []

    def make(installation: installing.Installation) -> None:
        time.sleep(0.2)
        made.append(installation.folder)
        installation.folder.mkdir()
        installation.marker.touch()

    monkeypatch.setattr(installing, "_make", make)
    monkeypatch.setattr(installing, "_runs", lambda command: True)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(installing.install, [tmp_path, tmp_path])
    assert first == second
    assert made == [first.folder]
