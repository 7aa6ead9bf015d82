"""A model's own normal images, each as a model of all the others would see it.

A map over parts, whose samples are at hand: nothing is embedded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from padim_dist.core.calibration import decisive_pixels, keep_highest, left_out
from padim_dist.core.gaussian import squared_lengths
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.task import Done, Report, WithoutImages
from padim_dist.engine.worker import device, get_gaussian
from padim_dist.store.left_out import LeftOut, write_left_out
from padim_dist.store.samples import SampleReader
from padim_dist.store.workspace import Workspace

_BATCH = 64
_IN_NOISE = 64
"""Images whose products tell how far chance moves a mean."""
_PIXEL_STEP = 4
"""Every so many rows and columns a pixel of the anomaly map is looked at: it is smooth."""


@dataclass(frozen=True)
class LeaveOutJob(WithoutImages):
    """What a worker needs to leave out the sampled images of a part.

    Attributes
    ----------
    part : str
        Path of the part's moments, beside which its sample is.
    number : int
        Of the part, among those of the group.
    places : tuple of int
        Which images of the sample.
    first, total : int
        How many images are chosen of the parts before it, and of all.
    without : frozenset of str
        Ids of images that were taken out of the model again.
    count : int
        Images in the model.
    """

    workspace: Workspace
    model_id: str
    group: str
    part: str
    number: int
    places: tuple[int, ...]
    first: int
    total: int
    without: frozenset[str]
    embedding: EmbeddingSpec
    sigma: float
    count: int

    @property
    def name(self) -> str:
        """Group and number of the part."""
        return f"sample {self.number} of {self.group}"

    @property
    def path(self) -> str:
        """File of what comes of it."""
        part = PurePosixPath(self.part).stem
        return self.workspace.left_out(self.model_id, self.group, part)

    @property
    def is_calibrated(self) -> bool:
        """Whether the group is calibrated, so that nobody needs this any more."""
        receipt = self.workspace.calibrated(self.model_id, self.group)
        return self.workspace.folder.exists(receipt)

    def find(self) -> Done | None:
        """Return an outcome if the results are there, or not needed any more."""
        there = self.workspace.folder.exists(self.path) or self.is_calibrated
        return Done() if there else None


def choose_images(sampled: Sequence[int], images: Sequence[int]) -> list[tuple[int, ...]]:
    """Thin the samples of parts, so that each has the same share of its part's images.

    Parts keep equally many images at most, so large parts have lower shares: without
    this, what few images came from would count for more than the rest.

    Examples
    --------
    >>> choose_images([4, 4], [8, 4])
    [(0, 1, 2, 3), (1, 3)]
    """
    shares = [Fraction(s, n) for s, n in zip(sampled, images, strict=True) if s and n]
    if not shares:
        return [()] * len(sampled)
    share = min(shares)
    thinned = []
    for sample, n in zip(sampled, images, strict=True):
        wanted = min(max(1, round(share * n)), sample)
        thinned.append(tuple((i + 1) * sample // wanted - 1 for i in range(wanted)))
    return thinned


@torch.inference_mode()
def leave_out_part(job: LeaveOutJob, _report: Report) -> Done:
    """Task: score a part's sampled images as if each were left out, and write that."""
    spec = job.embedding
    reader = SampleReader(job.workspace, job.part, spec.shape)
    places = [i for i in job.places if reader.image_ids[i] not in job.without]
    gaussian = get_gaussian(job.workspace, job.model_id, job.group, spec)
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, job.sigma, device())
    kept = gaussian.kept.repeat_interleave(spec.shape.ratio(0, spec.shape.levels - 1))[:, None]
    usual = torch.zeros(spec.shape.positions[0], dtype=torch.float64, device=device())
    scores: list[float] = []
    pixels: list[Tensor] = []
    whitened: list[list[Tensor]] = []
    scales: list[Tensor] = []
    ranks = {place: job.first + i for i, place in enumerate(job.places)}
    step = -(-job.total // _IN_NOISE)
    for start in range(0, len(places), _BATCH):
        some = places[start : start + _BATCH]
        z = gaussian.whitened([level.to(device()) for level in reader.read(some)])
        squares = squared_lengths(z)
        others = left_out(squares, job.count, kept)
        usual += others.sum(dim=1, dtype=torch.float64)
        maps = anomaly_map.full(spec.shape.unnest(others.sqrt()))
        scores += maps.flatten(1).amax(dim=1).tolist()
        pixels.append(maps[:, ::_PIXEL_STEP, ::_PIXEL_STEP].flatten().cpu())
        few = [i for i, place in enumerate(some) if ranks[place] % step == 0]
        whitened.append([level[..., few].cpu() for level in z])
        ratio = others[:, few] / squares[:, few].clamp(min=torch.finfo().tiny)
        scales.append(ratio.sqrt().cpu())
    values = torch.cat(pixels).numpy() if pixels else np.empty(0, np.float32)
    decisive = decisive_pixels(len(values) // max(len(places), 1) * job.total)
    part = LeftOut(
        scores=np.asarray(scores, np.float64),
        highest=keep_highest(values, decisive),
        pixels=len(values),
        decisive=decisive,
        squares=usual.cpu().numpy(),
        whitened=[torch.cat(levels, dim=-1).numpy() for levels in zip(*whitened, strict=True)],
        scales=torch.cat(scales, dim=-1).numpy() if scales else np.empty(0, np.float32),
    )
    if not job.is_calibrated:  # otherwise a twin was faster
        write_left_out(job.workspace, job.path, part)
    return Done()
