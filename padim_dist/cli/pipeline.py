"""Commands of the pipeline: from an archive to a model, scores and metrics."""

from typing import TYPE_CHECKING

import padim_dist as padim
from padim_dist.cli import options, output
from padim_dist.cli.command import Session, command

if TYPE_CHECKING:
    from padim_dist.api.analysis.suspects import SuspectsResult
    from padim_dist.api.integrity.verify import VerifyResult
    from padim_dist.api.labels.evaluate import EvaluateResult
    from padim_dist.api.pipeline.fit import FitResult
    from padim_dist.api.pipeline.forget import ForgetResult
    from padim_dist.api.pipeline.index import IndexResult
    from padim_dist.api.pipeline.judge import JudgeResult
    from padim_dist.api.pipeline.score import ScoreResult
    from padim_dist.api.report.report import ReportResult


@command(output.fields(ignored="other files", number="history entry"))
def index(session: Session) -> "IndexResult":
    """List the archive, cut it into shards and write a manifest."""
    return padim.index(session.config, session.listener)


@command(output.fields(warnings=""), metrics=True, workers=True)
def fit(session: Session, *, resume: options.Resume = None) -> "FitResult":
    """Fit a Gaussian for every patch on the normal images of every group."""
    return padim.fit(session.config, session.listener, resume=resume)


@command(
    output.fields(warnings="", images="images named", forgotten="left out in all"),
    metrics=True,
    workers=True,
)
def forget(
    session: Session,
    *,
    image_ids: options.ImageIds,
    undo: options.Undo = False,
    note: options.Note = "",
) -> "ForgetResult":
    """Fit without some normal images, now and in every later fit of the archive."""
    where = (session.config, session.listener)
    return padim.forget(*where, image_ids=image_ids, undo=undo, note=note)


@command(output.print_suspects)
def suspects(
    session: Session,
    *,
    model: options.SuspectsModel = None,
    n: options.Number = 20,
    out: options.SuspectsFile = None,
) -> "SuspectsResult":
    """List normal images of a model that all others of their group find anomalous."""
    return padim.suspects(session.config, session.listener, model=model, n=n, out=out)


@command(output.fields(unsettled=""), metrics=True, workers=True)
def score(
    session: Session,
    *,
    model: options.ScoringModel = None,
    snapshot: options.Snapshot = None,
    new: options.New = False,
    resume: options.Resume = None,
) -> "ScoreResult":
    """Score every image: write a score table and heatmaps."""
    return padim.score(
        session.config, session.listener, resume=resume, model=model, snapshot=snapshot, new=new
    )


@command(output.fields(before="flagged before", cutoff="flagged up to p", regions="new regions"))
def judge(
    session: Session,
    *,
    run: options.RunId = None,
    alpha: options.Alpha = None,
    per_million: options.PerMillion = None,
    false_alarms_per_run: options.PerRun = None,
    fdr: options.Fdr = None,
    review: options.Review = None,
) -> "JudgeResult":
    """Flag the images of a run by another rule: nothing is scored again, no image is read."""
    return padim.judge(
        session.config,
        session.listener,
        run=run,
        alpha=alpha,
        per_million=per_million,
        false_alarms_per_run=false_alarms_per_run,
        fdr=fdr,
        review=review,
    )


@command(output.print_evaluation)
def evaluate(session: Session, *, run: options.RunId = None) -> "EvaluateResult":
    """Compute the evaluation metrics of a run, from labels, masks and reviews."""
    return padim.evaluate(session.config, session.listener, run=run)


@command(output.fields())
def report(
    session: Session,
    *,
    run: options.RunId = None,
    top: options.Gallery = 200,
    out: options.ReportFile = None,
    alpha: options.Alpha = None,
) -> "ReportResult":
    """Write a report about a run: an HTML file with flagged images, drift and failures."""
    return padim.report(session.config, session.listener, run=run, top=top, out=out, alpha=alpha)


@command(
    output.print_verify, workers=True, exit_code=lambda result, **_: 3 if result.differences else 0
)
def verify(
    session: Session,
    *,
    run: options.VerifiedRun = None,
    share: options.Share = 0.01,
    all_shards: options.AllShards = False,
) -> "VerifyResult":
    """Check that a run is as it was written: digests of its files, shards scored again."""
    where = (session.config, session.listener)
    return padim.verify(*where, run=run, share=share, all_shards=all_shards)
