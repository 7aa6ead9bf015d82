"""Evaluation metrics and verdicts on the bottle set of MVTec AD."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from torch import Tensor

import padim_dist as padim
from padim_dist.api.nights.oddness import odd_reasons
from padim_dist.archive.reading.transform import prepare
from padim_dist.config import AuditConfig, Config, load_config
from padim_dist.core.calibration import PIXEL_ALPHAS, Calibration, left_out
from padim_dist.core.covariance import Covariance
from padim_dist.core.drift import Drift, Noise, measure_drift, measure_noise
from padim_dist.core.embedding import Embedder
from padim_dist.core.gaussian import Gaussian, factorise, squared_lengths
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.moments import Moments
from padim_dist.storage import Folder
from padim_dist.store.nights import DriftNight, GroupNight, NightSummary
from padim_dist.store.parts.sample import SampleReader
from padim_dist.store.weights import kept_weights
from padim_dist.store.workspace import Workspace
from tests.conftest import BOTTLE, WEIGHTS, needs_bottle

pytestmark = needs_bottle


class Bottles:
    """The set's embeddings, fits and scores in memory."""

    def __init__(self, workspace: str) -> None:
        self.model = padim.open_model(workspace)
        spec = self.model.info.embedding
        self.shape, self.geometry = spec.shape, spec.geometry
        weights = kept_weights(Workspace(Folder(workspace)), spec.weights)
        self.embed_batch = Embedder(spec, weights, torch.device("cpu"))
        size = spec.geometry.crop
        self.anomaly_map = AnomalyMap.build(spec.shape.grids[0], size, self.model.info.sigma)

    def embed(
        self, where: str, change: Callable = lambda pixels: pixels, some: slice = slice(None)
    ) -> list[Tensor]:
        """Return the level matrices (G_a, d_a, N) of images of a folder."""
        batches = []
        paths = sorted((BOTTLE / where).glob("*.jpg"))[some]
        for start in range(0, len(paths), 16):
            pixels = [
                torch.from_numpy(np.array(change(Image.open(path).convert("RGB"))))
                for path in paths[start : start + 16]
            ]
            prepared = [prepare(image.permute(2, 0, 1), self.geometry) for image in pixels]
            batches.append(self.embed_batch(torch.stack(prepared)))
        return [torch.cat(levels, dim=-1) for levels in zip(*batches, strict=True)]

    def fit(self, levels: list[Tensor]) -> tuple[Gaussian, int]:
        moments = Moments.zeros(self.shape)
        for start in range(0, levels[0].shape[-1], 32):
            moments.update([level[..., start : start + 32].contiguous() for level in levels])
        return factorise(moments, Covariance.of(moments, 0.01)), moments.count

    def scores(self, squares: Tensor) -> np.ndarray:
        maps = self.anomaly_map.full(self.shape.unnest(squares.sqrt()))
        return find_peaks(maps)[0].double().numpy()


def take(levels: list[Tensor], places: np.ndarray) -> list[Tensor]:
    return [level[..., places].contiguous() for level in levels]


def bottle_config(workspace: Path, scheduler: str, *settings: str) -> Config:
    return load_config(
        "configs/mvtec_bottle.yaml",
        [
            f"workspace={workspace}",
            f"archive.url={BOTTLE}",
            f"model.weights={WEIGHTS}",
            "fit.parts=2",
            "score.alpha=0.05",
            f"cluster={{kind: address, address: '{scheduler}'}}",
            *settings,
        ],
    )


@pytest.fixture(scope="module")
def audit(tmp_path_factory, scheduler) -> Config:
    config = bottle_config(tmp_path_factory.mktemp("bottle"), scheduler, "model.channels=100")
    padim.fit(config)
    assert padim.score(config).statuses == {"scored": 83}
    return config


@pytest.fixture(scope="module")
def bottles(audit) -> Bottles:
    return Bottles(audit.workspace)


@pytest.fixture(scope="module")
def normal(audit, bottles) -> list[Tensor]:
    """Embeddings of the training images, by name: the fit kept them all as its sample."""
    workspace = Path(audit.workspace)
    levels, ids = [], []
    for part in workspace.glob("moments/*/*/*.zarr"):
        path = str(part.relative_to(workspace))
        reader = SampleReader(Workspace(Folder(audit.workspace)), path, bottles.shape)
        levels.append(reader.read(range(len(reader.image_ids))))
        ids += reader.image_ids
    (manifest,) = workspace.glob("manifests/*/part-*.parquet")
    rows = pq.read_table(manifest, columns=["uri", "image_id", "split"]).to_pylist()
    names = [r["image_id"] for r in sorted(rows, key=lambda r: r["uri"]) if r["split"] == "train"]
    order = np.array([ids.index(name) for name in names])
    return take([torch.cat(level, dim=-1) for level in zip(*levels, strict=True)], order)


def check_figures(config: Config, image: float, pixel: float, pro: float) -> None:
    figures = padim.evaluate(config).groups["all"]
    assert figures.image_auroc >= image
    assert figures.pixel_auroc >= pixel
    assert figures.pro >= pro


def test_figures_of_the_paper(audit):
    check_figures(audit, 0.99, 0.978, 0.935)


@pytest.mark.slow
def test_figures_of_all_channels(tmp_path, scheduler):
    # The figures need no calibration, and the sample would be more than a gigabyte.
    config = bottle_config(tmp_path, scheduler, "model.channels=null", "fit.sample=0")
    padim.fit(config)
    padim.score(config)
    check_figures(config, 0.99, 0.980, 0.943)


@pytest.mark.slow
def test_an_int8_trunk_finds_as_much(tmp_path, scheduler, audit):
    int8 = ("model.channels=100", "model.engine=openvino", "model.precision=int8")
    config = bottle_config(tmp_path, scheduler, *int8)
    padim.fit(config)
    padim.score(config)
    found, wanted = (padim.evaluate(one).groups["all"] for one in (config, audit))
    assert abs(found.image_auroc - wanted.image_auroc) <= 0.002
    assert abs(found.pixel_auroc - wanted.pixel_auroc) <= 0.002
    assert abs(found.pro - wanted.pro) <= 0.005


def test_defects_are_flagged(audit):
    rows = padim.open_scores(audit.workspace)
    defective = rows.filter("label <> 'good'").aggregate("sum(flagged::int), count(*)")
    ((flagged, images),) = defective.fetchall()
    assert flagged / images >= 0.97


def test_false_alarms_are_as_many_as_asked_for(bottles, normal):
    """Each of the 229 normal images is held out once, in five folds."""
    levels = [
        torch.cat(pair, dim=-1) for pair in zip(normal, bottles.embed("test/good"), strict=True)
    ]
    images = levels[0].shape[-1]
    assert images == 229
    random = np.random.default_rng(0)
    order, p = random.permutation(images), np.empty(images)
    for fold in range(5):
        held = order[fold::5]
        own = take(levels, np.setdiff1d(order, held))
        gaussian, count = bottles.fit(own)
        squares = left_out(squared_lengths(gaussian.whitened(own)), count)
        calibration = Calibration(np.sort(bottles.scores(squares)), np.zeros(len(PIXEL_ALPHAS)))
        new = squared_lengths(gaussian.whitened(take(levels, held)))
        p[held], _ = calibration.p_values(bottles.scores(new))
    for alpha in (0.1, 0.05, 0.01):
        assert (p <= alpha).sum() <= binom.ppf(0.995, images, alpha)
    assert (p <= 0.1).mean() > 0.05


def noise_of(bottles: Bottles, gaussian: Gaussian, count: int, own: list[Tensor]) -> tuple:
    z = gaussian.whitened(take(own, np.arange(0, count, count // 64)))
    squares = squared_lengths(z)
    others = left_out(squares, count)
    overlap = measure_noise(z, (others / squares).sqrt())
    return Noise(float(others.mean()), overlap), others.mean(dim=1)


def shifted(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), 2, axis=1))


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(round(value * 1.05), 255))


def test_a_shift_and_a_gain_are_drift_and_noise_is_not(bottles, normal):
    some = slice(2, None, 6)
    held = np.arange(209)[some]
    own = take(normal, np.setdiff1d(np.arange(209), held))
    gaussian, count = bottles.fit(own)
    noise, usual = noise_of(bottles, gaussian, count, own)

    def drift(levels: list[Tensor]) -> Drift:
        mean = [level.mean(dim=-1) for level in levels]
        return measure_drift(mean, levels[0].shape[-1], gaussian, count, noise, usual)[0]

    assert abs(drift(take(normal, held)).z) < 3
    for change in (shifted, brighter):
        assert drift(bottles.embed("train/good", change, some)).z > 6


def test_nights_of_shifted_and_brighter_test_images_are_odd(bottles, normal):
    """Test images differ a little from training images, so the history has test images, too."""
    gaussian, count = bottles.fit(normal)
    noise, usual = noise_of(bottles, gaussian, count, normal)
    random = np.random.default_rng(1)

    def group(levels: list[Tensor]) -> GroupNight:
        some = take(levels, random.choice(20, 18, replace=False))
        mean = [level.mean(dim=-1) for level in some]
        drift, _ = measure_drift(mean, 18, gaussian, count, noise, usual)
        night = DriftNight(drift.drift - drift.expected, drift.noise)
        return GroupNight(18, 18, 10.0, 12.0, 0, 0.05, night)

    def night(levels: list[Tensor]) -> NightSummary:
        groups, statuses = {"all": group(levels)}, {"scored": 18}
        return NightSummary(
            1, "done", [], "2026-11-01", "m", 18, statuses, groups, [], [], "", False, "", ""
        )

    same = bottles.embed("test/good")
    before = [night(same) for _ in range(5)]

    def reasons(levels: list[Tensor]) -> list[str]:
        return odd_reasons(AuditConfig(), "m", {"scored": 18}, {"all": group(levels)}, before)

    assert reasons(same) == []
    for change in (shifted, brighter):
        assert "the scene has moved" in "".join(reasons(bottles.embed("test/good", change)))
