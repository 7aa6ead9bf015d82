"""Why an image has its score: parts by level, the region, and the most similar normal image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import torch
from PIL import Image
from torch import Tensor

from padim_dist.api.analysis.explain.levels import (
    LevelPart,
    level_parts,
    level_sentence,
    usual_parts,
)
from padim_dist.api.analysis.explain.nearest import Found, NormalImage, find_nearest, load_normal
from padim_dist.api.analysis.pictures import read_picture
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.settings.places import archive_of
from padim_dist.api.sql.tables import image_name
from padim_dist.config import Config
from padim_dist.core.embedding import Embedder
from padim_dist.core.gaussian import nested_squares
from padim_dist.core.geometry import Box, window_around
from padim_dist.core.heatmap import AnomalyMap, divide_scores, find_peaks, fine_middle_coarse
from padim_dist.errors import DamagedFileError, PadimDistError, RequestError
from padim_dist.escaping import visible
from padim_dist.pages.explained import Bar, Explained, explanation
from padim_dist.pages.words import probability, score
from padim_dist.store.gaussians import Model
from padim_dist.store.models import ModelInfo
from padim_dist.store.runs.rows import RegionRow, ScoreRow
from padim_dist.store.weights import kept_weights


@dataclass(frozen=True)
class Why:
    """What a score consists of.

    Attributes
    ----------
    sentence : str
        The parts in words, with the level that stands out most.
    levels : list of LevelPart
        Parts of the score by level; they add up to it. Empty if they are not known.
    box : Box
        The region of the peak: top, left, bottom, right in pixels of the original, half open. An
        image without regions has a box around its peak.
    nearest : NormalImage or None
        The most similar normal image behind the model; None if it is not known.
    """

    sentence: str
    levels: list[LevelPart]
    box: Box
    nearest: NormalImage | None


class Explanation:
    """Explains an image of a run; reads and embeds it once.

    Parameters
    ----------
    config : Config
        The configuration that scored it.
    connection : duckdb.DuckDBPyConnection
        With the view ``scores`` of the run.
    row, regions : ScoreRow, sequence of RegionRow
        Row of the image, whose status is ``scored``, and its regions.

    Attributes
    ----------
    why : Why
        What its score consists of.
    notes : list of str
        What is not known, and why.
    """

    def __init__(
        self,
        config: Config,
        connection: duckdb.DuckDBPyConnection,
        row: ScoreRow,
        regions: Sequence[RegionRow],
    ) -> None:
        self._config, self._row = config, row
        self.notes: list[str] = []
        self._found: Found | None = None
        if row.left_out:
            self.notes.append(
                "the model was fitted on this image: the score is that of a model without it"
            )
        self._run = self._open()
        info = self._run.model.info if self._run else None
        if self._run and info:
            row = self._embed(self._run, info)
        levels = level_parts(
            row, usual_parts(connection).get(row.group), info.embedding if info else None
        )
        assert row.score is not None
        sentence = level_sentence(row.score, levels)
        nearest = self._found.normal if self._found else None
        self.why = Why(sentence, levels, _box(row, regions), nearest)

    def _open(self) -> RunImages | None:
        try:
            return RunImages(self._config, self._row.run_id)
        except RequestError as error:  # the model is gone
            self.notes.append(f"the most similar normal image is not known: {error}")
            return None

    @torch.inference_mode()
    def _embed(self, run: RunImages, info: ModelInfo) -> ScoreRow:
        """Find the most similar normal image; return the row, with the parts that it lacked."""
        row = self._row
        try:
            reader = run.reader_of(str(row.group))
        except DamagedFileError as error:  # the reference that images are aligned with
            self.notes.append(f"the most similar normal image is not known: {error}")
            return row
        loaded = reader.load(run.manifest_rows([row])[row.image_id])
        if loaded.pixels is None:
            self.notes.append(
                f"the most similar normal image is not known: the image cannot be read any more "
                f"({loaded.status}: {loaded.error})"
            )
            return row
        workspace, group = run.run.workspace, str(row.group)
        spec = info.embedding_of(group)
        state = kept_weights(workspace, spec.weights)
        levels = Embedder(spec, state, torch.device("cpu"))(loaded.pixels[None])
        self._found = find_nearest(self._config, workspace, info, group, levels, row.image_id)
        if self._found is None:
            self.notes.append(
                "the most similar normal image is not known: the fit kept no embeddings of "
                f"group {group} (fit.sample: 0), or its moments were removed"
            )
        if row.score_fine is not None or spec.shape.levels < 2:
            return row
        fine, middle, coarse = fine_middle_coarse(_divide(run.model, group, levels))
        return replace(row, score_fine=fine, score_middle=middle, score_coarse=coarse)

    def draw(self) -> Image.Image:
        """Draw image, heatmap and normal image, whole and enlarged, and the parts of the score.

        Raises
        ------
        RequestError
            If the run kept no heatmaps, or its model is gone.
        ImageError, RunError
            If the image cannot be read any more.
        """
        row = self._row
        run = self._run or RunImages(self._config, row.run_id)
        pixels, heat = read_picture(run, row)
        normal, normal_name = None, "none"
        if self._found:
            normal_name = self._found.normal.image or self._found.normal.image_id
            try:
                if self._found.row:
                    normal = load_normal(self._config, run.model.info, self._found, row)
            except (PadimDistError, OSError) as error:
                self.notes.append(f"{normal_name} is not in the picture: {error}")
        bars = [
            Bar(f"{level.level} ({level.layers})", level.part, level.usual)
            for level in self.why.levels
        ]
        name = image_name(archive_of(self._config).url, row.uri, row.member)
        return explanation(
            Explained(
                title=visible(_title(row)),
                name=visible(name),
                pixels=pixels,
                heat=heat,
                box=self.why.box,
                window=window_around(self.why.box, (pixels.shape[0], pixels.shape[1])),
                normal=normal,
                normal_name=visible(normal_name),
                bars=bars,
            )
        )


def _divide(model: Model, group: str, levels: Sequence[Tensor]) -> list[float]:
    """Return the parts of an image's score: its run is of a version that did not keep them."""
    info = model.info
    shape, geometry = info.embedding_of(group).shape, info.embedding.geometry
    squares = nested_squares(model.gaussian(group).whitened(levels))
    anomaly_map = AnomalyMap.build(shape.grids[0], geometry.crop, info.sigma)
    _, peaks = find_peaks(anomaly_map.full(shape.unnest(squares[0].sqrt()), shape.mask))
    parts: list[float] = divide_scores(squares, shape, anomaly_map, peaks)[0].tolist()
    return parts


def _box(row: ScoreRow, regions: Sequence[RegionRow]) -> Box:
    """Return the box of the region with the peak, or a box around the peak."""
    assert row.peak_y is not None
    assert row.peak_x is not None
    assert row.height is not None
    assert row.width is not None
    for region in regions:
        if region.region == 1:
            return region.top, region.left, region.bottom, region.right
    half_y, half_x = max(row.height // 16, 1), max(row.width // 16, 1)
    return (
        max(row.peak_y - half_y, 0),
        max(row.peak_x - half_x, 0),
        min(row.peak_y + half_y + 1, row.height),
        min(row.peak_x + half_x + 1, row.width),
    )


def _title(row: ScoreRow) -> str:
    """Return p-value, flag, score and group of an image."""
    told = [f"p = {probability(row.p_value)}"] if row.p_value is not None else []
    if row.flagged is not None:
        told.append("flagged" if row.flagged else "not flagged")
    told += [f"score {score(row.score)}", str(row.group)]
    return ", ".join(told)
