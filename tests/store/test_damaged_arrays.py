"""A changed bit in a model or in moments is an error that names the file, never another number."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp import ClientPayloadError
from botocore.exceptions import EndpointConnectionError

from padim_dist.core.calibration import Calibration
from padim_dist.core.covariance import Covariance
from padim_dist.core.drift import Noise
from padim_dist.core.gaussian import factorise
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.quality import condition_numbers, regularised_share
from padim_dist.core.spec import EmbeddingSpec, TrunkSpec
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from padim_dist.store.arrays import open_zarr_group, reports_array_damage
from padim_dist.store.calibrations import (
    KeptCalibration,
    LeftOut,
    read_calibration,
    read_left_out,
    write_calibration,
    write_left_out,
)
from padim_dist.store.gaussians import FactorisedBand, Model, create_model, write_band
from padim_dist.store.models import ModelInfo, find_model, finish_model
from padim_dist.store.parts.moments import read_band, write_moments
from padim_dist.store.parts.sample import SampleReader, SampleWriter
from padim_dist.store.weights import keep_weights, kept_weights
from padim_dist.store.workspace import Workspace
from tests.core.oracle import random_maps

SHAPE = PyramidShape(grids=((4, 4), (2, 2)), channels=(3, 5))
P, ALL = "moments/e/cam/p-1.zarr", "moments/e/cam/all-1.zarr"
"""A part with moments and a sample, and one with a sample of all its images."""
FLIPS = 1
"""Changed bits in each file, beside its last."""


class UnfinishedError(Exception):
    """The model does not exist any more: its name or a mark in its attributes was changed."""


def flipped(path: Path, random_: random.Random, flips: int = FLIPS) -> Iterator[int]:
    """Change bits of a file, one at a time, and yield the place of each; mend it at the end."""
    data = path.read_bytes()
    for bit in [8 * len(data) - 1, *(random_.randrange(8 * len(data)) for _ in range(flips))]:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        yield bit
    path.write_bytes(data)


def outcome(read: Callable[[], Any]) -> Any:
    """Return what is read, or the error."""
    try:
        return read()
    except (DamagedFileError, UnfinishedError) as error:
        return error


def write_model(workspace: Workspace) -> None:
    moments = Moments.zeros(SHAPE)
    levels = SHAPE.nest(random_maps(SHAPE, 30, torch.Generator().manual_seed(0)))
    moments.update(levels)
    covariance = Covariance.of(moments, 0.01)
    quality = {
        "diagonal": covariance.diagonal,
        "regularised": regularised_share(moments, covariance),
        "condition": condition_numbers(moments, covariance),
    }
    create_model(workspace, "m", SHAPE, ["cam"], SHAPE.cells)
    band = FactorisedBand((0, SHAPE.cells), moments, factorise(moments, covariance), quality)
    write_band(workspace, "m", "cam", SHAPE, band)
    random_ = np.random.default_rng(0)
    calibration = Calibration(np.sort(random_.random(30)), random_.random(51))
    usual = random_.random(16).astype(np.float32)
    kept = KeptCalibration(calibration, usual, Noise(8.25, 3.5))
    write_calibration(workspace, "m", "cam", kept)
    trunk = TrunkSpec("resnet18", ("layer1", "layer2"), ((0, 1, 2), (0, 1, 2, 3, 4)), (0, 1))
    geometry = InputGeometry((8, 8), (8, 8))
    now = "2026-11-27T00:00:00+00:00"
    info = ModelInfo(
        model_id="m",
        fit_id="f",
        snapshot="s",
        embedding=EmbeddingSpec(trunk, SHAPE, geometry, "w", "float32", 4, "libjpeg"),
        epsilon=0.01,
        shrinkage="none",
        sigma=4.0,
        counts={"cam": 30},
        settings=[{"archive": {"url": "/a"}}],
        created_at=now,
        asked_at=now,
        versions={"torch": "2"},
    )
    finish_model(workspace, info)
    for path in (P, ALL):
        sample = SampleWriter(workspace, path, SHAPE, 4, 2)
        sample.add(["a", "b", "c"], levels, [0, 1, 2])
        sample.close()
    write_moments(workspace, P, moments, SHAPE, 2)


def read_model(workspace: Workspace) -> list[Any]:
    info = find_model(workspace, "m")
    if info is None:
        raise UnfinishedError
    model, kept = Model(workspace, "m"), read_calibration(workspace, "m", "cam")
    assert kept is not None
    gaussian, quality = model.gaussian("cam"), model.quality("cam")
    found = [*gaussian.mean, *gaussian.whiten, *gaussian.lower.values(), gaussian.kept]
    found += [quality.regularised, quality.condition, model.mean(3, 3), model.covariance(3, 3)]
    found += [model.mean(0, 0), model.covariance(0, 3)]
    found += [kept.calibration.scores, kept.calibration.pixel_thresholds, kept.usual]
    return [info, kept.noise, *(np.asarray(array).tobytes() for array in found)]


def read_part(workspace: Workspace, path: str = P) -> list[Any]:
    device = torch.device("cpu")
    bands = [read_band(workspace, path, SHAPE, band, 32, device) for band in ((0, 2), (2, 4))]
    reader = SampleReader(workspace, path, SHAPE)
    arrays = [array for band in bands for array in (*band.mean, *band.scatter.values())]
    arrays += reader.read([0, 1, 2])
    return [
        reader.image_ids,
        *(band.count for band in bands),
        *(a.numpy().tobytes() for a in arrays),
    ]


def read_part_of_embeddings(workspace: Workspace) -> list[Any]:
    return read_part(workspace, ALL)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    workspace = Workspace(Folder(str(tmp_path_factory.mktemp("damaged"))))
    write_model(workspace)
    return workspace


@pytest.mark.parametrize(
    ("root", "read", "least", "advice"),
    [
        ("models/m.zarr", read_model, 16, r"Remove \S+/models/m.zarr and run 'padim-dist fit'"),
        (P, read_part, 7, r"Remove \S+/moments/e/cam/p.json and run 'padim-dist fit' again"),
        (ALL, read_part_of_embeddings, 4, r"Remove \S+/moments/e/cam/all.json and run"),
    ],
    ids=["model", "part", "part of embeddings"],
)
def test_a_changed_bit_is_refused(
    workspace: Workspace,
    root: str,
    read: Callable[[Workspace], list[Any]],
    least: int,
    advice: str,
):
    before = read(workspace)
    files = [path for path in Path(workspace.folder.url, root).rglob("*") if path.is_file()]
    assert len(files) >= least
    bits = random.Random(0)
    for path in files:
        for changed in flipped(path, bits):
            after = outcome(lambda: read(workspace))
            if isinstance(after, DamagedFileError):
                assert re.search(advice, str(after)), after
                assert after.file.startswith(workspace.at(root))
            elif isinstance(after, UnfinishedError):
                assert path.name == "zarr.json"
            else:
                assert after == before, (path, changed)
                assert path.name == "zarr.json", "every bit of a chunk is checked"
    assert read(workspace) == before


def test_models_without_checksums_are_read(tmp_path, monkeypatch):
    """As version 0.2 wrote them."""
    from zarr.codecs import BloscCodec

    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    for module in ("arrays", "calibrations"):
        monkeypatch.setattr(f"padim_dist.store.{module}.compressors", lambda: (blosc,))
    monkeypatch.setattr("padim_dist.store.arrays.with_checksum", dict)
    old = Workspace(Folder(str(tmp_path)))
    write_model(old)
    monkeypatch.undo()
    group = open_zarr_group(old, old.model("m"), "r")
    assert "checksum" not in group.attrs
    assert "crc32c" not in (tmp_path / "models/m.zarr/cam/gaussian/kept/zarr.json").read_text()
    assert read_model(old)[1] == Noise(8.25, 3.5)


@pytest.mark.parametrize("name", ["cam/gaussian/whiten_0_0", "cam/moments/mean_1", "cam/gaussian"])
def test_a_missing_file_is_refused(tmp_path, name):
    workspace = Workspace(Folder(str(tmp_path)))
    write_model(workspace)
    folder = tmp_path / "models/m.zarr" / name
    for path in folder.rglob("*" if folder.name == "gaussian" else "c"):
        if path.exists():
            workspace.folder.remove_tree(str(path.relative_to(tmp_path)))
    with pytest.raises(DamagedFileError, match="run 'padim-dist fit'"):
        read_model(workspace)


@pytest.mark.parametrize(
    ("path", "read", "found"),
    [
        (f"{P}/moments/zarr.json", read_part, "it has no 'moments'"),
        (f"{P}/moments/c/1/0", read_part, "moments has values that are no number"),
        (f"{P}/sample/zarr.json", read_part, "a file of it is missing .*"),
        ("models/m.zarr/cam/gaussian/mean_1/zarr.json", read_model, "it has no 'mean_1'"),
    ],
)
def test_what_is_missing_is_named(tmp_path, path, read, found):
    workspace = Workspace(Folder(str(tmp_path)))
    write_model(workspace)
    workspace.folder.remove(path)
    with pytest.raises(DamagedFileError, match=rf"{found}\. Remove"):
        read(workspace)


def test_leave_one_out_results(tmp_path):
    workspace, bits = Workspace(Folder(str(tmp_path))), random.Random(1)
    ones = np.ones(16)
    ids, factors = np.array([b"a" * 16] * 16), np.ones((16, 1), np.float32)
    part = LeftOut(ids, ones, np.ones(9, np.float32), 9, 3, ones, [], factors)
    write_left_out(workspace, "part.npz", part)
    for bit in flipped(tmp_path / "part.npz", bits, 60):
        found = outcome(lambda: read_left_out(workspace, "part.npz"))
        if isinstance(found, DamagedFileError):
            assert "part.npz is damaged" in str(found)
        else:
            assert all(np.array_equal(getattr(found, k), v) for k, v in vars(part).items()), bit


def test_weights(tmp_path):
    workspace, bits = Workspace(Folder(str(tmp_path))), random.Random(2)
    state = {"w": torch.arange(1000.0), "b": torch.ones(3)}
    digest = keep_weights(workspace, state)
    assert torch.equal(kept_weights(workspace, digest)["w"], state["w"])
    path = tmp_path / f"weights/{digest}.pt"
    for _ in flipped(path, bits, 60):
        found = outcome(lambda: kept_weights(workspace, digest))
        if isinstance(found, DamagedFileError):
            assert f"{digest}.pt is damaged" in str(found)
            assert "run 'padim-dist fit'" in str(found)
        else:
            assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "error", [ClientPayloadError("cut off"), EndpointConnectionError(endpoint_url="x")]
)
def test_a_store_that_fails_while_an_array_is_read_damages_nothing(error):
    with pytest.raises(OSError, match="model cannot be read"), reports_array_damage("model", ""):
        raise error


@pytest.mark.parametrize("error", [ValueError("checksum"), RuntimeError("blosc"), zlib.error("x")])
def test_errors_of_codecs_are_about_the_file(error):
    with pytest.raises(DamagedFileError, match="is damaged"), reports_array_damage("model", ""):
        raise error
