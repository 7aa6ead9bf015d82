"""A stage as a Prefect task, and a flow that ends in words.

A task is a stage of a night, never a shard: Dask has the shards. Nothing is cached and
nothing is kept by Prefect, since the workspace knows what is done: a task that is run
again, by a retry or in another flow run, does what is left.

The docstrings of flows are shown in Prefect, which reads the parameters only where they
are written in Google's style.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Completed, Failed

from padim_dist.config import Config, load_config
from padim_dist.errors import HeldError, PadimDistError

P = ParamSpec("P")
R = TypeVar("R")
PAUSES = (30.0, 300.0)
"""Seconds before a stage is tried again, e.g. while the storage is away."""
_REFUSED = "Refused"
"""Name of the failed state of a stage that asks for somebody, not for another try."""


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
        retries=len(PAUSES),
        retry_delay_seconds=[*PAUSES],
        retry_condition_fn=lambda _task, _run, state: state.name != _REFUSED,
    )(work)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        found = run(*args, **kwargs)
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
        name, message = found if isinstance(found, tuple) else ("Completed", found)
        return Completed(name=name, message=message)

    return run


def settings(config: str, overrides: list[str] | None) -> Config:
    """Read the configuration; see `load_config` for the errors."""
    return load_config(config, overrides or [])


def _in_words(error: PadimDistError) -> str:
    again = "" if error.exit_code == 2 else ". Run the flow again: it does the rest"
    return f"{error}{again}"
