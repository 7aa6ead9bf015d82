"""False discoveries over several batches of tests: Batch-BH, an online procedure.

Each batch, e.g. a night, is tested by Benjamini and Hochberg's procedure at a level of its own.
The levels depend on the batches before, so that the expected share of false discoveries among all
discoveries so far stays below a rate: "The Power of Batching in Multiple Hypothesis Testing",
Zrnic, Jiang, Ramdas and Jordan (AISTATS 2020), algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_dist.core.alarms import benjamini_hochberg


@dataclass(frozen=True)
class Batch:
    """What the levels of later batches depend on.

    Attributes
    ----------
    tests, flagged : int
        P-values of the batch, and how many were flagged.
    most : int
        How many would have been flagged if the largest p-value had been 0.
    level : float
        Level of the batch.
    """

    tests: int
    flagged: int
    most: int
    level: float


def next_level(before: Sequence[Batch], tests: int, rate: float, batches: int) -> float:
    """Return the level of the next batch.

    Parameters
    ----------
    before : sequence of Batch
        The batches before, in order.
    tests : int
        P-values of the next batch.
    rate : float
        Largest expected share of false discoveries in all batches together, and of each one.
    batches : int
        Number of batches that share the rate: each may spend 1 / `batches` of it, and what
        earlier ones have not spent or have earned by discoveries.

    Examples
    --------
    >>> round(next_level([], 1000, 0.1, 7), 4)
    0.0143
    >>> next_level([Batch(1000, 50, 51, 0.0143)], 1000, 0.1, 7) > 0.0143
    True
    """
    if not tests:
        return 0.0
    discoveries = sum(batch.flagged for batch in before)
    spent = sum(
        batch.level * batch.most / (batch.most + discoveries - batch.flagged)
        for batch in before
        if batch.most
    )
    earned = rate * min(len(before) + 1, batches) / batches
    level = max(earned - spent, 0.0) * (tests + discoveries) / tests
    return min(level, rate)  # a batch much smaller than those before would get more


def judge_batch(p_values: npt.ArrayLike, level: float) -> tuple[float, Batch]:
    """Return the cut-off of a batch at a level, and what later levels need of it.

    Examples
    --------
    >>> judge_batch([0.001, 0.02, 0.03, 0.9], 0.1)
    (0.03, Batch(tests=4, flagged=3, most=4, level=0.1))
    """
    p = np.sort(np.asarray(p_values, np.float64))
    cutoff = benjamini_hochberg(p, level)
    flagged = int((p <= cutoff).sum()) if cutoff else 0
    changed = np.concatenate([[0.0], p[:-1]]) if len(p) else p
    highest = benjamini_hochberg(changed, level)
    most = int((changed <= highest).sum()) if len(p) else 0
    return cutoff, Batch(len(p), flagged, most, level)
