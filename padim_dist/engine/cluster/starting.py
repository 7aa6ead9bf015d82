"""How the processes of local workers start: as forks, or by Python's ``spawn``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
import torch

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster.environment import kept, of_libraries, of_workers
from padim_dist.engine.cluster.forkserver import METHOD, is_possible, opened

logger = logging.getLogger("padim_dist")
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
_METHOD = "distributed.worker.multiprocessing-method"
_LATER = "distributed.nanny.environ"


@contextmanager
def starting(config: ClusterConfig) -> Iterator[dict[str, Any]]:
    """Yield settings of Dask that start the workers of one local cluster, and restart them.

    Workers are forks where that is possible (`forkserver.is_possible`). The environment of this
    process is restored at the end of the block: Dask changes it for workers that are not.
    """
    found: dict[str, Any] = dask.config.get(_ENVIRONMENT)
    given = {name: str(value) for name, value in found.items() if value is not None}
    with ExitStack() as stack:
        stack.enter_context(kept(given))
        environment = of_workers(config.threads, given)
        if is_possible(config, environment) and not torch.cuda.is_available():
            try:
                more = stack.enter_context(opened(environment, given))
            except OSError as error:  # e.g. the path of the folder for temporary files is too long
                logger.info("workers start one by one, without a forkserver: %s", error)
            else:
                yield {
                    _METHOD: METHOD,
                    # The forkserver has these, and Dask would set them in this process, too.
                    _ENVIRONMENT: {},
                    _LATER: {**dask.config.get(_LATER), **more},
                }
                return
        settings: dict[str, Any] = {_ENVIRONMENT: {**given, **of_libraries(config.threads)}}
        if dask.config.get(_METHOD) == METHOD:  # of a cluster in another thread
            settings[_METHOD] = "spawn"
        yield settings
