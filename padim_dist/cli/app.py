"""The command line: commands of the pipeline, of nights and for analysts.

Results go to stdout; progress, warnings and errors go to stderr. Exit codes: 0 done, every
image has a row; 1 the run failed; 2 the request or the configuration is wrong; 130 interrupted.
"""

from typing import TYPE_CHECKING, Annotated

import typer

import padim_dist as padim
from padim_dist.cli import options, output
from padim_dist.cli.command import Session, app, command
from padim_dist.events import Listener

if TYPE_CHECKING:
    from padim_dist.api.analysis.compact import CompactResult
    from padim_dist.api.analysis.compare import CompareResult
    from padim_dist.api.analysis.export import ExportResult
    from padim_dist.api.analysis.query import QueryResult
    from padim_dist.api.analysis.show import ShowResult
    from padim_dist.api.analysis.top import TopResult
    from padim_dist.api.demo import DemoResult
    from padim_dist.api.doctor import DoctorResult
    from padim_dist.api.labels.evaluate import EvaluateResult
    from padim_dist.api.labels.label import LabelResult
    from padim_dist.api.nights.audit import AuditResult
    from padim_dist.api.nights.history import HistoryResult
    from padim_dist.api.nights.promotions import ModelsResult
    from padim_dist.api.pipeline.fit import FitResult
    from padim_dist.api.pipeline.index import IndexResult
    from padim_dist.api.pipeline.score import ScoreResult
    from padim_dist.api.report.report import ReportResult
    from padim_dist.store.promotions import Promotion


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"padim-dist {padim.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Declare the options of the program itself."""


@command(output.fields(ignored="other files", number="history entry"))
def index(session: Session) -> "IndexResult":
    """List the archive, cut it into shards and write a manifest."""
    return padim.index(session.config, session.listener)


@command(output.fields(warnings=""), metrics=True)
def fit(session: Session, *, resume: options.Resume = None) -> "FitResult":
    """Fit a Gaussian for every patch on the normal images of every group."""
    return padim.fit(session.config, session.listener, resume=resume)


@command(output.fields(unsettled=""), metrics=True)
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
) -> "ReportResult":
    """Write a report about a run: an HTML file with flagged images, drift and failures."""
    return padim.report(session.config, session.listener, run=run, top=top, out=out)


@command(output.print_audit, metrics=True)
def audit(session: Session, *, refit: options.Refit = False) -> "AuditResult":
    """Audit a night: index the archive, score what is new with the promoted model, sum it up."""
    return padim.audit(session.config, session.listener, refit=refit)


@command(output.print_history)
def history(session: Session) -> "HistoryResult":
    """List what was new, changed and gone in the archive at each index."""
    return padim.history(session.config, session.listener)


@command(output.print_models)
def models(session: Session) -> "ModelsResult":
    """List the models of the workspace, and all promotions."""
    return padim.models(session.config, session.listener)


@command(output.fields(number="promotion"))
def promote(session: Session, *, model: options.ModelId, note: options.Note = "") -> "Promotion":
    """Promote a model: nightly audits use it from now on."""
    return padim.promote(session.config, session.listener, model=model, note=note)


@command(output.fields(number="promotion"))
def rollback(session: Session, *, note: options.Note = "") -> "Promotion":
    """Undo the last promotion: nightly audits use the model before it again."""
    return padim.rollback(session.config, session.listener, note=note)


@command(
    output.print_doctor, fails=lambda result: any(f.verdict == "error" for f in result.findings)
)
def doctor(session: Session) -> "DoctorResult":
    """Check configuration, weights, archive, workspace, cluster and memory; say what to do."""
    return padim.doctor(session.config, session.listener)


@command(output.print_metrics, config=False)
def demo(listener: Listener, *, folder: options.Folder = "demo") -> "DemoResult":
    """Make a small archive, then index, fit, score and evaluate it; works offline."""
    return padim.demo(folder, listener)


@command(output.print_query)
def query(
    session: Session,
    *,
    sql: options.Sql,
    run: options.OnlyRun = None,
    format: options.QueryFormat = "table",
    out: options.QueryFile = None,
) -> "QueryResult":
    """Query the workspace in SQL (DuckDB), read-only."""
    return padim.query(session.config, session.listener, sql=sql, format=format, out=out, run=run)


@command(output.print_top)
def top(
    session: Session,
    *,
    n: options.Number = 20,
    run: options.RunId = None,
    group: options.Group = None,
    flagged: options.Flagged = False,
) -> "TopResult":
    """List the strongest anomalies of a run: lowest p-value first, then highest score."""
    return padim.top(session.config, session.listener, n=n, run=run, group=group, flagged=flagged)


@command(output.print_label)
def label(
    session: Session,
    *,
    words: options.Labelled = None,
    file: options.ReviewFile = None,
    fiftyone: options.FiftyOneTags = None,
    kind: options.Kind = None,
    note: options.ReviewNote = "",
    by: options.Reviewer = None,
    run: options.SeenRun = None,
) -> "LabelResult":
    """Say that images are ok or show a defect; evaluate, top and report then use it."""
    images = list(words or [])
    verdict = images.pop() if images and images[-1].lower() in ("ok", "defect") else None
    return padim.label(
        session.config,
        session.listener,
        images=images,
        verdict=verdict,
        kind=kind,
        note=note,
        file=file,
        fiftyone=fiftyone,
        run=run,
        by=by,
    )


@command(output.print_show)
def show(
    session: Session,
    *,
    image_id: options.ImageId,
    run: options.RunId = None,
    out: options.PictureFile = None,
) -> "ShowResult":
    """Show an image next to its heatmap with boxes of regions, and its details."""
    where = (session.config, session.listener)
    return padim.show(*where, image_id=image_id, run=run, out=out, screen=session.screen)


@command(output.print_compare)
def compare(
    session: Session, *, run_a: options.EarlierRun, run_b: options.LaterRun
) -> "CompareResult":
    """Compare two runs on the images they share: rank correlation, ranks, flagged images."""
    return padim.compare(session.config, session.listener, run_a=run_a, run_b=run_b)


@command(output.fields(before="compact before", left="skipped", files="files written"))
def compact(session: Session, *, run: options.OnlyRun = None) -> "CompactResult":
    """Merge the many small files of finished runs into a few; rows stay the same."""
    return padim.compact(session.config, session.listener, run=run)


@command(output.fields())
def export(
    session: Session,
    *,
    format: options.ExportFormat,
    out: options.ExportFile,
    run: options.RunId = None,
    name: options.FiftyOneName = None,
    all_images: options.AllImages = False,
) -> "ExportResult":
    """Export the regions of a run, as CSV or COCO detections, or the run as a FiftyOne data set."""
    where = (session.config, session.listener)
    return padim.export(*where, format=format, out=out, run=run, name=name, all_images=all_images)


def main() -> None:
    """Run the command line: entry point of the console script."""
    app(prog_name="padim-dist")
