"""Why an image has its score: parts by level, and the most similar normal image."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.api.analysis.explain.levels import LevelPart, level_sentence
from padim_dist.archive.reading.transform import prepare
from padim_dist.cli.app import app
from padim_dist.core.embedding import Embedder
from padim_dist.errors import ImageError, RequestError
from padim_dist.storage import Folder
from padim_dist.store.weights import kept_weights
from padim_dist.store.workspace import Workspace
from tests.api.workspace import config_file

LEVELS = ["fine", "middle", "coarse"]


def rows(config, where: str = "status = 'scored'") -> list[dict]:
    found = padim.open_scores(config.workspace).filter(where).order("uri")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def spoiled(tiny_audit) -> dict:
    return rows(tiny_audit, "label = 'spot' AND \"group\" = 'a'")[0]


@pytest.fixture(scope="module")
def shown(tiny_audit, spoiled, tmp_path_factory):
    """The result for a spoiled image, and its picture."""
    file = tmp_path_factory.mktemp("why") / "why.png"
    result = padim.show(tiny_audit, image_id=spoiled["image_id"], out=str(file), why=True)
    assert result.notes == []
    return result, file


def copied(config, folder: Path):
    shutil.copytree(config.workspace, folder / "audit")
    return config.model_copy(update={"workspace": str(folder / "audit")})


def test_parts_add_up_to_the_score(shown, spoiled, tiny_audit):
    levels = shown[0].why.levels
    assert [part.level for part in levels] == LEVELS
    assert [part.layers for part in levels] == ["layer1", "layer2", "layer3"]
    assert [part.patches for part in levels] == ["16 x 16", "8 x 8", "4 x 4"]
    assert sum(part.part for part in levels) == pytest.approx(spoiled["score"], rel=1e-5)
    assert sum(part.share for part in levels) == pytest.approx(1, rel=1e-5)
    others = [row for row in rows(tiny_audit) if row["group"] == "a" and not row["flagged"]]
    for part in levels:
        own = np.median([row[f"score_{part.level}"] for row in others])
        assert part.usual == pytest.approx(own, rel=1e-5)
        assert part.times == pytest.approx(part.part / own, rel=1e-5)


def test_every_scored_image_has_parts(tiny_audit):
    for row in rows(tiny_audit):
        total = sum(row[f"score_{level}"] for level in LEVELS)
        assert total == pytest.approx(row["score"], rel=1e-5)
    assert all(row["score_fine"] is None for row in rows(tiny_audit, "status <> 'scored'"))


def most_similar(config, row: dict) -> str:
    """Return the id of the train image of the group whose vectors have the highest mean cosine."""
    model = padim.open_model(config.workspace)
    spec = model.info.embedding
    weights = kept_weights(Workspace(Folder(config.workspace)), spec.weights)
    embed = Embedder(spec, weights, torch.device("cpu"))

    def vectors(uri: str) -> list[np.ndarray]:
        pixels = torch.from_numpy(np.array(Image.open(uri).convert("RGB"))).permute(2, 0, 1)
        levels = embed(prepare(pixels, spec.geometry)[None])
        return [level[..., 0].double().numpy() for level in levels]

    image, found = vectors(row["uri"]), {}
    for other in rows(config, f"split = 'train' AND \"group\" = '{row['group']}'"):
        if other["image_id"] != row["image_id"]:
            levels = zip(image, vectors(other["uri"]), strict=True)
            cosines = [
                (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
                for x, y in levels
            ]
            found[other["image_id"]] = np.mean([level.mean() for level in cosines])
    return max(found, key=found.__getitem__)


def test_the_most_similar_normal_image(shown, spoiled, tiny_audit):
    nearest = shown[0].why.nearest
    assert nearest.image_id == most_similar(tiny_audit, spoiled)
    assert Path(tiny_audit.archive.url, nearest.image).exists()
    assert nearest.compared == 10


def test_an_image_in_the_model_is_not_its_own_likeness(tiny_audit):
    row = rows(tiny_audit, "split = 'train'")[0]
    result = padim.show(tiny_audit, image_id=row["image_id"], why=True)
    nearest = result.why.nearest
    assert row["left_out"]
    assert "that of a model without it" in result.notes[0]
    assert nearest.image_id == most_similar(tiny_audit, row) != row["image_id"]
    assert nearest.compared == 9


def test_the_picture(shown, spoiled, tiny_audit):
    """Image, heatmap and normal image side by side; below them what is in their boxes."""
    result, file = shown
    picture = np.asarray(Image.open(file)).astype(int)
    assert picture.shape[1] == 3 * 372 + 12
    first, tall = 64, 300
    for left, name in ((12, spoiled["uri"]), (756, None)):
        path = name or Path(tiny_audit.archive.url, result.why.nearest.image)
        wanted = np.asarray(Image.open(path).convert("RGB").resize((360, tall), 1)).astype(int)
        drawn = picture[first : first + tall, left : left + 360]
        assert np.median(np.abs(drawn - wanted)) < 3
    # The defect is in the enlarged part of the image, and not in that of the normal one.
    zoomed = picture[first + tall + 34 :]
    red = [(zoomed[:360, x : x + 360] == (250, 30, 30)).all(axis=-1).mean() for x in (12, 756)]
    assert red[0] > 0.05
    assert red[1] == 0


def test_a_run_of_an_earlier_version(shown, spoiled, tiny_audit, tmp_path):
    """Its rows have no parts; they are computed from the image."""
    config = copied(tiny_audit, tmp_path)
    for file in Path(config.workspace).glob("runs/*/scores/*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.drop_columns([f"score_{level}" for level in LEVELS]), file)
    levels = padim.show(config, image_id=spoiled["image_id"], why=True).why.levels
    for now, then in zip(levels, shown[0].why.levels, strict=True):
        assert now.part == pytest.approx(then.part, rel=1e-3)
        assert now.usual is None


def test_what_is_not_known_is_said(spoiled, tiny_audit, tmp_path):
    config, given = copied(tiny_audit, tmp_path), {"image_id": spoiled["image_id"], "why": True}
    shutil.rmtree(tmp_path / "audit" / "moments")
    result = padim.show(config, **given)
    assert result.why.nearest is None
    assert "kept no embeddings of group a" in result.notes[0]
    times = os.stat(spoiled["uri"])
    os.utime(spoiled["uri"], (1, 1))
    try:
        result = padim.show(config, **given)
        assert "cannot be read any more (changed" in result.notes[0]
        assert [part.level for part in result.why.levels] == LEVELS
        with pytest.raises(ImageError, match="not that of the manifest"):
            padim.show(config, **given, out=str(tmp_path / "x.png"))
    finally:
        os.utime(spoiled["uri"], ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(tmp_path / "audit" / "models")
    result = padim.show(config, **given)
    assert "is not a finished model" in result.notes[0]
    assert [part.layers for part in result.why.levels] == [None] * 3
    with pytest.raises(RequestError, match="is not a finished model"):
        padim.show(config, **given, out=str(tmp_path / "x.png"))


def test_an_image_that_was_not_scored_has_no_reason(tiny_audit):
    bad = rows(tiny_audit, "status <> 'scored'")[0]
    assert padim.show(tiny_audit, image_id=bad["image_id"], why=True).why is None


def test_the_command(spoiled, tiny_audit, tmp_path):
    given = ["show", spoiled["image_id"], "--why", "-c"]
    given.append(str(config_file(tiny_audit, tmp_path / "c.yaml")))
    done = CliRunner(env={"COLUMNS": "120"}).invoke(app, given)
    assert done.exit_code == 0
    assert "stands out most" in done.stdout
    assert "similar normal  a/train/good/" in done.stdout
    assert "Why(" not in done.stdout
    done = CliRunner().invoke(app, [*given, "--json"])
    why = json.loads(done.stdout.splitlines()[-1])["why"]
    assert [part["level"] for part in why["levels"]] == LEVELS


def test_sentences():
    fine = LevelPart("fine", None, None, 3.0, 0.3, None, None)
    coarse = LevelPart("coarse", None, None, 7.0, 0.7, None, None)
    told = "of the score of 10.00, 3.00 is fine (30 %) and 7.00 is coarse (70 %)"
    assert level_sentence(10.0, [fine, coarse]) == told
    assert level_sentence(10.0, []) == "the parts of the score by level are not known"
