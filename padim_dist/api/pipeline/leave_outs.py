"""Leave-one-out jobs of a fit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from itertools import accumulate

from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.engine.calibrate import LEAST_IMAGES
from padim_dist.engine.fit import PartReceipt
from padim_dist.engine.leave_out import LeaveOutJob, choose_images


def leave_outs(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], counts: Mapping[str, int]
) -> list[LeaveOutJob]:
    """Return the leave-one-out jobs of each group that has enough images, part by part."""
    parts: dict[str, list[PartReceipt]] = {}
    without: dict[str, set[str]] = {}
    for job, merged in plan.merged():
        receipt = receipts[job.receipt]
        if merged and receipt.fitted:
            parts.setdefault(job.part.group, []).append(receipt)
        elif not merged:
            images = {row.image_id for source in job.sources for row in source.read()}
            without.setdefault(job.part.group, set()).update(images)
    jobs = []
    made = uuid.uuid4().hex  # not of an earlier fit of this model that was removed
    for group, count in counts.items():
        if count < LEAST_IMAGES:
            continue
        own = parts[group]
        chosen = choose_images([part.sampled for part in own], [part.fitted for part in own])
        firsts = accumulate(map(len, chosen), initial=0)
        total, left = sum(map(len, chosen)), frozenset(without.get(group, ()))
        jobs += [
            LeaveOutJob(
                workspace=plan.workspace,
                model_id=plan.model_id,
                group=group,
                made=made,
                part=part.moments,
                number=number,
                places=places,
                first=first,
                total=total,
                without=left,
                embedding=plan.embedding,
                sigma=plan.sigma,
                count=count,
            )
            for number, (part, places, first) in enumerate(zip(own, chosen, firsts, strict=False))
        ]
    return jobs
