"""Demo: a synthetic archive, the whole pipeline on it, a picture and a report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from padim_dist.api.analysis.pictures import draw_top
from padim_dist.api.analysis.suspects import SuspectImage, suspects
from padim_dist.api.labels.evaluate import GroupFigures, evaluate
from padim_dist.api.pipeline.fit import fit
from padim_dist.api.pipeline.index import index
from padim_dist.api.pipeline.score import score
from padim_dist.api.report.report import report
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.api.sql.flags import MOST_ANOMALOUS
from padim_dist.api.sql.tables import open_table, read_rows
from padim_dist.config import Config, make_config
from padim_dist.errors import WeightsError
from padim_dist.events import Listener, ignore
from padim_dist.store.runs.rows import SCORES, ScoreRow
from padim_dist.store.runs.run import Run
from padim_dist.synthetic.archive import make_archive

_SHOWN = 10
_RANDOM = "random, seeded (ImageNet weights cannot be loaded; they give better metrics)"


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo, suspects among its normal images, and the paths of its files."""

    weights: str
    images: int
    statuses: dict[str, int]
    flagged: int | None
    suspects: list[SuspectImage]
    groups: dict[str, GroupFigures]
    mean: dict[str, float | None]
    seconds: float
    archive: str
    configuration: str
    scores: str
    heatmaps: str
    picture: str
    report: str


def demo(folder: str = "demo", listener: Listener = ignore) -> DemoResult:
    """Make an archive in `folder`; index, fit, score, evaluate, list suspects, write a report.

    It uses ImageNet weights, or seeded random ones if those cannot be loaded. A second call
    resumes.

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
        make_archive(archive, listener=listener)
        (archive / "complete").touch()
    config = _configure(root, archive)
    index(config, listener)
    fit(config, listener)
    scored = score(config, listener)
    assert scored.run_id is not None  # only a score of new images may have none
    figures = evaluate(config, listener)
    picture = root / "top10.png"
    run = Run(workspace_of(config), scored.run_id)
    rows = open_table(SCORES, [(run, run.head())]).filter("status = 'scored'")
    top = rows.order(MOST_ANOMALOUS).limit(_SHOWN)
    sheet = draw_top(config, read_rows(ScoreRow, top), "Demo: the most anomalous images")
    assert sheet is not None  # it keeps heatmaps
    sheet.save(picture)
    weights = config.model.weights
    page = report(config, listener, run=scored.run_id)
    return DemoResult(
        weights=_RANDOM if weights == "random" else f"ImageNet ({weights})",
        images=scored.images,
        statuses=scored.statuses,
        flagged=scored.flagged,
        suspects=suspects(config).suspects,
        groups=figures.groups,
        mean=figures.mean,
        seconds=round(time.monotonic() - started, 1),
        archive=str(archive),
        configuration=str(root / "config.yaml"),
        scores=run.workspace.at(run.scores.path),
        heatmaps=run.workspace.at(run.heatmaps.path),
        picture=str(picture),
        report=page.report,
    )


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
        "model": {"backbone": "resnet18", "weights": "IMAGENET1K_V1"},
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
