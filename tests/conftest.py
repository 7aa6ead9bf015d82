"""Fixtures for all tests: real image files, tiny archives, one running cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from padim_dist.config import ClusterConfig, Config, make_config
from padim_dist.engine.cluster.local import open_local

SHARED = Path(__file__).parents[2] / "shared"
BOTTLE = SHARED / "data" / "mvtec_bottle"
WEIGHTS = SHARED / "weights" / "resnet18_imagenet1k_v1_trunk.pth"

# The S3 server of the tests accepts any credentials. Workers inherit them.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="MARKED-SECRET-0123456789",
    AWS_DEFAULT_REGION="us-east-1",
)

# Two test processes and their workers share the cores.
torch.set_num_threads(1)

settings.register_profile(
    "quick", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", max_examples=100, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "quick")


@pytest.fixture(autouse=True)
def _hear_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """Undo what a local cluster of Dask does: it silences the handlers of its process."""
    caplog.handler.setLevel(0)


needs_bottle = pytest.mark.skipif(
    not (BOTTLE.exists() and WEIGHTS.exists()),
    reason="SKIPPED PART: the bottle set or its weights are not in ../shared",
)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a running cluster of two real worker processes."""
    with open_local(ClusterConfig(workers=2, memory="4GiB"), 2, None) as client:
        yield client.scheduler.address


def draw(path: Path, seed: int, spoiled: bool = False, size: tuple[int, int] = (80, 96)) -> None:
    """Write a small textured image; a spoiled one has a bright square as its defect."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width]
    base = 110 + 60 * np.sin(x / 9) * np.cos(y / 7)
    pixels = np.clip(base[..., None] + rng.normal(0, 6, (height, width, 3)), 0, 255)
    if spoiled:
        pixels[height // 2 : height // 2 + 16, 20:36] = (250, 30, 30)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


def make_mvtec(
    root: Path, groups: tuple[str, ...] = ("a", "b"), normal: int = 10, seed: int = 0
) -> Path:
    """Write a tiny archive in the layout of MVTec AD, with 3 broken files."""
    for g, group in enumerate(groups):
        for i in range(normal):
            draw(root / group / "train/good" / f"{i:02d}.jpg", seed + 100 * g + i)
        for i in range(4):
            draw(root / group / "test/good" / f"{i:02d}.png", seed + 100 * g + 50 + i)
            draw(root / group / "test/spot" / f"{i:02d}.png", seed + 100 * g + 70 + i, spoiled=True)
            mask = np.zeros((80, 96), np.uint8)
            mask[40:56, 20:36] = 255
            path = root / group / "ground_truth/spot" / f"{i:02d}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    broken = root / groups[0] / "test/good"
    (broken / "empty.jpg").write_bytes(b"")
    (broken / "text.png").write_text("not an image")
    whole = (root / groups[0] / "train/good/00.jpg").read_bytes()
    (broken / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "readme.txt").write_text("left alone")
    return root


def tiny_config(tmp_path: Path, root: Path, scheduler: str | None, **changes: object) -> Config:
    """Return a configuration that is small enough for a test: 64x64 crops, random weights."""
    tree: dict[str, object] = {
        "workspace": str(tmp_path / "audit"),
        "archive": {
            "url": str(root),
            "layout": "mvtec",
            "group": "^(?P<group>[^/]+)/",
            "shard_images": 4,
        },
        "model": {"weights": "random", "resize": 72, "crop": 64, "channels": 40, "batch": 4},
        "fit": {"parts": 32},
    }
    if scheduler:
        tree["cluster"] = {"kind": "address", "address": scheduler}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            tree[key] = {**tree[key], **value}  # type: ignore[dict-item]
        else:
            tree[key] = value
    return make_config(tree)


@pytest.fixture(scope="session")
def tiny_audit(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> Config:
    """An archive of 39 images, indexed, fitted and scored. A test that changes it copies it."""
    import padim_dist as padim

    folder = tmp_path_factory.mktemp("tiny")
    # The smallest p-value of 10 normal images is 1/11: nothing is flagged.
    rule = {"alpha": 0.001}
    config = tiny_config(folder, make_mvtec(folder / "archive"), scheduler, score=rule)
    padim.fit(config)
    padim.score(config)
    return config
