"""Local workers as forks of one process that has imported PyTorch and the engine.

Each command has a forkserver of its own, beside that of Python, which other software of this
process may use: its environment is that of our workers, and it ends with the command.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import context, popen_forkserver, spawn, util
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.forkserver import ForkServer, read_signed
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster.environment import changed, of_workers

METHOD = "padim-dist-forkserver"
"""How Dask starts processes in a cluster with a forkserver (`multiprocessing.get_context`)."""
_MOST_STARTS = 3
_BOOT = Path(__file__).parent / "boot"
_GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices of CUDA, of CUDA under Windows, of ROCm."""
_open: list[Server] = []
_ready: list[Server] = []


class Server(ForkServer):
    """A forkserver with an environment of its own, which imports the engine.

    Parameters
    ----------
    environment : mapping of str to str
        The whole environment of the forkserver and of its workers.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.environment = dict(environment)
        self.outputs = _outputs()
        self.set_forkserver_preload(["padim_dist_boot"])

    @property
    def pid(self) -> int | None:
        """Process id; None if it does not run."""
        return self._forkserver_pid

    def ensure_running(self) -> None:
        """Start the forkserver if it does not run: the first time, or after somebody killed it."""
        with changed(self._changes()):
            try:
                super().ensure_running()
            except ChildProcessError:  # somebody else has waited for it
                self._forkserver_pid = None
                super().ensure_running()

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Return whether it has nothing that differs from an environment, and the same outputs."""
        return self.environment.items() <= environment.items() and self.outputs == _outputs()

    def stop(self) -> None:
        """End the forkserver, and workers that have not ended yet."""
        if self._forkserver_pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._forkserver_pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            self._stop()

    def _changes(self) -> dict[str, str | None]:
        """Return the variables to change while the forkserver starts."""
        wanted: dict[str, str | None] = dict.fromkeys(os.environ)
        wanted |= self.environment
        # PyArrow's jemalloc would start a thread.
        boot = {
            "PYTHONPATH": str(_BOOT),
            "PYTHONSAFEPATH": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        }
        path = spawn.get_preparation_data("forkserver")["sys_path"]
        handed = {"path": path, "environment": {name: wanted.get(name) for name in boot}}
        wanted |= boot | {"PADIM_DIST_BOOT": json.dumps(handed)}
        return {name: value for name, value in wanted.items() if os.environ.get(name) != value}


@contextmanager
def ready(config: ClusterConfig) -> Iterator[None]:
    """Start a forkserver now, for the clusters that are opened during the block.

    It imports PyTorch and the engine while this process does something else.
    """
    environment = of_workers(config.threads)
    if not is_possible(config, environment):
        yield
        return
    server = Server(environment)
    with suppress(OSError):  # said when the cluster is opened
        server.ensure_running()
    _ready.append(server)
    try:
        yield
    finally:
        _ready.remove(server)
        server.stop()


@contextmanager
def opened(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Have a forkserver with an environment for one cluster; `METHOD` uses it.

    It is the one of `ready`, unless a variable that it has was changed since, or its outputs.

    Yields
    ------
    dict of str to str
        Variables that it lacks, for its workers: libraries set some when they are imported.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    server = next((one for one in _ready if one.serves(environment)), None)
    owned = server is None
    server = server or Server(environment)
    server.ensure_running()
    _open.append(server)
    known = server.environment
    try:
        yield {name: value for name, value in environment.items() if name not in known}
    finally:
        _open.remove(server)
        if owned:
            server.stop()


def is_possible(config: ClusterConfig, environment: Mapping[str, str]) -> bool:
    """Return whether local workers can be forks: Linux without a GPU, workers of one thread.

    Others keep Python's ``spawn``. CUDA does not work in a fork of a process that has used it, and
    OpenBLAS starts its threads when it is imported.
    """
    if config.kind != "local" or sys.platform != "linux":
        return False
    if environment["OPENBLAS_NUM_THREADS"] != "1":
        return False
    return not any(map(os.path.exists, _GPUS))


def _outputs() -> list[tuple[int, int] | None]:
    """Return what stdout and stderr of new processes are."""
    found: list[tuple[int, int] | None] = []
    for descriptor in (1, 2):
        try:
            status = os.fstat(descriptor)
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return found


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

    def _launch(self, process_obj: BaseProcess) -> None:
        if not _open:
            raise OSError("the cluster of this worker has ended")
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
                return
            except (OSError, EOFError):  # the forkserver has ended meanwhile; the next one is asked
                if start + 1 == _MOST_STARTS:
                    raise

    def _ask(self, buffer: io.BytesIO) -> None:
        """Let the forkserver fork, and give the new process what it has to do."""
        self.sentinel, sink = _open[-1].connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The worker sees the end of the driver at the other end of this pipe.
        kept = os.dup(sink)
        close_both = partial(util.close_fds, kept, self.sentinel)  # type: ignore[attr-defined]
        self.finalizer = util.Finalize(self, close_both)
        with open(sink, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = read_signed(self.sentinel)


class _Process(context.ForkServerProcess):
    _start_method = METHOD

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  (Python calls it)
        return _Popen(process_obj)


class _Context(context.ForkServerContext):
    _name = METHOD
    Process = _Process


# Dask asks for a context by its name. Python has no public way to add one.
context._concrete_contexts[METHOD] = _Context()  # type: ignore[attr-defined]
