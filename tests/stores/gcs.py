"""The GCS emulator, without three faults.

It ignores ``ifGenerationMatch=0`` and ranges of the last bytes, and takes a last byte ``\\r`` of an
object for a part of the end of a line.

``python -m tests.stores.gcs PORT`` serves one request at a time, so the condition is atomic.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from functools import partial
from http.server import HTTPServer
from typing import Any
from urllib.parse import unquote

from gcp_storage_emulator import server
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

_SEPARATOR = b"--==0==\n"  # as gcsfs writes it
_read_data = server._read_data


def read_data(handler: RequestHandler, query: dict[str, list[str]]) -> Any:
    """Read the body of a request; that of an upload as gcsfs has put it together."""
    if not handler.headers.get("Content-Type", "").startswith("multipart/related"):
        return _read_data(handler, query)
    _, meta, content = server._read_raw_data(handler).split(_SEPARATOR, 2)
    head, _, data = content.partition(b"\n\n")
    return {
        "meta": json.loads(meta.partition(b"\n\n")[2]),
        "content": data.removesuffix(b"\n--==0==--"),
        "content-type": head.decode().partition(": ")[2],
    }


class ExistsError(Exception):
    """The object must be new, and is not."""


class ConditionalStorage(Storage):
    """Refuses to write over an object if the request says so."""

    must_be_new = False

    def create_file(self, bucket_name: str, file_name: str, *rest: Any, **more: Any) -> None:
        if self.must_be_new and file_name in self.objects.get(bucket_name, {}):
            raise ExistsError
        super().create_file(bucket_name, file_name, *rest, **more)


class ConditionalHandler(RequestHandler):
    """Answers 412 as GCS does, and knows ranges such as ``bytes=-8``."""

    def do_GET(self) -> None:  # noqa: N802  (of http.server)
        last = re.fullmatch(r"bytes=-(\d+)", self.headers.get("Range", ""))
        place = re.search(r"/b/([^/]+)/o/([^?]+)", self.path)
        if last and place and (bucket := self.storage.objects.get(place[1])):
            name = unquote(place[2])
            if name in bucket:
                size = len(self.storage.get_file(place[1], name))
                self.headers.replace_header("Range", f"bytes={max(size - int(last[1]), 0)}-")
        super().do_GET()

    def do_POST(self) -> None:  # noqa: N802  (of http.server)
        self.storage.must_be_new = "ifGenerationMatch=0" in self.path
        try:
            super().do_POST()
        except ExistsError:
            message = "At least one of the pre-conditions you specified did not hold."
            body = json.dumps({"error": {"code": 412, "message": message}}).encode()
            self.send_response(412)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    server._read_data = read_data
    storage = ConditionalStorage(use_memory_fs=True)
    handler = partial(ConditionalHandler, storage)
    HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
