"""Decorators: a stage as a Prefect task, and a flow that ends with a message.

A task is a stage of a night; its shards are tasks of Dask. Prefect caches nothing, since the
workspace knows what is done: a retried task, also in another flow run, does the rest.

Prefect shows the docstrings of flows, and reads their parameters only in Google style.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Completed, Failed

from padim_dist.config import Config, load_config
from padim_dist.errors import ConfigError, PadimDistError, RunError
from padim_dist.escaping import visible_lines
from padim_dist.redaction import redacted
from padim_dist.telemetry.measures import at_work
from padim_dist.telemetry.outcomes import count_failed_flow, expect_flow

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("padim_dist")
# The log of a night shows the messages of the package (Prefect sets a handler and no level), but
# not those of Dask about its sockets.
logger.setLevel(logging.INFO)
logging.getLogger("distributed").setLevel(logging.WARNING)
_REFUSED = "Refused"
"""Failed state of a stage that needs a person, not a retry."""
_AGAIN = "Run the flow again: it does the rest"


def pauses() -> list[float]:
    """Return the seconds before each retry of a stage, enough to outlast a short outage.

    Raises
    ------
    ConfigError
        If PADIM_DIST_RETRIES is not a list of numbers.
    """
    text = os.environ.get("PADIM_DIST_RETRIES", "30,300")
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [-1.0]
    if any(not 0 <= seconds < float("inf") for seconds in found):
        raise ConfigError(
            f"PADIM_DIST_RETRIES {text!r} is not a list of seconds; write e.g. 30,300, or leave "
            "it empty for no retry"
        )
    return found


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """Make a task of a function; what needs a person is not retried, e.g. a wrong request.

    A lease that another process holds is not retried either: it would do the same work. Trouble
    with the store is, and a lease that an earlier attempt left behind is its own.
    """

    @wraps(function)
    def work(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            with at_work():
                return function(*args, **kwargs)
        except PadimDistError as error:
            if error.needs_person:
                # As a state: no retry and no traceback.
                return Failed(name=_REFUSED, message=in_words(error))
            raise
        except Exception as error:
            # Prefect stores message and traceback.
            text = f"{type(error).__name__}: {error}"
            if redacted(text) == text:
                raise
            raise RunError(text) from None

    run = task(
        name=function.__name__.replace("_", " "),
        cache_policy=NO_CACHE,
        persist_result=False,
        retry_condition_fn=lambda _task, _run, state: state.name != _REFUSED,
    )(work)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        seconds = pauses()
        again = run.with_options(retries=len(seconds), retry_delay_seconds=seconds)
        found = again(*args, **kwargs)
        if isinstance(found, State):
            raise FailedRun(found.message)
        return found

    return call


def ends_in_words(function: Callable[P, str | tuple[str, str]]) -> Callable[P, State[Any]]:
    """Let a flow end in a state whose message says what happened or what to do.

    The function returns the message, or the name of the completed state and the message. Failures
    are counted.
    """
    flow = function.__name__.replace("_", "-")
    expect_flow(flow)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        try:
            found = function(*args, **kwargs)
        except Exception as error:
            if not isinstance(error, (PadimDistError, FailedRun)):  # mostly from a storage's client
                logger.error("the flow failed", exc_info=error)
            count_failed_flow(flow)
            return Failed(message=in_words(error))
        name, message = found if isinstance(found, tuple) else ("Completed", found)
        return Completed(name=name, message=message)

    return run


def settings(config: str, overrides: list[str] | None) -> Config:
    """Read the configuration; see `load_config` for the errors."""
    return load_config(config, overrides or [])


def in_words(error: Exception) -> str:
    """Return what happened and what to do."""
    if isinstance(error, FailedRun):  # from a refused stage, in words already
        return str(error)
    if not isinstance(error, PadimDistError):
        what = visible_lines(f"{type(error).__name__}: {error}").rstrip(".")
        return f"{what}. {_AGAIN}"
    message = visible_lines(str(error))
    return message if error.exit_code == 2 else f"{message}. {_AGAIN}"
