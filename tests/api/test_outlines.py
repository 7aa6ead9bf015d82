"""Outlines of regions, compared with their pixels through pycocotools."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

import padim_dist as padim
from padim_dist.api.analysis.coco.outlines import Outline, outline_regions
from padim_dist.config import Config
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.regions import find_regions

# Of pycocotools with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
WHOLE = InputGeometry((120, 140), (120, 140))
SIZE = (120, 140)


def decoded(outline: Outline, size: tuple[int, int]) -> np.ndarray:
    """Return the mask that labelling tools see."""
    polygons = [ring[:-1].ravel().tolist() for ring in outline.rings]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))).astype(bool)


@pytest.mark.parametrize(("sigma", "level"), [(3, 1.0), (5, 0.5), (9, -0.2)])
def test_outlines_cover_the_pixels_of_their_regions(sigma, level):
    """Also at edges, with holes, and where regions lie inside the holes of others."""
    rng = np.random.default_rng(sigma)
    a_map = ndimage.gaussian_filter(rng.normal(size=SIZE), sigma)
    a_map = (a_map / a_map.std()).astype(np.float32)
    labels, _ = ndimage.label(a_map >= level, np.ones((3, 3)))
    found = outline_regions(a_map, level, WHOLE, SIZE)
    regions = find_regions(a_map, level)
    assert [place for place, _ in found] == [region.place for region in regions]
    for (place, outline), region in zip(found, regions, strict=True):
        pixels = labels == labels[place]
        edge = (pixels & ~ndimage.binary_erosion(pixels, border_value=0)).sum()
        assert abs(outline.area - region.area) <= 0.5 * edge
        drawn = decoded(outline, SIZE)
        assert (drawn ^ pixels).sum() <= edge
        # Where they differ is next to the outline of the region.
        near = ndimage.binary_dilation(pixels, iterations=1)
        assert not (drawn & ~near).any()


def test_a_hole_is_left_out():
    y, x = np.mgrid[:120, :140]
    ring = (40 - np.abs(np.hypot(y - 60, x - 70) - 30)).astype(np.float32)
    ((_, outline),) = outline_regions(ring, 30.0, WHOLE, SIZE)
    (line,) = outline.rings
    assert (line[0] == line[-1]).all()
    drawn = decoded(outline, SIZE)
    assert not drawn[60, 70]
    assert drawn[60, 100]
    assert outline.area == pytest.approx(np.pi * (40**2 - 20**2), rel=0.01)
    assert drawn.sum() == pytest.approx(outline.area, rel=0.01)


def test_a_map_above_the_level_has_the_outline_of_the_crop():
    geometry = InputGeometry((128, 128), (96, 64))
    ((_, outline),) = outline_regions(np.full((96, 64), 5, np.float32), 1.0, geometry, (256, 512))
    assert outline.box == (128, 32, 384, 224)
    assert 256 * 192 - 8 < outline.area <= 256 * 192  # its corners are cut


def test_a_single_pixel_has_the_outline_of_its_box():
    a_map = np.zeros(SIZE, np.float32)
    a_map[5, 7] = 3
    ((place, outline),) = outline_regions(a_map, 3.0, WHOLE, SIZE)
    assert (place, outline.box, outline.area) == ((5, 7), (7, 5, 8, 6), 1)


@pytest.fixture(scope="module")
def run(tiny_audit, tmp_path_factory) -> tuple[Config, str]:
    """A run of the test images that flags about half of them."""
    folder = tmp_path_factory.mktemp("outlines") / "audit"
    shutil.copytree(tiny_audit.workspace, folder)
    score = tiny_audit.score.model_copy(update={"alpha": 0.49, "splits": ("test",)})
    config = tiny_audit.model_copy(update={"workspace": str(folder), "score": score})
    run_id = padim.score(config).run_id
    assert run_id is not None
    return config, run_id


def opened(file: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def test_a_file_of_polygons_opened_by_pycocotools(run, tmp_path):
    config, run_id = run
    file = tmp_path / "regions.json"
    result = padim.export(config, format="coco", out=str(file), run=run_id)
    assert not result.notes
    coco = opened(file)
    table = padim.open_regions(f"{config.workspace}/runs/{run_id}")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]
    assert result.regions == len(coco.anns) == len(rows) > 5
    assert {category["name"] for category in coco.cats.values()} == {"anomaly"}
    by_id = {(row["image_id"], row["region"]): row for row in rows}
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        row = by_id[image["image_id"], annotation["region"]]
        drawn = coco.annToMask(annotation).astype(int)
        assert drawn.shape == (80, 96)
        # A pixel of the map is 1.5 of the original; so much may differ along the outline.
        edge = 2 * (row["bottom"] - row["top"] + row["right"] - row["left"])
        assert abs(drawn.sum() - row["area"]) <= edge
        assert abs(annotation["area"] - row["area"]) <= edge
        assert drawn[row["peak_y"], row["peak_x"]] or row["area"] < 4
        left, top, width, height = annotation["bbox"]
        box = [left, top, left + width, top + height]
        wanted = [row["left"], row["top"], row["right"], row["bottom"]]
        np.testing.assert_allclose(box, wanted, atol=2.5)
        assert Path(config.archive.url, image["file_name"]).exists()


def test_all_images_are_listed_on_request(run, tmp_path):
    config, run_id = run
    file = tmp_path / "regions.json"
    given = {"format": "coco", "out": str(file), "run": run_id, "min_area": 200}
    padim.export(config, **given)
    some = opened(file)
    assert min(annotation["area"] for annotation in some.anns.values()) >= 200
    assert {annotation["image_id"] for annotation in some.anns.values()} == set(some.imgs)
    padim.export(config, **given, all_images=True)
    every = opened(file)
    archive = Path(config.archive.url)
    tests = {str(path.relative_to(archive)) for path in archive.glob("?/test/*/??.*")}
    assert {image["file_name"] for image in every.imgs.values()} == tests
    assert len(some.imgs) < len(every.imgs)
    assert list(every.anns.values()) == list(some.anns.values())


def test_a_run_without_heatmaps_or_model_has_boxes(run, tmp_path):
    config, run_id = run
    shutil.copytree(config.workspace, tmp_path / "audit")
    config = config.model_copy(update={"workspace": str(tmp_path / "audit")})
    file = tmp_path / "regions.json"

    def corners() -> set[int]:
        return {len(a["segmentation"][0]) for a in opened(file).anns.values()}

    shutil.rmtree(tmp_path / "audit" / "runs" / run_id / "heatmaps.zarr")
    result = padim.export(config, format="coco", out=str(file), run=run_id)
    assert f"outlines are boxes: run {run_id} kept no heatmaps" in result.notes[0]
    assert corners() == {8}
    shutil.rmtree(tmp_path / "audit" / "models")
    result = padim.export(config, format="coco", out=str(file), run=run_id)
    assert "is not a finished model" in result.notes[0]
    assert corners() == {8}
