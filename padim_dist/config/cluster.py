"""Section ``cluster``: where the work runs; it does not change results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from padim_dist.config.base import Section


class AdaptiveConfig(Section):
    """Limits of a cluster that scales with the waiting work."""

    minimum: int = Field(1, ge=1)
    """Least number of workers."""
    maximum: int = Field(ge=1)
    """Largest number of workers."""

    @model_validator(mode="after")
    def _in_order(self) -> AdaptiveConfig:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is less than minimum {self.minimum}")
        return self


class TlsConfig(Section):
    """PEM files for TLS in Dask: scheduler, workers and client trust the same authority."""

    ca: str
    """Certificate of the authority."""
    cert: str
    """Certificate of the client."""
    key: str
    """Private key of the certificate."""


class KubernetesConfig(Section):
    """A DaskCluster of the Dask operator; see infra/kubernetes."""

    name: str = "padim-dist"
    """Name of the DaskCluster."""
    namespace: str = "padim-dist"
    """Namespace of the DaskCluster."""


class ClusterConfig(Section):
    """Where the work runs."""

    kind: Literal["local", "cuda", "address", "kubernetes"] = "local"
    """``local``: processes on this machine; ``cuda``: on each GPU of this machine;
    ``address``: an existing Dask scheduler; ``kubernetes``: an existing DaskCluster."""
    address: str | None = None
    """Address of the scheduler, for kind ``address``."""
    kubernetes: KubernetesConfig | None = None
    """``{name, namespace}`` of the DaskCluster, for kind ``kubernetes``."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Worker processes; auto: as many as the cores (divided by threads) and the memory allow."""
    workers_per_gpu: int = Field(1, ge=1)
    """Worker processes on each GPU, for kind ``cuda``: several fill it better, if its memory and
    the cores of the machine allow."""
    adaptive: AdaptiveConfig | None = None
    """``{minimum, maximum}``: the number of workers follows the work, instead of ``workers``; for
    kinds ``local`` and ``kubernetes``."""
    idle_timeout: float | None = Field(None, ge=60)
    """Seconds without work after which a cluster started by a command ends, with the command if
    it hangs; for kinds ``local`` and ``cuda``."""
    tls: TlsConfig | None = None
    """Encrypts all connections of Dask; each needs a certificate."""
    threads: int = Field(1, ge=1)
    """Threads of the trunk in each worker."""
    readers: int = Field(2, ge=1)
    """Threads that decode ahead in each worker."""
    requests: int = Field(16, ge=1)
    """Simultaneous requests for images in each worker."""
    memory: Literal["auto"] | str = "auto"
    """Memory limit of a local worker, e.g. ``8GiB``; auto: an equal share of the machine."""

    @model_validator(mode="after")
    def _goes_together(self) -> ClusterConfig:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("kind 'address' and a value for 'address' go together; set both")
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError(
                "kind 'kubernetes' and a section 'kubernetes: {name, namespace}' go together; "
                "set both"
            )
        if self.adaptive and (self.kind not in ("local", "kubernetes") or self.workers != "auto"):
            raise ValueError(
                "'adaptive' is for kinds 'local' and 'kubernetes', without 'workers'; scale other "
                "clusters from outside, at any time"
            )
        if self.workers_per_gpu > 1 and self.kind != "cuda":
            raise ValueError(
                f"'workers_per_gpu' is for kind 'cuda', not {self.kind!r}; start more workers there"
            )
        if self.idle_timeout and self.kind not in ("local", "cuda"):
            raise ValueError(
                f"'idle_timeout' is for kinds 'local' and 'cuda', not {self.kind!r}; set it at "
                "that cluster ('dask scheduler --idle-timeout', or the minimum of a DaskAutoscaler)"
            )
        if self.tls and self.kind == "kubernetes":
            raise ValueError(
                "'tls' is not for kind 'kubernetes': dask-kubernetes connects without TLS; protect "
                "the scheduler with network policies (infra/kubernetes), or use kind 'address'"
            )
        return self

    @property
    def place(self) -> str:
        """Place of the scheduler, for messages."""
        if self.kubernetes:
            return f"DaskCluster {self.kubernetes.name} in namespace {self.kubernetes.namespace}"
        return self.address or "this machine"

    @property
    def most_workers(self) -> int | None:
        """Largest number of workers of a cluster that scales; None for others."""
        return self.adaptive.maximum if self.adaptive else None
