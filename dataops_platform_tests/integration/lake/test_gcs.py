"""The lake in a bucket: what the local store promises, kept by Cloud Storage; and what goes wrong on the way there."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from dataops_platform.contracts.problems import ConfigError, Unavailable
from dataops_platform.google_errors import RETRY, google_errors, may_pass
from dataops_platform.lake import Lake, LocalStore, ObjectConflict, ObjectMissing
from dataops_platform.lake.gcs import CHUNK, GcsStore
from dataops_platform.lake.store import checksum
from dataops_platform_tests.support import moment

pytestmark = pytest.mark.cloud


@pytest.fixture
def store(gcs_client, bucket) -> GcsStore:
    return GcsStore(gcs_client, bucket, "lake/raw")


@pytest.fixture
def other(gcs_client, bucket) -> GcsStore:
    return GcsStore(gcs_client, gcs_client.create_bucket(f"{bucket}-other").name)


def test_nothing_is_overwritten(store, gcs_client, bucket):
    first = store.create("a/b", b"one", {"table": "orders"})
    assert store.create("a/b", b"one") == first == store.stat("a/b")
    with pytest.raises(ObjectConflict, match="'a/b' exists"):
        store.create("a/b", b"two")
    assert (store.read("a/b"), store.checksum("a/b")) == (b"one", checksum(b"one"))
    blob = gcs_client.bucket(bucket).get_blob("lake/raw/a/b")
    assert (blob.metadata, blob.generation, store.uri("a/b")) == (
        {"table": "orders"}, first.generation, f"gs://{bucket}/lake/raw/a/b"
    )  # fmt: skip


def test_twelve_writers(store):
    barrier, contents = Barrier(12), [bytes([number]) * 1000 for number in range(12)]

    def create(content: bytes) -> object:
        barrier.wait()
        try:
            return store.create("a", content)
        except ObjectConflict as error:
            return error

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(create, contents))
    winners = [content for content, o in zip(contents, outcomes, strict=True) if not isinstance(o, ObjectConflict)]
    assert winners == [store.read("a")]


def test_a_large_object_goes_up_in_parts(store, monkeypatch):
    """Resumable, a part at a time: memory doesn't grow with the object."""
    parts = []
    request = requests.Session.request

    def watched(self, method, url, data=None, **more):
        if method == "PUT":
            parts.append(len(data if isinstance(data, bytes) else data.read()))
            if not isinstance(data, bytes):
                data.seek(0)
        return request(self, method, url, data=data, **more)

    monkeypatch.setattr(requests.Session, "request", watched)
    path = store.scratch() / "large"
    path.write_bytes(bytes(range(256)) * (2 * CHUNK // 256 + 4))
    wanted = checksum(path)
    info = store.create("large", path)
    assert (info.size, store.checksum("large")) == (2 * CHUNK + 1024, wanted)
    assert parts == [CHUNK, CHUNK, 1024]
    assert not path.exists()  # a scratch file is consumed


def test_what_is_not_there(store, other):
    assert store.stat("a") is None
    assert list(store.list("")) == []
    for missing in (store.read, store.checksum, lambda key: store.copy_to(key, other, "b")):
        with pytest.raises(ObjectMissing, match="'a'"):
            missing("a")


@pytest.mark.parametrize("key", ["", "/a", "a/../b", "a//b", ".scratch/a", "a/"])
def test_keys_that_would_leave_the_lake(store, key):
    with pytest.raises(ValueError, match="not an object key"):
        store.create(key, b"")


def test_listing_is_that_of_a_folder(store, tmp_path, monkeypatch):
    """In key order, from and to an offset, over several pages."""
    monkeypatch.setattr("dataops_platform.lake.gcs.PAGE", 3)
    local = LocalStore(tmp_path)
    for key in ("a/x", "a/y", "a-b", "b/1", "b/2", "b/3", "b/4", "é", "c"):
        store.create(key, key.encode())
        local.create(key, key.encode())
    bounds = [("", None, None), ("b/", None, None), ("b/", "b/2", "b/4"), ("", "a/y", "c"), ("x", None, None)]
    for prefix, start, end in bounds:
        found = [(info.key, info.size) for info in store.list(prefix, start, end)]
        assert found == [(info.key, info.size) for info in local.list(prefix, start, end)], (prefix, start, end)


def test_copies_between_buckets(store, other):
    created = store.create("a", b"content")
    copied = store.copy_to("a", other, "b/c")
    assert (other.read("b/c"), copied.size, other.stat("b/c")) == (b"content", created.size, copied)
    with pytest.raises(ConfigError, match="both must be buckets"):
        store.copy_to("a", LocalStore(store.scratch()), "a")


def test_a_delivery(store):
    path = store.scratch() / "x.parquet"
    pq.write_table(pa.table({"id": [1, 2]}), path)
    lake = Lake(store)
    given = lake.deliver("orders", "2024-01-01", moment(1), [path], origin={}, contract_version="1.0.0")
    assert lake.read(given.manifest) == given
    assert [ref.key for ref in lake.manifests("orders", ["2024-01-01"])] == [given.manifest]
    assert lake.damage(given) is None


def test_no_bucket(gcs_client):
    nowhere = GcsStore(gcs_client, "no-such-bucket")
    for action in (lambda: nowhere.create("a", b""), lambda: list(nowhere.list(""))):
        with pytest.raises(ConfigError, match=r"there is no bucket no-such-bucket\. Create it"):
            action()


# -- a service that misbehaves -----------------------------------------------------------------------------------------


class _Token(AnonymousCredentials):
    """Credentials that can be refreshed, though it doesn't help."""

    def refresh(self, request: object) -> None:
        pass


class Stub:
    """Answers each request by the next of `answers`: a status and a body; the last one again and again."""

    def __init__(self, *answers: tuple[int, dict]) -> None:
        self.requests: list[str] = []
        stub, remaining = self, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path.startswith("/storage/v1/b/bucket?"):  # the client asks once what the bucket is like
                    status, body = 200, {"name": "bucket"}
                else:
                    stub.requests.append(f"{self.command} {self.path}")
                    status, body = remaining.pop(0) if len(remaining) > 1 else remaining[0]
                content = json.dumps(body).encode()
                self.send_response(status)
                if "uploadType=resumable" in self.path and self.command == "POST":
                    here = f"http://127.0.0.1:{stub.server.server_port}"
                    self.send_header("Location", f"{here}/upload?upload_id=1")
                if status == 308:
                    self.send_header("Range", f"bytes=0-{CHUNK - 1}")
                self.send_header("X-Goog-Hash", f"crc32c={checksum(b'')}")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def store(self) -> GcsStore:
        client = Client(
            project="p",
            credentials=_Token(),
            client_options={"api_endpoint": f"http://127.0.0.1:{self.server.server_port}"},
        )
        quick = RETRY.with_delay(initial=0.01, maximum=0.02, multiplier=1.1).with_timeout(1.0)
        return GcsStore(client, "bucket", "", quick)


@pytest.fixture
def stub():
    made: list[Stub] = []

    def make(*answers: tuple[int, dict]) -> Stub:
        made.append(Stub(*answers))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def resource(content: bytes) -> dict:
    return {"name": "a", "generation": "7", "size": str(len(content)), "crc32c": checksum(content)}


def refusal(status: int, message: str, reason: str = "forbidden") -> tuple[int, dict]:
    return status, {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}


PRECONDITION = refusal(412, "conditionNotMet")


@pytest.mark.parametrize("failures", [[429], [500, 503], [408, 502, 504]])
def test_what_may_go_better_is_tried_again(stub, failures):
    made = stub(*[refusal(status, "not now") for status in failures], (200, resource(b"one")))
    assert made.store().create("a", b"one").generation == 7
    assert len(made.requests) == len(failures) + 1
    assert all("ifGenerationMatch=0" in request for request in made.requests)


def test_an_answer_that_was_lost(stub):
    """The write was done, its answer lost: the repeated call meets its own object."""
    made = stub(refusal(503, "lost"), PRECONDITION, (200, resource(b"one")))
    assert made.store().create("a", b"one").generation == 7
    other = stub(refusal(503, "lost"), PRECONDITION, (200, resource(b"two")))
    with pytest.raises(ObjectConflict, match="other content"):
        other.store().create("a", b"one")


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_the_service_has_forgotten(stub, tmp_path, status):
    """It begins anew. The bucket's own absence is a 404 as well, but at another address."""
    path = tmp_path / "large"
    path.write_bytes(bytes(CHUNK + 10))
    started, part = (200, {}), (308, {})
    made = stub(started, part, refusal(status, "no such upload"), started, part, (200, resource(path.read_bytes())))
    assert made.store().create("a", path).generation == 7
    assert [request.split()[0] for request in made.requests] == ["POST", "PUT", "PUT", "POST", "PUT", "PUT"]
    nowhere = stub(refusal(404, "no such bucket"))
    with pytest.raises(ConfigError, match="there is no bucket"):
        nowhere.store().create("a", path)
    assert len(nowhere.requests) == 1


def test_an_upload_that_came_damaged(stub, tmp_path):
    """The service has other bytes than we: the client deletes them, and the upload begins anew."""
    path = tmp_path / "large"
    path.write_bytes(bytes(CHUNK + 10))
    upload = [(200, {}), (308, {})]
    made = stub(*upload, (200, resource(b"other")), (200, {}), *upload, (200, resource(path.read_bytes())))
    assert made.store().create("a", path).generation == 7
    assert [request.split()[0] for request in made.requests] == ["POST", "PUT", "PUT", "DELETE", "POST", "PUT", "PUT"]


def test_bytes_that_came_damaged(stub):
    made = stub((200, {"read": "x"}))
    with pytest.raises(Unavailable, match="not those that were stored"):
        made.store().read("a")
    assert len(made.requests) > 1


def test_a_copy_that_meets_another_object(stub):
    made = stub(PRECONDITION, (200, resource(b"one")), (200, resource(b"two")))
    with pytest.raises(ObjectConflict):
        made.store().copy_to("a", made.store(), "b")


@pytest.mark.parametrize(
    ("action", "permission"),
    [
        (lambda store: store.create("a", b""), "storage.objects.create"),
        (lambda store: store.read("a"), "storage.objects.get"),
        (lambda store: store.stat("a"), "storage.objects.get"),
        (lambda store: list(store.list("")), "storage.objects.list"),
    ],
)
def test_a_missing_permission_is_named(stub, action, permission):
    with pytest.raises(ConfigError, match=rf"permission {permission} on bucket bucket is missing \(.*who knows"):
        action(stub(refusal(403, "who knows")).store())


def test_credentials_that_are_rejected(stub):
    with pytest.raises(ConfigError, match="rejects the credentials"):
        stub(refusal(401, "Invalid Credentials")).store().read("a")


def test_a_service_that_stays_away(stub):
    made = stub(refusal(503, "away"))
    with pytest.raises(Unavailable, match="no good answer after several tries"):
        list(made.store().list(""))
    assert len(made.requests) > 3
    made.server.shutdown()
    made.server.server_close()
    with pytest.raises(Unavailable, match="no good answer after several tries"):
        made.store().read("a")


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (requests.exceptions.JSONDecodeError("Unterminated string", "{", 1), Unavailable, "no good answer"),
        (auth.DefaultCredentialsError("none"), ConfigError, "there are no Google credentials"),
        (auth.RefreshError("expired"), ConfigError, "can't be used: expired"),
        (auth.TransportError("reset"), Unavailable, "token service doesn't answer"),
        (api.Forbidden("x", errors=[{"reason": "quotaExceeded"}]), Unavailable, "a quota is used up"),
        (requests.Timeout("slow"), Unavailable, "no good answer"),
    ],
)
def test_errors_in_words(error, kind, says):
    with pytest.raises(kind, match=says), google_errors("read", "gs://b", "p"):
        raise error


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (api.TooManyRequests("slow down"), True),
        (api.ServiceUnavailable("not now"), True),
        (api.Forbidden("slow down", errors=[{"reason": "rateLimitExceeded"}]), True),
        (api.Forbidden("no", errors=[{"reason": "accessDenied"}]), False),
        (api.NotFound("where"), False),
        (api.RetryError("three minutes of it", None), False),
        (requests.exceptions.SSLError("self-signed"), False),
        (requests.ConnectionError("reset"), True),
        (requests.exceptions.ChunkedEncodingError("cut off"), True),
        (requests.exceptions.JSONDecodeError("cut off", "{", 1), True),
        (auth.TransportError("reset"), True),
        (ValueError("a bug"), False),
    ],
)
def test_what_may_pass(error, may):
    assert may_pass(error) is may
