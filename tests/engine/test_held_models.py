"""What a worker holds of a model: not a damaged one, and not one that was made anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import random_state
from padim_dist.engine.worker import forget_model, get_calibration, get_embedder, get_gaussian
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from padim_dist.store.calibrations import KeptCalibration, write_calibration
from padim_dist.store.models import find_model
from padim_dist.store.weights import keep_weights
from padim_dist.store.workspace import Workspace
from tests.store.test_damaged_arrays import write_model


@pytest.fixture
def model(tmp_path) -> tuple[Workspace, EmbeddingSpec]:
    workspace = Workspace(Folder(str(tmp_path)))
    write_model(workspace)
    info = find_model(workspace, "m")
    assert info is not None
    return workspace, info.embedding


def test_a_damaged_model_is_not_held(tmp_path, model):
    """A worker of a cluster outlives the run that found the damage."""
    workspace, spec = model
    (chunk,) = (tmp_path / "models/m.zarr/cam/gaussian/whiten_1_1/c").rglob("0/0/0")
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(DamagedFileError, match=r"models/m\.zarr and run 'padim-dist fit'"):
            get_gaussian(workspace, "m", "made", "cam", spec)
    chunk.write_bytes(data)
    gaussian = get_gaussian(workspace, "m", "made", "cam", spec)
    assert get_gaussian(workspace, "m", "made", "cam", spec) is gaussian
    forget_model()  # as a task does that finds distances that are not finite
    assert get_gaussian(workspace, "m", "made", "cam", spec) is not gaussian


def test_a_model_that_was_made_anew_is_read_again(model):
    workspace, _ = model
    before = get_calibration(workspace, "m", "made", "cam")
    assert before is not None
    again = KeptCalibration(before.calibration, before.usual + np.float32(1), before.noise)
    write_calibration(workspace, "m", "cam", again)
    assert get_calibration(workspace, "m", "made", "cam") is before
    after = get_calibration(workspace, "m", "made later", "cam")
    assert after is not None
    assert np.array_equal(after.usual, again.usual)


def test_workspaces_share_a_trunk(tmp_path, model):
    """With the same weights and settings; another batch is another embedder."""
    state = random_state("resnet18", ("layer1", "layer2"), 0)
    workspaces = [Workspace(Folder(str(tmp_path / name))) for name in ("a", "b")]
    digest, same = (keep_weights(workspace, state) for workspace in workspaces)
    assert digest == same
    spec = replace(model[1], weights=digest)
    first, second = (get_embedder(workspace, spec) for workspace in workspaces)
    assert second.trunk is first.trunk
    other = get_embedder(workspaces[1], replace(spec, batch=spec.batch + 1))
    assert other.trunk is not first.trunk
