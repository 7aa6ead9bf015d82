"""Pictures of the most anomalous images, drawn from the archive's images and a run's heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_dist.api.analysis.run_images import Maps, RunImages
from padim_dist.api.settings.places import archive_of, logger
from padim_dist.api.sql.tables import image_name
from padim_dist.config import Config
from padim_dist.errors import ImageError, PadimDistError, RequestError
from padim_dist.escaping import visible
from padim_dist.pages.sheet import SheetItem, contact_sheet
from padim_dist.pages.single import side_by_side
from padim_dist.store.runs.rows import RegionRow, ScoreRow


def draw_top(
    config: Config, rows: Sequence[ScoreRow], title: str | None = None
) -> Image.Image | None:
    """Draw images with p-values, flags, heatmaps, and masks if there are any.

    Parameters
    ----------
    config : Config
        The configuration that scored them.
    rows : sequence of ScoreRow
        Rows of the images, in the order to draw.
    title : str, optional
        A line above them, e.g. ``"Night 2, 26 November, photos"``.

    Returns
    -------
    PIL.Image.Image or None
        None if no heatmaps were kept, or no image can be read any more.
    """
    wanted = {row.run_id for row in rows if row.heatmap_row is not None}
    runs = {run_id: RunImages(config, run_id) for run_id in wanted}
    runs = {run_id: run for run_id, run in runs.items() if run.has_heatmaps}
    drawn = [row for row in rows if row.run_id in runs and row.heatmap_row is not None]
    groups: dict[str, set[str]] = {run_id: set() for run_id in runs}
    for row in drawn:
        groups[row.run_id].add(str(row.group))
    usual = {run_id: run.usual(sorted(groups[run_id])) for run_id, run in runs.items()}
    items = []
    for row in drawn:
        try:
            run, start = runs[row.run_id], usual[row.run_id][str(row.group)]
            items.append(_item(run, row, start, archive_of(config).url))
        except (PadimDistError, OSError) as error:
            logger.warning("%s is left out of the picture: %s", row.uri, error)
    return contact_sheet(items, title and visible(title)) if items else None


def draw_image(config: Config, row: ScoreRow, regions: Sequence[RegionRow]) -> Image.Image:
    """Draw one image next to its heatmap in grey, with boxes of regions.

    Parameters
    ----------
    config : Config
        The configuration that scored it.
    row : ScoreRow
        Row of the image; its status is ``scored``.
    regions : sequence of RegionRow
        Regions of the image.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    RequestError
        If its run kept no heatmaps.
    ImageError, RunError
        If the image cannot be read any more.
    """
    pixels, heat = read_picture(RunImages(config, row.run_id), row)
    boxes = [(region.left, region.top, region.right, region.bottom) for region in regions]
    return side_by_side(pixels, heat, boxes)


def read_picture(run: RunImages, row: ScoreRow) -> tuple[npt.NDArray[np.uint8], Maps]:
    """Return a scored image, (H, W, 3), and its heatmap as shares of the colour scale.

    The heatmap has the size of the resized image; it is NaN in the margin around the crop. Raises
    as `draw_image`.
    """
    if why := run.run.why_no_heatmaps():
        raise RequestError(
            f"{why}, so there is no picture; set score.heatmaps to grid and score the image in a "
            "new run"
        )
    assert row.heatmap_row is not None
    assert row.score is not None
    pixels = run.reader.load_original(run.manifest_rows([row])[row.image_id])
    (heat,) = run.maps([row.heatmap_row])
    usual = run.usual([str(row.group)])[str(row.group)]
    return pixels.permute(1, 2, 0).numpy(), _shares(run.in_picture(heat, row), usual, row.score)


def _shares(heat: Maps, usual: float, score: float) -> Maps:
    """Return an anomaly map as shares of the colour scale, which ends at the image's score.

    The scale has a lower limit, so that a normal image has no hot colours.
    """
    return ((heat - usual) / max(score - usual, usual / 2, 1e-6)).astype(np.float32)


def _item(run: RunImages, row: ScoreRow, usual: float, archive: str) -> SheetItem:
    image, reader = run.manifest_rows([row])[row.image_id], run.whole_reader
    loaded = reader.load(image)
    if loaded.pixels is None:
        raise ImageError(loaded.status, str(loaded.error))
    assert row.heatmap_row is not None
    assert row.score is not None
    mask = reader.load_mask(image.mask_uri).numpy() if image.mask_uri else None
    (heat,) = run.maps([row.heatmap_row])
    return SheetItem(
        pixels=loaded.pixels.permute(1, 2, 0).numpy(),
        heat=_shares(run.in_picture(heat, row), usual, row.score),
        mask=mask,
        name=visible(image_name(archive, row.uri, row.member)),
        group=visible(str(row.group)),
        label=row.label and visible(row.label),
        score=row.score,
        p_value=row.p_value,
        flagged=row.flagged,
    )
