"""A run in FiftyOne, and its tags as reviews: with the real package and its database."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.errors import RequestError

pytestmark = pytest.mark.filterwarnings("default")  # of FiftyOne and its libraries


@pytest.fixture
def config(tiny_audit, tmp_path) -> Config:
    shutil.copytree(tiny_audit.workspace, tmp_path / "audit")
    return tiny_audit.model_copy(update={"workspace": str(tmp_path / "audit")})


def test_a_run_is_a_data_set_and_its_tags_are_reviews(config, tmp_path):
    import fiftyone as fo

    spots = padim.connect(config).sql(
        "SELECT image_id, uri, score, p_value, flagged FROM scores WHERE label = 'spot' ORDER BY 1"
    )
    rows = {row[0]: row for row in spots.fetchall()}
    first, second, third = list(rows)[:3]
    padim.label(config, images=[first], verdict="defect", kind="red square")
    made = padim.export(
        config, format="fiftyone", out=str(tmp_path / "maps"), name="night", all_images=True
    )
    dataset = fo.load_dataset("night")
    assert dataset.persistent
    scored = padim.connect(config).sql("FROM scores WHERE status = 'scored'")
    assert len(dataset) == made.images == len(scored.fetchall())
    samples = {sample.image_id: sample for sample in dataset}
    for image_id, (_, uri, score, p_value, flagged) in rows.items():
        sample = samples[image_id]
        assert sample.filepath == uri
        found = (sample.score, sample.p_value, sample.flagged)
        assert found == (pytest.approx(score), p_value, flagged)
        assert sample.ground_truth.label == "spot"
        heat = np.asarray(Image.open(sample.heatmap.map_path))
        assert heat.shape == (72, 72), "of the whole image: 64 x 64 in the middle of 72 x 72"
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert (40 / 80 - 0.1) * 72 < y < (56 / 80 + 0.1) * 72, "at the bright square"
        assert (20 / 96 - 0.1) * 72 < x < (36 / 96 + 0.1) * 72
    assert (samples[first].tags, samples[first].verdict) == (["defect"], "defect")
    assert samples[second].tags == []
    regions = padim.connect(config).sql(
        'SELECT "left" / 96, "top" / 80, ("right" - "left") / 96, (bottom - "top") / 80, p_value '
        "FROM regions ORDER BY ALL"
    )
    wanted = [tuple(row) for row in regions.fetchall()]
    boxes = [
        (*detection.bounding_box, detection.p_value)
        for sample in dataset
        for detection in sample.anomalies.detections
    ]
    np.testing.assert_allclose(sorted(boxes), wanted)
    assert made.regions == len(wanted)

    samples[second].tags.append("ok")
    samples[second].save()
    samples[third].tags.append("defect")
    samples[third].save()
    imported = padim.label(config, fiftyone="night", by="ann")
    assert (imported.images, imported.ok, imported.defect) == (2, 1, 1)
    reviews = padim.connect(config).sql("SELECT image_id, verdict, who, run_id FROM reviews")
    run = made.run_id
    wanted = {(second, "ok", "ann", run), (third, "defect", "ann", run)}
    assert wanted <= set(reviews.fetchall())
    with pytest.raises(RequestError, match="no new tag"):
        padim.label(config, fiftyone="night")
    padim.label(config, images=[third], verdict="ok", by="bob")
    samples[second].tags = ["defect"]
    samples[second].save()
    assert padim.label(config, fiftyone="night").images == 1, "only what changed since"
    last = padim.connect(config).sql("SELECT image_id, verdict FROM scores WHERE verdict NOT NULL")
    assert dict(last.fetchall()) == {first: "defect", second: "defect", third: "ok"}

    samples[first].tags = ["ok", "defect"]
    samples[first].save()
    with pytest.raises(RequestError, match="both tags"):
        padim.label(config, fiftyone="night")
    with pytest.raises(RequestError, match="has a data set 'night' already"):
        padim.export(config, format="fiftyone", out=str(tmp_path / "maps"), name="night")
    with pytest.raises(RequestError, match="has no data set 'day'"):
        padim.label(config, fiftyone="day")
    fo.Dataset("other")
    with pytest.raises(RequestError, match="lacks the fields"):
        padim.label(config, fiftyone="other")


def test_images_that_fiftyone_cannot_show_are_copied(tmp_path, scheduler):
    """Members of a tar file; flagged and reviewed images only."""
    import tarfile

    import fiftyone as fo

    from tests.conftest import make_mvtec, tiny_config

    make_mvtec(tmp_path / "images", groups=("a",))
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/night.tar", "w") as tar:
        tar.add(tmp_path / "images", arcname=".")
    config = tiny_config(
        tmp_path,
        tmp_path / "tars",
        scheduler,
        archive={"layout": "tar", "group": "/(?P<group>a)/"},
        score={"alpha": 0.05},
    )
    padim.fit(config)
    padim.score(config)
    where = "flagged OR image_id = '{}'"
    one = padim.top(config, n=40).anomalies[-1].image_id
    padim.label(config, images=[one], verdict="ok")
    made = padim.export(config, format="fiftyone", out=str(tmp_path / "maps"))
    dataset = fo.load_dataset(f"padim-dist-{made.run_id}")
    wanted = padim.connect(config).sql(f"SELECT image_id FROM scores WHERE {where.format(one)}")
    assert sorted(dataset.values("image_id")) == sorted(i for (i,) in wanted.fetchall())
    for sample in dataset:
        assert Path(sample.filepath).parent == tmp_path / "maps/images"
        member = tmp_path / "images" / sample.member.removeprefix("./")
        original = np.asarray(Image.open(member).convert("RGB"), int)
        assert np.abs(np.asarray(Image.open(sample.filepath), int) - original).max() <= 2
