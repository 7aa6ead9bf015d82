"""Results about nights, models and the workspace for people: a printer for each type of result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from padim_dist.cli.terminal import Terminal, format_value

if TYPE_CHECKING:
    from padim_dist.api.nights.audit import AuditResult
    from padim_dist.api.nights.history import HistoryResult
    from padim_dist.api.nights.nights import GroupsResult, NightsResult
    from padim_dist.api.nights.promotions import ModelsResult
    from padim_dist.api.retention.prune import PruneResult


def print_audit(result: AuditResult, terminal: Terminal) -> None:
    """Print the nights that an audit finished: state, why it is odd, images, files."""
    for night in result.nights:
        terminal.line("night", night.headline)
        _print_odd(night.reasons, terminal)
        terminal.line("images", f"{night.images:,} ({format_value(night.statuses)})")
        if night.unsettled:
            terminal.line("not settled", f"{night.unsettled:,}: the next audit tries again")
        terminal.line("model", night.model_id)
        if night.flagged is not None:
            by_group = f" ({format_value(night.flagged_groups)})" if night.flagged else ""
            terminal.line("flagged", f"{night.flagged:,}{by_group}")
        _print_compared(night.drift, night.past, terminal)
        for image in night.top[:3]:
            p_value = "" if image.p_value is None else f"  p {image.p_value:.2g}"
            name = image.uri.removeprefix(f"{result.archive}/")
            member = f" {image.member}" if image.member else ""
            terminal.line("highest", f"{image.score:.1f}{p_value}  {image.group}  {name}{member}")
        terminal.line("summary", f"{night.folder}/summary.md")
        if night.picture:
            terminal.line("picture", f"{night.folder}/top.jpg")
        for notice in night.notices:
            terminal.line("notified", notice.describe(), "yellow" if notice.error else None)
        for run in night.runs:
            terminal.line("report", f"'padim-dist report --run {run}' writes it")
    terminal.values(result, archive="", unpublished="")


def _print_odd(reasons: list[str], terminal: Terminal) -> None:
    for reason in reasons:
        terminal.line("odd", reason, "yellow")


def _print_compared(drift: str, past: str, terminal: Terminal) -> None:
    for name, sentence in (("drift", drift), ("earlier nights", past)):
        if sentence:
            terminal.line(name, sentence)


def print_nights(result: NightsResult, terminal: Terminal) -> None:
    """Print nights, and how one of them differs from the one before."""
    terminal.notes(result.notes)
    terminal.table("Nights", result.nights, hidden=("number",))
    _print_odd(result.reasons, terminal)
    _print_compared(result.drift, result.past, terminal)
    for name, groups in (("new groups", result.came), ("groups without images", result.gone)):
        if groups:
            terminal.line(name, format_value(groups))
    terminal.table("Groups", result.groups)
    weeks = [replace(week, group=week.group or "(all groups)") for week in result.weeks]
    terminal.table("Weeks", weeks)


def print_groups(result: GroupsResult, terminal: Terminal) -> None:
    """Print groups over nights, the worst first."""
    terminal.notes(result.notes)
    title = f"Groups over {result.nights:,} night{'' if result.nights == 1 else 's'}"
    terminal.table(title, result.groups)


def print_history(result: HistoryResult, terminal: Terminal) -> None:
    """Print the entries of an archive's history."""
    if not result.entries:
        terminal.notes(["the archive is not indexed yet; 'padim-dist index' does that"])
    terminal.notes(result.notes)
    terminal.table("History", result.entries, hidden=("increment", "changes"))


def print_models(result: ModelsResult, terminal: Terminal) -> None:
    """Print models and promotions."""
    if not result.models:
        terminal.notes(["there is no model yet; 'padim-dist fit' makes one"])
    terminal.table("Models", result.models)
    terminal.table("Promotions", result.promotions)


def print_prune(result: PruneResult, terminal: Terminal) -> None:
    """Print what goes from a workspace, and what stays and why."""
    terminal.notes(result.notes)
    goes = [line for line in result.lines if line.goes]
    terminal.table("Would go" if result.dry_run else "Goes", goes, hidden=("goes",))
    stays = [line for line in result.lines if not line.goes]
    terminal.table("Stays", stays, hidden=("goes",))
    objects = f"{result.objects:,} object{'' if result.objects == 1 else 's'}"
    name = "would be removed" if result.dry_run else "removed"
    terminal.line(name, f"{objects}, {result.bytes:,} bytes")
