"""When a night is odd: a pure function of its figures and of earlier nights.

A group is compared with its earlier nights by the same model, at least three:

- *score*: its median score exceeds the median of their medians by more than ``audit.rise``;
- *alarms*: its share of flagged images is more than ``audit.alarms`` times the usual share (the
  median of theirs, or alpha if that is higher), and chance does not explain it;
- *drift*: its drift in excess of the expected one is more than ``audit.drift`` standard
  deviations above the median of theirs. The deviation combines this night's sampling noise with
  the spread of their drifts: images of one night are alike, so sampling noise is too small.

If images are aligned (``model.align``), a camera that has moved is odd: the median of how its
images lie is beyond chance, and beyond 2 pixels or 1 degree, elsewhere than that of the model. So
is a night far more of whose images could not be aligned.

Without earlier nights only missing and unusable images and moved cameras make a night odd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot
from statistics import median

from scipy.special import bdtrc

from padim_dist.api.nights.camera import moved_reason
from padim_dist.config import AuditConfig
from padim_dist.pages.words import counted, listed
from padim_dist.store.nights import GroupNight, NightSummary

_LEAST = 3
"""Earlier nights that a comparison needs."""
_CHANCE = 1e-3
"""Largest probability of as many alarms by chance in an odd night."""
_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations."""


def odd_reasons(
    policy: AuditConfig,
    model_id: str,
    statuses: Mapping[str, int],
    groups: Mapping[str, GroupNight],
    before: Sequence[NightSummary],
    retried: int = 0,
) -> list[str]:
    """Return the reasons why a night is odd.

    Parameters
    ----------
    policy : AuditConfig
        Limits.
    model_id : str
        The night's model; nights by other models are not compared.
    statuses : mapping of str to int
        Rows by status.
    groups : mapping of str to GroupNight
        Figures of each group.
    before : sequence of NightSummary
        Earlier nights, the newest last.
    retried : int
        Rows of images that are not new.

    Returns
    -------
    list of str
        One sentence per reason; empty for a usual night.
    """
    images = sum(statuses.values())
    if images <= retried:
        return ["no image came: check the delivery of images"]
    reasons = []
    lost = images - statuses.get("scored", 0)
    if lost > policy.unusable * images:
        what = ", ".join(f"{n:,} {status}" for status, n in statuses.items() if status != "scored")
        reasons.append(
            f"{lost / images:.0%} of {counted(images, 'image')} cannot be used ({what}), more than "
            f"audit.unusable = {policy.unusable:.0%}: see the column error of the score table"
        )
    if silent := _silent(groups, before):
        reasons.append(
            f"no image of {listed(map(repr, silent))}, which had images in each of the last "
            f"{_LEAST} nights"
        )
    for name, group in sorted(groups.items()):
        past = [n.groups[name] for n in before if n.model_id == model_id and name in n.groups]
        found = [check(policy, group, past) for check in (_rise, _alarms, _drift)]
        found += [moved_reason(group.moved)] if group.moved else []
        found += [group.unaligned] if group.unaligned else []
        reasons += [f"{name!r}: {reason}" for reason in found if reason]
    return reasons


def past_sentence(number: int, state: str, model_id: str, before: Sequence[NightSummary]) -> str:
    """Return what a night was compared with, or from which night on there is enough to compare.

    Parameters
    ----------
    number, state, model_id : int, str, str
        The night; other parameters as in `odd_reasons`.

    Examples
    --------
    >>> past_sentence(3, "done", "4be1", [])
    'Odd nights can be told from night 6 on: no earlier night of this model, 3 needed.'
    """
    nights = sum(night.model_id == model_id and bool(night.groups) for night in before)
    earlier = counted(nights, "earlier night") if nights else "no earlier night"
    if nights < _LEAST:
        told = number + _LEAST - nights
        return f"Odd nights can be told from night {told} on: {earlier} of this model, 3 needed."
    verdict = "odd" if state == "odd" else "not odd"
    return f"Compared with {earlier} of this model, the night is {verdict}."


def _rise(policy: AuditConfig, group: GroupNight, past: Sequence[GroupNight]) -> str | None:
    medians = [night.median for night in past if night.median]
    if len(medians) < _LEAST or group.median is None:
        return None
    usual = median(medians)
    if group.median <= usual * (1 + policy.rise):
        return None
    return (
        f"the median score is {group.median:.1f}, {usual:.1f} is usual: the scene has changed, or "
        "many images are anomalous"
    )


def _alarms(policy: AuditConfig, group: GroupNight, past: Sequence[GroupNight]) -> str | None:
    shares = [n.flagged / n.scored for n in past if n.flagged is not None and n.scored]
    if len(shares) < _LEAST or group.flagged is None or group.alpha is None:
        return None
    usual = max(median(shares), group.alpha)
    chance = float(bdtrc(group.flagged - 1, group.scored, usual))
    if group.flagged <= policy.alarms * usual * group.scored or chance > _CHANCE:
        return None
    return (
        f"{group.flagged:,} of {group.scored:,} images are flagged, "
        f"{usual * group.scored:.1f} are usual: look at their pictures"
    )


def _drift(policy: AuditConfig, group: GroupNight, past: Sequence[GroupNight]) -> str | None:
    drifts = [night.drift.excess for night in past if night.drift]
    if len(drifts) < _LEAST or group.drift is None:
        return None
    usual = median(drifts)
    spread = _TO_DEVIATION * median(abs(drift - usual) for drift in drifts)
    deviations = (group.drift.excess - usual) / (hypot(group.drift.noise, spread) or 1.0)
    if deviations <= policy.drift:
        return None
    return (
        f"the scene has moved from the model, by {deviations:.0f} standard deviations more than "
        "usual: check camera, lens and lamps. The drift map of the report shows where"
    )


def _silent(groups: Mapping[str, GroupNight], before: Sequence[NightSummary]) -> list[str]:
    """Return groups that had images in each of the last nights and have none now."""
    last = [set(night.groups) for night in before if night.images][-_LEAST:]
    return sorted(set.intersection(*last) - set(groups)) if len(last) == _LEAST else []
