"""Plans from a configuration: embedding, weights, reading, and free disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from padim_dist.api.settings.lookup import find_manifest
from padim_dist.api.settings.moved import Move, move_since
from padim_dist.api.settings.places import archive_of, archive_root, workspace_of
from padim_dist.archive.addresses import present_path
from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.times import PathTime
from padim_dist.config import Config
from padim_dist.config.identity import batch_images
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.backbones.networks import advise_layers, check_backbone
from padim_dist.core.backbones.reduction import Channels, make_projections
from padim_dist.core.engines.packages import check_engine
from padim_dist.core.spec import AlignSpec, EmbeddingSpec, TrunkSpec
from padim_dist.core.trunk import random_state, trunk_state
from padim_dist.errors import ConfigError
from padim_dist.storage import Folder
from padim_dist.store.manifests import Snapshot, read_witnesses
from padim_dist.store.records import unless_damaged
from padim_dist.store.weights import State, fetch_weights


def reader_of(
    config: Config,
    embedding: EmbeddingSpec,
    moved: Move | None = None,
    witnesses: tuple[str, ...] = (),
) -> ImageReader:
    """Return the reader of the archive's images for an embedding.

    Parameters
    ----------
    config, embedding : Config, EmbeddingSpec
        Where the archive is; the geometry.
    moved : Move, optional
        How the archive has moved since the manifest of the rows that are read was made.
    witnesses : tuple of str, optional
        Addresses of images that tell whether the store is well.
    """
    archive = config.archive
    fetcher = ObjectFetcher(
        options=config.storage_options,
        archive=archive_of(config).url,
        deadline=archive.read_deadline,
        witnesses=witnesses,
        moved=moved or (None, archive_root(config)),
    )
    return ImageReader(
        fetcher,
        embedding.geometry,
        archive.max_pixels,
        deadline=archive.decode_deadline,
        bits=embedding.bits,
        reduces=embedding.jpeg == "reduced",
    )


def reading_of(
    config: Config, embedding: EmbeddingSpec, moved: Move, witnesses: tuple[str, ...]
) -> Reading:
    """Return how workers read images of a manifest, and how many at a time. See `reader_of`."""
    reader = reader_of(config, embedding, moved, witnesses)
    if embedding.jpeg == "nvjpeg":
        reader = replace(reader, jpeg_device="cuda")
    return Reading(reader, config.cluster.requests, config.cluster.readers)


def time_of(config: Config, manifest: Snapshot) -> PathTime | None:
    """Return the rule of ``archive.time`` for the rows of a manifest; None if it is not set."""
    rule = config.archive.time
    if rule is None:
        return None
    former, now = move_since(config, manifest)
    return PathTime(rule.path, rule.format, former or now)


def witnesses_of(config: Config, manifest: Snapshot | None) -> tuple[str, ...]:
    """Return where a few images from all over a manifest of the archive are now."""
    if manifest is None:
        return ()
    moved, uris = move_since(config, manifest), read_witnesses(workspace_of(config), manifest)
    return tuple(present_path(uri, *moved) for uri in uris)


def whole_manifest(config: Config) -> Snapshot | None:
    """Return the newest manifest of the archive; None if there is none, or it is damaged."""
    return unless_damaged(lambda: find_manifest(config), "its images are no witnesses")


def layers_and_channels(config: Config) -> tuple[tuple[str, ...], Channels]:
    """Return layers and number of channels, with the tested defaults for ``auto``."""
    model = config.model
    check_backbone(model.backbone)
    defaults = DEFAULTS.get(model.backbone)
    if defaults is None and model.layers == "auto":
        raise ConfigError(
            f"model.layers 'auto' is known for {', '.join(DEFAULTS)}. Of {model.backbone} "
            f"{advise_layers(model.backbone, model.crop)}"
        )
    layers = defaults.layers if model.layers == "auto" and defaults else tuple(model.layers)
    if model.channels != "auto":
        return layers, model.channels
    # The paper's number of channels goes with the paper's layers.
    return layers, defaults.channels if defaults and layers == defaults.layers else None


def plan_embedding(config: Config) -> EmbeddingSpec:
    """Return the embedding of a configuration, without weights.

    Raises
    ------
    ConfigError
        As `plan_trunk`; or if the package that runs the engine is not installed.
    """
    model = config.model
    check_engine(model.engine)
    layers, channels = layers_and_channels(config)
    trunk, shape = plan_trunk(
        model.backbone,
        layers,
        channels,
        model.seed,
        model.crop,
        model.weights,
        model.precision,
        model.reduction,
    )
    weights = ""  # not loaded yet
    return EmbeddingSpec(
        trunk,
        shape,
        model.geometry,
        weights,
        model.precision,
        batch_images(model),
        model.jpeg,
        config.archive.bits,
        AlignSpec(model.align.shift, model.align.rotate) if model.align else None,
        model.engine,
    )


def load_state(config: Config, trunk: TrunkSpec) -> State:
    """Return the state dict of the trunk of a configuration, with its projections."""
    model = config.model
    if model.weights == "random":
        state = random_state(trunk.backbone, trunk.layers, model.seed, model.crop)
    else:
        found = fetch_weights(trunk.backbone, model.weights, config.storage_options, model.crop)
        state = trunk_state(trunk.backbone, trunk.layers, found, model.crop)
    if not trunk.projected:
        return state
    counts = [len(drawn) for drawn in trunk.drawn]
    return {**state, **make_projections(counts, trunk.projected, model.seed)}


def state_bytes(state: State) -> int:
    """Return the bytes of a state dict."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def free_disk(folder: Folder) -> int | None:
    """Return the free bytes for a folder that may not exist yet; None if unknown."""
    if not folder.is_local:
        return None
    path = Path(folder.url)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
