"""A proxy that stands between a client and one emulator, and does to requests what networks and services do.

Each request has a call type. A schedule, asked with the type and how many of its kind came before, says what goes
wrong; it is a pure function of its seed, so that a run can be repeated. (Where a client sends requests from several
threads, which of them is the third is chance; that the third fails isn't.)
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from dataops_platform_tests.emulators.servers import HOST, Server


class Fault(StrEnum):
    """What can happen to a request."""

    TOO_MANY = "429"
    INTERNAL = "500"
    UNAVAILABLE = "503"
    RESET = "reset"
    """The connection is reset before the server sees the request."""
    TRUNCATED = "truncated"
    """The answer's body ends before the length that was announced."""
    SHORT = "short"
    """Half of the answer's body, announced as all of it."""
    LOST = "lost"
    """The server has done the work; the connection is reset in place of the answer."""
    LATE = "late"
    """The answer takes a while."""
    JOB_FAILED = "job failed"
    """BigQuery takes the job, and the service itself fails it."""


UNSEEN = {Fault.TOO_MANY: (429, "rateLimitExceeded"), Fault.INTERNAL: (500, "internalError")}
UNSEEN |= {Fault.UNAVAILABLE: (503, "backendError")}
"""Faults by which the server never sees the request: status and reason."""

LATENCY = 0.05
"""Seconds that a late answer takes longer."""


class Call(StrEnum):
    """What a request asks for."""

    BUCKET_GET = "bucket get"
    SIMPLE_UPLOAD = "simple upload"
    RESUMABLE_START = "resumable start"
    RESUMABLE_CHUNK = "resumable chunk"
    OBJECT_GET = "object get"
    MEDIA_DOWNLOAD = "media download"
    LIST = "list"
    REWRITE = "rewrite"
    LOAD = "job insert: load"
    QUERY_JOB = "job insert: query"
    EXTRACT = "job insert: extract"
    COPY = "job insert: copy"
    LOAD_UPLOAD = "job insert: load, with data"
    JOB_GET = "job get"
    JOB_CANCEL = "job cancel"
    QUERY_RESULTS = "query results"
    TABLE_GET = "table get"
    TABLE_INSERT = "table insert"
    TABLE_PATCH = "table patch"
    TABLE_DELETE = "table delete"
    TABLEDATA_LIST = "tabledata list"
    DATASET_GET = "dataset get"
    DATASET_INSERT = "dataset insert"


JOB_INSERTS = {Call.LOAD, Call.QUERY_JOB, Call.EXTRACT, Call.COPY}
"""Calls whose answer is a job. A load with data begins by an upload: its answer is a place for that."""
NO_CONTENT = {Call.TABLE_DELETE, Call.LOAD_UPLOAD}
"""Calls whose answer has no body that could end too early: the place of an upload is a header."""


def sensible(call: Call) -> set[Fault]:
    """The faults that a call can meet."""
    faults = set(Fault)
    if call in NO_CONTENT:
        faults -= {Fault.TRUNCATED, Fault.SHORT}
    return faults if call in JOB_INSERTS else faults - {Fault.JOB_FAILED}


Schedule = Callable[[Call, int], Fault | None]
"""Call type, and how many of it came before → what goes wrong, if anything."""


@dataclass(frozen=True)
class Seeded:
    """Each request meets a fault with a probability of `rate`."""

    seed: int
    rate: float
    faults: tuple[Fault, ...] = tuple(Fault)

    def __call__(self, call: Call, number: int) -> Fault | None:
        source = random.Random(f"{self.seed} {call} {number}")
        if source.random() >= self.rate:
            return None
        return source.choice([fault for fault in self.faults if fault in sensible(call)])


@dataclass(frozen=True)
class Only:
    """Requests of one type meet one fault: those of the numbers given, or all."""

    call: Call
    fault: Fault
    numbers: Collection[int] | None = (0,)

    def __call__(self, call: Call, number: int) -> Fault | None:
        hit = call is self.call and (self.numbers is None or number in self.numbers)
        return self.fault if hit else None


def calm(call: Call, number: int) -> None:
    """Nothing goes wrong."""


# Method and path, then what it is. Job inserts are told apart by what they hold.
_GCS = [
    ("GET", r"/(storage/v1/)?b/[^/]+", Call.BUCKET_GET),
    ("GET", r"/storage/v1/b/[^/]+/o", Call.LIST),
    ("POST", r"/storage/v1/b/[^/]+/o/.+/rewriteTo/b/.+", Call.REWRITE),
    ("GET", r"/download/.+", Call.MEDIA_DOWNLOAD),
    ("GET", r"/storage/v1/b/[^/]+/o/.+", Call.OBJECT_GET),
    ("PUT", r"/upload/.+", Call.RESUMABLE_CHUNK),
]
_TABLE = r"/bigquery/v2/projects/[^/]+/datasets/[^/]+/tables"
_BIGQUERY = [
    ("POST", r"/upload/bigquery/v2/projects/[^/]+/jobs", Call.LOAD_UPLOAD),
    ("GET", r"/bigquery/v2/projects/[^/]+/jobs/[^/]+", Call.JOB_GET),
    ("POST", r"/bigquery/v2/projects/[^/]+/jobs/[^/]+/cancel", Call.JOB_CANCEL),
    ("GET", r"/bigquery/v2/projects/[^/]+/queries/[^/]+", Call.QUERY_RESULTS),
    ("GET", _TABLE + r"/[^/]+/data", Call.TABLEDATA_LIST),
    ("GET", _TABLE + r"/[^/]+", Call.TABLE_GET),
    ("POST", _TABLE, Call.TABLE_INSERT),
    ("PATCH", _TABLE + r"/[^/]+", Call.TABLE_PATCH),
    ("DELETE", _TABLE + r"/[^/]+", Call.TABLE_DELETE),
    ("GET", r"/bigquery/v2/projects/[^/]+/datasets/[^/]+", Call.DATASET_GET),
    ("POST", r"/bigquery/v2/projects/[^/]+/datasets", Call.DATASET_INSERT),
]
_JOBS = re.compile(r"/bigquery/v2/projects/[^/]+/jobs")
_UPLOADS = {"multipart": Call.SIMPLE_UPLOAD, "resumable": Call.RESUMABLE_START}
_INSERTS = {"load": Call.LOAD, "query": Call.QUERY_JOB, "extract": Call.EXTRACT, "copy": Call.COPY}


def classify(method: str, target: str, body: bytes) -> Call:
    """What a request asks for.

    Raises:
        LookupError: no call type is known for it; a client has learnt something new.
    """
    url = urlsplit(target)
    options = parse_qs(url.query)
    if method == "POST" and url.path.startswith("/upload/storage/"):
        return _UPLOADS[options["uploadType"][0]]
    if method == "POST" and _JOBS.fullmatch(url.path):
        (kind,) = _INSERTS.keys() & json.loads(body)["configuration"].keys()
        return _INSERTS[kind]
    if options.get("alt") == ["media"]:
        return Call.MEDIA_DOWNLOAD
    for known, pattern, call in (*_GCS, *_BIGQUERY):
        if method == known and re.fullmatch(pattern, url.path):
            return call
    raise LookupError(f"no call type for {method} {target}")


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Proxy:
    """Hands requests on to `server`; a context manager. Clients find it at `url`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.schedule: Schedule = calm
        self.seen: Counter[Call] = Counter()
        """Requests since the schedule began, by call type."""
        self.met: Counter[tuple[Call, Fault]] = Counter()
        """Faults since the proxy began, by call type and kind."""
        self._parts: dict[tuple[str, str], _Answer] = {}
        self._lock = Lock()
        self._http = _Listener((HOST, 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http.server_port}"

    @property
    def env(self) -> dict[str, str]:
        """The server's, with this address in place of its own."""
        return {name: value.replace(self.server.url, self.url) for name, value in self.server.env.items()}

    def __enter__(self) -> Self:
        # It notices the end of its life by polling: the default of half a second is long for a test.
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @contextmanager
    def faults(self, schedule: Schedule) -> Iterator[Counter[tuple[Call, Fault]]]:
        """Requests meet what the schedule says; counted anew, and what was met is handed out."""
        with self._lock:
            before = self.met.copy()
            self.schedule, self.seen = schedule, Counter()
        met: Counter[tuple[Call, Fault]] = Counter()
        try:
            yield met
        finally:
            with self._lock:
                self.schedule, self.seen = calm, Counter()
                met.update(self.met - before)

    def _next(self, call: Call) -> Fault | None:
        with self._lock:
            fault = self.schedule(call, self.seen[call])
            self.seen[call] += 1
            return fault

    def _count(self, call: Call, fault: Fault) -> None:
        with self._lock:
            self.met[call, fault] += 1

    def _once(self, call: Call, method: str, target: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        """Hand a request on; a part of an upload that the server has already, it doesn't see again.

        Cloud Storage ignores bytes that it has; fake-gcs-server takes them for new ones.
        """
        if call is not Call.RESUMABLE_CHUNK:
            return self._forward(method, target, headers, body)
        part = (target, next(value for name, value in headers.items() if name.lower() == "content-range"))
        if part not in self._parts:
            answer = self._forward(method, target, headers, body)
            if answer.status >= 400:
                return answer
            self._parts[part] = answer
        return self._parts[part]

    def _forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        connection = http.client.HTTPConnection(HOST, self.server.port)
        # Bodies are read and cut here, so they must come as they are.
        kept = {k: v for k, v in headers.items() if k.lower() not in ("host", "accept-encoding", "connection")}
        try:
            connection.request(method, target, body or None, kept | {"Accept-Encoding": "identity"})
            response = connection.getresponse()
            content = response.read()
            found, kind = dict(response.getheaders()), response.headers.get_content_type()
        finally:
            connection.close()
        # Addresses of the server would lead around the proxy.
        found = {name: value.replace(self.server.url, self.url) for name, value in found.items()}
        if kind == "application/json":
            content = content.replace(self.server.url.encode(), self.url.encode())
        return _Answer(response.status, found, content)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # head and body in one packet

            def handle_one_request(self) -> None:
                with suppress(ConnectionError, BrokenPipeError):  # the client may go at any time
                    super().handle_one_request()
                    return
                self.close_connection = True

            def answer(self) -> None:
                body = self._body()
                try:
                    call = classify(self.command, self.path, body)
                except (LookupError, ValueError) as error:
                    self._send(_refusal(501, "notImplemented", f"the proxy knows {error}"))
                    return
                fault = proxy._next(call)
                if fault in UNSEEN:
                    answer = _refusal(*UNSEEN[fault], "injected")
                elif fault is Fault.JOB_FAILED:
                    answer = _failed_job(body)
                elif fault is Fault.RESET:
                    answer = None
                else:
                    answer = self._ask(call, body, late=fault is Fault.LATE)
                if fault in (Fault.SHORT, Fault.TRUNCATED) and (answer is None or not answer.body):
                    fault = None
                if fault is not None:
                    proxy._count(call, fault)  # before the client knows, so that who waits for it can count
                self._reply(answer, fault)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _ask(self, call: Call, body: bytes, late: bool) -> _Answer:
                if late:
                    time.sleep(LATENCY)
                headers = {name: value for name, value in self.headers.items() if name != "Transfer-Encoding"}
                return proxy._once(call, self.command, self.path, headers, body)

            def _reply(self, answer: _Answer | None, fault: Fault | None) -> None:
                if answer is None or fault is Fault.LOST:
                    self._reset()
                    return
                half = replace(answer, body=answer.body[: len(answer.body) // 2])
                if fault is Fault.SHORT:
                    self._send(half)
                elif fault is Fault.TRUNCATED:
                    self._send(half, announced=len(answer.body))
                    self.close_connection = True
                else:
                    self._send(answer)

            def _send(self, answer: _Answer, announced: int | None = None) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) if announced is None else announced))
                self.end_headers()
                self.wfile.write(answer.body)

            def _reset(self) -> None:
                # Closed with nothing lingering, the kernel sends RST: the peer sees a reset, not an end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def shutdown_request(self, request: Any) -> None:
        # Not `shutdown`, which would end the connection in peace: `_reset` relies on it.
        self.close_request(request)


def _json(status: int, content: object) -> _Answer:
    return _Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def _refusal(status: int, reason: str, message: str) -> _Answer:
    item = {"reason": reason, "message": message, "domain": "global"}
    return _json(status, {"error": {"code": status, "message": message, "errors": [item]}})


def _failed_job(body: bytes) -> _Answer:
    """The answer to a job insert; what was uploaded with it comes in a part of its own."""
    if not body.lstrip().startswith(b"{"):
        start = body.index(b"{")
        body = body[start : body.index(b"\r\n--", start)]
    job = json.loads(body)
    error = {"reason": "backendError", "message": "injected"}
    return _json(200, job | {"status": {"state": "DONE", "errorResult": error, "errors": [error]}})
