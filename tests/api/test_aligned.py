"""Archives whose parts and cameras move, from the fit to the pictures."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import padim_dist as padim
from padim_dist.api.pipeline.align.references import median_id
from padim_dist.api.pipeline.chosen.sampled import sample_settings
from padim_dist.api.settings.places import model_settings
from padim_dist.config import Config
from padim_dist.config.retention import RetentionConfig
from padim_dist.core.align.motion import Motion
from padim_dist.errors import ConfigError, DamagedFileError, RunError
from padim_dist.pages.explained import Explained, explanation
from tests.conftest import tiny_config
from tests.core.test_align import SIZE, photo

ALIGN = {"shift": 16, "rotate": 10}
SIDE = 96
TERMS = ("heatmaps", "runs", "models", "moments", "manifests", "attempts")


def draw_archive(
    root: Path, folder: str, images: int, seed: int, down: int = 0, most: int = 12
) -> None:
    """Draw photos of a part that lies elsewhere in each; with defects if the folder says so."""
    random = np.random.default_rng(seed)
    for number in range(images):
        angle, (y, x) = random.uniform(-8, 8), random.integers(-most, most + 1, 2).tolist()
        image = photo(angle, down + y, x)
        noise = random.normal(0, 2, (*SIZE, 3))
        name = f"{number:02d}_{angle:.2f}_{down + y}_{x}"
        if folder.endswith("spot"):
            mask = Image.new("L", image.size)
            place = [150 + x, 120 + y, 190 + x, 160 + y]
            ImageDraw.Draw(image).ellipse(place, fill=(255, 0, 255))
            ImageDraw.Draw(mask).ellipse(place, fill=255)
            truth = root / "ground_truth/spot" / f"{name}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            mask.save(truth)
        path = root / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(path)


def make_config(folder: Path, scheduler: str | None, **model: object) -> Config:
    settings = {"resize": SIDE, "crop": None, "align": ALIGN, **model}
    archive = {"group": None, "shard_images": 64}
    return tiny_config(
        folder, folder / "archive", scheduler, model=settings, archive=archive, fit={"parts": 1}
    )


@pytest.fixture(scope="module")
def audit(tmp_path_factory, scheduler) -> Config:
    folder = tmp_path_factory.mktemp("aligned")
    root = folder / "archive"
    draw_archive(root, "train/good", 16, 0)
    draw_archive(root, "test/good", 3, 1)
    draw_archive(root, "test/spot", 5, 2)
    noise = np.random.default_rng(3).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(root / "test/good/noise.png")
    config = make_config(folder, scheduler)
    padim.fit(config)
    assert padim.score(config).statuses == {"scored": 25}
    return config


def rows_of(config: Config) -> list[dict]:
    return padim.open_scores(config.workspace).to_arrow_table().to_pylist()


def test_rows_say_how_images_lie(audit):
    """Against each other, since the reference is a median: their differences are known."""
    rows = rows_of(audit)
    (noise,) = (row for row in rows if row["uri"].endswith("noise.png"))
    assert (noise["aligned"], noise["angle"], noise["shift_y"]) == (0, None, None)
    others = [row for row in rows if row is not noise]
    assert min(row["aligned"] for row in others) > 0.9
    drawn = np.array([[float(v) for v in Path(row["uri"]).stem.split("_")[1:]] for row in others])
    found = np.array([[row["angle"], row["shift_y"], row["shift_x"]] for row in others])
    wanted = drawn * (1, SIDE / SIZE[0], SIDE / SIZE[1])
    apart = (found - found[0]) - (wanted - wanted[0])
    # Pictures that are turned differ a little in their shifts if the median lies elsewhere.
    assert np.abs(apart).max(axis=0) == pytest.approx(0, abs=0.8)


def test_peaks_regions_masks_and_heatmaps_are_in_the_original(audit):
    padim.judge(audit, review=8)
    rows = [row for row in rows_of(audit) if row["label"] == "spot"]
    assert len(rows) == 5
    regions = padim.open_regions(audit.workspace).to_arrow_table().to_pylist()
    maps = padim.open_heatmaps(audit.workspace)
    for row in rows:
        name = Path(row["uri"]).stem
        mask = Image.open(Path(audit.archive.url) / f"ground_truth/spot/{name}_mask.png")
        places = np.argwhere(np.asarray(mask) > 0)
        middle = places.mean(axis=0)
        assert np.hypot(*(middle - (row["peak_y"], row["peak_x"]))) < 20
        first = next(r for r in regions if r["image_id"] == row["image_id"] and r["region"] == 1)
        assert first["top"] <= middle[0] < first["bottom"]
        assert first["left"] <= middle[1] < first["right"]
        one = maps.isel(row=np.flatnonzero(maps.image_id.values == row["image_id"]))
        whole = one.padim.full(original=True)[0].values
        assert whole.shape == SIZE
        assert np.hypot(*(np.argwhere(whole == np.nanmax(whole))[0] - middle)) < 20
        small = one.padim.full()[0].values
        y, x = np.unravel_index(small.argmax(), small.shape)
        back = [int(axis[0]) for axis in one.padim.to_original(y, x)]
        assert np.abs(np.subtract(back, (row["peak_y"], row["peak_x"]))).max() <= 4  # float16
    assert padim.evaluate(audit).groups["all"].pixel_auroc > 0.97
    assert padim.verify(audit, all_shards=True).is_same


def test_the_model_has_its_reference(audit, tmp_path, scheduler):
    """A fit of more images takes the same one; another model's settings say nothing of it."""
    info = padim.open_model(audit.workspace).info
    assert info.positions["all"].aligned == 16
    shutil.copytree(Path(audit.workspace).parent, tmp_path / "copy")
    draw_archive(tmp_path / "copy/archive", "train/good", 4, 9)
    settings = {"archive": {"url": str(tmp_path / "copy/archive"), "name": audit.archive.url}}
    config = make_config(tmp_path / "copy", scheduler)
    config = config.model_copy(
        update={"archive": config.archive.model_copy(update=settings["archive"])}
    )
    padim.index(config)
    padim.fit(config)
    again = padim.open_model(config.workspace).info
    assert again.model_id != info.model_id
    assert again.references == info.references
    assert again.counts == {"all": 20}
    assert "align" not in model_settings(make_config(tmp_path, None, align=None))["model"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.png", None, "neither 'median' nor a picture that can be read"),
        ("text.png", b"no picture", "cannot be the reference: .*Name a picture of the camera"),
    ],
)
def test_a_picture_that_is_none_is_refused(audit, tmp_path, name, content, said):
    if content:
        (tmp_path / name).write_bytes(content)
    model = audit.model.model_copy(
        update={"align": audit.model.align.model_copy(update={"to": str(tmp_path / name)})}
    )
    with pytest.raises(ConfigError, match=said):
        padim.fit(audit.model_copy(update={"model": model}))


def aligned_to(audit: Config, picture: Image.Image, folder: Path, **update: object) -> Config:
    """Return the configuration that aligns images with a picture, in a workspace of its own."""
    picture.save(folder / "to.png")
    align = audit.model.align.model_copy(update={"to": str(folder / "to.png")})
    model = audit.model.model_copy(update={"align": align, **update})
    return audit.model_copy(update={"model": model, "workspace": str(folder / "audit")})


def test_a_picture_of_another_shape_is_refused_before_the_work(audit, tmp_path):
    config = aligned_to(audit, photo().resize((300, 200)), tmp_path)
    with pytest.raises(ConfigError, match="it has 300x200 pixels, images of 'all' 400x300"):
        padim.fit(config)
    (found,) = [one for one in padim.doctor(config).findings if one.verdict == "error"]
    assert "300x200" in found.found


def test_an_unlike_picture_aligns_nothing_and_fit_says_so(audit, tmp_path):
    config = aligned_to(audit, Image.new("RGB", (400, 300), (90, 90, 90)), tmp_path)
    (warning,) = [one for one in padim.fit(config).warnings if "aligned" in one]
    assert "'all' 16 of 16" in warning
    assert "model.align.number" in warning


def test_the_similar_normal_image_is_drawn_as_the_image_lies(audit, tmp_path, monkeypatch):
    drawn: list[Explained] = []

    def draw(shown: Explained) -> Image.Image:
        drawn.append(shown)
        return explanation(shown)

    monkeypatch.setattr("padim_dist.api.analysis.explain.why.explanation", draw)
    rows = [row for row in rows_of(audit) if not row["left_out"] and row["label"] == "good"]
    for row in (row for row in rows if row["aligned"]):
        out = str(tmp_path / "why.png")
        assert not padim.show(audit, image_id=row["image_id"], out=out, why=True).notes
        shown = drawn.pop()
        assert shown.normal is not None
        near = np.s_[60:-60, 60:-60]
        apart = np.abs(shown.normal[near].astype(float) - shown.pixels[near])
        assert np.median(apart) < 6
        assert np.mean(apart > 40) < 0.02


def test_a_median_is_found_anew_by_number_and_not_by_what_is_excluded(audit, tmp_path):
    other = audit.archive.model_copy(update={"exclude": "x[.]png$", "train": "(^|/)good/"})
    assert median_id(audit.model_copy(update={"archive": other})) == median_id(audit)
    align = audit.model.align.model_copy(update={"number": 1})
    numbered = audit.model_copy(update={"model": audit.model.model_copy(update={"align": align})})
    assert median_id(numbered) != median_id(audit)
    assert model_settings(numbered) != model_settings(audit)
    grouped = audit.archive.model_copy(update={"group": "^([^/]+)/"})
    assert median_id(audit.model_copy(update={"archive": grouped})) != median_id(audit)
    reduced = audit.model_copy(update={"model": audit.model.model_copy(update={"jpeg": "reduced"})})
    assert median_id(reduced) != median_id(audit)  # it has other grey levels
    assert "jpeg" not in sample_settings(audit)["model"]  # ids of version 0.6 stay


def test_an_image_that_cannot_be_read_now_ends_the_fit(audit, tmp_path, scheduler):
    """It is not left out of a median that is kept for good."""
    shutil.copytree(audit.archive.url, tmp_path / "archive")
    config = make_config(tmp_path, scheduler)
    padim.index(config)
    gone = sorted((tmp_path / "archive/train/good").iterdir())[3]
    gone.unlink()
    with pytest.raises(RunError, match=r"1 image of 16 .*group 'all' .*missing.*fit[.]without"):
        padim.fit(config)
    assert not (Path(config.workspace) / "references").exists()


def test_a_reference_that_is_gone_is_named(audit, tmp_path):
    shutil.copytree(audit.workspace, tmp_path / "audit")
    config = audit.model_copy(
        update={
            "workspace": str(tmp_path / "audit"),
            "score": audit.score.model_copy(update={"heatmaps": "none"}),
            "retention": RetentionConfig.model_validate(dict.fromkeys(TERMS, "1d")),
        }
    )
    for path in (tmp_path / "audit").rglob("*"):
        os.utime(path, (0, 0))
    before = sorted((tmp_path / "audit/references").rglob("*"))
    padim.prune(config)
    assert sorted((tmp_path / "audit/references").rglob("*")) == before
    (picture,) = (tmp_path / "audit/references").glob("*.npz")
    picture.unlink()
    row = next(row for row in rows_of(config) if row["label"] == "spot")
    (note,) = padim.show(config, image_id=row["image_id"], why=True).notes
    assert "references" in note
    with pytest.raises(DamagedFileError, match="references"):
        padim.score(config)


def test_the_region_of_interest_lies_in_the_reference(audit, tmp_path):
    """The same patches of every image are judged, wherever its part lies."""
    left = (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),)
    model = audit.model.model_copy(update={"roi": left})
    config = audit.model_copy(update={"model": model, "workspace": str(tmp_path / "audit")})
    padim.fit(config)
    assert padim.score(config).statuses == {"scored": 25}
    distances = padim.open_heatmaps(config.workspace).distance.values
    half = distances.shape[2] // 2
    assert np.isfinite(distances[..., :half]).all()
    assert np.isnan(distances[..., half:]).all()
    geometry, inside = config.model.geometry, []
    for row in (row for row in rows_of(config) if row["angle"] is not None):
        motion = Motion(row["shift_y"], row["shift_x"], row["angle"])
        lies = np.array([*motion.affine(geometry.resize, SIZE), (0, 0, 1)])
        peak = (row["peak_y"] + 0.5) * SIDE / SIZE[0], (row["peak_x"] + 0.5) * SIDE / SIZE[1], 1
        inside.append((np.linalg.inv(lies) @ peak)[1] <= SIDE / 2 + 0.5)
    assert len(inside) == 24
    assert all(inside)


def test_nvjpeg_does_not_align(tmp_path):
    with pytest.raises(ConfigError, match="'align' works on CPUs"):
        make_config(tmp_path, None, jpeg="nvjpeg")


@pytest.mark.slow
def test_a_night_of_a_camera_that_has_moved_is_odd(audit, tmp_path, scheduler):
    shutil.copytree(Path(audit.workspace).parent, tmp_path / "copy")
    config = make_config(tmp_path / "copy", scheduler)
    padim.promote(config, model=padim.fit(config).model_id)
    assert not [r for r in padim.audit(config).nights[-1].reasons if "camera" in r]
    draw_archive(tmp_path / "copy/archive", "test/good", 12, 7, down=30, most=4)
    (reason,) = [r for r in padim.audit(config).nights[-1].reasons if "camera moved" in r]
    assert "down" in reason
    summary = sorted(Path(config.workspace).rglob("summary.json"))[-1]
    moved = json.loads(summary.read_text())["groups"]["all"]["moved"]
    assert moved["shift_y"] == pytest.approx(30 * SIDE / SIZE[0], abs=3)
