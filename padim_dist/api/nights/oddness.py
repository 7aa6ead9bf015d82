"""When a night is odd: a pure function of what it came to and of the nights before it.

A group is compared with its own last nights by the same model, of which it takes three:

- *score*: its median is by more than ``audit.rise`` above the median of their medians;
- *alarms*: it has ``audit.alarms`` times the usual share of flagged images (the median of
  theirs, or alpha if that is more), and more than chance makes of that share;
- *drift*: its distance from the model, less what is expected of a sample of its size, is
  above the median of theirs by ``audit.drift`` standard deviations. Those are of this
  night's sampling and of their own spread together: images of one night are alike, so
  that sampling alone would say too little.

Without a history only what is missing or cannot be used is odd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot
from statistics import median

from scipy.special import bdtrc

from padim_dist.config import AuditConfig
from padim_dist.store.nights import GroupNight, NightSummary

_LEAST = 3
"""Earlier nights that make something usual."""
_CHANCE = 1e-3
"""Alarms are more than chance makes if as many have at most this probability."""
_TO_DEVIATION = 1.4826
"""From the median of absolute deviations to a standard deviation, of a normal distribution."""
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
        past = [n.groups[name] for n in before if n.model_id == model_id and name in n.groups]
        found = [_rise(policy, group, past), _alarms(policy, group, past)]
        found.append(_drift(policy, group, past))
        reasons += [f"{name!r}: {reason}" for reason in found if reason]
    return reasons


def _rise(policy: AuditConfig, group: GroupNight, past: Sequence[GroupNight]) -> str | None:
    medians = [night.median for night in past if night.median]
    if len(medians) < _LEAST or group.median is None:
        return None
    usual = median(medians)
    if group.median <= usual * (1 + policy.rise):
        return None
    return (
        f"the median score is {group.median:.1f}, usual is {usual:.1f}: the scene has changed, or "
        "much is wrong"
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
        f"{group.flagged:,} of {group.scored:,} images are flagged, usual are "
        f"{usual * group.scored:.1f}: look at their pictures"
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
        "usual: a moved camera, a lens, a lamp. The drift map of the report shows where"
    )


def _silent(groups: Mapping[str, GroupNight], before: Sequence[NightSummary]) -> list[str]:
    """Groups that were always there and are not."""
    last = [set(night.groups) for night in before if night.images][-_LEAST:]
    return sorted(set.intersection(*last) - set(groups)) if len(last) == _LEAST else []


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return f"{shown} and {len(names) - _NAMED} more groups" if len(names) > _NAMED else shown
