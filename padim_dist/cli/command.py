"""Decorators that make a command: common options, configuration, progress, errors, output."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, TypeVar

import typer

from padim_dist.cli.logs import JsonHandler, TerminalHandler, json_listener
from padim_dist.cli.options import Common
from padim_dist.cli.progress import progress_bars
from padim_dist.cli.terminal import Terminal, pasteable
from padim_dist.errors import ConfigError, PadimDistError
from padim_dist.events import Listener, tell_all
from padim_dist.telemetry.server import serve_metrics

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from PIL.Image import Image

    from padim_dist.config import Config

logger = logging.getLogger("padim_dist")
_ALL = frozenset(field.name for field in dataclasses.fields(Common))

R = TypeVar("R", bound="DataclassInstance")
_Printer = Callable[[R, Terminal], None]


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
    printer: _Printer[R], *, metrics: bool = False, fails: Callable[[R], bool] | None = None
) -> Callable[[Callable[Concatenate[Session, ...], R]], Callable[..., None]]:
    """Make a command of a function that calls a public function and returns its result.

    Parameters
    ----------
    printer : callable
        Prints the result for people.
    metrics : bool, optional
        Whether the command has ``--metrics``.
    fails : callable, optional
        Whether a result ends the command with exit code 2.

    Returns
    -------
    callable
        Decorator. The command that it returns has the function's parameters after the
        session, and the common options.
    """

    def decorate(function: Callable[Concatenate[Session, ...], R]) -> Callable[..., None]:
        def call(common: Common, terminal: Terminal, own: dict[str, Any]) -> R:
            from padim_dist.config import load_config

            config = load_config(_config_file(common.config), common.set_ or [])
            screen = terminal.draw if terminal.can_draw and not common.as_json else None
            with _listening(common, terminal) as listener:
                return function(Session(config, listener, screen), **own)

        names = _ALL if metrics else _ALL - {"metrics"}
        return _make(function, call, names, printer, fails)

    return decorate


def command_without_config(
    printer: _Printer[R],
) -> Callable[[Callable[Concatenate[Listener, ...], R]], Callable[..., None]]:
    """Make a command of a function that needs a listener and no configuration."""

    def decorate(function: Callable[Concatenate[Listener, ...], R]) -> Callable[..., None]:
        def call(common: Common, terminal: Terminal, own: dict[str, Any]) -> R:
            with _listening(common, terminal) as listener:
                return function(listener, **own)

        return _make(function, call, _ALL - {"config", "set_", "metrics"}, printer)

    return decorate


def _make(
    function: Callable[..., R],
    call: Callable[[Common, Terminal, dict[str, Any]], R],
    names: Collection[str],
    printer: _Printer[R],
    fails: Callable[[R], bool] | None = None,
) -> Callable[..., None]:
    """Make the function that Typer calls: its parameters are all options of the command."""
    own = list(signature(function).parameters.values())[1:]
    added = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in dataclasses.fields(Common)
        if field.name in names
    ]

    def run(**values: Any) -> None:
        common = Common(**{name: values.pop(name) for name in names})
        terminal = Terminal(common.config)
        with _errors_as_messages(common, terminal):
            result = call(common, terminal, values)
            if common.as_json:
                sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")
            else:
                printer(result, terminal)
        if fails and fails(result):
            raise typer.Exit(2)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {part.name: part.annotation for part in (*own, *added)}
    run.__dict__["__signature__"] = Signature([*own, *added])
    return run


def _config_file(given: str | None) -> str:
    """Path of the configuration: ``-c``, else ``$PADIM_DIST_CONFIG``, else ``./audit.yaml``."""
    if given is not None:
        return given
    named = os.environ.get("PADIM_DIST_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigError(
                f"PADIM_DIST_CONFIG is {named!r}, and there is no such file; correct it, or give "
                "-c FILE"
            )
        return named
    if Path("audit.yaml").is_file():
        return "audit.yaml"
    raise ConfigError(
        f"no configuration: -c is not given, PADIM_DIST_CONFIG is not set, and {Path.cwd()} has no "
        "audit.yaml; give -c FILE, set PADIM_DIST_CONFIG, or write audit.yaml"
    )


@contextmanager
def _errors_as_messages(common: Common, terminal: Terminal) -> Iterator[None]:
    """Set up the log, and turn errors into one message and an exit code."""
    handler = JsonHandler(sys.stderr) if common.log_json else TerminalHandler(terminal.err)
    handler.setFormatter(_Pasteable(common.config))
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [handler], False
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
        code = error.exit_code if isinstance(error, PadimDistError) else 1
        raise typer.Exit(code) from None
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


class _Pasteable(logging.Formatter):
    """Messages whose commands name the configuration that was given."""

    def __init__(self, config: str | None) -> None:
        super().__init__()
        self._config = config

    def format(self, record: logging.LogRecord) -> str:
        return pasteable(super().format(record), self._config)


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
