"""Clusters that run already: a Dask scheduler by address, a DaskCluster in Kubernetes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from dask.utils import format_bytes
from distributed import Client

from padim_dist.config import ClusterConfig, KubernetesConfig
from padim_dist.engine.cluster.extras import kube_cluster
from padim_dist.engine.cluster.tls import security_of
from padim_dist.errors import RunError

PATIENCE = 30.0
"""Seconds to wait for a scheduler to answer and to have a worker."""
_NODE_PATIENCE = 900.0
"""Seconds to wait for the first worker if a node may have to start for it."""


@contextmanager
def open_address(config: ClusterConfig) -> Iterator[Client]:
    """Open a client of the scheduler at an address.

    Raises
    ------
    RunError
        If it does not answer or has no worker.
    """
    address = str(config.address)
    try:
        client = Client(address, timeout=PATIENCE, security=security_of(config.tls))
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise RunError(
            f"no Dask scheduler answers at cluster.address {address} ({error}); start one with "
            "'dask scheduler' or correct the address"
        ) from error
    with client:
        advice = f"start one with 'dask worker {address} --nthreads 1'"
        _wait_for_worker(client, PATIENCE, address, advice)
        yield client


@contextmanager
def open_kubernetes(config: ClusterConfig) -> Iterator[Client]:
    """Open a client of a DaskCluster that the Dask operator runs.

    With `adaptive` it sets the limits of the cluster's autoscaler, and the minimum to 0 at its end.

    Raises
    ------
    ConfigError
        If dask-kubernetes is not installed.
    RunError
        If there are no credentials, no answer, no such DaskCluster, or no worker.
    """
    assert config.kubernetes is not None
    found = config.kubernetes
    with _connect(found, config.place) as cluster, Client(cluster, timeout=PATIENCE) as client:
        scales = config.adaptive
        if scales:
            cluster.adapt(minimum=scales.minimum, maximum=scales.maximum)
        try:
            patience = _NODE_PATIENCE if scales else PATIENCE
            advice = f"look at 'kubectl --namespace {found.namespace} get pods'"
            _wait_for_worker(client, patience, config.place, advice)
            yield client
        finally:
            if scales:
                cluster.adapt(minimum=0, maximum=scales.maximum)


def _connect(found: KubernetesConfig, what: str) -> Any:
    connect = kube_cluster().from_name
    try:
        # It connects to an existing cluster, and does not delete it.
        return connect(
            found.name, namespace=found.namespace, quiet=True, resource_timeout=int(PATIENCE)
        )
    except Exception as error:  # of httpx, kr8s, asyncio or Dask
        raise RunError(
            f"{what} cannot be reached ({type(error).__name__}: {error}); try 'kubectl "
            f"--namespace {found.namespace} get daskcluster {found.name}' with the same "
            "kubeconfig, or apply infra/kubernetes"
        ) from error


def _wait_for_worker(client: Client, patience: float, what: str, advice: str) -> None:
    try:
        client.wait_for_workers(1, timeout=patience)
    except TimeoutError as error:
        found = f"the scheduler of {what} has no worker after {patience:.0f} s"
        raise RunError(f"{found}; {advice}") from error


def open_to_all(config: ClusterConfig) -> bool:
    """Return whether anybody who reaches the scheduler can run code: no TLS, not loopback."""
    if config.kind == "kubernetes":
        return True
    if config.address is None or config.tls is not None:
        return False
    host = urlsplit(config.address).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def describe(client: Client) -> str:
    """Return the number of workers of a cluster and their memory, for messages."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    memory = min((worker["memory_limit"] or 0) for worker in workers)
    return f"{len(workers)} worker{'s' * (len(workers) != 1)} with {format_bytes(memory)} each"
