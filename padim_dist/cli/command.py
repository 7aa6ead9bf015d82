"""What every command is made of: options, errors as messages, progress, printing."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

import padim_dist
from padim_dist.cli.logs import JsonHandler, json_listener
from padim_dist.cli.output import print_result
from padim_dist.cli.progress import progress_bars
from padim_dist.errors import PadimDistError
from padim_dist.events import Listener, tell_all
from padim_dist.telemetry.server import serve_metrics

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


def call(
    name: str,
    config: str,
    overrides: list[str] | None,
    as_json: bool,
    log_json: bool,
    debug: bool,
    metrics: str | None = None,
    **more: Any,
) -> Any:
    """Load the configuration, call the public function of a name, print its result."""
    with outcome(debug, log_json):
        from padim_dist.config import load_config

        # First the settings, which are read at once, then what waits for torch.
        settings = load_config(config, overrides or [])
        with subscriber(log_json) as listener, _counted(listener, metrics) as told:
            function = getattr(padim_dist, name)
            result = function(settings, told, **more)
        tell(result, as_json)
        return result


@contextmanager
def outcome(debug: bool, log_json: bool) -> Iterator[None]:
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
def subscriber(log_json: bool) -> Iterator[Listener]:
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


def tell(result: Any, as_json: bool) -> None:
    """Print a result, for people or for programs."""
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")
    else:
        print_result(result, out)
