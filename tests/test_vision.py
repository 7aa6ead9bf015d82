"""torchvision without the compiler of PyTorch: the same networks and pictures, sooner."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torchvision.models import get_model, list_models
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize_image

from padim_dist.archive.reading.transform import prepare
from padim_dist.core.backbone import plan_trunk
from padim_dist.core.backbones.networks import build_network
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.trunk import Trunk, random_state

WORKER = """
import sys
from importlib import import_module
from padim_dist.engine.cluster.preload import MODULES
for name in MODULES:
    import_module(name)
import torch
from padim_dist.core.spec import TrunkSpec
from padim_dist.core.trunk import Trunk, random_state
layers, drawn = ("layer1", "layer2"), ((1, 2), (3, 4, 5))
trunk = Trunk(TrunkSpec("resnet18", layers, drawn, (0, 1)), random_state("resnet18", layers, 0))
trunk(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
assert "torch._dynamo" not in sys.modules
from torchvision.ops import roi_align
standing = sys.modules["torchvision.ops.roi_align"].is_compile_supported
import torch._dynamo.utils as real
assert standing is not real.is_compile_supported
assert standing("cpu") == real.is_compile_supported("cpu")
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)).item() == 1
"""
OTHER = """
import sys
import padim_dist.vision as vision
later = vision._Later(vision._NAME)
sys.modules.pop(vision._NAME, None)
sys.modules[vision._NAME] = later
from torch._dynamo.utils import counters, is_compile_supported, istype
real = sys.modules[vision._NAME]
assert real is not later
assert (counters, istype) == (real.counters, real.istype)
"""


@pytest.mark.parametrize("code", [WORKER, OTHER], ids=["a worker", "another torchvision"])
def test_the_compiler_waits_until_it_is_needed(code):
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "convnext_tiny", "googlenet"])
def test_a_network_without_numbers_is_whole(name):
    found = build_network(name, None).module.state_dict()
    wanted = get_model(name, weights=None).state_dict()
    assert [*found] == [*wanted]
    for key, value in wanted.items():
        assert (found[key].shape, found[key].dtype) == (value.shape, value.dtype)
        assert found[key].is_meta


def test_a_network_that_computes_its_sizes():
    layers = ("trunk_output.block1", "trunk_output.block2")
    assert "regnet_y_400mf" in list_models()
    spec, shape = plan_trunk("regnet_y_400mf", layers, 20, 0, (64, 64))
    trunk = Trunk(spec, random_state(spec.backbone, layers, 0))
    maps = trunk(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert tuple(tuple(one.shape[2:]) for one in maps) == shape.grids


@pytest.mark.parametrize("size", [(51, 77), (64, 64), (300, 40)])
@pytest.mark.parametrize("is_last", [False, True], ids=["channels first", "channels last"])
def test_pictures_are_resized_as_by_torchvision(size, is_last):
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    if is_last:
        pixels = pixels.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    wanted = resize_image(pixels, [64, 64], interpolation=InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(prepare(pixels, InputGeometry((64, 64), (64, 64))), wanted)
