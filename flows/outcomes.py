"""What came of nights, as metrics: after each night, and at the start of the served flows."""

from __future__ import annotations

import logging
from datetime import datetime
from math import nan

from flows.due import audit_name
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config, load_config
from padim_dist.redaction import redacted
from padim_dist.store.nights import NightSummary, find_summary, last_night, summaries_before
from padim_dist.telemetry.outcomes import NightOutcome, show_no_outcome, show_outcome, show_state

logger = logging.getLogger("padim_dist")


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

    A workspace that cannot be read is a warning: the next night says more.

    Parameters
    ----------
    path : str
        Path of the configuration.
    """
    name, config = audit_name(path), load_config(path)
    workspace, settings = workspace_of(config), archive_settings(config)
    try:
        night = last_night(workspace, settings)
        summary = find_summary(workspace, night.path) if night else None
        finished = summary
        if night and not summary:
            show_state(name, "unfinished")
            finished = next(iter(summaries_before(workspace, settings, night.number, 1)), None)
    except Exception as error:  # any error of a storage's client: the flows are served
        what = redacted(str(error))
        logger.warning("metrics: the last night is unknown, the workspace cannot be read: %s", what)
        finished = summary = None
    if summary:
        show_state(name, "odd" if summary.state == "odd" else "done")
    if finished:
        show_outcome(name, outcome_of(config, finished))
    else:
        show_no_outcome(name)
