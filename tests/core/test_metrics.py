"""Evaluation metrics, compared with scikit-learn and a direct computation of PRO."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

from padim_dist.core.evaluation.metrics import PixelCounts, exact_curve


def plain_pro(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """Return the PRO score as the paper defines it, threshold by threshold."""
    regions = []
    for map_, mask in zip(maps, masks, strict=True):
        numbered, count = label(mask, np.ones((3, 3)))
        regions += [map_[numbered == r] for r in range(1, count + 1)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for t in np.unique(maps)[::-1]:
        overlap = np.mean([(region >= t).mean() for region in regions])
        points.append(((normal >= t).mean(), overlap))
    fpr, pro = np.array(points).T
    grid = np.linspace(0, limit, 20001)
    return float(np.trapezoid(np.interp(grid, fpr, pro), grid) / limit)


def scene(seed: int, images: int = 4, size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), bool)
    for mask in masks[1:]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, size - 8, 2)
            mask[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = True
    maps = rng.gamma(4, 2, masks.shape) + masks * rng.gamma(3, 3, masks.shape)
    return maps.astype(np.float32), masks


def numbered(masks: np.ndarray) -> np.ndarray:
    """Return the regions, with numbers that are unique over all images."""
    out, start = np.zeros(masks.shape, int), 0
    for i, mask in enumerate(masks):
        regions, count = label(mask, np.ones((3, 3)))
        out[i] = np.where(regions > 0, regions + start, 0)
        start += count
    return out


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_auroc_with_ties(seed, levels):
    rng = np.random.default_rng(seed)
    labels = rng.random(60) < 0.4
    labels[:2] = (True, False)
    scores = rng.integers(0, levels * 3, 60).astype(float)
    assert exact_curve(scores, labels).auroc() == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize("seed", range(4))
def test_pro_follows_the_paper(seed):
    maps, masks = scene(seed)
    curve = exact_curve(maps, masks, numbered(masks))
    assert curve.pro() == pytest.approx(plain_pro(maps, masks), abs=2e-4)
    assert curve.auroc() == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))


@given(st.integers(0, 2**31), st.integers(0, 4))
def test_histograms_are_within_1e_4_and_merge(seed, cut):
    maps, masks = scene(seed)
    exact = exact_curve(maps, masks, numbered(masks))
    shards = [PixelCounts(), PixelCounts()]
    for i, (map_, mask) in enumerate(zip(maps, masks, strict=True)):
        shards[i < cut].update(map_, label(mask, np.ones((3, 3)))[0])
    shards[0].merge(shards[1])
    found = shards[0].curve()
    assert found.auroc() == pytest.approx(exact.auroc(), abs=1e-4)
    assert found.pro() == pytest.approx(exact.pro(), abs=1e-4)
    assert found.best_f1().f1 == pytest.approx(exact.best_f1().f1, abs=5e-3)


def test_best_f1_is_the_best_there_is():
    rng = np.random.default_rng(5)
    labels = rng.random(80) < 0.3
    scores = rng.normal(0, 1, 80) + labels
    best = exact_curve(scores, labels).best_f1()
    tried = [f1_score(labels, scores >= t) for t in scores]
    assert best.f1 == pytest.approx(max(tried))
    assert f1_score(labels, scores >= best.threshold) == pytest.approx(best.f1)


def test_one_class_has_no_metrics():
    curve = exact_curve(np.array([1.0, 2.0]), np.array([False, False]))
    assert np.isnan(curve.auroc())
    assert np.isnan(curve.pro())
    assert curve.best_f1() is None
    assert np.isnan(PixelCounts().curve().auroc())


@pytest.mark.parametrize("count", [50, 20_000])
def test_thinned_curves_follow_the_full_curve(count):
    rng = np.random.default_rng(count)
    anomalous = rng.random(count) < 0.1
    values = rng.normal(0, 1, count) + 2.5 * anomalous
    regions = np.where(anomalous, 1 + np.arange(count) % 7, 0)
    curve = exact_curve(values, anomalous, regions)
    few = np.array(curve.roc())
    assert len(few) <= 200
    fpr, tpr, _ = roc_curve(anomalous, values, drop_intermediate=False)
    # Every point lies on the full curve, and the areas are nearly the same.
    assert {*map(tuple, few.tolist())} <= {*zip(fpr.tolist(), tpr.tolist(), strict=True)}
    assert np.trapezoid(few[:, 1], few[:, 0]) == pytest.approx(curve.auroc(), abs=2e-3)
    few = np.array(curve.pro_curve())
    assert len(few) <= 201
    assert few[-1, 0] == 0.3
    assert np.trapezoid(few[:, 1], few[:, 0]) / 0.3 == pytest.approx(curve.pro(), abs=4e-3)


def test_curves_of_one_class_are_empty():
    assert exact_curve(np.array([1.0, 2.0]), np.array([True, True])).roc() == []
    assert exact_curve(np.array([1.0, 2.0]), np.array([False, False])).pro_curve() == []
    assert exact_curve(np.array([]), np.array([], bool)).roc() == []
