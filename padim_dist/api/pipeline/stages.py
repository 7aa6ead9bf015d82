"""The stages of a fit after its parts are embedded: jobs for the workers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.api.pipeline.leave_outs import Receipts, fitted_parts, leave_outs, with_results
from padim_dist.config import Config
from padim_dist.core.pyramid import PyramidShape
from padim_dist.engine.calibrate import Calibrated, CalibrateJob, calibrate_group
from padim_dist.engine.factorise import FactoriseJob, band_cells, bands, factorise_band
from padim_dist.engine.leave_out import leave_out_part
from padim_dist.engine.memory.amounts import added_together
from padim_dist.engine.normals import FittedPart
from padim_dist.engine.workers import Workers
from padim_dist.store.gaussians import create_model
from padim_dist.store.normals import Dropped


def count_images(plan: FitPlan, receipts: Receipts) -> dict[str, int]:
    """Return images in the model by group, without empty groups."""
    counts: Counter[str] = Counter()
    for job, merged in plan.merged():
        fitted = receipts[job.receipt].fitted
        counts[job.part.group] += fitted if merged else -fitted
    return {group: count for group, count in counts.items() if count > 0}


def state_of(plan: FitPlan, receipts: Receipts) -> str:
    """Return the state of a model's parts: an id of what is merged into it and taken out of it.

    The moments of a part that is embedded anew, since an image is back, have another path.
    """
    parts = [
        [receipts[job.receipt].moments, receipts[job.receipt].fitted, merged]
        for job, merged in plan.merged()
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def factorise(
    workers: Workers,
    plan: FitPlan,
    receipts: Receipts,
    counts: Mapping[str, int],
    config: Config,
    stage: str,
) -> None:
    """Factorise some groups: all their bands."""
    shapes: dict[PyramidShape, list[str]] = {}
    for group in counts:
        shapes.setdefault(plan.embedding_of(group).shape, []).append(group)
    for shape, groups in shapes.items():
        create_model(plan.workspace, plan.model_id, shape, groups, band_cells(shape))
    state = state_of(plan, receipts)
    moments: dict[tuple[str, bool], list[str]] = {}
    for job, merged in plan.merged():
        if (receipt := receipts[job.receipt]).fitted:  # else nothing was written
            moments.setdefault((job.part.group, merged), []).append(receipt.moments)
    jobs = [
        FactoriseJob(
            workspace=plan.workspace,
            model_id=plan.model_id,
            group=group,
            state=state,
            parts=tuple(moments[group, True]),
            taken_out=tuple(moments.get((group, False), ())),
            shape=spec.shape,
            together=added_together(spec),
            epsilon=config.model.epsilon,
            shrinkage=config.model.shrinkage,
            number=number,
            band=band,
        )
        for group in counts
        for spec in [plan.embedding_of(group)]
        for number, band in enumerate(bands(spec.shape))
    ]
    workers.map(factorise_band, jobs, stage)


def leave_out(
    workers: Workers,
    plan: FitPlan,
    receipts: Receipts,
    counts: Mapping[str, int],
    config: Config,
    stage: str,
) -> dict[str, tuple[FittedPart, ...]]:
    """Leave out the sampled images of some groups; return their parts with the results."""
    every = fitted_parts(plan, receipts)
    parts = {group: every[group] for group in counts}
    if not config.fit.sample:
        return with_results(parts, [])
    jobs = leave_outs(plan, receipts, counts, parts, state_of(plan, receipts))
    workers.map(leave_out_part, [job for job in jobs if not job.is_calibrated], stage)
    return with_results(parts, jobs)


def calibrate(
    workers: Workers,
    plan: FitPlan,
    receipts: Receipts,
    parts: Mapping[str, Sequence[FittedPart]],
    dropped: Mapping[str, Sequence[Dropped]],
) -> dict[str, Calibrated]:
    """Calibrate groups and write their normal images; return the outcomes by group."""
    state = state_of(plan, receipts)
    jobs = [
        CalibrateJob(
            workspace=plan.workspace,
            model_id=plan.model_id,
            group=group,
            state=state,
            parts=tuple(own),
            dropped=tuple(dropped.get(group, ())),
            shape=plan.embedding_of(group).shape,
        )
        for group, own in parts.items()
    ]
    done = workers.map(calibrate_group, jobs, "fit: calibrate")
    return dict(sorted((job.group, outcome) for job, outcome in done))
