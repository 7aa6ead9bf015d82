"""The command line: a thin shell around the public functions.

Results for people and one JSON object for programs go to stdout; progress, warnings
and errors go to stderr. Exit codes: 0 done, every image accounted for; 1 the run
failed; 2 the request or configuration is wrong.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from padim_dist.errors import PadimDistError
from padim_dist.events import Listener, tell_all
from padim_dist.logs import JsonHandler, json_listener
from padim_dist.summary import print_result
from padim_dist.telemetry.server import serve_metrics
from padim_dist.terminal import progress_bars

app = typer.Typer(
    help="Find and localise anomalies in image archives of any size (PaDiM on Dask).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
logger = logging.getLogger("padim_dist")
out = Console()
err = Console(stderr=True)

ConfigPath = Annotated[str, typer.Option("-c", "--config", help="YAML file with the settings.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="path.to.key=value; may be given many times.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Events and logs on stderr as JSON, no progress bars.")
]
Resume = Annotated[
    str | None, typer.Option("--resume", help="Only go on with the fit or run of this id.")
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="HOST:PORT to serve Prometheus metrics at while this works."),
]
Note = Annotated[str, typer.Option("--note", help="Why; kept in the history.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")]


@app.command()
def index(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """List the archive and cut it into shards: a manifest."""
    _run("index", config, set_, as_json, log_json, debug)


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
    _run("fit", config, set_, as_json, log_json, debug, metrics=metrics, resume=resume)


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
    _run("score", config, set_, as_json, log_json, debug, metrics=metrics, resume=resume, **more)


@app.command()
def evaluate(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Figures of merit of a run, where the archive has labels and masks."""
    _run("evaluate", config, set_, as_json, log_json, debug)


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
    _run("report", config, set_, as_json, log_json, debug, **more)


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
    _run("audit", config, set_, as_json, log_json, debug, metrics=metrics, refit=refit)


@app.command()
def history(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """What came, changed and went in the archive, from index to index."""
    _run("history", config, set_, as_json, log_json, debug)


@app.command()
def models(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """The models of the workspace: candidates, the promoted one, and all promotions."""
    _run("models", config, set_, as_json, log_json, debug, home="promotions")


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
    more = {"home": "promotions", "model": model, "note": note}
    _run("promote", config, set_, as_json, log_json, debug, **more)


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
    _run("rollback", config, set_, as_json, log_json, debug, home="promotions", note=note)


@app.command()
def doctor(
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Check configuration, weights, archive, workspace, cluster, memory; say what to do."""
    result = _run("doctor", config, set_, as_json, log_json, debug)
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
    with _outcome(debug, log_json):
        from padim_dist.api.demo import demo as function

        with _subscriber(log_json) as listener:
            result = function(folder, listener)
        _print(result, as_json)


def main() -> None:
    """Entry point of the console script."""
    app()


def _run(
    name: str,
    config: str,
    overrides: list[str] | None,
    as_json: bool,
    log_json: bool,
    debug: bool,
    home: str | None = None,
    metrics: str | None = None,
    **more: Any,
) -> Any:
    with _outcome(debug, log_json):
        from padim_dist.config import load_config

        # First the settings, which are read at once, then what waits for torch.
        settings = load_config(config, overrides or [])
        with _subscriber(log_json) as listener, _counted(listener, metrics) as told:
            function = getattr(import_module(f"padim_dist.api.{home or name}"), name)
            result = function(settings, told, **more)
        _print(result, as_json)
        return result


@contextmanager
def _outcome(debug: bool, log_json: bool) -> Iterator[None]:
    """Turn errors that a user can mend into one message and an exit code."""
    handler: logging.Handler = (
        JsonHandler(sys.stderr)
        if log_json
        else RichHandler(console=err, show_path=False, show_time=False, markup=False)
    )
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    except PadimDistError as error:
        if debug:
            raise
        _complain(str(error), log_json)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if debug:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _complain(f"{what}. 'padim-dist doctor' checks what can be read and written", log_json)
        raise typer.Exit(1) from None
    except typer.Exit:
        raise
    except Exception as error:
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}. With --debug the traceback is shown", log_json)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print("interrupted; run the same command again: it resumes")
        raise typer.Exit(130) from None


def _complain(message: str, log_json: bool) -> None:
    if log_json:
        logger.error(message)
        return
    err.print("[bold red]error:[/]", Text(message), soft_wrap=True, highlight=False)


@contextmanager
def _subscriber(log_json: bool) -> Iterator[Listener]:
    """Who listens to the events: JSON lines or progress bars."""
    if log_json:
        yield json_listener(sys.stderr)
    else:
        with progress_bars(err) as listener:
            yield listener


@contextmanager
def _counted(listener: Listener, metrics: str | None) -> Iterator[Listener]:
    """Also count for Prometheus, where it is asked for."""
    if metrics is None:
        yield listener
        return
    with serve_metrics(metrics):
        from padim_dist.telemetry.measures import observe

        yield tell_all(listener, observe)


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")
    else:
        print_result(result, out)
