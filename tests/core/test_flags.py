"""Shares of flagged images against SciPy's intervals, and against the truth in simulations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from padim_dist.core.evaluation.flags import FlagCounts, binomial_interval


def test_the_interval_is_that_of_clopper_and_pearson():
    for part, whole in [(0, 1), (1, 1), (0, 40), (3, 40), (39, 40), (40, 40), (12, 10_000)]:
        wanted = binomtest(part, whole).proportion_ci(0.95, "exact")
        assert binomial_interval(part, whole) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_with_everything_known_shares_are_the_usual_ones():
    counts = FlagCounts(flagged_defect=8, flagged_normal=2, passed_defect=4, passed_normal=86)
    precision, recall, rate = counts.precision(), counts.recall(), counts.false_alarm_rate()
    assert (precision.share, recall.share, rate.share) == (8 / 10, 8 / 12, 2 / 88)
    for found in (precision, recall, rate):
        assert (found.low, found.high) == binomial_interval(found.part, found.whole)


def test_what_nobody_knows_makes_bounds_that_hold_whatever_it_is():
    """Against all the ways in which unknown images could be defects or normal."""
    counts = FlagCounts(3, 2, 4, 1, 30, 5)
    lows, highs = [], []
    for defects, missed in product(range(5), range(6)):
        known = FlagCounts(3 + defects, 2 + 4 - defects, 0, 1 + missed, 30 + 5 - missed, 0)
        shares = (known.precision(), known.recall(), known.false_alarm_rate())
        lows.append([share.low for share in shares])
        highs.append([share.high for share in shares])
    found = (counts.precision(), counts.recall(), counts.false_alarm_rate())
    assert [share.share for share in found] == [None, None, None]
    assert [share.low for share in found[:2]] == pytest.approx(np.min(lows, axis=0)[:2])
    assert [share.high for share in found[:2]] == pytest.approx(np.max(highs, axis=0)[:2])
    # The rate takes images that are not flagged for normal: the first ways, without missed ones.
    assert found[2].low == pytest.approx(np.min(np.array(lows)[::6], axis=0)[2])
    assert found[2].high == pytest.approx(np.max(np.array(highs)[::6], axis=0)[2])


def test_nothing_known_is_no_share():
    assert FlagCounts().precision() is FlagCounts().recall() is None
    assert FlagCounts().false_alarm_rate() is None
    assert FlagCounts(passed_unknown=9).recall() is None
    assert FlagCounts(flagged_unknown=1).precision().share is None


def test_reviews_of_flagged_images_measure_the_rate_of_all():
    """1,000 nights at a rate of 2 %: people review what was flagged, all of it or the top half.

    The rate among reviewed images is far off; the interval holds the true one.
    """
    rng = np.random.default_rng(5)
    rate, normal, defects = 0.02, 1500, 20
    held = {"all": 0, "half": 0}
    naive = []
    for _ in range(1000):
        p_values = np.concatenate([rng.uniform(size=normal), rng.beta(0.2, 5, defects)])
        is_defect = np.arange(normal + defects) >= normal
        flagged = np.flatnonzero(p_values <= rate)
        passed = normal + defects - len(flagged)
        for how, seen in (
            ("all", flagged),
            ("half", flagged[np.argsort(p_values[flagged])][: len(flagged) // 2]),
        ):
            found = int(is_defect[seen].sum())
            unseen = len(flagged) - len(seen)
            counts = FlagCounts(found, len(seen) - found, unseen, 0, 0, passed)
            share = counts.false_alarm_rate()
            held[how] += share.low <= rate <= share.high
            if how == "all":
                assert share.share == pytest.approx((p_values[:normal] <= rate).mean(), rel=0.02)
            naive.append((len(seen) - found) / max(len(seen), 1))
    assert held["all"] >= 940
    assert held["half"] >= held["all"]
    assert np.mean(naive) > 10 * rate
