"""What is flagged: from an alarm budget to an alpha, and from a run's p-values to its flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from padim_dist.config import ScoreConfig
from padim_dist.core.calibration import benjamini_hochberg
from padim_dist.store.run_tables import read_images
from padim_dist.store.workspace import Workspace

_MILLION = 1_000_000
_HIGHEST = 0.5
"""A budget that flags every other normal image is as good as none."""


@dataclass(frozen=True)
class Alarms:
    """How a run decides what is flagged.

    Attributes
    ----------
    rule : str
        ``"alpha"``, ``"per_million"``, ``"a_run"`` or ``"fdr"``.
    asked : float
        The setting of that name.
    alpha : float
        Images are candidates whose p-value is at most this; under all rules but ``fdr`` they
        are flagged.
    """

    rule: str
    asked: float
    alpha: float


def plan_alarms(config: ScoreConfig, images: int) -> Alarms:
    """The rule of a configuration for a run of so many images.

    Examples
    --------
    >>> plan_alarms(ScoreConfig(per_million=50), 10_000)
    Alarms(rule='per_million', asked=50.0, alpha=5e-05)
    >>> plan_alarms(ScoreConfig(a_run=20), 10_000).alpha
    0.002
    """
    if config.per_million is not None:
        return Alarms("per_million", config.per_million, config.per_million / _MILLION)
    if config.a_run is not None:
        return Alarms("a_run", config.a_run, min(config.a_run / max(images, 1), _HIGHEST))
    if config.fdr is not None:
        return Alarms("fdr", config.fdr, config.fdr)
    return Alarms("alpha", config.alpha, config.alpha)


def find_cutoff(workspace: Workspace, run_id: str, rate: float) -> tuple[float, int]:
    """Highest p-value of a run to flag at a false-discovery rate, and the images flagged."""
    columns = [
        table["p_value"].drop_null().to_numpy()
        for table in read_images(workspace, run_id, ["p_value"])
    ]
    p_values = np.concatenate(columns) if columns else np.empty(0)
    cutoff = benjamini_hochberg(p_values, rate)
    return cutoff, int((p_values <= cutoff).sum())
