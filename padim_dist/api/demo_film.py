"""The film of the demo: a fixed camera, with a workspace of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from padim_dist.api.analysis.query import query
from padim_dist.api.pipeline.fit import fit
from padim_dist.api.pipeline.index import index
from padim_dist.api.pipeline.score import score
from padim_dist.api.report.report import report
from padim_dist.archive.films.opening import films
from padim_dist.config import make_config
from padim_dist.errors import ConfigError
from padim_dist.events import Event, Listener
from padim_dist.synthetic.film import FILM, REACHES, make_films

_EVENTS = "SELECT starts, ends, peak, frames, score, p_value FROM events ORDER BY starts"


@dataclass(frozen=True)
class DemoEvent:
    """Flagged frames that follow each other.

    Attributes
    ----------
    starts, ends, peak : float
        Seconds in the film: first and last flagged frame, and the most anomalous one.
    frames : int
        Flagged frames.
    score, p_value : float, float or None
        The highest score, and the smallest p-value.
    """

    starts: float
    ends: float
    peak: float
    frames: int
    score: float
    p_value: float | None


@dataclass(frozen=True)
class DemoFilm:
    """What was found in the film.

    Attributes
    ----------
    film : str
        Path of the film, and what is anomalous in it.
    events : list of DemoEvent
        In the order of time.
    report : str
        Path of the report, which shows the events.
    """

    film: str
    events: list[DemoEvent]
    report: str


def can_film() -> bool:
    """Return whether PyAV can be used, which writes and reads films."""
    try:
        films()
    except ConfigError:
        return False
    return True


def judge_film(root: Path, weights: str, listener: Listener) -> DemoFilm:
    """Draw two films of a camera in `root`; fit on one, score the other, write a report."""

    def tell(event: Event) -> None:
        listener(replace(event, stage=f"film: {event.stage}"))

    archive = root / "films"
    if not (archive / "complete").exists():
        make_films(archive, listener=tell)
        (archive / "complete").touch()
    tree: dict[str, Any] = {
        "workspace": str(root / "film-audit"),
        "archive": {
            "url": str(archive),
            "layout": "video",
            "video": {"every": "0.2s"},
            "group": "^(?P<group>[^/]+)/",
        },
        "model": {"backbone": "resnet18", "weights": weights, "resize": [192, 256]},
        "score": {"splits": ["test"]},
    }
    config = make_config(tree)
    (root / "film.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    index(config, tell)
    fit(config, tell)
    run = score(config, tell).run_id
    start, end = REACHES
    return DemoFilm(
        film=f"{archive / FILM}: an arm reaches over the belt from {start:g} to {end:g} s",
        events=[DemoEvent(*row) for row in query(config, sql=_EVENTS, run=run).rows],
        report=report(config, tell, run=run).report,
    )
