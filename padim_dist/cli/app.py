"""The command line: a thin shell around the public functions.

Results for people and one JSON object for programs go to stdout; progress, warnings
and errors go to stderr. Exit codes: 0 done, every image accounted for; 1 the run
failed; 2 the request or configuration is wrong.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from padim_dist.cli import analysis
from padim_dist.cli.command import (
    AsJson,
    ConfigPath,
    Debug,
    LogJson,
    Metrics,
    Note,
    Overrides,
    Resume,
    call,
    outcome,
    subscriber,
    tell,
)

app = typer.Typer(
    help="Find and localise anomalies in image archives of any size (PaDiM on Dask).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def index(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """List the archive and cut it into shards: a manifest."""
    call("index", config, set_, as_json, log_json, debug)


@app.command()
def fit(
    config: ConfigPath,
    set_: Overrides = None,
    resume: Resume = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
    metrics: Metrics = None,
) -> None:
    """Fit a Gaussian for every patch on the normal images of every group."""
    call("fit", config, set_, as_json, log_json, debug, metrics=metrics, resume=resume)


@app.command()
def score(
    config: ConfigPath,
    set_: Overrides = None,
    resume: Resume = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
    metrics: Metrics = None,
    model: Annotated[
        str | None, typer.Option(help="A model's id, or 'promoted'; else the newest.")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="A manifest; else the newest of the archive.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Only images that no finished run of this model scored.")
    ] = False,
) -> None:
    """Score every image: a score table and heatmaps."""
    more: dict[str, Any] = {"model": model, "snapshot": snapshot, "new": new}
    call("score", config, set_, as_json, log_json, debug, metrics=metrics, resume=resume, **more)


@app.command()
def evaluate(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Figures of merit of a run, where the archive has labels and masks."""
    call("evaluate", config, set_, as_json, log_json, debug)


@app.command()
def report(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
    run: Annotated[
        str | None, typer.Option(help="A run's id, or its beginning; else the newest finished one.")
    ] = None,
    top: Annotated[int, typer.Option(help="Images in the gallery, at most.")] = 200,
    to: Annotated[
        str | None, typer.Option("--out", help="The file; else report.html in the run.")
    ] = None,
) -> None:
    """One HTML file about a run: what is flagged, with pictures, drift, and what failed."""
    more: dict[str, Any] = {"run": run, "top": top, "out": to}
    call("report", config, set_, as_json, log_json, debug, **more)


@app.command()
def audit(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
    metrics: Metrics = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Also fit a candidate, on fit.window if it is set.")
    ] = False,
) -> None:
    """A night: index what came, score it with the promoted model, publish a summary."""
    call("audit", config, set_, as_json, log_json, debug, metrics=metrics, refit=refit)


@app.command()
def history(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """What came, changed and went in the archive, from index to index."""
    call("history", config, set_, as_json, log_json, debug)


@app.command()
def models(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """The models of the workspace: candidates, the promoted one, and all promotions."""
    call("models", config, set_, as_json, log_json, debug)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="Id of the model, or its beginning.")],
    config: ConfigPath,
    note: Note = "",
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Approve a model: nightly audits use it from now on."""
    more = {"model": model, "note": note}
    call("promote", config, set_, as_json, log_json, debug, **more)


@app.command()
def rollback(
    config: ConfigPath,
    note: Note = "",
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Take the last promotion back: the model before it counts again."""
    call("rollback", config, set_, as_json, log_json, debug, note=note)


@app.command()
def doctor(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Check configuration, weights, archive, workspace, cluster, memory; say what to do."""
    result = call("doctor", config, set_, as_json, log_json, debug)
    if any(finding.verdict == "wrong" for finding in result.findings):
        raise typer.Exit(2)


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(help="Where everything is put.")] = "demo",
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Make a small archive, then index, fit, score and evaluate it; no network needed."""
    with outcome(debug, log_json):
        from padim_dist.api.demo import demo as function

        with subscriber(log_json) as listener:
            result = function(folder, listener)
        tell(result, as_json)


app.add_typer(analysis.app)


def main() -> None:
    """Entry point of the console script."""
    app()
