"""Trunks that OpenVINO runs, beside those of PyTorch."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout

import pytest
import torch
from torch import Tensor

from padim_dist.core.backbone import plan_trunk
from padim_dist.core.backbones.reduction import make_projections
from padim_dist.core.embedding import Embedder
from padim_dist.core.engines import packages
from padim_dist.core.engines.conversion import convert
from padim_dist.core.engines.converted import ConvertedTrunk
from padim_dist.core.engines.packages import check_engine, engine_package
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import Trunk, random_state
from padim_dist.errors import ConfigError
from tests.core.comparison import largest_error

RESNET = ("layer1", "layer2", "layer3")
SIZE = (64, 96)
SPEC, SHAPE = plan_trunk("resnet18", RESNET, 100, 1024, SIZE)


def some_images(count: int, seed: int = 0) -> Tensor:
    """Return noise on a ramp: its activations are spread like those of pictures."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 60, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)
    return noise + torch.linspace(0, 190, SIZE[1]).to(torch.uint8)


def apart(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))


@pytest.fixture(scope="module")
def state():
    return random_state("resnet18", RESNET, 1)


@pytest.fixture(scope="module")
def whole(state):
    """The network in float32, which is that of bfloat16 too."""
    return convert(SPEC, state, SIZE)


@pytest.fixture(scope="module")
def printed() -> io.StringIO:
    """What is printed while the network in int8 is made."""
    return io.StringIO()


@pytest.fixture(scope="module")
def small(state, printed):
    """The network in int8."""
    with redirect_stdout(printed):
        return convert(SPEC, state, SIZE, some_images(8, seed=1), print)


@pytest.fixture
def precision(request):
    """A precision that this processor has."""
    core = engine_package("openvino", "openvino").Core()
    has_it = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if request.param == "bfloat16" and not has_it:
        pytest.skip("SKIPPED PART: OpenVINO has no bfloat16 on this processor")
    return request.param


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("float32", 0, 1e-5), ("bfloat16", 1e-4, 0.03), ("int8", 1e-3, 0.05)],
    indirect=["precision"],
)
def test_maps_are_those_of_pytorch(state, whole, small, precision, least, most):
    images = some_images(3)
    with torch.inference_mode():
        wanted = Trunk(SPEC, state)(images)
    kept = small if precision == "int8" else whole
    found = ConvertedTrunk(SPEC, kept, precision)(images)
    assert [one.shape for one in found] == [one.shape for one in wanted]
    assert {one.dtype for one in found} == {torch.float32}
    assert least <= apart(found, wanted) <= most


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"], indirect=True)
def test_an_image_has_the_same_bits_whatever_is_beside_it(whole, small, precision):
    kept = small if precision == "int8" else whole
    images, others = some_images(8), some_images(8, seed=2)
    first, again = ConvertedTrunk(SPEC, kept, precision), ConvertedTrunk(SPEC, kept, precision)
    wanted = first(images)
    mixed = torch.cat([others[:3], images[3:6], torch.zeros_like(others[6:])])
    for found in (first(images), again(images)):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    for a, b in zip(again(mixed), wanted, strict=True):
        assert torch.equal(a[3:6], b[3:6])
    for a, b in zip(again(images.flip(0)), wanted, strict=True):
        assert torch.equal(a.flip(0), b)


def test_results_stay_what_they_are_when_the_next_batch_comes(whole):
    trunk = ConvertedTrunk(SPEC, whole, "float32")
    found = trunk(some_images(2))
    kept = [one.clone() for one in found]
    trunk(some_images(2, seed=3))
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))


def test_distances_of_int8_features_equal_dense_ones(small):
    maps = ConvertedTrunk(SPEC, small, "int8")(some_images(40))
    assert largest_error(SHAPE, maps) <= 1e-5


def test_the_same_trunk_and_sample_give_the_same_bytes(state, small):
    again = convert(SPEC, state, SIZE, some_images(8, seed=1))
    assert again.keys() == small.keys()
    assert all(torch.equal(again[key], small[key]) for key in small)


def test_a_listener_prints_what_it_wants_and_a_quantisation_nothing(small, printed):
    """Its number of images never falls, also if the sample is read more than once."""
    numbers = [int(line) for line in printed.getvalue().split()]
    assert {*numbers} == {*range(8)}
    assert numbers == sorted(numbers)


def test_layers_in_another_order_and_projections(state):
    spec, _ = plan_trunk("resnet18", RESNET[::-1], 100, 1, SIZE, reduction="project")
    state = state | make_projections((256, 128, 64), spec.projected, 1)
    images = some_images(2)
    with torch.inference_mode():
        wanted = Trunk(spec, state)(images)
    assert apart(ConvertedTrunk(spec, convert(spec, state, SIZE), "float32")(images), wanted) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (96, 96)], ids=["torchvision", "timm"])
def test_a_network_that_begins_with_another_layer(size):
    """Its normalisation is a layer; a vision transformer of timm begins with its patches."""
    if size is None:
        name, layers, size = "swin_t", ("features.1", "features.3"), (64, 64)
    else:
        pytest.importorskip("timm", reason="SKIPPED PART: the extra timm is not installed")
        name, layers = "timm/test_vit", ("blocks.1", "blocks.4")
    spec, _ = plan_trunk(name, layers, 20, 1, size)
    state = random_state(name, layers, 1, size)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = Trunk(spec, state)(images)
    found = ConvertedTrunk(spec, convert(spec, state, size), "float32")(images)
    assert apart(found, wanted) < 1e-4


def test_an_embedder_nests_the_maps_of_its_engine(state, whole):
    geometry = InputGeometry(SIZE, SIZE)
    plain = EmbeddingSpec(SPEC, SHAPE, geometry, "w", "float32", 8, "libjpeg")
    other = EmbeddingSpec(SPEC, SHAPE, geometry, "w", "float32", 8, "libjpeg", engine="openvino")
    device = torch.device("cpu")
    images = some_images(2)
    wanted, found = Embedder(plain, state, device)(images), Embedder(other, whole, device)(images)
    assert apart(found, wanted) < 1e-5
    assert "engine" not in plain.to_dict()  # as earlier versions wrote it
    assert EmbeddingSpec.from_dict(other.to_dict()) == other


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    advice = r"openvino.*pip install 'padim-dist\[openvino\]'"
    with pytest.raises(ConfigError, match=advice):
        engine_package("openvino", "openvino")
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "nncf" else name)
    check_engine("torch")
    check_engine("openvino", "bfloat16", converts=True)
    check_engine("openvino", "int8")  # converted already
    with pytest.raises(ConfigError, match=r"needs the package nncf.*padim-dist\[openvino\]"):
        check_engine("openvino", "int8", converts=True)


def test_a_processor_without_bfloat16_is_refused(whole, monkeypatch):
    openvino = engine_package("openvino", "openvino")

    class Old(openvino.Core):
        def get_property(self, device, name):
            return ["FP32", "INT8"] if name.endswith("CAPABILITIES") else "Old Processor"

    monkeypatch.setattr(openvino, "Core", Old)
    with pytest.raises(ConfigError, match=r"Old Processor, which has no AVX-512.*float32 or int8"):
        ConvertedTrunk(SPEC, whole, "bfloat16")
    ConvertedTrunk(SPEC, whole, "float32")(some_images(1))


def test_no_package_sends_usage_data(small):
    """OpenVINO and NNCF do without asking, if they find a package of Intel's."""
    assert "nncf" in sys.modules
    assert sys.modules["openvino_telemetry"] is None
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__.endswith("telemetry_stub")
