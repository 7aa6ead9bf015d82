"""The converted network of a fit: found in the workspace, or made from weights and some images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from padim_dist.api.pipeline.chosen.sampled import sample_rows
from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.api.settings.aligned import aligning_ahead
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.rows import ImageRow
from padim_dist.config import Config
from padim_dist.core.align.reference import Reference
from padim_dist.core.engines.conversion import convert
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.errors import ArchiveError
from padim_dist.events import Listener, Progress
from padim_dist.redaction import redacted
from padim_dist.store.networks.converted import ConvertedNetwork, find_network, put_network
from padim_dist.store.weights import State, digest_of, keep_weights
from padim_dist.store.workspace import content_id

_SAMPLE = 64
"""Normal images that a network is quantised on."""
_STAGE, _STEPS = "fit: network", 2 * _SAMPLE + 1
"""Images of the sample that are read, images that are looked at to quantise, and the rest."""


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
    """

    pieces: Sequence[Piece]
    readings: Mapping[str, Reading]
    references: Mapping[str, Reference]


def keep_trunk(
    config: Config, spec: EmbeddingSpec, state: State, images: Images, listener: Listener
) -> str:
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

    Raises
    ------
    ConfigError
        If the network cannot be converted, or a package is missing.
    ArchiveError
        If none of the images of the sample can be read.
    RunError
        If the store keeps failing.
    """
    workspace = workspace_of(config)
    if spec.engine == "torch":
        return keep_weights(workspace, state)
    asked = network_id(config, spec, state)
    if found := find_network(workspace, asked):
        return found.weights
    is_quantised = spec.precision == "int8"
    listener(Progress(_STAGE, _STEPS, 0))
    sample = _read_sample(config, spec, images, listener) if is_quantised else []
    pixels = [one.pixels for one in sample if one.pixels is not None]
    together = torch.stack(pixels) if pixels else None

    def note(done: int) -> None:
        listener(Progress(_STAGE, _STEPS, _SAMPLE + done))

    network = convert(spec.trunk, state, spec.geometry.crop, together, note)
    packages = ["torch", "openvino", *(["nncf"] if is_quantised else [])]
    made = ConvertedNetwork(
        weights=keep_weights(workspace, network),
        images={one.row.image_id: one.row.etag for one in sample},
        versions={name: version(name) for name in packages},
        made_at=datetime.now(UTC).isoformat(),
    )
    agreed = put_network(workspace, asked, made)
    listener(Progress(_STAGE, _STEPS, _STEPS))
    return agreed.weights


def network_id(config: Config, spec: EmbeddingSpec, state: State) -> str:
    """Return the id of what a network is made for.

    What leaves out some of the archive's images, or labels them, makes no other network: every
    night of a window would be embedded again.
    """
    trunk = {
        "engine": spec.engine,
        "weights": digest_of(state),
        "trunk": asdict(spec.trunk),
        "crop": spec.geometry.crop,
    }
    if spec.precision != "int8":
        return content_id(trunk)
    archive = {name: archive_settings(config)[name] for name in ("url", "layout", "group")}
    model = config.model.model_dump(mode="json", include={"resize", "seed", "align"})
    return content_id({**trunk, "archive": archive, "bits": spec.bits, "model": model})


def _read_sample(
    config: Config, spec: EmbeddingSpec, images: Images, listener: Listener
) -> list[LoadedImage]:
    """Read some normal images as they will be embedded; those that cannot be read are left out.

    Raises
    ------
    ArchiveError
        If none can be read.
    """
    chosen: dict[tuple[str, str], list[ImageRow]] = {}
    for piece, row in sample_rows(config, images.pieces, images.readings, _SAMPLE):
        chosen.setdefault((piece.manifest, piece.part.group), []).append(row)
    found, failed = list[LoadedImage](), list[LoadedImage]()
    for (manifest, group), rows in chosen.items():
        reading = aligning_ahead(images.readings[manifest], spec, images.references.get(group))
        for image in read_ahead(rows, reading, reading.requests):
            (failed if image.pixels is None else found).append(image)
            listener(Progress(_STAGE, _STEPS, len(found) + len(failed), len(failed)))
    if not found:
        first = f"; the first: {failed[0].error}" if failed else ""
        raise ArchiveError(
            f"model.precision 'int8' needs some normal images that can be read, and none of "
            f"{len(failed)} can{redacted(first)}. Correct them, or set model.precision to bfloat16"
        )
    return found
