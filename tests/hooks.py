"""A web hook on loopback: a real HTTP server that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any


class Post(BaseHTTPRequestHandler):
    """Keeps what is posted; answers with the status in the path, if there is one."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(json.loads(body))
        self.send_response(int(self.path.strip("/") or 200))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(server: TCPServer) -> Iterator[int]:
    """Serve in a thread; yield the port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def web_hook() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Serve a web hook; yield its port and the JSON that it was sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Post)
    server.posted = []
    with serving(server) as port:
        yield port, server.posted
