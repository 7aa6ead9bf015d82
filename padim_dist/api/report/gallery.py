"""The report's gallery: the most anomalous images with heatmaps and regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from duckdb import ColumnExpression, ConstantExpression
from PIL import Image

from padim_dist.api.analysis.run_images import Maps, RunImages
from padim_dist.api.report.verdicts import Verdicts
from padim_dist.api.settings.places import logger
from padim_dist.api.sql.tables import image_name, open_table, read_rows
from padim_dist.archive.rows import ImageRow
from padim_dist.core.geometry import Box
from padim_dist.errors import PadimDistError, RunError
from padim_dist.events import Listener, Progress
from padim_dist.pages.cards import GalleryImage
from padim_dist.pages.data import GroupRow, Threshold
from padim_dist.pages.encode import (
    HEAT_BYTES,
    HEAT_SIDE,
    MASK_BYTES,
    MASK_SIDE,
    PICTURE_BYTES,
    encode,
)
from padim_dist.pages.heat import HeatScale, heat_layer, mask_layer
from padim_dist.store.image_objects import ImageObject
from padim_dist.store.reviews import Verdict, newest_verdicts
from padim_dist.store.runs.rows import REGIONS, RegionRow, ScoreRow

_THREADS = 4
"""Images that are read and encoded at the same time."""
_MAPS_AT_ONCE = 32
_LEVELS = ("fine", "middle", "coarse")


def choose_rows(verdicts: Verdicts, most: int) -> list[ScoreRow]:
    """Return the rows of the gallery: the flagged ones, then the others, the most anomalous first.

    A quarter of the places is kept for missed anomalies that are less anomalous than the others.
    """
    rows = verdicts.top(most)
    if len(rows) == most:  # perhaps not all
        known = {row.image_id for row in rows}
        missed = [row for row in verdicts.missed(most) if row.image_id not in known][: most // 4]
        rows = [*rows[: most - len(missed)], *missed]
    return sorted(rows, key=lambda row: not row.flagged)


def scales_of(
    run: RunImages,
    rows: Sequence[ScoreRow],
    groups: Sequence[GroupRow],
    thresholds: Mapping[str, Threshold],
) -> dict[str, HeatScale]:
    """Return the colours of the heatmaps of rows, by group; none if no heatmaps were kept."""
    if not run.has_heatmaps:
        return {}
    figures = {group.name: (group.p99 or 0.0, group.highest or 0.0) for group in groups}
    scales = {}
    for name, usual in run.usual(sorted({str(row.group) for row in rows})).items():
        line = thresholds.get(name)
        scales[name] = HeatScale.of(usual, line.value if line else None, *figures[name])
    return scales


def make_gallery(
    run: RunImages,
    rows: Sequence[ScoreRow],
    scales: Mapping[str, HeatScale],
    listener: Listener,
) -> list[GalleryImage]:
    """Return the gallery of score rows; only their images are read from the archive.

    Parameters
    ----------
    run : RunImages
        The run.
    rows : sequence of ScoreRow
        Rows in the order of the gallery.
    scales : mapping of str to HeatScale
        Colours by group.
    listener : callable
        Receives events.

    Returns
    -------
    list of GalleryImage
        `gone` is the reason if an image cannot be read any more.
    """
    studio = _Studio(
        run=run,
        manifest=run.manifest_rows(rows),
        regions=_read_regions(run, [row.image_id for row in rows]) if rows else {},
        scales=scales,
        reviews=newest_verdicts(run.run.workspace),
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
    scales: Mapping[str, HeatScale]
    reviews: Mapping[ImageObject, Verdict]
    outage: list[str] = field(default_factory=list)

    def make(self, row: ScoreRow, heat: Maps | None) -> GalleryImage:
        mask = self._mask(row)
        picture, gone = self._picture(row, PICTURE_BYTES - len(mask or b""))
        return GalleryImage(
            row=row,
            map_box=self._map_box(row),
            path=image_name(archive_url(self.run), row.uri, row.member),
            regions=self.regions.get(row.image_id, []),
            picture=picture,
            heat=None if heat is None else self._heat(row, heat),
            mask=mask,
            gone=gone,
            # What people say about the object that was scored.
            review=self.reviews.get(ImageObject(row.image_id, row.etag)),
            levels=_levels(row),
        )

    def _map_box(self, row: ScoreRow) -> Box:
        """Return where the heatmap is drawn: on all of an image that was aligned, else its crop."""
        if row.motion:
            return 0, 0, *row.size
        geometry = self.run.reader.geometry
        return geometry.box_to_original((0, 0, *geometry.crop), *row.size)

    def _picture(self, row: ScoreRow, most: int) -> tuple[bytes | None, str | None]:
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
        return encode(image, most), None

    def _mask(self, row: ScoreRow) -> bytes | None:
        """Return the ground truth; None without one, or if it cannot be read."""
        uri = self.manifest[row.image_id].mask_uri
        if uri is None or self.outage:
            return None
        try:
            reader = self.run.whole_reader if row.motion else self.run.reader
            mask = reader.load_mask(uri).numpy() > 0
        except (PadimDistError, OSError) as error:
            logger.warning("the mask of %s is not shown: %s", row.uri, error)
            return None
        return encode(mask_layer(mask), MASK_BYTES, MASK_SIDE) if mask.any() else None

    def _heat(self, row: ScoreRow, heat: Maps) -> bytes:
        if row.motion:
            heat = self.run.in_picture(heat, row)
        shares = self.scales[str(row.group)].shares(heat)
        return encode(heat_layer(shares), HEAT_BYTES, HEAT_SIDE)


def archive_url(run: RunImages) -> str:
    """Return the address of the archive that a run scored."""
    return str(run.head.asked["archive"]["url"])


def _levels(row: ScoreRow) -> dict[str, float] | None:
    """Return the share of each level in the score; None in runs of earlier versions."""
    parts = zip(_LEVELS, (row.score_fine, row.score_middle, row.score_coarse), strict=True)
    known = {name: part for name, part in parts if part is not None}
    total = sum(known.values())
    return {name: part / total for name, part in known.items()} if total > 0 else None


def _read_maps(run: RunImages, rows: Sequence[ScoreRow]) -> list[Maps | None]:
    """Return the anomaly maps of rows, (H, W); None if none was kept."""
    if not run.has_heatmaps:
        return [None] * len(rows)
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
