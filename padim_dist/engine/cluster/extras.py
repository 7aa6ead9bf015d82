"""Packages of the extras `cuda` and `kubernetes`, imported when needed."""

from __future__ import annotations

from typing import Any

from padim_dist.errors import ConfigError


def cuda_cluster() -> Any:
    """Return the cluster class of dask-cuda: one worker per GPU, which sees only that GPU."""
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise _missing("cuda", "dask-cuda", error) from error
    return LocalCUDACluster


def kube_cluster() -> Any:
    """Return the cluster class of dask-kubernetes, whose clusters the Dask operator runs."""
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise _missing("kubernetes", "dask-kubernetes", error) from error
    return KubeCluster


def _missing(extra: str, package: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"cluster.kind {extra!r} needs {package}, which cannot be imported ({error}). "
        f"Install it: pip install 'padim-dist[{extra}]'"
    )
