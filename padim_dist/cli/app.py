"""The command line: commands of the pipeline and of nights.

Results go to stdout; progress, warnings and errors go to stderr. Exit codes: 0 done, every
image has a row; 1 the run failed; 2 the request or the configuration is wrong; 130 interrupted.
"""

from typing import TYPE_CHECKING, Annotated

import typer

import padim_dist as padim
from padim_dist.cli import analysis, options, output
from padim_dist.cli.command import Session, command, command_without_config
from padim_dist.events import Listener

if TYPE_CHECKING:
    from padim_dist.api.demo import DemoResult
    from padim_dist.api.doctor import DoctorResult
    from padim_dist.api.nights.audit import AuditResult
    from padim_dist.api.nights.history import HistoryResult
    from padim_dist.api.nights.promotions import ModelsResult
    from padim_dist.api.pipeline.evaluate import EvaluateResult
    from padim_dist.api.pipeline.fit import FitResult
    from padim_dist.api.pipeline.index import IndexResult
    from padim_dist.api.pipeline.score import ScoreResult
    from padim_dist.api.report.report import ReportResult
    from padim_dist.store.promotions import Promotion

app = typer.Typer(
    help="Find and localise anomalies in image archives of any size (PaDiM on Dask).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


@app.command()
@command(output.fields(ignored="other files", number="history entry"))
def index(session: Session) -> "IndexResult":
    """List the archive, cut it into shards and write a manifest."""
    return padim.index(session.config, session.listener)


@app.command()
@command(output.fields(warnings=""), metrics=True)
def fit(session: Session, *, resume: options.Resume = None) -> "FitResult":
    """Fit a Gaussian for every patch on the normal images of every group."""
    return padim.fit(session.config, session.listener, resume=resume)


@app.command()
@command(output.fields(), metrics=True)
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


@app.command()
@command(output.print_metrics)
def evaluate(session: Session, *, run: options.RunId = None) -> "EvaluateResult":
    """Compute the evaluation metrics of a run, from the archive's labels and masks."""
    return padim.evaluate(session.config, session.listener, run=run)


@app.command()
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


@app.command()
@command(output.print_audit, metrics=True)
def audit(session: Session, *, refit: options.Refit = False) -> "AuditResult":
    """Audit a night: index the archive, score what is new with the promoted model, sum it up."""
    return padim.audit(session.config, session.listener, refit=refit)


@app.command()
@command(output.print_history)
def history(session: Session) -> "HistoryResult":
    """List what was new, changed and gone in the archive at each index."""
    return padim.history(session.config, session.listener)


@app.command()
@command(output.print_models)
def models(session: Session) -> "ModelsResult":
    """List the models of the workspace, and all promotions."""
    return padim.models(session.config, session.listener)


@app.command()
@command(output.fields(number="promotion"))
def promote(session: Session, *, model: options.ModelId, note: options.Note = "") -> "Promotion":
    """Promote a model: nightly audits use it from now on."""
    return padim.promote(session.config, session.listener, model=model, note=note)


@app.command()
@command(output.fields(number="promotion"))
def rollback(session: Session, *, note: options.Note = "") -> "Promotion":
    """Undo the last promotion: nightly audits use the model before it again."""
    return padim.rollback(session.config, session.listener, note=note)


@app.command()
@command(
    output.print_doctor, fails=lambda result: any(f.verdict == "error" for f in result.findings)
)
def doctor(session: Session) -> "DoctorResult":
    """Check configuration, weights, archive, workspace, cluster and memory; say what to do."""
    return padim.doctor(session.config, session.listener)


@app.command()
@command_without_config(output.print_metrics)
def demo(listener: Listener, *, folder: options.Folder = "demo") -> "DemoResult":
    """Make a small archive, then index, fit, score and evaluate it; works offline."""
    return padim.demo(folder, listener)


app.add_typer(analysis.app)


def main() -> None:
    """Run the command line: entry point of the console script."""
    app(prog_name="padim-dist")
