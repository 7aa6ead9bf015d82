"""Warnings about a model after its fit."""

from __future__ import annotations

from collections.abc import Mapping

from padim_dist.api.mixed import MIXED_REMEDY, mixed_forms
from padim_dist.api.pipeline.fit_plan import FitPlan
from padim_dist.api.pipeline.grey_levels import REMEDY, few_levels
from padim_dist.api.settings.places import archive_of, workspace_of
from padim_dist.config import Config
from padim_dist.core.calibration import LEAST_FOR_TAIL
from padim_dist.core.pictures.forms import CountedForm
from padim_dist.core.status import count_unsettled
from padim_dist.engine.part_receipt import PartReceipt
from padim_dist.pages.words import counted, listed, part_of
from padim_dist.redaction import redacted
from padim_dist.store.models import ModelInfo
from padim_dist.store.normals import find_group_receipt

_EXAMPLES = 3


def fit_warnings(
    counts: Mapping[str, int],
    plan: FitPlan,
    receipts: Mapping[str, PartReceipt],
    failures: Mapping[str, int],
    images: int,
) -> list[str]:
    """Return warnings about a model."""
    found = []
    groups = len(counts)
    depth = plan.embedding.shape.depth
    if few := {group: n for group, n in counts.items() if n <= depth}:
        found.append(
            f"too few normal images for {depth} channels in "
            f"{part_of(len(few), groups, 'group')}: {_shown(few)}. "
            "Distances there depend mainly on the regularisation of their covariances"
        )
    if short := {group: n for group, n in counts.items() if n < LEAST_FOR_TAIL}:
        found.append(
            f"fewer than {LEAST_FOR_TAIL} normal images in "
            f"{part_of(len(short), groups, 'group')}: "
            f"{_shown(short)}. Their smallest p-value is 1 / (images + 1), also for the strongest "
            "defect"
        )
    if few_grey := few_levels(_brightest(plan, receipts)):
        found.append(f"{few_grey}; {REMEDY}")
    if mixed := mixed_forms(_forms(plan, receipts)):
        found.append(f"{mixed}. {MIXED_REMEDY}")
    if lost := sorted({job.part.group for job in plan.jobs} - set(counts)):
        found.append(
            f"no normal image could be read of {counted(len(lost), 'group')} "
            f"({listed(map(repr, lost))}): they are left out of the model"
        )
    if failures:
        kinds = ", ".join(f"{n} {status}" for status, n in sorted(failures.items()))
        found.append(
            f"not in the model: {sum(failures.values())} of {counted(images, 'normal image')} "
            f"({kinds}); the receipts of the parts list them"
        )
    if unsettled := count_unsettled(failures):
        model = plan.workspace.at(plan.workspace.model(plan.model_id))
        found.append(
            f"{counted(unsettled, 'normal image')} could not be reached, though others could. Once "
            f"they can be read, remove {model} and fit again: only their parts are embedded anew"
        )
    return found


def suspect_warnings(config: Config, model: ModelInfo) -> list[str]:
    """Return warnings about the suspects of a model, and about what was dropped."""
    policy, found = config.fit.suspects, []
    if policy == "keep" or model.suspects is None:
        return []
    command = f"'padim-dist suspects {model.model_id}' lists them, --out draws them"
    if model.dropped:
        found.append(
            f"dropped as suspects: {counted(sum(model.dropped.values()), 'normal image')} in "
            f"{part_of(len(model.dropped), len(model.counts), 'group')} "
            f"({_shown(model.dropped)}). {command}"
        )
    if suspects := model.suspects:
        worst = sorted(suspects, key=lambda group: -suspects[group])[:_EXAMPLES]
        examples = [text for group in worst for text in _worst(config, model, group)]
        advice = (
            "fit.suspects_share allows no more to be dropped"
            if policy == "drop"
            else "'padim-dist forget IMAGE' leaves an image out, fit.suspects: drop all of them"
        )
        found.append(
            f"suspects: {counted(sum(suspects.values()), 'normal image')} in "
            f"{part_of(len(suspects), len(model.counts), 'group')} ({_shown(suspects)}) "
            f"that all others find anomalous: {'; '.join(examples)}. {command}; {advice}"
        )
    elif config.fit.sample == 0:
        found.append(
            "suspects among the normal images cannot be found: fit.sample is 0, so no embedding "
            "was kept. Set it, or set fit.suspects to keep"
        )
    return found


def _worst(config: Config, model: ModelInfo, group: str) -> list[str]:
    """Return texts about the worst suspects of a group."""
    receipt = find_group_receipt(workspace_of(config), model.model_id, group)
    if receipt is None or not receipt.median:
        return []
    below, median = f"{redacted(archive_of(config).url)}/", receipt.median
    return [
        f"{one.uri.removeprefix(below)}{f' {one.member}' if one.member else ''} (score "
        f"{one.score:.1f}, {one.score / median:.1f} times the median of {group!r})"
        for one in receipt.worst
    ]


def _shown(groups: Mapping[str, int]) -> str:
    return listed(f"{group!r} {n}" for group, n in groups.items())


def _forms(plan: FitPlan, receipts: Mapping[str, PartReceipt]) -> dict[str, list[CountedForm]]:
    """Return the forms of the images of each group, as far as the receipts have them."""
    found: dict[str, list[CountedForm]] = {}
    for job, is_merged in plan.merged():
        receipt = receipts.get(job.receipt)
        if is_merged and receipt and receipt.fitted:
            found.setdefault(job.part.group, []).extend(receipt.forms)
    return found


def _brightest(plan: FitPlan, receipts: Mapping[str, PartReceipt]) -> dict[str, int]:
    """Return the highest level in the images of each group, as far as the receipts have it."""
    found: dict[str, int] = {}
    for job, is_merged in plan.merged():
        receipt = receipts.get(job.receipt)
        if is_merged and receipt and receipt.fitted and receipt.brightest is not None:
            found[job.part.group] = max(receipt.brightest, found.get(job.part.group, 0))
    return found
