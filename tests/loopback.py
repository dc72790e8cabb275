"""Small HTTP servers on loopback, for tests: one function answers every request."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What a server sends: bytes and text as they are, anything else as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    """It keeps what went wrong in its threads, and says nothing: another test may be reading standard error."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.faults: list[BaseException] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        fault = sys.exception()
        if fault and not isinstance(fault, ConnectionError):  # a client that hangs up is no fault of the server
            self.faults.append(fault)


@contextmanager
def serving(answer: Callable[[str, bytes], Reply]) -> Iterator[str]:
    """The address of a server that answers (path with its query, body) while the context lasts.

    An exception in `answer` is raised when the context ends; its client sees a closed connection.
    """

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            reply = answer(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            known = isinstance(reply.body, bytes | str)
            text = reply.body if known else json.dumps(reply.body)
            body = text.encode() if isinstance(text, str) else text
            self.send_response(reply.status)
            kind = {} if known else {"Content-Type": "application/json"}
            for name, value in {"Content-Length": str(len(body)), **kind, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

    server = _Server(Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    if server.faults:
        raise server.faults[0]
