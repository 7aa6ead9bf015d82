"""Findings about the cluster, for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from padim_dist.api.arithmetic import arithmetic_findings
from padim_dist.api.findings import Finding
from padim_dist.config import Config
from padim_dist.engine.cluster import local
from padim_dist.engine.cluster.processors import instructions, instructions_of_workers
from padim_dist.engine.cluster.remote import describe, open_to_all
from padim_dist.pages.words import counted

_GIB = 2**30


def cluster_findings(config: Config) -> Iterator[Finding]:
    """Yield whether the cluster can be reached or started, what suits it, and who may use it.

    Raises
    ------
    PadimDistError
        If it cannot.
    """
    cluster, model = config.cluster, config.model
    local.check_kind(cluster)
    if local.is_own(cluster):
        allowed = local.worker_memory(cluster) / _GIB
        each = "GPU worker" if cluster.kind == "cuda" else "local worker"
        found = f"{counted(local.worker_count(cluster), each)} with {allowed:.2f} GiB each"
        yield Finding("cluster", "ok", found)
        yield from arithmetic_findings(model, [instructions()])
    else:
        with local.open_client(cluster, 1) as client:
            yield Finding("cluster", "ok", f"{cluster.place}: {describe(client)}")
            if model.engine != "torch":
                yield from arithmetic_findings(model, instructions_of_workers(client))
    if open_to_all(cluster):
        yield Finding(
            "security",
            "warning",
            f"the scheduler at {cluster.place} runs code from anyone who can connect to it",
            "set cluster.tls (and start scheduler and workers with it), or restrict the "
            "network, as the network policies of infra/kubernetes do",
        )
