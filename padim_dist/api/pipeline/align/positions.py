"""Where the images of a fit lie, and which could not be aligned."""

from __future__ import annotations

from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.api.pipeline.leave_outs import Receipts
from padim_dist.core.align.motion import Motion
from padim_dist.core.align.position import Position
from padim_dist.pages.words import counted, listed
from padim_dist.store.models import ModelInfo

_MANY = 0.05
"""Share of images that could not be aligned from which on a group is worth a warning."""


def positions(plan: FitPlan, receipts: Receipts) -> dict[str, Position]:
    """Return how the images of each group that a fit merges lay against its reference."""
    motions: dict[str, list[Motion | None]] = {}
    for job, is_merged in plan.merged():
        own = receipts[job.receipt].motions
        if is_merged and own:
            motions.setdefault(job.part.group, []).extend(own)
    return {group: Position.of(own) for group, own in motions.items()}


def unaligned_warnings(model: ModelInfo) -> list[str]:
    """Return a warning about groups with many images that could not be aligned."""
    many = {
        group: f"{group!r} {one.images - one.aligned:,} of {one.images:,}"
        for group, one in model.positions.items()
        if one.images - one.aligned > _MANY * one.images
    }
    if not many:
        return []
    return [
        f"normal images of {counted(len(many), 'group')} could not be aligned with the reference "
        f"({listed(many.values())}) and are taken as they are: they have another shape than it, "
        "lie beyond model.align.shift and model.align.rotate, or do not look like it. If it shows "
        "the camera as it was, another model.align.number makes a new median"
    ]
