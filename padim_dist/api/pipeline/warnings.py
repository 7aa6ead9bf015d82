"""Warnings about a model after its fit."""

from __future__ import annotations

from collections.abc import Mapping

from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.core.calibration import LEAST_FOR_TAIL

_NAMED = 8


def fit_warnings(
    counts: Mapping[str, int], plan: FitPlan, failures: Mapping[str, int], images: int
) -> list[str]:
    """What to know about a model before it is promoted."""
    found = []
    depth = plan.embedding.shape.depth
    few = {group: n for group, n in counts.items() if n <= depth}
    if few:
        found.append(
            f"{len(few)} of {len(counts)} groups have no more images than the embedding has "
            f"channels ({depth}): {_shown(few)}. Their covariances rest on model.epsilon"
        )
    short = {group: n for group, n in counts.items() if n < LEAST_FOR_TAIL}
    if short:
        found.append(
            f"{len(short)} of {len(counts)} groups have fewer than {LEAST_FOR_TAIL} images: "
            f"{_shown(short)}. Their p-values end at one in the number of images, and lower "
            "values of score.alpha flag nothing"
        )
    lost = sorted({job.part.group for job in plan.jobs} - set(counts))
    if lost:
        found.append(
            f"no normal image could be read of {len(lost)} groups "
            f"({', '.join(map(repr, lost[:_NAMED]))}): they are left out of the model"
        )
    if failures:
        kinds = ", ".join(f"{n} {status}" for status, n in sorted(failures.items()))
        found.append(
            f"{sum(failures.values())} of {images} normal images are not in the model "
            f"({kinds}); the receipts of the parts list them"
        )
    return found


def _shown(groups: Mapping[str, int]) -> str:
    return ", ".join(f"{group!r} {n}" for group, n in list(groups.items())[:_NAMED])
