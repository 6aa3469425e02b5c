"""The proxy does to requests what it says, and only that."""

from __future__ import annotations

import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic

import pytest

from dataops_platform_tests.emulators.proxy import (
    LATENCY,
    Call,
    Fault,
    Only,
    Proxy,
    Seeded,
    calm,
    classify,
    sensible,
)

OBJECT = "/storage/v1/b/bucket/o/key"
JOBS = "/bigquery/v2/projects/p/jobs"


class Echo:
    """A server that tells of its address, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        echo = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                echo.asked.append((self.command, self.path, body))
                content = json.dumps({"selfLink": f"{echo.url}/x", "padding": "x" * 100}).encode()
                self.send_response(308 if self.headers.get("Content-Range", "").endswith("/*") else 200)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Location", f"{echo.url}/upload/1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {"STORAGE_EMULATOR_HOST": self.url}
        Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def echo():
    made = Echo()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def proxy(echo):
    with Proxy(echo) as made:
        yield made


def ask(proxy: Proxy, method: str = "GET", path: str = OBJECT, body: bytes | None = None, **headers: str):
    """Status, headers and body of one request, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]))
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_requests_go_through(proxy, echo):
    status, headers, body = ask(proxy, "POST", JOBS, json.dumps({"configuration": {"query": {}}}).encode())
    assert (status, len(json.loads(body)["padding"])) == (200, 100)
    assert echo.asked[0][:2] == ("POST", JOBS)
    assert (headers["Location"], json.loads(body)["selfLink"]) == (f"{proxy.url}/upload/1", f"{proxy.url}/x")
    assert proxy.env == {"STORAGE_EMULATOR_HOST": proxy.url}
    assert not proxy.met


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [(Fault.TOO_MANY, 429, "rateLimitExceeded"), (Fault.INTERNAL, 500, "internalError"),
     (Fault.UNAVAILABLE, 503, "backendError")],
)  # fmt: skip
def test_refusals_come_before_the_server(proxy, echo, fault, status, reason):
    with proxy.faults(Only(Call.OBJECT_GET, fault)) as met:
        found, _, body = ask(proxy)
        assert (found, json.loads(body)["error"]["errors"][0]["reason"]) == (status, reason)
        assert not echo.asked
        assert ask(proxy)[0] == 200  # the second is let through
    assert met == {(Call.OBJECT_GET, fault): 1}


@pytest.mark.parametrize(("fault", "seen"), [(Fault.RESET, 0), (Fault.LOST, 1)])
def test_resets_come_before_or_after(proxy, echo, fault, seen):
    with proxy.faults(Only(Call.OBJECT_GET, fault)), pytest.raises(ConnectionResetError):
        ask(proxy)
    assert len(echo.asked) == seen


def test_truncated_bodies(proxy):
    whole = ask(proxy)[2]
    with proxy.faults(Only(Call.OBJECT_GET, Fault.TRUNCATED)), pytest.raises(http.client.IncompleteRead) as error:
        ask(proxy)
    assert whole.startswith(error.value.partial)
    with proxy.faults(Only(Call.OBJECT_GET, Fault.SHORT)):
        body = ask(proxy)[2]
    assert whole.startswith(body)
    assert 0 < len(body) < len(whole)


def test_latency(proxy):
    begun = monotonic()
    with proxy.faults(Only(Call.OBJECT_GET, Fault.LATE)):
        assert ask(proxy)[0] == 200
    assert monotonic() - begun >= LATENCY


@pytest.mark.parametrize("upload", [False, True])
def test_jobs_that_the_service_fails(proxy, echo, upload):
    job = json.dumps({"configuration": {"load": {}}, "jobReference": {"jobId": "j"}}).encode()
    path, call = JOBS, Call.LOAD
    if upload:
        job = b"--x\r\ncontent-type: application/json\r\n\r\n" + job + b"\r\n--x\r\n\r\nPAR1{}\r\n--x--"
        path, call = f"/upload{JOBS}?uploadType=multipart", Call.LOAD_UPLOAD
    with proxy.faults(Only(call, Fault.JOB_FAILED)):
        made = json.loads(ask(proxy, "POST", path, job)[2])
    assert (made["jobReference"], made["status"]["errorResult"]["reason"]) == ({"jobId": "j"}, "backendError")
    assert not echo.asked


def test_a_part_that_the_server_has_is_not_sent_again(proxy, echo):
    for _ in range(2):
        assert ask(proxy, "PUT", "/upload/1", b"abc", Content_Range="bytes 0-2/*")[0] == 308
    assert ask(proxy, "PUT", "/upload/1", b"d", Content_Range="bytes 3-3/4")[0] == 200
    assert [body for _, _, body in echo.asked] == [b"abc", b"d"]


def test_what_the_proxy_does_not_know(proxy, echo):
    status, _, body = ask(proxy, "GET", "/storage/v2/nothing")
    assert (status, b"GET /storage/v2/nothing" in body, echo.asked) == (501, True, [])


def test_a_schedule_can_be_repeated():
    drawn = [Seeded(7, 0.3)(call, number) for call in Call for number in range(200)]
    assert drawn == [Seeded(7, 0.3)(call, number) for call in Call for number in range(200)]
    assert drawn != [Seeded(8, 0.3)(call, number) for call in Call for number in range(200)]
    assert 0.25 < sum(fault is not None for fault in drawn) / len(drawn) < 0.35
    assert set(drawn) == {None, *Fault}
    assert all(
        Seeded(7, 1.0)(call, number) in sensible(call) for call in Call for number in range(50)
    )  # fmt: skip
    assert calm(Call.LIST, 0) is None


@pytest.mark.parametrize(
    ("request_line", "call"),
    [
        ("POST /upload/storage/v1/b/b/o?uploadType=multipart", Call.SIMPLE_UPLOAD),
        ("POST /upload/storage/v1/b/b/o?uploadType=resumable", Call.RESUMABLE_START),
        ("PUT /upload/storage/v1/b/b/o?uploadType=resumable&upload_id=1", Call.RESUMABLE_CHUNK),
        ("GET /storage/v1/b/b/o/a%2Fb?alt=media", Call.MEDIA_DOWNLOAD),
        ("GET /storage/v1/b/b/o/a%2Fb", Call.OBJECT_GET),
        ("GET /storage/v1/b/b/o?prefix=x", Call.LIST),
        ("POST /storage/v1/b/b/o/a/rewriteTo/b/c/o/d", Call.REWRITE),
        ("GET /bigquery/v2/projects/p/jobs/j", Call.JOB_GET),
        ("GET /bigquery/v2/projects/p/queries/j", Call.QUERY_RESULTS),
        ("PATCH /bigquery/v2/projects/p/datasets/d/tables/t", Call.TABLE_PATCH),
        ("GET /bigquery/v2/projects/p/datasets/d/tables/t/data", Call.TABLEDATA_LIST),
        ("POST /bigquery/v2/projects/p/datasets", Call.DATASET_INSERT),
    ],
)
def test_call_types(request_line, call):
    assert classify(*request_line.split(" ", 1), b"") is call
