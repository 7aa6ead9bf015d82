"""The trunk computes the same as torchvision's model, but only the channels that are used."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.backbones.reduction import draw_channels
from padim_dist.core.rewrite import fold_normalisation
from padim_dist.core.trunk import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Trunk,
    random_state,
    trunk_state,
)
from padim_dist.errors import ConfigError, WeightsError
from tests.core.comparison import largest_error

RESNET = ("layer1", "layer2", "layer3")


@pytest.mark.parametrize("backbone", DEFAULTS)
def test_trunk_equals_torchvisions_model(backbone):
    """Compared with the unchanged model in eval mode, at the layers and drawn channels."""
    layers, channels = DEFAULTS[backbone]
    spec, shape = plan_trunk(backbone, layers, channels, 1024, (64, 96))
    torch.manual_seed(3)
    model = get_model(backbone, weights=None).eval()
    for module in model.modules():  # with neutral norms a wrong fold would not show
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    trunk = Trunk(spec, trunk_state(backbone, layers, model.state_dict()))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        found = trunk(images)
        wanted = create_feature_extractor(model, {name: name for name in layers})(
            (images / 255 - mean) / std
        )
    assert [tuple(m.shape[2:]) for m in found] == list(shape.grids)
    for level, maps in zip(spec.levels, found, strict=True):
        reference = wanted[layers[level]][:, list(spec.drawn[level])]
        scale = reference.abs().max()
        torch.testing.assert_close(maps / scale, reference / scale, rtol=1e-4, atol=2e-5)


def test_last_block_computes_only_the_drawn_channels():
    spec, _ = plan_trunk("resnet18", RESNET, 100, 1024, (64, 64))
    trunk = Trunk(spec, random_state("resnet18", RESNET, 1))
    last = trunk.graph.get_submodule("layer3.1.conv2")
    assert last.out_channels == len(spec.drawn[2]) < 256
    assert not any("layer4" in name or "bn" in name for name, _ in trunk.graph.named_parameters())


@pytest.mark.parametrize("begins_with_a_convolution", [True, False])
def test_normalisation_is_folded_or_becomes_a_layer(begins_with_a_convolution):
    torch.manual_seed(1)
    first = [] if begins_with_a_convolution else [torch.nn.Hardtanh(-1.0, 1.0)]
    network = torch.nn.Sequential(*first, torch.nn.Conv2d(3, 5, 3, padding=(1, 2), bias=False))
    network = network.requires_grad_(False)
    mean, std = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([50.0, 60.0, 70.0])
    pixels = torch.randint(0, 256, (2, 3, 8, 9)).float()
    wanted = network((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    graph = torch.fx.symbolic_trace(network)
    y, x = fold_normalisation(graph, mean, std)
    graph.recompile()
    assert (y, x) == ((1, 2) if begins_with_a_convolution else (0, 0))
    padded = mean.view(1, 3, 1, 1).expand(2, 3, 8 + 2 * y, 9 + 2 * x).clone()
    padded[..., y : y + 8, x : x + 9] = pixels
    torch.testing.assert_close(graph(padded), wanted, rtol=1e-4, atol=1e-5)


def test_resnet18_distances_equal_dense_ones():
    """At most 1e-5 relative error on ResNet-18 activations, against float64."""
    spec, shape = plan_trunk("resnet18", RESNET, 100, 1024, (96, 64))
    trunk = Trunk(spec, random_state("resnet18", RESNET, 1))
    noise = torch.randint(0, 60, (40, 3, 96, 64), dtype=torch.uint8)
    ramp = torch.linspace(0, 190, 64).to(torch.uint8)
    with torch.inference_mode():
        maps = trunk(noise + ramp)
    assert largest_error(shape, maps) <= 1e-5


@pytest.mark.parametrize(("precision", "apart"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_half_precision_is_near_and_its_maps_are_float32(precision, apart):
    spec, _ = plan_trunk("resnet18", RESNET, 100, 1024, (64, 64))
    state = random_state("resnet18", RESNET, 1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        exact = Trunk(spec, state)(images)
        near = Trunk(spec, state, precision)(images)
    for a, b in zip(exact, near, strict=True):
        assert b.dtype == torch.float32
        assert 0 < (a - b).norm() / a.norm() < apart


def test_layers_in_any_order_make_the_same_pyramid():
    """Levels are sorted finest first; the dense view keeps the requested order."""
    spec, shape = plan_trunk("resnet18", RESNET[::-1], None, 1, (64, 64))
    assert spec.levels == (2, 1, 0)
    assert shape.channels == (64, 128, 256)
    assert shape.paper_order[:256] == tuple(range(192, 448))


def test_draw_is_seeded_and_sorted():
    assert draw_channels((64, 128, 256), 100, 7) == draw_channels((64, 128, 256), 100, 7)
    assert draw_channels((64, 128, 256), 100, 7) != draw_channels((64, 128, 256), 100, 8)
    assert draw_channels((2, 3), None, 0) == [(0, 1), (0, 1, 2)]
    assert sum(map(len, draw_channels((64, 128, 256), 100, 7))) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18", RESNET, 449, 1, (64, 64)), "asks for 449, but the layers have 448 in all"),
        (("resnet18", RESNET, 2, 1, (64, 64)), "leaves layer .* without any"),
        (("resnet18", RESNET, 100, 1, (225, 225)), "do not nest.*sides that do: .*224, 240"),
        (("resnet18", ("layer1", "layer9"), 100, 1, (64, 64)), "'layer9' is not present"),
        (("resnet19", RESNET, 100, 1, (64, 64)), "not a torchvision classification model; similar"),
        (("vit_b_16", ("encoder.layers.encoder_layer_0",), None, 1, (224, 224)), "feature map"),
    ],
)
def test_settings_that_conflict_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        plan_trunk(*arguments)


def test_state_dict_that_does_not_fit_is_listed():
    state = random_state("resnet18", RESNET, 1)
    state["head.weight"] = torch.zeros(1)
    del state["layer1.0.conv1.weight"]
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    with pytest.raises(WeightsError) as caught:
        trunk_state("resnet18", RESNET, state)
    for part in (
        "missing: layer1.0.conv1.weight",
        "unexpected: head.weight",
        "conv1.weight (64, 3, 3, 3) instead of (64, 3, 7, 7)",
    ):
        assert part in str(caught.value)


def test_full_state_dicts_and_missing_counters_are_fine():
    full = get_model("resnet18", weights=None).state_dict()
    lean = {k: v for k, v in full.items() if not k.endswith("num_batches_tracked")}
    kept = trunk_state("resnet18", RESNET, lean)
    assert not any(key.startswith(("layer4", "fc")) for key in kept)
    assert torch.equal(kept["conv1.weight"], full["conv1.weight"])
