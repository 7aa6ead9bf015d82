"""The figures that the project stands for, on the bottle set of MVTec AD."""

from __future__ import annotations

import pytest

import padim_dist as pd
from padim_dist.config import load_config
from tests.conftest import BOTTLE, WEIGHTS, needs_bottle


@needs_bottle
@pytest.mark.parametrize(
    ("channels", "image", "pixel", "pro"),
    [(100, 0.99, 0.978, 0.935), (None, 0.99, 0.980, 0.943)],
    ids=["d=100", "d=448"],
)
def test_bottle(tmp_path, scheduler, channels, image, pixel, pro):
    config = load_config(
        "configs/mvtec_bottle.yaml",
        [
            f"workspace={tmp_path}",
            f"archive.url={BOTTLE}",
            f"model.weights={WEIGHTS}",
            f"model.channels={'null' if channels is None else channels}",
            "fit.parts=2",
            f"cluster={{kind: address, address: '{scheduler}'}}",
        ],
    )
    pd.fit(config)
    assert pd.score(config).statuses == {"scored": 83}
    figures = pd.evaluate(config).groups["all"]
    assert figures.image_auroc >= image
    assert figures.pixel_auroc >= pixel
    assert figures.pro >= pro
