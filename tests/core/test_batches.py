"""False discoveries over several batches, by simulation and from the definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from padim_dist.core.batches import Batch, judge_batch, next_level
from padim_dist.core.calibration import Calibration

NIGHTS, IMAGES, RATE = 7, 200, 0.1


def share_of_false_discoveries(share: float, conformal: bool, weeks: int, shared: bool) -> float:
    """Return the mean share of false discoveries of a week, in simulated weeks."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(weeks):
        calibration = Calibration(np.sort(rng.normal(size=400)), np.zeros(51))
        before: list[Batch] = []
        false = flagged = 0
        for _ in range(NIGHTS):
            is_defect = rng.random(IMAGES) < share
            scores = rng.normal(size=IMAGES) + 4 * is_defect
            p = calibration.p_values(scores)[0] if conformal else norm.sf(scores)
            level = next_level(before, IMAGES, RATE, NIGHTS) if shared else RATE
            cutoff, batch = judge_batch(p, level)
            before.append(batch)
            found = (p <= cutoff) & (cutoff > 0)
            assert batch.flagged == found.sum()
            false, flagged = false + (found & ~is_defect).sum(), flagged + found.sum()
        shares.append(false / max(flagged, 1))
    return float(np.mean(shares))


@pytest.mark.parametrize("conformal", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.005, 0.05])
def test_the_nights_of_a_week_share_the_rate(share, conformal):
    weeks = 300
    error = 3 * np.sqrt(RATE * (1 - RATE) / weeks)  # of a share, at most
    assert share_of_false_discoveries(share, conformal, weeks, shared=True) <= RATE + error


def test_each_night_by_itself_does_not_bound_the_week():
    assert share_of_false_discoveries(0.0, False, 300, shared=False) > 3 * RATE


def test_one_batch_is_benjamini_and_hochberg():
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.random(40) ** rng.integers(1, 4)
        cutoff, batch = judge_batch(p, 0.2)
        wanted = false_discovery_control(p) <= 0.2
        assert batch.flagged == wanted.sum()
        assert cutoff == (p[wanted].max() if wanted.any() else 0)
        most = max((false_discovery_control(np.where(np.arange(40) == i, 1e-300, p)) <= 0.2).sum()
                   for i in range(40))  # fmt: skip
        assert batch.most == most


def test_levels_by_hand():
    assert next_level([], 100, 0.1, 4) == pytest.approx(0.025)
    nothing = Batch(100, 0, 1, 0.025)
    # It has spent 0.025 * 1 / (1 + 0); a second night may spend 0.05 in all.
    assert next_level([nothing], 100, 0.1, 4) == pytest.approx(0.025)
    ten = Batch(100, 10, 11, 0.025)
    # It has spent 0.025 * 11 / (11 + 10 - 10); then (100 + 10) / 100 of the rest.
    assert next_level([ten], 100, 0.1, 4) == pytest.approx(0.025 * 1.1)
    # A night of 3 images after one with many discoveries gets no more than the rate.
    assert next_level([Batch(1000, 102, 103, 0.1 / 7)], 3, 0.1, 7) == 0.1
    # Two nights with discoveries share the denominator of each other.
    both = [ten, ten]
    spent = 2 * 0.025 * 11 / (11 + 10)
    assert next_level(both, 50, 0.1, 4) == pytest.approx((0.075 - spent) * 70 / 50)


def test_nights_without_images():
    assert next_level([], 0, 0.1, 7) == 0
    assert judge_batch([], 0.1) == (0.0, Batch(0, 0, 0, 0.1))
