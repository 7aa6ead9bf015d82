"""The package of the extra `kubernetes`, imported when needed."""

from __future__ import annotations

from typing import Any

from padim_dist.errors import ConfigError


def kube_cluster() -> Any:
    """Return the cluster class of dask-kubernetes, whose clusters the Dask operator runs."""
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise ConfigError(
            "cluster.kind 'kubernetes' needs dask-kubernetes, which cannot be imported "
            f"({error}). Install it: pip install 'padim-dist[kubernetes]'"
        ) from error
    return KubeCluster
