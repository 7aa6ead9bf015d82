"""A picture of suspects: each image next to what all other normal images say of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from padim_dist.api.settings.aligned import aligning_of
from padim_dist.api.settings.moved import move_since_id
from padim_dist.api.settings.places import archive_of, logger, workspace_of
from padim_dist.api.settings.plans import reader_of
from padim_dist.api.sql.tables import image_name
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.config import Config
from padim_dist.core.calibration import left_out
from padim_dist.core.embedding import Embedder
from padim_dist.core.gaussian import Gaussian
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.errors import ImageError, PadimDistError, RequestError
from padim_dist.escaping import visible
from padim_dist.pages.sheet import SheetItem, contact_sheet
from padim_dist.store.gaussians import read_gaussian
from padim_dist.store.manifests import find_images, read_shard
from padim_dist.store.models import ModelInfo, manifests_of_fit
from padim_dist.store.records import unless_damaged
from padim_dist.store.weights import kept_weights

Row = dict[str, Any]
"""A row of the view ``normals``, with the median of its group."""


def draw_suspects(config: Config, info: ModelInfo, rows: Sequence[Row]) -> Image.Image:
    """Draw suspects with their leave-one-out heatmaps; images that cannot be read are left out.

    A heatmap's colours begin at the median score of the group.

    Raises
    ------
    RequestError
        If none can be read.
    """
    workspace, whole = workspace_of(config), info.embedding
    found = find_fitted(config, info, rows)
    embed = Embedder(whole, kept_weights(workspace, whole.weights), torch.device("cpu"))
    anomaly_map = AnomalyMap.build(whole.shape.grids[0], whole.geometry.crop, info.sigma)
    items, gaussians = [], dict[str, Gaussian]()
    for row in rows:
        group = row["group"]
        try:
            if row["image_id"] not in found:
                raise ImageError(
                    "missing", "the manifests of the fit are gone, or the reference of its group"
                )
            reader, image = found[row["image_id"]]
            loaded = reader.load(image)
            if loaded.pixels is None:
                raise ImageError(loaded.status, str(loaded.error))
            spec = info.embedding_of(group)
            if group not in gaussians:
                gaussians = {group: read_gaussian(workspace, info.model_id, group, spec.shape)}
            heat = _heat(
                embed.within(spec), gaussians[group], anomaly_map, loaded.pixels, info, row
            )
        except (PadimDistError, OSError) as error:
            logger.warning("%s is left out of the picture: %s", row["uri"], error)
            continue
        name = image_name(archive_of(config).url, row["uri"], row["member"])
        state = "dropped" if row["dropped"] else "in the model"
        times = row["score"] / row["median"]
        items.append(
            SheetItem(
                pixels=loaded.pixels.permute(1, 2, 0).numpy(),
                heat=heat,
                mask=None,
                name=visible(name),
                group=visible(group),
                label=f"{state}, {times:.1f} times the median",
                score=row["score"],
                p_value=row["p_value"],
                flagged=None,
            )
        )
    if not items:
        raise RequestError(
            "there is no picture: none of the suspects can be read any more; leave out --out"
        )
    return contact_sheet(items)


def _heat(
    embed: Embedder,
    gaussian: Gaussian,
    anomaly_map: AnomalyMap,
    pixels: torch.Tensor,
    info: ModelInfo,
    row: Row,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the heatmap of an image as shares of the colour scale, at the size of the crop."""
    distances = gaussian.distances(embed(pixels[None]))
    if not row["dropped"]:
        count = info.counts[row["group"]]
        distances = left_out(distances.square(), count, gaussian.kept_at(0)).sqrt()
    shape = embed.spec.shape
    heat = anomaly_map.full(shape.unnest(distances), shape.mask)[0].numpy()
    median = row["median"]
    shares: np.ndarray[Any, np.dtype[np.float32]]
    shares = ((heat - median) / max(float(np.nanmax(heat)) - median, 1e-6)).astype(np.float32)
    return shares


def find_fitted(
    config: Config, info: ModelInfo, rows: Sequence[Row]
) -> dict[str, tuple[ImageReader, ImageRow]]:
    """Return the manifest row of each image of a fit, and how it is read, by image id."""
    workspace, etags = workspace_of(config), {row["image_id"]: row["etag"] for row in rows}
    found: dict[str, tuple[ImageReader, ImageRow]] = {}
    for manifest in {info.snapshot: 0, **dict.fromkeys(manifests_of_fit(workspace, info.fit_id))}:
        shards = find_images(workspace, manifest, etags.keys() - found.keys())
        if not shards:
            continue
        reader = reader_of(config, info.embedding, move_since_id(config, manifest))
        readers = dict[str, ImageReader | None]()
        for shard in shards:
            for row in to_rows(read_shard(workspace, manifest, shard)):
                if row.image_id not in etags or row.etag != etags[row.image_id]:
                    continue
                group = str(row.group)
                if group not in readers:
                    own = partial(aligning_of, reader, workspace, info, group)
                    readers[group] = unless_damaged(own, f"images of {group!r} are left out")
                if (aligned := readers[group]) is not None:
                    found[row.image_id] = aligned, row
    return found
