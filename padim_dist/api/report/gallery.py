"""The report's gallery: the most anomalous images with heatmaps and regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from duckdb import ColumnExpression, ConstantExpression
from PIL import Image

from padim_dist.api.analysis.run_images import Maps, RunImages
from padim_dist.api.analysis.tables import open_table, read_rows
from padim_dist.api.settings.places import logger
from padim_dist.archive.rows import ImageRow
from padim_dist.errors import PadimDistError, RunError
from padim_dist.events import Listener, Progress
from padim_dist.pages.data import GalleryImage
from padim_dist.pages.encode import HEAT_BYTES, HEAT_SIDE, PICTURE_BYTES, encode
from padim_dist.pages.heat import heat_layer
from padim_dist.store.runs.rows import REGIONS, RegionRow, ScoreRow

_THREADS = 4
"""Images that are read and encoded at the same time."""
_MAPS_AT_ONCE = 32


def make_gallery(
    run: RunImages, rows: Sequence[ScoreRow], thresholds: Mapping[str, float], listener: Listener
) -> list[GalleryImage]:
    """Return the gallery of score rows; only their images are read from the archive.

    Parameters
    ----------
    run : RunImages
        The run.
    rows : sequence of ScoreRow
        Rows in the order of the gallery.
    thresholds : mapping
        Lowest flagged score by group, where known. The hottest colour is never below it, so an
        image that is not flagged has milder colours.
    listener : callable
        Receives events.

    Returns
    -------
    list of GalleryImage
        `gone` is the reason if an image cannot be read any more.
    """
    groups = sorted({str(row.group) for row in rows})
    studio = _Studio(
        run=run,
        manifest=run.manifest_rows(rows),
        regions=_read_regions(run, [row.image_id for row in rows]) if rows else {},
        usual=run.usual(groups) if run.has_heatmaps else {},
        thresholds=thresholds,
    )
    items: list[GalleryImage] = []
    gone = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(rows), _MAPS_AT_ONCE):
            some = rows[first : first + _MAPS_AT_ONCE]
            for item in pool.map(studio.make, some, _read_maps(run, some)):
                items.append(item)
                gone = [item for item in items if item.gone]
                listener(Progress("report", len(rows), len(items), len(gone)))
    if gone:
        text = "%d of %d images cannot be read any more, and have a grey tile (%s: %s)"
        logger.warning(text, len(gone), len(items), gone[0].row.uri, gone[0].gone)
    return items


@dataclass
class _Studio:
    """Makes the items, in several threads."""

    run: RunImages
    manifest: Mapping[str, ImageRow]
    regions: Mapping[str, list[RegionRow]]
    usual: Mapping[str, float]
    thresholds: Mapping[str, float]
    outage: list[str] = field(default_factory=list)

    def make(self, row: ScoreRow, heat: Maps | None) -> GalleryImage:
        picture, gone = self._picture(row)
        geometry = self.run.reader.geometry
        return GalleryImage(
            row,
            geometry.box_to_original((0, 0, *geometry.crop), row.height or 0, row.width or 0),
            self.regions.get(row.image_id, []),
            picture,
            None if heat is None else self._heat(row, heat),
            gone,
        )

    def _picture(self, row: ScoreRow) -> tuple[bytes | None, str | None]:
        if self.outage:  # one image has waited for the store in vain
            return None, self.outage[0]
        try:
            pixels = self.run.reader.load_original(self.manifest[row.image_id])
        except RunError as error:
            self.outage.append(str(error))
            return None, str(error)
        except (PadimDistError, OSError) as error:
            return None, str(error)
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        return encode(image, PICTURE_BYTES), None

    def _heat(self, row: ScoreRow, heat: Maps) -> bytes:
        least = self.usual[str(row.group)]
        most = max(row.score or 0.0, self.thresholds.get(str(row.group), 0.0))
        shares = (heat - least) / max(most - least, 1e-6)
        return encode(heat_layer(np.nan_to_num(shares)), HEAT_BYTES, HEAT_SIDE)


def _read_maps(run: RunImages, rows: Sequence[ScoreRow]) -> list[Maps | None]:
    """Return the anomaly maps of rows, (H, W); None if none was kept."""
    wanted = sorted({row.heatmap_row for row in rows if row.heatmap_row is not None})
    maps = dict(zip(wanted, run.maps(wanted), strict=True)) if wanted else {}
    return [None if row.heatmap_row is None else maps[row.heatmap_row] for row in rows]


def _read_regions(run: RunImages, images: Iterable[str]) -> dict[str, list[RegionRow]]:
    """Return the regions of images by image_id."""
    wanted = ColumnExpression("image_id").isin(*map(ConstantExpression, images))
    found = open_table(REGIONS, [(run.run, run.head)]).filter(wanted)
    regions = defaultdict(list)
    for row in read_rows(RegionRow, found.order("region")):
        regions[row.image_id].append(row)
    return regions
