"""Workers on the GPUs of this machine: one or several for each, which see no other."""

from __future__ import annotations

import os
from typing import Any

import torch
from distributed import Nanny, Scheduler, SpecCluster

from padim_dist.config import ClusterConfig
from padim_dist.errors import ConfigError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def card_workers(config: ClusterConfig) -> int:
    """Return the number of workers of a cluster of kind ``cuda``.

    Raises
    ------
    ConfigError
        If PyTorch sees no GPU, or the settings ask for more workers than the GPUs take.
    """
    gpus = torch.cuda.device_count()  # asks the driver; makes no context (PyTorch, NVML)
    if not gpus:
        raise ConfigError(
            "cluster.kind 'cuda' needs a GPU, and PyTorch sees none; look at nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or set cluster.kind to local"
        )
    most = gpus * config.workers_per_gpu
    if config.workers == "auto":
        return most
    if config.workers > most:
        raise ConfigError(
            f"cluster.workers is {config.workers}, but PyTorch sees {gpus} GPU{'s' * (gpus > 1)}, "
            f"with cluster.workers_per_gpu {config.workers_per_gpu}. Raise workers_per_gpu, or "
            "leave cluster.workers out"
        )
    return config.workers


def cards() -> list[str]:
    """Return the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them.

    Examples
    --------
    >>> cards()                                                # doctest: +SKIP
    ['0', '1']
    """
    count = torch.cuda.device_count()
    given = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return given[:count] if given else [str(number) for number in range(count)]


def card_cluster(
    workers: int, scheduler: dict[str, Any], worker: dict[str, Any], **options: Any
) -> SpecCluster:
    """Start a cluster whose workers take turns at the GPUs.

    A worker that is restarted has the same GPU.

    Parameters
    ----------
    workers : int
        Number of workers.
    scheduler, worker : dict
        Options of `distributed.Scheduler` and of `distributed.Nanny`.
    **options
        Options of `distributed.SpecCluster`.
    """
    seen = cards()
    specs = {
        number: {"cls": Nanny, "options": {**worker, "env": {_VISIBLE: seen[number % len(seen)]}}}
        for number in range(workers)
    }
    return SpecCluster(workers=specs, scheduler={"cls": Scheduler, "options": scheduler}, **options)
