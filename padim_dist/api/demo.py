"""Demo: a synthetic archive, the whole pipeline on it, a picture, a report; and a film."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

from padim_dist.api.analysis.pictures import draw_top
from padim_dist.api.analysis.suspects import SuspectImage, suspects
from padim_dist.api.demo_film import DemoEvent, can_film, judge_film
from padim_dist.api.labels.evaluate import GroupFigures, evaluate
from padim_dist.api.pipeline.fit import fit
from padim_dist.api.pipeline.index import index
from padim_dist.api.pipeline.score import score
from padim_dist.api.report.report import report
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.api.sql.flags import MOST_ANOMALOUS
from padim_dist.api.sql.tables import open_table, read_rows
from padim_dist.api.workers_ahead import workers_ahead
from padim_dist.config import Config, make_config
from padim_dist.errors import WeightsError
from padim_dist.events import Listener, ignore
from padim_dist.store.runs.rows import SCORES, ScoreRow
from padim_dist.store.runs.run import Run
from padim_dist.synthetic.archive import make_archive

_SHOWN = 5
_MOVING = ("board",)
_NO_FILM = "PyAV is not installed, so there is no film; pip install 'padim-dist[video]' adds it"
_RANDOM = "random, seeded (ImageNet weights cannot be loaded; they give better metrics)"


@dataclass(frozen=True)
class DemoPositions:
    """How the parts of a group lay, against the reference of the group.

    Attributes
    ----------
    images, not_aligned : int
        Scored images, and those that could not be aligned.
    largest_shift : float or None
        Along either axis, in pixels of the resized image.
    largest_turn : float or None
        In degrees.
    """

    group: str
    images: int
    not_aligned: int
    largest_shift: float | None
    largest_turn: float | None


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo: of its pictures, and of its film; and the paths of its files.

    Attributes
    ----------
    positions : list of DemoPositions
        How parts lay: those of one group lie turned and shifted.
    suspects : list of SuspectImage
        Suspects among the normal images.
    events : list of DemoEvent
        Events in the film; empty without PyAV.
    film, film_report : str or None
        Path of the film and what is anomalous in it, and path of its report; None without PyAV.
    notes : list of str
        What was left out.
    """

    weights: str
    images: int
    statuses: dict[str, int]
    flagged: int | None
    suspects: list[SuspectImage]
    groups: dict[str, GroupFigures]
    mean: dict[str, float | None]
    positions: list[DemoPositions]
    events: list[DemoEvent]
    seconds: float
    archive: str
    configuration: str
    scores: str
    heatmaps: str
    picture: str
    report: str
    film: str | None
    film_report: str | None
    notes: list[str]


def demo(folder: str = "demo", listener: Listener = ignore) -> DemoResult:
    """Make an archive in `folder`; index, fit, score, evaluate, list suspects, write a report.

    The parts of one group lie turned and shifted: they are aligned. With PyAV a film of another
    camera is judged too, in a workspace of its own. It uses ImageNet weights, or seeded random
    ones if those cannot be loaded. A second call resumes.

    Parameters
    ----------
    folder : str, optional
        Folder for all files.
    listener : callable, optional
        Receives events.
    """
    started = time.monotonic()
    root = Path(folder)
    archive = root / "archive"
    if not (archive / "complete").exists():
        make_archive(archive, moving=_MOVING, listener=listener)
        (archive / "complete").touch()
    config = _configure(root, archive)
    index(config, listener)
    with workers_ahead(config):  # one forkserver for both
        fit(config, listener)
        scored = score(config, listener)
    assert scored.run_id is not None  # only a score of new images may have none
    figures = evaluate(config, listener)
    picture = root / "top10.png"
    run = Run(workspace_of(config), scored.run_id)
    rows = open_table(SCORES, [(run, run.head())]).filter("status = 'scored'")
    sheet = draw_top(config, read_rows(ScoreRow, _top(rows)), "The most anomalous of each group")
    assert sheet is not None  # it keeps heatmaps
    sheet.save(picture)
    weights = config.model.weights
    page = report(config, listener, run=scored.run_id)
    film = judge_film(root, weights, listener) if can_film() else None
    return DemoResult(
        weights=_RANDOM if weights == "random" else f"ImageNet ({weights})",
        images=scored.images,
        statuses=scored.statuses,
        flagged=scored.flagged,
        suspects=suspects(config).suspects,
        groups=figures.groups,
        mean=figures.mean,
        positions=_positions(rows),
        events=film.events if film else [],
        seconds=round(time.monotonic() - started, 1),
        archive=str(archive),
        configuration=str(root / "config.yaml"),
        scores=run.workspace.at(run.scores.path),
        heatmaps=run.workspace.at(run.heatmaps.path),
        picture=str(picture),
        report=page.report,
        film=film.film if film else None,
        film_report=film.report if film else None,
        notes=[] if film else [_NO_FILM],
    )


def _top(rows: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return the most anomalous rows of each group, the first of each group first."""
    place = f'row_number() OVER (PARTITION BY "group" ORDER BY {MOST_ANOMALOUS})'
    ranked = rows.select(f"*, {place} AS place").filter(f"place <= {_SHOWN}")
    return ranked.order('place, "group"').select("* EXCLUDE (place)")


def _positions(rows: duckdb.DuckDBPyRelation) -> list[DemoPositions]:
    """Return how parts lay, by group, from scored rows."""
    found = rows.aggregate(
        '"group", count(*), count(*) FILTER (aligned = 0), '
        "round(max(greatest(abs(shift_y), abs(shift_x))), 1), round(max(abs(angle)), 1)"
    )
    return [DemoPositions(*row) for row in found.order('"group"').fetchall()]


def _configure(root: Path, archive: Path) -> Config:
    """Return the configuration of the demo, which is also written to a file."""
    tree: dict[str, Any] = {
        "workspace": str(root / "audit"),
        "archive": {
            "url": str(archive),
            "layout": "mvtec",
            "group": "^(?P<group>[^/]+)/",
            "shard_images": 32,
        },
        "model": {
            "backbone": "resnet18",
            "weights": "IMAGENET1K_V1",
            "align": {"shift": 24, "rotate": 10, "to": "median"},
        },
        "fit": {"parts": 1},
        "score": {"splits": ["test"], "alpha": 0.01},
    }
    config = make_config(tree)
    try:
        plans.load_state(config, plans.plan_embedding(config).trunk)
    except WeightsError:
        logger.info("ImageNet weights cannot be loaded: using seeded random ones")
        tree["model"]["weights"] = "random"
        config = make_config(tree)
    (root / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return config
