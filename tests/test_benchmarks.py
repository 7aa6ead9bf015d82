"""The code of the benchmarks computes the right results; their speed is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
from packaging.utils import canonicalize_name

from benchmarks.core import CASES, compare
from benchmarks.dense import DenseGaussian, DenseMoments, embed
from benchmarks.measure import ratio
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import dense_distances, dense_embedding, dense_fit, random_maps

ROOT = Path(__file__).parents[1]


def test_the_dense_peer_follows_the_paper():
    shape = PyramidShape(grids=((4, 4), (2, 2)), channels=(3, 5))
    maps = random_maps(shape, 30, torch.Generator().manual_seed(1))
    mean, covariance = dense_fit(dense_embedding([m[:24] for m in maps]), 0.01)
    wanted = dense_distances(dense_embedding([m[24:] for m in maps]), mean, covariance)
    moments = DenseMoments(16, 8)
    for start, stop in ((0, 7), (7, 24)):
        moments.update(embed([m[start:stop] for m in maps]))
    found = DenseGaussian.fit(moments, 0.01).distances(embed([m[24:] for m in maps]))
    assert moments.count == 24
    torch.testing.assert_close(
        found.T.reshape(6, 4, 4), torch.from_numpy(wanted).float(), rtol=1e-4, atol=1e-4
    )


def test_both_sides_of_the_core_measure_the_same_distances():
    found, apart = compare(CASES[0], 8, 1)
    assert apart <= 1e-5
    wanted = {"moments", "factorise", "distances, batch 1", "distances, batch 8", "heatmap"}
    assert set(found) == wanted


def test_a_ratio_has_the_spread_of_its_rounds():
    row = ratio("x", "y", [2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert (row.value, row.low, row.high) == (2.0, 2.0, 3.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about the processor")
@pytest.mark.slow
def test_the_gpu_script_runs_on_a_processor(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-W", "ignore", "benchmarks/gpu.py", "--models", "R18-100"]
    command += ["--batches", "8", "--precisions", "float32", "bfloat16", "--seconds", "0"]
    command += ["--decode", "96", "--json", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads(out.read_text())["lines"]
    assert [line["precision"] for line in lines] == ["float32", "bfloat16"]
    for line in lines:
        assert line["apart"] <= 1e-5  # against float64, of the same feature maps
        assert min(line["trunk"], line["step"], line["update"], line["jpeg"]) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about the processor")
@pytest.mark.slow
def test_the_script_of_files_on_a_gpu_runs_on_a_processor(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_files", "--workers", "1"]
    command += ["--images", "16", "--precision", "float32", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    (line,) = found["lines"]
    assert (line["decoder"], line["workers"], line["images"]) == ("libjpeg", 1, 16)
    assert min(line["fit"], line["score"]) > 0
    assert found["left_out"] == []
    assert found["chroma"] == "nvImageCodec was not compared: PyTorch sees no GPU"


def test_other_libraries_run_beside_what_the_scripts_need():
    """Their environment has only what benchmarks/requirements.txt names."""
    code = "import sys, benchmarks.resnet; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    packages = packages_distributions()
    used = {name for module in done.stdout.decode().split() for name in packages.get(module, [])}
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text().splitlines()
    given = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    needed = {canonicalize_name(name) for name in used} - {"padim-dist", "setuptools", "pip"}
    assert "torch" in needed
    assert needed <= given
