"""Which p-values the normal images of groups resolve, and what a rule asks of them."""

from __future__ import annotations

from collections.abc import Mapping

from padim_dist.api.settings.rules import plan_alarms
from padim_dist.config import Config
from padim_dist.core.alarms import LEAST_ALPHA
from padim_dist.pages.words import counted, listed, probability

_SHOWN = 5


def smallest_p_values(images: Mapping[str, int]) -> dict[str, float]:
    """Return the smallest p-value without extrapolation, 1 / (n + 1), for n images of each group.

    Examples
    --------
    >>> smallest_p_values({"bottle": 209})
    {'bottle': 0.004762}
    """
    return {group: round(1 / (n + 1), 6) for group, n in images.items() if n}


def resolution_text(images: Mapping[str, int]) -> str:
    """Return which p-values groups resolve, those with the fewest images first.

    Examples
    --------
    >>> resolution_text({"bottle": 209, "cable": 999})
    "'bottle' p = 0.0048 (209 images), 'cable' p = 0.001 (999 images)"
    """
    fewest = sorted(images, key=lambda group: (images[group], group))
    smallest = {group: probability(1 / (images[group] + 1)) for group in fewest}
    return listed(
        (
            f"{group!r} p = {smallest[group]} ({counted(images[group], 'image')})"
            for group in fewest
        ),
        _SHOWN,
    )


def beyond_resolution(config: Config, images: Mapping[str, int]) -> str | None:
    """Return a warning if the rule asks for p-values that groups do not resolve, else None."""
    rule = plan_alarms(config, 1)
    if rule.rule not in ("alpha", "per_million") or rule.alpha is None:
        return None
    few = {group: n for group, n in images.items() if n and 1 / (n + 1) > rule.alpha}
    if not few:
        return None
    sensible = probability(max(LEAST_ALPHA, *(1 / (n + 1) for n in few.values())))
    return (
        f"score.{rule.rule} asks for p <= {probability(rule.alpha)}, which the normal images of "
        f"{len(few)} of {counted(len(images), 'group')} do not resolve ({resolution_text(few)}): "
        "smaller p-values are extrapolated. Set score.alpha to auto, or to "
        f"{sensible} or more, or add normal images"
    )
