"""Weights: a trunk's state dict, from its library or a file, and its copy in the workspace.

A converted network is kept in the same way. Workers read only the copy. A model stays usable as
long as its workspace exists.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor

from padim_dist.core.backbones import timm_models
from padim_dist.core.backbones.networks import is_torchvisions
from padim_dist.core.geometry import Grid
from padim_dist.errors import DamagedFileError, WeightsError, first_line
from padim_dist.storage import Folder, Options
from padim_dist.store.networks.converted import is_converted
from padim_dist.store.workspace import Workspace
from padim_dist.vision import torchvision

State = Mapping[str, Tensor]
_ADVICE = "Remove it and run 'padim-dist fit' with the same model.weights: it writes it again"
_ADVICE_OF_CONVERTED = (
    "Restore it from a copy of the workspace. Without one, remove it and run 'padim-dist fit': it "
    "makes another network, and so another model"
)


def fetch_weights(backbone: str, weights: str, options: Options, size: Grid | None = None) -> State:
    """Return a state dict by the name of its weights, or from a path or URL.

    Parameters
    ----------
    backbone, weights : str
        Name of the network; name of weights that its library knows, or a path or URL.
    options : mapping
        fsspec options by protocol.
    size : (int, int), optional
        Input size that timm adapts the weights to: positional embeddings depend on it.

    Raises
    ------
    WeightsError
        If there is no such name or file, it cannot be downloaded, or it is not a state dict.
    """
    names = _names(backbone)
    if weights in names:
        try:
            with redirect_stdout(sys.stderr):  # torch prints progress
                return _download(backbone, weights, size)
        except Exception as error:  # no network, a wrong hash, ...
            reason = first_line(error)
            raise WeightsError(
                f"weights {weights} of {backbone} could not be downloaded ({reason}). Pass a file: "
                "set model.weights to the path or URL of a state dict, or to 'random'"
            ) from error
    folder, _, name = weights.rpartition("/")
    try:
        data = Folder(folder or ".", options).read(name)
    except (OSError, ValueError, ImportError) as error:
        known = f" ({', '.join(names)})" if names else ", which has none"
        raise WeightsError(
            f"model.weights {weights!r} is neither a weights name of {backbone}{known}, nor "
            f"'random', nor a file that can be read ({error})"
        ) from error
    return _load(data, weights)


def _names(backbone: str) -> list[str]:
    """Return the names of the pretrained weights of a network."""
    if is_torchvisions(backbone):
        return [weight.name for weight in torchvision.models.get_model_weights(backbone)]
    return timm_models.tags_of(backbone) if backbone.startswith(timm_models.PREFIX) else []


def _download(backbone: str, weights: str, size: Grid | None) -> State:
    if is_torchvisions(backbone):
        member: Any = torchvision.models.get_model_weights(backbone)[weights]
        state: State = member.get_state_dict(progress=False, check_hash=True)
        return state
    assert size is not None
    return timm_models.build(backbone, size, weights).state_dict()


def keep_weights(workspace: Workspace, state: State) -> str:
    """Write a trunk's state dict into the workspace; return its content address."""
    digest = digest_of(state)
    path = workspace.weights(digest)
    if not workspace.folder.exists(path):
        buffer = io.BytesIO()
        torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, buffer)
        workspace.folder.put(path, buffer.getvalue())
    return digest


def kept_weights(workspace: Workspace, digest: str) -> State:
    """Read a state dict that `keep_weights` wrote.

    Raises
    ------
    DamagedFileError
        If it is another one, or none: torch does not check the checksums in its files.
    """
    path = workspace.weights(digest)
    file = workspace.at(path)
    try:
        state = _load(workspace.folder.read(path), file)
    except WeightsError as error:
        raise DamagedFileError(file, str(error), _advice(workspace, digest)) from None
    if digest_of(state) != digest:
        found = "its content does not match its name"
        raise DamagedFileError(file, found, _advice(workspace, digest))
    return state


def _advice(workspace: Workspace, digest: str) -> str:
    """Return what to do about a damaged file. Only weights are the same if made again."""
    return _ADVICE_OF_CONVERTED if is_converted(workspace, digest) else _ADVICE


def kept_weights_bytes(workspace: Workspace, digest: str) -> int:
    """Return the size in bytes of the file that `keep_weights` wrote."""
    folder = workspace.folder
    return int(folder.fs.size(folder.at(workspace.weights(digest))))


def digest_of(state: State) -> str:
    """Return the content address of a state dict."""
    content = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()[:16]


def _load(data: bytes, source: str) -> State:
    try:
        if source.endswith(".safetensors"):
            return _load_safetensors(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except ImportError as error:
        raise WeightsError(
            f"weights {source} need the package safetensors, which cannot be imported ({error}): "
            "pip install 'padim-dist[timm]'"
        ) from error
    except Exception as error:  # torch does not say which errors it raises
        reason = first_line(error)
        raise WeightsError(f"weights {source} are not a state dict: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"weights {source} are not a state dict; found {type(state).__name__}")
    return state


def _load_safetensors(data: bytes) -> State:
    from safetensors.torch import load  # part of an extra

    state: State = load(data)
    return state
