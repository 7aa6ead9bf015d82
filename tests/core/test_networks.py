"""Networks of timm and of one's own: the same maps as theirs, and distances as dense ones."""

from __future__ import annotations

import sys

import pytest
import torch
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from padim_dist.core.backbone import plan_trunk
from padim_dist.core.backbones.networks import build_network
from padim_dist.core.geometry import Grid, InputGeometry
from padim_dist.core.spec import EmbeddingSpec, TrunkSpec
from padim_dist.core.trunk import Trunk, random_state, trunk_state
from padim_dist.errors import ConfigError, WeightsError
from tests.core.comparison import largest_error

timm = pytest.importorskip("timm", reason="SKIPPED PART: the extra timm is not installed")

OWN = "tests.core.networks_of_ones_own"
TRANSFORMERS = [
    pytest.param("test_vit", ("blocks.2", "blocks.5"), (96, 160), id="class token"),
    pytest.param("test_vit2", ("blocks.1",), (96, 160), id="registers", marks=pytest.mark.slow),
    pytest.param(
        "deit_tiny_distilled_patch16_224",
        ("blocks.1",),
        (64, 64),
        id="two tokens",
        marks=pytest.mark.slow,
    ),
    pytest.param(  # its positions are constants, in no state dict
        "eva02_tiny_patch14_224",
        ("blocks.1",),
        (112, 140),
        id="rotary positions",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "swin_tiny_patch4_window7_224",
        ("layers.0", "layers.1"),
        (224, 224),
        id="channels last",
        marks=pytest.mark.slow,
    ),
]
CONVOLUTIONAL = [
    ("test_resnet", ("layer1", "layer2", "layer3")),
    ("test_efficientnet", ("blocks.1", "blocks.2")),  # a BatchNorm and an activation in one
    ("tf_mobilenetv3_small_minimal_100", ("blocks.0", "blocks.1", "blocks.3")),  # pads by itself
    ("test_convnext", ("stages.0", "stages.1")),
    pytest.param(  # channels last, nearly as many as columns
        "test_mambaout", ("stages.0", "stages.1"), marks=pytest.mark.slow
    ),
    ("test_nfnet", ("stages.0", "stages.1")),  # scales its weights by itself
]


def spread_norms(model: torch.nn.Module) -> None:
    """Give every BatchNorm other values: with neutral ones a wrong fold would not show."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)


def normalised(images: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    mean, std = (torch.tensor(model.pretrained_cfg[v]).view(1, 3, 1, 1) for v in ("mean", "std"))
    return (images / 255 - mean) / std


def assert_same(trunk: Trunk, images: torch.Tensor, wanted: list[torch.Tensor]) -> None:
    with torch.inference_mode():
        found = trunk(images)
    for level, maps in zip(trunk.spec.levels, found, strict=True):
        reference = wanted[level][:, list(trunk.spec.drawn[level])]
        scale = reference.abs().max()
        torch.testing.assert_close(maps / scale, reference / scale, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("name", "layers", "size"), TRANSFORMERS)
def test_transformers_give_the_maps_that_timm_gives(name, layers, size):
    torch.manual_seed(3)
    check_maps(timm.create_model(name, img_size=size).eval(), name, layers, size)


@pytest.mark.parametrize(("name", "layers"), CONVOLUTIONAL)
def test_convolutional_networks_give_the_maps_that_timm_gives(name, layers):
    torch.manual_seed(3)
    model = timm.create_model(name).eval()
    spread_norms(model)
    check_maps(model, name, layers, (224, 224) if name == "test_mambaout" else (96, 64))


def check_maps(model: torch.nn.Module, name: str, layers: tuple[str, ...], size: Grid) -> None:
    """Compare with the model as timm runs it, with timm's own way to get intermediate maps."""
    spec, shape = plan_trunk(f"timm/{name}", layers, 30, 1, size)
    trunk = Trunk(spec, trunk_state(f"timm/{name}", layers, model.state_dict(), size))
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    known = [one["module"] for one in model.feature_info]
    with torch.inference_mode():
        wanted = model.forward_intermediates(
            normalised(images, model),
            indices=[known.index(layer) for layer in layers],
            output_fmt="NCHW",
            intermediates_only=True,
        )
    assert [tuple(wanted[i].shape[2:]) for i in spec.levels] == list(shape.grids)
    assert_same(trunk, images, wanted)


@pytest.mark.slow
def test_torchvisions_networks_with_channels_last():
    layers = ("features.1", "features.3")
    spec, shape = plan_trunk("swin_t", layers, 60, 1, (64, 96))
    assert spec.size is None
    assert shape.grids == ((16, 24), (8, 12))
    model = get_model("swin_t", weights=None).eval()
    trunk = Trunk(spec, trunk_state("swin_t", layers, model.state_dict()))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        maps = create_feature_extractor(model, list(layers))((images / 255 - mean) / std)
    assert_same(trunk, images, [maps[name].permute(0, 3, 1, 2) for name in layers])


def test_a_network_of_ones_own_gives_its_maps():
    """It shares a convolution, which must not be folded twice, and has its own normalisation."""
    backbone, layers, size = f"{OWN}:small", ("shared", "second"), (32, 48)
    spec, shape = plan_trunk(backbone, layers, 15, 1, size)
    assert shape.grids == ((16, 24), (8, 12))
    model = build_network(backbone, size, device="cpu").module
    spread_norms(model)
    trunk = Trunk(spec, trunk_state(backbone, layers, model.state_dict(), size))
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.mean, model.std))
    with torch.inference_mode():
        x = (images / 255 - mean) / std
        gains = torch.linspace(1.0, 2.0, 8).view(8, 1, 1)
        shared = model.shared(torch.relu(model.norm(model.first(x))) * gains)
        again = model.shared(torch.relu(shared))
        wanted = {"shared": shared, "second": model.second(again)}
    assert_same(trunk, images, [wanted[name] for name in layers])


@pytest.mark.parametrize("last", ["add", "add_1", "relu_1", "relu_2", "add_3"])
def test_additions_of_other_shapes_are_not_fused(last):
    backbone, size = f"{OWN}:additions", (32, 48)
    spec, _ = plan_trunk(backbone, (last,), 5, 1, size)
    model = build_network(backbone, size, device="cpu").module
    trunk = Trunk(spec, trunk_state(backbone, (last,), model.state_dict(), size))
    images = torch.randint(0, 256, (3, 3, *size), dtype=torch.uint8)
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        whole = create_feature_extractor(model, [last])((images / 255 - mean) / std)
    assert_same(trunk, images, [whole[last]])


def test_weights_that_a_network_lacks_or_has_now_are_no_random_ones():
    """A worker with another version of a network than the one that fitted the model."""
    layers, size = ("shared", "second"), (32, 48)
    spec, _ = plan_trunk(f"{OWN}:small", layers, 15, 1, size)
    state = random_state(f"{OWN}:small", layers, 1, size)
    newer = {key: value for key, value in state.items() if key != "second.bias"}
    with pytest.raises(WeightsError, match=r"second\.bias are in one of them only"):
        Trunk(spec, newer)
    with pytest.raises(WeightsError, match=r"second\.scale are in one of them only"):
        Trunk(spec, {**state, "second.scale": torch.ones(3)})
    assert Trunk(spec, state)


@pytest.mark.parametrize(
    ("name", "layers", "size"),
    [
        ("test_vit", ("blocks.1", "blocks.4"), (64, 96)),
        ("test_resnet", ("layer1", "layer2", "layer3"), (64, 96)),
    ],
)
def test_distances_equal_dense_ones(name, layers, size):
    """At most 1e-5 relative error, against float64."""
    spec, shape = plan_trunk(f"timm/{name}", layers, 40, 1024, size)
    trunk = Trunk(spec, random_state(f"timm/{name}", layers, 1, size))
    noise = torch.randint(0, 60, (40, 3, *size), dtype=torch.uint8)
    ramp = torch.linspace(0, 190, size[1]).to(torch.uint8)
    with torch.inference_mode():
        maps = trunk(noise + ramp)
    assert largest_error(shape, maps) <= 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "layers", "size"), TRANSFORMERS)
def test_half_precision_is_near(name, layers, size, precision):
    spec, _ = plan_trunk(f"timm/{name}", layers, 30, 1, size)
    state = random_state(f"timm/{name}", layers, 1, size)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        exact = Trunk(spec, state)(images)
        near = Trunk(spec, state, precision)(images)
    for a, b in zip(exact, near, strict=True):
        assert b.dtype == torch.float32
        assert 0 < (a - b).norm() / a.norm() < {"bfloat16": 0.05, "float16": 0.01}[precision]


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_maps_of_an_image_do_not_depend_on_its_neighbours(name):
    """The same bits at any place of a batch, next to any images."""
    layers = ("blocks.2",) if name == "test_vit" else ("layer2",)
    spec, _ = plan_trunk(f"timm/{name}", layers, None, 1, (96, 96))
    trunk = Trunk(spec, random_state(f"timm/{name}", layers, 1, (96, 96)))
    one = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    others = torch.randint(0, 256, (7, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        first = trunk(torch.cat([one, others]))[0][0]
        for place in range(1, 8):
            batch = torch.cat([others[:place].flip(0), one, others[place:]])
            assert torch.equal(trunk(batch)[0][place], first)


def test_mean_and_deviation_are_those_of_the_weights():
    name, layers, size = "timm/tf_efficientnet_b0", ("blocks.1",), (64, 64)
    imagenets, _ = plan_trunk(name, layers, 9, 1, size, "aa_in1k")
    assert (imagenets.mean, imagenets.std) == (None, None)
    others, _ = plan_trunk(name, layers, 9, 1, size, "ap_in1k")
    assert (others.mean, others.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    of_a_file, _ = plan_trunk(f"{name}.ap_in1k", layers, 9, 1, size, "/a/file.pth")
    assert of_a_file.mean == others.mean
    with pytest.raises(
        ConfigError, match=r"name different weights; set model\.backbone to timm/tf"
    ):
        plan_trunk(f"{name}.ap_in1k", layers, 9, 1, size, "aa_in1k")


def test_specifications_of_torchvisions_networks_are_written_as_before():
    trunk, shape = plan_trunk("resnet18", ("layer1",), 10, 1, (64, 64))
    spec = EmbeddingSpec(trunk, shape, None, "", "float32", 32, "libjpeg")  # type: ignore[arg-type]
    assert sorted(spec.to_dict()["trunk"]) == ["backbone", "drawn", "layers", "levels"]


def test_specifications_are_read_as_they_were_written():
    trunk, shape = plan_trunk(f"{OWN}:small", ("shared",), 5, 1, (32, 48))
    assert trunk == TrunkSpec(
        f"{OWN}:small", ("shared",), trunk.drawn, (0,), (32, 48), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    )
    geometry = InputGeometry((32, 48), (32, 48))
    spec = EmbeddingSpec(trunk, shape, geometry, "abc", "float32", 32, "libjpeg")
    assert EmbeddingSpec.from_dict(spec.to_dict()) == spec


VIT, SQUARE = ("blocks.1",), (224, 224)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("timm/resnet19", VIT, 9, 1, SQUARE), "not a model of timm .*similar: timm/resnet"),
        (("timm/resnet18.a9", VIT, 9, 1, SQUARE), "no weights 'a9' of resnet18; it has .*a1_in1k"),
        (("timm/test_vit", ("blocks.9",), 9, 1, SQUARE), "'blocks.9' is not present.*blocks"),
        (("timm/test_vit", VIT, 9, 1, (250, 160)), "patches of 16x16.*height 240 or 256, width"),
        (("timm/test_vit", ("head",), 9, 1, SQUARE), "'head' gives shape .*not a feature map"),
        pytest.param(
            ("timm/hiera_tiny_224", VIT, 9, 1, SQUARE),
            "224x224 cannot be used",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("timm/swin_tiny_patch4_window7_224", ("layers.0", "layers.3"), None, 1, (240, 240)),
            "do not nest.*sides that do: 192, 224, 256",
            marks=pytest.mark.slow,
        ),
        ((f"{OWN}:small", ("third",), 9, 1, SQUARE), "'third' is not present"),
        ((f"{OWN}:large", VIT, 9, 1, SQUARE), "has no function 'large'"),
        (("no_such_module:small", VIT, 9, 1, SQUARE), "cannot be imported .*PYTHONPATH"),
        ((f"{OWN}:other_arguments", VIT, 9, 1, SQUARE), "must take height and width.*found .size"),
        ((f"{OWN}:nothing", VIT, 9, 1, SQUARE), "returned NoneType, not a torch.nn.Module"),
        ((f"{OWN}:fails", VIT, 9, 1, SQUARE), "failed for an input of 224x224 .*no such weights"),
        ((f"{OWN}:by_value", ("conv",), 9, 1, SQUARE), "cannot be traced by torch.fx"),
        ((f"{OWN}:wrong_mean", ("shared",), 9, 1, SQUARE), "mean is not three numbers"),
        ((f"{OWN}:wrong_deviation", ("shared",), 9, 1, SQUARE), "std is not three positive"),
        (
            (f"{OWN}:only_float32", ("conv",), None, 1, SQUARE, "", "bfloat16"),
            "precision 'bfloat16' cannot be used with .*set it to float32",
        ),
    ],
)
def test_settings_that_conflict_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        plan_trunk(*arguments)


def test_without_timm_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm.*pip install 'padim-dist\[timm\]'"):
        plan_trunk("timm/resnet18", ("layer1",), 9, 1, SQUARE)


def test_weights_are_adapted_to_the_input_size():
    """Positional embeddings of a file for another size are resampled, as timm does it."""
    state = timm.create_model("test_vit", img_size=(96, 96)).state_dict()
    kept = trunk_state("timm/test_vit", VIT, state, (128, 160))
    assert kept["pos_embed"].shape[1] == 8 * 10 + 1
    torch.testing.assert_close(kept["pos_embed"][:, 0], state["pos_embed"][:, 0])
    assert torch.equal(kept["blocks.0.mlp.fc1.weight"], state["blocks.0.mlp.fc1.weight"])


def test_weights_that_do_not_fit_are_listed():
    state = timm.create_model("test_vit", img_size=(96, 96)).state_dict()
    del state["blocks.0.mlp.fc1.weight"]
    with pytest.raises(WeightsError, match=r"missing: blocks\.0\.mlp\.fc1\.weight"):
        trunk_state("timm/test_vit", VIT, state, (96, 96))
