"""A stage as a Prefect task, and a flow that ends in words.

A task is a stage of a night, never a shard: Dask has the shards. Nothing is cached and
nothing is kept by Prefect, since the workspace knows what is done: a task that is run
again, by a retry or in another flow run, does what is left.

The docstrings of flows are shown in Prefect, which reads the parameters only where they
are written in Google's style.
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
from padim_dist.errors import ConfigError, HeldError, PadimDistError

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("padim_dist")
# A night's log has what the package says (Prefect gives it a handler and no level), and not
# what Dask says of its sockets.
logger.setLevel(logging.INFO)
logging.getLogger("distributed").setLevel(logging.WARNING)
_REFUSED = "Refused"
"""Name of the failed state of a stage that asks for somebody, not for another try."""
_AGAIN = "Run the flow again: it does the rest"


def pauses() -> list[float]:
    """Seconds before each retry of a stage: long enough together for a storage to come back.

    Raises
    ------
    ConfigError
        If PADIM_DIST_RETRIES is no list of numbers.
    """
    text = os.environ.get("PADIM_DIST_RETRIES", "30,300")
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [-1.0]
    if any(not 0 <= seconds < float("inf") for seconds in found):
        raise ConfigError(
            f"PADIM_DIST_RETRIES {text!r} is no list of seconds; write e.g. 30,300, or nothing "
            "for no retries"
        )
    return found


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """Make a task of a function: retried, unless the mistake is in what was asked for."""

    @wraps(function)
    def work(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            return function(*args, **kwargs)
        except PadimDistError as error:
            if error.exit_code == 2 or isinstance(error, HeldError):
                # As a state: no retry, and no traceback for what somebody can mend.
                return Failed(name=_REFUSED, message=_in_words(error))
            raise

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
    """Let a flow end in a state with a message that says what happened, or what to do.

    The function returns the message, or the name of the completed state and the message.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        try:
            found = function(*args, **kwargs)
        except PadimDistError as error:
            return Failed(message=_in_words(error))
        except FailedRun as error:  # of a stage that returned such a state
            return Failed(message=str(error))
        except Exception as error:  # of a storage's client, for the most part
            logger.error("the flow ends here", exc_info=error)
            what = f"{type(error).__name__}: {error}".rstrip(".")
            return Failed(message=f"{what}. {_AGAIN}")
        name, message = found if isinstance(found, tuple) else ("Completed", found)
        return Completed(name=name, message=message)

    return run


def settings(config: str, overrides: list[str] | None) -> Config:
    """Read the configuration; see `load_config` for the errors."""
    return load_config(config, overrides or [])


def _in_words(error: PadimDistError) -> str:
    return str(error) if error.exit_code == 2 else f"{error}. {_AGAIN}"
