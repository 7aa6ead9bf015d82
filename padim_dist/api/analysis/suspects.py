"""Suspects: normal images of a model that all others find anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from padim_dist.api.analysis.query import draft
from padim_dist.api.settings.lookup import choose_model
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config, workspace_of
from padim_dist.api.sql.tables import image_name
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.image_objects import ImageObject
from padim_dist.store.models import ModelInfo, model_advice
from padim_dist.store.normals import read_normals
from padim_dist.store.reviews import newest_verdicts
from padim_dist.store.workspace import Workspace

_REVIEWED = (
    "a review alone changes no model: 'padim-dist forget ID' leaves an image out, and with "
    "fit.reviewed: true a fit leaves out all that are reviewed as defects"
)
_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class SuspectImage:
    """A normal image that all others of its group find anomalous.

    Attributes
    ----------
    image : str
        Path in the archive, and the name in the tar file if it is in one.
    score, p_value : float, float or None
        Its leave-one-out score, and the share of the other normal images that score as high.
    times_median : float
        The score as a multiple of the median of the group.
    dropped : bool
        Whether it was dropped; otherwise it is in the model.
    verdict, kind : str or None
        The newest review of it: ``"ok"`` or ``"defect"``, and the kind of defect.
    group, image_id : str
        As in the view ``normals``.
    """

    image: str
    group: str
    score: float
    p_value: float | None
    times_median: float
    dropped: bool
    verdict: str | None
    kind: str | None
    image_id: str


@dataclass(frozen=True)
class SuspectsResult:
    """Suspects of a model, the farthest from their group first; `notes` are remarks.

    Attributes
    ----------
    images : int
        Images in the model.
    in_model, dropped : int
        Suspects that are in the model, and those that were dropped.
    picture : str or None
        Path of the picture.
    """

    model_id: str
    images: int
    in_model: int
    dropped: int
    picture: str | None
    notes: list[str]
    suspects: list[SuspectImage]


def suspects(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    model: str | None = None,
    n: int = 20,
    out: str | None = None,
) -> SuspectsResult:
    """List the suspects among the normal images of a model.

    Parameters
    ----------
    config : Config or path
        The configuration.
    model : str, optional
        Id of the model, a unique prefix, or ``"promoted"``; by default the newest one of these
        settings.
    n : int, optional
        Largest number of images.
    out : str, optional
        Path of a PNG or JPEG file: the images next to their heatmaps.

    Raises
    ------
    RequestError
        If there is no such model, or `out` has another suffix, or none of the images can be read.

    Examples
    --------
    >>> suspects(config, n=1).suspects[0].image        # doctest: +SKIP
    'bottle/train/good/broken-after-all.png'
    """
    if n < 1:
        raise RequestError(f"-n is the number of images to list: 1 or more; found {n}")
    if out is not None and Path(out).suffix.lower() not in _PICTURES:
        raise RequestError(f"--out {out}: the name of a picture ends in {', '.join(_PICTURES)}")
    config = as_config(config)
    info, workspace = choose_model(config, model), workspace_of(config)
    rows = suspect_rows(workspace, info)[:n]
    reviews = newest_verdicts(workspace)
    said = [reviews.get(ImageObject(row["image_id"], row["etag"])) for row in rows]
    if out is not None and rows:
        from padim_dist.api.analysis.suspect_pictures import draw_suspects  # loads torch

        drawn = draw_suspects(config, info, rows)
        with draft(out) as path:
            drawn.save(path, _PICTURES[Path(out).suffix.lower()], quality=90)
    archive = archive_of(config).url
    return SuspectsResult(
        model_id=info.model_id,
        images=sum(info.counts.values()),
        in_model=sum((info.suspects or {}).values()),
        dropped=sum(info.dropped.values()),
        picture=out if rows else None,
        notes=[*_notes(workspace, info, rows), *([_REVIEWED] if any(said) else [])],
        suspects=[
            SuspectImage(
                image=image_name(archive, row["uri"], row["member"]),
                group=row["group"],
                score=row["score"],
                p_value=row["p_value"],
                times_median=round(row["score"] / row["median"], 2),
                dropped=row["dropped"],
                verdict=review.verdict if review else None,
                kind=review.kind if review else None,
                image_id=row["image_id"],
            )
            for row, review in zip(rows, said, strict=True)
        ],
    )


def suspect_rows(workspace: Workspace, info: ModelInfo) -> list[dict[str, Any]]:
    """Return the rows of suspects with the median of their group, the farthest first."""
    rows = []
    for group in {**(info.suspects or {}), **info.dropped}:
        table = read_normals(workspace, info.model_id, group)
        median = pc.approximate_median(table.filter(pc.invert(table["dropped"]))["score"]).as_py()
        found = table.filter(table["suspect"]).to_pylist()
        rows += [{**row, "median": median} for row in found]
    return sorted(rows, key=lambda row: (-row["score"] / row["median"], row["uri"]))


def _notes(workspace: Workspace, info: ModelInfo, rows: list[dict[str, Any]]) -> list[str]:
    """Return what to say where there are no suspects."""
    if info.suspects is None:
        return [
            f"model {info.model_id} is of version 0.3 or earlier and does not know its suspects. "
            f"{model_advice(workspace, info.model_id)}"
        ]
    if rows:
        return []
    scored = any(
        pc.count(read_normals(workspace, info.model_id, group, ["score"])["score"]).as_py()
        for group in list(info.counts)[:1]
    )
    if scored:
        return ["no normal image is a suspect: none is far from what all others say of each other"]
    return [
        "suspects are not known: no embedding was kept (fit.sample is 0), or the groups have too "
        "few images. Set fit.sample and run 'padim-dist fit'"
    ]
