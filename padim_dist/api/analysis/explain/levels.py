"""Parts of a score by level, compared with those of images that are not flagged."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from padim_dist.core.spec import EmbeddingSpec
from padim_dist.pages.words import few, score
from padim_dist.store.runs.rows import ScoreRow

LEVELS = ("fine", "middle", "coarse")
LEAST_OTHERS = 5
"""Images of a group that tell which parts are usual."""
_SHOWS = {"fine": "texture and edges", "middle": "patterns", "coarse": "shape and arrangement"}


@dataclass(frozen=True)
class Usual:
    """Medians of the parts in images of a group that are not flagged, and how many there are."""

    parts: tuple[float | None, ...]
    images: int


@dataclass(frozen=True)
class LevelPart:
    """The part of a score that one level of the embedding has.

    Attributes
    ----------
    level : str
        ``"fine"``, ``"middle"`` or ``"coarse"``.
    layers, patches : str or None
        Layers of the backbone and their grids of patches; None if the model is gone.
    part, share : float
        Part of the score, in its units, and as a share of it.
    usual, times : float or None
        Median part of images of the group that are not flagged, and how many times that the part
        is; None if there are fewer than `LEAST_OTHERS`.
    """

    level: str
    layers: str | None
    patches: str | None
    part: float
    share: float
    usual: float | None
    times: float | None


def usual_parts(connection: duckdb.DuckDBPyConnection) -> dict[str | None, Usual]:
    """Return the usual parts of each group, from the view ``scores`` of a run."""
    medians = ", ".join(f"median(score_{level})" for level in LEVELS)
    found = connection.execute(
        f'SELECT "group", count(*), {medians} FROM scores '
        "WHERE status = 'scored' AND NOT coalesce(flagged, false) GROUP BY ALL"
    )
    return {
        group: Usual(parts, images)
        for group, images, *medians in found.fetchall()
        if images >= LEAST_OTHERS and (parts := tuple(medians))
    }


def level_parts(
    row: ScoreRow, usual: Usual | None, embedding: EmbeddingSpec | None
) -> list[LevelPart]:
    """Return the parts of an image's score; none if its row does not have them.

    No image is read. Rows of versions before 0.4 have no parts, nor rows of an embedding of a
    single level.

    Examples
    --------
    >>> parts = level_parts(row, usual_parts(connection).get("cam-4"), None)   # doctest: +SKIP
    >>> [round(part.share, 2) for part in parts]                               # doctest: +SKIP
    [0.21, 0.42, 0.37]
    """
    values = (row.score_fine, row.score_middle, row.score_coarse)
    medians = usual.parts if usual else (None,) * len(LEVELS)
    parts = []
    for level, part, median in zip(LEVELS, values, medians, strict=True):
        if part is None or not row.score:
            continue
        layers, patches = _describe(level, embedding)
        times = part / median if median and median > 0 else None
        parts.append(LevelPart(level, layers, patches, part, part / row.score, median, times))
    return parts


def level_sentence(total: float, parts: list[LevelPart]) -> str:
    """Return the parts in words, with the level that stands out most.

    Examples
    --------
    >>> parts = [LevelPart("fine", "layer1", "56 x 56", 3.0, 0.3, 2.5, 1.2),
    ...          LevelPart("coarse", "layer3", "14 x 14", 7.0, 0.7, 2.0, 3.5)]
    >>> print(level_sentence(10.0, parts))
    of the score of 10.00, 3.00 is fine (30 %) and 7.00 is coarse (70 %); coarse (shape and \
arrangement) stands out most: 3.5 times the median of images that are not flagged
    """
    if not parts:
        return "the parts of the score by level are not known"
    told = [f"{score(part.part)} is {part.level} ({100 * part.share:.0f} %)" for part in parts]
    listed = ", ".join(told[:-1])
    sentence = f"of the score of {score(total)}, {f'{listed} and ' if listed else ''}{told[-1]}"
    compared = [part for part in parts if part.times is not None]
    if compared:
        most = max(compared, key=lambda part: part.times or 0.0)
        sentence += (
            f"; {most.level} ({_SHOWS[most.level]}) stands out most: {few(most.times)} times the "
            "median of images that are not flagged"
        )
    return sentence


def _describe(level: str, embedding: EmbeddingSpec | None) -> tuple[str | None, str | None]:
    """Return the layers and grids of a level."""
    if embedding is None:
        return None, None
    last = embedding.shape.levels - 1
    places = {"fine": range(1), "middle": range(1, last), "coarse": range(last, last + 1)}[level]
    layers = [embedding.trunk.layers[embedding.trunk.levels[place]] for place in places]
    grids = [embedding.shape.grids[place] for place in places]
    return ", ".join(layers), ", ".join(f"{height} x {width}" for height, width in grids)
