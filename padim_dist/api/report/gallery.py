"""The report's gallery: the most anomalous images with their pictures, heat and regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from duckdb import ColumnExpression, ConstantExpression
from PIL import Image

from padim_dist.api.analysis.readers import open_regions
from padim_dist.api.analysis.run_images import Maps, RunImages
from padim_dist.api.settings.places import logger
from padim_dist.errors import PadimDistError, RunError
from padim_dist.events import Listener, Progress
from padim_dist.pages.data import Anomaly, Region
from padim_dist.pages.encode import HEAT_BYTES, HEAT_SIDE, PICTURE_BYTES, encode
from padim_dist.pages.heat import heat_layer

_THREADS = 4
"""Images that are read and encoded at the same time."""
_MAPS_AT_ONCE = 32


def make_gallery(
    run: RunImages,
    rows: Sequence[Mapping[str, Any]],
    thresholds: Mapping[str, float],
    listener: Listener,
) -> list[Anomaly]:
    """Read the images of rows of the score table, and nothing else of the archive.

    Parameters
    ----------
    run : RunImages
        The run.
    rows : sequence of mapping
        Of the score table, in the order of the gallery.
    thresholds : mapping
        By group, where known: the hottest colour is never below it, so an image that is not
        flagged looks milder than one that is.
    listener : callable
        Is told how far it is.

    Returns
    -------
    list of Anomaly
        An image that cannot be read any more says so.
    """
    groups = sorted({row["group"] for row in rows})
    studio = _Studio(
        run=run,
        manifest=run.manifest_rows(rows),
        regions=_read_regions(run, [row["image_id"] for row in rows]) if rows else {},
        usual=run.usual(groups) if run.has_heatmaps else {},
        thresholds=thresholds,
    )
    items: list[Anomaly] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(rows), _MAPS_AT_ONCE):
            some = rows[first : first + _MAPS_AT_ONCE]
            for item in pool.map(studio.make, some, _read_maps(run, some)):
                items.append(item)
                listener(
                    Progress("report", len(rows), len(items), sum(bool(i.gone) for i in items))
                )
    gone = [item for item in items if item.gone]
    if gone:
        logger.warning(
            "%d of %d images cannot be read any more, and have a grey tile (%s: %s)",
            len(gone),
            len(items),
            gone[0].uri,
            gone[0].gone,
        )
    return items


@dataclass
class _Studio:
    """Makes the items, in several threads."""

    run: RunImages
    manifest: Mapping[str, Mapping[str, Any]]
    regions: Mapping[str, list[Region]]
    usual: Mapping[str, float]
    thresholds: Mapping[str, float]
    outage: list[str] = field(default_factory=list)

    def make(self, row: Mapping[str, Any], heat: Maps | None) -> Anomaly:
        picture, gone = self._picture(row)
        return Anomaly(
            uri=row["uri"],
            member=row["member"],
            group=row["group"],
            label=row["label"],
            score=row["score"],
            p_value=row["p_value"],
            extrapolated=row["p_extrapolated"],
            flagged=row["flagged"],
            width=row["width"],
            height=row["height"],
            peak=(row["peak_y"], row["peak_x"]),
            map_box=self._map_box(row["height"], row["width"]),
            regions=self.regions.get(row["image_id"], []),
            picture=picture,
            heat=None if heat is None else self._heat(row, heat),
            gone=gone,
        )

    def _map_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        geometry = self.run.reader.geometry
        return geometry.box_to_original((0, 0, *geometry.crop), height, width)

    def _picture(self, row: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
        if self.outage:  # one has waited for the store in vain: not every image has to
            return None, self.outage[0]
        try:
            pixels = self.run.reader.load_original(dict(self.manifest[row["image_id"]]))
        except RunError as error:
            self.outage.append(str(error))
            return None, str(error)
        except (PadimDistError, OSError) as error:
            return None, str(error)
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        return encode(image, PICTURE_BYTES), None

    def _heat(self, row: Mapping[str, Any], heat: Maps) -> bytes:
        least = self.usual[row["group"]]
        most = max(row["score"], self.thresholds.get(row["group"], 0.0))
        shares = (heat - least) / max(most - least, 1e-6)
        return encode(heat_layer(np.nan_to_num(shares)), HEAT_BYTES, HEAT_SIDE)


def _read_maps(run: RunImages, rows: Sequence[Mapping[str, Any]]) -> list[Maps | None]:
    """Anomaly maps of rows, (H, W); None where none was kept."""
    places = {row["heatmap_row"] for row in rows} - {None}
    if not places:
        return [None] * len(rows)
    wanted = sorted(places)
    maps = dict(zip(wanted, run.maps(wanted), strict=True))
    return [maps.get(row["heatmap_row"]) for row in rows]


def _read_regions(run: RunImages, images: Iterable[str]) -> dict[str, list[Region]]:
    """Regions of images, by image_id."""
    wanted = ColumnExpression("image_id").isin(*map(ConstantExpression, images))
    found = open_regions(run.url, run.options).filter(wanted)
    columns = 'image_id, region, top, "left", bottom, "right", area, peak, p_value'
    regions: dict[str, list[Region]] = defaultdict(list)
    for image_id, *values in found.project(columns).order("region").fetchall():
        regions[image_id].append(Region(*values))
    return regions
