"""Weights of networks that are not torchvision's: by name, from files, or not to be had."""

from __future__ import annotations

import pytest
import torch

from padim_dist.api.settings.plans import layers_and_channels
from padim_dist.config import make_config
from padim_dist.errors import ConfigError, WeightsError
from padim_dist.store.weights import fetch_weights

pytest.importorskip("timm", reason="SKIPPED PART: the extra timm is not installed")
OWN = "tests.core.networks_of_ones_own:small"
SIZE = (64, 64)


def test_without_a_network_the_message_asks_for_a_file(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"a1_in1k of .* could not be downl.*Pass a f"):
        fetch_weights("timm/resnet18", "a1_in1k", {}, SIZE)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("timm/resnet18", "neither a weights name of timm/resnet18 .a1_in1k, a2_in1k,.*'random'"),
        (OWN, "neither a weights name of .*:small, which has none, nor 'random', nor a file"),
    ],
)
def test_names_of_weights_that_are_unknown(backbone, message):
    with pytest.raises(WeightsError, match=message):
        fetch_weights(backbone, "IMAGENET1K_V1", {}, SIZE)


def test_files_of_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    state = {"first.weight": torch.randn(2, 3), "first.bias": torch.zeros(2)}
    save_file(state, tmp_path / "small.safetensors")
    found = fetch_weights(OWN, str(tmp_path / "small.safetensors"), {}, SIZE)
    assert found.keys() == state.keys()
    assert torch.equal(found["first.weight"], state["first.weight"])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(WeightsError, match=r"cut\.safetensors are not a state dict"):
        fetch_weights(OWN, str(tmp_path / "cut.safetensors"), {}, SIZE)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("timm/resnet18", r"Of timm/resnet18 name those.*layer1 \(stride 4, 64 channels\), layer2"),
        ("timm/test_vit", r"name those to take, finest first: blocks\.0 \(stride 16, 64 channels"),
        (OWN, "name the layers to take, finest first; its modules are first, norm, shared, sec"),
    ],
)
def test_layers_have_no_defaults_but_a_proposal(backbone, message):
    config = make_config(
        {"workspace": "./w", "archive": {"url": "/a"}, "model": {"backbone": backbone}}
    )
    with pytest.raises(ConfigError, match=message):
        layers_and_channels(config)
