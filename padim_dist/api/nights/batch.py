"""One share of false alarms for several nights (``score.fdr`` with ``audit.fdr_nights``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from padim_dist.api.pipeline.judge import Judged
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.settings.rules import plan_alarms
from padim_dist.config import Config
from padim_dist.core.alarms import Judgement
from padim_dist.core.batches import Batch, judge_batch, next_level
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import hold
from padim_dist.store.nights import NightSummary
from padim_dist.store.runs.run import Run


def judge_night(
    config: Config,
    number: int,
    runs: Sequence[str],
    before: Sequence[NightSummary],
    listener: Listener = ignore,
) -> Batch | None:
    """Judge the runs of a night together, at the level that earlier nights have left.

    The nights 1 to ``audit.fdr_nights`` share the rate, then the next ones, and so on.

    Parameters
    ----------
    config : Config
        The configuration.
    number, runs : int, sequence of str
        The night, and ids of its runs, which are finished.
    before : sequence of NightSummary
        Earlier nights.
    listener : callable, optional
        Receives events.

    Returns
    -------
    Batch or None
        What later nights need of this one; None if each night is judged by itself.
    """
    nights, rate = config.audit.fdr_nights, config.score.fdr
    if nights is None or rate is None:
        return None
    first = number - (number - 1) % nights
    others = [night.batch for night in before if night.number >= first and night.batch]
    found = [Run(workspace_of(config), run) for run in runs]
    judged = [Judged(run, run.head()) for run in found]
    p_values = np.concatenate([np.empty(0), *(one.p_values() for one in judged)])
    if not len(p_values):
        return Batch(0, 0, 0, 0.0)
    level = next_level(others, len(p_values), rate, nights)
    cutoff, batch = judge_batch(p_values, level)
    for run, one in zip(found, judged, strict=True):
        judgement = Judgement(plan_alarms(config, len(p_values)), cutoff)
        judgement = replace(judgement, flagged=one.count(judgement))
        with hold(run.workspace, run.path) as lease:
            added = one.add_regions(judgement, lease.guard(listener))
            run.judge(judgement, added.files)
    return batch
