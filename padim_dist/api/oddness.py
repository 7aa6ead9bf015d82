"""When a night is odd: a pure function of what it came to and of the nights before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from padim_dist.config import AuditConfig
from padim_dist.store.nights import GroupNight, NightSummary

_LEAST = 3
"""Earlier nights that make something usual."""
_NAMED = 8


def odd_reasons(
    policy: AuditConfig,
    model_id: str,
    statuses: Mapping[str, int],
    groups: Mapping[str, GroupNight],
    before: Sequence[NightSummary],
) -> list[str]:
    """Why somebody should look at a night.

    Parameters
    ----------
    policy : AuditConfig
        Where odd begins.
    model_id : str
        The night's model: scores of another one are not compared.
    statuses : mapping of str to int
        Rows by status.
    groups : mapping of str to GroupNight
        What became of each group.
    before : sequence of NightSummary
        The nights before, the newest last.

    Returns
    -------
    list of str
        One sentence a reason; empty for a night like others.
    """
    images = sum(statuses.values())
    if not images:
        return ["no image came: look at what delivers them"]
    reasons = []
    lost = images - statuses.get("scored", 0)
    if lost > policy.unusable * images:
        what = ", ".join(f"{n:,} {status}" for status, n in statuses.items() if status != "scored")
        reasons.append(
            f"{lost / images:.0%} of {images:,} images cannot be used ({what}), more than "
            f"audit.unusable = {policy.unusable:.0%}: the column error of the score table says why"
        )
    silent = _silent(groups, before)
    if silent:
        reasons.append(
            f"no image of {_names(silent)}, which had some in each of the last {_LEAST} nights"
        )
    for name, group in sorted(groups.items()):
        usual = _usual(name, model_id, before)
        if usual and group.median is not None and group.median > usual * (1 + policy.rise):
            reasons.append(
                f"the median score of {name!r} is {group.median:.1f}, usual is {usual:.1f}: the "
                "scene has changed, or much is wrong"
            )
    return reasons


def _silent(groups: Mapping[str, GroupNight], before: Sequence[NightSummary]) -> list[str]:
    """Groups that were always there and are not."""
    last = [set(night.groups) for night in before if night.images][-_LEAST:]
    return sorted(set.intersection(*last) - set(groups)) if len(last) == _LEAST else []


def _usual(group: str, model_id: str, before: Sequence[NightSummary]) -> float | None:
    """Median of a group's medians by the same model; None where there are too few."""
    medians = [
        found.median
        for night in before
        if night.model_id == model_id and (found := night.groups.get(group)) and found.median
    ]
    return median(medians) if len(medians) >= _LEAST else None


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return f"{shown} and {len(names) - _NAMED} more groups" if len(names) > _NAMED else shown
