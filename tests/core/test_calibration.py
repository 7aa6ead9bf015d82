"""Closed-form leave-one-out distances, p-values and tails against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control, genpareto

from padim_dist.core.alarms import benjamini_hochberg
from padim_dist.core.calibration import (
    PIXEL_ALPHAS,
    Calibration,
    Tail,
    choose_dropped,
    decisive_pixels,
    keep_highest,
    left_out,
    pixel_thresholds,
    suspect_threshold,
)
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import factorise, squared_lengths
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import dense_embedding, random_maps
from tests.core.test_gaussian import fitted, pyramids

NO_PIXELS = np.zeros(len(PIXEL_ALPHAS))


def dense_left_out(x: np.ndarray, epsilon: float, kept: float = 1.0) -> np.ndarray:
    """Squared distance (N, H, W) of each image from a Gaussian fitted on all others."""
    found = np.empty(x.shape[:3])
    for i in range(len(x)):
        others = np.delete(x, i, axis=0)
        centred = others - others.mean(axis=0)
        covariance = np.einsum("nhwi,nhwj->hwij", centred, centred) / (len(others) - 1)
        covariance = kept * covariance + epsilon * np.eye(x.shape[-1])
        away = (x[i] - others.mean(axis=0))[..., None]
        found[i] = (away * np.linalg.solve(covariance, away)).sum(axis=(-2, -1))
    return found


@given(pyramids(), st.integers(3, 12), st.floats(0.3, 1.0), st.integers(0, 2**31))
def test_leaving_one_out_is_a_fit_of_the_others(shape, n, kept, seed):
    maps = random_maps(shape, n, torch.Generator().manual_seed(seed))
    moments = fitted(shape, maps, 5)
    cells = torch.ones(shape.cells, dtype=torch.float64)
    gaussian = factorise(moments, Covariance(kept * cells, 0.01 * cells, "epsilon"))
    squares = squared_lengths(gaussian.whitened(shape.nest(maps)))
    found = shape.unnest(left_out(squares, n, kept).double()).numpy()
    x = dense_embedding(maps)
    wanted = dense_left_out(x, 0.01 * (n - 1) / (n - 2), kept)
    # Far from the model, 1 - h has few significant digits.
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=1e-2)
    np.testing.assert_allclose(np.median(found / wanted), 1, rtol=1e-3)
    # With the same epsilon the distances lie between these bounds.
    same = dense_left_out(x, 0.01, kept)
    assert (found <= same * 1.02 + 1e-2).all()
    assert (same <= found * (n - 1) / (n - 2) * 1.02 + 1e-2).all()


def test_two_images_are_too_few():
    with pytest.raises(ValueError, match="needs at least 3 images; found 2"):
        left_out(torch.ones(1, 1), 2)


samples = st.lists(st.floats(0, 100, width=16), min_size=1, max_size=60)


@given(samples, samples)
def test_p_values_count_normal_scores(normal, scores):
    calibration = Calibration(np.sort(normal), NO_PIXELS)
    p, extrapolated = calibration.p_values(scores)
    for score, value, is_extrapolated in zip(scores, p, extrapolated, strict=True):
        as_high = sum(other >= score for other in normal)
        wanted = (1 + as_high) / (len(normal) + 1)
        if as_high or len(normal) < 20:
            assert value == pytest.approx(wanted)
            assert not is_extrapolated
        else:
            assert 0 < value <= wanted
            assert is_extrapolated


@given(samples, st.data())
def test_p_values_of_sampled_images_are_those_among_the_others(normal, data):
    calibration = Calibration(np.sort(normal), NO_PIXELS)
    # The score of a run differs from that of the sample by rounding.
    scores = [score * (1 + data.draw(st.sampled_from((0, 1e-7, -1e-7)))) for score in normal]
    p, extrapolated = calibration.p_values([*scores, 50.0], [*normal, np.nan])
    for i, score in enumerate(scores):
        others = Calibration(np.sort(np.delete(normal, i)), NO_PIXELS)
        wanted = others.p_values([score]) if len(normal) > 1 else ([1.0], [False])
        assert p[i] == pytest.approx(wanted[0][0])
        assert extrapolated[i] == wanted[1][0]
    assert p[-1] == calibration.p_values([50.0])[0][0]


def test_suspects_are_far_from_the_median():
    random = np.random.default_rng(0)
    scores = random.normal(10, 1, 200)
    assert suspect_threshold(scores) == pytest.approx(14, abs=1)
    mixed = np.concatenate([scores, random.uniform(30, 60, 22)])
    assert choose_dropped(mixed, 100) == (200 + np.argsort(-mixed[200:])).tolist()
    assert choose_dropped(mixed, 2) == choose_dropped(mixed, 100)[:2]
    assert choose_dropped(mixed, 0) == []


def test_few_images_and_images_that_are_alike_have_no_suspects():
    assert choose_dropped([*np.ones(18), 100.0], 5) == []
    assert choose_dropped(np.ones(50), 5) == []
    assert choose_dropped([*np.full(50, 10.0), 10.01, 20.0], 5) == [51]
    # A large share of defects is no longer told from a second kind of normal images.
    assert choose_dropped([*np.linspace(9, 11, 20), *np.linspace(50, 60, 30)], 50) == []


@given(samples, st.floats(1e-6, 0.9))
def test_the_threshold_is_the_lowest_score_that_is_flagged(normal, alpha):
    calibration = Calibration(np.sort(normal), NO_PIXELS)
    threshold = calibration.threshold(alpha)
    if np.isinf(threshold):
        far = calibration.p_values([-1e9 if threshold < 0 else 1e9])[0]
        assert (far[0] <= alpha) == (threshold < 0)
        return
    below = threshold - max(1e-6, 1e-9 * abs(threshold))
    p, _ = calibration.p_values([below, threshold + 1e-6 * max(1, abs(threshold))])
    assert p[1] <= alpha * (1 + 1e-6)
    assert p[0] > alpha * (1 - 1e-6)


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_tails_do_not_raise_the_false_alarm_rate(shape):
    """True false-alarm rate at an alpha a tenth of the resolution of 100 scores."""
    random = np.random.default_rng(5)
    true = genpareto(shape, scale=2.0)
    rates, inside = [], []
    for seed in range(200):
        calibration = Calibration(np.sort(true.rvs(100, random_state=random)), NO_PIXELS)
        rates.append(true.sf(calibration.threshold(1e-3)))
        if seed < 40:
            low, high = calibration.interval(1e-3, draws=100, seed=seed)
            inside.append(low <= true.isf(1e-3) <= high)
    assert 3e-4 < np.median(rates) < 3e-3
    assert np.mean(inside) > 0.5


def test_a_tail_never_ends():
    tail = Tail.fit(np.sort(np.random.default_rng(0).uniform(0, 1, 500)))
    assert tail.shape >= 0
    assert tail.survival(np.array([10.0]))[0] > 0
    same = Calibration(np.full(50, 3.0), NO_PIXELS)
    assert same.p_values([3.0])[0] == 1.0
    assert same.p_values([3.1])[0] < 1e-6


def test_intervals_are_wider_for_small_samples():
    random = np.random.default_rng(0)
    widths = []
    for n in (50, 5000):
        calibration = Calibration(np.sort(random.gamma(4, 2, n)), NO_PIXELS)
        low, high = calibration.interval(0.01)
        assert low <= calibration.threshold(0.01) <= high
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=50), st.floats(0.01, 0.5))
def test_false_discoveries_are_those_of_scipy(p_values, rate):
    cutoff = benjamini_hochberg(p_values, rate)
    wanted = false_discovery_control(p_values) <= rate
    found = np.asarray(p_values) <= cutoff
    close = np.isclose(false_discovery_control(p_values), rate)  # equal except for rounding
    assert (found == wanted)[~close].all()


def test_pixel_thresholds_are_interpolated_between_known_shares():
    thresholds = -np.log(PIXEL_ALPHAS)
    calibration = Calibration(np.ones(3), thresholds)
    assert calibration.pixel_threshold(3e-4) == pytest.approx(-np.log(3e-4), rel=1e-3)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(0, 2**16))
def test_the_highest_pixels_of_parts_decide_the_thresholds_of_all(parts, seed):
    random = np.random.default_rng(seed)
    values = [random.gamma(2.0, size=n).astype(np.float32) for n in parts]
    total = sum(parts)
    most = decisive_pixels(total)
    highest = np.empty(0, np.float32)
    for part in values:
        highest = keep_highest(np.concatenate([highest, keep_highest(part, most)]), most)
    assert len(highest) <= 0.1 * total + 2
    found = pixel_thresholds(np.sort(highest), total)
    wanted = np.quantile(np.concatenate(values).astype(np.float64), 1 - PIXEL_ALPHAS)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_false_alarms_are_as_many_as_asked_for():
    """On synthetic pyramids: a share of about alpha of new normal images has p <= alpha."""
    shape = PyramidShape(((8, 8), (4, 4), (2, 2)), (3, 4, 4))
    anomaly_map = AnomalyMap.build((8, 8), (32, 32), 2.0)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(15):
        maps = random_maps(shape, 140, generator)
        normal, new = ([m[some] for m in maps] for some in (slice(100), slice(100, None)))
        moments = fitted(shape, normal, 50)
        gaussian = factorise(moments, Covariance.of(moments, 0.01))

        def scores(maps, change, gaussian=gaussian):
            squares = change(squared_lengths(gaussian.whitened(shape.nest(maps))))
            return find_peaks(anomaly_map.full(shape.unnest(squares.sqrt())))[0].double().numpy()

        own = scores(normal, lambda squares: left_out(squares, 100))
        found.append(Calibration(np.sort(own), NO_PIXELS).p_values(scores(new, lambda s: s))[0])
    p = np.concatenate(found)
    for alpha in (0.1, 0.05, 0.01):
        share = (p <= alpha).mean()
        assert share <= binom.ppf(0.995, len(p), alpha) / len(p)
        assert share >= 0.5 * alpha
