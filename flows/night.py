"""The nightly audit: index new images, score them with the promoted model, publish a summary."""

from __future__ import annotations

from contextlib import ExitStack

from prefect import flow
from prefect.runtime import flow_run

from flows.artifacts import show_night, tell_night, watch
from flows.due import audit_name
from flows.jobs import fit_model
from flows.outcomes import outcome_of
from flows.stages import ends_in_words, in_words, settings, stage
from padim_dist.api.nights import audit
from padim_dist.api.nights.notify import telling_failures
from padim_dist.api.nights.publishing import publish_nights
from padim_dist.api.publish.publish import publish_new
from padim_dist.api.retention.prune import prune, prune_after_night
from padim_dist.config import Config
from padim_dist.pages.words import counted
from padim_dist.store.lease import Lease
from padim_dist.store.nights import Night, NightSummary
from padim_dist.telemetry.outcomes import (
    count_failed_chore,
    expect_chores,
    night_at_work,
    show_outcome,
    show_state,
)

expect_chores()


@stage
def find_unfinished_night(config: Config) -> Night | None:
    """Return a night that was opened and not finished."""
    return audit.unfinished_night(config)


@stage
def index_night(config: Config, even_if_empty: bool) -> Night | None:
    """Index the archive and open a night for the new images."""
    return audit.open_night(config, watch("index-progress"), even_if_empty=even_if_empty)


@stage
def hold_night(config: Config, night: Night, held: ExitStack) -> Lease:
    """Hold the lease of the night until `held` is closed."""
    return held.enter_context(audit.hold_night(config, night))


@stage
def score_night(config: Config, night: Night, lease: Lease) -> list[str]:
    """Score the new images with the model of the night; return the ids of the runs."""
    return audit.score_night(config, night, lease.guard(watch("score-progress")))


@stage
def sum_up_night(config: Config, night: Night, runs: list[str]) -> NightSummary:
    """Write the summary of the night to the workspace, which finishes the night."""
    return audit.conclude_night(config, night, runs)


@stage
def publish_night(config: Config, summary: NightSummary) -> None:
    """Show the night in Prefect and emit its event."""
    show_night(config, summary)
    tell_night(config, summary)


@stage
def prune_workspace(config: Config) -> None:
    """Remove what is older than its term."""
    prune(config, watch("prune-progress"))


@stage
def publish_tables(config: Config) -> None:
    """Write the nights that the tables of the section `publish` lack."""
    publish_new(config, watch("publish-progress"))


def _name() -> str:
    """Return the name of a flow run: its configuration and its scheduled time (UTC)."""
    config = audit_name(flow_run.parameters["config"])
    return f"{config} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


@flow(name="nightly-audit", flow_run_name=_name)
@ends_in_words
def nightly_audit(
    config: str,
    overrides: list[str] | None = None,
    refit: bool = False,
) -> str | tuple[str, str]:
    """Index new images, score them with the promoted model, publish a summary.

    An unfinished night is finished first. The flow ends as Completed; as **Odd**, a completed
    state that needs a look; or as Failed, with a message that says what to do.

    Arguments:
        config: Path of the YAML file with the settings.
        overrides: `path.to.key=value`, as after `--set`, one a line.
        refit: Also fit a candidate, on `fit.window` if it is set; it is not promoted.
    """
    name = audit_name(config)
    with night_at_work(name):
        asked = settings(config, overrides)
        with telling_failures(asked, in_words):
            done = []
            left = find_unfinished_night(asked)
            if left:
                done.append(_work(name, asked, left))
            night = index_night(asked, not done)
            if night:
                done.append(_work(name, asked, night))
            lines = [_line(summary) for summary in done]
            if why := publish_nights(asked, lambda: publish_tables(asked), in_words):
                count_failed_chore("publish")
                lines.append(why[0].upper() + why[1:])
            if refit:
                model = fit_model(asked)
                lines.append(f"Candidate {model}; 'padim-dist promote {model}' promotes it")
        if not prune_after_night(asked, lambda: prune_workspace(asked)):
            count_failed_chore("prune")
        odd = any(summary.state == "odd" for summary in done)
        show_state(name, "odd" if odd else "done")
    return "Odd" if odd else "Completed", ". ".join(lines)


def _work(name: str, config: Config, night: Night) -> NightSummary:
    with ExitStack() as held:
        lease = hold_night(config, night, held)
        summary = sum_up_night(config, night, score_night(config, night, lease))
    show_outcome(name, outcome_of(config, summary))
    publish_night(config, summary)
    return summary


def _line(summary: NightSummary) -> str:
    counts = ", ".join(f"{n:,} {status}" for status, n in summary.statuses.items())
    left = (
        f"; the next night tries {counted(summary.unsettled, 'image')} again"
        if summary.unsettled
        else ""
    )
    reasons = f" - odd: {'; '.join(summary.reasons)}" if summary.reasons else ""
    return f"Night {summary.number}: {counts or 'no images'}{left}{reasons}"
