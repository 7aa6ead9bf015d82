"""Networks of one's own: ``module:function`` of any installed module.

The function takes the keyword arguments ``height`` and ``width`` of the input and returns an
`nn.Module`. It is called on the meta device too, so it must not load weights or look at numbers.
Tracing by `torch.fx` must be possible. Named layers give maps (N, C, H, W) or (N, H, W, C); or
tokens (N, T, C), if ``patch_embed.grid_size`` of the network is their grid. Its attributes ``mean``
and ``std``, three numbers for pixels from 0 to 1, say how pixels are normalised; without them
as those of ImageNet.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from math import isfinite

from torch import nn

from padim_dist.core.geometry import Grid
from padim_dist.errors import ConfigError

Factory = Callable[..., object]


def find_factory(backbone: str) -> Factory:
    """Return the function of a name like ``module:function``, without calling it.

    A function that does not take exactly ``height`` and ``width`` is refused: the names also come
    from files of the workspace, and must not make a worker call just any function.

    Raises
    ------
    ConfigError
        If the module cannot be imported, or has no such function.
    """
    module_name, _, name = backbone.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # also errors of the module's own code
        raise ConfigError(
            f"model.backbone {backbone!r}: module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {error}); install it where the command and its workers run, "
            "or put its folder into PYTHONPATH there"
        ) from error
    factory: Factory | None = getattr(module, name, None)
    if not callable(factory):
        raise ConfigError(f"model.backbone {backbone!r}: {module_name} has no function {name!r}")
    try:
        taken = list(inspect.signature(factory).parameters)
    except ValueError:  # written in C
        taken = []
    if sorted(taken) != ["height", "width"]:
        raise ConfigError(
            f"model.backbone {backbone!r}: the function must take height and width, and nothing "
            f"else; found ({', '.join(taken)})"
        )
    return factory


def call_factory(backbone: str, size: Grid) -> nn.Module:
    """Return the network that a function makes for an input size.

    Raises
    ------
    ConfigError
        If it fails, or returns something else.
    """
    factory = find_factory(backbone)
    try:
        module = factory(height=size[0], width=size[1])
    except Exception as error:
        raise ConfigError(
            f"model.backbone {backbone!r} failed for an input of {size[0]}x{size[1]} "
            f"({type(error).__name__}: {error}). It is called on PyTorch's meta device too, where "
            "tensors have no numbers: it must not load weights or look at them"
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model.backbone {backbone!r} returned {type(module).__name__}, not a torch.nn.Module"
        )
    return module


def normalisation_of(
    module: nn.Module, backbone: str
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the attributes ``mean`` and ``std`` of a network; None for those it lacks.

    Raises
    ------
    ConfigError
        If one is not three numbers.
    """
    found = []
    for name in ("mean", "std"):
        values = getattr(module, name, None)
        try:
            numbers = None if values is None else tuple(float(value) for value in values)
        except (TypeError, ValueError, RuntimeError):
            numbers = ()
        is_valid = numbers is None or (len(numbers) == 3 and all(map(isfinite, numbers)))
        if not is_valid or (name == "std" and numbers and min(numbers) <= 0):
            raise ConfigError(
                f"model.backbone {backbone!r}: its attribute {name} is not three "
                f"{'positive ' * (name == 'std')}numbers: {values}"
            )
        found.append(numbers)
    return found[0], found[1]
