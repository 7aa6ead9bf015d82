"""The alarm rule that a command asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from padim_dist.config import Config, make_config
from padim_dist.core.alarms import RULES, Alarms, Judgement
from padim_dist.errors import ConfigError
from padim_dist.store.runs.head import RunHead

Alpha = float | str
"""A value of ``score.alpha``: a share or ``"auto"``."""


def plan_alarms(config: Config, images: int, **asked: Any) -> Alarms:
    """Return the rule for a run of `images` images.

    Parameters
    ----------
    config : Config
        Its section ``score`` has the rule that counts if none is asked for.
    images : int
        Images of the run.
    **asked : optional
        A rule by the name of its setting; None is not given.

    Raises
    ------
    ConfigError
        If its value is wrong, or two rules are given.
    """
    score = config.score
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) > 1:
        names = " and ".join(map(repr, given))
        raise ConfigError(f"{names} exclude each other: a run has one rule; give one of them")
    if not _is_alpha(given.get("alpha", "auto")):
        raise ConfigError(f"alpha is a share between 0 and 1, or auto; found {given['alpha']!r}")
    if given:
        rest = config.score.model_dump(mode="json", exclude=set(RULES))
        tree: Mapping[str, Any] = {**config.model_dump(mode="json"), "score": {**rest, **given}}
        score = make_config(tree, "rule").score
    return Alarms.plan(images, **score.model_dump(include=set(RULES)))


def _is_alpha(value: Alpha) -> bool:
    try:
        return value == "auto" or 0 < float(value) < 1
    except ValueError:
        return False


def with_alpha(config: Config, head: RunHead, alpha: Alpha | None) -> RunHead:
    """Return the head with this alpha instead of the rule of the run; None leaves it as it is.

    Raises
    ------
    ConfigError
        If the value is wrong.
    """
    if alpha is None:
        return head
    return head.judged(Judgement(plan_alarms(config, head.images, alpha=alpha)))
