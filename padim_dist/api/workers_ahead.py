"""Workers that start before a command knows what they have to do."""

from __future__ import annotations

from contextlib import AbstractContextManager

from padim_dist.config import Config
from padim_dist.engine.cluster.forkserver import ready


def workers_ahead(config: Config) -> AbstractContextManager[None]:
    """Return a block whose local workers start faster: what they import is imported from now on.

    Nothing else changes. The command line uses it before its own imports.

    Parameters
    ----------
    config : Config
        The configuration of the commands in the block.

    Examples
    --------
    >>> with workers_ahead(config):                            # doctest: +SKIP
    ...     padim.fit(config)
    ...     padim.score(config)
    """
    return ready(config.cluster)
