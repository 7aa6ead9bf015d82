"""Environment of local workers: threads of libraries, the allocator, the seed of hashes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock

# One arena that keeps its memory: the trunk's large buffers are used again instead of being
# mapped and cleared for every batch, which Dask's own MALLOC_TRIM_THRESHOLD_ makes it do.
# Measured on 2 cores, ResNet-18: 40 images/s a worker instead of 29, at the same peak.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(512 * 2**20),
}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_HASH_SEED = {"PYTHONHASHSEED": "6640"}
"""The seed of Dask: hashes of strings are the same in all workers."""
_PARENT = "__DASK_PARENT_PID"
"""Dask sets it in the driver, for titles of processes."""
_lock = RLock()


def of_libraries(threads: int) -> dict[str, str]:
    """Return what libraries read when they are loaded: glibc's malloc, OpenMP, BLAS.

    Examples
    --------
    >>> of_libraries(2)["OMP_NUM_THREADS"]
    '2'
    """
    return ALLOCATOR | dict.fromkeys(_THREADS, str(threads))


def of_workers(threads: int, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of local workers: that of this process, and what they add.

    Parameters
    ----------
    threads : int
        Threads of the trunk.
    given : mapping of str to str, optional
        Variables of the settings of Dask (``distributed.nanny.pre-spawn-environ``).

    Returns
    -------
    dict of str to str
        Variables that this process has go first, as with Dask's own workers.
    """
    added = _HASH_SEED | dict(given or {}) | of_libraries(threads)
    with _lock:  # not while a forkserver starts in another thread
        found = added | os.environ
    if found["PYTHONHASHSEED"] == "0":  # as Dask does
        found |= _HASH_SEED
    found.pop(_PARENT, None)
    return found


@contextmanager
def replaced(environment: Mapping[str, str]) -> Iterator[None]:
    """Have another environment in this process during the block.

    glibc, OpenMP and Python read theirs when a process starts: it is set while one is started, and
    restored, since other programs of this process inherit it.
    """
    with _lock:
        names = environment.keys() | os.environ.keys()
        changes = {n: environment.get(n) for n in names if environment.get(n) != os.environ.get(n)}
        before = {name: os.environ.get(name) for name in changes}
        _set(changes)
        try:
            yield
        finally:
            _set(before)


@contextmanager
def kept(given: Iterable[str]) -> Iterator[None]:
    """Restore at the end of the block what Dask changes in the environment of this process.

    `given` has the names of variables of Dask's own settings.
    """
    names = {*given, *of_libraries(1), *_HASH_SEED, _PARENT}
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        _set(before)


def _set(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
