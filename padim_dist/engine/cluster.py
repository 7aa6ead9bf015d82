"""The cluster that does the work: processes of this machine, or an existing scheduler."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import torch
from dask.system import CPU_COUNT
from dask.utils import format_bytes, parse_bytes
from distributed import Adaptive, Client, LocalCluster
from distributed.core import Status
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from padim_dist.config import ClusterConfig, TlsConfig
from padim_dist.engine.projection import USABLE_SHARE, Need, check_memory
from padim_dist.errors import ConfigError, RunError

logger = logging.getLogger("padim_dist")
_PATIENCE = 30.0
"""Seconds to wait for a scheduler to answer and to have a worker."""
_SETTINGS = {
    # A worker that imports torch or decodes a huge image is late with its heartbeat, not dead.
    "distributed.scheduler.worker-ttl": "15 minutes",
    # The engine finds out itself whether a task kills its workers: engine/run.py.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.no-workers-timeout": "5 minutes",
    "distributed.comm.timeouts.connect": f"{_PATIENCE:.0f} s",
    # A nanny that starts its worker anew is left alone, also where that takes its time.
    "distributed.deploy.lost-worker-timeout": "15 minutes",
}
_MOST_STARTS = 3


# One arena that keeps its memory: the trunk's large buffers are used again instead of being
# mapped and cleared for every batch, which Dask's own MALLOC_TRIM_THRESHOLD_ makes it do.
# Measured on 2 cores, ResNet-18: 40 images/s a worker instead of 29, at the same peak.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(512 * 2**20),
}


def worker_count(config: ClusterConfig) -> int:
    """Number of local workers, at most: a setting, or cores divided by threads; one for a GPU."""
    if config.adaptive:
        return config.adaptive.maximum
    if config.workers != "auto":
        return config.workers
    if torch.cuda.is_available():
        return 1
    return max(1, CPU_COUNT // config.threads)


def worker_memory(config: ClusterConfig) -> int:
    """Bytes that each local worker may use."""
    if config.memory == "auto":
        return int(MEMORY_LIMIT * 0.95 / worker_count(config))
    try:
        return int(parse_bytes(config.memory))
    except ValueError as error:
        raise ConfigError(
            f"cluster.memory {config.memory!r} is not a size; write e.g. 8GiB"
        ) from error


def settle(config: ClusterConfig, what: str, need: Need) -> ClusterConfig:
    """Fix the number of local workers for a need of memory.

    Where the number is ``auto``, as many as the machine's memory and cores hold.

    Raises
    ------
    ResourceError
        If not even one fits, or the number that was set does not.
    """
    if config.kind != "local":
        return config
    if config.workers == "auto" and not config.adaptive and config.memory == "auto":
        whole = config.model_copy(update={"workers": 1})
        fitting = max(1, int(worker_memory(whole) * USABLE_SHARE // need.total))
        config = config.model_copy(update={"workers": min(fitting, worker_count(config))})
    check_memory(what, need, worker_memory(config), worker_count(config))
    return config


@contextmanager
def open_client(config: ClusterConfig, most_tasks: int) -> Iterator[Client]:
    """Client of a running cluster with at least one worker.

    Parameters
    ----------
    config : ClusterConfig
        Which cluster.
    most_tasks : int
        No more local workers are started than there are tasks.

    Raises
    ------
    RunError
        If the scheduler does not answer or has no worker.
    """
    with dask.config.set(_SETTINGS):
        if config.kind == "address":
            with _existing(config) as client:
                yield client
            return
        most = min(worker_count(config), max(most_tasks, 1))
        least = min(config.adaptive.minimum, most) if config.adaptive else most
        with (
            dask.config.set({"distributed.nanny.pre-spawn-environ": _environment(config)}),
            _local(config, least) as cluster,
            Client(cluster) as client,
        ):
            # Also at a fixed size: this is what replaces a worker whose nanny gave up.
            cluster.adapt(_Replacing, minimum=least, maximum=most, interval="2s", wait_count=15)
            yield client


def _local(config: ClusterConfig, workers: int) -> LocalCluster:
    """A new cluster of this machine; tried again where a worker dies while it starts."""
    for start in range(_MOST_STARTS):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=worker_memory(config),
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                security=_security(config.tls),
                protocol="tls://" if config.tls else "tcp://",
            )
        except RuntimeError as error:
            cause = error
            logger.warning("a worker died at its start (%d of %d)", start + 1, _MOST_STARTS)
    raise RunError(
        f"no worker process could be started ({cause}); look at the memory of the machine, and "
        "whether something stops its processes"
    ) from cause


class _Replacing(Adaptive):
    """Scales a local cluster, and replaces workers whose nanny gave up.

    A nanny gives up when its worker dies once more while it is started anew. Dask goes on
    counting it as one of the workers that were asked for.
    """

    async def target(self) -> int:
        """Number of workers that there should be."""
        cluster: Any = self.cluster
        given_up = [
            name
            for name, nanny in cluster.workers.items()
            if nanny.status in (Status.closed, Status.failed)
        ]
        for name in given_up:
            del cluster.workers[name]
        if cluster.worker_spec.keys() - cluster.workers.keys():
            cluster.scale(len(cluster.worker_spec))  # starts those that are not there
        wanted: int = await super().target()  # type: ignore[no-untyped-call]
        return wanted


def _environment(config: ClusterConfig) -> dict[str, str]:
    """Environment of a local worker from its first instruction on."""
    threads = str(config.threads)
    return {
        **dask.config.get("distributed.nanny.pre-spawn-environ"),
        **_ALLOCATOR,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }


def _security(tls: TlsConfig | None) -> Security | None:
    if tls is None:
        return None
    for path in (tls.ca, tls.cert, tls.key):
        if not Path(path).is_file():
            raise ConfigError(f"cluster.tls: there is no file {path}")
    roles = ("scheduler", "worker", "client")
    return Security(
        require_encryption=True,
        tls_ca_file=tls.ca,
        **{f"tls_{role}_cert": tls.cert for role in roles},
        **{f"tls_{role}_key": tls.key for role in roles},
    )


def open_to_all(config: ClusterConfig) -> bool:
    """Whether whoever reaches the scheduler may run code on it: no TLS, and not loopback."""
    if config.address is None or config.tls is not None:
        return False
    host = urlsplit(config.address).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


@contextmanager
def _existing(config: ClusterConfig) -> Iterator[Client]:
    address = str(config.address)
    try:
        client = Client(address, timeout=_PATIENCE, security=_security(config.tls))
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise RunError(
            f"no Dask scheduler answers at cluster.address {address} ({error}); start one with "
            "'dask scheduler' or correct the address"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise RunError(
                f"the scheduler at {address} has no worker after {_PATIENCE:.0f} s; start one with "
                f"'dask worker {address} --nthreads 1'"
            ) from error
        yield client


def describe(client: Client) -> str:
    """Workers and memory of a cluster, for people."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    memory = min((worker["memory_limit"] or 0) for worker in workers)
    return f"{len(workers)} workers with {format_bytes(memory)} each"
