"""One process that has imported PyTorch and the engine, and that local workers are forks of."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import spawn
from multiprocessing.forkserver import ForkServer
from pathlib import Path
from threading import RLock
from typing import Any

from padim_dist.engine.cluster.environment import replaced

logger = logging.getLogger("padim_dist")
_BOOT = Path(__file__).parent / "boot"
_TITLE = "padim-dist-fork"
"""Name of the process (at most 15 bytes) once it has imported the engine."""


class Server(ForkServer):
    """A forkserver with an environment of its own, which imports the engine.

    Parameters
    ----------
    environment : mapping of str to str
        The whole environment of the forkserver and of its workers.
    """

    _forkserver_pid: int | None
    _forkserver_alive_fd: Any
    _forkserver_address: Any

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.environment = dict(environment)
        self.outputs = _outputs()
        self._starting = RLock()
        self._has_ended = False
        self._is_checked = False
        self.set_forkserver_preload(["padim_dist_boot"])

    @property
    def pid(self) -> int | None:
        """Process id; None if it does not run."""
        return self._forkserver_pid

    def ensure_running(self) -> None:
        """Start the forkserver if it does not run: the first time, or after somebody killed it.

        Raises
        ------
        OSError
            If it cannot be started, or after `stop`.
        """
        with self._starting:
            if self._has_ended:
                raise OSError("the cluster of this worker has ended")
            if self._is_alive():
                return
            self._end()
            path = spawn.get_preparation_data("forkserver")["sys_path"]
            with replaced(self._variables(path)), _boot_in_path():
                super().ensure_running()

    def serves(self, environment: Mapping[str, str], needed: Iterable[str]) -> bool:
        """Return whether it has nothing that differs from an environment, and the same outputs.

        `needed` has the names of variables that it must have.
        """
        if not self.environment.items() <= environment.items() or self.outputs != _outputs():
            return False
        return self.environment.keys() >= {*needed}

    def check(self) -> None:
        """Say once in the log if the forkserver has forked without having imported the engine."""
        if self._is_checked:
            return
        self._is_checked = True
        with suppress(OSError):  # no /proc, or it has ended
            if Path(f"/proc/{self.pid}/comm").read_text().strip() != _TITLE:
                logger.warning(
                    "the forkserver has not imported the engine: workers start slowly, and "
                    "outlive it if it is killed (its error is on stderr)"
                )

    def stop(self) -> None:
        """End the forkserver for good, and workers that have not ended yet."""
        with self._starting:
            self._has_ended = True
            self._end()

    def _is_alive(self) -> bool:
        if self._forkserver_pid is None:
            return False
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self._forkserver_pid, options) is None
        except ChildProcessError:  # somebody else has waited for it
            return False

    def _end(self) -> None:
        """End the process, and remove what it leaves here."""
        if self._forkserver_pid is None:
            return
        if self._is_alive():
            os.kill(self._forkserver_pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._forkserver_pid, 0)
        os.close(self._forkserver_alive_fd)
        with suppress(OSError):  # whoever tidies /tmp may have removed it
            os.unlink(self._forkserver_address)
        self._forkserver_pid = self._forkserver_alive_fd = self._forkserver_address = None

    def _variables(self, path: list[str]) -> dict[str, str]:
        """Return the environment in which it starts; `padim_dist_boot` makes it that of workers."""
        boot = {
            "PYTHONPATH": str(_BOOT),
            "PYTHONSAFEPATH": "1",
            # PyArrow's jemalloc would start a thread.
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        }
        handed = {
            "path": path,
            "environment": {name: self.environment.get(name) for name in boot},
            "title": _TITLE,
        }
        return self.environment | boot | {"PADIM_DIST_BOOT": json.dumps(handed)}


@contextmanager
def _boot_in_path() -> Iterator[None]:
    """Have the folder of `padim_dist_boot` in the search path of this process.

    A forkserver takes it over before its first import since Python 3.12.8 and 3.13.1. Before those
    it is PYTHONPATH that counts. At the end of the path, since other threads may go through it.
    """
    sys.path.append(str(_BOOT))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(_BOOT))


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
