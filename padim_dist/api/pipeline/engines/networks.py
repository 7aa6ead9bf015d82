"""The converted network of a fit: found in the workspace, or made from weights and some images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from padim_dist.api.pipeline.chosen.sampled import (
    ChosenImage,
    refuse_lost,
    sample_rows,
    sample_settings,
)
from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.api.settings.aligned import aligning_ahead
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.config import ClusterConfig, Config
from padim_dist.core.align.reference import Reference
from padim_dist.core.engines.conversion import convert
from padim_dist.core.engines.packages import check_engine
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.sample_job import SampleJob, read_sample
from padim_dist.engine.workers import open_workers
from padim_dist.errors import ArchiveError
from padim_dist.events import Listener, Progress
from padim_dist.pages.words import counted
from padim_dist.redaction import redacted
from padim_dist.store.networks.converted import ConvertedNetwork, find_network, put_network
from padim_dist.store.weights import State, digest_of, keep_weights
from padim_dist.store.workspace import content_id

_SAMPLE = 64
"""Normal images that a network is quantised on."""
_FEW = 16
"""Images of a sample that are too few to be silent about."""
_READING, _MAKING = "fit: sample", "fit: network"


@dataclass(frozen=True)
class Images:
    """The images of a fit, for the sample of them that a network is quantised on.

    Attributes
    ----------
    pieces : sequence of Piece
        What the fit merges and subtracts.
    readings : mapping of str to Reading
        How images are read, by manifest.
    references : mapping of str to Reference
        What they are aligned with, by group.
    cluster : ClusterConfig
        The cluster whose workers read them.
    """

    pieces: Sequence[Piece]
    readings: Mapping[str, Reading]
    references: Mapping[str, Reference]
    cluster: ClusterConfig


def keep_trunk(
    config: Config,
    spec: EmbeddingSpec,
    state: State,
    images: Images,
    listener: Listener,
    makes: bool = True,
) -> str | None:
    """Write what workers need of a trunk into the workspace; return its content address.

    For PyTorch these are the weights. For another engine it is a converted network, which is found
    once for an archive and its settings: later fits use the same one.

    Parameters
    ----------
    config, spec : Config, EmbeddingSpec
        The configuration, and its embedding without weights.
    state : mapping of str to Tensor
        The trunk's state dict, with its projections.
    images : Images
        The images of the fit.
    listener : callable
        Receives events.
    makes : bool
        Whether a network that is quantised is made if there is none; otherwise None is returned.

    Raises
    ------
    ConfigError
        If the network cannot be converted, or a package is missing.
    ArchiveError
        If none of the images of the sample can be read.
    RunError
        If some of them cannot be read now, or the store keeps failing.
    """
    workspace = workspace_of(config)
    if spec.engine == "torch":
        return keep_weights(workspace, state)
    asked = network_id(config, spec, state)
    if found := find_network(workspace, asked):
        return found.weights
    is_quantised = spec.precision == "int8"
    if is_quantised and not makes:
        return None
    check_engine(spec.engine, spec.precision, converts=True)
    sample = _read_sample(config, spec, images, listener) if is_quantised else []
    if is_quantised and len(sample) < _FEW:
        logger.warning(
            "the int8 network of this archive is quantised on %s only; when there are more, you "
            "may remove %s and fit again: that makes another network, and other models",
            counted(len(sample), "image"),
            workspace.at(workspace.network(asked)),
        )
    pixels = [one.pixels for one in sample if one.pixels is not None]
    together = torch.stack(pixels) if pixels else None
    steps = len(sample) + 1

    def note(done: int) -> None:
        listener(Progress(_MAKING, steps, done))

    note(0)

    network = convert(spec.trunk, state, spec.geometry.crop, together, note)
    packages = ["torch", "openvino", *(["nncf"] if is_quantised else [])]
    made = ConvertedNetwork(
        weights=keep_weights(workspace, network),
        images={one.row.image_id: one.row.etag for one in sample},
        versions={name: version(name) for name in packages},
        made_at=datetime.now(UTC).isoformat(),
    )
    agreed = put_network(workspace, asked, made)
    note(steps)
    return agreed.weights


def network_id(config: Config, spec: EmbeddingSpec, state: State) -> str:
    """Return the id of what a network is made for."""
    trunk = {
        "engine": spec.engine,
        "weights": digest_of(state),
        "trunk": asdict(spec.trunk),
        "crop": spec.geometry.crop,
    }
    if spec.precision != "int8":
        return content_id(trunk)
    return content_id({**trunk, **sample_settings(config)})


def _read_sample(
    config: Config, spec: EmbeddingSpec, images: Images, listener: Listener
) -> list[LoadedImage]:
    """Let workers read some normal images as they will be embedded; leave out the unreadable.

    Not this process: a damaged file may end the process that decodes it.

    Raises
    ------
    ArchiveError
        If none can be read.
    RunError
        If some cannot be read now.
    """
    chosen: dict[tuple[str, int], list[ChosenImage]] = {}
    for one in sample_rows(config, images.pieces, images.readings, _SAMPLE):
        chosen.setdefault((one.piece.manifest, one.source.shard.shard), []).append(one)
    jobs = []
    for (manifest, _), own in chosen.items():
        reference = images.references.get(own[0].piece.part.group)
        reading = aligning_ahead(images.readings[manifest], spec, reference)
        source = replace(own[0].source, reading=reading)
        jobs.append(SampleJob(source, tuple(one.row.image_id for one in own)))
    tried: list[LoadedImage] = []
    if jobs:
        with open_workers(images.cluster, 1, listener) as workers:
            done = workers.map(read_sample, jobs, _READING)
        found_of = {job.images: outcome.images for job, outcome in done}
        tried = [image for job in jobs for image in found_of[job.images]]
    refuse_lost(tried, "the network of model.precision 'int8'")
    if found := [image for image in tried if image.pixels is not None]:
        return found
    if tried:
        what = f"none of {len(tried)} can{redacted(f'; the first: {tried[0].error}')}. Correct them"
    else:
        what = (
            f"none of those that were chosen by model.seed ({_SAMPLE} at most) is used by this "
            "fit. Take fewer out, set another model.seed"
        )
    raise ArchiveError(
        f"model.precision 'int8' needs some normal images that can be read, and {what}, or set "
        "model.precision to bfloat16"
    )
