"""Doctor: check everything that a fit and a score need, and say what to do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from padim_dist.api.pipeline.index import cut_rows, list_archive
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.engine import projection
from padim_dist.engine.cluster.local import (
    check_kind,
    is_own,
    open_client,
    settle,
    worker_count,
    worker_memory,
)
from padim_dist.engine.cluster.remote import describe, open_to_all
from padim_dist.engine.fit import deal_parts
from padim_dist.errors import PadimDistError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.store.manifests import Shard, images_by_group
from padim_dist.store.weights import State

_GIB = 2**30
_REMEDIES = {
    "archive": "correct section archive",
    "model": "correct section model",
    "weights": "correct model.weights",
    "workspace": "choose a workspace that can be written",
    "needs": "correct what was found above; or as the message says",
    "cluster": "correct section cluster",
}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check : str
        What was looked at.
    verdict : str
        ``"right"``; ``"doubtful"``: works, but look at it; ``"wrong"``: will fail.
    found, remedy : str
        What is there, and what to do about it.
    """

    check: str
    verdict: Literal["right", "doubtful", "wrong"]
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class DoctorResult:
    """All findings."""

    findings: list[Finding]


class _Examination:
    """The checks; what several of them look at is made once."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def spec(self) -> EmbeddingSpec:
        return plans.plan_embedding(self.config)

    @cached_property
    def state(self) -> State:
        return plans.load_state(self.config)

    @cached_property
    def listing(self) -> tuple[list[Shard], dict[str, int]]:
        with list_archive(self.config) as spool:
            shards = [Shard(**fields) for fields, _ in cut_rows(spool.sorted(), self.config)]
        return shards, dict(spool.ignored)

    def archive(self) -> Iterator[Finding]:
        shards, ignored = self.listing
        images = sum(shard.images for shard in shards)
        groups = images_by_group(shards)
        left_alone = ", ".join(f"{n} {what}" for what, n in ignored.items()) or "nothing"
        yield Finding(
            "archive",
            "right",
            f"{images} images in {len(groups)} groups and {len(shards)} shards; left alone: "
            f"{left_alone}",
        )
        empty = [group for group, counts in groups.items() if not counts["train"]]
        if empty:
            shown = ", ".join(sorted(map(repr, empty))[:8])
            yield Finding(
                "normal images",
                "wrong" if len(empty) == len(groups) else "doubtful",
                f"none in {len(empty)} groups: {shown}",
                "they are left out of the model; check archive.train, archive.layout and "
                "archive.group",
            )
        lost = sum(shard.images for shard in shards if shard.group is None)
        if lost:
            yield Finding(
                "groups",
                "doubtful",
                f"{lost} images match no group",
                "they become rows 'unreadable'; check archive.group",
            )

    def model(self) -> Iterator[Finding]:
        shape = self.spec.shape
        grids = ", ".join(f"{h}x{w}" for h, w in shape.grids)
        channels = " + ".join(map(str, shape.channels))
        backbone = self.spec.trunk.backbone
        yield Finding("model", "right", f"{backbone}, {channels} channels on grids {grids}")
        groups = images_by_group(self.listing[0])
        normal = {group: counts["train"] for group, counts in groups.items()}
        few = [f"{group!r} {n}" for group, n in normal.items() if 0 < n <= shape.depth]
        if few:
            yield Finding(
                "number of images",
                "doubtful",
                f"no more normal images than channels ({shape.depth}): {', '.join(few[:8])}",
                "works, resting on model.epsilon; better: more images, or fewer model.channels",
            )

    def weights(self) -> Iterator[Finding]:
        size = plans.state_bytes(self.state) / 2**20
        found = f"{self.config.model.weights}: {size:.0f} MiB for the trunk"
        if self.config.model.weights == "random":
            yield Finding("weights", "doubtful", found, "good for trying out; use trained ones")
        else:
            yield Finding("weights", "right", found)

    def workspace(self) -> Iterator[Finding]:
        folder = workspace_of(self.config).folder
        probe = f"probe-{uuid.uuid4().hex}"
        folder.put(probe, b"")
        folder.remove(probe)
        yield Finding("workspace", "right", f"{folder.url} can be written")

    def needs(self) -> Iterator[Finding]:
        config, (shards, _) = self.config, self.listing
        parts = deal_parts(shards, config.fit.parts)
        groups = len({part.group for part in parts})
        images = sum(shard.images for shard in shards)
        weights = plans.state_bytes(self.state)
        rest = (weights, config.cluster.readers, config.archive.max_pixels)
        sample = config.fit.sample
        free = plans.free_disk(workspace_of(config).folder)
        for what, need, disk in (
            (
                "fit",
                projection.fit_need(self.spec, *rest, sample),
                projection.fit_disk(self.spec, [part.images for part in parts], groups, sample),
            ),
            (
                "score",
                projection.score_need(self.spec, *rest),
                projection.score_disk(self.spec, images, config.score.heatmaps == "grid"),
            ),
        ):
            cluster = settle(config.cluster, what, need)
            projection.check_disk(what, disk, free, config.workspace)
            own = is_own(cluster)
            workers = f"each of {worker_count(cluster)} workers" if own else "a worker"
            room = "" if free is None else f" of {free / _GIB:.1f} free"
            yield Finding(
                f"needs of {what}",
                "right",
                f"{need} in {workers}; disk at most {disk / _GIB:.2f} GiB{room}",
            )

    def cluster(self) -> Iterator[Finding]:
        cluster = self.config.cluster
        check_kind(cluster)
        if is_own(cluster):
            allowed = worker_memory(cluster) / _GIB
            each = "GPU" if cluster.kind == "cuda" else "local"
            found = f"{worker_count(cluster)} {each} workers with {allowed:.2f} GiB each"
            yield Finding("cluster", "right", found)
        else:
            with open_client(cluster, 1) as client:
                yield Finding("cluster", "right", f"{cluster.place}: {describe(client)}")
        if open_to_all(cluster):
            yield Finding(
                "security",
                "doubtful",
                f"the scheduler at {cluster.place} takes code to run from whoever reaches it",
                "set cluster.tls (and start scheduler and workers with it), or close the network; "
                "infra/kubernetes does so by network policies",
            )


def doctor(config: Config, listener: Listener = ignore) -> DoctorResult:
    """Check archive, model, weights, workspace, memory, disk and cluster.

    Never raises for what it finds: that is a finding.
    """
    examination = _Examination(config)
    findings = [Finding("configuration", "right", f"workspace {config.workspace}")]
    checks = ("archive", "model", "weights", "workspace", "needs", "cluster")
    for done, name in enumerate(checks):
        listener(Progress("doctor", len(checks), done))
        try:
            findings += getattr(examination, name)()
        except PadimDistError as error:
            findings.append(Finding(name, "wrong", str(error), _REMEDIES[name]))
        except Exception as error:  # whatever a store or a cluster answers is a finding
            found = f"{type(error).__name__}: {error}"
            findings.append(Finding(name, "wrong", found, _REMEDIES[name]))
    listener(Progress("doctor", len(checks), len(checks)))
    return DoctorResult(findings)
