"""The first map of a fit: embed the parts.

They depend on the manifest and the settings alone, not on the number of workers.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.core.moments import Moments
from padim_dist.engine.examine import Examination
from padim_dist.engine.factorise import band_cells
from padim_dist.engine.worker import Reading, batches, device, get_embedder, set_up
from padim_dist.engine.workers import Reporter, run_tasks
from padim_dist.errors import RunError
from padim_dist.events import Listener
from padim_dist.storage import Folder
from padim_dist.store.manifests import Shard
from padim_dist.store.moments import write_part
from padim_dist.store.samples import Sample, write_sample
from padim_dist.store.workspace import Workspace, content_id
from padim_dist.telemetry.measures import count_images, timed

MOST_PARTS = 32
_PART_IMAGES = (32, 256)
_LEAST_PARTS = 4


@dataclass(frozen=True)
class Part:
    """Consecutive shards of one group, embedded by one task.

    Attributes
    ----------
    group : str
        The group.
    part : int
        Number within the group.
    shards : tuple of Shard
        Shards of the manifest.
    images : int
        Their rows.
    """

    group: str
    part: int
    shards: tuple[Shard, ...]
    images: int

    @property
    def digest(self) -> str:
        """Content address of its rows: whatever fit or manifest it is part of."""
        return content_id({"group": self.group, "rows": [shard.digest for shard in self.shards]})


@dataclass(frozen=True)
class EmbedJob:
    """What a worker needs to embed a part.

    Attributes
    ----------
    snapshot : str
        The manifest that has the part's shards.
    sample : int
        Images whose embeddings are kept, at most.
    """

    workspace: Folder
    snapshot: str
    part: Part
    embedding: EmbeddingSpec
    sample: int
    reading: Reading
    threads: int

    @property
    def name(self) -> str:
        """Group and number of the part."""
        return f"part {self.part.part} of {self.part.group}"

    @property
    def size(self) -> int:
        """Images of the part."""
        return self.part.images

    @property
    def examinations(self) -> list[Examination]:
        """The part's shards."""
        return [
            Examination(self.workspace, self.snapshot, shard, self.reading.reader)
            for shard in self.part.shards
        ]

    @property
    def receipt(self) -> str:
        """Path of the part's receipt in the workspace: of these rows, embedded in this way."""
        way = {
            "embedding": self.embedding.to_dict(),
            "max_pixels": self.reading.reader.max_pixels,
            "sample": self.sample,
        }
        part = self.part
        return Workspace(self.workspace).part(content_id(way), part.group, part.digest)


@dataclass(frozen=True)
class PartReceipt:
    """What became of the images of a part.

    Attributes
    ----------
    done : int
        Images of the part.
    fitted : int
        Images in the moments.
    sampled : int
        Images of which the embeddings are kept.
    moments : str
        Path of the moments in the workspace.
    failures : mapping of str to int
        Unusable images by status.
    example : str or None
        Reason of the first unusable image.
    """

    done: int
    fitted: int
    sampled: int
    moments: str
    failures: dict[str, int] = field(default_factory=dict)
    example: str | None = None

    @property
    def failed(self) -> int:
        """Unusable images."""
        return self.done - self.fitted


def part_images(images: int) -> int:
    """Images in a part, where nobody says how many parts there are.

    To write a part and to merge it again costs as much as to embed a dozen images. So a part
    has 256, or fewer in a small archive: workers can share it in four parts, of 32 images at
    least.

    Examples
    --------
    >>> part_images(100), part_images(209), part_images(1_000_000)
    (32, 53, 256)
    """
    least, most = _PART_IMAGES
    return min(max(-(-images // _LEAST_PARTS), least), most)


def deal_parts(shards: Sequence[Shard], parts: int | str) -> list[Part]:
    """Deal the normal images' shards of each group to parts, in order.

    Parameters
    ----------
    shards : sequence of Shard
        Of a manifest.
    parts : int or "auto"
        Parts of a group; auto: as many as `part_images` says, and at most `MOST_PARTS`.
    """
    by_group: dict[str, list[Shard]] = {}
    for shard in shards:
        if shard.split == "train" and shard.group is not None:
            by_group.setdefault(shard.group, []).append(shard)
    images = {group: sum(shard.images for shard in own) for group, own in by_group.items()}
    usual = part_images(sum(images.values()))
    dealt = []
    for group, own in by_group.items():
        if isinstance(parts, int):
            count = min(len(own), parts)
        else:
            count = min(len(own), MOST_PARTS, max(1, round(images[group] / usual)))
        for part in range(count):
            mine = own[len(own) * part // count : len(own) * (part + 1) // count]
            dealt.append(make_part(group, part, mine))
    return dealt


def make_part(group: str, part: int, shards: Sequence[Shard]) -> Part:
    """Part of these shards."""
    return Part(group, part, tuple(shards), sum(shard.images for shard in shards))


def find_receipts(jobs: Iterable[EmbedJob]) -> dict[str, PartReceipt]:
    """Receipts of finished parts by their paths: one listing a group."""
    found = {}
    listed: dict[str, set[str]] = {}
    for job in jobs:
        folder, _, name = job.receipt.rpartition("/")
        if folder not in listed:
            listed[folder] = set(job.workspace.list(folder))
        if name in listed[folder]:
            found[job.receipt] = _read_receipt(job)
    return found


def embed_parts(
    client: Client, jobs: Sequence[EmbedJob], listener: Listener, most_workers: int | None = None
) -> dict[str, PartReceipt]:
    """Embed parts on the workers; their receipts by their paths."""
    total = sum(job.size for job in jobs)
    done = run_tasks(client, embed_part, jobs, "fit: embed", total, listener, most_workers)
    return {job.receipt: receipt for job, receipt in done}


def is_sampled(place: int, images: int, sample: int) -> bool:
    """Whether the image at a place of a part is in its sample: they are evenly spread.

    Examples
    --------
    >>> [place for place in range(10) if is_sampled(place, 10, 4)]
    [2, 4, 7, 9]
    """
    wanted = min(sample, images)
    return (place + 1) * wanted // images > place * wanted // images


def embed_part(job: EmbedJob) -> PartReceipt:
    """Task: embed the images of a part and write its moments, then its receipt."""
    if job.workspace.exists(job.receipt):
        return _read_receipt(job)
    set_up(job.threads)
    embedder = get_embedder(job.workspace, job.embedding)
    moments = Moments.zeros(job.embedding.shape, device())
    reporter = Reporter()
    failures: list[dict[str, Any]] = []
    sample = Sample(min(job.sample, job.size))
    rows = (row for examination in job.examinations for row in examination.rows())
    done = 0
    for images, pixels in batches(rows, job.reading, job.embedding.batch, False):
        unusable = [image for image in images if image.pixels is None]
        if pixels is not None:
            with timed("embed"):
                levels = embedder(pixels)
            with timed("measure"):
                moments.update(levels)
            names = [image.row["image_id"] for image in images]
            places = [i for i, image in enumerate(images) if image.pixels is not None]
            wanted = [is_sampled(done + i, job.size, job.sample) for i in places]
            chosen = [k for k, is_wanted in enumerate(wanted) if is_wanted]
            sample.add([names[i] for i in places], levels, chosen)
        count_images("fit", ["fitted" if i.pixels is not None else i.status for i in images])
        done += len(images)
        failures += [
            {
                "image_id": image.row["image_id"],
                "uri": image.row["uri"],
                "status": image.status,
                "error": image.error,
            }
            for image in unusable
        ]
        reporter.report(done, len(failures))
    if not all(bool(mean.isfinite().all()) for mean in moments.mean):
        raise RunError(
            f"{job.name} has embeddings that are no numbers: with model.precision "
            f"{job.embedding.precision!r} the trunk overflows. Set it to bfloat16 or float32"
        )
    shape = job.embedding.shape
    # A name of its own: a straggler never writes over what its twin has a receipt for.
    path = f"{job.receipt.removesuffix('.json')}-{uuid.uuid4().hex[:8]}.zarr"
    with timed("write"):
        write_part(job.workspace, path, moments, shape, band_cells(shape))
        write_sample(job.workspace, path, sample)
    receipt = {
        "images": done,
        "fitted": moments.count,
        "sampled": len(sample.image_ids),
        "moments": path,
        "failures": failures,
    }
    # A part of which nothing could be read is looked at again next time.
    if moments.count and not job.workspace.create_json(job.receipt, receipt):
        # A twin was faster; or it is mine, and the store's answer to the first put was lost.
        kept = _read_receipt(job)
        if kept.moments != path:
            job.workspace.remove_tree(path)
        return kept
    return _receipt(receipt)


def unusable_images(job: EmbedJob) -> set[str]:
    """Ids of the images of a finished part that are not in its moments."""
    receipt = job.workspace.read_json(job.receipt)
    return {failure["image_id"] for failure in receipt["failures"]}


def _read_receipt(job: EmbedJob) -> PartReceipt:
    return _receipt(job.workspace.read_json(job.receipt))


def _receipt(values: dict[str, Any]) -> PartReceipt:
    failures = values["failures"]
    counts = Counter(failure["status"] for failure in failures)
    example = f"{failures[0]['uri']}: {failures[0]['error']}" if failures else None
    return PartReceipt(
        done=values["images"],
        fitted=values["fitted"],
        sampled=values["sampled"],
        moments=values["moments"],
        failures=dict(counts),
        example=example,
    )
