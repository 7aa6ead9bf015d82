"""Networks of timm, which is an extra: it is imported when a backbone asks for it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from padim_dist.core.geometry import Grid
from padim_dist.errors import ConfigError

PREFIX = "timm/"


def timm_of(backbone: str) -> ModuleType:
    """Return the package timm.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"model.backbone {backbone!r} needs timm, which cannot be imported ({error}); install "
            "it where the command and its workers run: pip install 'padim-dist[timm]'"
        ) from error
    return timm


def check_name(backbone: str) -> None:
    """Raise ConfigError unless timm has a model of this name, and pretrained weights of its tag."""
    timm, name = timm_of(backbone), backbone.removeprefix(PREFIX)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3, 0.5)
        raise ConfigError(
            f"model.backbone {backbone!r} is not a model of timm {timm.__version__}; similar: "
            f"{', '.join(PREFIX + one for one in near) or 'none'}"
        )
    if tag and tag not in (tags := tags_of(backbone)):
        raise ConfigError(
            f"model.backbone {backbone!r}: timm {timm.__version__} has no weights {tag!r} of "
            f"{architecture}; it has {', '.join(tags) or 'none'}"
        )


def tags_of(backbone: str) -> list[str]:
    """Return the names of the pretrained weights of a model, as timm has them."""
    architecture, _, _ = backbone.removeprefix(PREFIX).partition(".")
    models = timm_of(backbone).list_pretrained(f"{architecture}.*")
    return [name.partition(".")[2] for name in models]


def build(backbone: str, size: Grid, weights: str = "") -> nn.Module:
    """Return a model for an input size, with pretrained weights if their name is given.

    Raises
    ------
    ConfigError
        If it cannot be made for this size.
    """
    timm, name = timm_of(backbone), backbone.removeprefix(PREFIX)
    options = _size_options(backbone, size)
    if weights:
        architecture = name.partition(".")[0]
        pretrained: nn.Module = timm.create_model(
            f"{architecture}.{weights}", pretrained=True, **options
        )
        return pretrained
    try:
        model: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # some check the size, each in its own way
        raise ConfigError(
            f"model.crop {size[0]}x{size[1]}: timm cannot make {name} for it "
            f"({type(error).__name__}: {error}); choose the size that it was trained with, or "
            "another model.backbone"
        ) from error
    return model


def adapted(backbone: str, size: Grid, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return a state dict as timm adapts it to a model and its input size; None if it cannot."""
    timm, name = timm_of(backbone), backbone.removeprefix(PREFIX)
    source = {"state_dict": dict(state)}
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=source, **_size_options(backbone, size)
        )
    except Exception:  # whatever its code for other networks' state dicts stumbles over
        return None
    return model.state_dict()


def normalisation_of(backbone: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation that a model's pixels are normalised by, for pixels from 0 to 1.

    They are those of the pretrained weights that are named in `weights`, in the name of the
    backbone (``timm/NAME.TAG``), or that timm takes by default, in this order.

    Raises
    ------
    ConfigError
        If both name weights, and not the same.
    """
    architecture, _, tag = backbone.removeprefix(PREFIX).partition(".")
    if weights in tags_of(backbone):
        if tag not in ("", weights):
            raise ConfigError(
                f"model.backbone {backbone!r} and model.weights {weights!r} name different "
                f"weights; set model.backbone to {PREFIX}{architecture}"
            )
        backbone = f"{PREFIX}{architecture}.{weights}"
    trained = _trained_with(backbone)
    return tuple(trained["mean"]), tuple(trained["std"])


def _size_options(backbone: str, size: Grid) -> dict[str, Any]:
    """Return the option that makes a model for an input size; none if it takes images of any."""
    return {"img_size": size} if _trained_with(backbone).get("fixed_input_size") else {}


def _trained_with(backbone: str) -> dict[str, Any]:
    """Return what timm knows of a model's pretrained weights; its defaults if there are none."""
    timm, name = timm_of(backbone), backbone.removeprefix(PREFIX)
    found: dict[str, Any] = (timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).to_dict()
    return found


def tracing() -> dict[str, Any] | None:
    """Return the modules and functions of timm that are not traced into; None if it is not used."""
    if "timm" not in sys.modules:
        return None
    from timm.models import get_notrace_functions, get_notrace_modules

    return {
        "leaf_modules": get_notrace_modules(),
        "autowrap_functions": get_notrace_functions(),
    }


def advise_layers(model: nn.Module) -> str:
    """Return what to set ``model.layers`` to, by what timm says of its stages."""
    info = getattr(model, "feature_info", None) or []
    stages, modules = info if isinstance(info, list) else info.info, dict(model.named_modules())
    known = [
        f"{one['module']} (stride {one['reduction']}, {one['num_chs']} channels)"
        for one in stages
        if {"module", "reduction", "num_chs"} <= one.keys() and one["module"] in modules
    ]
    if not known:
        children = ", ".join(name for name, _ in model.named_children())
        return f"name the layers to take, finest first; its modules are {children}"
    return f"name those to take, finest first: {', '.join(known)}"
