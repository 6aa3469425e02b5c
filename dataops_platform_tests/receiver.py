"""A server on localhost that alerts are posted to: a webhook, Slack's incoming webhook and Slack's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent. Gives the planned answers in turn, the last one for ever.

    An answer is a status, or a status with a document and headers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Any] = [200]
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "json" in self.headers.get("Content-Type", ""):
            body = json.loads(content)
        else:
            body = {name: values[0] for name, values in parse_qs(content.decode()).items()}
        self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        plan = self.server.answers
        answer = plan.pop(0) if len(plan) > 1 else plan[0]
        status, document, headers = answer if isinstance(answer, tuple) else (answer, {"ok": True}, {})
        text = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
