"""The second map of a fit: merge the moments of all parts and factorise them, band by band.

Parts are merged in a fixed order, so the model is the same bit for bit for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

from padim_dist.core.covariance import Covariance, Shrinkage
from padim_dist.core.gaussian import factorise
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.quality import condition_numbers, regularised_share
from padim_dist.engine.task import Done, GroupJob, Report
from padim_dist.engine.worker import device
from padim_dist.store.gaussians import FactorisedBand, write_band
from padim_dist.store.parts.moments import Band, read_band
from padim_dist.telemetry.measures import timed

_BAND_BYTES = 64 * 2**20
_LEAST_BANDS = 4


@dataclass(frozen=True)
class FactoriseJob(GroupJob):
    """What a worker needs to make a band of a group's Gaussian.

    `parts` are paths of the moments to merge, `taken_out` of those to subtract afterwards. So many
    embeddings are added `together` to moments: see `added_together`.
    """

    parts: tuple[str, ...]
    taken_out: tuple[str, ...]
    shape: PyramidShape
    together: int
    epsilon: float
    shrinkage: Shrinkage
    number: int
    band: Band

    @property
    def name(self) -> str:
        """Name of the task: number of the band, and its group."""
        return f"band {self.number} of {self.group}"

    @property
    def receipt(self) -> str:
        """Path of the receipt of the band."""
        return self.workspace.band(self.model_id, self.state, self.group, self.number)


def band_cells(shape: PyramidShape) -> int:
    """Return the coarsest cells in a band: about 64 MiB of moments, and at least four bands."""
    cell_bytes = 8 * shape.numbers / shape.cells
    return max(1, min(int(_BAND_BYTES / cell_bytes), -(-shape.cells // _LEAST_BANDS)))


def bands(shape: PyramidShape) -> list[Band]:
    """Return the bounds of the bands."""
    step = band_cells(shape)
    return [(at, min(at + step, shape.cells)) for at in range(0, shape.cells, step)]


def factorise_band(job: FactoriseJob, _report: Report) -> Done:
    """Task: merge a band of all parts, factorise it, write it, then its receipt."""
    first, *others = job.parts
    moments = _read_band(job, first)
    for part in others:
        moments.merge(_read_band(job, part))
    for part in job.taken_out:
        moments.subtract(_read_band(job, part))
    covariance = Covariance.of(moments, job.epsilon, job.shrinkage)
    gaussian = factorise(moments, covariance)
    quality = {
        "diagonal": covariance.diagonal,
        "regularised": regularised_share(moments, covariance),
        "condition": condition_numbers(moments, covariance),
    }
    made = FactorisedBand(job.band, moments, gaussian, quality)
    with timed("write"):
        write_band(job.workspace, job.model_id, job.group, job.shape, made)
    values = {"cells": list(job.band), "count": moments.count}
    job.workspace.folder.create_json(job.receipt, values)
    return Done()


def _read_band(job: FactoriseJob, part: str) -> Moments:
    return read_band(job.workspace, part, job.shape, job.band, job.together, device())
