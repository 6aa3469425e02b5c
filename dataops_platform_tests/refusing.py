"""A Google service that refuses: for answers that no server on this machine gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}
EXPIRED = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}


@contextmanager
def refusing(status: int, message: str = "", reason: str = "forbidden") -> Iterator[str]:
    """A service that answers every request by this error, as Google's APIs write it; its URL.

    Two addresses stand for Google's token service: at `/token` everyone gets one, at `/expired` nobody.
    """
    refusal = {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}
    tokens: Mapping[str, tuple[int, Mapping[str, Any]]] = {"/token": (200, TOKEN), "/expired": (400, EXPIRED)}

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, body = tokens.get(self.path, (status, refusal))
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
