"""A server on localhost that answers as Google's Secret Manager does, well or badly."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import google_crc32c

VALUE = "s3cret of the manager"


def version(content: str | bytes = VALUE, **changes: str) -> tuple[int, Any]:
    """The answer with this content; `changes` are of its payload."""
    raw = content.encode() if isinstance(content, str) else content
    payload = {"data": base64.b64encode(raw).decode(), "dataCrc32c": str(google_crc32c.value(raw))} | changes
    return 200, {"name": "projects/1/secrets/api-key/versions/3", "payload": payload}


class Stub(ThreadingHTTPServer):
    """Gives the planned answers in turn, the last one for ever.

    An answer is a status with a document, or with bytes, or a function that is given the handler.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = []
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        plan = self.server.answers
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.reply(plan.pop(0) if len(plan) > 1 else plan[0])

    def reply(self, answer):
        if callable(answer):
            answer(self)
            return
        status, body, *headers = answer
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers[0] if headers else {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[Stub]:
    """A running server."""
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
