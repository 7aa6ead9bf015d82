"""The parts of a model, and their leave-one-out jobs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from padim_dist.api.pipeline.chosen.taken_out import gone_images
from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.core.calibration import LEAST_IMAGES
from padim_dist.engine.leave_out import LeaveOutJob, choose_images
from padim_dist.engine.normals import FittedPart
from padim_dist.engine.part_receipt import PartReceipt

Receipts = Mapping[str, PartReceipt]


def fitted_parts(plan: FitPlan, receipts: Receipts) -> dict[str, list[FittedPart]]:
    """Return the merged parts of each group that have images."""
    parts: dict[str, list[FittedPart]] = {}
    gone = gone_images(plan.jobs, plan.pieces)
    for job, piece in zip(plan.jobs, plan.pieces, strict=True):
        if piece.is_merged and receipts[job.receipt].fitted:
            part = FittedPart(job, gone=frozenset(gone.get((piece.manifest, piece.part), ())))
            parts.setdefault(piece.part.group, []).append(part)
    return parts


def leave_outs(
    plan: FitPlan,
    receipts: Receipts,
    counts: Mapping[str, int],
    parts: Mapping[str, Sequence[FittedPart]],
    state: str,
) -> list[LeaveOutJob]:
    """Return the leave-one-out jobs of each group that has enough images, part by part."""
    jobs = []
    made = uuid.uuid4().hex  # not of an earlier fit of this model that was removed
    for group, count in counts.items():
        if count < LEAST_IMAGES:
            continue
        own = [receipts[part.job.receipt] for part in parts[group]]
        chosen = choose_images([part.sampled for part in own], [part.fitted for part in own])
        firsts = accumulate(map(len, chosen), initial=0)
        jobs += [
            LeaveOutJob(
                workspace=plan.workspace,
                model_id=plan.model_id,
                group=group,
                state=state,
                made=made,
                part=receipt.moments,
                number=number,
                places=places,
                first=first,
                total=sum(map(len, chosen)),
                without=part.gone,
                embedding=plan.embedding_of(group),
                sigma=plan.sigma,
                count=count,
            )
            for number, (part, receipt, places, first) in enumerate(
                zip(parts[group], own, chosen, firsts, strict=False)
            )
        ]
    return jobs


def with_results(
    parts: Mapping[str, Sequence[FittedPart]], jobs: Sequence[LeaveOutJob]
) -> dict[str, tuple[FittedPart, ...]]:
    """Return the parts with the paths of their leave-one-out results, if there are any."""
    paths = {(job.group, job.number): job.receipt for job in jobs}
    return {
        group: tuple(
            replace(part, left_out=paths.get((group, number))) for number, part in enumerate(own)
        )
        for group, own in parts.items()
    }
