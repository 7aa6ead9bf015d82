"""What the tests of forkservers need: a machine whose workers are forks, no other forkserver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster import forkserver
from padim_dist.engine.cluster.environment import of_workers

needs_forks = pytest.mark.skipif(
    not forkserver.is_possible(ClusterConfig(), of_workers(1)),
    reason="SKIPPED PART: workers are not forks here",
)


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """Hide the forkservers of clusters that other tests of this process have open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "_open", [])
        patch.setattr(forkserver, "_ready", [])
        yield
