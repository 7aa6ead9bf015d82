"""One image of a real run: its row, regions and picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

import padim_dist as padim
from padim_dist.cli.terminal import Terminal
from padim_dist.errors import RequestError
from padim_dist.storage import Folder
from padim_dist.store.runs.rows import REGIONS_SCHEMA
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace


@pytest.fixture(scope="module")
def spoiled(tiny_audit) -> dict:
    """Return the row of an image with a defect in rows 40 to 56, columns 20 to 36."""
    return one(tiny_audit, "label = 'spot'")


def one(config, where: str) -> dict:
    found = padim.open_scores(config.workspace).filter(where).order("uri").limit(1)
    (row,) = found.fetchall()
    return dict(zip(found.columns, row, strict=True))


def test_an_image_next_to_its_heatmap(tiny_audit, spoiled, tmp_path):
    file = tmp_path / "x.png"
    result = padim.show(tiny_audit, image_id=spoiled["image_id"][:12], out=str(file))
    assert (result.image_id, result.picture) == (spoiled["image_id"], str(file))
    assert padim.show(tiny_audit, image_id=result.image).image_id == result.image_id
    assert result.score == pytest.approx(spoiled["score"])
    picture = np.asarray(Image.open(file)).astype(int)
    scale = 384 / 96
    assert picture.shape == (80 * scale, 2 * 384 + 8, 3)
    original = np.asarray(Image.open(spoiled["uri"]).convert("RGB").resize((384, 320), 1))
    assert np.abs(picture[:, :384] - original).mean() < 2
    colour = picture[:, 392:].max(-1) - picture[:, 392:].min(-1)  # grey where there is no heat
    y, x = np.unravel_index(colour.argmax(), colour.shape)
    assert 32 < y / scale < 64
    assert 12 < x / scale < 44
    assert np.median(colour) < 10


def test_boxes_of_regions(tiny_audit, spoiled, tmp_path):
    shutil.copytree(tiny_audit.workspace, tmp_path / "audit")
    config = tiny_audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    _put_region(config, spoiled)
    padim.judge(config, review=50)  # regions are those of flagged images
    file = tmp_path / "x.png"
    result = padim.show(config, image_id=spoiled["image_id"], out=str(file))
    (region,) = result.regions
    assert region.box == "rows 40-56, columns 20-36"
    drawn = np.asarray(Image.open(file))[:, 392:]
    assert (drawn[159, 79:144] == (0, 200, 255)).all()  # above row 40, enlarged 4 times
    assert (drawn[159:224, 79] == (0, 200, 255)).all()


def _put_region(config, row: dict) -> None:
    region = {name: row.get(name) for name in REGIONS_SCHEMA.names}
    region |= {"region": 1, "area": 256, "top": 40, "left": 20, "bottom": 56, "right": 36}
    region |= {"peak": row["score"], "p_value": 1e-5}
    table = Run(Workspace(Folder(config.workspace)), row["run_id"]).regions
    table.replace(row["shard"], pa.Table.from_pylist([region], REGIONS_SCHEMA))


def test_an_image_that_was_not_scored(tiny_audit, tmp_path):
    bad = one(tiny_audit, "status <> 'scored'")
    result = padim.show(tiny_audit, image_id=bad["image_id"], out=str(tmp_path / "x.png"))
    assert (result.status, result.error) == (bad["status"], bad["error"])
    assert result.picture is None
    assert not (tmp_path / "x.png").exists()
    assert "no picture" in result.notes[0]


def test_wrong_ids_and_files_are_refused(tiny_audit, tmp_path):
    with pytest.raises(RequestError, match="has no image 'zz'"):
        padim.show(tiny_audit, image_id="zz")
    with pytest.raises(RequestError, match="several images have ids that begin with ''"):
        padim.show(tiny_audit, image_id="")
    with pytest.raises(RequestError, match=r"ends in \.png, \.jpg"):
        padim.show(tiny_audit, image_id="a", out=str(tmp_path / "x.txt"))


def test_drawn_in_a_true_colour_terminal(tiny_audit, spoiled, capsys):
    """Coloured half blocks; image and heatmap side by side."""
    console = Console(
        force_terminal=True, color_system="truecolor", width=100, height=40, _environ={}
    )
    terminal = Terminal()
    terminal.out = console
    assert terminal.can_draw
    padim.show(tiny_audit, image_id=spoiled["image_id"], screen=terminal.draw)
    lines = [line for line in capsys.readouterr().out.splitlines() if "▄" in line]
    assert 10 < len(lines) <= 36
    assert all(line.count("▄") == lines[0].count("▄") <= 100 for line in lines)
    assert any("38;2;250;30;30" in line or "48;2;250;30;30" in line for line in lines)


def test_nothing_is_drawn_without_a_terminal(tiny_audit, spoiled, tmp_path):
    from typer.testing import CliRunner

    from padim_dist.cli.app import app
    from tests.api.workspace import config_file

    path = str(config_file(tiny_audit, tmp_path / "c.yaml"))
    done = CliRunner().invoke(app, ["show", spoiled["image_id"][:10], "-c", path])
    assert done.exit_code == 0
    assert "no picture: give --out FILE" in done.stderr
    done = CliRunner().invoke(app, ["show", spoiled["image_id"], "-c", path, "--json"])
    assert (
        json.loads(done.stdout)["image"]
        == Path(spoiled["uri"]).relative_to(Path(tiny_audit.archive.url)).as_posix()
    )
