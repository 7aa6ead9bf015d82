"""The section of where it is computed; nothing here changes a result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from padim_dist.config.base import Section


class AdaptiveConfig(Section):
    """How far a cluster scales itself with the work that waits."""

    minimum: int = Field(1, ge=1)
    """Workers that are always there."""
    maximum: int = Field(ge=1)
    """Workers at most."""

    @model_validator(mode="after")
    def _in_order(self) -> AdaptiveConfig:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is less than minimum {self.minimum}")
        return self


class TlsConfig(Section):
    """Files in PEM form for Dask's TLS: scheduler, workers and client trust the same authority."""

    ca: str
    """Certificate of the authority."""
    cert: str
    """Certificate of this side."""
    key: str
    """Its private key."""


class KubernetesConfig(Section):
    """A DaskCluster that the Dask operator runs: infra/kubernetes makes one."""

    name: str = "padim-dist"
    """Of the DaskCluster."""
    namespace: str = "padim-dist"
    """Where it is."""


class ClusterConfig(Section):
    """Where the work is done."""

    kind: Literal["local", "cuda", "address", "kubernetes"] = "local"
    """``local``: processes on this machine; ``cuda``: one for each GPU of this machine;
    ``address``: an existing Dask scheduler; ``kubernetes``: an existing DaskCluster."""
    address: str | None = None
    """Of the scheduler, for kind ``address``."""
    kubernetes: KubernetesConfig | None = None
    """``{name, namespace}`` of the DaskCluster, for kind ``kubernetes``."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Worker processes; auto: as many as cores (divided by threads) and memory hold."""
    adaptive: AdaptiveConfig | None = None
    """``{minimum, maximum}``: workers come and go with the work, instead of ``workers``; for kinds
    ``local`` and ``kubernetes``."""
    idle_timeout: float | None = Field(None, ge=60)
    """Seconds without work until a cluster that a command started ends, and the command with it,
    should that hang; for kinds ``local`` and ``cuda``."""
    tls: TlsConfig | None = None
    """Encrypts all of Dask's connections, and lets nobody in without a certificate."""
    threads: int = Field(1, ge=1)
    """Threads of the trunk in each worker."""
    readers: int = Field(2, ge=1)
    """Threads that decode ahead in each worker."""
    requests: int = Field(16, ge=1)
    """Requests for images that are under way at the same time in each worker."""
    memory: Literal["auto"] | str = "auto"
    """Memory limit of a local worker, e.g. ``8GiB``; auto: its share of the machine's."""

    @model_validator(mode="after")
    def _goes_together(self) -> ClusterConfig:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("kind 'address' and a value for 'address' go together")
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError(
                "kind 'kubernetes' and a section 'kubernetes: {name, namespace}' go together"
            )
        if self.adaptive and (self.kind not in ("local", "kubernetes") or self.workers != "auto"):
            raise ValueError(
                "'adaptive' is for kinds 'local' and 'kubernetes', without 'workers'; another "
                "cluster is scaled by whoever runs it, and workers may come and go at any time"
            )
        if self.idle_timeout and self.kind not in ("local", "cuda"):
            raise ValueError(
                f"'idle_timeout' ends what a command started, and a cluster of kind {self.kind!r} "
                "is somebody else's: set it there ('dask scheduler --idle-timeout', or the minimum "
                "of a DaskAutoscaler)"
            )
        if self.tls and self.kind == "kubernetes":
            raise ValueError(
                "'tls' is not for kind 'kubernetes', since dask-kubernetes connects without; "
                "network policies close the scheduler (infra/kubernetes), or use kind 'address'"
            )
        return self

    @property
    def place(self) -> str:
        """Where its scheduler is, for people."""
        if self.kubernetes:
            return f"DaskCluster {self.kubernetes.name} in namespace {self.kubernetes.namespace}"
        return self.address or "this machine"

    @property
    def most_workers(self) -> int | None:
        """Workers that the cluster may scale itself to; None where it does not."""
        return self.adaptive.maximum if self.adaptive else None
