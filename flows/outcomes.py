"""What came of nights, as metrics: after each night, and at the start of the served flows."""

from __future__ import annotations

import logging
from datetime import datetime
from math import nan
from threading import Thread
from time import sleep

from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.due import audit_name
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config, load_config
from padim_dist.redaction import redacted
from padim_dist.store.nights import NightSummary, find_summary, last_night, summaries_before
from padim_dist.telemetry.outcomes import (
    NightOutcome,
    NightState,
    show_no_outcome,
    show_outcome,
    show_state,
)

logger = logging.getLogger("padim_dist")
NIGHTLY = "nightly"
"""Name of the deployment of nights."""
_PAUSE = 60.0
"""Seconds between tries to read a workspace."""


def outcome_of(config: Config, summary: NightSummary) -> NightOutcome:
    """Return the figures of a finished night."""
    groups = summary.groups.values()
    shares = [None if group.alpha is None else group.alpha * group.scored for group in groups]
    # A bound on the share of false alarms among the flagged images promises no number of them.
    promised = [] if config.score.fdr else [share for share in shares if share is not None]
    drifts = [g.drift.excess / g.drift.noise for g in groups if g.drift and g.drift.noise]
    return NightOutcome(
        finished=datetime.fromisoformat(summary.finished_at).timestamp(),
        images=summary.statuses,
        flagged=nan if summary.flagged is None else summary.flagged,
        expected_false_alarms=sum(promised) if len(promised) == len(shares) else nan,
        drift=max(drifts, default=nan),
        reasons=len(summary.reasons),
    )


def show_last_night(path: str) -> None:
    """Set the metrics of the last night, from the workspace.

    If the workspace cannot be read, that is a warning, and a thread tries again every minute: a
    night that nobody knows of is not late.

    Parameters
    ----------
    path : str
        Path of the configuration.
    """
    try:
        _show(path)
    except Exception as error:  # any error of a storage's client: the flows are served
        what = redacted(str(error))
        logger.warning("metrics: the last night is unknown, the workspace cannot be read: %s", what)
        Thread(target=_try_again, args=(path,), daemon=True).start()


def show_failed_flow(path: str) -> None:
    """Set the state ``failed`` if the last flow run of the nights failed after the last night.

    A night that failed before it was opened has left nothing in the workspace.

    Parameters
    ----------
    path : str
        Path of the configuration.
    """
    states = [StateType.RUNNING, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED]
    of_nights = DeploymentFilter(name=DeploymentFilterName(any_=[NIGHTLY]))
    begun = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                deployment_filter=of_nights,
                flow_run_filter=begun,
                sort=FlowRunSort.START_TIME_DESC,
                limit=1,
            )
        if not found or found[0].state_type not in (StateType.FAILED, StateType.CRASHED):
            return
        _, finished = _last(load_config(path))
        ended = found[0].end_time
        if finished and ended and datetime.fromisoformat(finished.finished_at) > ended:
            return
    except Exception as error:  # of Prefect's client, or a storage's
        what = redacted(str(error))
        logger.warning("metrics: whether the last flow run failed is unknown: %s", what)
    else:
        show_state(audit_name(path), "failed")


def _try_again(path: str) -> None:
    while True:
        sleep(_PAUSE)
        try:
            _show(path)
        except Exception as error:
            logger.debug("metrics: the last night is unknown: %s", redacted(str(error)))
        else:
            show_failed_flow(path)
            return


def _show(path: str) -> None:
    name, config = audit_name(path), load_config(path)
    state, finished = _last(config)
    if state:
        show_state(name, state)
    if finished:
        show_outcome(name, outcome_of(config, finished))
    else:
        show_no_outcome(name)


def _last(config: Config) -> tuple[NightState | None, NightSummary | None]:
    """Return the state of the last night, and the summary of the last finished one."""
    workspace, settings = workspace_of(config), archive_settings(config)
    night = last_night(workspace, settings)
    if night is None:
        return None, None
    if summary := find_summary(workspace, night.path):
        return ("odd" if summary.state == "odd" else "done"), summary
    before = summaries_before(workspace, settings, night.number, 1)
    return "unfinished", next(iter(before), None)
