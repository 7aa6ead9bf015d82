"""Packages of the extras `cuda` and `kubernetes`, imported when needed."""

from __future__ import annotations

from typing import Any

from padim_dist.errors import ConfigError

_MISSING = (
    "cluster.kind '{0}' needs {1}, which cannot be imported ({2}). Install it: pip install "
    "'padim-dist[{0}]'"
)


def cuda_cluster() -> Any:
    """Return the cluster class of dask-cuda: one worker per GPU, which sees only that GPU."""
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise ConfigError(_MISSING.format("cuda", "dask-cuda", error)) from error
    return LocalCUDACluster


def kube_cluster() -> Any:
    """Return the cluster class of dask-kubernetes, whose clusters the Dask operator runs."""
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise ConfigError(_MISSING.format("kubernetes", "dask-kubernetes", error)) from error
    return KubeCluster
