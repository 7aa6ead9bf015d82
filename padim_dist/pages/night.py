"""The summary of a night in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from padim_dist.core.status import UNSETTLED
from padim_dist.escaping import markdown, markdown_code
from padim_dist.pages.words import counted, full_name, listed, probability
from padim_dist.store.nights import GroupNight, NightSummary

_GROUPS = 30
_GROUP_COLUMNS = ["group", "images", "scored", "flagged", "median score", "highest score", "drift"]


def night_markdown(summary: NightSummary, *, titled: bool = True) -> str:
    """Return the summary: new images, what is odd, the groups, the most anomalous images.

    The title is left out unless `titled`.
    """
    counts = ", ".join(f"{n:,} {status}" for status, n in sorted(summary.statuses.items()))
    head = [
        *([f"# {markdown(summary.headline)}", ""] if titled else []),
        *(f"- **{markdown(reason)}**" for reason in summary.reasons),
        *([""] if summary.reasons else []),
        f"{counted(summary.images, 'image')}{counts and f' ({counts})'}. "
        f"Model: {markdown_code(summary.model_id)}.",
        "",
        *_flagged(summary),
        *(line for text in (summary.drift, summary.past) if text for line in (markdown(text), "")),
        *_unsettled(summary),
    ]
    parts = (_groups(summary), _top(summary), _where(summary), _notices(summary))
    return "\n".join([*head, *(line for part in parts for line in part)])


def _flagged(summary: NightSummary) -> list[str]:
    counts = [f"{markdown_code(name)} {n:,}" for name, n in summary.flagged_groups.items()]
    return [f"Flagged: {listed(counts)}.", ""] if counts else []


def _unsettled(summary: NightSummary) -> list[str]:
    lines = []
    if summary.retried:
        lines.append(f"{counted(summary.retried, 'image')} of an earlier night tried again.")
    if summary.unsettled:
        lines.append(
            f"{counted(summary.unsettled, 'image')} not settled ("
            f"{', '.join(s for s in UNSETTLED if s in summary.statuses)}): the next night tries "
            "again."
        )
    return [" ".join(lines), ""] if lines else []


def _groups(summary: NightSummary) -> list[str]:
    # The worst first, since only the first are shown.
    groups = sorted(summary.groups.items(), key=lambda item: -(item[1].highest or 0.0))
    rows = [
        [
            markdown_code(name),
            f"{group.images:,}",
            f"{group.scored:,}",
            "-" if group.flagged is None else f"{group.flagged:,}",
            _number(group.median),
            _number(group.highest),
            _drift(group),
        ]
        for name, group in groups[:_GROUPS]
    ]
    table = _table("## Groups", _GROUP_COLUMNS, rows)
    whys = {name: group.drift_unknown for name, group in groups if group.drift_unknown}
    for why in sorted(set(whys.values())):
        names = listed(markdown_code(name) for name in sorted(whys) if whys[name] == why)
        table += [f"Drift unknown: {names}, since {markdown(why)}.", ""]
    if (left := len(groups) - _GROUPS) > 0:
        table += [f"Not shown: {counted(left, 'group')}; all are in summary.json.", ""]
    return table


def _top(summary: NightSummary) -> list[str]:
    rows = [
        [
            _number(image.score),
            "-" if image.p_value is None else probability(image.p_value),
            "yes" if image.flagged else "-",
            markdown_code(str(image.group)),
            markdown_code(full_name(image)),
            f"({image.peak_y}, {image.peak_x})",
        ]
        for image in summary.top
    ]
    columns = ["score", "p-value", "flagged", "group", "image", "peak (y, x)"]
    return _table("## Most anomalous images", columns, rows)


def _where(summary: NightSummary) -> list[str]:
    base = summary.folder.split("/nights/")[0]
    runs = [
        f"- {markdown_code(f'{base}/runs/{run}')}; report: "
        f"{markdown_code(f'padim-dist report --run {run}')}"
        for run in summary.runs
    ]
    return ["## Score tables and heatmaps", "", *runs, ""] if runs else []


def _notices(summary: NightSummary) -> list[str]:
    lines = [
        f"Message: {markdown(notice.describe())}." for notice in summary.notices if notice.error
    ]
    if told := [markdown(notice.service) for notice in summary.notices if not notice.error]:
        lines.append(f"Notified: {', '.join(told)}.")
    return [text for line in lines for text in (line, "")]


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [names, ["---"] * len(names), *rows]
    return [title, "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _drift(group: GroupNight) -> str:
    """Format the drift above its expected value, with its noise."""
    if group.drift is None:
        return "unknown" if group.drift_unknown else "-"
    return f"{group.drift.excess:+.2f} ± {group.drift.noise:.2f}"
