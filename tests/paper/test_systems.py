"""The systems of the paper's tables against their formulas, written in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from benchmarks.paper import padim, vae_training
from benchmarks.paper.features import Features
from benchmarks.paper.mahalanobis import LevelGaussian
from benchmarks.paper.mahalanobis import judge as judge_mahalanobis
from benchmarks.paper.pca import Pca
from benchmarks.paper.protocol import judge_maps
from benchmarks.paper.sets import Picture
from benchmarks.paper.spade import Spade, pool
from benchmarks.paper.vae import Vae, divergence, error_maps
from benchmarks.paper.vae_training import Training, train
from padim_dist.core.backbone import draw_channels
from padim_dist.core.evaluation.metrics import exact_curve
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import dense_distances, dense_embedding, dense_fit, random_maps

SHAPE = PyramidShape(grids=((8, 8), (4, 4), (2, 2)), channels=(3, 5, 7))
GEOMETRY = InputGeometry((16, 16), (16, 16))


@pytest.fixture
def maps():
    """Feature maps of 40 images, (N, C, H, W) of each layer."""
    return random_maps(SHAPE, 40, torch.Generator().manual_seed(3))


class Killed(BaseException):
    """In place of a signal."""


def kept(maps, images: slice) -> list[np.ndarray]:
    """Return feature maps as they are kept: (N, H, W, C)."""
    return [m[images].permute(0, 2, 3, 1).contiguous().numpy() for m in maps]


def wanted_maps(maps) -> torch.Tensor:
    """Return the anomaly maps of the last 8 images, by dense Gaussians of the others."""
    mean, covariance = dense_fit(dense_embedding([m[:32] for m in maps]), 0.01)
    distances = dense_distances(dense_embedding([m[32:] for m in maps]), mean, covariance)
    full = AnomalyMap.build(tuple(distances.shape[1:]), (16, 16), 4.0)
    return full.full(torch.from_numpy(distances).float())


@pytest.mark.parametrize("layers", [[0], [1], [2], [0, 1, 2]])
def test_padim_of_layers_is_the_dense_gaussian_of_them(maps, layers):
    change = padim.all_channels if len(layers) > 1 else padim.single_layer(layers[0])
    model = padim.Model.fit(kept(maps, slice(32)), change)
    found = torch.cat(list(model.maps(kept(maps, slice(32, None)), GEOMETRY)))
    torch.testing.assert_close(found, wanted_maps([maps[i] for i in layers]), rtol=1e-4, atol=1e-4)


def test_a_draw_keeps_the_channels_that_the_pipeline_draws(maps):
    change = padim.drawn_channels(SHAPE.channels, 9, seed=1)
    drawn = draw_channels(SHAPE.channels, 9, 1)
    assert sum(map(len, drawn)) == 9
    model = padim.Model.fit(kept(maps, slice(32)), change)
    found = torch.cat(list(model.maps(kept(maps, slice(32, None)), GEOMETRY)))
    chosen = [m[:, list(places)] for m, places in zip(maps, drawn, strict=True)]
    torch.testing.assert_close(found, wanted_maps(chosen), rtol=1e-4, atol=1e-4)


def test_the_sum_of_layers_is_judged_by_the_sum_of_their_maps(maps):
    features = Features(kept(maps, slice(32)), kept(maps, slice(32, None)))
    pictures = [Picture(None, "good" if i < 4 else "cut") for i in range(8)]
    found = padim.judge_sum(features, pictures, GEOMETRY)
    summed = sum(wanted_maps([m]) for m in maps).flatten(1).max(dim=1).values
    assert found.image_auroc == pytest.approx(roc_auc_score([0] * 4 + [1] * 4, summed))


def test_components_are_those_of_a_singular_value_decomposition(maps):
    pca = Pca.fit(kept(maps, slice(None)), 6)
    found = pca.project(maps).permute(0, 2, 3, 1).numpy()
    patches = dense_embedding(maps).reshape(-1, SHAPE.depth)
    _, _, rows = np.linalg.svd(patches - patches.mean(axis=0), full_matrices=False)
    wanted = ((patches - patches.mean(axis=0)) @ rows[:6].T).reshape(found.shape)
    signs = np.sign((found * wanted).sum(axis=(0, 1, 2)))  # of a direction: they do not matter
    np.testing.assert_allclose(found * signs, wanted, rtol=1e-3, atol=1e-3)


def test_spade_finds_the_nearest_images_and_pixels(maps):
    normal, image = kept(maps, slice(30)), [m[0] for m in kept(maps, slice(35, 36))]
    spade = Spade.of(normal, neighbours=5)
    pooled = maps[2].double().mean(dim=(2, 3)).numpy()
    squares = ((pooled[:30] - pooled[35]) ** 2).sum(axis=1)
    score, places = spade.nearest(torch.from_numpy(image[-1].mean(axis=(0, 1))))
    assert sorted(places) == sorted(np.argsort(squares)[:5])
    assert score == pytest.approx(np.sort(squares)[:5].mean(), rel=1e-5)
    whole = dense_embedding(maps)
    gallery = whole[places].reshape(-1, SHAPE.depth)
    apart = ((whole[35][:, :, None] - gallery) ** 2).sum(axis=-1)
    found = spade.squares(image, places)
    np.testing.assert_allclose(found.numpy(), apart.min(axis=-1), rtol=1e-4, atol=1e-4)


def test_spade_pools_a_last_layer_that_pixels_do_not_use(maps):
    last = torch.rand(40, 1, 1, 4)
    normal = [*kept(maps, slice(30)), last[:30].numpy()]
    spade = Spade.of(normal, neighbours=3)
    assert len(spade.maps) == 3
    torch.testing.assert_close(spade.pooled, last[:30, 0, 0])


def test_mahalanobis_is_the_density_of_scipy(maps):
    pooled = pool(kept(maps, slice(None))[2]).numpy()
    fitted = LedoitWolf().fit(pooled[:32].astype(np.float64))
    density = multivariate_normal(fitted.location_, fitted.covariance_)
    squares = 2 * (density.logpdf(fitted.location_) - density.logpdf(pooled[32:]))
    found = LevelGaussian.fit(pooled[:32]).distances(pooled[32:])
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-6)


def test_mahalanobis_adds_up_its_levels(maps):
    features = Features(kept(maps, slice(32)), kept(maps, slice(32, None)))
    pictures = [Picture(None, "good" if i < 4 else "cut") for i in range(8)]
    summed = np.zeros(8)
    for m in maps:
        pooled = m.double().mean(dim=(2, 3)).numpy()
        fitted = LedoitWolf().fit(pooled[:32])
        summed += np.sqrt(fitted.mahalanobis(pooled[32:]))
    wanted = roc_auc_score([0] * 4 + [1] * 4, summed)
    assert judge_mahalanobis(features, pictures).image_auroc == pytest.approx(wanted)


def test_the_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    wanted = torch.distributions.kl_divergence(normal, standard).sum()
    torch.testing.assert_close(divergence(mean, log_variance), wanted)


def test_the_autoencoder_has_64_positions_and_a_map_of_squared_errors():
    model = Vae().eval()
    pixels = torch.randint(0, 256, (1, 3, 256, 256), dtype=torch.uint8)
    with torch.no_grad():
        mean, log_variance = model.encode(pixels / 255)
        found, again = error_maps(model, pixels), model(pixels / 255)
    assert mean.shape == log_variance.shape == (1, 64, 8, 8)
    wanted = ((again.numpy() * 255 - pixels.numpy()) ** 2).mean(axis=1)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-2)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_model(tmp_path, monkeypatch):
    monkeypatch.setattr(
        vae_training,
        "read_pixels",
        lambda path, _: torch.full((3, 256, 256), path, dtype=torch.uint8),
    )
    pictures = [Picture(grey, "good") for grey in (20, 120, 220)]
    training = Training(images=4, epochs=2, batch=2)
    whole = train(pictures, training, tmp_path / "whole.pt", every=1)

    loss, calls = Vae.loss, []

    def dies(self, *arguments):
        if len(calls) == 2:
            raise Killed
        calls.append(1)
        return loss(self, *arguments)

    monkeypatch.setattr(Vae, "loss", dies)
    with pytest.raises(Killed):
        train(pictures, training, tmp_path / "cut.pt", every=1)
    monkeypatch.setattr(Vae, "loss", loss)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["done"] == 2
    again = train(pictures, training, tmp_path / "cut.pt", every=1)
    for name, wanted in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], wanted, rtol=0, atol=0)


def test_pixels_and_images_have_the_area_of_scikit_learn(tmp_path):
    rng = np.random.default_rng(5)
    masks = rng.random((6, 16, 16)) > 0.8
    masks[:3] = False
    pictures = []
    for place, mask in enumerate(masks):
        path = tmp_path / f"{place}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        pictures.append(
            Picture(path, "cut" if mask.any() else "good", path if mask.any() else None)
        )
    maps = torch.from_numpy((rng.random((6, 16, 16)) + 0.5 * masks).astype(np.float32))
    found = judge_maps(pictures, GEOMETRY, [maps[:4], maps[4:]])
    truth = [mask.any() for mask in masks]
    assert found.image_auroc == roc_auc_score(truth, maps.flatten(1).max(dim=1).values)
    wanted = roc_auc_score(masks.ravel(), maps.numpy().ravel())
    assert found.pixel_auroc == pytest.approx(wanted, abs=1e-3)
    regions = np.stack([label(mask, np.ones((3, 3)))[0] for mask in masks])
    numbers = np.where(regions > 0, regions + 1000 * np.arange(6)[:, None, None], 0)
    exact = exact_curve(maps.numpy().astype(np.float64), masks, numbers)
    assert found.pro == pytest.approx(exact.pro(), abs=1e-3)
