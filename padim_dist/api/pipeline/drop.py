"""Dropping suspects: rounds of trial models, until no image is dropped any more.

Each round factorises the groups that still change into a trial model of its own, leaves out their
images and drops those that all others find anomalous. So the model itself is only made once the
images are settled. A round ends with a receipt for each group: a fit that was killed goes on there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

from padim_dist.api.pipeline.chosen.taken_out import check_taken_out
from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.api.pipeline.leave_outs import Receipts
from padim_dist.api.pipeline.stages import count_images, factorise, leave_out, state_of
from padim_dist.config import Config
from padim_dist.core.calibration import LEAST_FOR_SUSPECTS
from padim_dist.engine.fit import embed_part, find_receipts
from padim_dist.engine.part_receipt import PartReceipt
from padim_dist.engine.suspects import RoundJob, choose_suspects
from padim_dist.engine.workers import Workers
from padim_dist.store.normals import Dropped

TAKE_OUT = "fit: take out"
_TRIAL = "-trial-"


def drop_suspects(
    workers: Workers, plan: FitPlan, receipts: Mapping[str, PartReceipt], config: Config
) -> tuple[FitPlan, dict[str, PartReceipt], dict[str, list[Dropped]]]:
    """Drop the suspects of all groups.

    Parameters
    ----------
    workers, plan, config : Workers, FitPlan, Config
        The fit, whose parts are embedded.
    receipts : mapping of str to PartReceipt
        Receipts of its parts.

    Returns
    -------
    plan, receipts, dropped : FitPlan, dict, dict
        The plan that subtracts what was dropped, its receipts, and who was dropped, by group.
    """
    counts, known = count_images(plan, receipts), dict(receipts)
    left = {group: int(config.fit.suspects_share * n) for group, n in counts.items()}
    pending = [group for group, n in counts.items() if n >= LEAST_FOR_SUSPECTS]
    dropped: dict[str, list[Dropped]] = {}
    for number in count(1):
        pending = [group for group in pending if left[group]]
        if not pending:
            return plan, known, dropped
        found = _round(workers, plan, known, config, number, {g: left[g] for g in pending})
        pending = list(found)
        for group, own in found.items():
            dropped.setdefault(group, []).extend(own)
            left[group] -= len(own)
        before = len(plan.jobs)
        plan = plan.without([one for own in found.values() for one in own])
        new = plan.jobs[before:]
        known |= find_receipts(new)
        missing = [job for job in new if job.receipt not in known]
        known |= {job.receipt: one for job, one in workers.map(embed_part, missing, TAKE_OUT)}
        check_taken_out(plan.jobs, plan.pieces)
    raise AssertionError


def remove_trials(plan: FitPlan, receipts: Receipts, kept: int) -> None:
    """Remove what only served to drop suspects, once the model is finished.

    These are the moments of what was dropped, in the jobs of the plan after the first `kept` ones,
    and trial models of rounds that were killed.
    """
    folder = plan.workspace.folder
    for job in plan.jobs[kept:]:
        folder.remove(job.receipt)
        folder.remove_tree(receipts[job.receipt].moments)
    _remove_trial_models(plan)


def remove_unfinished(plan: FitPlan) -> None:
    """Remove what a killed fit has made of its parts: an image that is back changes all of it."""
    plan.workspace.folder.remove_tree(plan.workspace.model(plan.model_id))
    _remove_trial_models(plan)


def _remove_trial_models(plan: FitPlan) -> None:
    folder = plan.workspace.folder
    for name in folder.list(plan.workspace.models):
        if name.startswith(f"{plan.model_id}{_TRIAL}"):
            folder.remove_tree(f"{plan.workspace.models}/{name}")


def _round(
    workers: Workers,
    plan: FitPlan,
    receipts: Receipts,
    config: Config,
    number: int,
    most: Mapping[str, int],
) -> dict[str, list[Dropped]]:
    """Do a round; return what it drops, by group, without groups that drop nothing.

    `most` has the groups to look at, and how many images of each may be dropped.
    """
    state = state_of(plan, receipts)
    jobs = [
        RoundJob(plan.workspace, plan.model_id, group, state, (), number, n)
        for group, n in most.items()
    ]
    found = {job.group: job.find() for job in jobs}
    if missing := [job for job in jobs if found[job.group] is None]:
        trial = replace(plan, model_id=f"{plan.model_id}{_TRIAL}{number}")
        counts = count_images(plan, receipts)
        counts = {job.group: counts[job.group] for job in missing}
        factorise(workers, trial, receipts, counts, config, "fit: trial, factorise")
        parts = leave_out(workers, trial, receipts, counts, config, "fit: trial, leave out")
        ready = [replace(job, parts=parts[job.group]) for job in missing]
        done = workers.map(choose_suspects, ready, "fit: trial, drop suspects")
        found |= {job.group: outcome for job, outcome in done}
        plan.workspace.folder.remove_tree(plan.workspace.model(trial.model_id))
    # In the order of the groups, so that nothing depends on which task was faster.
    return {group: list(one.dropped) for group, one in found.items() if one and one.dropped}
