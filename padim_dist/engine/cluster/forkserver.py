"""Local workers as forks of one process that has imported PyTorch and the engine.

Each command has a forkserver of its own, beside that of Python, which other software of this
process may use: its environment is that of our workers, and it ends with the command.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import context, popen_forkserver, popen_spawn_posix, spawn, util
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.forkserver import read_signed
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock
from typing import Any

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster.environment import of_workers
from padim_dist.engine.cluster.server import Server

METHOD = "padim-dist-forkserver"
"""How Dask starts processes in a cluster with a forkserver (`multiprocessing.get_context`)."""
_MOST_STARTS = 3
_GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices of CUDA, of CUDA under Windows, of ROCm."""
_open: list[Server] = []
"""The forkserver of open clusters, once for each: Dask's method is one for the whole process."""
_ready: list[Server] = []
_choice = Lock()


@contextmanager
def ready(config: ClusterConfig) -> Iterator[None]:
    """Start a forkserver now, for the clusters that are opened during the block.

    It imports PyTorch and the engine while this process does something else.
    """
    environment = of_workers(config.threads)
    if not is_possible(config, environment):
        yield
        return
    with _used(_ready, lambda: Server(environment)) as server:
        with suppress(OSError):  # said when the cluster is opened
            server.ensure_running()
        yield


@contextmanager
def opened(environment: Mapping[str, str], needed: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """Have a forkserver with an environment for one cluster; `METHOD` uses it.

    It is that of a cluster of this process that is open, or that of `ready` unless a variable that
    it has was changed since, or its outputs. It ends with the last block that uses it.

    Parameters
    ----------
    environment : mapping of str to str
        The whole environment of the workers.
    needed : iterable of str
        Names of variables that workers have from their start.

    Yields
    ------
    dict of str to str
        Variables that it lacks, for its workers: libraries set some when they are imported.

    Raises
    ------
    OSError
        If it cannot be started, or an open cluster of this process has another one.
    """
    with _used(_open, lambda: _found(environment, needed)) as server:
        server.ensure_running()
        known = server.environment
        yield {name: value for name, value in environment.items() if name not in known}


def is_possible(config: ClusterConfig, environment: Mapping[str, str]) -> bool:
    """Return whether local workers can be forks: Linux without a GPU, workers of one thread.

    Others keep Python's ``spawn``. CUDA does not work in a fork of a process that has used it, and
    OpenBLAS starts its threads when it is imported. With ``python -I`` or ``-E`` a forkserver reads
    none of the variables that it starts with.
    """
    if config.kind != "local" or sys.platform != "linux" or sys.flags.ignore_environment:
        return False
    if environment["OPENBLAS_NUM_THREADS"] != "1":
        return False
    return not any(map(os.path.exists, _GPUS))


@contextmanager
def _used(users: list[Server], choose: Callable[[], Server]) -> Iterator[Server]:
    """Use a forkserver during the block; the last one that uses it ends it."""
    with _choice:
        server = choose()
        users.append(server)
    try:
        yield server
    finally:
        with _choice:
            users.remove(server)
            is_used = server in _open or server in _ready
        if not is_used:
            server.stop()


def _found(environment: Mapping[str, str], needed: Iterable[str]) -> Server:
    """Return the forkserver of open clusters; else the one that is ready, or a new one."""
    for server in _open or _ready:
        if server.serves(environment, needed):
            return server
    if _open:
        raise OSError("another cluster of this process has workers with other variables")
    return Server(environment)


def _is_our_command() -> bool:
    """Return whether the script of this process is the one that pip installs for our commands.

    A worker imports the script of its driver, since tasks may be from there. Ours are not.
    """
    command, script = sys.modules.get("padim_dist.cli.app"), sys.modules["__main__"]
    if command is None or Path(getattr(script, "__file__", None) or "").name != "padim-dist":
        return False
    return getattr(script, "main", None) is command.main


class _Popen(popen_forkserver.Popen):
    """As Python's, but a process of our own server."""

    def __init__(self, process_obj: BaseProcess, server: Server) -> None:
        self._server = server
        super().__init__(process_obj)

    def _launch(self, process_obj: BaseProcess) -> None:
        data = spawn.get_preparation_data(process_obj._name)  # type: ignore[attr-defined]
        if _is_our_command():
            data.pop("init_main_from_path", None)
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(data, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        for start in range(_MOST_STARTS):
            try:
                self._ask(buffer)
                break
            except (OSError, EOFError):  # the forkserver has ended meanwhile; the next one is asked
                if start + 1 == _MOST_STARTS:
                    raise
        self._server.check()

    def _ask(self, buffer: io.BytesIO) -> None:
        """Let the forkserver fork, and give the new process what it has to do."""
        self.sentinel, sink = self._server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The worker sees the end of the driver at the other end of this pipe.
        kept = os.dup(sink)
        close_both = partial(util.close_fds, kept, self.sentinel)  # type: ignore[attr-defined]
        self.finalizer = util.Finalize(self, close_both)
        with open(sink, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = read_signed(self.sentinel)


if sys.platform == "linux":

    class _Process(context.ForkServerProcess):
        _start_method = METHOD

        @staticmethod
        def _Popen(process_obj: Any) -> Any:  # noqa: N802  (Python calls it)
            with _choice:
                server = _open[0] if _open else None
            if server is None:  # clusters in threads end in any order, and may leave this method
                return popen_spawn_posix.Popen(process_obj)
            return _Popen(process_obj, server)

    class _Context(context.ForkServerContext):
        _name = METHOD
        Process = _Process

    # Dask asks for a context by its name. Python has no public way to add one.
    context._concrete_contexts[METHOD] = _Context()  # type: ignore[attr-defined]
