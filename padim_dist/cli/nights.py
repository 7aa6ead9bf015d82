"""Commands of nights: audits, their history, and the model that they use."""

from typing import TYPE_CHECKING

import padim_dist as padim
from padim_dist.cli import night_output, options, output
from padim_dist.cli.command import Session, command

if TYPE_CHECKING:
    from padim_dist.api.nights.audit import AuditResult
    from padim_dist.api.nights.history import HistoryResult
    from padim_dist.api.nights.nights import GroupsResult, NightsResult
    from padim_dist.api.nights.promotions import ModelsResult
    from padim_dist.api.publish.publish import PublishResult
    from padim_dist.api.retention.prune import PruneResult
    from padim_dist.store.promotions import Promotion


def _odd(result: "AuditResult", *, fail_on_odd: bool, **_: object) -> int:
    return 3 if fail_on_odd and any(night.state == "odd" for night in result.nights) else 0


@command(night_output.print_audit, metrics=True, workers=True, exit_code=_odd)
def audit(
    session: Session,
    *,
    refit: options.Refit = False,
    fail_on_odd: options.FailOnOdd = False,  # noqa: ARG001  (for `_odd`)
) -> "AuditResult":
    """Audit a night: index the archive, score what is new with the promoted model, sum it up."""
    return padim.audit(session.config, session.listener, refit=refit)


@command(night_output.print_nights)
def nights(
    session: Session, *, number: options.NightNumber = None, weeks: options.Weeks = False
) -> "NightsResult":
    """List the nights of the archive, or compare one of them with the night before."""
    return padim.nights(session.config, session.listener, number=number, weeks=weeks)


@command(output.fields(places="tables", runs="runs written", unchanged="runs unchanged"))
def publish(
    session: Session,
    *,
    number: options.PublishedNight = None,
    run: options.PublishedRun = None,
    all_of_them: options.AllRuns = False,
) -> "PublishResult":
    """Write nights to the tables of the section publish, for data platforms; each is there once."""
    where = (session.config, session.listener)
    return padim.publish(*where, night=number, run=run, all_of_them=all_of_them)


@command(night_output.print_groups)
def groups(session: Session) -> "GroupsResult":
    """List the groups over the last nights, the worst first: flagged share, drift, trend."""
    return padim.groups(session.config, session.listener)


@command(night_output.print_history)
def history(session: Session) -> "HistoryResult":
    """List what was new, changed and gone in the archive at each index."""
    return padim.history(session.config, session.listener)


@command(night_output.print_models)
def models(session: Session) -> "ModelsResult":
    """List the models of the workspace, and all promotions."""
    return padim.models(session.config, session.listener)


@command(output.fields(number="promotion"))
def promote(session: Session, *, model: options.ModelId, note: options.Note = "") -> "Promotion":
    """Promote a model: nightly audits use it from now on."""
    return padim.promote(session.config, session.listener, model=model, note=note)


@command(output.fields(number="promotion"))
def rollback(session: Session, *, note: options.Note = "") -> "Promotion":
    """Undo the last promotion: nightly audits use the model before it again."""
    return padim.rollback(session.config, session.listener, note=note)


@command(night_output.print_prune)
def prune(session: Session, *, dry_run: options.DryRun = False) -> "PruneResult":
    """Remove what is older than its term (section retention) and not needed any more."""
    return padim.prune(session.config, session.listener, dry_run=dry_run)
