"""Networks by the name of a backbone: torchvision's, timm's, or one's own.

A name of torchvision stands alone (``resnet18``), one of timm follows ``timm/``, and
``module:function`` is a function that returns a network.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from padim_dist.core.backbones import factories, timm_models
from padim_dist.core.geometry import Grid
from padim_dist.errors import ConfigError
from padim_dist.vision import torchvision

_DRAWS = {torch.Tensor.normal_, torch.Tensor.uniform_}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """A network in eval mode, and how its layers become feature maps.

    Attributes
    ----------
    module : nn.Module
        The network, of images (N, 3, H, W).
    channels_last : bool or None
        Whether feature maps are (N, H, W, C); None: as their shapes say.
    tokens : (int, int) or None
        Grid of the tokens of a vision transformer.
    tracing : mapping
        Options of the tracer of torchvision.
    mean, std : tuple of float or None
        What its pixels are normalised by, for pixels from 0 to 1; None: as those of ImageNet.
    """

    module: nn.Module
    channels_last: bool | None = False
    tokens: Grid | None = None
    tracing: dict[str, Any] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def is_torchvisions(backbone: str) -> bool:
    """Return whether a backbone is one of torchvision, which takes images of any size.

    Examples
    --------
    >>> [is_torchvisions(name) for name in ("resnet18", "timm/resnet18", "mine:network")]
    [True, False, False]
    """
    return not backbone.startswith(timm_models.PREFIX) and ":" not in backbone


def check_backbone(backbone: str) -> None:
    """Raise ConfigError unless there is such a network.

    A function of one's own is imported, and not called.
    """
    if backbone.startswith(timm_models.PREFIX):
        timm_models.check_name(backbone)
    elif ":" in backbone:
        factories.find_factory(backbone)
    elif backbone not in (names := torchvision.models.list_models(module=torchvision.models)):
        near = difflib.get_close_matches(backbone, names, 3, 0.5)
        raise ConfigError(
            f"model.backbone {backbone!r} is not a torchvision classification model; similar: "
            f"{', '.join(near) or 'none'}. Models of timm are timm/NAME, a function of your own is "
            "module:function"
        )


def build_network(
    backbone: str, size: Grid | None, weights: str = "", device: str = "meta"
) -> Network:
    """Return a network with its random initialisation.

    Parameters
    ----------
    backbone : str
        Its name.
    size : (int, int) or None
        Height and width of its input; networks of torchvision take any.
    weights : str
        Name of its pretrained weights, which may say how pixels are normalised.
    device : str
        Where it is made: ``meta`` for its shapes alone.

    Raises
    ------
    ConfigError
        If there is none, or it cannot be made for this size.
    """
    check_backbone(backbone)
    unset = _Unset() if device == "meta" else nullcontext()
    with torch.device(device), unset, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old models warn about their initialisation
        if is_torchvisions(backbone):
            module = _of_torchvision(backbone)
            return Network(module.eval(), channels_last=backbone.startswith("swin"))
        assert size is not None
        if ":" in backbone:
            module = factories.call_factory(backbone, size)
            mean, std = factories.normalisation_of(module, backbone)
        else:
            module = timm_models.build(backbone, size)
            mean, std = timm_models.normalisation_of(backbone, weights)
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    return Network(
        module.eval(),
        channels_last=True if getattr(module, "output_fmt", None) == "NHWC" else None,
        tokens=(int(grid[0]), int(grid[1])) if grid else None,
        tracing=timm_models.tracing(),
        mean=None if mean == IMAGENET_MEAN else mean,
        std=None if std == IMAGENET_STD else std,
    )


def _of_torchvision(backbone: str) -> nn.Module:
    """Return a network on the current device."""
    device = torch.get_default_device()
    try:
        module: nn.Module = torchvision.models.get_model(backbone, weights=None)
    except NotImplementedError:  # it computes its own sizes with tensors, e.g. regnet_y_400mf
        with torch.device("cpu"):
            module = torchvision.models.get_model(backbone, weights=None)
    return module.to(device)


class _Unset(TorchFunctionMode):
    """Leaves out random numbers on the meta device: to draw none loads the compiler, a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            tensor = args[0] if args else given.get("tensor")
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **given)


def advise_layers(backbone: str, size: Grid) -> str:
    """Return what to set ``model.layers`` to, if no defaults are known."""
    if backbone.startswith(timm_models.PREFIX):
        return timm_models.advise_layers(build_network(backbone, size).module)
    children = [name for name, _ in build_network(backbone, size).module.named_children()]
    return f"name the layers to take, finest first; its modules are {', '.join(children)}"
