"""A round of dropping suspects: which images of a group to drop, from its leave-one-out results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from padim_dist.core.calibration import PIXEL_ALPHAS, Calibration, choose_dropped, suspect_threshold
from padim_dist.engine.normals import FittedPart
from padim_dist.engine.task import Done, GroupJob, Report
from padim_dist.store.calibrations import read_left_out
from padim_dist.store.normals import Dropped
from padim_dist.store.records import find_receipt


@dataclass(frozen=True)
class Round(Done):
    """Outcome of a round: the images that it drops from a group."""

    dropped: Sequence[Dropped] = ()


@dataclass(frozen=True)
class RoundJob(GroupJob):
    """What a worker needs to choose the images that a round drops from a group.

    Attributes
    ----------
    parts : tuple of FittedPart
        The group's parts with their leave-one-out results of this round.
    number, most : int
        Number of the round, from 1, and how many images it may drop.
    """

    parts: tuple[FittedPart, ...]
    number: int
    most: int

    @property
    def name(self) -> str:
        """Name of the task: its group."""
        return f"suspects of {self.group}"

    @property
    def receipt(self) -> str:
        """Path of the round's receipt."""
        return self.workspace.drop_round(self.model_id, self.state, self.group, self.number)

    def find(self) -> Round | None:
        """Return the outcome if it is known already, else None."""
        return find_receipt(self.workspace.folder, self.receipt, Round)


def choose_suspects(job: RoundJob, _report: Report) -> Round:
    """Task: choose the suspects to drop; write the receipt of the round."""
    found: list[tuple[str, str, float]] = []
    for part in job.parts:
        if part.left_out:
            scores = read_left_out(job.workspace, part.left_out).by_image()
            found += [(part.job.snapshot, image, score) for image, score in scores.items()]
    values = np.array([score for _, _, score in found])
    places = choose_dropped(values, job.most)
    threshold = suspect_threshold(values)
    calibration = Calibration(np.sort(values), np.zeros(len(PIXEL_ALPHAS)))
    p_values, _ = calibration.p_values(values[places], values[places])
    dropped = [
        Dropped(*found[place], float(p), threshold, job.number)
        for place, p in zip(places, p_values, strict=True)
    ]
    made = Round(dropped=dropped)
    job.workspace.folder.create_json(job.receipt, asdict(made))
    return made
