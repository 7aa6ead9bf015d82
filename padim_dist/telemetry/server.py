"""Serving what this process and those that it starts count.

They write to files of one folder, so that counts outlive the process that counted: the
worker that was killed, the flow run that ended (prometheus_client's multi-process mode).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from padim_dist.errors import ConfigError

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def serve_metrics(address: str) -> Iterator[None]:
    """Serve ``/metrics`` for as long as the block.

    The choice of files is made when prometheus_client is imported: so this comes before
    `padim_dist.telemetry.measures` in the process that is to be counted itself. Those that
    it starts are always counted.

    Parameters
    ----------
    address : str
        ``HOST:PORT``, ``[HOST]:PORT`` for IPv6.

    Raises
    ------
    ConfigError
        If it is no address, or cannot be listened at.
    """
    match = re.fullmatch(r"(?:\[(.+)\]|([^:]+)):(\d{1,5})", address)
    if match is None:
        raise ConfigError(
            f"the address for metrics is {address!r}; write HOST:PORT, e.g. 127.0.0.1:9108"
        )
    host, port = match[1] or match[2], int(match[3])
    with tempfile.TemporaryDirectory(prefix="padim-dist-metrics-") as folder:
        before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = folder
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        registry.register(_Folder(folder))
        try:
            try:
                server, thread = start_http_server(port, host, registry)
            except (OSError, OverflowError) as error:
                raise ConfigError(
                    f"metrics cannot be served at {address}: {error}; choose another port"
                ) from error
            try:
                yield
            finally:
                server.shutdown()
                server.server_close()
                thread.join()
        finally:
            if before is None:
                del os.environ[_FOLDER]
            else:
                os.environ[_FOLDER] = before


class _Folder:
    """What the processes of a folder counted; of those that are gone, no state."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Any]:
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        for path in Path(self._folder).glob("gauge_live*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not psutil.pid_exists(pid):
                mark_process_dead(pid, self._folder)
        found: Iterable[Any] = MultiProcessCollector(None, self._folder).collect()
        return found
