"""Evaluate: evaluation metrics of a run, from labels and masks of the archive and from reviews."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

from padim_dist.api.labels.pixels import Pixels, find_masked
from padim_dist.api.labels.truths import GroupTruths, Truths
from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.moved import moved_hint
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.api.sql.views import run_views
from padim_dist.core.evaluation.flags import FlagFigures
from padim_dist.core.evaluation.metrics import BestF1, PixelCounts, exact_curve
from padim_dist.errors import RequestError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.pages.words import counted
from padim_dist.store.runs.run import Run

Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class GroupFigures:
    """Evaluation metrics of a group; None if labels or masks are missing.

    Attributes
    ----------
    images, anomalous, not_scored : int
        Scored images whose truth is known, the anomalous ones among them, and those without a
        score.
    image_auroc, pixel_auroc, pro : float or None
        Area under the ROC curve over images and over pixels, and the paper's PRO score.
    image_best_f1, pixel_best_f1 : BestF1 or None
        Thresholds with the highest F1 score.
    without_mask : int
        Anomalous images whose mask is missing or cannot be read: they count only in the image
        metrics.
    flags : FlagFigures or None
        How good its flags are; None without p-values.
    """

    images: int
    anomalous: int
    not_scored: int
    without_mask: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    image_best_f1: BestF1 | None
    pixel_best_f1: BestF1 | None
    flags: FlagFigures | None = None


@dataclass(frozen=True)
class EvaluateResult:
    """Evaluation metrics of a run.

    Attributes
    ----------
    run_id, model_id : str
        The run and its model.
    groups, mean : mapping
        Metrics by group, and their means over groups.
    notes : list of str
        Masks that may not go with their images; what the shares of flags leave out.
    flags : FlagFigures or None
        How good all flags of the run are; None without p-values.
    reviewed : int
        Images of the run with a review that counts.
    """

    run_id: str
    model_id: str
    groups: dict[str, GroupFigures]
    mean: dict[str, float | None]
    notes: list[str] = field(default_factory=list)
    flags: FlagFigures | None = None
    reviewed: int = 0


def evaluate(
    config: ConfigLike, listener: Listener = ignore, *, run: str | None = None
) -> EvaluateResult:
    """Compute evaluation metrics of a run, if the archive has labels or people have reviewed it.

    The truth about an image is its newest review (`label`), else its label. Labelled images of the
    split ``test`` count, and reviewed ones of any split. Pixel metrics use the images that are good
    or have a mask, at the size of the crop; regions are 8-connected, as in the evaluation of MVTec
    AD. Pixels outside of the region of interest do not count. Precision, recall and the false-alarm
    rate are those of the flags, with intervals. The result is also written to ``metrics.json`` in
    the run, with curves.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.

    Raises
    ------
    RequestError
        If there is no such run, it is not finished, or there are neither labels nor reviews.
    """
    config = as_config(config)
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    found = Run(workspace, head.run_id)
    if missing := len(set(range(len(head.shards))) - found.scores.finished()):
        raise RequestError(
            f"run {head.run_id} is not finished: it lacks {counted(missing, 'shard')} of "
            f"{len(head.shards)}; run 'padim-dist score' again: it resumes"
        )
    head, connection = run_views(config, head.run_id)
    truths = Truths(connection, head)
    known = truths.by_group()
    if not known:
        raise RequestError(
            f"run {head.run_id} has no labelled image of the split 'test' and no reviewed one. "
            "Review images with 'padim-dist label', or use an archive with labels, such as the "
            "layout 'mvtec', and a run of it (--run)"
        )
    anomalous = truths.anomalous()
    masked = find_masked(found, head, anomalous.keys())
    without_mask = Counter(group for name, group in anomalous.items() if name not in masked)
    pixels: dict[str, PixelCounts] = {}
    notes = [*filter(None, [moved_hint(config)]), *found.pruned_notes()]
    if masked and found.heatmaps.exist():
        groups_with = {anomalous[name] for name in masked}
        total = sum(len(known[group].scores) for group in groups_with)
        measure, done = Pixels(config, found, head, masked), 0
        for images in measure.measure(truths, groups_with):
            done += images
            listener(Progress("evaluate", total, done))
        pixels, notes = measure.counts, [*notes, *measure.doubts.notes()]
        without_mask += measure.unread
        if measure.outside:
            notes.append(
                f"{counted(measure.outside, 'defect')} outside of the region of interest "
                "(model.roi): nothing is judged there, but the images count as anomalous"
            )
    listener(Progress("evaluate", head.images, head.images))
    flags, total_flags = truths.figures()
    groups, curves = {}, {}
    for group, own in known.items():
        groups[group], curves[group] = _figures(
            own, pixels.get(group, PixelCounts()), without_mask[group], flags.get(group)
        )
    result = EvaluateResult(
        run_id=head.run_id,
        model_id=head.model_id,
        groups=groups,
        mean={name: _mean(groups, name) for name in ("image_auroc", "pixel_auroc", "pro")},
        notes=[*notes, *truths.notes(), *_left_aside(truths, total_flags)],
        flags=total_flags,
        reviewed=truths.count_reviewed(),
    )
    workspace.folder.put_json(found.metrics_path, {**asdict(result), "curves": curves})
    return result


def _figures(
    known: GroupTruths, counts: PixelCounts, without_mask: int, flags: FlagFigures | None
) -> tuple[GroupFigures, Curves]:
    """Return the metrics of a group, and a few points of each ROC and PRO curve, to draw."""
    images = exact_curve(known.scores, known.anomalous)
    pixels = counts.curve()
    figures = GroupFigures(
        images=len(known.scores),
        anomalous=int(known.anomalous.sum()),
        not_scored=known.not_scored,
        without_mask=without_mask,
        image_auroc=_known(images.auroc()),
        pixel_auroc=_known(pixels.auroc()),
        pro=_known(pixels.pro()),
        image_best_f1=images.best_f1(),
        pixel_best_f1=pixels.best_f1(),
        flags=flags,
    )
    curves = {"roc": images.roc(), "pixel_roc": pixels.roc(), "pro": pixels.pro_curve()}
    return figures, curves


def _left_aside(truths: Truths, flags: FlagFigures | None) -> list[str]:
    """Return notes on reviews that do not count, and on images that nobody knows."""
    notes = []
    if changed := truths.count_changed():
        notes.append(
            f"{counted(changed, 'image')} of the run: reviewed as another object (the etag "
            "differs), so the review does not count"
        )
    if flags and flags.counts.flagged_unknown:
        notes.append(
            f"{counted(flags.counts.flagged_unknown, 'flagged image')} without label and review: "
            "shares are only bounds; 'padim-dist label' reviews images"
        )
    if flags and flags.counts.passed_unknown:
        notes.append(
            f"{counted(flags.counts.passed_unknown, 'image')} without flag, label and review: the "
            "false-alarm rate takes them for normal, and any of them may be a missed defect"
        )
    return notes


def _mean(groups: dict[str, GroupFigures], name: str) -> float | None:
    values = (getattr(figures, name) for figures in groups.values())
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
