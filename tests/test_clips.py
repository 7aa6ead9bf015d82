"""A fixed camera: films of the pedestrian clips, judged by frame and by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.config import load_config
from tests.archive.films import make_film
from tests.conftest import SHARED, WEIGHTS

CLIPS = SHARED / "data" / "ped2_clips"


@pytest.mark.slow
@pytest.mark.skipif(
    not (CLIPS.exists() and WEIGHTS.exists()),
    reason="SKIPPED PART: the clips of a fixed camera or the weights are not in ../shared",
)
def test_a_fixed_camera(tmp_path, scheduler):
    camera = tmp_path / "films" / "ped2"
    for clip in [*CLIPS.glob("train/*"), *CLIPS.glob("test/*")]:
        frames = (np.array(Image.open(path).convert("RGB")) for path in sorted(clip.iterdir()))
        make_film(camera / clip.parent.name / f"{clip.name}.mkv", frames, "ffv1")
    for mask in CLIPS.glob("ground_truth/*/*.png"):
        target = camera / mask.relative_to(CLIPS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(mask.read_bytes())
    config = load_config(
        "configs/fixed_cameras.yaml",
        [
            f"workspace={tmp_path / 'audit'}",
            f"archive.url={camera.parent}",
            "archive.video.every=5 frames",
            f"model.weights={WEIGHTS}",
            f"cluster={{kind: address, address: '{scheduler}'}}",
        ],
    )
    padim.fit(config)
    assert padim.score(config).statuses == {"scored": 3 * 36}
    table = (CLIPS / "test_frames.csv").read_text().splitlines()[1:]
    truth = {tuple(line.split(",")[:2]): line.endswith("1") for line in table}
    rows = padim.query(config, sql="SELECT uri, member, label FROM scores").rows
    for uri, member, label in rows:  # 10 frames a second
        number = f"{round(10 * float(member.removeprefix('t='))):03d}"
        assert truth[Path(uri).stem, number] == (label == "anomaly")
    figures = padim.evaluate(config).groups["ped2"]
    assert figures.image_auroc >= 0.8
    assert figures.pixel_auroc >= 0.975
