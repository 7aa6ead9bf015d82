"""What a fit is worth: its calibration, and what to know about the model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.core.calibration import LEAST_FOR_TAIL
from padim_dist.engine.calibrate import LEAST_IMAGES
from padim_dist.engine.fit import PartReceipt
from padim_dist.engine.leave_out import LeaveOutJob, choose_images

_NAMED = 8


def leave_outs(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], counts: Mapping[str, int], threads: int
) -> list[LeaveOutJob]:
    """What to leave out of each group that has images enough, part by part."""
    parts: dict[str, list[PartReceipt]] = {}
    without: dict[str, set[str]] = {}
    for job, merged in plan.merged():
        receipt = receipts[job.receipt]
        if merged and receipt.fitted:
            parts.setdefault(job.part.group, []).append(receipt)
        elif not merged:
            rows = (row for examination in job.examinations for row in examination.rows())
            without.setdefault(job.part.group, set()).update(row["image_id"] for row in rows)
    jobs = []
    for group, count in counts.items():
        if count < LEAST_IMAGES:
            continue
        own = parts[group]
        chosen = choose_images([part.sampled for part in own], [part.fitted for part in own])
        firsts = accumulate(map(len, chosen), initial=0)
        total, left = sum(map(len, chosen)), frozenset(without.get(group, ()))
        for number, (part, places, first) in enumerate(zip(own, chosen, firsts, strict=False)):
            leave_out = LeaveOutJob(
                workspace=plan.workspace.folder,
                model_id=plan.model_id,
                group=group,
                part=part.moments,
                number=number,
                places=places,
                first=first,
                total=total,
                without=left,
                embedding=plan.embedding,
                sigma=plan.sigma,
                count=count,
                threads=threads,
            )
            jobs.append(leave_out)
    return jobs


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
