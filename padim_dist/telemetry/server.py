"""Server of the metrics of this process and of the processes that it starts.

All write to files in one folder, so that counts outlive a killed worker or a finished flow run
(multi-process mode of prometheus_client).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import psutil

from padim_dist.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_NEWEST = "gauge_mostrecent"
_MERGED = ("counter", "histogram", "summary", _NEWEST)
"""Kinds of prometheus_client's files (``<kind>_<pid>.db``) that do not end with their process."""


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
    """Collector of the files in a folder; drops the gauges of ended processes.

    What ended processes have counted is added up in one file of each kind: each flow run is a
    process, and all files are read at each request.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._lock = Path(folder), Lock()

    def collect(self) -> Iterable[Any]:
        from prometheus_client.multiprocess import MultiProcessCollector

        with self._lock:  # several requests at once
            self._merge_ended()
            return [*MultiProcessCollector(None, str(self._folder)).collect()]

    def _merge_ended(self) -> None:
        ended = defaultdict[str, list[Path]](list)
        for path in self._folder.glob("*.db"):
            kind, _, pid = path.stem.rpartition("_")
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                if kind.startswith("gauge_live"):
                    path.unlink()
                elif kind in _MERGED:
                    ended[kind].append(path)
        for kind, paths in ended.items():
            self._merge(kind, paths)

    def _merge(self, kind: str, paths: list[Path]) -> None:
        """Add files to that of all ended processes, and remove them."""
        from prometheus_client.mmap_dict import MmapedDict

        kept = self._folder / f"{kind}_ended.db"
        values: dict[str, tuple[float, float]] = {}
        for path in [kept, *paths] if kept.exists() else paths:
            for key, value, at, _ in MmapedDict.read_all_values_from_file(str(path)):
                before, since = values.get(key, (0.0, 0.0))
                if kind != _NEWEST:
                    values[key] = before + value, 0.0
                elif at >= since:
                    values[key] = value, at
        draft = kept.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        file = MmapedDict(str(draft))
        for key, (value, at) in values.items():
            file.write_value(key, value, at)
        file.close()
        draft.replace(kept)
        for path in paths:
            path.unlink()
