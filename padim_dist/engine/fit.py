"""The first map of a fit: embed the parts.

Parts depend only on the manifest and the settings, not on the number of workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor

from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.core.align.motion import Motion
from padim_dist.core.moments import Moments
from padim_dist.core.pictures.forms import Form, count_forms
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.status import FITTED
from padim_dist.engine.factorise import band_cells
from padim_dist.engine.memory.amounts import added_together
from padim_dist.engine.part_receipt import PartReceipt
from padim_dist.engine.parts import Part, has_moments
from padim_dist.engine.source import ShardSource, none_can_be_reached
from padim_dist.engine.task import Report
from padim_dist.engine.worker import batches, device, get_embedder
from padim_dist.errors import RunError
from padim_dist.redaction import redacted
from padim_dist.store.parts.moments import write_moments
from padim_dist.store.parts.receipt import Failure, KeptPart
from padim_dist.store.parts.sample import SampleReader, SampleWriter
from padim_dist.store.records import find_receipt
from padim_dist.store.workspace import Workspace, content_id
from padim_dist.telemetry.measures import count_images, timed


@dataclass(frozen=True)
class EmbedJob:
    """What a worker needs to embed a part of the manifest `snapshot`.

    Attributes
    ----------
    sample : int
        Largest number of images whose embeddings are kept.
    images : tuple of str
        Ids of the only images of the shards to embed; empty: all.
    kept_in : tuple of str
        Receipts of parts that these images were embedded with: images whose embeddings were kept
        there are not read again.
    again : bool
        Whether the part has a receipt, with images that could not be reached, and is embedded again
        if one can be now.
    """

    workspace: Workspace
    snapshot: str
    part: Part
    embedding: EmbeddingSpec
    sample: int
    reading: Reading
    images: tuple[str, ...] = ()
    kept_in: tuple[str, ...] = ()
    again: bool = False

    @property
    def name(self) -> str:
        """Name of the task: number of the part, and its group."""
        return f"part {self.part.part} of {self.part.group}"

    @property
    def size(self) -> int:
        """Images to embed."""
        return len(self.images) or self.part.images

    @property
    def sources(self) -> list[ShardSource]:
        """The part's shards."""
        return [
            ShardSource(self.workspace, self.snapshot, shard, self.reading)
            for shard in self.part.shards
        ]

    def rows(self) -> Iterable[ImageRow | RefusedRow]:
        """Return the rows to embed, in order."""
        rows = (row for source in self.sources for row in source.rows())
        wanted = set(self.images)
        return (row for row in rows if _id(row) in wanted) if wanted else rows

    def find(self) -> PartReceipt | None:
        """Return the receipt of the part; None if it is not embedded yet, or not settled."""
        kept = self.kept()
        return None if kept and kept.unsettled and self.again else kept

    def kept(self) -> PartReceipt | None:
        """Return the receipt of the part, settled or not."""
        kept = find_receipt(self.workspace.folder, self.receipt, KeptPart)
        return PartReceipt.of(kept) if kept else None

    @cached_property
    def receipt(self) -> str:
        """Path of the part's receipt; it depends on the rows and on how they are embedded."""
        way = {
            "embedding": self.embedding.to_dict(),
            "max_pixels": self.reading.reader.max_pixels,
            "sample": self.sample,
        }
        part, digest = self.part, self.part.digest
        if self.images:
            some = {"images": list(self.images), "kept_in": list(self.kept_in)}
            digest = content_id({"part": digest, **some})
        return self.workspace.part(content_id(way), part.group, digest)


def find_receipts(jobs: Iterable[EmbedJob]) -> dict[str, PartReceipt]:
    """Return the receipts of finished parts by path, with one listing per group."""
    found: dict[str, PartReceipt] = {}
    listed: dict[str, set[str]] = {}
    for job in jobs:
        folder, _, name = job.receipt.rpartition("/")
        if folder not in listed:
            listed[folder] = set(job.workspace.folder.list(folder))
        if name in listed[folder] and (receipt := job.find()):
            found[job.receipt] = receipt
    return found


def is_sampled(place: int, images: int, sample: int) -> bool:
    """Return whether the image at a place of a part is in its evenly spread sample.

    Examples
    --------
    >>> [place for place in range(10) if is_sampled(place, 10, 4)]
    [2, 4, 7, 9]
    """
    wanted = min(sample, images)
    return (place + 1) * wanted // images > place * wanted // images


def add_kept(job: EmbedJob, moments: Moments, known: set[str]) -> list[Failure]:
    """Add the images of a job whose embeddings were kept to moments.

    Return those that could not be embedded then. `known` receives the ids of both.
    """
    wanted, failures = set(job.images), []
    for path in job.kept_in:
        kept = find_receipt(job.workspace.folder, path, KeptPart)
        if kept is None:
            continue
        failures += [failure for failure in kept.failures if failure.image_id in wanted]
        reader = SampleReader(job.workspace, kept.moments, job.embedding.shape)
        places = [i for i, image_id in enumerate(reader.image_ids) if image_id in wanted]
        for first in range(0, len(places), job.embedding.batch):
            some = places[first : first + job.embedding.batch]
            moments.update([level.to(device()) for level in reader.read(some)])
        known.update(reader.image_ids[i] for i in places)
    known.update(failure.image_id for failure in failures)
    return failures


def _id(row: ImageRow | RefusedRow) -> str:
    return row.row.image_id if isinstance(row, RefusedRow) else row.image_id


def embed_part(job: EmbedJob, report: Report) -> PartReceipt:
    """Task: embed the images of a part; write its sample and its moments, then its receipt."""
    kept = job.kept() if job.again else None
    if kept and none_can_be_reached(job.rows(), kept.unreached, job.reading):
        return kept
    # A unique name: a straggler never overwrites the moments of its copy.
    path = f"{job.receipt.removesuffix('.json')}-{uuid.uuid4().hex[:8]}.zarr"
    try:
        made = _write_part(job, report, path)
    except BaseException:
        with suppress(Exception):  # of a store that is ill
            job.workspace.folder.remove_tree(path)
        raise
    # Nothing is removed if this fails: the store may have the receipt, and only its answer is lost.
    return _put_receipt(job, made)


def _write_part(job: EmbedJob, report: Report, path: str) -> KeptPart:
    """Embed a part and write all but its receipt, which is returned."""
    shape, cells = job.embedding.shape, band_cells(job.embedding.shape)
    most = 0 if job.kept_in else min(job.sample, job.size)
    sample = SampleWriter(job.workspace, path, shape, most, cells)
    moments = Moments.zeros(shape, device()) if has_moments(shape, job.size, most) else None
    brightest = torch.zeros((), dtype=torch.uint8)
    known: set[str] = set()
    motions: list[Motion | None] = []
    failures = add_kept(job, moments, known) if moments else []
    done, forms = len(known), list[Form | None]()
    waiting: list[list[Tensor]] = []  # embeddings that are not added yet
    together = added_together(job.embedding)
    rows = (row for row in job.rows() if _id(row) not in known)
    for images, pixels in batches(rows, job.reading, job.embedding.batch, False):
        if pixels is not None:
            embedder = get_embedder(job.workspace, job.embedding)
            # A number would make a GPU wait.
            brightest = torch.maximum(brightest.to(pixels.device), pixels.amax())
            with timed("embed"):
                levels = embedder(pixels)
            if moments:
                with timed("measure"):
                    waiting.append(levels)
                    if sum(some[0].shape[-1] for some in waiting) >= together:
                        moments.take(waiting)
            places = [i for i, image in enumerate(images) if image.pixels is not None]
            wanted = [is_sampled(done + i, job.size, most) for i in places]
            chosen = [k for k, is_wanted in enumerate(wanted) if is_wanted]
            with timed("write"):
                sample.add([images[i].row.image_id for i in places], levels, chosen)
        motions += [i.alignment.motion for i in images if i.pixels is not None and i.alignment]
        forms += [image.form for image in images if image.pixels is not None]
        count_images("fit", [FITTED if i.pixels is not None else i.status for i in images])
        done += len(images)
        failures += [
            Failure(i.row.image_id, redacted(i.row.uri), i.status, i.error and redacted(i.error))
            for i in images
            if i.pixels is None
        ]
        report(done, len(failures))
    if moments:
        moments.take(waiting)
    with timed("write"):
        sample.close()
    if not (moments.is_finite if moments else sample.is_finite):
        raise RunError(
            f"{job.name} has embeddings that are not finite: with model.precision "
            f"{job.embedding.precision!r} the trunk overflows. Set it to bfloat16 or float32"
        )
    if moments and moments.count:
        with timed("write"):
            write_moments(job.workspace, path, moments, shape, cells)
    return KeptPart(
        images=done,
        fitted=moments.count if moments else len(sample.image_ids),
        sampled=len(sample.image_ids),
        moments=path,
        failures=failures,
        brightest=int(brightest),
        motions=motions if job.embedding.align else None,
        forms=count_forms(forms),
    )


def _put_receipt(job: EmbedJob, receipt: KeptPart) -> PartReceipt:
    """Write the receipt of a part, unless there is one that holds; return the one that does."""
    path = receipt.moments
    made, folder, values = PartReceipt.of(receipt), job.workspace.folder, asdict(receipt)
    if receipt.motions is None:
        del values["motions"]  # as versions before it wrote
    if not made.fitted:  # no receipt, so that it is tried again next time
        return made
    if job.again and (kept := job.kept()):
        # Images that were read before may be gone: only more images replace a receipt.
        if made.unusable < kept.unusable:
            folder.put_json(job.receipt, values)
            return made
        folder.remove_tree(path)
        return kept
    if not folder.create_json(job.receipt, values):
        # A copy was faster; or the receipt is ours, and the store's first answer was lost.
        kept = job.kept()
        assert kept is not None
        if kept.moments != path:
            folder.remove_tree(path)
        return kept
    return made
