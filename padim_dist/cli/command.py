"""Decorator that makes a command: common options, configuration, progress, errors, output."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from padim_dist.cli.logs import LogHandler, json_listener, write_raw_line
from padim_dist.cli.options import Common
from padim_dist.cli.progress import progress_bars
from padim_dist.cli.stderr import collected
from padim_dist.cli.terminal import Terminal
from padim_dist.errors import ConfigError, PadimDistError
from padim_dist.events import Listener, tell_all
from padim_dist.redaction import redacted_tree
from padim_dist.telemetry.server import serve_metrics

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from PIL.Image import Image

    from padim_dist.config import Config

logger = logging.getLogger("padim_dist")
R = TypeVar("R", bound="DataclassInstance")

app = typer.Typer(
    help="Find and localise anomalies in image archives of any size (PaDiM on Dask).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


_PANELS = {"pipeline": "Pipeline", "nights": "Nights", "analysis": "Analysis"}
"""Panels of the help, by the modules of the commands."""


@dataclass(frozen=True)
class Session:
    """What a command receives besides its own parameters.

    Attributes
    ----------
    config : Config
        The configuration.
    listener : callable
        Receives events.
    screen : callable or None
        Draws a picture in the terminal; None if the terminal cannot, or with ``--json``.
    """

    config: Config
    listener: Listener
    screen: Callable[[Image], None] | None


def command(
    printer: Callable[[R, Terminal], None],
    *,
    config: bool = True,
    metrics: bool = False,
    workers: bool = False,
    exit_code: Callable[..., int] | None = None,
) -> Callable[[Callable[..., R]], Callable[..., None]]:
    """Add a command to `app`: a function that calls a public function and returns its result.

    Parameters
    ----------
    printer : callable
        Prints the result for people.
    config, metrics : bool, optional
        Whether the command reads a configuration, and whether it has ``--metrics``.
    workers : bool, optional
        Whether the command will need workers: they start beside what it imports.
    exit_code : callable, optional
        Maps a result, and the command's own parameters by name, to its exit code.

    Returns
    -------
    callable
        Decorator of a function whose first parameter is a `Session`, or without `config` a
        listener. The command has its other parameters and the common options.
    """
    has = {"config": config, "set_": config, "metrics": metrics}

    def decorate(function: Callable[..., R]) -> Callable[..., None]:
        own = list(signature(function).parameters.values())[1:]
        added = [
            Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
            )
            for field in dataclasses.fields(Common)
            if has.get(field.name, True)
        ]

        def run(**values: Any) -> None:
            common = Common(**{part.name: values.pop(part.name) for part in added})
            terminal = Terminal(common.config)
            raw = collected(write_raw_line) if common.log_json else nullcontext()
            with raw, _errors_as_messages(common, terminal):
                loaded = _load(common) if config else None
                screen = terminal.draw if terminal.can_draw and not common.as_json else None
                # Metrics first: they set where workers write theirs.
                with _listening(common, terminal) as listener, _workers(loaded, workers):
                    session = Session(loaded, listener, screen) if loaded else listener
                    result = function(session, **values)
                if common.as_json:
                    sys.stdout.write(json.dumps(redacted_tree(dataclasses.asdict(result))) + "\n")
                else:
                    printer(result, terminal)
            if exit_code and (code := exit_code(result, **values)):
                raise typer.Exit(code)

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__annotations__ = {part.name: part.annotation for part in (*own, *added)}
        run.__dict__["__signature__"] = Signature([*own, *added])
        room = function.__module__.rpartition(".")[2]
        return app.command(rich_help_panel=_PANELS.get(room, "Start"))(run)

    return decorate


def _load(common: Common) -> Config:
    """Read the configuration: ``-c``, else ``$PADIM_DIST_CONFIG``, else ``./audit.yaml``."""
    from padim_dist.config import load_config

    path, named = common.config, os.environ.get("PADIM_DIST_CONFIG")
    if path is None and named:
        if not Path(named).is_file():
            raise ConfigError(
                f"PADIM_DIST_CONFIG is {named!r}, and there is no such file; correct it, or give "
                "-c FILE"
            )
        path = named
    elif path is None and not Path("audit.yaml").is_file():
        raise ConfigError(
            f"no configuration: -c is not given, PADIM_DIST_CONFIG is not set, and {Path.cwd()} "
            "has no audit.yaml; give -c FILE, set PADIM_DIST_CONFIG, or write audit.yaml"
        )
    return load_config("audit.yaml" if path is None else path, common.set_ or [])


def _workers(config: Config | None, needed: bool) -> AbstractContextManager[None]:
    """Start the workers of a command."""
    if config is None or not needed:
        return nullcontext()
    from padim_dist.api.workers_ahead import workers_ahead

    return workers_ahead(config)


@contextmanager
def _errors_as_messages(common: Common, terminal: Terminal) -> Iterator[None]:
    """Set up the log, and turn errors into one message and an exit code."""
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [LogHandler(terminal, common.log_json)], False
    logger.setLevel(logging.DEBUG if common.debug else logging.INFO)
    try:
        yield
    except KeyboardInterrupt:
        logger.warning("interrupted; run the same command again: it resumes")
        raise typer.Exit(130) from None
    except Exception as error:
        if common.debug:
            raise
        logger.error("%s", _explain(error))
        raise typer.Exit(error.exit_code if isinstance(error, PadimDistError) else 1) from None
    finally:
        logger.handlers, logger.propagate, level = before
        logger.setLevel(level)


def _explain(error: Exception) -> str:
    """One message for an error: what happened and what to do."""
    if isinstance(error, PadimDistError):
        return str(error)
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return f"{what}. 'padim-dist doctor' checks what can be read and written"
    return f"{type(error).__name__}: {error}. --debug shows the traceback"


@contextmanager
def _listening(common: Common, terminal: Terminal) -> Iterator[Listener]:
    """Open the listener: JSON lines or progress bars, and metrics if they are served."""
    with ExitStack() as stack:
        if common.log_json:
            listener = json_listener(sys.stderr)
        else:
            listener = stack.enter_context(progress_bars(terminal.err))
        if common.metrics is not None:
            stack.enter_context(serve_metrics(common.metrics))
            from padim_dist.telemetry.measures import observe

            listener = tell_all(listener, observe)
        yield listener
