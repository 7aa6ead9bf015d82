"""Doctor: check what fit and score need, and say what to do."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from padim_dist.api.arithmetic import conversion_findings
from padim_dist.api.cluster_findings import cluster_findings
from padim_dist.api.findings import DoctorResult, Finding
from padim_dist.api.labels.mask_doubts import MaskDoubts
from padim_dist.api.message_findings import message_findings
from padim_dist.api.mixed import sampled_mixtures
from padim_dist.api.pipeline.grey_levels import REMEDY, few_levels, sampled_levels
from padim_dist.api.pipeline.index import cut_rows, list_archive
from padim_dist.api.samples import Samples
from padim_dist.api.seen import seen
from padim_dist.api.settings import plans
from padim_dist.api.settings.image_sizes import sizes_by_group
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_in_workspace,
    as_config,
    workspace_in_archive,
    workspace_of,
)
from padim_dist.api.settings.regions_of_interest import (
    RegionOfInterest,
    check_shapes,
    describe_regions,
    find_regions_of_interest,
)
from padim_dist.api.settings.resolution import beyond_resolution, resolution_text
from padim_dist.archive.reading.masks import check_mask
from padim_dist.config import Config
from padim_dist.core.roi.groups import largest_embedding
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.cluster import local
from padim_dist.engine.memory import projection
from padim_dist.engine.parts import deal_parts
from padim_dist.errors import PadimDistError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.pages.words import counted, listed
from padim_dist.store.manifests import Shard, images_by_group
from padim_dist.store.weights import State

_GIB = 2**30
_THREADS = 4
# The checks, in order.
_REMEDIES = {
    "archive": "correct section archive",
    "model": "correct section model",
    "masks": "make sure that images and masks can be read",
    "images": "correct section archive",
    "kinds": "make sure that images can be read",
    "weights": "correct model.weights",
    "workspace": "choose a workspace that can be written",
    "needs": "correct the errors above, or do what the message says",
    "cluster": "correct section cluster",
    "messages": "correct section notify",
}


class _Checks:
    """The checks; what several of them need is computed once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.samples = Samples()

    @cached_property
    def spec(self) -> EmbeddingSpec:
        return plans.plan_embedding(self.config)

    @cached_property
    def regions(self) -> dict[str, RegionOfInterest]:
        groups = images_by_group(self.listing[0])
        return find_regions_of_interest(self.config, self.spec, groups)

    @cached_property
    def largest(self) -> EmbeddingSpec:
        inside = {group: region.runs for group, region in self.regions.items()}
        return largest_embedding(self.spec, inside, images_by_group(self.listing[0]))

    @cached_property
    def state(self) -> State:
        return plans.load_state(self.config, self.spec.trunk)

    @cached_property
    def listing(self) -> tuple[list[Shard], dict[str, int]]:
        shards: list[Shard] = []
        with list_archive(self.config) as spool:
            for shard, rows in cut_rows(spool.sorted(), self.config):
                shards.append(shard)
                self.samples.add(shard, rows)
        return shards, dict(spool.ignored.most_common())

    def archive(self) -> Iterator[Finding]:
        shards, ignored = self.listing
        images = sum(shard.images for shard in shards)
        groups = images_by_group(shards)
        others = ", ".join(f"{n:,} {what}" for what, n in ignored.items())
        found = f"{counted(images, 'image')} in {counted(len(groups), 'group')}"
        rest = f"other files: {others}" if others else "no other files"
        yield Finding("archive", "ok", f"{found} and {counted(len(shards), 'shard')}; {rest}")
        empty = [group for group, counts in groups.items() if not counts["train"]]
        if empty:
            yield Finding(
                "normal images",
                "error" if len(empty) == len(groups) else "warning",
                f"none in {counted(len(empty), 'group')}: {listed(sorted(map(repr, empty)))}",
                "the model leaves these groups out; check archive.train, archive.layout and "
                "archive.group",
            )
        lost = sum(shard.images for shard in shards if shard.group is None)
        if lost:
            yield Finding(
                "groups",
                "warning",
                f"{counted(lost, 'image')} without a group",
                "their rows get the status 'unreadable'; check archive.group",
            )

    def model(self) -> Iterator[Finding]:
        shape = self.spec.shape
        grids = ", ".join(f"{h}x{w}" for h, w in shape.grids)
        channels = " + ".join(map(str, shape.channels))
        backbone = self.spec.trunk.backbone
        yield Finding("model", "ok", f"{backbone}, {channels} channels on grids {grids}")
        yield from conversion_findings(self.config.model)
        reader = plans.reader_of(self.config, self.spec)
        normal_rows = self.samples.normal.items()
        yield from seen(self.config, {group: (reader, rows) for group, rows in normal_rows})
        if regions := self.regions:
            masked = {group: rows for group, rows in normal_rows if group in regions}
            check_shapes(regions, sizes_by_group(masked, reader, "doctor: sizes", ignore))
            told = describe_regions(regions, len(images_by_group(self.listing[0])))
            yield Finding("region of interest", "ok", told)
        groups = images_by_group(self.listing[0])
        normal = ((group, counts["train"]) for group, counts in groups.items())
        sampled = Counter[str]()
        for part in deal_parts(self.listing[0], self.config.fit.parts):
            sampled[part.group] += min(part.images, self.config.fit.sample)
        if resolved := {group: n for group, n in sampled.items() if n}:
            warning = beyond_resolution(self.config, resolved)
            found = warning or f"the normal images resolve {resolution_text(resolved)}"
            yield Finding("p-values", "warning" if warning else "ok", found)
        few = [f"{group!r} {n}" for group, n in normal if 0 < n <= shape.depth]
        if few:
            yield Finding(
                "number of images",
                "warning",
                f"too few normal images for {shape.depth} channels in "
                f"{counted(len(few), 'group')}: {listed(few)}",
                "works, but distances there depend mainly on model.epsilon; add normal images, or "
                "lower model.channels",
            )

    def masks(self) -> Iterator[Finding]:
        assert self.listing
        if not (rows := self.samples.masked):
            return
        doubts = MaskDoubts()
        reader = plans.reader_of(self.config, self.spec)
        with ThreadPoolExecutor(_THREADS) as pool:
            for mask in pool.map(lambda row: check_mask(reader, row), rows):
                doubts.add(mask)
        found = f"{counted(len(rows), 'mask')} looked at"
        if notes := doubts.notes():
            advice = "correct these masks: 'padim-dist evaluate' uses them as they are"
            yield Finding("masks", "warning", f"{found}; {'; '.join(notes)}", advice)
        else:
            yield Finding("masks", "ok", found)

    def images(self) -> Iterator[Finding]:
        """Read a few normal images."""
        assert self.listing
        normal = self.samples.normal
        rows = [row for kept in normal.values() for row in kept]
        reader = plans.reader_of(self.config, self.spec)
        with ThreadPoolExecutor(_THREADS) as pool:
            sampled = sampled_levels(rows, reader, pool)
        found = f"{counted(len(rows), 'normal image')} of {counted(len(normal), 'group')}"
        if failures := sampled.failures:
            yield Finding(
                "images",
                "warning",
                f"read {sampled.read} of {found}; not {listed(failures, most=3)}",
                "correct these images, or remove them from the archive: the model is fitted "
                "without them",
            )
        if few := few_levels(sampled.brightest):
            yield Finding("images", "warning", f"read {found}: {few}", REMEDY)
        elif rows and not failures:
            yield Finding("images", "ok", f"read {found}")

    def kinds(self) -> Iterator[Finding]:
        """Read the headers of a few images of each group."""
        assert self.listing
        reader = plans.reader_of(self.config, self.spec)
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from sampled_mixtures(self.samples.any, reader, pool)

    def weights(self) -> Iterator[Finding]:
        size = plans.state_bytes(self.state) / 2**20
        weights = self.config.model.weights
        found = f"{weights}: {size:.0f} MiB for the trunk"
        if weights == "random":
            advice = "good for trying out; for real use set trained ones"
            yield Finding("weights", "warning", found, advice)
        else:
            yield Finding("weights", "ok", found)

    def workspace(self) -> Iterator[Finding]:
        folder = workspace_of(self.config).folder
        probe = f"probe-{uuid.uuid4().hex}"
        folder.put(probe, b"")
        folder.remove(probe)
        yield Finding("workspace", "ok", f"{folder.url} is writable")
        if path := workspace_in_archive(self.config):
            found = f"it lies inside the archive ({path}); its files are never images"
            yield Finding("workspace", "ok", found)
        if path := archive_in_workspace(self.config):
            yield Finding(
                "workspace",
                "warning",
                f"the archive lies inside the workspace ({path})",
                "keep them apart: deleting the workspace deletes the images",
            )

    def needs(self) -> Iterator[Finding]:
        config, (shards, _) = self.config, self.listing
        parts = deal_parts(shards, config.fit.parts)
        groups = len({part.group for part in parts})
        images = sum(shard.images for shard in shards)
        weights = plans.state_bytes(self.state)
        rest = (weights, config.cluster.readers, config.archive.max_pixels)
        sample = min(config.fit.sample, max((part.images for part in parts), default=0))
        most = max((shard.images for shard in shards), default=0)
        free = plans.free_disk(workspace_of(config).folder)
        embedded = [part.images for part in parts]
        fit_disk = projection.fit_disk(self.largest, embedded, 0, groups, sample)
        score_disk = projection.score_disk(self.largest, images, config.score.heatmaps == "grid")
        for what, need, disk in (
            ("fit", projection.fit_need(self.largest, *rest, sample), fit_disk),
            ("score", projection.score_need(self.largest, *rest, most), score_disk),
        ):
            cluster = local.settle(config.cluster, what, need)
            projection.check_disk(what, disk, free, config.workspace)
            workers = "a worker"
            if local.is_own(cluster):
                workers = f"each of {counted(local.worker_count(cluster), 'worker')}"
            room = "" if free is None else f" of {free / _GIB:.1f} free"
            found = f"{need} in {workers}; disk at most {disk / _GIB:.2f} GiB{room}"
            yield Finding(f"memory and disk for {what}", "ok", found)

    def cluster(self) -> Iterator[Finding]:
        yield from cluster_findings(self.config)

    def messages(self) -> Iterator[Finding]:
        yield from message_findings(self.config)


def doctor(config: ConfigLike, listener: Listener = ignore) -> DoctorResult:
    """Check archive, model, weights, workspace, memory, disk, cluster and messages.

    Errors of a check become findings; they are not raised.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.

    Raises
    ------
    ConfigError
        If the configuration cannot be read.
    """
    config = as_config(config)
    examined = _Checks(config)
    findings = [Finding("configuration", "ok", f"workspace {config.workspace}")]
    for done, name in enumerate(_REMEDIES):
        listener(Progress("doctor", len(_REMEDIES), done))
        try:
            findings += getattr(examined, name)()
        except Exception as error:  # also any error of a store or a cluster
            kind = "" if isinstance(error, PadimDistError) else f"{type(error).__name__}: "
            findings.append(Finding(name, "error", f"{kind}{error}", _REMEDIES[name]))
    listener(Progress("doctor", len(_REMEDIES), len(_REMEDIES)))
    return DoctorResult(findings)
