"""Server of the metrics of this process and of the processes that it starts.

All write to files in one folder, so that counts outlive a killed worker or a finished flow run
(multi-process mode of prometheus_client).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from padim_dist.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def serve_metrics(address: str, collectors: Sequence[Collector] = ()) -> Iterator[None]:
    """Serve ``/metrics`` during the block.

    prometheus_client chooses its files when it is imported. To count this process too, enter
    the block before importing `padim_dist.telemetry.measures`. The processes that it starts
    are always counted.

    Parameters
    ----------
    address : str
        ``HOST:PORT``, ``[HOST]:PORT`` for IPv6.
    collectors : sequence of Collector, optional
        What to serve as well, computed at each request.

    Raises
    ------
    ConfigError
        If the address is malformed, or the server cannot listen there.
    """
    match = re.fullmatch(r"(?:\[(.+)\]|([^:]+)):(\d{1,5})", address)
    if match is None:
        raise ConfigError(
            f"metrics address {address!r} is not HOST:PORT; write e.g. 127.0.0.1:9108"
        )
    host, port = match[1] or match[2], int(match[3])
    with tempfile.TemporaryDirectory(prefix="padim-dist-metrics-") as folder:
        before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = folder
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        for collector in (_Folder(folder), *collectors):
            registry.register(collector)
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
    """Collector of the files in a folder; drops the gauges of ended processes."""

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
