"""Prometheus metrics of what came of nights and flows.

The process of a flow run ends with it, so these gauges outlive the process that set them (mode
``mostrecent``). They are of use where another process serves them (`padim_dist.telemetry.server`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from prometheus_client import Counter, Gauge

from padim_dist.core.status import STATUSES

NightState = Literal["done", "odd", "failed", "unfinished"]
Chore = Literal["publish", "prune"]

_of_night = partial(Gauge, labelnames=["audit"], multiprocess_mode="mostrecent")
_state = Gauge(
    "padim_dist_night_state",
    "1 for the state of the last night, 0 for the others.",
    ["audit", "state"],
    multiprocess_mode="mostrecent",
)
_at_work = Gauge(
    "padim_dist_night_at_work",
    "Living processes that work on a night.",
    ["audit"],
    multiprocess_mode="livesum",
)
_images = Gauge(
    "padim_dist_night_images",
    "Images of the last finished night, by status.",
    ["audit", "status"],
    multiprocess_mode="mostrecent",
)
_figures = {
    "finished": _of_night(
        "padim_dist_night_finished_timestamp_seconds",
        "When the last finished night was finished; before the first one: since when the flows "
        "are served.",
    ),
    "flagged": _of_night("padim_dist_night_flagged", "Flagged images of the last finished night."),
    "expected_false_alarms": _of_night(
        "padim_dist_night_expected_false_alarms",
        "Expected false alarms of the last finished night; NaN if its rule promises no number.",
    ),
    "drift": _of_night(
        "padim_dist_night_drift_deviations",
        "Largest drift of a group in the last finished night, in standard deviations of sampling "
        "noise; NaN if unknown.",
    ),
    "reasons": _of_night(
        "padim_dist_night_odd_reasons", "Reasons why the last finished night is odd."
    ),
}
_flows_failed = Counter("padim_dist_flows_failed", "Flow runs that ended as Failed.", ["flow"])
_chores_failed = Counter(
    "padim_dist_night_chores_failed",
    "Failed chores of nights: the night is finished, and the next one tries again.",
    ["chore"],
)


@dataclass(frozen=True)
class NightOutcome:
    """Figures of a finished night.

    Attributes
    ----------
    finished : float
        Time at which it was finished, in seconds since 1970, UTC.
    images : mapping of str to int
        Rows by status.
    flagged, expected_false_alarms : float
        Flagged images, and how many flags are expected if all images are normal; NaN if the model
        or the rule gives no such number.
    drift : float
        Largest drift of a group, in standard deviations of sampling noise; NaN if unknown.
    reasons : int
        Reasons why the night is odd.
    """

    finished: float
    images: Mapping[str, int]
    flagged: float
    expected_false_alarms: float
    drift: float
    reasons: int


def show_state(audit: str, state: NightState) -> None:
    """Set the state of the last night of an audit."""
    for name in get_args(NightState):
        _state.labels(audit, name).set(name == state)


def show_outcome(audit: str, outcome: NightOutcome) -> None:
    """Set the figures of the last finished night of an audit."""
    for status in STATUSES:
        _images.labels(audit, status).set(outcome.images.get(status, 0))
    for name, gauge in _figures.items():
        gauge.labels(audit).set(getattr(outcome, name))


def show_no_outcome(audit: str) -> None:
    """Set that no night is finished up to now."""
    _figures["finished"].labels(audit).set_to_current_time()


@contextmanager
def night_at_work(audit: str) -> Iterator[None]:
    """Show that this process works on a night, until the block or the process ends.

    Its state is ``unfinished`` until `show_state`; an error makes it ``failed``.
    """
    show_state(audit, "unfinished")
    _at_work.labels(audit).inc()
    try:
        yield
    except Exception:
        show_state(audit, "failed")
        raise
    finally:
        _at_work.labels(audit).dec()


def expect_flow(flow: str) -> None:
    """Begin to count failures of a flow, at zero: the first one is then an increase."""
    _flows_failed.labels(flow)


def count_failed_flow(flow: str) -> None:
    """Count a flow run that failed."""
    _flows_failed.labels(flow).inc()


def expect_chores() -> None:
    """Begin to count failures of chores, at zero: the first one is then an increase."""
    for chore in get_args(Chore):
        _chores_failed.labels(chore)


def count_failed_chore(chore: Chore) -> None:
    """Count a chore of a night that failed."""
    _chores_failed.labels(chore).inc()
