"""What the forkserver imports for all workers, before it forks the first one."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from importlib import import_module

MODULES = (
    "distributed.nanny",
    "pandas",  # Arrow imports it when it makes its first array
    "scipy.ndimage",
    "scipy.special",
    "padim_dist.engine.calibrate",
    "padim_dist.engine.drift",
    "padim_dist.engine.factorise",
    "padim_dist.engine.fit",
    "padim_dist.engine.leave_out",
    "padim_dist.engine.score",
)
"""Imports of these must start no thread and touch no GPU: a fork copies neither."""
_PR_SET_PDEATHSIG = 1


def run() -> None:
    """Import what workers import, and prepare this process, the forkserver, for forks."""
    end_forks_with_this_process()  # also if an import fails
    gc.disable()  # it looks for cycles again and again, in a fifth of the time
    try:
        for name in MODULES:
            import_module(name)
        gc.collect()
        gc.freeze()  # a collection in a worker does not touch, and so copy, what is here
    finally:
        gc.enable()


def end_forks_with_this_process() -> None:
    """Let processes that this one forks end when it ends.

    A nanny hears of its worker from the forkserver. If that is killed, nannies take their workers
    for dead and start others; those of before must not be at work any more.
    """
    libc = ctypes.CDLL(None)
    server = os.getpid()
    forking = [0]

    def before() -> None:
        forking[0] = os.getpid()

    def after() -> None:
        if forking[0] != server:
            return  # a worker forks
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(255)

    os.register_at_fork(before=before, after_in_child=after)
