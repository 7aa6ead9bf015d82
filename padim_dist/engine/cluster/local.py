"""Clusters of local processes or GPUs, and the client of any cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import dask
import torch
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Adaptive, Client, LocalCluster, SpecCluster
from distributed.core import Status
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster.cards import card_cluster, card_workers
from padim_dist.engine.cluster.extras import kube_cluster
from padim_dist.engine.cluster.guard import check_guard, safe_path
from padim_dist.engine.cluster.remote import PATIENCE, open_address, open_kubernetes
from padim_dist.engine.cluster.starting import starting
from padim_dist.engine.cluster.tls import own_security, security_of
from padim_dist.engine.memory.projection import USABLE_SHARE, Need, check_memory
from padim_dist.errors import ConfigError, RunError

logger = logging.getLogger("padim_dist")
_SETTINGS = {
    # A worker that imports torch or decodes a huge image is late with its heartbeat, not dead.
    "distributed.scheduler.worker-ttl": "15 minutes",
    # The engine finds out itself whether a task kills its workers: engine/stage.py.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.no-workers-timeout": "5 minutes",
    "distributed.comm.timeouts.connect": f"{PATIENCE:.0f} s",
    # The profiler samples stacks 100 times a second: 2 % of a worker's processor.
    "distributed.worker.profile.enabled": False,
    # How often a process measures the lag of its event loop: 20 ms cost 2 % of two processors.
    "distributed.admin.tick.interval": "500 ms",
    # A nanny may take this long to restart its worker.
    "distributed.deploy.lost-worker-timeout": "15 minutes",
}
_NO_PAGES: dict[str, list[str]] = {
    # Dask's pages have no password, and show arguments of tasks, call stacks and logs.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
_MOST_STARTS = 3
_SILENT = logging.CRITICAL


def is_own(config: ClusterConfig) -> bool:
    """Return whether the workers are processes of this machine, started for one command."""
    return config.kind in ("local", "cuda")


def check_kind(config: ClusterConfig) -> None:
    """Check that this machine has what the kind of cluster needs.

    Raises
    ------
    ConfigError
        If there is no GPU, there are fewer GPUs than workers, or an extra is not installed.
    """
    if config.kind == "cuda":
        worker_count(config)
    elif config.kind == "kubernetes":
        kube_cluster()


def worker_count(config: ClusterConfig) -> int:
    """Return the most local workers: the setting, those of the GPUs, or cores / threads.

    Raises
    ------
    ConfigError
        If kind ``cuda`` finds no GPU, or fewer GPUs than workers.
    """
    if config.kind != "cuda":
        if config.adaptive:
            return config.adaptive.maximum
        if config.workers != "auto":
            return config.workers
        return 1 if torch.cuda.is_available() else max(1, CPU_COUNT // config.threads)
    return card_workers(config)


def worker_memory(config: ClusterConfig) -> int:
    """Return the bytes that each local worker may use."""
    if config.memory == "auto":
        return int(MEMORY_LIMIT * 0.95 / worker_count(config))
    try:
        return int(parse_bytes(config.memory))
    except ValueError as error:
        found = f"cluster.memory {config.memory!r} is not a size"
        raise ConfigError(f"{found}; write e.g. 8GiB") from error


def settle(config: ClusterConfig, what: str, need: Need) -> ClusterConfig:
    """Return the configuration with a number of local workers that the memory allows.

    For ``auto`` it is the largest number that the machine's memory and cores allow.

    Raises
    ------
    ConfigError
        As `check_kind`.
    ResourceError
        If not even one worker fits, or the number in the settings does not.
    """
    check_kind(config)
    if not is_own(config):
        return config
    if config.workers == "auto" and not config.adaptive and config.memory == "auto":
        whole = config.model_copy(update={"workers": 1})
        fitting = max(1, int(worker_memory(whole) * USABLE_SHARE // need.total))
        config = config.model_copy(update={"workers": min(fitting, worker_count(config))})
    check_memory(what, need, worker_memory(config), worker_count(config))
    return config


@contextmanager
def open_client(config: ClusterConfig, most_tasks: int) -> Iterator[Client]:
    """Open a client of a cluster that has at least one worker, and at most one per task if local.

    Raises
    ------
    ConfigError
        If something that the kind needs is missing: a package, a GPU, a file.
    RunError
        If the scheduler does not answer or has no worker.
    """
    with dask.config.set(_SETTINGS):
        if not is_own(config):
            with (open_address if config.kind == "address" else open_kubernetes)(config) as client:
                yield client
            return
        check_guard()
        security = security_of(config.tls) or own_security()
        with dask.config.set(_NO_PAGES), open_local(config, most_tasks, security) as client:
            yield client


@contextmanager
def open_local(
    config: ClusterConfig, most_tasks: int, security: Security | None
) -> Iterator[Client]:
    """Open a client of a new local cluster.

    Parameters
    ----------
    config, most_tasks : ClusterConfig, int
        As for `open_client`.
    security : Security or None
        TLS settings; None: anybody on this machine can run code in the cluster.
    """
    most = min(worker_count(config), max(most_tasks, 1))
    least = min(config.adaptive.minimum, most) if config.adaptive else most
    with (
        starting(config) as settings,
        dask.config.set(_SETTINGS | settings),
        # Of mode 0700. Dask's own folder may belong to another user of this machine, and Python
        # imports modules from it.
        TemporaryDirectory(prefix="padim-dist-workers-", ignore_cleanup_errors=True) as folder,
        _local(config, least, security, folder) as cluster,
        Client(cluster) as client,
    ):
        # Also for a fixed size: it replaces workers whose nanny gave up.
        cluster.adapt(_Replacing, minimum=least, maximum=most, interval="2s", wait_count=15)
        yield client


def _local(
    config: ClusterConfig, workers: int, security: Security | None, folder: str
) -> SpecCluster:
    """Start a local cluster; try again if a worker dies at its start."""
    for start in range(_MOST_STARTS):
        try:
            with safe_path():
                return _start(config, workers, security, folder)
        except RuntimeError as error:
            cause = error
            logger.warning("a worker died at its start (attempt %d of %d)", start + 1, _MOST_STARTS)
    raise RunError(
        f"no worker process could be started ({cause}); check the memory of the machine, and "
        "whether something stops its processes"
    ) from cause


def _start(
    config: ClusterConfig, workers: int, security: Security | None, folder: str
) -> SpecCluster:
    # The cluster of a driver that hangs ends; when the driver goes on, it fails.
    scheduler = {"idle_timeout": config.idle_timeout, "dashboard": False}
    worker = {"memory_limit": worker_memory(config), "local_directory": folder}
    shared: dict[str, Any] = {
        "security": security,
        "protocol": "tls://" if security else "tcp://",
    }
    if config.kind == "cuda":
        shared["host"] = "127.0.0.1"
        return card_cluster(
            workers,
            {**scheduler, **shared, "port": 0},
            {**worker, **shared, "nthreads": 1, "dashboard": False, "silence_logs": _SILENT},
            security=security,
            silence_logs=_SILENT,
        )
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=_SILENT,
        scheduler_kwargs=scheduler,
        **worker,
        **shared,
    )


class _Replacing(Adaptive):
    """Scales a local cluster, and replaces workers whose nanny gave up.

    A nanny gives up if its worker dies again while it restarts. Dask still counts that worker.
    """

    async def target(self) -> int:
        """Return the wanted number of workers."""
        cluster: Any = self.cluster
        for name, nanny in list(cluster.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                del cluster.workers[name]
        if cluster.worker_spec.keys() - cluster.workers.keys():
            cluster.scale(len(cluster.worker_spec))  # starts the missing ones
        wanted: int = await super().target()  # type: ignore[no-untyped-call]
        return wanted
