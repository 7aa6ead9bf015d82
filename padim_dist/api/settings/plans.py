"""What the public functions share: from a configuration to plans, and to what is there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from padim_dist.api.settings.places import archive_of, archive_settings, workspace_of
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.config import Config, differences
from padim_dist.core.backbone import DEFAULTS, check_backbone, plan_trunk
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.trunk import random_state, trunk_state
from padim_dist.engine.worker import Reading
from padim_dist.errors import ConfigError, RequestError
from padim_dist.storage import Folder
from padim_dist.store.models import ModelInfo, list_models
from padim_dist.store.run import list_runs
from padim_dist.store.weights import State, fetch_weights
from padim_dist.store.workspace import Workspace

UNKNOWN_WEIGHTS = ""
"""Stands for the weights' digest in a plan that was made before they were loaded."""


def reader_of(config: Config, geometry: InputGeometry) -> ImageReader:
    """How the archive's images are read for an embedding of this geometry."""
    fetcher = ObjectFetcher(config.storage_options, archive_of(config).url)
    return ImageReader(fetcher, geometry, config.archive.max_pixels)


def reading_of(config: Config, embedding: EmbeddingSpec) -> Reading:
    """How workers read them, and how many at a time."""
    reader = reader_of(config, embedding.geometry)
    if embedding.jpeg == "nvjpeg":
        reader = replace(reader, jpeg_device="cuda")
    return Reading(reader, config.cluster.requests, config.cluster.readers)


def model_settings(config: Config) -> dict[str, Any]:
    """Settings that a model is found by: what it was fitted on, and how."""
    archive = archive_settings(config)
    del archive["shard_images"]
    return {"archive": archive, "model": config.model.model_dump(mode="json")}


def asked_settings(config: Config) -> dict[str, Any]:
    """All settings that determine results: what a resumed fit or run is compared by."""
    settings = config.model_dump(mode="json", include={"model", "fit", "score"})
    archive = archive_settings(config)
    return {**settings, "archive": {**archive, "max_pixels": config.archive.max_pixels}}


def layers_and_channels(config: Config) -> tuple[tuple[str, ...], int | None]:
    """Layers and number of channels, with the tested defaults for ``auto``."""
    model = config.model
    check_backbone(model.backbone)
    defaults = DEFAULTS.get(model.backbone)
    if defaults is None and model.layers == "auto":
        raise ConfigError(
            f"model.layers 'auto' is known for {', '.join(DEFAULTS)}; name the feature nodes of "
            f"{model.backbone} to take, finest first"
        )
    layers = defaults.layers if model.layers == "auto" and defaults else tuple(model.layers)
    if model.channels != "auto":
        return layers, model.channels
    # The paper's number of channels goes with the paper's layers.
    return layers, defaults.channels if defaults and layers == defaults.layers else None


def plan_embedding(config: Config) -> EmbeddingSpec:
    """The embedding of a configuration, weights not yet known; see `plan_trunk` for errors."""
    model = config.model
    layers, channels = layers_and_channels(config)
    trunk, shape = plan_trunk(model.backbone, layers, channels, model.seed, model.crop)
    return EmbeddingSpec(
        trunk, shape, model.geometry, UNKNOWN_WEIGHTS, model.precision, model.batch, model.jpeg
    )


def load_state(config: Config) -> State:
    """The trunk's state dict that the configuration asks for."""
    model = config.model
    layers, _ = layers_and_channels(config)
    if model.weights == "random":
        return random_state(model.backbone, layers, model.seed)
    state = fetch_weights(model.backbone, model.weights, config.storage_options)
    return trunk_state(model.backbone, layers, state)


def state_bytes(state: State) -> int:
    """Bytes of a state dict."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def free_disk(folder: Folder) -> int | None:
    """Free bytes where a folder lies or will lie; None where that cannot be told."""
    if not folder.is_local:
        return None
    path = Path(folder.url)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def find_model(config: Config) -> ModelInfo:
    """Newest model that was fitted with these settings.

    Raises
    ------
    RequestError
        If there is none; names what differs from the nearest one.
    """
    wanted = model_settings(config)
    infos = list_models(workspace_of(config))
    for info in reversed(infos):
        if wanted in info.settings:
            return info
    raise RequestError(
        _nothing_found(
            "model",
            config.workspace,
            [(i.model_id, settings) for i in infos for settings in i.settings],
            wanted,
            "fit",
        )
    )


def find_run(config: Config) -> tuple[ModelInfo, dict[str, Any]]:
    """Newest model with these settings and its newest run; see `find_model` for the errors."""
    model = find_model(config)
    runs = [r for r in list_runs(workspace_of(config)) if r["model_id"] == model.model_id]
    wanted = run_settings(config)
    for run in reversed(runs):
        if wanted in run["settings"]:
            return model, run
    raise RequestError(
        _nothing_found(
            f"run of model {model.model_id}",
            config.workspace,
            [(r["run_id"], settings) for r in runs for settings in r["settings"]],
            wanted,
            "score",
        )
    )


def check_resumed(
    workspace: Workspace, path: str, asked: str | None, found: str, wanted: Mapping[str, Any]
) -> None:
    """Refuse to resume something under settings, or on images, that make another one of it.

    Parameters
    ----------
    workspace : Workspace
        Where it lies.
    path : str
        What was written when it was started; has ``asked``, the settings then.
    asked : str or None
        Id of the fit or run to resume; None for whichever the settings make.
    found : str
        Id that the settings make.
    wanted : mapping
        The settings.

    Raises
    ------
    RequestError
        Names the differences.
    """
    if asked is None or asked == found:
        return
    started = workspace.folder.find_json(path)
    if started is None:
        raise RequestError(
            f"workspace {workspace.folder.url} holds no {asked}; leave out --resume to start"
        )
    reason = "; ".join(differences(started["asked"], wanted)) or "the images, which are others now"
    raise RequestError(
        f"{asked} cannot be resumed: it differs from what the configuration asks for ({found}) in "
        f"{reason}. Set that back, or leave out --resume to start {found}"
    )


def run_settings(config: Config, partial: bool = False) -> dict[str, Any]:
    """Settings that a model's run is found by; a run of some of the images is another kind."""
    settings: dict[str, Any] = {"score": config.score.model_dump(mode="json")}
    return {**settings, "partial": True} if partial else settings


def _nothing_found(
    what: str,
    where: str,
    there: list[tuple[str, Mapping[str, Any]]],
    wanted: Mapping[str, Any],
    command: str,
) -> str:
    if not there:
        return f"workspace {where} holds no finished {what}; run '{command}' first"
    gaps = [(differences(settings, wanted), name) for name, settings in there]
    gap, name = min(gaps, key=lambda item: len(item[0]))
    return (
        f"workspace {where} holds no {what} with these settings. The nearest, {name}, differs in "
        f"{'; '.join(gap)}. Set them back, or run '{command}' for the new ones"
    )
