"""The calibration: what a model's own normal images score when they are left out.

One task a group, over the samples that its parts kept. Nothing is embedded again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from distributed import Client
from torch import Tensor

from padim_dist.core.calibration import PIXEL_ALPHAS, Calibration, left_out
from padim_dist.core.drift import Noise, measure_noise
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.core.gaussian import squared_lengths
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.engine.jobs import Done, WithoutImages
from padim_dist.engine.run import Reporter, run_tasks
from padim_dist.engine.worker import device, get_gaussian, set_up
from padim_dist.events import Listener
from padim_dist.storage import Folder
from padim_dist.store.calibrations import KeptCalibration, write_calibration
from padim_dist.store.samples import SampleReader
from padim_dist.store.workspace import Workspace

LEAST_IMAGES = 3
"""Of a group, to calibrate it: one left out, and a covariance of the others."""
_BATCH = 64
_IN_NOISE = 64
"""Images whose products tell how far chance moves a mean."""
_PIXEL_STEP = 4
"""Every so many rows and columns a pixel of the anomaly map is looked at: it is smooth."""


@dataclass(frozen=True)
class CalibrateJob(WithoutImages):
    """What a worker needs to calibrate a group.

    Attributes
    ----------
    parts : tuple of (str, int)
        Paths of the moments that were merged, and the images in each.
    without : frozenset of str
        Ids of images that were taken out of them again.
    count : int
        Images in the model.
    """

    workspace: Folder
    model_id: str
    group: str
    parts: tuple[tuple[str, int], ...]
    without: frozenset[str]
    embedding: EmbeddingSpec
    sigma: float
    count: int
    threads: int

    @property
    def name(self) -> str:
        """The group."""
        return f"calibration of {self.group}"


def calibrate_groups(
    client: Client,
    jobs: Sequence[CalibrateJob],
    listener: Listener,
    most_workers: int | None = None,
) -> None:
    """Calibrate groups on the workers."""
    stage = "fit: calibrate"
    for _ in run_tasks(client, calibrate_group, jobs, stage, len(jobs), listener, most_workers):
        pass


def calibrate_group(job: CalibrateJob) -> Done:
    """Task: score a group's kept images as if each were left out; write that, then a receipt."""
    workspace = Workspace(job.workspace)
    receipt = workspace.calibrated(job.model_id, job.group)
    if job.workspace.exists(receipt):
        return Done()
    Reporter()
    set_up(job.threads)
    readers = [SampleReader(job.workspace, path, job.embedding.shape) for path, _ in job.parts]
    chosen = choose_images(
        [[i for i, name in enumerate(r.image_ids) if name not in job.without] for r in readers],
        [images for _, images in job.parts],
    )
    images = sum(map(len, chosen))
    if images:
        kept = _calibrate(job, readers, chosen)
        write_calibration(job.workspace, workspace.model(job.model_id), job.group, kept)
    job.workspace.create_json(receipt, {"images": images})
    return Done()


def choose_images(samples: Sequence[Sequence[int]], images: Sequence[int]) -> list[list[int]]:
    """Thin the samples of parts, so that each has the same share of its part's images.

    Parts keep equally many images at most, so large parts have lower shares: without
    this, what few images came from would count for more than the rest.

    Examples
    --------
    >>> choose_images([[0, 1, 2, 3], [0, 1, 2, 3]], [8, 4])
    [[0, 1, 2, 3], [1, 3]]
    """
    shares = [Fraction(len(s), n) for s, n in zip(samples, images, strict=True) if s and n]
    if not shares:
        return [[] for _ in samples]
    share = min(shares)
    thinned = []
    for sample, n in zip(samples, images, strict=True):
        wanted = min(max(1, round(share * n)), len(sample)) if sample else 0
        thinned.append([sample[(i + 1) * len(sample) // wanted - 1] for i in range(wanted)])
    return thinned


@torch.inference_mode()
def _calibrate(
    job: CalibrateJob, readers: Sequence[SampleReader], chosen: Sequence[Sequence[int]]
) -> KeptCalibration:
    spec = job.embedding
    gaussian = get_gaussian(job.workspace, job.model_id, job.group, spec)
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, job.sigma, device())
    total = sum(map(len, chosen))
    kept = gaussian.kept.repeat_interleave(spec.shape.ratio(0, spec.shape.levels - 1))[:, None]
    usual = torch.zeros(spec.shape.positions[0], dtype=torch.float64, device=device())
    scores: list[float] = []
    pixels: list[Tensor] = []
    whitened: list[list[Tensor]] = []
    scales: list[Tensor] = []
    done = 0
    for levels in _batches(readers, chosen):
        z = gaussian.whitened([level.to(device()) for level in levels])
        squares = squared_lengths(z)
        others = left_out(squares, job.count, kept)
        usual += others.sum(dim=1, dtype=torch.float64)
        maps = anomaly_map.full(spec.shape.unnest(others.sqrt()))
        scores += maps.flatten(1).amax(dim=1).tolist()
        pixels.append(maps[:, ::_PIXEL_STEP, ::_PIXEL_STEP].flatten().cpu())
        n = squares.shape[1]
        step = -(-total // _IN_NOISE)
        some = [i for i in range(n) if (done + i) % step == 0]
        if some:
            whitened.append([level[..., some] for level in z])
            ratio = others[:, some] / squares[:, some].clamp(min=torch.finfo().tiny)
            scales.append(ratio.sqrt())
        done += n
    noise = None
    if total > 1:
        together = [torch.cat(levels, dim=-1) for levels in zip(*whitened, strict=True)]
        overlap = measure_noise(together, torch.cat(scales, dim=-1))
        noise = Noise(energy=float(usual.mean()) / total, overlap=overlap)
    highest = np.quantile(torch.cat(pixels).numpy(), 1 - PIXEL_ALPHAS)
    return KeptCalibration(
        Calibration(np.sort(np.asarray(scores, np.float64)), highest.astype(np.float64)),
        usual=(usual / total).float().cpu().numpy(),
        noise=noise,
    )


def _batches(
    readers: Sequence[SampleReader], chosen: Sequence[Sequence[int]]
) -> Iterator[list[Tensor]]:
    for reader, places in zip(readers, chosen, strict=True):
        for start in range(0, len(places), _BATCH):
            yield reader.read(places[start : start + _BATCH])
