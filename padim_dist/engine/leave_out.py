"""Leave-one-out scores of a model's own normal images.

A map over parts, which uses their samples: nothing is embedded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from padim_dist.core.calibration import LEAST_IMAGES, decisive_pixels, keep_highest, left_out
from padim_dist.core.gaussian import Gaussian, squared_lengths
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.memory.amounts import IN_NOISE, left_out_together
from padim_dist.engine.task import Done, GroupJob, Report
from padim_dist.engine.worker import device, get_gaussian
from padim_dist.store.calibrations import LeftOut, write_left_out
from padim_dist.store.normals import Members, find_group_receipt
from padim_dist.store.parts.sample import SampleReader
from padim_dist.store.runs.rows import ScoreRow

_PIXEL_STEP = 4
"""Step in rows and columns at which an anomaly map is sampled: it is smooth."""


@dataclass(frozen=True)
class LeaveOutJob(GroupJob):
    """What a worker needs to leave out the sampled images of a part.

    Attributes
    ----------
    made : str
        Random, the same in all jobs of a fit; see `get_gaussian`.
    part, number : str, int
        Path of the part's moments, which its sample is stored next to; its number in the group.
    places : tuple of int
        Positions of the chosen images in the sample.
    first, total, count : int
        Images chosen in the parts before it and in all parts, and images in the model.
    without : frozenset of str
        Ids of images that were taken out of the model again.
    """

    made: str
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
        """Name of the task: number of the part, and its group."""
        return f"sample {self.number} of {self.group}"

    @property
    def receipt(self) -> str:
        """Path of the results."""
        part = PurePosixPath(self.part).stem
        return self.workspace.left_out(self.model_id, self.state, self.group, part)

    @property
    def is_calibrated(self) -> bool:
        """Whether the group is calibrated: then the results are not needed any more."""
        found = find_group_receipt(self.workspace, self.model_id, self.group)
        return found is not None and found.is_of(self.state)

    def find(self) -> Done | None:
        """Return `Done` if the results exist or are not needed any more, else None."""
        return Done() if self.is_calibrated else super().find()


def choose_images(sampled: Sequence[int], images: Sequence[int]) -> list[tuple[int, ...]]:
    """Thin the samples of parts, so that each has the same share of its part's images.

    All parts keep the same number of images at most, so large parts keep lower shares. Without
    thinning, images of small parts would have more weight.

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


def leave_out_members(
    members: Members, gaussian: Gaussian, squares: Sequence[Tensor], rows: Sequence[ScoreRow]
) -> npt.NDArray[np.float64]:
    """Judge the images of a batch that are in the model by a model of all the others.

    Parameters
    ----------
    members, gaussian : Members, Gaussian
        The images in the model of a group, and its Gaussian.
    squares : sequence of Tensor
        Squared distances (G_a, N) of a batch, of each level with all coarser ones, as of
        `nested_squares`; those of members are replaced in place.
    rows : sequence of ScoreRow
        Rows of the images; `left_out` is set.

    Returns
    -------
    array
        Score of each row in the calibration sample; NaN for all that are not in it, float64.
    """
    found, own = members.find([row.image_id for row in rows], [row.etag for row in rows])
    if members.count < LEAST_IMAGES:
        found[:] = False
    for row, is_member in zip(rows, found.tolist(), strict=True):
        row.left_out = is_member
    if found.any():
        places = torch.from_numpy(np.flatnonzero(found)).to(squares[0].device)
        for level, level_squares in enumerate(squares):
            kept = gaussian.kept_at(level)
            others = left_out(level_squares[:, places], members.count, kept)
            level_squares[:, places] = others
    return np.where(found, own, np.nan)


@torch.inference_mode()
def leave_out_part(job: LeaveOutJob, _report: Report) -> Done:
    """Task: write the leave-one-out results of a part's sampled images."""
    spec = job.embedding
    reader = SampleReader(job.workspace, job.part, spec.shape)
    places = [i for i in job.places if reader.image_ids[i] not in job.without]
    gaussian = get_gaussian(job.workspace, job.model_id, job.made, job.group, spec)
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, job.sigma, device())
    kept = gaussian.kept_at(0)
    usual = torch.zeros(spec.shape.positions[0], dtype=torch.float64, device=device())
    scores: list[float] = []
    pixels: list[Tensor] = []
    whitened: list[list[Tensor]] = []
    scales: list[Tensor] = []
    ranks = {place: job.first + i for i, place in enumerate(job.places)}
    step, together = -(-job.total // IN_NOISE), left_out_together(spec)
    for start in range(0, len(places), together):
        some = places[start : start + together]
        z = gaussian.whitened([level.to(device()) for level in reader.read(some)])
        squares = squared_lengths(z)
        others = left_out(squares, job.count, kept)
        usual += others.sum(dim=1, dtype=torch.float64)
        maps = anomaly_map.full(spec.shape.unnest(others.sqrt()), spec.shape.mask)
        scores += find_peaks(maps)[0].tolist()
        seen = maps[:, ::_PIXEL_STEP, ::_PIXEL_STEP].flatten().cpu()
        pixels.append(seen if spec.shape.mask is None else seen[~seen.isnan()])
        few = [i for i, place in enumerate(some) if ranks[place] % step == 0]
        whitened.append([level[..., few].cpu() for level in z])
        ratio = others[:, few] / squares[:, few].clamp(min=torch.finfo().tiny)
        scales.append(ratio.sqrt().cpu())
    values = torch.cat(pixels).numpy() if pixels else np.empty(0, np.float32)
    decisive = decisive_pixels(len(values) // max(len(places), 1) * job.total)
    part = LeftOut(
        image_ids=np.asarray([reader.image_ids[i] for i in places], np.bytes_),
        scores=np.asarray(scores, np.float64),
        highest=keep_highest(values, decisive),
        pixels=len(values),
        decisive=decisive,
        squares=usual.cpu().numpy(),
        whitened=[torch.cat(levels, dim=-1).numpy() for levels in zip(*whitened, strict=True)],
        scales=torch.cat(scales, dim=-1).numpy() if scales else np.empty(0, np.float32),
    )
    if not job.is_calibrated:  # else a copy of the task was faster
        write_left_out(job.workspace, job.receipt, part)
    return Done()
