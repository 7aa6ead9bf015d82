"""Sets, kept results and the page of `make paper`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from benchmarks.paper import padim, published, tables
from benchmarks.paper.__main__ import main, read_weights
from benchmarks.paper.cells import Cells
from benchmarks.paper.cost import IMAGES, padim_numbers, spade_numbers
from benchmarks.paper.experiments import Experiments
from benchmarks.paper.films import find_films
from benchmarks.paper.page import Table, write_tables
from benchmarks.paper.pipeline import R18, WR50
from benchmarks.paper.protocol import Figures
from benchmarks.paper.sets import find_sets
from benchmarks.paper.turned import turn, write_turned
from padim_dist.core.backbone import DEFAULTS
from padim_dist.core.trunk import random_state
from padim_dist.errors import ConfigError, RequestError
from padim_dist.storage import Folder
from tests.conftest import make_mvtec

PAGE = Path(__file__).parents[2] / "docs/paper.md"
NUMBERS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII")


@pytest.fixture
def bottle(tmp_path) -> Path:
    """A tiny set of whole images."""
    make_mvtec(tmp_path, ("mvtec_bottle",), normal=6)
    for name in ("empty.jpg", "text.png", "cut.jpg"):
        (tmp_path / "mvtec_bottle/test/good" / name).unlink()
    return tmp_path / "mvtec_bottle"


class Killed(BaseException):
    """In place of a signal."""


def quiet(folder: Path) -> Cells:
    return Cells(Folder(str(folder)), Console(quiet=True))


def test_sets_are_found_with_their_masks(bottle):
    (one,) = find_sets([bottle.parent])
    assert (one.name, len(one.train), len(one.test)) == ("bottle", 6, 8)
    assert all((p.mask is not None) == p.is_anomalous for p in one.test)
    assert find_sets([bottle]) == [one]
    before = one.digest
    (bottle / "test/good/00.png").unlink()
    assert find_sets([bottle])[0].digest != before


def test_a_set_without_defects_is_refused(tmp_path, bottle):
    for path in (bottle / "test/spot").iterdir():
        path.unlink()
    with pytest.raises(RequestError, match=r"needs images in train/good, test/good and test/"):
        find_sets([tmp_path])


def test_a_turned_mask_stays_on_its_image(tmp_path, bottle):
    (one,) = find_sets([bottle])
    for name in ("00", "01", "02", "03"):  # each image is its own mask, so they can be compared
        mask = Image.open(bottle / f"ground_truth/spot/{name}_mask.png").convert("RGB")
        mask.save(bottle / f"test/spot/{name}.png")
    turned = write_turned(one, 1, tmp_path / "1")
    defective = [picture for picture in turned.test if picture.is_anomalous]
    assert len(defective) == 4
    assert [p.path.stem for p in turned.train] == [p.path.stem for p in one.train]
    places = set()
    for picture in defective:
        image, mask = Image.open(picture.path).convert("L"), Image.open(picture.mask)
        assert image.size == mask.size == (224, 224)
        white, true = np.asarray(image) > 127, np.asarray(mask) > 0
        assert (white & true).sum() / (white | true).sum() > 0.9
        places.add(tuple(np.argwhere(true).mean(axis=0).round()))
    assert len(places) > 1  # each in its own way
    again = write_turned(one, 1, tmp_path / "again")
    other = write_turned(one, 2, tmp_path / "2")
    first, same, different = ([p.path.read_bytes() for p in s.test] for s in (turned, again, other))
    assert first == same != different


def test_an_image_turns_about_its_centre():
    pixels = torch.zeros(1, 256, 256, dtype=torch.uint8)
    pixels[0, 124:132, 124:132] = 255
    found = turn(pixels, 10.0, 16, 16)
    assert found.shape == (1, 224, 224)
    centre = torch.nonzero(found[0] > 127).double().mean(dim=0)
    torch.testing.assert_close(centre, torch.tensor([111.5, 111.5]).double(), atol=0.3, rtol=0)


def test_clips_with_a_list_become_a_table(tmp_path):
    root = tmp_path / "ped"
    names = ["train/a/0.jpg", "test/b/0.jpg", "test/b/1.jpg", "ground_truth/b/1.png"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "test_frames.csv").write_text("clip,frame,anomalous\nb,0,0\nb,1,1\n")
    (films,) = find_films([tmp_path])
    with films.write_table(tmp_path / "out").open() as file:
        rows = list(csv.DictReader(file))
    told = [(Path(r["uri"]).name, r["group"], r["split"], r["label"]) for r in rows]
    assert told == [
        ("0.jpg", "ped", "train", "good"),
        ("0.jpg", "ped", "test", "good"),
        ("1.jpg", "ped", "test", "anomalous"),
    ]
    assert [r["mask_uri"] for r in rows] == ["", "", str(root / "ground_truth/b/1.png")]


def test_scenes_of_shanghaitech_become_groups(tmp_path):
    for clip in ("training/frames/01_001", "training/frames/02_001", "testing/frames/01_0014"):
        (tmp_path / clip).mkdir(parents=True)
        for frame in ("000.jpg", "001.jpg"):
            (tmp_path / clip / frame).write_bytes(b"x")
    pixels = np.zeros((2, 4, 6), np.uint8)
    pixels[1, :2, :3] = 1
    for name, array in (("test_frame_mask", np.array([0, 1])), ("test_pixel_mask", pixels)):
        (tmp_path / "testing" / name).mkdir()
        np.save(tmp_path / "testing" / name / "01_0014.npy", array)
    (films,) = find_films([tmp_path])
    with films.write_table(tmp_path / "out").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["group"], r["split"]) for r in rows] == [
        *[("01", "train")] * 2,
        *[("02", "train")] * 2,
        *[("01", "test")] * 2,
    ]
    assert [r["label"] for r in rows[4:]] == ["good", "anomalous"]
    np.testing.assert_array_equal(np.asarray(Image.open(rows[5]["mask_uri"])), pixels[1] * 255)


def test_a_result_is_computed_once(tmp_path, caplog):
    cells, made = quiet(tmp_path), []

    def compute() -> Figures:
        made.append(1)
        return Figures(0.9, None, 0.1 * len(made))

    first = cells.get("bottle PCA 100", {"set": "a", "version": 1}, compute)
    assert quiet(tmp_path).get("bottle PCA 100", {"set": "a", "version": 1}, compute) == first
    assert len(made) == 1
    cells.get("bottle PCA 100", {"set": "b", "version": 1}, compute)  # another state of the set
    assert len(made) == 2
    (file,) = (tmp_path / "cells").glob("*.json")
    file.write_text("{")
    cells.get("bottle PCA 100", {"set": "b", "version": 1}, compute)
    assert len(made) == 3
    assert "is damaged" in caplog.text


def test_tables_replace_those_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table I -->\nold\n<!-- end -->\nb\n<!-- table II -->\n<!-- end -->\n")
    write_tables(page, [Table("I", ("x", "y"), [["1|2"]], "n.")])
    wanted = "| x | y |\n| --- | --- |\n| 1\\|2 |  |\n\nn.\n"
    rest = "b\n<!-- table II -->\n<!-- end -->\n"
    assert page.read_text() == f"a\n<!-- table I -->\n{wanted}<!-- end -->\n{rest}"
    with pytest.raises(RequestError, match="has no place for table III"):
        write_tables(page, [Table("III", ("x",), [])])


def test_the_page_has_a_place_for_each_table():
    text = PAGE.read_text()
    for number in NUMBERS:
        assert text.count(f"<!-- table {number} -->\n") == 1
    assert text.count("<!-- end -->") == len(NUMBERS)


def test_systems_without_weights_are_named_as_not_run(tmp_path, bottle):
    run = Experiments(quiet(tmp_path), tmp_path, {}, quick=True)
    sets = find_sets([bottle])
    (row, *_) = tables.table_1(run, sets).rows
    assert row[:5] == ["bottle", "layer 1", "–", "–", "–"]
    assert row[5:8] == ["objects", "95.6", "–"]
    assert row[8] == "not run: no weights (`--weights resnet18=FILE`)"
    with pytest.raises(ConfigError, match="--weights 'resnet18' names no file of weights"):
        read_weights(["resnet18"])


def test_rows_have_the_means_of_textures_and_objects(tmp_path):
    sets = [type("S", (), {"name": name})() for name in ("bottle", "grid", "tile", "other")]
    values = {"bottle": 0.5, "grid": 0.6, "tile": 0.8, "other": 0.1}
    rows = tables._rows(
        "SPADE-WR50",
        sets,
        lambda one: Figures(values[one.name], values[one.name]),
        published.LOCALISATION,
        None,
        "note",
        True,
    )
    found = {row[0]: row[2:8] for row in rows}
    assert found["grid"] == ["60.0", "60.0", "–", "grid", "93.7", "–"]
    assert found["textures"] == ["70.0", "70.0", "–", "textures", "92.9", "88.4"]
    assert found["objects"][0] == "50.0"
    assert found["all"] == ["50.0", "50.0", "–", "all", "96.5", "91.7"]


class Known(Experiments):
    """Experiments whose figures say which draw or seed they are of."""

    def draw(self, one, channels, seed):
        return Figures(pixel_auroc=channels / 1000 + seed / 100)

    def projection(self, one, channels, seed):
        return Figures(pixel_auroc=channels / 1000 + seed / 100 + 0.001)

    def padim(self, one, system, turn=None):
        image = 0.5 if system.align is None else 0.51
        return Figures(image, 0.9 if turn is None else turn / 10, 0.4)

    def spade(self, one, backbone, turn=None):
        return Figures(0.6, 0.8)

    def vae(self, one, turn=None):
        return Figures(0.3, 0.2)

    def pca(self, one, components):
        return Figures(pixel_auroc=components / 1000)

    def everything(self, one):
        return Figures()

    def mahalanobis(self, one, backbone):
        return Figures(0.7)

    def forget(self, turn):
        self.cells.console.print(f"forgot {turn}")


def test_tables_average_draws_and_seeds(tmp_path, bottle, capsys):
    cells = Cells(Folder(str(tmp_path)), Console())
    run, sets = Known(cells, tmp_path, {"resnet18": tmp_path}, quick=True), find_sets([bottle])
    second = tables.table_2(run, sets)
    assert [row[3] for row in second.rows] == ["10.0", "20.0", "14.5", "24.5", "9.6", "14.6", "–"]
    # Ten values 0.01 apart have a standard deviation of 0.0303.
    assert second.note.startswith("Rd 100: 10 seeds, standard error of the pixel AUROC 0.96.")
    sixth = {row[1]: row for row in tables.table_6(run, sets).rows}
    assert sixth["PaDiM-R18-Rd100"][2:5] == ["50.0", "20.0", "40.0"]  # the mean of 0 to 40
    assert sixth["PaDiM-WR50-Rd550"][3:7] == ["–", "–", "all", "92.2"]
    aligned = sixth["PaDiM-R18-Rd100, aligned"]
    assert (aligned[2:5], aligned[6]) == (["51.0", "20.0", "40.0"], "–")  # the paper has none
    assert sixth["VAE"][8].startswith("**quick**")
    assert capsys.readouterr().out.split("\n")[:5] == [f"forgot {seed}" for seed in range(5)]
    fifth = {row[1]: row[2:4] for row in tables.table_5(run, sets).rows}
    assert fifth["MahalanobisAD-R18"] == ["70.0", "–"]
    assert fifth["MahalanobisAD-EfficientNet-B4"] == ["–", "95.8"]
    assert fifth["Patch-SVDD"] == ["–", "92.1"]
    third = [row for row in tables.table_3(run, sets).rows if row[1] == "PaDiM-R18-Rd100"]
    assert third == [
        ["bottle", "PaDiM-R18-Rd100", "50.0", "90.0", "40.0", "bottle", "98.1", "93.9", ""]
    ]


def test_parameters_are_those_that_the_paper_counted():
    assert 4e-9 * padim_numbers(R18, 224, is_dense=True) == pytest.approx(0.17, abs=0.005)
    assert 4e-9 * padim_numbers(R18, 256, is_dense=True) == pytest.approx(0.21, abs=0.005)
    assert 4e-9 * padim_numbers(WR50, 256, is_dense=True) == pytest.approx(5.2, abs=0.05)
    network = 68_883_240  # parameters of torchvision's WideResNet-50-2
    features = spade_numbers("wide_resnet50_2", 224) - network
    assert 4e-9 * features == pytest.approx(1.4, abs=0.05)
    assert IMAGES[224] == round(3629 / 15)
    assert padim_numbers(R18, 224, is_dense=False) < padim_numbers(R18, 224, is_dense=True) / 2


@pytest.mark.slow
def test_the_command_makes_a_table_and_goes_on(tmp_path, bottle, monkeypatch):
    weights = tmp_path / "weights.pth"
    torch.save(random_state("resnet18", DEFAULTS["resnet18"].layers, 0), weights)
    page = tmp_path / "page.md"
    page.write_text("<!-- table I -->\n<!-- end -->\n")
    arguments = ["paper", "--data", str(bottle), "--weights", f"resnet18={weights}", "--only", "I"]
    arguments += ["--build", str(tmp_path / "build"), "--page", str(page)]
    monkeypatch.setattr("sys.argv", arguments)
    judge, judged = padim.judge, []

    def dies_at_the_last(*arguments):
        judged.append(1)
        if len(judged) == 4:
            raise Killed
        return judge(*arguments)

    monkeypatch.setattr(padim, "judge", dies_at_the_last)
    with pytest.raises(Killed):
        main()
    assert len(list((tmp_path / "build/cells").iterdir())) == 4  # three layers and their sum
    main()
    assert len(judged) == 5
    text = page.read_text()
    assert text.count("| bottle |") == 5
    assert "not run" not in text
