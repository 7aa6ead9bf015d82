"""Nights: their list, one of them beside the night before, and groups over nights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from padim_dist.api.nights.trends import (
    GroupChange,
    GroupTrend,
    flagged_share,
    group_changes,
    group_trends,
)
from padim_dist.api.settings.moved import moved_hint
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_settings,
    archive_title,
    as_config,
    workspace_of,
)
from padim_dist.api.sql.tables import open_table
from padim_dist.api.sql.weeks import WeekRow, merged_weeks, week_figures, week_rows
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.nights import Night, NightSummary, night_title, read_nights
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.rows import SCORES
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tombstones import pruned_runs

_NO_NIGHT = "no night is finished yet; 'padim-dist audit' makes one"


@dataclass(frozen=True)
class NightLine:
    """A night.

    Attributes
    ----------
    number, title : int, str
        Number, and title that people know.
    state : str
        ``"done"``, ``"odd"``, or ``"open"``: not finished.
    images, unusable : int or None
        Rows, and rows without a score; None if it is open, as the following are.
    flagged, flagged_share : int or None, float or None
        Flagged rows, and their share of the scored ones; None also without a calibration.
    runs, model_id : list of str, str
        Ids of its runs and of its model.
    """

    number: int
    title: str
    state: str
    images: int | None
    unusable: int | None
    flagged: int | None
    flagged_share: float | None
    runs: list[str]
    model_id: str


@dataclass(frozen=True)
class NightsResult:
    """Nights of an archive, the oldest first.

    Attributes
    ----------
    nights : list of NightLine
        All nights; of one night, the one before and the night itself.
    groups : list of GroupChange
        Of one night: its groups beside those of the night before.
    came, gone : list of str
        Of one night: groups that the night before did not have, and that only it had.
    reasons, drift, past : list of str, str, str
        Of one night: why it is odd, its drift, and what it was compared with.
    weeks : list of WeekRow
        Figures by week and group, if they were asked for.
    notes : list of str
        Remarks.
    """

    nights: list[NightLine]
    groups: list[GroupChange] = field(default_factory=list)
    came: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    drift: str = ""
    past: str = ""
    weeks: list[WeekRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GroupsResult:
    """Groups over the last nights, the worst first; `notes` are remarks."""

    nights: int
    groups: list[GroupTrend]
    notes: list[str]


def nights(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    number: int | None = None,
    weeks: bool = False,
) -> NightsResult:
    """List the nights of the archive, or compare one of them with the night before.

    Figures are those that the nights were summed up with.

    Parameters
    ----------
    config : Config or path
        The configuration.
    number : int, optional
        The night to compare; by default all are listed.
    weeks : bool, optional
        Also give figures by week and group, from the score tables.

    Raises
    ------
    RequestError
        If there is no such night, or it is not finished.

    Examples
    --------
    >>> nights(config).nights[-1].title        # doctest: +SKIP
    'Night 2, 26 November, photos'
    """
    config = as_config(config)
    found = read_nights(workspace_of(config), archive_settings(config))
    if number is not None:
        found = _with_the_one_before(found, number)
    lines = [_line(config, night, summary) for night, summary in found]
    summaries = [summary for _, summary in found if summary]
    rows = _weeks(config, summaries) if weeks else []
    if number is None:
        hint = "" if found else moved_hint(config)
        notes = [*([] if found else [_NO_NIGHT]), *([hint] if hint else [])]
        return NightsResult(lines, weeks=rows, notes=notes)
    *earlier, now = summaries
    before = earlier[-1] if earlier else None
    notes = []
    if before and before.model_id != now.model_id:
        notes.append(
            f"night {before.number} used another model ({before.model_id}): scores and drift are "
            "not comparable"
        )
    return NightsResult(
        lines,
        groups=group_changes(now, before),
        came=sorted(now.groups.keys() - before.groups.keys()) if before else [],
        gone=sorted(before.groups.keys() - now.groups.keys()) if before else [],
        reasons=now.reasons,
        drift=now.drift,
        past=now.past,
        weeks=rows,
        notes=notes,
    )


def groups(config: ConfigLike, _listener: Listener = ignore) -> GroupsResult:
    """List the groups over the last nights, the worst first: flagged share, then drift, then rise.

    Parameters
    ----------
    config : Config or path
        The configuration; ``audit.compare`` is the number of nights before the newest one.

    Examples
    --------
    >>> groups(config).groups[0].group        # doctest: +SKIP
    'cam_4'
    """
    config = as_config(config)
    found = read_nights(workspace_of(config), archive_settings(config))
    summaries = [summary for _, summary in found if summary and summary.groups]
    last = summaries[-config.audit.compare - 1 :]
    return GroupsResult(len(last), group_trends(last), [] if last else [_NO_NIGHT])


def _with_the_one_before(
    found: Sequence[tuple[Night, NightSummary | None]], number: int
) -> list[tuple[Night, NightSummary | None]]:
    """Return the finished night before a night, if there is one, and the night."""
    there = {night.number: (night, summary) for night, summary in found}
    if number not in there:
        known = f"nights {min(there)} to {max(there)}" if there else "none"
        raise RequestError(f"there is no night {number}, only {known}; see 'padim-dist nights'")
    if there[number][1] is None:
        raise RequestError(f"night {number} is not finished; 'padim-dist audit' finishes it")
    earlier = [pair for pair in found if pair[0].number < number and pair[1]]
    return [*earlier[-1:], there[number]]


def _line(config: Config, night: Night, summary: NightSummary | None) -> NightLine:
    if summary is None:
        title = night_title(night.number, night.opened_at[:10], archive_title(config))
        return NightLine(night.number, title, "open", None, None, None, None, [], night.model_id)
    share = flagged_share(summary.groups.values())
    return NightLine(
        number=summary.number,
        title=summary.title,
        state=summary.state,
        images=summary.images,
        unusable=summary.unusable,
        flagged=summary.flagged,
        flagged_share=None if share is None else float(f"{share:.3g}"),
        runs=summary.runs,
        model_id=summary.model_id,
    )


def _weeks(config: Config, summaries: Sequence[NightSummary]) -> list[WeekRow]:
    """Return figures by week of the runs of nights, also of pruned runs.

    Runs that are gone or damaged are left out.
    """
    workspace = workspace_of(config)
    ids = dict.fromkeys(run for summary in summaries for run in summary.runs)
    runs = [Run(workspace, run_id) for run_id in ids]
    heads = [(run, unless_damaged(run.find_head)) for run in runs]
    there = [(run, head) for run, head in heads if head]
    live = week_figures(open_table(SCORES, there)) if there else []
    kept = pruned_runs(workspace, (head.run_id for _, head in there))
    figures = [live, *(stone.weeks for stone in kept if stone.run_id in ids)]
    return week_rows(merged_weeks(chain.from_iterable(figures)))
