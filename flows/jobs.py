"""Flows: fit, score and backfill."""

# Prefect needs the annotations as objects, not as text: it makes a form of them.
from datetime import date
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.artifacts import watch
from flows.stages import ends_in_words, settings, stage
from padim_dist.api.pipeline.backfill import plan_backfill
from padim_dist.api.pipeline.fit import fit as run_fit
from padim_dist.api.pipeline.index import index as run_index
from padim_dist.api.pipeline.score import score as run_score
from padim_dist.api.settings.lookup import PROMOTED
from padim_dist.config import Config
from padim_dist.pages.words import counted


@stage
def index_archive(config: Config) -> str:
    """Index the archive; return the snapshot."""
    return run_index(config, watch("index-progress")).snapshot


@stage
def fit_model(config: Config) -> str:
    """Fit a candidate on the normal images; return its id."""
    return run_fit(config, watch("fit-progress")).model_id


@stage
def score_images(
    config: Config, model: str | None, snapshot: str | None, new: bool
) -> dict[str, int]:
    """Score images; return rows by status."""
    listener = watch("score-progress")
    return run_score(config, listener, model=model, snapshot=snapshot, new=new).statuses


@stage
def plan_pieces(
    config: Config, since: date | None, until: date | None, prefix: str, piece_images: int
) -> list[str]:
    """Cut the images to score into pieces; return their snapshots."""
    return plan_backfill(
        config,
        watch("index-progress"),
        since=since,
        until=until,
        prefix=prefix,
        piece_images=piece_images,
    )


@flow(name="fit")
@ends_in_words
def fit(config: str, overrides: list[str] | None = None) -> str:
    """Index the archive and fit a candidate on its normal images.

    Arguments:
        config: Path of the YAML file with the settings.
        overrides: `path.to.key=value`, as after `--set`, one a line.
    """
    asked = settings(config, overrides)
    index_archive(asked)
    model = fit_model(asked)
    return f"Candidate {model}; 'padim-dist promote {model}' promotes it"


@flow(name="score")
@ends_in_words
def score(
    config: str,
    overrides: list[str] | None = None,
    model: str | None = PROMOTED,
    snapshot: str | None = None,
    new: bool = True,
) -> str:
    """Score images of the last index of the archive.

    Arguments:
        config: Path of the YAML file with the settings.
        overrides: `path.to.key=value`, as after `--set`, one a line.
        model: Id of the model, or `promoted`; empty: the newest with these settings.
        snapshot: A manifest (`padim-dist history`); empty: the newest.
        new: Score only images that no finished run of this model has scored.
    """
    statuses = score_images(settings(config, overrides), model or None, snapshot or None, new)
    return _counts(statuses) or "No new images"


@flow(name="backfill")
@ends_in_words
def backfill(
    config: str,
    overrides: list[str] | None = None,
    since: date | None = None,
    until: date | None = None,
    prefix: str = "",
    piece_images: Annotated[int, Field(ge=1)] = 100_000,
) -> str:
    """Score the images that the promoted model has not scored, piece by piece.

    Arguments:
        config: Path of the YAML file with the settings.
        overrides: `path.to.key=value`, as after `--set`, one a line.
        since: Only images that came on this day (UTC) or later.
        until: Only images that came on this day (UTC) or earlier.
        prefix: Only images whose path in the archive, or uri, has this prefix.
        piece_images: Images in a piece, approximately; each piece is a run and a task.
    """
    asked = settings(config, overrides)
    pieces = plan_pieces(asked, since, until, prefix, piece_images)
    total: dict[str, int] = {}
    for piece in pieces:
        for status, rows in score_images(asked, PROMOTED, piece, False).items():
            total[status] = total.get(status, 0) + rows
    return f"{counted(len(pieces), 'piece')}: {_counts(total)}" if pieces else "No images to score"


def _counts(statuses: dict[str, int]) -> str:
    return ", ".join(f"{rows:,} {status}" for status, rows in sorted(statuses.items()))
