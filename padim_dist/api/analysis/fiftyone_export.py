"""A run as a FiftyOne data set: images, heatmaps, regions, p-values and verdicts.

FiftyOne keeps data sets in its own database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from PIL import Image

from padim_dist.api.fiftyone_package import VERDICT, import_fiftyone
from padim_dist.api.settings.moved import Move, move_since_id
from padim_dist.api.settings.places import logger
from padim_dist.api.sql.tables import read_rows
from padim_dist.archive.addresses import relocated
from padim_dist.archive.rows import ImageRow
from padim_dist.config import Config
from padim_dist.errors import PadimDistError, RequestError
from padim_dist.local_files import local_path
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import RegionRow, ScoreRow

if TYPE_CHECKING:
    from padim_dist.api.analysis.run_images import Maps, RunImages

_SHOWN = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Names of files that a browser shows."""
_AT_ONCE = 32


@dataclass(frozen=True)
class FiftyOneSet:
    """A data set that was made: its name, and its numbers of images and regions."""

    name: str
    images: int
    regions: int


def make_fiftyone_set(
    config: Config,
    head: RunHead,
    connection: duckdb.DuckDBPyConnection,
    out: str,
    name: str | None,
    all_images: bool,
    min_area: float,
) -> FiftyOneSet:
    """Make a persistent data set of a run: flagged and reviewed images, or all scored ones.

    Parameters
    ----------
    config, head, connection : Config, RunHead, duckdb.DuckDBPyConnection
        The run, with its views ``scores`` and ``regions``.
    out : str
        Folder for heatmaps, and for copies of images that are no local files of their own, or that
        a browser does not show. The data set needs it for as long as it exists.
    name : str or None
        Name of the data set; by default ``padim-dist-<run id>``.
    all_images : bool
        Whether all scored images are in it.
    min_area : float
        Regions with fewer pixels of the original image are left out.

    Raises
    ------
    RequestError
        If FiftyOne is not installed, or has a data set of this name.
    """
    from padim_dist.api.analysis.run_images import RunImages  # which loads torch

    fiftyone = import_fiftyone()
    name = name or f"padim-dist-{head.run_id}"
    if fiftyone.dataset_exists(name):
        raise RequestError(
            f"FiftyOne has a data set {name!r} already; give another --name, or delete it, which "
            "loses its tags: import them first ('padim-dist label --from-fiftyone')"
        )
    folder = Path(out).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = "true" if all_images else "(flagged OR verdict IS NOT NULL)"
    where = f"status = 'scored' AND {chosen}"
    rows = read_rows(ScoreRow, connection.sql(f"FROM scores WHERE {where} ORDER BY shard, uri"))
    verdicts = connection.sql(
        f"SELECT image_id, verdict, kind FROM scores WHERE {where} AND verdict IS NOT NULL"
    ).fetchall()
    regions = defaultdict(list)
    large = f"FROM regions WHERE area >= {min_area} ORDER BY image_id, region"
    for region in read_rows(RegionRow, connection.sql(large)):
        regions[region.image_id].append(region)
    maker = _Samples(
        fiftyone=fiftyone,
        run=RunImages(config, head.run_id),
        move=move_since_id(config, head.snapshot),
        folder=folder,
        regions=regions,
        verdicts={image_id: (verdict, kind) for image_id, verdict, kind in verdicts},
    )
    dataset = fiftyone.Dataset(name, persistent=True)
    dataset.info = {"padim_dist_run": head.run_id}
    dataset.add_samples(maker.make(rows), num_samples=len(rows), progress=False)
    dataset.save()
    return FiftyOneSet(name, len(rows), sum(len(regions[row.image_id]) for row in rows))


@dataclass(frozen=True)
class _Samples:
    """Makes samples; `verdicts` are (verdict, kind) by image_id."""

    fiftyone: Any
    run: RunImages
    move: Move
    folder: Path
    regions: Mapping[str, Sequence[RegionRow]]
    verdicts: Mapping[str, tuple[str, str | None]]

    def make(self, rows: Sequence[ScoreRow]) -> Iterator[Any]:
        """Yield the sample of each row."""
        has_maps = self.run.has_heatmaps
        usual = self.run.usual(sorted({str(row.group) for row in rows})) if has_maps else {}
        hottest: dict[str, float] = defaultdict(float)
        for row in rows:
            hottest[str(row.group)] = max(hottest[str(row.group)], row.score or 0.0)
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            copied = self.run.manifest_rows(row for row in some if not self._local_file(row))
            kept = [row for row in some if row.heatmap_row is not None] if has_maps else []
            maps = self.run.maps([row.heatmap_row for row in kept if row.heatmap_row is not None])
            heat = dict(zip((row.image_id for row in kept), maps, strict=True)) if kept else {}
            for row in some:
                low = usual.get(str(row.group), 0.0)
                scale = (low, max(hottest[str(row.group)], 1.5 * low))
                yield self._sample(row, copied, heat.get(row.image_id), scale)

    def _sample(
        self,
        row: ScoreRow,
        copied: Mapping[str, ImageRow],
        heat: Maps | None,
        scale: tuple[float, float],
    ) -> Any:
        fo = self.fiftyone
        verdict, kind = self.verdicts.get(row.image_id, (None, None))
        sample = fo.Sample(
            filepath=self._local_file(row) or self._copy(copied[row.image_id]),
            tags=[verdict] if verdict else [],
            image_id=row.image_id,
            uri=row.uri,
            member=row.member,
            camera=row.group,
            score=row.score,
            p_value=row.p_value,
            flagged=row.flagged,
            kind=kind,
            anomalies=fo.Detections(
                detections=[_detection(fo, row, region) for region in self.regions[row.image_id]]
            ),
            metadata=fo.ImageMetadata(width=row.width, height=row.height),
        )
        sample[VERDICT] = verdict
        if row.label is not None:
            sample["ground_truth"] = fo.Classification(label=row.label)
        if heat is not None:
            sample["heatmap"] = fo.Heatmap(map_path=self._draw(row, heat, scale))
        return sample

    def _local_file(self, row: ScoreRow) -> str | None:
        """Return the path of an image that FiftyOne can show where it is, else None."""
        path = local_path(relocated(row.uri, *self.move))
        is_shown = PurePosixPath(path).suffix.lower() in _SHOWN
        return path if is_shown and row.member is None and "://" not in path else None

    def _copy(self, image: ImageRow) -> str:
        """Write an image as PNG; a grey one if it cannot be read any more."""
        path = self.folder / "images" / f"{image.image_id}.png"
        path.parent.mkdir(exist_ok=True)
        try:
            pixels = self.run.reader.load_original(image).permute(1, 2, 0).numpy()
        except (PadimDistError, OSError) as error:
            logger.warning("%s is grey in the data set: %s", image.uri, error)
            pixels = np.full((64, 64, 3), 128, np.uint8)
        Image.fromarray(pixels).save(path)
        return str(path)

    def _draw(self, row: ScoreRow, heat: Maps, scale: tuple[float, float]) -> str:
        """Write a heatmap as a grey picture of the whole image: 0 around the crop."""
        low, high = scale
        whole = self.run.in_picture(heat, row)
        shares = np.nan_to_num((whole - low) / max(high - low, 1e-6)).clip(0, 1)
        path = self.folder / "heatmaps" / f"{row.image_id}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((255 * shares).astype(np.uint8)).save(path)
        return str(path)


def _detection(fiftyone: Any, row: ScoreRow, region: RegionRow) -> Any:
    """Return a region; its box is in shares of the image."""
    height, width = row.height or 1, row.width or 1
    return fiftyone.Detection(
        label="anomaly",
        bounding_box=[
            region.left / width,
            region.top / height,
            (region.right - region.left) / width,
            (region.bottom - region.top) / height,
        ],
        region=region.region,
        area=region.area,
        peak=region.peak,
        p_value=region.p_value,
    )
