"""Figures of degenerate images: alike, few, constant, huge. None raises, warns, or is no number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.api.nights.oddness import odd_reasons
from padim_dist.config import AuditConfig
from padim_dist.core.calibration import PIXEL_ALPHAS, Calibration
from padim_dist.core.covariance import Covariance
from padim_dist.core.drift import Drift, Noise, measure_drift, measure_noise
from padim_dist.core.evaluation.metrics import PixelCounts, exact_curve
from padim_dist.core.gaussian import factorise
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.quality import Quality, condition_numbers, regularised_share
from padim_dist.store.nights import DriftNight, GroupNight, NightSummary

SHAPE = PyramidShape(grids=((4, 4), (2, 2)), channels=(3, 5))
# Scores are float32: distances up to the largest of them.
scores = st.floats(0, 2.0**127, width=32)
figures = st.floats(0, 1e300)


@pytest.mark.parametrize("count", [1, 2, 3, 30])
@pytest.mark.parametrize("shrinkage", ["none", "oas"])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_a_group_of_images_that_are_all_alike_has_a_model(count, shrinkage, value):
    """A black camera: distances are 0 for the same image, and finite for any other."""
    moments = Moments.zeros(SHAPE)
    sizes = zip(SHAPE.positions, SHAPE.channels, strict=True)
    levels = [torch.full((positions, channels, count), value) for positions, channels in sizes]
    moments.update(levels)
    covariance = Covariance.of(moments, 0.01, shrinkage)
    gaussian = factorise(moments, covariance)
    assert float(gaussian.distances([level[..., :1].clone() for level in levels]).max()) < 1e-3
    others = gaussian.distances([level[..., :1] + 1 for level in levels])
    assert others.numpy() == pytest.approx(np.sqrt(8 / 0.01), rel=1e-3)
    quality = Quality(
        count,
        8,
        regularised_share(moments, covariance).numpy(),
        condition_numbers(moments, covariance).numpy(),
    )
    assert quality.regularised == pytest.approx(1.0)
    assert quality.condition == pytest.approx(1.0)
    assert quality.warnings()


def test_their_drift_is_not_measurable():
    moments = Moments.zeros(SHAPE)
    levels = [
        torch.zeros(positions, channels, 6)
        for positions, channels in zip(SHAPE.positions, SHAPE.channels, strict=True)
    ]
    moments.update(levels)
    gaussian = factorise(moments, Covariance.of(moments, 0.01))
    z = gaussian.whitened([level.clone() for level in levels])
    noise = Noise(0.0, measure_noise(z, torch.ones(16, 6)))
    assert not noise.is_measurable
    drift, ratio = measure_drift(
        [level[..., 0] + 1 for level in levels], 3, gaussian, 6, noise, torch.zeros(16)
    )
    assert not drift.is_finite
    assert math.isnan(drift.z)
    assert math.isnan(drift.limit(0.001))
    assert bool(ratio.isnan().all()), "nothing to compare with"


def test_rounding_is_no_noise():
    """Found with 25 copies of one image of noise: the batch changes the last bits."""
    assert not Noise(1.6e-10, 1.9e-21).is_measurable
    assert Noise(0.5, 0.01).is_measurable


@given(st.builds(Drift, st.integers(1, 10**6), figures, figures, figures), st.floats(1e-6, 0.5))
def test_the_drift_of_any_figures(drift, chance):
    limit = drift.limit(chance)
    if drift.is_finite and drift.expected > 0:
        assert math.isfinite(drift.z)
        assert not math.isnan(limit)


def test_the_limit_goes_over_into_the_normal_one():
    below, above = (Drift(1, 1.0, 1.0, noise).limit(0.001) for noise in (1.01e-4, 0.99e-4))
    assert below == pytest.approx(above, rel=1e-3)
    assert above == pytest.approx(3.0902, rel=1e-4)


@given(
    st.lists(scores, min_size=1, max_size=60),
    st.lists(scores, min_size=1, max_size=5),
    st.floats(1e-6, 0.5),
)
def test_a_calibration_from_any_scores(normal, new, alpha):
    calibration = Calibration(np.sort(np.array(normal, float)), np.zeros(len(PIXEL_ALPHAS)))
    p_values, _ = calibration.p_values(np.array(new))
    assert np.all((p_values > 0) & (p_values <= 1))
    assert not math.isnan(calibration.threshold(alpha))
    assert not np.isnan(calibration.interval(alpha, draws=5)).any()
    assert calibration.pixel_threshold(alpha) == 0


@given(st.lists(st.tuples(scores, st.booleans()), max_size=30))
def test_metrics_of_any_scores(rows):
    values = np.array([score for score, _ in rows], float)
    anomalous = np.array([label for _, label in rows], bool)
    curve = exact_curve(values, anomalous)
    one_class = len(set(anomalous.tolist())) < 2
    assert math.isnan(curve.auroc()) == one_class
    assert bool(curve.roc()) != one_class
    assert (curve.best_f1() is None) == (not anomalous.any())
    assert math.isnan(curve.pro())  # without masks


@given(st.lists(st.tuples(scores, st.integers(0, 3)), min_size=1, max_size=40))
def test_pixel_metrics_of_any_map(pixels):
    counts = PixelCounts()
    values, regions = (np.array(column)[None] for column in zip(*pixels, strict=True))
    counts.update(values.astype(np.float32), regions)
    curve = counts.curve()
    for figure in (curve.auroc(), curve.pro()):
        assert math.isnan(figure) or 0 <= figure <= 1
    curve.roc(), curve.pro_curve(), curve.best_f1()


def night(number: int, group: GroupNight) -> NightSummary:
    top: list = []
    figures_ = (group.images, {"scored": group.scored}, {"cam": group}, top, [], "", False)
    return NightSummary(number, "done", [], "2026-11-27", "m", *figures_, "", "")


groups = st.builds(
    GroupNight,
    images=st.integers(1, 5),
    scored=st.integers(0, 1),
    median=st.one_of(st.none(), figures),
    highest=st.one_of(st.none(), figures),
    flagged=st.one_of(st.none(), st.integers(0, 1)),
    alpha=st.one_of(st.none(), st.floats(0, 0.5)),
    drift=st.one_of(st.none(), st.builds(DriftNight, st.floats(-1e300, 1e300), figures)),
)


@given(groups, st.lists(groups, max_size=5))
def test_oddness_of_any_figures(group, past):
    before = [night(i, one) for i, one in enumerate(past, 1)]
    found = odd_reasons(AuditConfig(), "m", {"scored": group.images}, {"cam": group}, before)
    assert not any("nan" in reason for reason in found)
